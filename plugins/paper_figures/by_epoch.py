"""Test metrics by epoch, as the observer `by-epoch` wrote them down."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from openset_core.errors import FigureError
from openset_core.report.charts.panels import panel_width, panels
from openset_core.report.charts.sweeps import sweep
from openset_core.report.data import RunData
from openset_core.report.figures.drawing import (
    FigureResult,
    FigureRuns,
    chosen_scorer,
    metric_title,
    percent,
    unknown_set,
)
from openset_plugins.paper_figures import ByEpoch
from openset_plugins.trackers.by_epoch import FILE_NAME


def draw(shape: ByEpoch, runs: FigureRuns) -> FigureResult:
    """Draw a panel for each metric, with a curve for each run."""
    labelled = runs.runs
    names = [label for label, _run in labelled]
    rows: list[tuple[Any, ...]] = []
    charts = []
    for metric in shape.metrics:
        title = metric_title(metric)
        curves = {}
        for label, run in labelled:
            values = by_epoch(run, metric, shape)
            curves[label] = [(epoch, 100.0 * value, 0.0) for epoch, value in values]
            rows += [(title, label, epoch, percent(value)) for epoch, value in values]
        width = panel_width(len(shape.metrics), 2)
        charts.append(("", sweep(curves, names, x_title="epoch", y_title=title, width=width)))
    against = unknown_set(labelled[0][1], shape.unknown) or "all unknown sets"
    titles = " and ".join(metric_title(metric) for metric in shape.metrics)
    return FigureResult(
        chart=panels(charts, f"{titles} by epoch of {', '.join(names)}.", columns=2),
        caption=(
            f"{titles} on the test against {against} after each epoch. Measured on test data; "
            "nothing was chosen by it."
        ),
        columns=("metric", "run", "epoch", "percent"),
        rows=rows,
    )


def by_epoch(run: RunData, metric: str, shape: ByEpoch) -> list[tuple[int, float]]:
    """Epochs from 1, and a metric after each, a fraction."""
    path = run.folder.path / FILE_NAME
    if not path.exists():
        names = ",".join([*run.recorded.get("plugins", ()), "by-epoch"])
        raise FigureError(
            f"{run.folder.path} was trained without the observer by-epoch, so that its epochs are "
            "not known; train it anew in another folder, with --out, and --plugins "
            f"{names}"
        )
    try:
        lines = json.loads(path.read_text("utf-8"))["epochs"]
        return [(line["epoch"], _value(line["scorers"], run, metric, shape)) for line in lines]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FigureError(f"{path} is damaged or lacks {metric}") from error


def _value(scorers: Mapping[str, Any], run: RunData, metric: str, shape: ByEpoch) -> float:
    scorer = chosen_scorer(run, shape.scorer)
    if scorer not in scorers:
        raise FigureError(
            f"{run.folder.path} was tested by epoch with {', '.join(scorers)}, not with {scorer}; "
            f"choose one with --set scorer=NAME"
        )
    metrics = scorers[scorer]
    unknown = unknown_set(run, shape.unknown)
    return float((metrics["unknown"][unknown] if unknown else metrics["metrics"])[metric])
