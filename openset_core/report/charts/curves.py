"""ROC and OSCR curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
import numpy.typing as npt
from attrs import frozen

from openset_core.metrics import OpenSetCurve
from openset_core.report.charts.output import Chart
from openset_core.report.charts.theme import (
    AXIS,
    BACKGROUND,
    colours,
    dashes,
    legend_below,
    records,
    shown_by_legend,
    with_hover,
)
from openset_core.report.formatting import number, percent

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

TOLERANCE = 5e-4
"""Distance of a drawn curve from the exact one, as a share of the side: a sixth of a pixel."""

MOST_POINTS = 400
"""Points of one curve; the tolerance grows where they do not suffice."""

FPR, TPR, CCR = (
    "False positive rate (unknown accepted)",
    "True positive rate (known accepted)",
    "Correct classification rate",
)


@frozen(kw_only=True, eq=False)
class NamedCurve:
    """A curve to draw."""

    name: str
    curve: OpenSetCurve
    threshold: float | None = None  # the rejection threshold, which is marked; None marks nothing
    # curves of further trials, which share no thresholds: drawn is the mean of all at equal false
    # positive rates, with a band of one standard deviation
    trials: tuple[OpenSetCurve, ...] = ()

    @property
    def every(self) -> tuple[OpenSetCurve, ...]:
        """The curves of all trials."""
        return (self.curve, *self.trials)


def roc_chart(curves: Sequence[NamedCurve], **options: Any) -> Chart:
    """ROC curves with the AUROC beside each name; options as of `_chart`."""
    return _chart(curves, True, **options)


def oscr_chart(curves: Sequence[NamedCurve], **options: Any) -> Chart:
    """OSCR curves with the area beside each name; options as of `_chart`."""
    return _chart(curves, False, **options)


def _chart(
    curves: Sequence[NamedCurve],
    roc: bool,
    *,
    side: int = 320,
    against: str = "",  # names the unknown samples in the description
    points: int = 6000,  # of all curves together, at most; each curve keeps 40
    interactive: bool = True,  # only a chart that stands by itself can be
    log_from: float = 0.0,  # where a logarithmic axis of false positive rates begins
) -> Chart:
    title, measure, axis = ("ROC", "AUROC", TPR) if roc else ("OSCR", "OSCR", CCR)
    names = []
    for each in curves:
        areas = [curve.auroc() if roc else curve.oscr() for curve in each.every]
        spread = f" ± {percent(float(np.std(areas, ddof=1)))}" if each.trials else ""
        names.append(f"{each.name} {percent(float(np.mean(areas)))}{spread}")
    most = max(40, min(MOST_POINTS, points // max(len(curves), 1)))
    rows: dict[str, list[object]] = {
        key: [] for key in ("scorer", "threshold", "fpr", "tpr", "ccr", "deviation", "used")
    }
    for name, each in zip(names, curves, strict=True):
        fpr, tpr, ccr, deviation = _shares(each, roc)
        place = fpr
        if log_from:
            first = int(np.searchsorted(fpr, log_from, side="right")) - 1
            fpr = np.maximum(fpr, log_from)
            place = np.log(fpr[first:]) / -np.log(log_from)
        chosen = (
            len(fpr)
            - len(place)
            + simplify_polyline(place, (tpr if roc else ccr)[-len(place) :], most=most)
        )
        used = -1
        if each.threshold is not None:
            used = int(np.searchsorted(each.curve.thresholds, each.threshold, side="right"))
            chosen = np.union1d(chosen, [used])
        rows["scorer"] += [name] * len(chosen)
        rows["threshold"] += [
            number(float(each.curve.thresholds[at - 1]), 4) if at and not each.trials else "none"
            for at in chosen
        ]
        for key, share in (("fpr", fpr), ("tpr", tpr), ("ccr", ccr), ("deviation", deviation)):
            rows[key] += share[chosen].tolist()
        rows["used"] += (chosen == used).tolist()

    shares, whole = alt.Axis(format=".0%"), alt.Scale(domain=[0, 1])
    rates, rate_axis = whole, shares
    if log_from:
        rates = alt.Scale(type="log", domain=[log_from, 1], nice=False)
        rate_axis = alt.Axis(format="~%", tickCount=4)
    legend = legend_below(names, f"{measure}, %", side, lines=True)
    base = alt.Chart().encode(
        x=alt.X("fpr:Q", title=FPR, scale=rates, axis=rate_axis),
        y=alt.Y("tpr:Q" if roc else "ccr:Q", title=axis, scale=whole, axis=shares),
        color=alt.Color("scorer:N", scale=colours(names), legend=legend),
    )
    shown = shown_by_legend("scorer", names)
    if interactive:
        base = base.transform_filter(shown)
    lines = base.mark_line().encode(
        strokeDash=alt.StrokeDash("scorer:N", scale=dashes(names), legend=legend),
        order=alt.value(None),
    )
    told = {f"Scorer, {measure}": "scorer", "Threshold": "threshold"}
    told |= {key.upper(): f"{key}|.1%" for key in ("fpr", "tpr", "ccr")}
    used_points = base.transform_filter("datum.used").mark_point(
        fill=BACKGROUND, size=60, strokeWidth=2.2, opacity=1
    )
    layers = [lines, used_points]
    if interactive:
        layers = [lines.add_params(shown), used_points, with_hover(base, told)]
    if any(each.trials for each in curves):
        y = "tpr" if roc else "ccr"
        band = base.transform_calculate(
            low=f"datum.{y} - datum.deviation", high=f"datum.{y} + datum.deviation"
        )
        layers.insert(0, band.mark_area(opacity=0.15, clip=True).encode(y="low:Q", y2="high:Q"))
    if roc:
        chance = alt.Chart(records(x=[0.0, 1.0], y=[0.0, 1.0]))
        layers.insert(
            0,
            chance.mark_line(color=AXIS, strokeWidth=0.8, strokeDash=[2, 3]).encode(
                x="x:Q", y="y:Q"
            ),
        )
    areas_text = ", ".join(f"{name} %" for name in names)
    return alt.layer(*layers, data=records(**rows)).properties(
        width=side,
        height=side,
        description=f"{title} curves{f' against {against}' if against else ''}; {measure}: "
        f"{areas_text}",
    )


def _shares(each: NamedCurve, roc: bool) -> tuple[Floats, Floats, Floats, Floats]:
    """False positive, true positive and correct classification rate, and the deviation drawn."""
    # A curve begins where nothing is accepted, at no threshold.
    every = [
        [np.append(0.0, share) for share in (curve.fpr, curve.tpr, curve.ccr)]
        for curve in each.every
    ]
    if not each.trials:
        fpr, tpr, ccr = every[0]
        return fpr, tpr, ccr, np.zeros(len(fpr))
    rates = np.unique(np.concatenate([np.linspace(0, 1, 501), np.geomspace(1e-4, 1, 201)]))
    tprs, ccrs = (
        np.stack([np.interp(rates, shares[0], shares[at]) for shares in every]) for at in (1, 2)
    )
    deviation = (tprs if roc else ccrs).std(axis=0, ddof=1)
    return rates, tprs.mean(axis=0), ccrs.mean(axis=0), deviation


def simplify_polyline(
    x: Floats, y: Floats, *, most: int = MOST_POINTS, tolerance: float = TOLERANCE
) -> Integers:
    """Points of a polyline that are worth drawing, the first and the last among them.

    The algorithm of Ramer, Douglas and Peucker: points of the curve itself stay, none is moved,
    and no point left out is farther than the tolerance from the line drawn.
    """
    keep = np.zeros(len(x), dtype=bool)
    keep[[0, -1]] = True
    waiting = [(0, len(x) - 1)]
    while waiting:
        first, last = waiting.pop()
        if last - first < 2:
            continue
        away = distances(x, y, first, last)
        worst = int(away.argmax())
        if away[worst] > tolerance:
            middle = first + 1 + worst
            keep[middle] = True
            waiting += [(first, middle), (middle, last)]
    chosen = np.flatnonzero(keep)
    if len(chosen) > max(most, 2):
        return simplify_polyline(x, y, most=most, tolerance=2 * tolerance)
    return chosen


def distances(x: Floats, y: Floats, first: int, last: int) -> Floats:
    """Distances of the points between two points of a polyline from the straight line there."""
    inner = slice(first + 1, last)
    dx, dy = x[last] - x[first], y[last] - y[first]
    from_x, from_y = x[inner] - x[first], y[inner] - y[first]
    length = dx * dx + dy * dy
    along = np.clip((from_x * dx + from_y * dy) / length, 0.0, 1.0) if length > 0 else 0.0
    away: Floats = np.hypot(from_x - along * dx, from_y - along * dy)
    return away
