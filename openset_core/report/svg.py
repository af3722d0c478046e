"""Charts as inline SVG: they follow the page's colours, print, and need no script to be read.

A `Frame` places values in a drawing; functions make marks; `chart` puts them together with what
the page's script shows when a point is near the pointer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from attrs import field, frozen
from markupsafe import Markup

from openset_core.report.axes import Axis
from openset_core.report.markup import Content, element

Floats = npt.NDArray[np.float64]


@frozen(kw_only=True)
class Frame:
    """A drawing with two axes; lengths are in its own units, about pixels on a desktop.

    Attributes:
        x: the horizontal axis.
        y: the vertical axis.
        width: of the whole drawing.
        height: of the whole drawing.
        left: room for the labels of the vertical axis; what they need by default.
        right: room at the right.
        top: room at the top.
        bottom: room for the labels of the horizontal axis.
    """

    x: Axis
    y: Axis
    width: float = 440
    height: float = 330
    left: float = field()
    right: float = 12
    top: float = 12
    bottom: float = 46

    @left.default
    def _room_for_labels(self) -> float:
        return room_beside(self.y)

    def px(self, values: npt.ArrayLike) -> Floats:
        """Places of horizontal values."""
        return self.left + self.x.place(values) * (self.width - self.left - self.right)

    def py(self, values: npt.ArrayLike) -> Floats:
        """Places of vertical values."""
        floor = self.height - self.bottom
        return floor - self.y.place(values) * (floor - self.top)


def room_beside(axis: Axis) -> float:
    """Room that the labels and the title of a vertical axis need."""
    longest = max(map(len, axis.labels), default=0)
    return (30.0 if axis.title else 8.0) + 8.0 * max(longest, 2)


def curve_path(x: Floats, y: Floats) -> str:
    """Path data of a line through points of a drawing; where one is not finite, it breaks."""
    parts, drawing = [], False
    for a, b in zip(x.tolist(), y.tolist(), strict=True):
        finite = abs(a) < 1e9 and abs(b) < 1e9  # false for NaN too
        if finite:
            parts.append(f"{'' if drawing else 'M'}{_short(a)} {_short(b)}")
        drawing = finite
    return " ".join(parts)


def steps_path(edges: Floats, tops: Floats, floor: float) -> str:
    """Path data of an outline of bars that stand side by side on a floor.

    Args:
        edges: horizontal places of the bars' sides, [n + 1].
        tops: vertical places of their tops, [n].
        floor: vertical place of their feet.
    """
    parts = [f"M{_short(edges[0])} {_short(floor)}"]
    for right, top in zip(edges[1:].tolist(), tops.tolist(), strict=True):
        parts.append(f"V{_short(top)}H{_short(right)}")
    return "".join(parts) + f"V{_short(floor)}Z"


def dots_path(x: Floats, y: Floats) -> str:
    """Path data of round dots, for a line with round ends; compact where there are thousands."""
    pairs = zip(x.tolist(), y.tolist(), strict=True)
    return "".join(f"M{_short(a)} {_short(b)}h0" for a, b in pairs)


def triangle_path(x: float, y: float, size: float = 7.0) -> str:
    """Path data of a triangle around a place."""
    half, drop = _short(size), _short(size * 0.75)
    return (
        f"M{_short(x)} {_short(y - size)}l{half} {_short(size + size * 0.75)}h-{_short(2 * size)}z"
        if drop
        else ""
    )


def _short(value: float) -> str:
    """A place in a drawing to a tenth of a unit."""
    text = f"{value:.1f}"
    return text[:-2] if text.endswith(".0") else text


def frame_marks(frame: Frame, *, grid: bool = True) -> list[Markup]:
    """Grid, tick labels and titles of a frame's axes."""
    floor, right = frame.height - frame.bottom, frame.width - frame.right
    columns, rows = frame.px(frame.x.ticks), frame.py(frame.y.ticks)
    lines = [f"M{_short(x)} {_short(frame.top)}V{_short(floor)}" for x in columns]
    lines += [f"M{_short(frame.left)} {_short(y)}H{_short(right)}" for y in rows]
    border = f"M{_short(frame.left)} {_short(frame.top)}V{_short(floor)}H{_short(right)}"
    marks = [element("path", d="".join(lines), class_="grid")] if grid and lines else []
    marks.append(element("path", d=border, class_="axis"))
    for x, label in zip(columns, frame.x.labels, strict=True):
        marks.append(text(label, x, floor + 17, "middle"))
    for y, label in zip(rows, frame.y.labels, strict=True):
        marks.append(text(label, frame.left - 7, y + 4.2, "end"))
    if frame.x.title:
        marks.append(text(frame.x.title, (frame.left + right) / 2, frame.height - 7, "middle"))
    if frame.y.title:
        middle = (frame.top + floor) / 2
        turned = f"translate(12 {_short(middle)}) rotate(-90)"
        marks.append(element("text", frame.y.title, text_anchor="middle", transform=turned))
    return marks


def text(
    content: str, x: float, y: float, anchor: str = "start", kind: str | None = None
) -> Markup:
    """Text at a place of a drawing.

    Args:
        content: the text.
        x: horizontal place of its anchor.
        y: vertical place of its base line.
        anchor: `"start"`, `"middle"` or `"end"`.
        kind: class of the element, for its look.
    """
    shift = None if anchor == "start" else anchor
    return element("text", content, x=_short(x), y=_short(y), text_anchor=shift, class_=kind)


def in_series(mark: Markup, name: str) -> Markup:
    """Marks that vanish when the series of this name is hidden."""
    return element("g", mark, data_series=name)


@frozen(kw_only=True, eq=False)
class Points:
    """What is said of points near the pointer.

    Attributes:
        name: of the series, its first line; hidden with it.
        x: horizontal places in the drawing, [n].
        y: vertical places, [n].
        values: one array a column, [n] each; see `Hover.columns`.
        colour: name of a variable of the style sheet, `"c0"` or `"unknown"`.
    """

    name: str
    x: Floats
    y: Floats
    values: Sequence[npt.NDArray[Any] | Sequence[str]]
    colour: str = ""


@frozen(kw_only=True)
class Hover:
    """What a chart says of the point nearest to the pointer, or chosen by the arrow keys.

    Attributes:
        columns: title and form of each value; forms are `"percent"` for fractions, `"number"`,
            `"text"`, and `"name"` for positions in `names`.
        series: points of each series.
        names: texts that values of the form `"name"` stand for.
        reach: distance in the drawing beyond which no point is near; 0 for none.
    """

    columns: Sequence[tuple[str, str]]
    series: Sequence[Points]
    names: Sequence[str] = ()
    reach: float = 0

    def to_json(self) -> str:
        """For the page's script; safe inside an element of HTML."""
        data: dict[str, Any] = {
            "columns": self.columns,
            "series": [
                {
                    "name": points.name,
                    "colour": points.colour,
                    "x": _numbers(points.x, 1),
                    "y": _numbers(points.y, 1),
                    "values": [
                        _values(column, form)
                        for column, (_, form) in zip(points.values, self.columns, strict=True)
                    ],
                }
                for points in self.series
            ],
        }
        if self.names:
            data["names"] = list(self.names)
        if self.reach:
            data["reach"] = self.reach
        written = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return written.replace("<", "\\u003c").replace("&", "\\u0026")


def _numbers(values: npt.ArrayLike, decimals: int) -> list[float | int | None]:
    found: list[float | int | None] = []
    for value in np.asarray(values, dtype=np.float64).tolist():
        if not np.isfinite(value):
            found.append(None)
            continue
        rounded = round(value, decimals)
        found.append(int(rounded) if rounded == int(rounded) else rounded)
    return found


def _values(column: npt.NDArray[Any] | Sequence[str], form: str) -> list[Any]:
    if form == "text":
        return list(column)
    if form == "percent":
        return _numbers(column, 5)  # type: ignore[arg-type]
    if form == "name":
        return [int(value) for value in column]
    return [
        None if not np.isfinite(value) else float(f"{value:.6g}")
        for value in np.asarray(column, dtype=np.float64).tolist()
    ]


def chart(
    frame_size: tuple[float, float],
    marks: Sequence[Content],
    label: str,
    hover: Hover | None = None,
    kind: str = "",
) -> Markup:
    """A drawing with its text alternative.

    Args:
        frame_size: width and height.
        marks: in the order in which they are drawn.
        label: says in words what the chart shows.
        hover: what is said near the pointer.
        kind: a further class, for its look.
    """
    width, height = frame_size
    drawing = element(
        "svg",
        *marks,
        class_=f"chart {kind}".strip(),
        role="img",
        aria_label=label,
        viewBox=f"0 0 {_short(width)} {_short(height)}",
    )
    if hover is None:
        return drawing
    data = element("script", Markup(hover.to_json()), type="application/json", data_chart=True)
    return drawing + data


def line_key(colour: str, dashes: str = "") -> Markup:
    """A short piece of a curve, for a legend."""
    mark = element("path", d="M1 5H25", class_="curve", stroke_dasharray=dashes or None)
    return element("svg", mark, class_=colour, viewBox="0 0 26 10", aria_hidden="true")


def dot_key(colour: str) -> Markup:
    """A dot, for a legend."""
    mark = element("circle", cx=5, cy=5, r=4.5, class_="fill")
    return element("svg", mark, class_=f"dot {colour}", viewBox="0 0 10 10", aria_hidden="true")


def ring_key(colour: str) -> Markup:
    """A hollow dot, for a legend."""
    mark = element("circle", cx=5, cy=5, r=3.75, class_="operating-point")
    return element("svg", mark, class_=f"dot {colour}", viewBox="0 0 10 10", aria_hidden="true")


def triangle_key() -> Markup:
    """A triangle, for a legend."""
    mark = element("path", d=triangle_path(5, 5.4, 4.6), class_="mark")
    return element("svg", mark, class_="dot", viewBox="0 0 10 10", aria_hidden="true")


def legend(entries: Sequence[tuple[Markup, str]]) -> Markup:
    """Keys and what they stand for."""
    return element(
        "ul", [element("li", key, element("span", name)) for key, name in entries], class_="legend"
    )


def toggles(title: str, entries: Sequence[tuple[Markup, str]]) -> Markup:
    """A legend whose entries can be ticked off, in all charts of the page at once."""
    boxes = [
        element(
            "label",
            element("input", type="checkbox", checked=True, hidden=True, data_toggles=name),
            key,
            element("span", name),
        )
        for key, name in entries
    ]
    return element("fieldset", element("legend", title), boxes, class_="legend")
