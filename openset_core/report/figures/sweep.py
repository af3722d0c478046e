"""Metrics against a quantity that runs differ in: an option, the number of classes, openness."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np

from openset_core.errors import FigureError
from openset_core.report.charts.panels import panel_width, panels
from openset_core.report.charts.sweeps import sweep
from openset_core.report.data import RunData
from openset_core.report.figures import Sweep
from openset_core.report.figures.drawing import (
    FigureResult,
    FigureRuns,
    chosen_scorer,
    metric_title,
    percent,
    unknown_set,
)
from openset_core.results.comparison.runs import option_of
from openset_core.results.run_results import RULES

LEARNED = "learnt."
X_TITLES = {"classes": "number of known classes", "openness": "openness (%)"}


def draw(shape: Sweep, runs: FigureRuns) -> FigureResult:
    """Draw a panel for each metric, with a curve for each method."""
    series = runs.series(shape.x)
    x_title = shape.x_label or X_TITLES.get(shape.x, shape.x)
    shown = {metric: _shown(metric) for metric in shape.metrics}
    names = [name for name in series if any(_values(series[name], m, shape) for m in shape.metrics)]
    if not names:
        paths = ", ".join(str(run.folder.path) for _label, run in runs.runs)
        raise FigureError(
            f"none of these runs has both {shape.x} and {' or '.join(shape.metrics)}: {paths}"
        )
    rows: list[tuple[Any, ...]] = []
    charts = []
    for metric, (title, cell, scale) in shown.items():
        curves: dict[str, list[tuple[float, float, float]]] = {}
        for name in names:
            curves[name] = []
            for x, values in sorted(_values(series[name], metric, shape).items()):
                mean = float(np.mean(values))
                deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
                curves[name].append((x, scale * mean, scale * (deviation or 0.0)))
                spread = None if deviation is None else cell(deviation)
                rows.append((title, name, x, len(values), cell(mean), spread))
        chart = sweep(
            curves,
            names,
            x_title=x_title,
            y_title=title,
            log=shape.x_scale == "log",
            width=panel_width(len(shape.metrics), 3, most=280),
        )
        charts.append(("", chart))
    titles = ", ".join(title for title, _cell, _scale in shown.values())
    against = ""
    if shape.x != "openness" and shape.unknown != "all":
        against = f", unknown: {unknown_set(runs.runs[0][1], shape.unknown)}"
    bars = " Bars are one standard deviation." if any(row[5] for row in rows) else ""
    scorers = sorted({chosen_scorer(run, shape.scorer) for _label, run in runs.runs})
    rule = "" if shape.rule == "exact" else f" ({RULES[shape.rule]} where a run has it)"
    return FigureResult(
        chart=panels(charts, f"{titles} of {', '.join(names)} against {x_title}.", columns=3),
        caption=(
            f"{titles} against {x_title}{against}; the mean of the runs at each value.{bars} "
            f"Scores: {', '.join(scorers)}{rule}."
        ),
        columns=("metric", "method", x_title, "runs", "mean", "deviation"),
        rows=rows,
        notes=tuple(_notes(shape, [run for _label, run in runs.runs])),
    )


def _shown(metric: str) -> tuple[str, Any, float]:
    """Title of the axis, how a value is shown in the table, and factor in the chart."""
    if metric.startswith(LEARNED):
        return metric.removeprefix(LEARNED), float, 1.0
    return metric_title(metric), percent, 100.0


def _values(members: list[RunData], metric: str, shape: Sweep) -> dict[float, list[float]]:
    """Values of a metric by the quantity: one a run, or one a run and unknown set."""
    values: dict[float, list[float]] = defaultdict(list)
    for run in members:
        for x, unknown in _places(run, shape):
            value = _value(run, metric, shape, unknown)
            if value is not None:
                values[x].append(value)
    return values


def _places(run: RunData, shape: Sweep) -> Iterator[tuple[float, str | None]]:
    """Where a run stands on the horizontal axis, and against which unknown set."""
    if shape.x == "openness":
        for split in run.unknown:
            exact = run.scorers[chosen_scorer(run, shape.scorer)].by_rule("exact", split.name)
            if "openness" in exact:
                yield 100.0 * exact["openness"], split.name
        return
    x = run.num_classes if shape.x == "classes" else option_of(run, shape.x)[2]
    unknown = unknown_set(run, shape.unknown)
    if isinstance(x, int | float):
        yield float(x), unknown


def _value(run: RunData, metric: str, shape: Sweep, unknown: str | None) -> float | None:
    if metric.startswith(LEARNED):
        learned = {} if run.store is None else run.store.learned_scalars
        return learned.get(metric.removeprefix(LEARNED))
    results = run.scorers[chosen_scorer(run, shape.scorer)]
    by_rule = results.by_rule(shape.rule, unknown) or results.by_rule("exact", unknown)
    return by_rule.get(metric)


def _notes(shape: Sweep, runs: list[RunData]) -> Iterator[str]:
    def some(runs: list[RunData]) -> str:
        more = len(runs) - 1
        return (
            f"{runs[0].folder.path} and {more} more have" if more else f"{runs[0].folder.path} has"
        )

    rule = shape.rule
    without = [
        run for run in runs if not run.scorers[chosen_scorer(run, shape.scorer)].by_rule(rule)
    ]
    if without:
        yield f"{some(without)} no results by the {RULES[rule]}, so the exact ones are shown"
    silent = [run for run in runs if run.store is not None and not run.store.describes_loss]
    if silent and any(metric.startswith(LEARNED) for metric in shape.metrics):
        yield (
            f"{some(silent)} no record of what the loss learned; `openset extract RUN --rebuild` "
            "adds it"
        )
