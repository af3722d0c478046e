"""ROC and OSCR curves, a column an unknown set, a curve a run."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from openset_core.errors import FigureError
from openset_core.metrics.open_set import OpenSetCurve, open_set_curve
from openset_core.report.data import RunData
from openset_core.report.figures import Curves
from openset_core.report.figures.panels import grid, percent, title
from openset_core.report.figures.picture import Numbers, Picture
from openset_core.report.figures.runs import FigureRuns, RunGroup, chosen_scorer
from openset_core.report.style import line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = npt.NDArray[np.float64]
ROWS = {
    "roc": ("true positive rate", "AUROC"),
    "oscr": ("correct classification rate", "OSCR"),
}
"""Name of the vertical axis and of the area under the curve."""


AXES_HEIGHT, LINE_HEIGHT = 1.9, 0.15
"""Inches of a pair of axes with their texts, and of a line of the legend."""


def draw(shape: Curves, runs: FigureRuns) -> Picture:
    """Draw the curves of every group of runs; a group of several trials as their mean."""
    labels = runs.labels()
    sets = unknown_sets(runs)
    # Beneath the axes stands a legend, the longer the more curves there are.
    lines = 1 + sum(_named(label).count("\n") + 1 for label in labels)
    height = len(shape.rows) * (AXES_HEIGHT + LINE_HEIGHT * lines)
    figure, panels = grid(len(sets), rows=len(shape.rows), height=height, most=3)
    numbers: list[tuple[Any, ...]] = []
    for column, (unknown, axes) in enumerate(zip(sets, panels, strict=True)):
        for row, kind in enumerate(shape.rows):
            for number, (label, group) in enumerate(zip(labels, runs.groups, strict=True)):
                curves = [_curve(run, unknown, shape) for run in group.runs]
                if not curves:
                    continue
                areas = [_area(curve, kind) for curve in curves]
                _plot(axes[row], curves, kind, number, _entry(label, areas))
                numbers.append(
                    (
                        ROWS[kind][1],
                        unknown,
                        label,
                        len(areas),
                        percent(float(np.mean(areas))),
                        percent(float(np.std(areas, ddof=1))) if len(areas) > 1 else None,
                    )
                )
            _finish(axes[row], kind, shape, runs)
            if column == 0:
                axes[row].set_ylabel(ROWS[kind][0])
        title(axes[0], column, f"unknown: {unknown}", len(sets))
    measured = ", ".join(ROWS[kind][1] for kind in shape.rows)
    scorers = _scorers(runs, shape)
    return Picture(
        figure=figure,
        caption=(
            f"Curves of known test samples against each unknown set; {measured} in percent beside "
            f"the names, exact under ties. Scores: {scorers}. {_trials(runs)}"
        ),
        alt=(
            f"{' and '.join(ROWS[kind][1] for kind in shape.rows)} curves of "
            f"{', '.join(labels)} against {', '.join(sets)}; the areas stand in the table."
        ),
        numbers=Numbers(("area", "unknown set", "run", "trials", "percent", "deviation"), numbers),
    )


def unknown_sets(runs: FigureRuns) -> list[str]:
    """Unknown sets that every run has, in the first run's order.

    Raises:
        FigureError: there is none.
    """
    every = [[part.name for part in run.unknown] for _label, run in runs.runs]
    common = [name for name in every[0] if all(name in names for names in every)]
    if not common:
        seen = "; ".join(
            f"{run.folder.path}: {', '.join(p.name for p in run.unknown) or 'none'}"
            for _label, run in runs.runs
        )
        raise FigureError(
            f"the runs have no unknown set in common ({seen}); name runs of one protocol"
        )
    return common


def _curve(run: RunData, unknown: str, shape: Curves) -> OpenSetCurve:
    scorer = chosen_scorer(run, shape.scorer)
    assert run.known is not None
    (part,) = (part for part in run.unknown if part.name == unknown)
    return open_set_curve(run.known.scores[scorer], part.scores[scorer], run.known.correct)


def _area(curve: OpenSetCurve, kind: str) -> float:
    return curve.auroc() if kind == "roc" else curve.oscr()


def _entry(label: str, areas: list[float]) -> str:
    """What the legend says of a curve."""
    return f"{_named(label)}  {_shown(areas)}"


def _named(label: str) -> str:
    return textwrap.fill(label, 28)


def _shown(areas: list[float]) -> str:
    mean = f"{100 * np.mean(areas):.1f}"
    return f"{mean} ± {100 * np.std(areas, ddof=1):.1f}" if len(areas) > 1 else mean


def _points(curve: OpenSetCurve, kind: str) -> tuple[Floats, Floats]:
    return curve.roc_points() if kind == "roc" else curve.oscr_points()


def _plot(axes: Axes, curves: list[OpenSetCurve], kind: str, number: int, label: str) -> None:
    style = line(number)
    if len(curves) == 1:
        rates, heights = _points(curves[0], kind)
        axes.plot(rates, heights, label=label, **style)
        return
    # Trials share no thresholds, so their mean is taken at the same false positive rates.
    rates = np.unique(np.concatenate([np.linspace(0, 1, 501), np.geomspace(1e-4, 1, 201)]))
    each = np.stack([np.interp(rates, *_points(curve, kind)) for curve in curves])
    mean, spread = each.mean(axis=0), each.std(axis=0, ddof=1)
    axes.plot(rates, mean, label=label, **style)
    axes.fill_between(rates, mean - spread, mean + spread, color=style["color"], alpha=0.15, lw=0)


def _finish(axes: Axes, kind: str, shape: Curves, runs: FigureRuns) -> None:
    axes.set_xlabel("false positive rate")
    axes.set_ylim(0.0, 1.02)
    axes.grid(True)
    if kind == "oscr" and shape.scale == "log":
        # Below the share of a single sample there is nothing to see.
        sizes = [len(part) for _label, run in runs.runs for part in run.unknown]
        axes.set_xscale("log")
        axes.set_xlim(min(0.1, 1.0 / max(sizes)), 1.0)
    else:
        axes.set_xlim(-0.01, 1.01)
    axes.legend(
        title=f"{ROWS[kind][1]} (%)",
        title_fontsize=7,
        alignment="left",
        loc="upper left",
        bbox_to_anchor=(0.0, -0.24),
        borderaxespad=0.0,
    )


def _scorers(runs: FigureRuns, shape: Curves) -> str:
    used = {
        label: chosen_scorer(group.first, shape.scorer)
        for label, group in zip(runs.labels(), runs.groups, strict=True)
    }
    if len(set(used.values())) == 1:
        return f"{next(iter(used.values()))} for all"
    return ", ".join(f"{scorer} for {label}" for label, scorer in used.items())


def _trials(runs: FigureRuns) -> str:
    def words(group: RunGroup) -> int:
        return len(group.runs)

    most = max(map(words, runs.groups))
    if most == 1:
        return "One run each."
    return "Curves of several trials are means at equal false positive rates, with one deviation."
