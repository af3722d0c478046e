"""Score histograms of known samples over each unknown set, with the threshold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair as alt
import numpy as np
import numpy.typing as npt
from attrs import frozen

from openset_core.report.charts.output import Chart
from openset_core.report.charts.theme import TEXT, records
from openset_core.report.colours import KNOWN, UNKNOWN
from openset_core.report.formatting import number

Floats = npt.NDArray[np.float64]

BINS = 40
WORD = 55
"""Pixels that a word beside the threshold takes."""

ROBUST = 0.005
"""Share of the scores at either end that may lie outside, where they lie far outside."""

FAR = 0.75
"""So many times the range of the other scores is far from them."""


@frozen(kw_only=True, eq=False)
class Histogram:
    """Shares of known and unknown samples in bins of the score."""

    scorer: str
    threshold: float
    edges: Floats  # of the bins, ascending, float64 [BINS + 1]
    known: Floats  # share of the known samples in each bin, float64 [BINS]
    unknown: Mapping[str, Floats]
    below: bool
    above: bool

    @property
    def note(self) -> str:
        """Says which bins hold more than their own scores."""
        ends = [side for side, open_ in (("first", self.below), ("last", self.above)) if open_]
        if not ends:
            return ""
        verb = "bars hold" if len(ends) > 1 else "bar holds"
        return f"The {' and '.join(ends)} {verb} all scores beyond, too."


def histogram(
    scorer: str, threshold: float, known: Floats, unknown: Mapping[str, Floats]
) -> Histogram:
    """Bin the scores of a scorer.

    A few scores that lie far from all others are counted in the outermost bins, so that the rest
    does not shrink to one bar.
    """
    pooled = np.concatenate([known, *unknown.values()])
    low, high = float(pooled.min()), float(pooled.max())
    inner_low, inner_high = np.quantile(pooled, [ROBUST, 1 - ROBUST])
    inner_low, inner_high = min(inner_low, threshold), max(inner_high, threshold)
    far = FAR * (inner_high - inner_low)
    if far > 0:
        low = inner_low if low < inner_low - far else low
        high = inner_high if high > inner_high + far else high
    if np.isfinite(threshold):  # a given threshold may lie beyond all scores
        low, high = min(low, threshold), max(high, threshold)
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-300):
        room = abs(low) / 2 or 0.5
        low, high = low - room, high + room
    edges = np.linspace(low, high, BINS + 1)

    def shares(scores: Floats) -> Floats:
        counts, _ = np.histogram(np.clip(scores, low, high), edges)
        return counts / max(len(scores), 1)

    return Histogram(
        scorer=scorer,
        threshold=threshold,
        edges=edges,
        known=shares(known),
        unknown={name: shares(scores) for name, scores in unknown.items()},
        below=bool(pooled.min() < low),
        above=bool(pooled.max() > high),
    )


def histogram_chart(
    shown: Histogram, *, width: int = 320, height: int = 200, titled: bool = False
) -> Chart:
    """One panel an unknown set, known samples in each."""
    sets = list(shown.unknown) or [""]
    panels = [
        _panel(
            shown,
            name,
            last=position == len(sets) - 1,
            first=position == 0,
            named=len(sets) > 1,
            size=(width, height if len(sets) == 1 else height // 2),
        )
        for position, name in enumerate(sets)
    ]
    drawn = alt.vconcat(*panels, spacing=10) if len(panels) > 1 else panels[0]
    against = f" and the unknown sets {', '.join(shown.unknown)}" if shown.unknown else " only"
    drawn = drawn.properties(
        description=f"Histogram of the scores of {shown.scorer}: known samples{against}; "
        f"threshold {number(shown.threshold)}"
    )
    return drawn.properties(title=shown.scorer) if titled else drawn


def _panel(
    shown: Histogram, name: str, *, first: bool, last: bool, named: bool, size: tuple[int, int]
) -> alt.LayerChart:
    count = len(shown.known)
    spans = [
        f"{'below ' if shown.below and at == 0 else number(low) + ' to '}"
        f"{'any above' if shown.above and at == count - 1 else number(high)}"
        for at, (low, high) in enumerate(zip(shown.edges[:-1], shown.edges[1:], strict=True))
    ]
    unknown = shown.unknown.get(name)
    columns = {"low": shown.edges[:-1], "high": shown.edges[1:], "scores": spans}
    columns |= {"known": shown.known} | ({} if unknown is None else {"unknown": unknown})
    kinds = [kind for kind in ("unknown", "known") if kind in columns]
    scale = alt.Scale(domain=["known", "unknown"], range=[KNOWN.light, UNKNOWN.light])
    legend = alt.Legend(title=None, orient="top") if first and len(kinds) > 1 else None
    base = alt.Chart(records(**columns)).encode(
        x=alt.X(
            "low:Q",
            title="Score, higher = more unknown" if last else None,
            scale=alt.Scale(domain=[shown.edges[0], shown.edges[-1]], nice=False, zero=False),
            axis=alt.Axis(grid=False, labels=last, tickCount=6),
        ),
        x2="high:Q",
    )
    y_axis = alt.Axis(format="~%", tickCount=3 if named else 5)
    bars = [
        base.mark_rect(opacity=0.45, strokeWidth=0.5).encode(
            y=alt.Y(f"{kind}:Q", title="Samples", axis=y_axis),
            y2=alt.datum(0),
            color=alt.Color(datum=kind, scale=scale, legend=legend),
        )
        for kind in kinds
    ]
    tooltip = [alt.Tooltip("scores:N", title="Score")]
    tooltip += [alt.Tooltip(f"{kind}:Q", title=kind, format=".1%") for kind in reversed(kinds)]
    hover = base.mark_rect(opacity=0).encode(tooltip=tooltip).properties(name="hover")
    marks = [*bars, hover]
    if np.isfinite(shown.threshold):
        at = alt.Chart(records(threshold=[shown.threshold])).encode(x="threshold:Q")
        marks.append(at.mark_rule(color=TEXT, strokeDash=[4, 3], strokeWidth=1.2))
        if first:
            words: dict[str, Any] = {"y": -6, "fontSize": 10, "color": TEXT}
            left = size[0] * (shown.threshold - shown.edges[0]) / np.ptp(shown.edges)
            if left > WORD:
                marks.append(at.mark_text(text="accepted", align="right", dx=-4, **words))
            if size[0] - left > WORD:
                marks.append(at.mark_text(text="rejected", align="left", dx=4, **words))
    panel = alt.LayerChart(layer=marks).properties(width=size[0], height=size[1])
    return panel.properties(title=name) if named else panel
