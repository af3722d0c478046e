"""Images in rows, with a line or two of text below each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
import numpy.typing as npt

from openset_core.report.charts.output import Chart
from openset_core.report.charts.theme import TEXT, records
from openset_core.report.images import data_uri

Pixels = npt.NDArray[np.uint8]

CHARACTER = 4.6
"""Width of a character of the captions, in pixels."""


def image_grid(
    images: Sequence[Pixels],
    captions: Sequence[Sequence[str]],
    *,
    columns: int = 8,
    side: int = 64,
    description: str,
) -> Chart:
    """Images of any sizes, each fitted into a square of its own.

    Args:
        images: uint8 [H, W, C] each.
        captions: lines of text below each image; cut where they are too wide.
        columns: images in a row.
        side: of an image, in pixels.
        description: alternative text.
    """
    most = int((side + 4) / CHARACTER)
    lines = max(map(len, captions), default=0)
    cell, row = side + 6, side + 6 + 10 * lines
    places = np.arange(len(images))
    left, top = places % columns * cell, places // columns * row
    width, height = min(len(images), columns) * cell, -(-len(images) // columns) * row
    bare: dict[str, Any] = {"axis": None, "title": None}
    x = alt.X("x:Q", scale=alt.Scale(domain=[0, width]), **bare)
    y = alt.Y("y:Q", scale=alt.Scale(domain=[height, 0]), **bare)
    pictures = alt.Chart(
        records(x=left + side / 2, y=top + side / 2, image=[data_uri(each) for each in images])
    )
    layers = [
        # Small images keep their pixels.
        pictures.mark_image(width=side, height=side, smooth=False).encode(x=x, y=y, url="image:N")
    ]
    if lines:
        texts = [
            (left[at] + side / 2, top[at] + side + 8 + 10 * line, cut(text, most))
            for at, caption in enumerate(captions)
            for line, text in enumerate(caption)
        ]
        named = alt.Chart(
            records(**dict(zip(("x", "y", "text"), zip(*texts, strict=True), strict=True)))
        )
        layers.append(named.mark_text(fontSize=7.5, color=TEXT).encode(x=x, y=y, text="text:N"))
    return alt.LayerChart(layer=layers).properties(
        width=width, height=height, description=description
    )


def cut(text: str, most: int) -> str:
    """A text of at most so many characters."""
    return text if len(text) <= most else text[: most - 1] + "…"
