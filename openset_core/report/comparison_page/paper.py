"""Values with intervals, line by line, as figures for papers: what `forest` is on a page."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from openset_core.report.comparison_page.forest import Line, broken, value_axis
from openset_core.report.comparison_page.view import View
from openset_core.results.comparison.model import EvaluationSetting

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LONGEST_LABEL = 42
"""Letters of a label before it is broken."""

HEIGHT_OF_LINE = 0.19
"""Inches."""


def place_name(stem: str, view: View, setting: EvaluationSetting) -> str:
    """A file's name without suffix: with the setting where there are several."""
    heading = view.heading(setting)
    return "-".join([stem, *re.findall(r"[\w.+]+", heading)])


def panels(
    lines: Mapping[str, Sequence[Line]], colour: Callable[[Line], str], zero: bool = False
) -> Figure:
    """A panel beside a panel, with the lines' names at the left of the first.

    Args:
        lines: of each panel, by its title.
        colour: of a line.
        zero: whether values are differences.
    """
    from openset_core.report.style import DOUBLE_COLUMN, new_figure

    # A panel may lack some; the order is that of the panel with the most.
    fullest = sorted(lines.values(), key=len, reverse=True)
    rows = _rows([line for found in fullest for line in found])
    labels = ["\n".join(broken(f"{name} {label}".strip(), LONGEST_LABEL)) for name, label in rows]
    most = max(label.count("\n") for label in labels)
    figure = new_figure(DOUBLE_COLUMN, 0.65 + HEIGHT_OF_LINE * len(rows) * (1 + 0.5 * most))
    grid = figure.subplots(1, len(lines), sharey=True, squeeze=False)[0]
    for axes, (title, found) in zip(grid, lines.items(), strict=True):
        _draw(axes, found, rows, colour, zero)
        axes.set_title(title)
        axes.set_xlabel("points" if zero else "%")
        axes.set_yticks(range(len(rows)), labels)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.grid(True, axis="x")
    return figure


def _rows(lines: Sequence[Line]) -> list[tuple[str, str]]:
    """Name and label of each row: all lines of a name together, in order.

    A line without a label stands for all of its name, and has a row only where it is alone.
    """
    labels: dict[str, dict[str, None]] = {}
    for line in lines:
        labels.setdefault(line.name, {}).update({line.label: None} if line.label else {})
    return [(name, label) for name, found in labels.items() for label in found or [""]]


def _height(line: Line, rows: Sequence[tuple[str, str]]) -> float:
    """The row of a line, or the middle of those that it stands for."""
    found = [
        at
        for at, (name, label) in enumerate(rows)
        if name == line.name and line.label in ("", label)
    ]
    return sum(found) / len(found)


def _draw(
    axes: Axes,
    lines: Sequence[Line],
    rows: Sequence[tuple[str, str]],
    colour: Callable[[Line], str],
    zero: bool,
) -> None:
    axis, far = value_axis(lines, zero=zero, ticks=3)
    axes.set_xlim(100 * axis.low, 100 * axis.high)
    axes.set_xticks([100 * tick for tick in axis.ticks], axis.labels)
    if zero:
        axes.axvline(0, color="#404040", linewidth=0.7, linestyle="--")
    for line in lines:
        y, look = _height(line, rows), colour(line)
        if line in far:
            _arrow(axes, line, y, look, below=line.middle < axis.low)
            continue
        if line.dots:
            values = [100 * value for value, _ in line.dots]
            height = np.full(len(values), y + 0.27)
            axes.plot(values, height, ".", color=look, alpha=0.45, markersize=3, mew=0)
        if line.low is not None and line.high is not None:
            low, high = max(line.low, axis.low), min(line.high, axis.high)
            axes.plot([100 * low, 100 * high], [y, y], color=look, linewidth=1.1)
            for end, cut, sign in ((low, low > line.low, "<"), (high, high < line.high, ">")):
                if cut:
                    axes.plot(100 * end, y, sign, color=look, markersize=3, mew=0, clip_on=False)
        if line.value is not None:
            face = "white" if line.hollow else look
            axes.plot(100 * line.value, y, "o", color=look, mfc=face, markersize=3.6, mew=0.9)
        for extra in line.extras:
            sign, size = ("D", 4.0) if extra.kind == "published" else ("|", 6.0)
            edge = "#202020" if extra.kind == "published" else look
            axes.plot(100 * extra.value, y, sign, mfc="white", mec=edge, markersize=size, mew=0.8)


def _arrow(axes: Axes, line: Line, y: float, look: str, below: bool) -> None:
    """Says where a line is that does not lie on the axis."""
    along = axes.get_yaxis_transform()  # x as a share of the axis, y as a value
    edge, inside, side = (0.02, 0.07, "left") if below else (0.98, 0.93, "right")
    axes.plot(edge, y, "<" if below else ">", color=look, markersize=3.6, transform=along)
    said = f"{100 * line.middle:.1f}".replace("-", "−")
    axes.text(
        inside,
        y,
        said,
        transform=along,
        va="center",
        ha=side,
        fontsize=6.5,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
    )
