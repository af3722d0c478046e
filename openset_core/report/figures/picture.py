"""A drawn figure: what it shows, and the numbers in it."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import frozen

from openset_core import specs
from openset_core.experiment import config
from openset_core.report.figures.runs import FigureRuns
from openset_core.report.style import paper_style
from openset_core.specs import FigureConfig, FigureSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Cell = str | int | float | None


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

    def md(self) -> str:
        """As a Markdown table, numbers at the right."""
        lines = [
            _row(self.columns),
            "|" + "|".join("--:" if number else "---" for number in self._numeric()) + "|",
            *map(_row, self.texts()),
        ]
        return "\n".join(lines) + "\n"

    def tex(self) -> str:
        """As a LaTeX table of the package booktabs."""

        def line(cells: Sequence[str]) -> str:
            return " & ".join(map(_escaped, cells)) + r" \\"

        columns = "".join("r" if number else "l" for number in self._numeric())
        body = [
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            line(self.columns),
            r"\midrule",
            *map(line, self.texts()),
            r"\bottomrule",
            r"\end{tabular}",
        ]
        return "\n".join(body) + "\n"

    def texts(self) -> list[list[str]]:
        """Cells as they are read: four digits of what is no whole number."""
        return [list(map(_text, row)) for row in self.rows]

    def _numeric(self) -> list[bool]:
        """Whether each column holds numbers alone."""
        return [
            all(not isinstance(cell, str) for cell in column)
            for column in zip(*self.rows, strict=True)
        ] or [False] * len(self.columns)


def _text(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float):
        return np.format_float_positional(cell, precision=4, fractional=False, trim="-")
    return f"{cell:,}" if isinstance(cell, int) else cell


def _row(cells: Sequence[str]) -> str:
    escaped = (cell.replace("|", r"\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"


def _escaped(text: str) -> str:
    """Text for LaTeX."""
    return "".join(f"\\{letter}" if letter in "&%_#$" else letter for letter in text)


@frozen(kw_only=True, eq=False)
class Picture:
    """A drawn figure.

    Attributes:
        figure: drawn by matplotlib.
        caption: what it shows, how many samples of what, and by which score; plain text.
        alt: what somebody who cannot see it needs to know.
        numbers: what it shows in numbers.
        notes: what is to be known of these very runs, a sentence each.
    """

    figure: Figure
    caption: str
    alt: str
    numbers: Numbers
    notes: tuple[str, ...] = ()


def shape_with(spec: FigureSpec, changes: Mapping[str, Any]) -> FigureConfig:
    """A figure's shape with some options set anew.

    Raises:
        ConfigError: an option that it does not have, or a value that does not fit.
    """
    if not changes:
        return spec.shape
    values = {**config.unstructure(spec.shape), **changes}
    return config.structure(values, type(spec.shape), f"figure {spec.name}")


def draw(spec: FigureSpec, shape: FigureConfig, runs: FigureRuns) -> Picture:
    """Draw a figure from its runs.

    Raises:
        FigureError: there are too few runs, or they do not hold what the figure shows.
    """
    runs.require(spec.least)
    function: Callable[..., Picture] = specs.load_factory(spec.factory)
    with paper_style():
        return function(shape, runs)
