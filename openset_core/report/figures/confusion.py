"""Confusion matrices with the unknown as one more class, side by side."""

from __future__ import annotations

from typing import Any

from openset_core.errors import FigureError
from openset_core.report.charts.confusion import confusion_chart, count_decisions
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
    charts = []
    notes, rules = [], []
    for label, run in labelled:
        scorer = chosen_scorer(run, shape.scorer)
        threshold, note = _threshold(run, scorer, shape.rule)
        notes += [f"{label}: {note}"] if note else []
        rules.append(f"{label}: {scorer} above {threshold:.4g}")
        if run.known is None or not run.unknown:
            why = "; ".join(run.gaps) or "its protocol has no unknown samples"
            raise FigureError(f"{run.folder.path} gives no confusion with the unknown: {why}")
        matrix = count_decisions(run, scorer, threshold)
        rows += [
            (label, truth, decision, percent(share))
            for truth, shares in zip(matrix.rows, matrix.shares, strict=True)
            for decision, share in zip(matrix.columns, shares, strict=True)
        ]
        charts.append((label, confusion_chart(matrix, side=SIDE)))
    names = ", ".join(label for label, _ in labelled)
    return FigureResult(
        chart=panels(charts, f"Confusion matrices of {names}; shares in the table.", columns=2),
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
