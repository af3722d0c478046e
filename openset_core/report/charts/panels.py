"""Charts side by side as one figure, and images in rows and columns."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
import numpy.typing as npt

from openset_core.report.charts.output import Chart
from openset_core.report.charts.theme import DOUBLE_COLUMN, names_at, records
from openset_core.report.colours import colour
from openset_core.report.images import data_uri

LETTERS = "abcdefghijklmnopqrstuvwxyz"
CHARACTER = 6.5
"""Width in pixels of a letter, on average."""

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
) -> Chart:
    """Images in a grid.

    Args:
        images: row, column and pixels, uint8 [H, W, 1 or 3].
        description: what the whole shows, for those who cannot see it.
        rows: title of each row, at its left.
        columns: title of each column, above it.
        below: title of each column, below it.
        symbols: row, column and name of a symbol that stands there.
    """
    size = min(60.0, DOUBLE_COLUMN / len(columns))

    def axis(titles: Sequence[str], **more: Any) -> Any:
        if not any(titles):
            return None
        plain: dict[str, Any] = {
            "domain": False,
            "ticks": False,
            "grid": False,
            "title": None,
            "labelPadding": 4,
        }
        label = f"split({names_at(titles)}, '\\n')"
        return alt.Axis(labelExpr=label, labelAngle=0, labelLimit=200, **plain, **more)

    def place(row: Any, column: Any, top: Sequence[str], orient: str) -> dict[str, Any]:
        return {
            "x": alt.X(
                "column:O",
                scale=alt.Scale(domain=list(range(len(columns))), paddingInner=0.06),
                axis=axis(top, orient=orient),
            ),
            "y": alt.Y(
                "row:O",
                scale=alt.Scale(domain=list(range(len(rows))), paddingInner=0.06),
                axis=axis(rows),
            ),
        }

    numbers = list(range(len(columns)))
    layers = [
        alt.Chart(
            records(
                row=[row for row, _, _ in images],
                column=[column for _, column, _ in images],
                url=[data_uri(pixels) for _, _, pixels in images],
            )
        )
        .mark_image(width=0.94 * size, height=0.94 * size, smooth=False)
        .encode(**place(rows, numbers, columns, "top"), url="url:N")
    ]
    if symbols:
        names = list(dict.fromkeys(symbol for _, _, symbol in symbols))
        layers.append(
            alt.Chart(
                records(
                    row=[row for row, _, _ in symbols],
                    column=[column for _, column, _ in symbols],
                    symbol=[symbol for _, _, symbol in symbols],
                )
            )
            .mark_point(filled=True, size=90, opacity=1, color=colour(1).light)
            .encode(
                **place(rows, numbers, columns, "top"),
                shape=alt.Shape(
                    "symbol:N", scale=alt.Scale(domain=names, range=names), legend=None
                ),
            )
        )
    if below:
        layers.append(
            alt.Chart(records(row=[0] * len(columns), column=numbers))
            .mark_point(opacity=0)
            .encode(**place(rows, numbers, below, "bottom"))
        )
    chart: alt.LayerChart = alt.layer(*layers).resolve_axis(x="independent" if below else "shared")
    return chart.properties(
        width=size * len(columns), height=size * len(rows), description=description
    )
