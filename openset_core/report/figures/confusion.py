"""Confusion matrices with the unknown as one more class, side by side."""

from __future__ import annotations

from typing import Any

import numpy as np

from openset_core.errors import FigureError
from openset_core.metrics import open_set_predictions
from openset_core.report.charts import confusion as charts
from openset_core.report.charts.panels import panels
from openset_core.report.data import RunData
from openset_core.report.figures import Confusion
from openset_core.report.figures.drawing import FigureResult, FigureRuns, chosen_scorer, percent

SIDE = 260
"""Pixels of a matrix of more classes than can be named."""


def draw(shape: Confusion, runs: FigureRuns) -> FigureResult:
    """Draw a matrix for each run."""
    labelled = runs.runs
    rows: list[tuple[Any, ...]] = []
    drawn = []
    notes, rules = [], []
    for label, run in labelled:
        scorer = chosen_scorer(run, shape.scorer)
        threshold, note = _threshold(run, scorer, shape.rule)
        notes += [f"{label}: {note}"] if note else []
        rules.append(f"{label}: {scorer} above {threshold:.4g}")
        matrix = counted(run, scorer, threshold)
        rows += [
            (label, truth, decision, percent(matrix.shares[i, j]))
            for i, truth in enumerate(matrix.rows)
            for j, decision in enumerate(matrix.columns)
        ]
        drawn.append((label, charts.confusion_chart(matrix, side=SIDE)))
    return FigureResult(
        chart=panels(
            drawn,
            f"Confusion matrices of {', '.join(label for label, _ in labelled)}; shares in the "
            "table.",
            columns=2,
        ),
        caption=(
            "Confusion matrices: test samples of a row's class by decision, in percent of the row. "
            f"Lines divide known classes from the unknown. Rejected is ({'; '.join(rules)})."
        ),
        columns=("run", "true class", "decision", "percent of the true class"),
        rows=rows,
        notes=tuple(notes),
    )


def _threshold(run: RunData, scorer: str, rule: str) -> tuple[float, str]:
    """Threshold, and what is to be said of it."""
    own = run.scorers[scorer].threshold
    if rule == "exact":
        return own, ""
    from openset_core.experiment.protocol import load_protocol

    fixed = load_protocol(str(run.recorded["protocol"])).content.threshold.fixed.get(scorer)
    if fixed is None:
        return own, f"protocol {run.results.protocol} fixes no threshold for {scorer}; its own used"
    return fixed, ""


def counted(run: RunData, scorer: str, threshold: float) -> charts.Confusion:
    """Samples by true class and by decision, unknown above the threshold of a scorer.

    Raises:
        FigureError: the run has no features, or no unknown samples.
    """
    if run.known is None or not run.unknown:
        why = "; ".join(run.gaps) or "its protocol has no unknown samples"
        raise FigureError(f"{run.folder.path} gives no confusion with the unknown: {why}")
    size = run.num_classes
    counts = np.zeros((size + len(run.unknown), size + 1), dtype=np.int64)
    for number, split in enumerate((run.known, *run.unknown), start=size - 1):
        decided = open_set_predictions(split.scores[scorer], split.predicted, threshold, size)
        truth = split.label if split is run.known else np.full(len(split), number)
        np.add.at(counts, (truth, decided), 1)
    unknown = tuple(split.name for split in run.unknown) if len(run.unknown) > 1 else ("unknown",)
    return charts.Confusion(
        counts=counts,
        rows=(*run.class_names, *unknown),
        columns=(*run.class_names, "unknown"),
        known=size,
    )
