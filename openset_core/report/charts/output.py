"""Charts as files, and as what a page embeds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import altair as alt

from openset_core.files import atomic_write
from openset_core.report.charts.theme import CONFIG, HOVER

Chart = alt.TopLevelMixin
FORMATS = ("png", "svg", "pdf")
PIXELS_PER_INCH = 300


def specification(chart: Chart) -> dict[str, Any]:
    """The Vega-Lite specification of a chart in the shared look."""
    values: dict[str, Any] = chart.to_dict(validate=False)
    return values | {"config": CONFIG}


def save_chart(chart: Chart, stem: Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write a chart whole as `stem.png` and so on."""
    import vl_convert

    drawing = vl_convert.vegalite_to_svg(json.dumps(_on_paper(specification(chart))))
    written = []
    for suffix in formats:
        path = stem.with_name(f"{stem.name}.{suffix}")
        if suffix == "png":
            content = vl_convert.svg_to_png(drawing, ppi=PIXELS_PER_INCH, scale=1)
        elif suffix == "svg":
            content = drawing.encode()
        else:
            content = vl_convert.svg_to_pdf(drawing)
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
        written.append(path)
    return written


def _on_paper(values: dict[str, Any]) -> Any:
    """White behind everything, nothing for a pointer."""
    return _still(values) | {"config": CONFIG | {"background": "white"}}


def _still(values: Any) -> Any:
    """A specification without the marks and parameters named `hover`, which no file shows."""
    if isinstance(values, dict):
        return {key: _still(value) for key, value in values.items()}
    if isinstance(values, list):
        return [
            _still(value)
            for value in values
            if not (isinstance(value, dict) and value.get("name") == HOVER)
        ]
    return values
