"""Diagrams of critical differences: where everything stands in them.

After Demšar, "Statistical comparisons of classifiers over multiple data sets", JMLR 7, 2006: an
axis of average ranks, a line from each method to its place on it, and a bar over methods that are
not told apart.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from openset_core.results.comparison.statistics import Ranking

LEAST_METHODS = 3
"""Two methods have no diagram; their difference says all."""


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

    @property
    def levels(self) -> int:
        """Levels of names."""
        return max(leader.level for leader in self.leaders) + 1

    @property
    def bar_levels(self) -> int:
        """Levels of bars."""
        return max((bar.level for bar in self.bars), default=-1) + 1


def is_telling(ranking: Ranking) -> bool:
    """Whether ranks differ, and could be told apart with so many methods and blocks."""
    methods = len(ranking.average_ranks)
    if len(set(ranking.average_ranks)) < 2:
        return False
    return methods >= LEAST_METHODS and ranking.critical_difference < methods - 1


def diagram(ranking: Ranking) -> Diagram:
    """Lay out a ranking; `is_telling` says whether that is worth while."""
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
    return Diagram(
        methods=len(ranks),
        leaders=tuple(leaders),
        bars=tuple(
            _bars([[ranks[m] for m in group] for group in ranking.groups if len(group) > 1])
        ),
        critical_difference=ranking.critical_difference,
    )


def _bars(groups: Sequence[Sequence[float]]) -> list[Bar]:
    """Bars on as few levels as keep them apart."""
    ends: list[float] = []
    bars = []
    for group in sorted(groups, key=min):
        low, high = min(group), max(group)
        level = next((at for at, end in enumerate(ends) if end < low), len(ends))
        ends[level : level + 1] = [high]
        bars.append(Bar(low=low, high=high, level=level))
    return bars
