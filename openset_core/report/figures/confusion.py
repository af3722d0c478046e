"""Confusion matrices with the unknown as one more class, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from openset_core.errors import FigureError
from openset_core.metrics.open_set import open_set_predictions
from openset_core.report.data import RunData
from openset_core.report.figures import Confusion
from openset_core.report.figures.panels import grid, percent, title
from openset_core.report.figures.picture import Numbers, Picture
from openset_core.report.figures.runs import FigureRuns, chosen_scorer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = npt.NDArray[np.float64]
DIVIDER = "#ad072e"
"""Colour of the lines between known and unknown."""

MOST_NAMED = 24
"""From here on classes are too many to be named at the axes; half as many have room for numbers."""


def draw(shape: Confusion, runs: FigureRuns) -> Picture:
    """Draw a matrix for each run."""
    named = runs.runs
    figure, panels = grid(len(named), height=3.3, most=2)
    numbers: list[tuple[Any, ...]] = []
    notes, rules = [], []
    image: Any = None
    for number, ((label, run), axes) in enumerate(zip(named, panels, strict=True)):
        threshold, note = _threshold(run, shape)
        if note:
            notes.append(f"{label}: {note}")
        rows, columns, matrix = shares(run, chosen_scorer(run, shape.scorer), threshold)
        image = _matrix(axes[0], rows, columns, matrix, run.num_classes)
        title(axes[0], number, label, len(named))
        rules.append(f"{label}: {chosen_scorer(run, shape.scorer)} above {threshold:.4g}")
        numbers += [
            (label, row, column, percent(matrix[i, j]))
            for i, row in enumerate(rows)
            for j, column in enumerate(columns)
        ]
    figure.colorbar(image, ax=[axes[0] for axes in panels], shrink=0.6, label="percent of a row")
    return Picture(
        figure=figure,
        caption=(
            "Confusion matrices: test samples of a row's class by decision, in percent of the row. "
            f"Lines divide known classes from the unknown. Rejected is ({'; '.join(rules)})."
        ),
        alt=f"Confusion matrices of {', '.join(label for label, _ in named)}; shares in the table.",
        numbers=Numbers(("run", "true class", "decision", "percent of the true class"), numbers),
        notes=tuple(notes),
    )


def _threshold(run: RunData, shape: Confusion) -> tuple[float, str]:
    """Threshold, and what is to be said of it."""
    scorer = chosen_scorer(run, shape.scorer)
    own = run.scorers[scorer].threshold
    if shape.rule == "exact":
        return own, ""
    from openset_core.experiment.protocol import load_protocol

    fixed = load_protocol(str(run.recorded["protocol"])).content.threshold.fixed.get(scorer)
    if fixed is None:
        return own, f"protocol {run.results.protocol} fixes no threshold for {scorer}; its own used"
    return fixed, ""


def shares(
    run: RunData, scorer: str, threshold: float
) -> tuple[list[str], list[str], npt.NDArray[np.float64]]:
    """How samples are decided upon.

    Args:
        run: the run.
        scorer: whose scores.
        threshold: a score above it means unknown.

    Returns:
        Names of rows (known classes, then unknown sets), names of columns (known classes, then
        unknown), and float64 [rows, columns], each row's shares of its samples.

    Raises:
        FigureError: the run has no features, or no unknown samples.
    """
    if run.known is None or not run.unknown:
        why = "; ".join(run.gaps) or "its protocol has no unknown samples"
        raise FigureError(f"{run.folder.path} gives no confusion with the unknown: {why}")
    size = run.num_classes

    def counts(part: Any) -> npt.NDArray[np.int64]:
        chosen = open_set_predictions(part.scores[scorer], part.predicted, threshold, size)
        return np.bincount(chosen, minlength=size + 1)

    table = np.zeros((size + len(run.unknown), size + 1))
    decided = open_set_predictions(run.known.scores[scorer], run.known.predicted, threshold, size)
    np.add.at(table, (run.known.label, decided), 1)
    for number, part in enumerate(run.unknown):
        table[size + number] = counts(part)
    table /= np.maximum(table.sum(axis=1, keepdims=True), 1)
    unknown = [part.name for part in run.unknown] if len(run.unknown) > 1 else ["unknown"]
    return [*run.class_names, *unknown], [*run.class_names, "unknown"], table


def _matrix(axes: Axes, rows: list[str], columns: list[str], matrix: Floats, known: int) -> Any:
    image = axes.imshow(100.0 * matrix, cmap="Blues", vmin=0.0, vmax=100.0, aspect="auto")
    axes.axhline(known - 0.5, color=DIVIDER, linewidth=1.2)
    axes.axvline(known - 0.5, color=DIVIDER, linewidth=1.2)
    axes.spines[:].set_visible(True)
    axes.tick_params(length=0)
    axes.set_ylabel("true class")
    axes.set_xlabel("decision")
    if len(columns) > MOST_NAMED:
        ticks = [0, known - 1, known]
        names = [columns[0], columns[known - 1], "unknown"]
        axes.set_xticks(ticks, names, rotation=90)
        axes.set_yticks([0, known - 1], names[:2])
        return image
    axes.set_xticks(range(len(columns)), columns, rotation=90)
    axes.set_yticks(range(len(rows)), rows)
    if len(columns) <= MOST_NAMED // 2:
        for (i, j), share in np.ndenumerate(matrix):
            if share >= 0.0005:
                axes.text(
                    j,
                    i,
                    f"{100 * share:.1f}" if share < 0.9995 else "100",
                    ha="center",
                    va="center",
                    fontsize=5.5 if len(columns) > 8 else 6.5,
                    color="white" if share > 0.55 else "black",
                )
    return image
