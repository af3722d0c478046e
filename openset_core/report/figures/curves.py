"""ROC and OSCR curves, a column an unknown set, a curve a run."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np

from openset_core.errors import FigureError
from openset_core.metrics import OpenSetCurve, open_set_curve
from openset_core.report.charts.curves import NamedCurve, oscr_chart, roc_chart
from openset_core.report.charts.panels import panel_width, panels
from openset_core.report.data import RunData
from openset_core.report.figures import Curves
from openset_core.report.figures.drawing import (
    FigureResult,
    FigureRuns,
    chosen_scorer,
    known_split,
    percent,
)

OWN: dict[str, Any] = {"color": "independent", "strokeDash": "independent"}
AREAS = {"roc": "AUROC", "oscr": "OSCR"}


def draw(shape: Curves, runs: FigureRuns) -> FigureResult:
    """Draw the curves of every group of runs; a group of several trials as their mean."""
    labels = runs.labels()
    sets = unknown_sets(runs)
    # Below the share of a single sample there is nothing to see.
    least = min(0.1, 1 / max(len(split) for _label, run in runs.runs for split in run.unknown))
    rows: list[tuple[Any, ...]] = []
    columns = []
    for unknown in sets:
        curves = [[_curve(run, unknown, shape) for run in group.runs] for group in runs.groups]
        named = [
            NamedCurve(name=label, curve=first, trials=tuple(others))
            for label, (first, *others) in zip(labels, curves, strict=True)
        ]
        options = {"side": int(panel_width(len(sets), 3)), "against": unknown, "interactive": False}
        charts: list[Any] = []
        for kind in shape.rows:
            if kind == "roc":
                charts.append(roc_chart(named, **options))
            else:
                start = least if shape.scale == "log" else 0.0
                charts.append(oscr_chart(named, log_from=start, **options))
            for label, trials in zip(labels, curves, strict=True):
                areas = [c.auroc() if kind == "roc" else c.oscr() for c in trials]
                deviation = percent(float(np.std(areas, ddof=1))) if len(areas) > 1 else None
                mean = percent(float(np.mean(areas)))
                rows.append((AREAS[kind], unknown, label, len(areas), mean, deviation))
        columns.append((f"unknown: {unknown}", alt.vconcat(*charts).resolve_scale(**OWN)))
    measured = [AREAS[kind] for kind in shape.rows]
    scorers = [chosen_scorer(group.first, shape.scorer) for group in runs.groups]
    said = ", ".join(f"{scorer} for {label}" for scorer, label in zip(scorers, labels, strict=True))
    if len(set(scorers)) == 1:
        said = f"{scorers[0]} for all"
    trials_text = "One run each."
    if any(len(group.runs) > 1 for group in runs.groups):
        trials_text = (
            "Curves of several trials are means at equal false positive rates, with one deviation."
        )
    return FigureResult(
        chart=panels(
            columns,
            f"{' and '.join(measured)} curves of {', '.join(labels)} against {', '.join(sets)}; "
            "the areas stand in the table.",
            columns=3,
            shared=False,
        ),
        caption=(
            f"Curves of known test samples against each unknown set; {', '.join(measured)} in "
            f"percent beside the names, exact under ties. Scores: {said}. {trials_text}"
        ),
        columns=("area", "unknown set", "run", "trials", "percent", "deviation"),
        rows=rows,
    )


def unknown_sets(runs: FigureRuns) -> list[str]:
    """Unknown sets that every run has, in the first run's order."""
    names = {
        str(run.folder.path): [split.name for split in run.unknown] for _label, run in runs.runs
    }
    first, *others = names.values()
    common = [name for name in first if all(name in other for other in others)]
    if not common:
        listed = "; ".join(f"{path}: {', '.join(own) or 'none'}" for path, own in names.items())
        raise FigureError(
            f"the runs have no unknown set in common ({listed}); name runs of one protocol"
        )
    return common


def _curve(run: RunData, unknown: str, shape: Curves) -> OpenSetCurve:
    scorer = chosen_scorer(run, shape.scorer)
    known = known_split(run)
    (split,) = (split for split in run.unknown if split.name == unknown)
    return open_set_curve(known.scores[scorer], split.scores[scorer], known.correct)
