"""The files that a figure becomes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from openset_core.errors import FigureError, did_you_mean
from openset_core.files import write_text
from openset_core.report.figures.page import write_figure_page
from openset_core.report.figures.picture import Picture
from openset_core.report.figures.runs import FigureRuns
from openset_core.report.style import save_figure
from openset_core.specs import FigureSpec

PICTURES = ("png", "svg", "pdf")
TABLES = ("csv", "md", "tex")
FORMATS = (*PICTURES, *TABLES, "html")
"""Kinds of file that a figure can become: pictures, its numbers, and a page."""

USUAL_FORMATS = (*PICTURES, "csv", "html")


def check_formats(names: Sequence[str]) -> tuple[str, ...]:
    """The formats asked for.

    Raises:
        FigureError: an unknown one.
    """
    for name in names:
        if name not in FORMATS:
            raise FigureError(
                f"a figure cannot be written as {name!r}{did_you_mean(name, FORMATS)}; there are "
                f"{', '.join(FORMATS)}"
            )
    return tuple(dict.fromkeys(names))


def save(
    picture: Picture,
    spec: FigureSpec,
    runs: FigureRuns,
    stem: Path,
    formats: Sequence[str] = USUAL_FORMATS,
) -> list[Path]:
    """Write a figure's files, each whole or not at all.

    Args:
        picture: what was drawn.
        spec: of which figure.
        runs: from which runs.
        stem: path without suffix.
        formats: some of `FORMATS`.

    Returns:
        The files, in the order of `FORMATS`.
    """
    wanted = tuple(name for name in PICTURES if name in formats)
    paths = list(save_figure(picture.figure, stem, wanted))
    for suffix in TABLES:
        if suffix in formats:
            path = stem.with_name(f"{stem.name}.{suffix}")
            write_text(path, getattr(picture.numbers, suffix)())
            paths.append(path)
    if "html" in formats:
        paths.append(write_figure_page(picture, spec, runs, stem.with_name(f"{stem.name}.html")))
    return paths
