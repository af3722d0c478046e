"""Diagrams of critical differences.

After Demšar, "Statistical comparisons of classifiers over multiple data sets", JMLR 7, 2006: an
axis of average ranks, a line from each method to its place on it, and a bar over methods that are
not told apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import altair as alt
from attrs import frozen

from openset_core.report.charts.intervals import broken
from openset_core.report.charts.output import Chart
from openset_core.report.charts.theme import TEXT, records
from openset_core.results.comparison.statistics import Ranking

LEAST_METHODS = 3
"""Two methods have no diagram; their difference is enough."""

WIDTH = 220
BAR, LINE = 9.0, 14.0
"""Heights in pixels of a level of bars, and of a line of a name."""

NAME_LENGTH = 26
MOST_TICKS = 8


@frozen(kw_only=True)
class Leader:
    """A line from a method to its place on the axis.

    Attributes:
        method: its position in the ranking.
        rank: its average rank, where its line leaves the axis.
        side: `"left"` for the better half, or `"right"`.
        level: how far below the axis its name stands, from 0.
    """

    method: int
    rank: float
    side: str
    level: int


@frozen(kw_only=True)
class Bar:
    """Methods that are not told apart.

    Attributes:
        low: best average rank among them.
        high: worst.
        level: how far below the axis it stands, from 0; bars of a level do not touch.
    """

    low: float
    high: float
    level: int


@frozen(kw_only=True)
class Diagram:
    """A diagram of critical differences.

    Attributes:
        methods: number of methods, the last rank on the axis; the first is 1.
        leaders: one a method, from the best to the worst.
        bars: from the best to the worst.
        critical_difference: how far apart ranks must be.
    """

    methods: int
    leaders: tuple[Leader, ...]
    bars: tuple[Bar, ...]
    critical_difference: float


def is_informative(ranking: Ranking) -> bool:
    """Whether ranks differ, and could be told apart with so many methods and blocks."""
    methods = len(ranking.average_ranks)
    if len(set(ranking.average_ranks)) < 2:
        return False
    return methods >= LEAST_METHODS and ranking.critical_difference < methods - 1


def diagram(ranking: Ranking) -> Diagram:
    """Lay out a ranking; `is_informative` says whether that is worth while."""
    ranks = ranking.average_ranks
    order = sorted(range(len(ranks)), key=lambda method: ranks[method])
    half = (len(order) + 1) // 2
    leaders = [
        Leader(
            method=method,
            rank=ranks[method],
            side="left" if number < half else "right",
            level=number if number < half else len(order) - 1 - number,
        )
        for number, method in enumerate(order)
    ]
    groups = [[ranks[method] for method in group] for group in ranking.groups if len(group) > 1]
    ends: list[float] = []  # of the last bar of each level
    bars = []
    for group in sorted(groups, key=min):
        low, high = min(group), max(group)
        level = next((at for at, end in enumerate(ends) if end < low), len(ends))
        ends[level : level + 1] = [high]
        bars.append(Bar(low=low, high=high, level=level))
    return Diagram(
        methods=len(ranks),
        leaders=tuple(leaders),
        bars=tuple(bars),
        critical_difference=ranking.critical_difference,
    )


def ticks(methods: int) -> Iterator[int]:
    """Ranks that are written at the axis: all of them, or the first, the last and some."""
    step = -(-(methods - 1) // MOST_TICKS)
    for rank in range(1, methods + 1, step):
        if methods - rank >= step or rank == methods:
            yield rank
    if (methods - 1) % step:
        yield methods


def rank_chart(ranking: Ranking, names: Sequence[str], description: str) -> Chart:
    """The diagram as a chart.

    Args:
        ranking: of methods.
        names: of the methods, in the order of the ranking; broken into lines after commas.
        description: alternative text.
    """
    made = diagram(ranking)
    last = made.methods
    room = 0.012 * (last - 1)
    first_name = BAR * (max((bar.level for bar in made.bars), default=-1) + 2)
    lines: list[tuple[str, float, float, float, float]] = [("axis", 1, last, 0, 0)]
    lines += [("axis", rank, rank, 0.0, -5.0) for rank in ticks(last)]
    end = 1 + made.critical_difference
    lines += [("axis", 1.0, end, -34.0, -34.0)]
    lines += [("axis", x, x, -37.0, -31.0) for x in (1.0, end)]
    for bar in made.bars:
        y = BAR * (bar.level + 1)
        lines.append(("bar", bar.low - room, bar.high + room, y, y))
    texts = [(f"{rank}", float(rank), -12.0, "center") for rank in ticks(last)]
    texts.append((f"critical difference {made.critical_difference:.2f}", 1.0, -45.0, "left"))
    bottom = 0.0
    for side, edge, label in (
        ("left", 1 - 2 * room, 1 - 4 * room),
        ("right", last + 2 * room, last + 4 * room),
    ):
        y = first_name
        for leader in sorted(made.leaders, key=lambda leader: leader.level):
            if leader.side != side:
                continue
            name = broken(f"{names[leader.method]} {leader.rank:.2f}", NAME_LENGTH)
            middle = y + LINE * len(name) / 2
            lines.append(("leader", leader.rank, leader.rank, 0.0, middle))
            lines.append(("leader", leader.rank, edge, middle, middle))
            align = "right" if side == "left" else "left"
            for number, line in enumerate(name):
                texts.append((line, label, y + LINE * (number + 0.5), align))
            y += LINE * len(name) + 6
        bottom = max(bottom, y)
    top = -52.0
    x = alt.X("x:Q", scale=alt.Scale(domain=[1, last], nice=False, zero=False), axis=None)
    y_axis = alt.Y("y:Q", scale=alt.Scale(domain=[bottom, top], nice=False), axis=None)
    layers = []
    for kind, thickness in (("axis", 1.2), ("leader", 0.8), ("bar", 3.5)):
        some = [line[1:] for line in lines if line[0] == kind]
        if some:
            columns = dict(zip(("x", "x2", "y", "y2"), zip(*some, strict=True), strict=True))
            rules = alt.Chart(records(**columns)).mark_rule(color=TEXT, strokeWidth=thickness)
            layers.append(rules.encode(x=x, x2="x2:Q", y=y_axis, y2="y2:Q"))
    aligns: tuple[Any, ...] = ("left", "center", "right")
    for align in aligns:
        written = [each[:3] for each in texts if each[3] == align]
        if written:
            columns = dict(zip(("text", "x", "y"), zip(*written, strict=True), strict=True))
            words = alt.Chart(records(**columns)).mark_text(align=align, baseline="middle")
            layers.append(words.encode(x=x, y=y_axis, text="text:N"))
    chart: Chart = alt.layer(*layers).properties(
        width=WIDTH, height=bottom - top, description=description
    )
    return chart
