"""Charts side by side as one figure, and images in rows and columns."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
import numpy.typing as npt

from openset_core.report.charts.output import Chart
from openset_core.report.charts.theme import DOUBLE_COLUMN, TEXT, names_at, records
from openset_core.report.colours import colour
from openset_core.report.images import data_uri

LETTERS = "abcdefghijklmnopqrstuvwxyz"
CHARACTER = 6.5
"""Width in pixels of a letter, on average."""

SMALL = 4.6
"""Width in pixels of a letter under an image, at most."""

Pixels = npt.NDArray[np.uint8]


def panels(
    charts: Sequence[tuple[str, Any]], description: str, *, columns: int = 4, shared: bool = True
) -> Chart:
    """Charts side by side, each under its title, which gets a letter where there are several.

    Args:
        charts: title and chart of each panel.
        description: what the whole shows, for those who cannot see it.
        columns: most panels side by side; more go on below.
        shared: whether all have one legend.
    """
    lines = max(12, int((panel_width(len(charts), columns) + 40) / CHARACTER))
    titled = []
    for number, (title, chart) in enumerate(charts):
        line = f"({LETTERS[number % 26]}) {title}".strip() if len(charts) > 1 else title
        text = textwrap.wrap(line, lines)
        titled.append(chart.properties(title=text) if text else chart)
    channels = ("color", "shape", "stroke", "strokeDash")
    whole: alt.ConcatChart = (
        alt.concat(*titled, columns=columns, spacing=18)
        .resolve_scale(**dict.fromkeys(channels, "shared" if shared else "independent"))
        .properties(description=description)
    )
    return whole


def panel_width(count: int, columns: int = 4, most: int = 230) -> float:
    """Pixels of each of some panels beside one another, without its vertical axis."""
    beside = min(count, columns)
    return min(most, (DOUBLE_COLUMN + 40) / beside - 40)


def image_table(
    images: Sequence[tuple[int, int, Pixels]],
    description: str,
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    below: Sequence[str] = (),
    symbols: Sequence[tuple[int, int, str]] = (),
    captions: Sequence[Sequence[str]] = (),
    side: float = 60.0,
) -> Chart:
    """Images in a grid, each fitted into a square.

    Args:
        images: row, column and pixels, uint8 [H, W, 1 or 3].
        description: what the whole shows, for those who cannot see it.
        rows: title of each row, at its left.
        columns: title of each column, above it.
        below: title of each column, below it.
        symbols: row, column and name of a symbol that stands there.
        captions: lines of text under each image; cut where they are too wide.
        side: of a square in pixels, where there is room.
    """
    size = min(side, DOUBLE_COLUMN / len(columns))
    lines = max(map(len, captions), default=0)
    step = size + 10 * lines + (4 if lines else 0)

    def axis(titles: Sequence[str], **more: Any) -> Any:
        if not any(titles):
            return None
        label = f"split({names_at(titles)}, '\\n')"
        plain: dict[str, Any] = {"domain": False, "ticks": False, "grid": False, "title": None}
        plain |= {"labelAngle": 0, "labelLimit": 200, "labelPadding": 4}
        return alt.Axis(labelExpr=label, **plain, **more)

    def scale(titles: Sequence[str]) -> alt.Scale:
        return alt.Scale(domain=list(range(len(titles))), padding=0)

    def place(at: Sequence[tuple[int, int]], more: dict[str, Any], beyond: bool = False) -> Any:
        row, column = zip(*at, strict=True)
        top = axis(below, orient="bottom") if beyond else axis(columns, orient="top")
        return alt.Chart(records(row=row, column=column, **more)).encode(
            x=alt.X("column:O", scale=scale(columns), axis=top),
            y=alt.Y("row:O", scale=scale(rows), axis=axis(rows)),
        )

    at = [(row, column) for row, column, _ in images]
    # Small images keep their pixels.
    layers = [
        place(at, {"url": [data_uri(pixels) for _, _, pixels in images]})
        .mark_image(width=0.94 * size, height=0.94 * size, smooth=False, yOffset=(size - step) / 2)
        .encode(url="url:N")
    ]
    for line in range(lines):
        texts = [_cut(each[line], int((size + 4) / SMALL)) for each in captions]
        down = size - step / 2 + 6 + 10 * line
        layers.append(
            place(at, {"text": texts})
            .mark_text(fontSize=7.5, color=TEXT, dy=down)
            .encode(text="text:N")
        )
    if symbols:
        names = list(dict.fromkeys(symbol for _, _, symbol in symbols))
        there = [(row, column) for row, column, _ in symbols]
        shape = alt.Shape("symbol:N", scale=alt.Scale(domain=names, range=names), legend=None)
        layers.append(
            place(there, {"symbol": [symbol for _, _, symbol in symbols]})
            .mark_point(filled=True, size=90, opacity=1, color=colour(1).light)
            .encode(shape=shape)
        )
    if below:
        ends = [(0, column) for column in range(len(columns))]
        layers.append(place(ends, {}, beyond=True).mark_point(opacity=0))
    chart: alt.LayerChart = alt.layer(*layers).resolve_axis(x="independent" if below else "shared")
    return chart.properties(
        width=size * len(columns), height=step * len(rows), description=description
    )


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
