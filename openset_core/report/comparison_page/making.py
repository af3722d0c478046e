"""From a comparison to a page, and to figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from openset_core import __version__
from openset_core.report.comparison_page import (
    differences,
    intervals,
    overview,
    ranks,
    results_table,
    runs,
)
from openset_core.report.comparison_page.view import Origin, View
from openset_core.report.page import Page, render_page

if TYPE_CHECKING:
    from openset_core.results.comparison.comparison import Comparison

TOPICS = (
    results_table.section,
    results_table.across,
    overview.section,
    intervals.section,
    differences.section,
    ranks.section,
    runs.section,
)
FIGURES = (intervals.figures, differences.figures, ranks.figures)


def comparison_page(comparison: Comparison, origin: Origin | None = None) -> str:
    """The page as HTML text, which loads nothing.

    Args:
        comparison: what it shows.
        origin: where that comes from.
    """
    view = View(comparison=comparison, origin=origin or Origin())
    sections = [made for topic in TOPICS if (made := topic(view)) is not None]
    return render_page(
        Page(
            kind=view.origin.kind,
            title=overview.title(view),
            subtitle=overview.subtitle(view),
            lead=overview.lead(view),
            sections=sections,
            footer=f"Made from what runs recorded, by openset {__version__}.",
            inputs=view.origin.inputs,
        )
    )


def comparison_figures(comparison: Comparison, folder: Path) -> tuple[Path, ...]:
    """Write the figures as PNG and SVG, and return their paths.

    Raises:
        RunFolderError: the folder cannot be written.
    """
    from openset_core.report.style import paper_style, save_figure

    view = View(comparison=comparison)
    written: list[Path] = []
    for topic in FIGURES:
        with paper_style():
            for name, figure in topic(view):
                written += save_figure(figure, folder / name)
    return tuple(sorted(written))
