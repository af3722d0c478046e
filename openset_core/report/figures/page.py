"""A figure as a page of its own: the picture, its numbers, and the runs it was made from."""

from __future__ import annotations

import io
import re
from pathlib import Path

from markupsafe import Markup

from openset_core.report.figures.picture import Cell, Picture
from openset_core.report.figures.runs import FigureRuns
from openset_core.report.markup import Row, element, folded, note, scrolling, table
from openset_core.report.page import Page, Section, write_page
from openset_core.report.style import paper_style
from openset_core.specs import FigureSpec

MOST_ROWS = 500
"""Rows of numbers that a page shows; the file of numbers has them all."""


def write_figure_page(picture: Picture, spec: FigureSpec, runs: FigureRuns, path: Path) -> Path:
    """Write a figure's page, which loads nothing, and return its path."""
    sections = [
        Section("figure", "Figure", _picture(picture, spec)),
        Section("numbers", "Numbers", _numbers(picture)),
        Section("runs", "Runs", _runs(runs)),
    ]
    page = Page(
        title=spec.summary,
        kind="figure",
        subtitle=spec.reference,
        sections=sections,
        footer=f"Made from the recorded data of runs by openset figure {spec.name}.",
    )
    return write_page(page, path)


def _picture(picture: Picture, spec: FigureSpec) -> Markup:
    drawing = element("div", svg_of(picture), class_="paper", role="img", aria_label=picture.alt)
    texts = [picture.caption, spec.departs, *picture.notes]
    said = [note(text) for text in texts if text]
    return element("figure", scrolling(drawing)) + Markup("").join(said)


def svg_of(picture: Picture) -> Markup:
    """The figure as an SVG element, to stand within a page."""
    text = io.StringIO()
    with paper_style():
        picture.figure.savefig(text, format="svg", metadata={"Date": None})
    whole = text.getvalue()
    whole = whole[whole.index("<svg") :]
    # As wide as there is room for, but not much wider than in print.
    sized = r'<svg ([^>]*)width="([^"]+)" height="[^"]+"'
    free = r'<svg \1style="width:100%;max-width:calc(1.5 * \2);height:auto"'
    return Markup(re.sub(sized, free, whole, count=1))


def _numbers(picture: Picture) -> Markup:
    shown = list(picture.numbers.rows)[:MOST_ROWS]
    first, *others = picture.numbers.columns
    rows = [Row(header=_text(row[0]), cells=[_text(cell) for cell in row[1:]]) for row in shown]
    left_out = len(picture.numbers.rows) - len(shown)
    words = [at for at in range(len(others)) if any(isinstance(row[at + 1], str) for row in shown)]
    body = table("What the figure shows in numbers", [first, *others], rows, words=words)
    if left_out:
        body += note(f"{left_out:,} more rows stand in the file of numbers.")
    return body if len(shown) <= 30 else folded(f"{len(shown)} rows", body)


def _text(cell: Cell) -> str:
    if cell is None:
        return ""
    return f"{cell:.5g}" if isinstance(cell, float) else str(cell)


def _runs(runs: FigureRuns) -> Markup:
    rows = [
        Row(
            header=label,
            cells=[
                str(run.folder.path),
                run.title,
                run.results.protocol,
                str(run.results.trial),
                str(run.results.seed),
                str(run.results.epochs),
                element("code", f"openset run {run.folder.path}"),
            ],
        )
        for label, run in runs.runs
    ]
    columns = ["run", "folder", "method", "protocol", "trial", "seed", "epochs", "goes on with"]
    made = table("Runs that the figure was made from", columns, rows, numbers=False)
    if not runs.missing:
        return made
    commands = [element("li", w.need.label, ": ", element("code", w.command)) for w in runs.missing]
    return made + note("Not shown, because no such run was there:") + element("ul", commands)
