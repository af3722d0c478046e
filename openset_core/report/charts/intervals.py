"""Values with intervals, a row a method: means beside published figures, or differences from zero.

A method's name stands above its rows, so that long names fit on a phone too; scorers stand at the
left of their rows. Where few rows lie far from all others, the axis is for the others, and an arrow
at its end says how far off these are.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
from attrs import field, frozen

from openset_core.report.charts.output import Chart
from openset_core.report.charts.theme import (
    AXIS,
    BACKGROUND,
    DOUBLE_COLUMN,
    TEXT,
    legend_below,
    records,
    shown_by_legend,
)

WIDTH = 300
HEADING, ROW, GAP = 16, 20, 6  # pixels of a line of a name, of a row, and between methods
BELOW = 6  # pixels from a row to its single values
NAME_LENGTH = 44  # letters of a method's name in one line
LETTER = 6.8  # width in pixels of a bold letter
LONGEST_LABEL = 14  # letters of a scorer's name that stands beside its row, not above it

FAR = 8.0
"""A row is far off from so many median deviations from the median on."""

ROOM_GAINED = 4.0
"""Rows far off leave the axis only where the others get so many times as much room by that."""

LEAST_DEVIATION, LEAST_SPAN = 0.005, 0.01
"""An axis shows one percent at least, lest differences look larger than they are."""

LONGEST_REACH = 3.0
"""An interval reaches so many times as far as the median one at most; a longer one is cut off."""

ALL = "all scorers"


@frozen(kw_only=True)
class IntervalRow:
    """A row of the chart; all values are fractions and are shown in percent."""

    method: str
    scorer: str = ""
    value: float | None = None  # None where there are only published figures
    low: float | None = None
    high: float | None = None
    colour: str = TEXT
    hollow: bool = False
    facts: Mapping[str, str] = field(factory=dict)  # what the pointer shows at the value
    singles: Mapping[str, float] = field(factory=dict)  # single values, by name
    published: tuple[tuple[float, str], ...] = ()  # each with its source
    same_rule: tuple[tuple[float, str], ...] = ()  # ours by the rules of published figures
    side_label: str = ""

    @property
    def places(self) -> list[float]:
        """All values of the row but the interval's ends."""
        own = [] if self.value is None else [self.value]
        others = (value for value, _ in (*self.published, *self.same_rule))
        return [*own, *self.singles.values(), *others]

    @property
    def middle(self) -> float:
        """The value, or the mean of what else is there."""
        return self.value if self.value is not None else float(np.mean(self.places))


def axis_range(
    rows: Sequence[IntervalRow], zero: bool = False
) -> tuple[float, float, tuple[IntervalRow, ...]]:
    """Where an axis for most rows begins and ends, and the rows that lie far off it.

    With `zero` 0 belongs to the axis, as for differences; else it lies within [0, 1].
    """

    def values_of(rows: Iterable[IntervalRow]) -> list[float]:
        return [value for row in rows for value in row.places] + ([0.0] if zero else [])

    middles = np.array([row.middle for row in rows])
    away = np.abs(middles - np.median(middles))
    spread = max(float(np.median(away)), LEAST_DEVIATION)
    far = tuple(row for row, off in zip(rows, away, strict=True) if off > FAR * spread)
    near = tuple(row for row in rows if row not in far)
    if far and np.ptp(values_of(rows)) < ROOM_GAINED * np.ptp(values_of(near)):
        near, far = tuple(rows), ()
    ends = [(r.middle, r.low, r.high) for r in near if r.low is not None and r.high is not None]
    reaches = [max(high - middle, middle - low) for middle, low, high in ends]
    most = LONGEST_REACH * float(np.median(reaches)) if reaches else 0.0
    values = values_of(near)
    for middle, low, high in ends:
        values += [max(low, middle - most), min(high, middle + most)]
    low, high = min(values), max(values)
    if high - low < LEAST_SPAN:
        centre = (low + high) / 2
        low, high = centre - LEAST_SPAN / 2, centre + LEAST_SPAN / 2
    margin = 0.05 * (high - low)
    low, high = low - margin, high + margin
    return (low, high, far) if zero else (max(low, -0.01), min(high, 1.01), far)


@frozen(kw_only=True)
class Layout:
    """Where rows and names stand, in pixels from the top."""

    rows: Mapping[tuple[str, str], float]  # by method and scorer
    headings: tuple[tuple[str, float], ...]  # text and place
    beside: bool  # whether scorers stand beside their rows
    height: float

    def place(self, row: IntervalRow) -> float:
        """Of a row; one without a scorer stands in the middle of its method's rows."""
        own = [
            y
            for (method, scorer), y in self.rows.items()
            if method == row.method and row.scorer in ("", scorer)
        ]
        # Names between the rows leave the middle no room.
        return sum(own) / len(own) if self.beside else own[0]


def layout(
    rows: Sequence[IntervalRow],
    longest_label: int = LONGEST_LABEL,
    name_length: int = NAME_LENGTH,
) -> Layout:
    """Lay out the rows of one chart, or of several with shared rows.

    All rows of a method stand together. A row without a scorer stands for all of its method, and
    takes room only where it is alone.
    """
    scorers: dict[str, dict[str, None]] = {}
    for row in rows:
        scorers.setdefault(row.method, {}).update({row.scorer: None} if row.scorer else {})
    labels = [scorer for own in scorers.values() for scorer in own]
    beside = max(map(len, labels), default=0) <= longest_label
    beside = beside and any(len(own) > 1 for own in scorers.values())
    places: dict[tuple[str, str], float] = {}
    headings: list[tuple[str, float]] = []
    y = 0.0
    for number, (method, own) in enumerate(scorers.items()):
        y += GAP if number else 0
        for position, scorer in enumerate(own or [""]):
            if not beside or position == 0:
                name = method if beside else f"{method} {scorer}".strip()
                for line in broken(name, name_length):
                    headings.append((line, y + HEADING / 2))
                    y += HEADING
            places[method, scorer] = y + ROW / 2
            y += ROW
    return Layout(rows=places, headings=tuple(headings), beside=beside, height=y + GAP)


def broken(name: str, longest: int) -> tuple[str, ...]:
    """A name in lines of so many letters at most, broken after commas or at blanks."""
    lines = textwrap.wrap(name.replace(",", ", "), longest, break_on_hyphens=False)
    return tuple(line.replace(", ", ",") for line in lines)


def interval_chart(
    rows: Sequence[IntervalRow],
    description: str,
    *,
    zero: bool = False,
    legend: bool = False,
    width: float = WIDTH,
    places: Layout | None = None,
    names: bool = True,
    title: str | None = None,
) -> Chart:
    """The chart.

    Args:
        rows: from top to bottom, those of a method together.
        description: alternative text.
        zero: whether values are differences, with a line at 0.
        legend: whether several scorers have a legend, where a click takes one out.
        width: of the plot in pixels.
        places: the layout that charts side by side share.
        names: whether methods and scorers are written.
        title: above the plot, for charts side by side, which have no side labels.
    """
    places = places or layout(rows)
    low, high, far = axis_range(rows, zero)
    low, high = 100 * low, 100 * high
    near = [row for row in rows if row not in far]
    colours = {row.scorer: row.colour for row in rows if row.scorer and row.value is not None}
    legend = legend and len(colours) > 1
    # Rows of all scorers have a name too, which no click takes out: an empty one is read as null.
    shown = shown_by_legend("scorer", list(dict.fromkeys(row.scorer or ALL for row in rows)))
    x = alt.X(
        "x:Q",
        scale=alt.Scale(domain=[low, high], nice=False, zero=False),
        axis=alt.Axis(
            title="percentage points" if zero else "%",
            tickCount=max(3, min(6, round(width / 35))),
            labelExpr="(datum.value > 0 ? '+' : '') + datum.label" if zero else "datum.label",
        ),
    )
    y = alt.Y("y:Q", scale=alt.Scale(domain=[places.height, 0], nice=False), axis=None)

    def marks(
        several: Sequence[tuple[IntervalRow, float, Mapping[str, Any]]],
        told: Iterable[str] = (),
        below: float = 0,
    ) -> Any:
        """Chart of marks at values of rows, with further columns of equal names."""
        columns = {name: [more[name] for *_, more in several] for name in several[0][2]}
        if legend:
            columns["scorer"] = [row.scorer or ALL for row, *_ in several]
        data = records(
            x=[100 * value for _, value, _ in several],
            y=[places.place(row) + below for row, *_ in several],
            colour=[row.colour for row, *_ in several],
            **columns,
        )
        chart = alt.Chart(data).encode(x=x, y=y, color=alt.Color("colour:N", scale=None))
        tooltip = [alt.Tooltip(f"{name}:N", title=name) for name in told]
        chart = chart.encode(tooltip=tooltip) if tooltip else chart
        return chart.transform_filter(shown) if legend else chart

    def words(texts: Sequence[tuple[str, float]], at: float, align: Any, **more: Any) -> Any:
        data = records(text=[text for text, _ in texts], y=[y for _, y in texts])
        mark = alt.Chart(data).mark_text(align=align, baseline="middle", **more)
        return mark.encode(x=alt.value(at), y=y, text="text:N")

    layers: list[alt.Chart] = []
    if legend:
        scale = alt.Scale(domain=[*colours], range=[*colours.values()])
        key = legend_below([*colours], "Scorer", int(width))
        unseen = alt.Chart(records(scorer=[*colours])).mark_point(filled=True, opacity=0)
        unseen = unseen.encode(color=alt.Color("scorer:N", scale=scale, legend=key))
        layers.append(unseen.add_params(shown))
    if zero:
        origin = alt.Chart(records(x=[0.0])).mark_rule(color=AXIS, strokeDash=[3, 2])
        layers.append(origin.encode(x=x))
    if names:
        layers.append(words(places.headings, 0, "left", fontWeight="bold"))
        if places.beside:
            labels = [(scorer, at) for (_, scorer), at in places.rows.items() if scorer]
            layers.append(words(labels, -6, "right"))
    singles = [
        (row, value, {"method": row.method, "run": name, "value": f"{100 * value:.1f} %"})
        for row in near
        for name, value in row.singles.items()
    ]
    if singles:
        dots = marks(singles, ["method", "run", "value"], BELOW)
        layers.append(dots.mark_circle(size=14, opacity=0.5, clip=True))
    intervals = [
        (row, row.low, {"end": 100 * row.high})
        for row in near
        if row.low is not None and row.high is not None
    ]
    if intervals:
        layers.append(marks(intervals).mark_rule(strokeWidth=1.8, clip=True).encode(x2="end:Q"))
    for shape, cut, at in (
        ("triangle-left", [r for r, start, _ in intervals if 100 * start < low], low),
        ("triangle-right", [r for r, _, more in intervals if more["end"] > high], high),
    ):
        if cut:
            tips = marks([(row, at / 100, {}) for row in cut])
            layers.append(tips.mark_point(shape=shape, filled=True, size=36, opacity=1))
    facts = list(dict.fromkeys(name for row in near for name in row.facts))
    for hollow in (False, True):
        some = [
            (row, row.value, {name: row.facts.get(name, "") for name in facts})
            for row in near
            if row.value is not None and row.hollow == hollow
        ]
        if some:
            fill = {"fill": BACKGROUND} if hollow else {"filled": True}
            dots = marks(some, facts).mark_point(size=64, opacity=1, strokeWidth=1.6, **fill)
            layers.append(dots)
    extras: list[tuple[str, dict[str, Any]]] = [
        ("same_rule", {"shape": "stroke", "angle": 90, "size": 90}),
        ("published", {"shape": "diamond", "fill": BACKGROUND, "color": TEXT, "size": 70}),
    ]
    for kind, look in extras:
        sourced = [
            (row, value, {"method": row.method, "value": f"{100 * value:.1f} %", "source": source})
            for row in near
            for value, source in getattr(row, kind)
        ]
        if sourced:
            drawn = marks(sourced, ["method", "value", "source"])
            drawn = drawn.mark_point(opacity=1, strokeWidth=1.4, clip=True, **look)
            layers.append(drawn.encode(color=alt.value(TEXT)) if kind == "published" else drawn)
    for row in far:
        side: Any = "left" if 100 * row.middle < low else "right"
        edge, inside = (2, 9) if side == "left" else (width - 2, width - 9)
        told = f"{100 * row.middle:.1f}".replace("-", "−")
        layers.append(words([(told, places.place(row))], inside, side))
        arrow = alt.Chart(records(y=[places.place(row)])).mark_point(
            shape=f"triangle-{side}", filled=True, size=50, opacity=1, color=row.colour
        )
        layers.append(arrow.encode(x=alt.value(edge), y=y))
    labels = [(row.side_label, places.place(row)) for row in rows if row.side_label]
    if labels and title is None:  # side by side there is no room; colours say as much
        layers.append(words(labels, width + 8, "left"))
    more = {} if title is None else {"title": alt.Title(title, frame="group")}
    chart: Chart = alt.layer(*layers).properties(
        width=width, height=places.height, description=description, **more
    )
    return chart


def interval_panels(
    panels: Mapping[str, Sequence[IntervalRow]], description: str, *, zero: bool = False
) -> Chart:
    """Charts by title side by side with shared rows, names at the first only; as wide as a page."""
    # A panel may lack some rows; the order is that of the panel with the most.
    fullest = sorted(panels.values(), key=len, reverse=True)
    width = (DOUBLE_COLUMN - 30 * (len(panels) - 1)) / len(panels)
    letters = max(16, round(width / LETTER))
    places = layout([row for rows in fullest for row in rows], NAME_LENGTH, letters)
    charts: list[Any] = [
        interval_chart(
            rows,
            description,
            zero=zero,
            width=width,
            places=places,
            names=number == 0,
            title=title,
        )
        for number, (title, rows) in enumerate(panels.items())
    ]
    together: Chart = alt.hconcat(*charts, spacing=30).properties(description=description)
    return together
