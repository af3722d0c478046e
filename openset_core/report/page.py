"""The shell of a page: one HTML file with its style and script inside, which loads nothing.

    page = Page(kind="run", title="arpl on vgg13", sections=(Section("results", "Results", body),))
    write_page(page, folder / "report.html")

It follows the reader's light or dark mode, prints, works on a phone, and says everything without
its script too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

from attrs import frozen
from markupsafe import Markup

from openset_core.files import write_text
from openset_core.report.colours import PALETTE, UNKNOWN

_NOTHING = Markup("")


@frozen
class Section:
    """A part of a page with a heading of its own.

    Attributes:
        id: target of links to it, letters and hyphens.
        title: its heading.
        body: markup.
        intro: a paragraph in front of the body.
        short: its name in the list of sections; the title by default.
    """

    id: str
    title: str
    body: Markup
    intro: str = ""
    short: str = ""


@frozen(kw_only=True)
class Page:
    """A whole page.

    Attributes:
        title: its heading, and the window's title.
        kind: what sort of page it is, in a word or two.
        subtitle: a line below the heading.
        lead: markup before the first section.
        sections: in order.
        footer: the last line.
        inputs: hash of what the page was made from; written into it where given.
    """

    title: str
    sections: Sequence[Section]
    kind: str = ""
    subtitle: str = ""
    lead: Markup = _NOTHING
    footer: str | Markup = ""
    inputs: str = ""


def render_page(page: Page) -> str:
    """A page as HTML text."""
    from jinja2 import Environment, StrictUndefined

    from openset_core import __version__

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    return environment.from_string(_asset("page.html")).render(
        page=page,
        version=__version__,
        style=Markup(_style()),
        script=Markup(_asset("page.js")),
    )


def write_page(page: Page, path: Path) -> Path:
    """Write a page whole or not at all, and return its path.

    Raises:
        RunFolderError: the folder cannot be written.
    """
    write_text(path, render_page(page))
    return path


def inputs_in(path: Path) -> str:
    """What a page says that it was made from; empty where it says nothing, or is not there."""
    if not path.exists():
        return ""
    head = path.read_text("utf-8").partition("<title>")[0]
    found = re.search(r'<meta name="openset-inputs" content="(.*?)">', head)
    return found[1] if found else ""


@cache
def _asset(name: str) -> str:
    return files("openset_core.report").joinpath("assets", name).read_text(encoding="utf-8")


def _style() -> str:
    """The style sheet with the palette in it."""

    def variables(form: str) -> str:
        named = [(f"c{number}", each) for number, each in enumerate(PALETTE)]
        named.append(("unknown", UNKNOWN))
        return "\n".join(f"  --{name}: {getattr(each, form)};" for name, each in named)

    numbered = "\n".join(
        f".c{number} {{ --c: var(--c{number}); }}" for number in range(len(PALETTE))
    )
    text = _asset("style.css")
    for key, value in {
        "light": variables("light"),
        "dark": variables("dark"),
        "numbered": numbered,
    }.items():
        text = text.replace(f"{{{{ {key} }}}}", value)
    return text
