"""Diagrams of critical differences.

After Demšar, "Statistical comparisons of classifiers over multiple data sets", JMLR 7, 2006: an
axis of average ranks, a line from each method to its place on it, and a bar over methods that are
not told apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
from attrs import frozen

from openset_core.report.charts.intervals import broken
from openset_core.report.charts.output import Chart
from openset_core.report.charts.theme import TEXT, records
from openset_core.results.comparison.statistics import Ranking

LEAST_METHODS = 3  # the difference of two is enough
WIDTH = 220
BAR, LINE = 9.0, 14.0  # pixels of a level of bars, and of a line of a name
NAME_LENGTH = 26  # letters in a line
MOST_TICKS = 8


@frozen(kw_only=True)
class Leader:
    """A line from a method to its place on the axis."""

    method: int  # its position in the ranking
    rank: float
    side: str  # `left` for the better half, or `right`
    level: int  # how far below the axis its name stands, from 0


@frozen(kw_only=True)
class Bar:
    """Methods that are not told apart: their ranks, and how far below the axis the bar stands."""

    low: float
    high: float
    level: int  # bars of a level do not touch


@frozen(kw_only=True)
class Diagram:
    """A diagram of critical differences, from the best to the worst."""

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
        leaders=tuple(leaders),
        bars=tuple(bars),
        critical_difference=ranking.critical_difference,
    )


def ticks(methods: int) -> list[int]:
    """Ranks that are written at the axis: all of them, or the first, the last and some."""
    step = -(-(methods - 1) // MOST_TICKS)
    return [rank for rank in range(1, methods, step) if methods - rank >= step] + [methods]


def rank_chart(ranking: Ranking, names: Sequence[str], description: str) -> Chart:
    """The diagram as a chart; names are in the order of the ranking."""
    made = diagram(ranking)
    last = len(names)
    room = 0.012 * (last - 1)
    end = 1 + made.critical_difference
    lines: dict[str, list[tuple[float, ...]]] = {"axis": [], "leader": [], "bar": []}
    lines["axis"] = [
        (1, last, 0, 0),
        *((rank, rank, 0.0, -5.0) for rank in ticks(last)),
        (1.0, end, -34.0, -34.0),
        *((x, x, -37.0, -31.0) for x in (1.0, end)),
    ]
    for bar in made.bars:
        y = BAR * (bar.level + 1)
        lines["bar"].append((bar.low - room, bar.high + room, y, y))
    texts: dict[Any, list[tuple[str, float, float]]] = {"left": [], "center": [], "right": []}
    texts["left"].append((f"critical difference {made.critical_difference:.2f}", 1.0, -45.0))
    texts["center"] += [(f"{rank}", float(rank), -12.0) for rank in ticks(last)]
    bottom = 0.0
    for side, align, axis_end, away in (("left", "right", 1, -room), ("right", "left", last, room)):
        y = BAR * (max((bar.level for bar in made.bars), default=-1) + 2)
        for leader in sorted(made.leaders, key=lambda leader: leader.level):
            if leader.side != side:
                continue
            name = broken(f"{names[leader.method]} {leader.rank:.2f}", NAME_LENGTH)
            middle = y + LINE * len(name) / 2
            lines["leader"] += [
                (leader.rank, leader.rank, 0.0, middle),
                (leader.rank, axis_end + 2 * away, middle, middle),
            ]
            for number, line in enumerate(name):
                texts[align].append((line, axis_end + 4 * away, y + LINE * (number + 0.5)))
            y += LINE * len(name) + 6
        bottom = max(bottom, y)
    top = -52.0
    x = alt.X("x:Q", scale=alt.Scale(domain=[1, last], nice=False, zero=False), axis=None)
    y_axis = alt.Y("y:Q", scale=alt.Scale(domain=[bottom, top], nice=False), axis=None)

    def columns(names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> alt.Chart:
        values = dict(zip(names, zip(*rows, strict=True), strict=True))
        return alt.Chart(records(**values))

    layers = []
    for kind, thickness in (("axis", 1.2), ("leader", 0.8), ("bar", 3.5)):
        if lines[kind]:
            rules = columns(("x", "x2", "y", "y2"), lines[kind])
            rules = rules.mark_rule(color=TEXT, strokeWidth=thickness)
            layers.append(rules.encode(x=x, x2="x2:Q", y=y_axis, y2="y2:Q"))
    for align, written in texts.items():
        if written:
            words = columns(("text", "x", "y"), written)
            words = words.mark_text(align=align, baseline="middle")
            layers.append(words.encode(x=x, y=y_axis, text="text:N"))
    chart: Chart = alt.layer(*layers).properties(
        width=WIDTH, height=bottom - top, description=description
    )
    return chart
