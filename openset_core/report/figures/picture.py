"""A drawn figure: what it shows, the numbers in it, and the files that it becomes."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from openset_core import config, specs
from openset_core.errors import FigureError, did_you_mean
from openset_core.files import write_text
from openset_core.report.figures.runs import FigureRuns
from openset_core.report.style import paper_style, save_figure
from openset_core.specs import FigureShape, FigureSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Cell = str | int | float | None
PICTURES = ("png", "svg", "pdf")
FORMATS = (*PICTURES, "csv", "html")
"""Kinds of file that a figure becomes."""


@frozen
class Numbers:
    """The numbers that a figure shows, as a table.

    Attributes:
        columns: headers.
        rows: cells, as many in each as there are columns; None for an empty one.
    """

    columns: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]

    def csv(self) -> str:
        """As comma-separated text with all digits."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(self.rows)
        return text.getvalue()


@frozen(kw_only=True, eq=False)
class Picture:
    """A drawn figure.

    Attributes:
        figure: drawn by matplotlib.
        caption: what it shows, how many samples of what, and by which score; plain text.
        alt: what somebody who cannot see it needs to know.
        numbers: what it shows in numbers.
        notes: what is to be known of these very runs, a sentence each.
        more: further files, text by suffix.
    """

    figure: Figure
    caption: str
    alt: str
    numbers: Numbers
    notes: tuple[str, ...] = ()
    more: Mapping[str, str] = field(factory=dict)


def shape_with(spec: FigureSpec, changes: Mapping[str, Any]) -> FigureShape:
    """A figure's shape with some options set anew.

    Raises:
        ConfigError: an option that it does not have, or a value that does not fit.
    """
    if not changes:
        return spec.shape
    values = {**config.unstructure(spec.shape), **changes}
    return config.structure(values, type(spec.shape), f"figure {spec.name}")


def draw(spec: FigureSpec, shape: FigureShape, runs: FigureRuns) -> Picture:
    """Draw a figure from its runs.

    Raises:
        FigureError: there are too few runs, or they do not hold what the figure shows.
    """
    runs.require(spec.least)
    function: Callable[..., Picture] = specs.load_factory(spec.factory)
    with paper_style():
        return function(shape, runs)


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
    formats: Sequence[str] = FORMATS,
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
    from openset_core.report.figures.page import write_figure_page

    wanted = tuple(name for name in PICTURES if name in formats)
    paths = list(save_figure(picture.figure, stem, wanted))
    texts = {"csv": picture.numbers.csv()} if "csv" in formats else {}
    for suffix, text in {**texts, **picture.more}.items():
        path = stem.with_name(f"{stem.name}.{suffix}")
        write_text(path, text)
        paths.append(path)
    if "html" in formats:
        paths.append(write_figure_page(picture, spec, runs, stem.with_name(f"{stem.name}.html")))
    return paths
