"""Figures for papers: one matplotlib style, and saving as PNG and SVG.

    with paper_style():
        figure = new_figure(width=SINGLE_COLUMN, height=2.4)
        axes = figure.subplots()
        axes.plot(fpr, tpr, **line(0), label="msp")
    save_figure(figure, folder / "roc")

matplotlib is imported when a figure is made; no global state of it is touched, and no window or
display is needed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from openset_core.files import atomic_write
from openset_core.report.colours import PALETTE, UNKNOWN, colour, dash

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SINGLE_COLUMN = 3.4
"""Width in inches of one of two columns of a paper."""

DOUBLE_COLUMN = 7.0
"""Width in inches of a whole page of text."""

UNKNOWN_GREY = UNKNOWN.light
"""Colour of unknown samples in figures."""

RC: Mapping[Any, Any] = MappingProxyType(
    {
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib, so the same everywhere
        "font.size": 8,
        "axes.titlesize": 8,
        "axes.labelsize": 8,
        "xtick.labelsize": 7,
        "ytick.labelsize": 7,
        "legend.fontsize": 7,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.6,
        "axes.axisbelow": True,
        "axes.unicode_minus": True,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "xtick.major.size": 2.5,
        "ytick.major.size": 2.5,
        "grid.color": "#e4e4e4",
        "grid.linewidth": 0.5,
        "lines.linewidth": 1.3,
        "lines.solid_capstyle": "round",
        "patch.linewidth": 0.6,
        "legend.frameon": False,
        "legend.handlelength": 2.4,
        "figure.constrained_layout.use": True,
        "figure.facecolor": "white",
        "savefig.facecolor": "white",
        "savefig.dpi": 300,
        "image.interpolation": "nearest",
        # Text as outlines looks the same in every viewer and needs no font there.
        "svg.fonttype": "path",
        # Names inside an SVG come from this text and the contents alone, not from chance.
        "svg.hashsalt": "openset",
        "pdf.fonttype": 42,  # TrueType, which journals ask for
    }
)
"""What the style sets; everything else is matplotlib's default, whatever the user configured."""


@contextlib.contextmanager
def paper_style() -> Iterator[None]:
    """Draw in the style of papers while the block runs."""
    import matplotlib
    from cycler import cycler

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(dict(RC))
        matplotlib.rcParams["axes.prop_cycle"] = cycler(color=[each.light for each in PALETTE])
        yield


def new_figure(width: float = SINGLE_COLUMN, height: float = 2.4) -> Figure:
    """An empty figure that belongs to no window; call it within `paper_style`.

    Args:
        width: in inches, `SINGLE_COLUMN` or `DOUBLE_COLUMN` for a paper.
        height: in inches.
    """
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height))


def line(number: int) -> dict[str, Any]:
    """Colour and dashes of a curve by its number from 0, as arguments of `Axes.plot`."""
    pattern = dash(number)
    style: Any = (0, tuple(float(part) / 1.6 for part in pattern.split())) if pattern else "-"
    return {"color": colour(number).light, "linestyle": style}


_METADATA: Mapping[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
}
"""What to leave out, so that the same figure gives the same bytes."""


def save_figure(
    figure: Figure, stem: Path, formats: Sequence[str] = ("png", "svg")
) -> tuple[Path, ...]:
    """Write a figure as STEM.png and STEM.svg, each whole or not at all.

    The same figure gives the same bytes each time: no date and no version is written.

    Args:
        figure: made within `paper_style`.
        stem: path without suffix.
        formats: some of `png`, `svg` and `pdf`.

    Returns:
        The paths, one a format.

    Raises:
        RunFolderError: the folder cannot be written.
    """
    paths = []
    with paper_style():
        figure.draw_without_rendering()  # lays out once for all files
        figure.set_layout_engine("none")
        for name in formats:
            path = stem.with_name(f"{stem.name}.{name}")
            with atomic_write(path) as temporary:
                # Its own name ends in .partial, so the format has to be said.
                figure.savefig(temporary, format=name, metadata=_METADATA[name])
            paths.append(path)
    return tuple(paths)
