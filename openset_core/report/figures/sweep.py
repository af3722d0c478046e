"""Metrics against a quantity that runs differ in: an option, the number of classes, openness."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from openset_core.errors import FigureError
from openset_core.report.data import RunData
from openset_core.report.figures import Sweep
from openset_core.report.figures.panels import (
    MARKERS,
    grid,
    legend_below,
    metric_label,
    percent,
    title,
    unknown_set,
)
from openset_core.report.figures.picture import Numbers, Picture
from openset_core.report.figures.runs import FigureRuns, chosen_scorer, option_of
from openset_core.report.style import line
from openset_core.results.run_results import RULES

LEARNT = "learnt."
X_LABELS = {"classes": "number of known classes", "openness": "openness (%)"}
Points = dict[float, list[float]]
"""Values by the quantity on the horizontal axis: one a run, or a run and unknown set."""


def draw(shape: Sweep, runs: FigureRuns) -> Picture:
    """Draw a panel for each metric, with a curve for each method."""
    series = runs.series(shape.x)
    x_label = shape.x_label or X_LABELS.get(shape.x, shape.x)
    figure, panels = grid(len(shape.metrics), height=2.6, most=3)
    numbers: list[tuple[Any, ...]] = []
    handles: dict[str, Any] = {}
    for panel, (metric, axes) in enumerate(zip(shape.metrics, panels, strict=True)):
        name, scale = _metric_name(metric)
        for number, (label, members) in enumerate(series.items()):
            points = _points(members, metric, shape)
            if not points:
                continue
            xs = sorted(points)
            means = [scale * float(np.mean(points[x])) for x in xs]
            spreads = [
                scale * float(np.std(points[x], ddof=1)) if len(points[x]) > 1 else 0.0 for x in xs
            ]
            handles[label] = axes[0].errorbar(
                xs,
                means,
                yerr=spreads if any(spreads) else None,
                marker=MARKERS[number % len(MARKERS)],
                markersize=4,
                capsize=2,
                elinewidth=0.8,
                label=label,
                **line(number),
            )
            numbers += [
                (
                    name,
                    label,
                    x,
                    len(points[x]),
                    percent(mean / scale) if scale == 100.0 else mean,
                    (percent(spread / scale) if scale == 100.0 else spread)
                    if len(points[x]) > 1
                    else None,
                )
                for x, mean, spread in zip(xs, means, spreads, strict=True)
            ]
        axes[0].set_xlabel(x_label)
        axes[0].set_ylabel(name)
        axes[0].set_xscale(shape.x_scale)
        _ticks(axes[0], sorted({row[2] for row in numbers if row[0] == name}))
        axes[0].grid(True)
        if len(shape.metrics) > 1:
            title(axes[0], panel, "", len(shape.metrics))
    if not numbers:
        _refuse(shape, runs)
    legend_below(figure, [handles[label] for label in series if label in handles])
    names = ", ".join(_metric_name(metric)[0] for metric in shape.metrics)
    spread_text = " Bars are one standard deviation." if any(row[5] for row in numbers) else ""
    return Picture(
        figure=figure,
        caption=(
            f"{names} against {x_label}{_against(shape, runs)}; the mean of the runs at each "
            f"value.{spread_text} "
            f"{_rule_text(shape, runs)}"
        ),
        alt=f"{names} of {', '.join(series)} against {x_label}; the values stand in the table.",
        numbers=Numbers(("metric", "method", x_label, "runs", "mean", "deviation"), numbers),
        notes=tuple(_notes(shape, runs)),
    )


def _ticks(axes: Any, values: list[float]) -> None:
    """Ticks at the values there are, where these are few."""
    if 0 < len(values) <= 10:
        axes.set_xticks(values, [f"{value:.3g}" for value in values])
        axes.minorticks_off()


def _metric_name(metric: str) -> tuple[str, float]:
    """Name for the axis, and the factor that a value is shown with."""
    if metric.startswith(LEARNT):
        return metric.removeprefix(LEARNT), 1.0
    return metric_label(metric), 100.0


def _points(members: list[RunData], metric: str, shape: Sweep) -> Points:
    points: Points = defaultdict(list)
    for run in members:
        for x, value in _values(run, metric, shape):
            points[x].append(value)
    return points


def _values(run: RunData, metric: str, shape: Sweep) -> list[tuple[float, float]]:
    if shape.x == "openness":
        found = []
        for part in run.unknown:
            exact = run.scorers[chosen_scorer(run, shape.scorer)].by_rule("exact", part.name)
            value = _value(run, metric, shape, part.name)
            if value is not None and "openness" in exact:
                found.append((100.0 * exact["openness"], value))
        return found
    x = _quantity(run, shape)
    y = _value(run, metric, shape, unknown_set(run, shape.unknown))
    return [] if x is None or y is None else [(x, y)]


def _quantity(run: RunData, shape: Sweep) -> float | None:
    if shape.x == "classes":
        return float(run.num_classes)
    value = option_of(run, shape.x)[2]
    return float(value) if isinstance(value, int | float) else None


def _value(run: RunData, metric: str, shape: Sweep, unknown: str | None) -> float | None:
    if metric.startswith(LEARNT):
        learned_scalars = {} if run.store is None else run.store.learned_scalars
        return learned_scalars.get(metric.removeprefix(LEARNT))
    results = run.scorers[chosen_scorer(run, shape.scorer)]
    by_rule = results.by_rule(shape.rule, unknown) or results.by_rule("exact", unknown)
    return by_rule.get(metric)


def _against(shape: Sweep, runs: FigureRuns) -> str:
    if shape.x == "openness" or shape.unknown == "all":
        return ""
    return f", unknown: {unknown_set(runs.runs[0][1], shape.unknown)}"


def _rule_text(shape: Sweep, runs: FigureRuns) -> str:
    scorers = sorted({chosen_scorer(run, shape.scorer) for _label, run in runs.runs})
    rule = "" if shape.rule == "exact" else f" ({RULES[shape.rule]} where a run has it)"
    return f"Scores: {', '.join(scorers)}{rule}."


def _notes(shape: Sweep, runs: FigureRuns) -> list[str]:
    every = [run for _label, run in runs.runs]
    notes = []
    without = [
        run
        for run in every
        if not run.scorers[chosen_scorer(run, shape.scorer)].by_rule(shape.rule)
    ]
    if without:
        notes.append(
            f"{_some(without)} no results by the {RULES[shape.rule]}, so the exact ones are shown"
        )
    silent = [run for run in every if run.store is not None and not run.store.describes_loss]
    if silent and any(metric.startswith(LEARNT) for metric in shape.metrics):
        notes.append(
            f"{_some(silent)} no record of what the loss learnt; `openset extract RUN --rebuild` "
            "adds it"
        )
    return notes


def _some(runs: list[RunData]) -> str:
    """Some runs as the subject of a sentence, with its verb."""
    first, others = runs[0].folder.path, len(runs) - 1
    return f"{first} and {others} more have" if others else f"{first} has"


def _refuse(shape: Sweep, runs: FigureRuns) -> None:
    paths = ", ".join(str(run.folder.path) for _label, run in runs.runs)
    raise FigureError(
        f"none of these runs has both {shape.x} and {' or '.join(shape.metrics)}: {paths}"
    )
