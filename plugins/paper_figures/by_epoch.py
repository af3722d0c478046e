"""Test metrics by epoch, as the observer `by-epoch` wrote them down."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from openset_core.errors import FigureError
from openset_core.report.data import RunData
from openset_core.report.figures.panels import (
    grid,
    legend_below,
    metric_label,
    percent,
    title,
    unknown_set,
)
from openset_core.report.figures.picture import Numbers, Picture
from openset_core.report.figures.runs import FigureRuns, chosen_scorer
from openset_core.report.style import line
from openset_plugins.paper_figures import ByEpoch
from openset_plugins.trackers.by_epoch import FILE_NAME


def draw(shape: ByEpoch, runs: FigureRuns) -> Picture:
    """Draw a panel for each metric, with a curve for each run."""
    from matplotlib.ticker import MaxNLocator

    named = runs.runs
    figure, panels = grid(len(shape.metrics), height=2.4, most=2)
    numbers: list[tuple[Any, ...]] = []
    for panel, (metric, axes) in enumerate(zip(shape.metrics, panels, strict=True)):
        name = metric_label(metric)
        for number, (label, run) in enumerate(named):
            epochs, values = course(run, metric, shape)
            axes[0].plot(epochs, [100.0 * value for value in values], label=label, **line(number))
            numbers += [
                (name, label, epoch, percent(value))
                for epoch, value in zip(epochs, values, strict=True)
            ]
        axes[0].xaxis.set_major_locator(MaxNLocator(integer=True))
        axes[0].set_xlabel("epoch")
        axes[0].set_ylabel(name)
        axes[0].grid(True)
        title(axes[0], panel, "", len(shape.metrics))
    legend_below(figure, axes[0].get_legend_handles_labels()[0])
    against = unknown_set(named[0][1], shape.unknown) or "all unknown sets"
    names = " and ".join(metric_label(metric) for metric in shape.metrics)
    return Picture(
        figure=figure,
        caption=(
            f"{names} on the test against {against} after each epoch. Measured on test data; "
            "nothing was chosen by it."
        ),
        alt=f"{names} by epoch of {', '.join(label for label, _ in named)}; values in the table.",
        numbers=Numbers(("metric", "run", "epoch", "percent"), numbers),
    )


def course(run: RunData, metric: str, shape: ByEpoch) -> tuple[list[int], list[float]]:
    """Epochs from 1, and a metric after each, a fraction.

    Raises:
        FigureError: the run did not write its epochs down, or not this.
    """
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
        return [entry["epoch"] for entry in lines], [
            _value(entry["scorers"], run, metric, shape) for entry in lines
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FigureError(f"{path} is damaged or lacks {metric}") from error


def _value(scorers: Mapping[str, Any], run: RunData, metric: str, shape: ByEpoch) -> float:
    scorer = chosen_scorer(run, shape.scorer)
    if scorer not in scorers:
        raise FigureError(
            f"{run.folder.path} was tested by epoch with {', '.join(scorers)}, not with {scorer}; "
            f"choose one with --set scorer=NAME"
        )
    found = scorers[scorer]
    unknown = unknown_set(run, shape.unknown)
    return float((found["unknown"][unknown] if unknown else found["metrics"])[metric])
