"""Values with intervals, line by line: a chart whose lines are methods, as inline SVG.

A method's name stands above its lines, so that long names fit on a phone too; scorers stand at
the left of their lines. Where few lines lie far from all others, the axis is for the others, and an
arrow at its end says how far off these are.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from attrs import evolve, frozen
from markupsafe import Markup

from openset_core.report.axes import Axis, number_axis
from openset_core.report.markup import element
from openset_core.report.svg import (
    Hover,
    Points,
    chart,
    dots_path,
    in_series,
    text,
)

WIDTH = 440.0
HEADING, LINE, FLOOR = 18.0, 22.0, 26.0
BENEATH = 6.5
"""How far single values lie beneath their line."""

LETTER = 8.4
"""Width of a letter on a phone, in units of the drawing."""

LONGEST_LABEL = 14
"""Letters of a scorer's name up to which it stands beside its line, not above it."""

FAR = 8.0
"""Values are far off from so many median deviations from the median on."""

LEAST_DEVIATION = 0.005
LEAST_SPAN = 0.01
"""An axis shows one percent at least, lest differences look larger than they are."""

ROOM_GAINED = 4.0
"""Lines far off leave the axis only where the others get so many times as much room by that."""

LONGEST_REACH = 3.0
"""An interval reaches so many times as far as the middle one at most; a longer one is cut off."""

MOST_DOTS = 3000
"""Up to so many single values in a chart each can be pointed at."""


@frozen(kw_only=True)
class Extra:
    """Another mark in a line.

    Attributes:
        value: where it is.
        said: what it is, in words.
        kind: class of its look, `"published"` or `"alike"`.
    """

    value: float
    said: str
    kind: str


@frozen(kw_only=True)
class Line:
    """A line of the chart.

    Attributes:
        name: the method; stands above its first line.
        label: the scorer.
        value: a fraction; None where there are only extras.
        low: start of its interval; None where there is none.
        high: end of its interval.
        said: the value in words.
        colour: class of its colour, `"c0"` or `"unknown-colour"`.
        hollow: whether its dot is hollow.
        dots: single values, with what they are.
        extras: further marks.
        beside: short text at the right.
    """

    name: str
    label: str
    value: float | None
    low: float | None = None
    high: float | None = None
    said: str = ""
    colour: str = "c0"
    hollow: bool = False
    dots: tuple[tuple[float, str], ...] = ()
    extras: tuple[Extra, ...] = ()
    beside: str = ""

    @property
    def title(self) -> str:
        """Method and scorer."""
        return f"{self.name} {self.label}".strip()

    @property
    def places(self) -> list[float]:
        """Everything in it but the interval."""
        found = [value for value, _ in self.dots] + [extra.value for extra in self.extras]
        return found if self.value is None else [self.value, *found]

    @property
    def middle(self) -> float:
        """Where it is, on the whole."""
        return self.value if self.value is not None else float(np.mean(self.places))

    @property
    def reach(self) -> float | None:
        """How far its interval goes from its middle; None where there is none."""
        if self.low is None or self.high is None:
            return None
        return max(self.high - self.middle, self.middle - self.low)


@frozen(kw_only=True, eq=False)
class _Layout:
    """Places of a chart's lines."""

    headings: tuple[tuple[str, ...], ...]
    heights: tuple[float, ...]
    beside: bool
    left: float
    right: float
    axis: Axis
    floor: float

    def x(self, value: float) -> float:
        """Horizontal place of a value."""
        return self.left + float(self.axis.place(value)) * (WIDTH - self.left - self.right)


def value_axis(
    lines: Sequence[Line], *, zero: bool = False, ticks: int = 6
) -> tuple[Axis, tuple[Line, ...]]:
    """An axis for most lines, and those that lie far off it.

    Args:
        lines: of a chart.
        zero: whether 0 belongs to the axis, as for differences; else it lies in [0, 1].
        ticks: about so many.
    """
    near, far = _divided(lines, zero)
    reaches = [line.reach for line in near if line.reach is not None]
    most = LONGEST_REACH * float(np.median(reaches)) if reaches else 0.0
    values = [value for line in near for value in line.places]
    for line in near:
        if line.low is not None and line.high is not None:
            values += [max(line.low, line.middle - most), min(line.high, line.middle + most)]
    values += [0.0] if zero else []
    if np.ptp(values) < LEAST_SPAN:
        middle = float(np.mean(values))
        values += [middle - LEAST_SPAN / 2, middle + LEAST_SPAN / 2]
    for count in range(ticks, ticks + 3):
        axis = _axis(values, zero, count)
        if len(axis.ticks) > 1:  # one alone is no scale
            break
    return axis, far


def _axis(values: Sequence[float], zero: bool, ticks: int) -> Axis:
    """An axis of differences, or of shares, which are 0 to 1."""
    axis = number_axis("", values, zero=zero, margin=0.04, as_percent=True, count=ticks)
    if zero:
        edge = 0.04 * (axis.high - axis.low)
        return evolve(axis, low=min(axis.low, -edge), high=max(axis.high, edge))
    low, high = max(axis.low, -0.01), min(axis.high, 1.01)  # less than nothing is not to be had
    there = [at for at, tick in enumerate(axis.ticks) if max(low, 0) <= tick <= min(high, 1)]
    return evolve(
        axis,
        low=low,
        high=high,
        ticks=tuple(axis.ticks[at] for at in there),
        labels=tuple(axis.labels[at] for at in there),
    )


def _divided(lines: Sequence[Line], zero: bool) -> tuple[tuple[Line, ...], tuple[Line, ...]]:
    """Lines that belong on the axis, and those far off where there is much to gain by that."""
    middles = np.array([line.middle for line in lines])
    away = np.abs(middles - np.median(middles))
    spread = max(float(np.median(away)), LEAST_DEVIATION)
    far = tuple(line for line, off in zip(lines, away, strict=True) if off > FAR * spread)
    near = tuple(line for line in lines if line not in far)
    if far and _span(lines, zero) < ROOM_GAINED * _span(near, zero):
        return tuple(lines), ()
    return near, far


def _span(lines: Sequence[Line], zero: bool) -> float:
    values = [value for line in lines for value in line.places] + ([0.0] if zero else [])
    return float(np.ptp(values))


def forest(lines: Sequence[Line], label: str, *, zero: bool = False) -> Markup:
    """The chart.

    Args:
        lines: from top to bottom, those of a method together.
        label: says in words what it shows.
        zero: whether values are differences, with a line at 0.
    """
    axis, far = value_axis(lines, zero=zero)
    layout = _laid_out(lines, axis)
    top = 6.0
    grid = "".join(f"M{layout.x(tick):.1f} {top:g}V{layout.floor:g}" for tick in axis.ticks)
    marks = [element("path", d=grid, class_="grid")]
    if zero:
        rule = f"M{layout.x(0.0):.1f} {top:g}V{layout.floor:g}"
        marks.append(element("path", d=rule, class_="rule"))
    border = f"M{layout.left:g} {layout.floor:g}H{WIDTH - layout.right:g}"
    marks.append(element("path", d=border, class_="axis"))
    for tick, written in zip(axis.ticks, axis.labels, strict=True):
        if zero and tick > 0:
            written = f"+{written}"
        marks.append(text(written, layout.x(tick), layout.floor + 17, "middle"))
    several = sum(len(line.dots) for line in lines) <= MOST_DOTS
    pointed: dict[str, list[tuple[float, float, int, str]]] = {}
    names = list(dict.fromkeys(line.name for line in lines))
    for line, headings, y in zip(lines, layout.headings, layout.heights, strict=True):
        start = y - LINE / 2 - HEADING * len(headings) + 2
        for number, heading in enumerate(headings):
            last = number == len(headings) - 1
            scorer = f" {line.label}" if last and not layout.beside and line.label else ""
            marks.append(_heading(heading, scorer, start + HEADING * (number + 0.7)))
        drawn = _line(line, layout, y, line in far)
        if layout.beside and line.label:
            drawn.append(text(line.label, layout.left - 8, y + 4.5, "end"))
        if line.beside:
            drawn.append(text(line.beside, WIDTH, y + 4.5, "end"))
        marks.append(in_series(element("g", drawn, class_=line.colour), line.label))
        pointed.setdefault(line.label, []).extend(
            (x, at, names.index(line.name), said) for x, at, said in _said(line, layout, y, several)
        )
    points = [
        Points(
            name=series,
            x=np.array([item[0] for item in found]),
            y=np.array([item[1] for item in found]),
            values=(np.array([item[2] for item in found]), [item[3] for item in found]),
        )
        for series, found in pointed.items()
    ]
    hover = Hover(columns=[("", "name"), ("", "text")], series=points, names=names)
    return chart((WIDTH, layout.floor + FLOOR), marks, label, hover)


def _laid_out(lines: Sequence[Line], axis: Axis) -> _Layout:
    longest = max((len(line.label) for line in lines), default=0)
    names = [line.name for line in lines]
    beside = longest <= LONGEST_LABEL and len(set(names)) < len(names)
    headings: list[tuple[str, ...]] = []
    heights: list[float] = []
    y = 2.0
    for number, line in enumerate(lines):
        new = not beside or number == 0 or line.name != lines[number - 1].name
        wide = int(WIDTH / LETTER) - (0 if beside else len(line.label) + 1)
        headings.append(broken(line.name, max(wide, LONGEST_LABEL)) if new else ())
        y += (4 if new and number else 0) + HEADING * len(headings[-1]) + LINE
        heights.append(y - LINE / 2)
    widest = max((len(line.beside) for line in lines), default=0)
    return _Layout(
        headings=tuple(headings),
        heights=tuple(heights),
        beside=beside,
        left=LETTER * longest + 14 if beside else 4.0,
        right=LETTER * widest + 12 if widest else 8.0,
        axis=axis,
        floor=y + 4,
    )


def broken(name: str, longest: int) -> tuple[str, ...]:
    """A name in lines of so many letters at most, broken after commas or at blanks."""
    lines = textwrap.wrap(name.replace(",", ", "), longest, break_on_hyphens=False)
    return tuple(line.replace(", ", ",") for line in lines)


def _heading(name: str, scorer: str, y: float) -> Markup:
    shown = [element("tspan", name, class_="strong"), scorer]
    return element("text", shown, x="2", y=f"{y:.1f}")


def _line(line: Line, layout: _Layout, y: float, far: bool) -> list[Markup]:
    left, right = layout.left, WIDTH - layout.right
    if far:
        return [_arrow(line, layout, y)]
    marks = []
    if line.dots:
        along = np.array([layout.x(value) for value, _ in line.dots])
        dots = dots_path(along, np.full(len(along), y + BENEATH))
        marks.append(element("path", d=dots, class_="dots faint"))
    if line.low is not None and line.high is not None:
        way = f"M{max(layout.x(line.low), left):.1f} {y:g}H{min(layout.x(line.high), right):.1f}"
        if layout.x(line.low) < left:  # goes on beyond the axis
            way += f"M{left + 5:g} {y - 4:g}L{left:g} {y:g}L{left + 5:g} {y + 4:g}"
        if layout.x(line.high) > right:
            way += f"M{right - 5:g} {y - 4:g}L{right:g} {y:g}L{right - 5:g} {y + 4:g}"
        marks.append(element("path", d=way, class_="curve"))
    if line.value is not None:
        look = "operating-point" if line.hollow else "value"
        at = f"{layout.x(line.value):.1f}"
        marks.append(element("circle", cx=at, cy=f"{y:g}", r=4.5, class_=look))
    for extra in line.extras:
        x = layout.x(extra.value)
        if extra.kind == "published":
            shape = f"M{x:.1f} {y - 6:g}l6 6l-6 6l-6 -6z"
            marks.append(element("path", d=shape, class_="published"))
        else:
            tick = f"M{x:.1f} {y - 6:g}V{y + 6:g}"
            marks.append(element("path", d=tick, class_="curve"))
    return marks


def _arrow(line: Line, layout: _Layout, y: float) -> Markup:
    """Says where a line is that does not lie on the axis."""
    below = line.middle < layout.axis.low
    edge = layout.left + 2 if below else WIDTH - layout.right - 2
    away = -1 if below else 1
    shape = f"M{edge:.1f} {y:g}l{-8 * away} -5v10z"
    said = f"{100 * line.middle:.1f}".replace("-", "−")
    words = text(said, edge - 13 * away, y + 4.5, "start" if below else "end")
    return element("g", element("path", d=shape, class_="value"), words)


def _said(line: Line, layout: _Layout, y: float, several: bool) -> list[tuple[float, float, str]]:
    """Place and text of everything in a line that can be pointed at."""
    found: list[tuple[float, float, str]] = []

    def place(value: float) -> float:
        return float(np.clip(layout.x(value), layout.left, WIDTH - layout.right))

    if line.value is not None:
        found.append((place(line.value), y, line.said))
    found += [(place(extra.value), y, extra.said) for extra in line.extras]
    if several:
        found += [(place(value), y + BENEATH, said) for value, said in line.dots]
    return found
