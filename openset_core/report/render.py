"""Pages from Jinja templates: one HTML file with style, charts and script inside; it loads nothing.

    write_page("run.html", folder / "report.html", title="arpl on vgg13", chart=roc)

A page's template extends `base.html`, which says what values a page takes, and uses the macros of
`macros.html`. `{{ roc | chart }}` embeds an Altair chart, whose description is its alternative
text, so every chart must have one; `{{ pixels | picture }}` is an image as an address. `percent`,
`number` and `seconds` write numbers.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
from functools import cache
from pathlib import Path
from typing import Any

from markupsafe import Markup

from openset_core import __version__
from openset_core.files import atomic_write, write_text
from openset_core.report.charts.output import Chart, specification
from openset_core.report.charts.theme import DARK
from openset_core.report.colours import PALETTE, UNKNOWN
from openset_core.report.formatting import number, percent, seconds
from openset_core.report.images import data_uri


@cache
def environment() -> Any:
    """The Jinja environment of all pages."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("openset_core.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(chart=embedded, percent=percent, number=number, seconds=seconds)
    made.filters["picture"] = data_uri
    made.globals.update(
        palette=PALETTE, unknown=UNKNOWN, dark=DARK, vega=vega_script, version=__version__
    )
    return made


def render(template: str, **values: Any) -> str:
    """A template filled in."""
    # The macro `section` enters the sections of this page into the list.
    return str(environment().get_template(template).render(sections=[], **values))


def write_page(template: str, path: Path, **values: Any) -> Path:
    """Write a page whole or not at all, and return its path."""
    write_text(path, render(template, **values))
    return path


def inputs_in(path: Path) -> str:
    """What a page says that it was made from; empty where it says nothing, or is not there."""
    if not path.exists():
        return ""
    head = path.read_text("utf-8").partition("<title>")[0]
    stated = re.search(r'<meta name="openset-inputs" content="(.*?)">', head)
    return stated[1] if stated else ""


def embedded(chart: Chart) -> Markup:
    """What a page holds of a chart: its specification, drawn by the page's script."""
    values = specification(chart)
    # `</` would end the script element.
    text = json.dumps(values, separators=(",", ":")).replace("</", "<\\/")
    return Markup(
        '<div class="chart" role="img" aria-label="{}"><script type="application/json">{}</script>'
        "</div>"
    ).format(values["description"], Markup(text))


@cache
def vega_script() -> Markup:
    """Vega, Vega-Lite and vega-embed as one script.

    Bundling takes seconds, so the script is kept in the user's cache folder.
    """
    import vl_convert

    name = (
        f"vega-{vl_convert.get_vega_version()}-{importlib.metadata.version('vl-convert-python')}.js"
    )
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "openset"
    path = folder / name
    try:
        return Markup(path.read_text("utf-8"))
    except OSError:
        script = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace(
            "</script", "<\\/script"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            temporary.write_text(script, encoding="utf-8")
    except Exception:  # a cache that cannot be written costs seconds, nothing else
        pass
    return Markup(script)
