"""The look that all charts share: fonts, axes, palette.

Charts are drawn in the light colours; a page's style sheet replaces each by its dark twin
(`DARK`), so that one drawing serves a light page, a dark page and paper.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np

from openset_core.report.colours import DASHES, PALETTE, UNKNOWN

SINGLE_COLUMN = 230
"""Width of a plot in pixels that fits one of two columns of a paper, axis aside."""

DOUBLE_COLUMN = 520
"""Width of a plot in pixels that fills a page of text."""

SIGNIFICANT_DIGITS = 5
"""Of the numbers in a chart."""

TEXT, AXIS, GRID, BACKGROUND = "#1f2328", "#57606a", "#e6e8eb", "#fefefe"

DARK = {colour.light: colour.dark for colour in (*PALETTE, UNKNOWN)} | {
    TEXT: "#e6e6e6",
    AXIS: "#a8b0b8",
    GRID: "#343a41",
    BACKGROUND: "#16191d",
}
"""Colour on a dark page of each colour that charts are drawn in."""

CONFIG: dict[str, Any] = {
    "background": None,
    "font": "DejaVu Sans, Verdana, sans-serif",
    "view": {"stroke": None, "continuousWidth": 320, "continuousHeight": 230},
    "axis": {
        "domainColor": AXIS,
        "gridColor": GRID,
        "labelColor": TEXT,
        "labelFontSize": 10,
        "tickColor": AXIS,
        "tickSize": 4,
        "titleColor": TEXT,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
    },
    "header": {"labelColor": TEXT, "labelFontSize": 11, "titleColor": TEXT, "titleFontSize": 11},
    "legend": {
        "labelColor": TEXT,
        "labelFontSize": 10,
        "labelLimit": 320,
        "titleColor": TEXT,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
    },
    "title": {"color": TEXT, "fontSize": 12, "fontWeight": "normal", "anchor": "start"},
    "text": {"color": TEXT},
    "rule": {"color": AXIS},
    "line": {"strokeWidth": 1.8},
    "range": {"category": [colour.light for colour in PALETTE]},
}


def records(**columns: Any) -> alt.InlineData:
    """Columns of equal length as a chart's data, one field a column.

    They stand in the chart as CSV, half as long as JSON. Floats are rounded to
    `SIGNIFICANT_DIGITS`; None and what is not finite become gaps.
    """
    plain = {name: np.asarray(values).tolist() for name, values in columns.items()}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(plain)
    writer.writerows(zip(*(map(_cell, values) for values in plain.values()), strict=True))
    parse = {name: _kind(values) for name, values in plain.items()}
    return alt.InlineData(values=text.getvalue(), format=alt.CsvDataFormat(type="csv", parse=parse))


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.{SIGNIFICANT_DIGITS}g}" if math.isfinite(value) else ""
    return value


def _kind(values: Sequence[Any]) -> str:
    first = next((value for value in values if value is not None), "")
    if isinstance(first, bool):
        return "boolean"
    return "number" if isinstance(first, int | float) else "string"


def names_at(names: Sequence[str]) -> str:
    """What an axis writes at 0, 1, ... and at any place up to the next: a Vega expression.

    Positions instead of names place classes of equal names beside each other.
    """
    return f"{json.dumps(list(names))}[floor(datum.value)]"


def colours(names: Sequence[str], grey: Sequence[str] = ()) -> alt.Scale:
    """The palette by name, in order; names in `grey` get the colour of the unknown."""
    own = [name for name in names if name not in grey]
    given = {name: PALETTE[number % len(PALETTE)].light for number, name in enumerate(own)}
    return alt.Scale(domain=list(names), range=[given.get(name, UNKNOWN.light) for name in names])


def dashes(names: Sequence[str]) -> alt.Scale:
    """A dash pattern for each name, so that lines differ without colour too."""
    patterns = [[float(part) for part in dash.split()] or [1, 0] for dash in DASHES]
    return alt.Scale(
        domain=list(names), range=[patterns[number % len(patterns)] for number in range(len(names))]
    )


HOVER = "hover"
"""Name of marks and parameters that only a pointer makes use of; files of a chart go without."""


def shown_by_legend(field: str, names: Sequence[str]) -> alt.Parameter:
    """All of `names`, until a click on one in the legend takes it out or brings it back.

    Use it in `transform_filter`, and add it to one chart that draws the legend of `field`.
    """
    return alt.selection_point(
        name=f"shown_{field}",
        fields=[field],
        bind="legend",
        toggle="true",
        value=[{field: name} for name in names],
    )


def with_hover(points: alt.Chart, told: Mapping[str, str], size: int = 70) -> alt.Chart:
    """Points that appear one by one, next to the pointer, and tell their numbers; see `HOVER`."""
    near = alt.selection_point(
        name=HOVER, on="pointerover", clear="pointerout", nearest=True, empty=False
    )
    # Written out, since Vega-Lite finds no text fields from the cells around the points.
    row = "(datum.datum || datum)"
    values = []
    for title, said in told.items():
        field, _, form = said.partition("|")
        value = f"{row}[{json.dumps(field)}]"
        value = f"format({value}, {json.dumps(form)})" if form else value
        values.append(f"{json.dumps(title)}: {value}")
    drawn: alt.Chart = (
        points.mark_point(filled=True, size=size, opacity=1)
        .encode(
            fillOpacity=alt.condition(near, alt.value(1), alt.value(0)),
            tooltip=alt.value({"expr": f"{{{', '.join(values)}}}"}),
        )
        .properties(name=HOVER)
        .add_params(near)
    )
    return drawn


def legend_below(
    names: Sequence[str], title: str | None = None, width: int = 320, lines: bool = False
) -> alt.Legend:
    """A legend under a chart, in as many columns as its names leave room for."""
    longest = max(map(len, names), default=1)
    symbols: dict[str, Any] = {"symbolType": "stroke", "symbolSize": 400} if lines else {}
    return alt.Legend(
        title=title,
        orient="bottom",
        columns=max(1, min(len(names), width // (34 + 6 * min(longest, 40)))),
        symbolStrokeWidth=2,
        symbolOpacity=1,
        labelLimit=width,
        **symbols,
    )
