"""What several figures draw alike: grids of panels, legends outside, point clouds, percent."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from openset_core.errors import FigureError, did_you_mean
from openset_core.metrics.open_set import METRICS
from openset_core.report.colours import colour
from openset_core.report.data import Integers, RunData, TestSplit
from openset_core.report.style import DOUBLE_COLUMN, SINGLE_COLUMN, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = ("o", "s", "D", "^", "v", "P", "X", "<", ">", "p")
"""Of the points of curves, so that they differ without any colour too."""

MANY_POINTS = 400
"""From here on a cloud of points is an image within the vector file, which would grow too large."""

LETTERS_AN_INCH = 14
"""So many letters of a title have room in an inch."""

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def grid(
    panels: int, *, rows: int = 1, height: float = 1.7, most: int = 4, heights: Sequence[float] = ()
) -> tuple[Figure, list[list[Axes]]]:
    """A figure with some panels, each of them with `rows` axes below one another.

    Args:
        panels: number of panels.
        rows: axes a panel.
        height: inches of a line of panels.
        most: most panels side by side; more go on below.
        heights: relative heights of a panel's axes.

    Returns:
        The figure, and for each panel its axes from top to bottom.
    """
    columns = min(panels, most)
    lines = -(-panels // columns)
    width = SINGLE_COLUMN if columns == 1 else DOUBLE_COLUMN
    figure = new_figure(width=width, height=lines * height)
    ratios = list(heights or [1.0] * rows) * lines
    axes = figure.subplots(lines * rows, columns, squeeze=False, height_ratios=ratios)
    found = []
    for number in range(lines * columns):
        line, column = divmod(number, columns)
        own = [axes[line * rows + row, column] for row in range(rows)]
        if number < panels:
            found.append(own)
        else:
            for spare in own:
                spare.remove()
    return figure, found


def title(axes: Axes, number: int, text: str, panels: int) -> None:
    """A panel's title, with a letter where there are several, broken where it is too long."""
    whole = f"({LETTERS[number % 26]}) {text}".strip() if panels > 1 else text
    place = axes.get_subplotspec()
    columns = place.get_gridspec().ncols if place is not None else 1
    inches = axes.get_figure(root=True).get_figwidth() / columns  # type: ignore[union-attr]
    axes.set_title(textwrap.fill(whole, max(10, int(LETTERS_AN_INCH * inches))))


def legend_below(figure: Figure, handles: Sequence[Any], columns: int = 8) -> None:
    """One legend for all panels, outside them, under the figure, in as many columns as fit.

    Args:
        figure: the figure, with its panels drawn.
        handles: what the legend explains.
        columns: most columns.
    """
    for most in range(min(columns, len(handles)), 0, -1):
        lines = -(-len(handles) // most)
        count = -(-len(handles) // lines)  # columns of about equal length
        legend = figure.legend(
            handles=list(handles),
            loc="outside lower center",
            ncols=count,
            handletextpad=0.4,
            columnspacing=1.2,
        )
        if count == 1 or legend.get_window_extent().width <= 0.98 * figure.bbox.width:
            return
        legend.remove()


def square(axes: Axes, points: Sequence[npt.NDArray[Any]]) -> None:
    """Equal scales on both axes of a square panel that shows all points, [n, 2] each."""
    every = np.concatenate([np.asarray(cloud, dtype=np.float64) for cloud in points])
    low, high = every.min(axis=0), every.max(axis=0)
    half = 0.54 * max(float((high - low).max()), 1e-6)
    (x, y) = (low + high) / 2
    axes.set_xlim(x - half, x + half)
    axes.set_ylim(y - half, y + half)
    axes.set_aspect("equal", adjustable="box")


def side(panels: int, most: int = 4) -> float:
    """Inches that a square panel takes."""
    columns = min(panels, most)
    return min(2.8, (SINGLE_COLUMN if columns == 1 else DOUBLE_COLUMN) / columns)


def cloud(axes: Axes, points: npt.NDArray[Any], face: str, marker: str, **style: Any) -> None:
    """A cloud of points [n, 2]."""
    axes.scatter(
        points[:, 0],
        points[:, 1],
        s=style.pop("size", 4.0),
        c=face,
        marker=marker,
        linewidths=style.pop("linewidths", 0.0 if marker in "os^vDPX<>p." else 0.5),
        alpha=style.pop("alpha", 0.7),
        rasterized=len(points) > MANY_POINTS,
        **style,
    )


def key(label: str, face: str, marker: str, size: float = 4.0, edge: str | None = None) -> Any:
    """A legend's entry for a cloud of points."""
    from matplotlib.lines import Line2D

    return Line2D(
        [],
        [],
        linestyle="",
        marker=marker,
        markersize=size,
        color=face,
        markeredgecolor=edge or face,
        markeredgewidth=0.6,
        label=label,
    )


def drawn(part: TestSplit, samples: int, seed: int) -> Integers:
    """Rows of a part, at most so many, drawn by a seed, ascending."""
    if len(part) <= samples:
        return np.arange(len(part))
    return np.sort(np.random.default_rng(seed).choice(len(part), samples, replace=False))


def class_colour(number: int) -> str:
    """Colour of a known class."""
    return colour(number).light


def class_marker(number: int) -> str:
    """Marker of a known class; it changes where the colours begin anew."""
    return "oD^v"[number // 10 % 4]


def metric_label(metric: str) -> str:
    """What an axis calls a metric, which is shown in percent.

    Raises:
        FigureError: there is no such metric.
    """
    if metric not in METRICS:
        raise FigureError(
            f"no metric is called {metric!r}{did_you_mean(metric, METRICS)}; there are "
            f"{', '.join(METRICS)}"
        )
    return f"{METRICS[metric].title} (%)"


def unknown_set(run: RunData, wish: str) -> str | None:
    """The unknown set that a figure's option names.

    Args:
        run: the run.
        wish: `all`, `first`, or a set's name.

    Returns:
        Its name, None for all of them together.

    Raises:
        FigureError: the run has no such set.
    """
    names = [part.name for part in run.unknown]
    if wish == "all":
        return None
    if wish == "first" and names:
        return names[0]
    if wish not in names:
        raise FigureError(
            f"{run.folder.path} has no unknown set {wish!r}{did_you_mean(wish, names)}; it has "
            f"{', '.join(names) or 'none'}"
        )
    return wish


def percent(value: float) -> float:
    """A fraction as percent with the two digits that papers print, for tables."""
    return round(100.0 * value, 2)


def counted(run: RunData) -> str:
    """Sizes of a run's test in words."""
    known = 0 if run.known is None else len(run.known)
    unknown = ", ".join(f"{len(part):,} of {part.name}" for part in run.unknown)
    return f"{known:,} known and {unknown or 'no unknown'} test samples"
