"""Average ranks over trials, and over protocols, with diagrams of critical differences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from attrs import frozen
from markupsafe import Markup

from openset_core.metrics.open_set import METRICS
from openset_core.report.comparison_page.cells import tables_markup
from openset_core.report.comparison_page.critical import (
    LEAST_METHODS,
    Diagram,
    Leader,
    diagram,
    is_telling,
)
from openset_core.report.comparison_page.forest import broken
from openset_core.report.comparison_page.view import Figures, View
from openset_core.report.markup import cards, element, figure, folded, note, scrolling
from openset_core.report.page import Section
from openset_core.report.svg import chart, text
from openset_core.results.comparison.model import Method
from openset_core.results.comparison.statistics import Ranking
from openset_core.results.comparison.tables import p_text, ranking_tables

if TYPE_CHECKING:
    from matplotlib.axes import Axes

AXIS, BARS = 58.0, 9.0
LETTER, BOLD_LETTER = 8.4, 9.4
LINE = 16.0
LONGEST_LINE = 14
"""Letters of a name's line before it is broken."""

AXIS_WIDTH = 200.0
WIDE = 620.0
"""Diagrams that are wider do not stand side by side."""

MOST_TICKS = 8


@frozen(kw_only=True, eq=False)
class Ranked:
    """Methods ranked by one metric."""

    metric: str
    methods: tuple[Method, ...]
    ranking: Ranking
    over: str
    scorers: tuple[str, ...]

    @property
    def title(self) -> str:
        """Of the metric."""
        return METRICS[self.metric].title

    @property
    def tested(self) -> str:
        """What Friedman's test says."""
        p = p_text(self.ranking.p)
        return f"Friedman's test: p {p if p and p[0] == '<' else f'= {p}'}" if p else ""


def ranked(view: View) -> list[Ranked]:
    """Every metric by which there is a ranking."""
    c = view.comparison
    found = ((metric, c.ranking(metric)) for metric in c.metrics)
    return [
        Ranked(
            metric=metric,
            methods=methods,
            ranking=ranking,
            over=c.ranked_over(metric),
            scorers=tuple(view.scorer(method, metric) for method in methods),
        )
        for metric, each in found
        if each
        for methods, ranking in [each]
    ]


def section(view: View) -> Section | None:
    """Diagrams where ranks can be told apart at all, and a table; None for nothing to rank."""
    found = ranked(view)
    if not found:
        return None
    tables = tables_markup(ranking_tables(view.comparison))
    telling = [each for each in found if is_telling(each.ranking)]
    if not telling:
        most = max(found, key=lambda each: len(each.methods))
        return Section("ranks", "Ranks", note(_too_few(most)) + tables)
    wide = [AXIS_WIDTH + sum(_margins(diagram(each.ranking), each)) > WIDE for each in telling]
    body = cards([_card(each) for each in telling], "one" if any(wide) else "")
    body += folded("Average ranks in numbers", tables)
    unit = "seed" if " seeds" in found[0].over else "trial"
    intro = (
        f"Methods are ranked in each {unit}, 1 is best. A bar joins methods that are not told "
        "apart: their average ranks lie closer than Nemenyi's critical difference, which is drawn "
        "above the axis."
    )
    return Section("ranks", "Ranks and critical differences", body, intro, short="Ranks")


def _too_few(found: Ranked) -> str:
    methods, ranking = len(found.methods), found.ranking
    if methods < LEAST_METHODS:
        return "Two methods have no diagram of critical differences; their difference says all."
    if ranking.critical_difference < methods - 1:
        return "All methods share their ranks."
    return (
        f"There is no diagram of critical differences: the average ranks of {methods} methods over "
        f"{found.over} would have to lie {ranking.critical_difference:.2f} apart to be "
        f"told apart, and can lie {methods - 1} apart at most. More of them help."
    )


def _card(found: Ranked) -> Markup:
    made = diagram(found.ranking)
    subtitle = found.over
    if found.tested:
        subtitle += f"; {found.tested}"
    return figure(found.title, scrolling(drawing(made, found)), subtitle)


@frozen(kw_only=True)
class Label:
    """A method's name in a diagram, broken into lines."""

    lines: tuple[str, ...]
    rank: str

    @property
    def height(self) -> float:
        """In the drawing."""
        return LINE * (len(self.lines) + 1) + 8

    @property
    def width(self) -> float:
        """In the drawing."""
        name = max(len(line) for line in self.lines)
        return max(BOLD_LETTER * name, LETTER * len(self.rank))


def label(found: Ranked, each: Leader, longest: int = LONGEST_LINE) -> Label:
    """A method's name, then its scorer and its average rank."""
    rank = f"{found.scorers[each.method]}  {each.rank:.2f}".strip()
    return Label(lines=broken(found.methods[each.method].name, longest), rank=rank)


def _margins(made: Diagram, found: Ranked) -> tuple[float, float]:
    """Room for names at the left and at the right."""
    left, right = (
        max(label(found, each).width for each in made.leaders if each.side == side) + 14
        for side in ("left", "right")
    )
    return left, right


def drawing(made: Diagram, found: Ranked) -> Markup:
    """A diagram as inline SVG."""
    labels = {each.method: label(found, each) for each in made.leaders}
    left, right = _margins(made, found)
    width = left + AXIS_WIDTH + right

    def x(rank: float) -> float:
        return left + (rank - 1) / (made.methods - 1) * (AXIS_WIDTH)

    marks = [
        element("path", d=f"M{x(1):.1f} {AXIS}H{x(made.methods):.1f}", class_="axis strong-axis"),
        _critical(made, x(1), x(1 + made.critical_difference)),
    ]
    for rank in ticks(made.methods):
        marks.append(
            element("path", d=f"M{x(rank):.1f} {AXIS}v-6", class_="axis strong-axis"),
        )
        marks.append(text(f"{rank}", x(rank), AXIS - 11, "middle"))
    for bar in made.bars:
        y = AXIS + BARS * (bar.level + 1)
        marks.append(
            element("path", d=f"M{x(bar.low) - 3:.1f} {y:g}H{x(bar.high) + 3:.1f}", class_="joins")
        )
    bottom = AXIS
    for side in ("left", "right"):
        y = AXIS + BARS * (made.bar_levels + 1)
        for each in sorted(made.leaders, key=lambda leader: leader.level):
            if each.side != side:
                continue
            name = labels[each.method]
            marks += _leader(
                each,
                name,
                x(each.rank),
                y + name.height / 2,
                left if side == "left" else width - right,
            )
            y += name.height
        bottom = max(bottom, y)
    return chart((width, bottom + 4), marks, _in_words(found), kind="diagram")


def _critical(made: Diagram, start: float, end: float) -> Markup:
    """The critical difference above the axis, from rank 1 on."""
    ruler = f"M{start:.1f} 18v8m0 -4H{end:.1f}m0 -4v8"
    said = f"critical difference {made.critical_difference:.2f}"
    return element("g", element("path", d=ruler, class_="ruler"), text(said, start, 12))


def _leader(each: Leader, name: Label, x: float, y: float, edge: float) -> list[Markup]:
    inwards = 1 if each.side == "left" else -1
    way = f"M{x:.1f} {AXIS:g}V{y:.1f}H{edge - 4 * inwards:.1f}"
    marks = [element("path", d=way, class_="leader")]
    anchor = "end" if each.side == "left" else "start"
    top = y - LINE * (len(name.lines) + 1) / 2
    for number, line in enumerate(name.lines):
        at = top + LINE * (number + 0.75)
        marks.append(text(line, edge - 10 * inwards, at, anchor, "strong"))
    at = top + LINE * (len(name.lines) + 0.75)
    marks.append(text(name.rank, edge - 10 * inwards, at, anchor))
    return marks


def ticks(methods: int) -> Iterator[int]:
    """Ranks that are written at the axis: all of them, or the first, the last and some."""
    step = -(-(methods - 1) // MOST_TICKS)
    for rank in range(1, methods + 1, step):
        if methods - rank >= step or rank == methods:
            yield rank
    if (methods - 1) % step:
        yield methods


def _in_words(found: Ranked) -> str:
    ranks = sorted(
        zip(found.ranking.average_ranks, found.methods, strict=True), key=lambda pair: pair[0]
    )
    said = "; ".join(f"{method.title} {rank:.2f}" for rank, method in ranks)
    return (
        f"Average ranks by {found.title} over {found.over}, critical difference "
        f"{found.ranking.critical_difference:.2f}: {said}"
    )


def figures(view: View) -> Figures:
    """A diagram for each metric."""
    from openset_core.report.style import DOUBLE_COLUMN, new_figure

    for found in ranked(view):
        if not is_telling(found.ranking):
            continue
        made = diagram(found.ranking)
        figure_ = new_figure(DOUBLE_COLUMN, 0.85 + 0.09 * made.bar_levels + 0.3 * made.levels)
        _draw(figure_.subplots(), made, found)
        yield f"critical-difference-{found.metric.replace('_', '-')}", figure_


def _draw(axes: Axes, made: Diagram, found: Ranked) -> None:
    """The diagram within axes whose unit is a rank to the right and an inch downwards."""
    bottom = 0.09 * (made.bar_levels + 1) + 0.3 * made.levels
    last = made.methods
    axes.set_axis_off()
    axes.set_ylim(bottom, -0.62)
    axes.set_xlim(1, last)
    line: dict[str, Any] = {"color": "black", "linewidth": 0.8, "clip_on": False}
    axes.plot([1, last], [0, 0], **line)
    for rank in ticks(last):
        axes.plot([rank, rank], [0, -0.06], **line)
        axes.text(rank, -0.09, f"{rank}", ha="center", va="bottom")
    end = 1 + made.critical_difference
    axes.plot([1, 1, 1, end, end, end], [-0.41, -0.33, -0.37, -0.37, -0.33, -0.41], **line)
    axes.text(
        (1 + end) / 2, -0.43, f"CD = {made.critical_difference:.2f}", ha="center", va="bottom"
    )
    for bar in made.bars:
        y = 0.09 * (bar.level + 1)
        room = 0.006 * (last - 1)
        axes.plot(
            [bar.low - room, bar.high + room],
            [y, y],
            color="black",
            linewidth=2.4,
            solid_capstyle="butt",
            clip_on=False,
        )
    reach = 0.02 * (last - 1)
    for each in made.leaders:
        left = each.side == "left"
        edge = 1 - reach if left else last + reach
        y = 0.09 * (made.bar_levels + 1) + 0.3 * (each.level + 0.5)
        axes.plot([each.rank, each.rank, edge], [0, y, y], **{**line, "linewidth": 0.6})
        name = label(found, each, 30)
        axes.text(
            edge - reach / 2 if left else edge + reach / 2,
            y,
            "\n".join([*name.lines, name.rank])
            if len(name.lines) == 1
            else "\n".join([*name.lines[:-1], f"{name.lines[-1]} {name.rank}"]),
            ha="right" if left else "left",
            va="center",
            fontsize=7,
            linespacing=1.1,
        )
