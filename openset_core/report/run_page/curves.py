"""ROC and OSCR curves of every scorer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from attrs import frozen
from markupsafe import Markup

from openset_core.metrics import open_set as metrics
from openset_core.report.axes import fraction_axis, percent
from openset_core.report.colours import PALETTE, dash
from openset_core.report.data import Floats, Integers, RunData, TestSplit
from openset_core.report.markup import cards, element, figure, folded
from openset_core.report.page import Section
from openset_core.report.run_page.view import Figures, View
from openset_core.report.svg import (
    Frame,
    Hover,
    Points,
    chart,
    curve_path,
    frame_marks,
    in_series,
    line_key,
    toggles,
)
from openset_core.report.thinning import MOST_POINTS, thinned

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POINTS_OF_A_PAGE = 60_000
"""Bound on the points of all curves together, so that a page of many stays small."""

FPR, TPR, CCR = (
    "False positive rate: unknown accepted, %",
    "True positive rate: known accepted, %",
    "Correct classification rate, %",
)


@frozen(kw_only=True, eq=False)
class ScorerCurve:
    """The exact curves of one scorer against some unknown sets.

    Attributes:
        scorer: its name.
        number: position among the run's scorers, for colour and dashes.
        curve: what is accepted at every threshold.
        threshold: the rejection threshold.
    """

    scorer: str
    number: int
    curve: metrics.OpenSetCurve
    threshold: float

    @property
    def fpr(self) -> Floats:
        """Share of unknown samples accepted, from "none" to "all", float64 [T + 1]."""
        return np.append(0.0, self.curve.fpr)

    @property
    def tpr(self) -> Floats:
        """Share of known samples accepted, float64 [T + 1]."""
        return np.append(0.0, self.curve.tpr)

    @property
    def ccr(self) -> Floats:
        """Share of known samples accepted and right, float64 [T + 1]."""
        return np.append(0.0, self.curve.ccr)

    @property
    def thresholds(self) -> Floats:
        """Threshold of each point; the first accepts nothing and has none, float64 [T + 1]."""
        return np.append(-np.inf, self.curve.thresholds)

    def at_threshold(self) -> int:
        """The point that the rejection threshold gives."""
        return int(np.searchsorted(self.curve.thresholds, self.threshold, side="right"))


def curves_of(run: RunData, sets: Sequence[TestSplit]) -> list[ScorerCurve]:
    """Exact curves of every scorer with scores against some unknown sets together."""
    known = run.known
    if known is None or not len(known) or not any(len(part) for part in sets):
        return []
    return [
        ScorerCurve(
            scorer=scorer,
            number=number,
            curve=metrics.open_set_curve(
                known.scores[scorer],
                np.concatenate([part.scores[scorer] for part in sets]),
                known.correct,
            ),
            threshold=run.scorers[scorer].threshold,
        )
        for number, scorer in enumerate(run.scorers)
        if scorer in run.scored
    ]


def section(view: View) -> Section | None:
    """ROC and OSCR curves against all unknown sets, and against each where there are several."""
    run = view.run
    if not run.unknown or not run.scored:
        return None
    several = len(run.unknown) > 1
    charts = 2 * (1 + len(run.unknown) if several else 1)
    most = max(MOST_POINTS // 10, min(MOST_POINTS, POINTS_OF_A_PAGE // (charts * len(run.scored))))
    keys = [
        (line_key(f"c{number % len(PALETTE)}", dash(number)), scorer)
        for number, scorer in enumerate(run.scorers)
        if scorer in run.scored
    ]
    together = curves_of(run, run.unknown)
    body = toggles("Scorers:", keys)
    if several:
        body += element("h3", "Against all unknown sets together")
    body += cards([_card(together, roc, most) for roc in (True, False)])
    if several:
        alone = {part.name: curves_of(run, (part,)) for part in run.unknown}
        for roc, title in ((True, "ROC"), (False, "OSCR")):
            small = [_card(found, roc, most, name) for name, found in alone.items()]
            each = [element("h3", f"{title} against each set"), cards(small, "three")]
            body += (
                Markup("").join(each)
                if run.results.per_unknown
                else folded(f"{title} against each set", each[1])
            )
    return Section(
        "curves",
        "ROC and OSCR curves",
        body,
        "Every point is a threshold; circles mark the rejection thresholds, which are set on "
        "validation data. Point at a curve, or walk along it with the arrow keys, for its numbers.",
        short="Curves",
    )


def _card(found: Sequence[ScorerCurve], roc: bool, most: int, against: str = "") -> Markup:
    size = {"width": 370, "height": 340} if against else {"width": 440, "height": 400}
    frame = Frame(x=fraction_axis(FPR), y=fraction_axis(TPR if roc else CCR), **size)
    marks = frame_marks(frame)
    if roc:
        diagonal = curve_path(frame.px([0.0, 1.0]), frame.py([0.0, 1.0]))
        marks.append(element("path", d=diagonal, class_="chance"))
    points, said = [], []
    for each in found:
        heights = each.tpr if roc else each.ccr
        chosen = with_point(thinned(each.fpr, heights, most=most), each.at_threshold())
        x, y = frame.px(each.fpr[chosen]), frame.py(heights[chosen])
        colour = f"c{each.number % len(PALETTE)}"
        line = element(
            "path", d=curve_path(x, y), class_="curve", stroke_dasharray=dash(each.number) or None
        )
        at = int(np.searchsorted(chosen, each.at_threshold()))
        dot = element("circle", cx=f"{x[at]:.1f}", cy=f"{y[at]:.1f}", r=4, class_="operating-point")
        marks.append(in_series(element("g", line, dot, class_=colour), each.scorer))
        points.append(
            Points(
                name=each.scorer,
                colour=colour,
                x=x,
                y=y,
                values=(
                    each.thresholds[chosen],
                    each.fpr[chosen],
                    each.tpr[chosen],
                    each.ccr[chosen],
                ),
            )
        )
        area = each.curve.auroc() if roc else each.curve.oscr()
        said.append(f"{each.scorer} {percent(area)} %")
    title, measure = ("ROC", "AUROC") if roc else ("OSCR", "area under the curve")
    columns = [
        ("threshold", "number"),
        ("FPR", "percent"),
        ("TPR", "percent"),
        ("CCR", "percent"),
    ]
    label = f"{title} curves{f' against {against}' if against else ''}; {measure}: " + ", ".join(
        said
    )
    drawing = chart(
        (frame.width, frame.height), marks, label, Hover(columns=columns, series=points)
    )
    subtitle = f"{measure}: " + ", ".join(said)
    return figure(against or title, drawing, subtitle)


def with_point(chosen: Integers, extra: int) -> Integers:
    """Ascending positions with one more among them."""
    return np.union1d(chosen, np.array([extra], dtype=np.int64))


def figures(view: View) -> Figures:
    """The ROC and the OSCR curves against all unknown sets together."""
    from openset_core.report.style import SINGLE_COLUMN, new_figure

    found = curves_of(view.run, view.run.unknown)
    if not found:
        return
    for name, roc in (("roc", True), ("oscr", False)):
        figure = new_figure(SINGLE_COLUMN, 3.2)
        _draw(figure.subplots(), found, roc)
        yield name, figure


def _draw(axes: Axes, found: Sequence[ScorerCurve], roc: bool) -> None:
    from openset_core.report.style import line

    for each in found:
        heights = each.tpr if roc else each.ccr
        chosen = thinned(each.fpr, heights, most=4 * MOST_POINTS, tolerance=1e-4)
        area = percent(each.curve.auroc() if roc else each.curve.oscr())
        axes.plot(
            100 * each.fpr[chosen],
            100 * heights[chosen],
            label=f"{each.scorer} ({area})",
            **line(each.number),
        )
        at = each.at_threshold()
        colour = line(each.number)["color"]
        axes.plot(100 * each.fpr[at], 100 * heights[at], "o", color=colour, markersize=3.5)
    if roc:
        axes.plot([0, 100], [0, 100], color="#a0a0a0", linewidth=0.7, linestyle=":")
    axes.set(xlim=(-1, 101), ylim=(-1, 101), xlabel="False positive rate (%)")
    axes.set_ylabel("True positive rate (%)" if roc else "Correct classification rate (%)")
    axes.set_aspect("equal")
    axes.grid(True)
    axes.legend(loc="lower right", title="AUROC (%)" if roc else "OSCR (%)", title_fontsize=7)
