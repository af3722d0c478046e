"""Charts as files, and as what a page embeds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import altair as alt

from openset_core.files import atomic_write
from openset_core.report.charts.theme import CONFIG

Chart = alt.TopLevelMixin
FORMATS = ("png", "svg", "pdf")
PIXELS_PER_INCH = 300


def specification(chart: Chart) -> dict[str, Any]:
    """The Vega-Lite specification of a chart in the shared look."""
    values: dict[str, Any] = chart.to_dict(validate=False)
    return values | {"config": CONFIG}


def save_chart(chart: Chart, stem: Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write a chart whole as `stem.png` and so on.

    Args:
        chart: what to write.
        stem: path without suffix.
        formats: of `png`, `svg` and `pdf`.

    Raises:
        OpensetError: the folder cannot be written.
    """
    import vl_convert

    text = json.dumps(specification(chart))
    written = []
    for suffix in formats:
        path = stem.with_name(f"{stem.name}.{suffix}")
        if suffix == "png":
            content = vl_convert.vegalite_to_png(text, ppi=PIXELS_PER_INCH, scale=1)
        elif suffix == "svg":
            content = vl_convert.vegalite_to_svg(text).encode()
        else:
            content = vl_convert.vegalite_to_pdf(text)
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
        written.append(path)
    return written
