"""The look that all charts share: fonts, axes, palette.

Charts are drawn in the light colours; a page's style sheet replaces each by its dark twin
(`DARK`), so that one drawing serves a light page, a dark page and paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from openset_core.report.colours import DASHES, PALETTE, UNKNOWN

SINGLE_COLUMN = 230
"""Width of a plot in pixels that fits one of two columns of a paper, axis aside."""

DOUBLE_COLUMN = 520
"""Width of a plot in pixels that fills a page of text."""

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
    """Columns of equal length as a chart's data; NumPy values become plain ones."""
    import numpy as np

    plain = [np.asarray(values).tolist() for values in columns.values()]
    return alt.InlineData(
        values=[dict(zip(columns, row, strict=True)) for row in zip(*plain, strict=True)]
    )


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


def hide_by_legend(field: str) -> alt.Parameter:
    """A selection by clicking in the legend; use it in `alt.condition` on opacity."""
    return alt.selection_point(fields=[field], bind="legend")
