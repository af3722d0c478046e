"""What the sample generator made, from the same noise as training went on."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup

from openset_core.report.data import Integers
from openset_core.report.images import data_uri, montage
from openset_core.report.markup import element, figure
from openset_core.report.page import Section
from openset_core.report.run_page.view import Figures, View
from openset_core.training.sample_history import SampleHistory, read_sample_history

MOST_LOOKS = 4
SHOWN = 36
"""Images of a look on the page; a square."""


def section(view: View) -> Section | None:
    """The first and the last look, and some between them."""
    found = read_sample_history(view.run.folder.sample_history)
    if found is None:
        return None
    body = Markup("").join(
        figure(
            f"Epoch {found.epochs[at]:,}",
            element(
                "img",
                src=data_uri(_grid(found, at)),
                alt=f"{SHOWN} generated images after epoch {found.epochs[at]}",
            ),
        )
        for at in _chosen(found)
    )
    return Section(
        "generated",
        "Generated samples",
        element("div", body, class_="samples"),
        "What the sample generator makes, from the same noise after each of these epochs.",
        short="Generated",
    )


def _chosen(found: SampleHistory) -> Integers:
    """Which looks to show: the first, the last, and evenly spread ones between, int64 [n]."""
    count = len(found.epochs)
    return np.unique(np.linspace(0, count - 1, min(count, MOST_LOOKS)).round().astype(np.int64))


def _grid(found: SampleHistory, at: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return montage(found.images[at][:SHOWN], columns=int(np.sqrt(SHOWN)))


def figures(view: View) -> Figures:
    """The same looks side by side."""
    from openset_core.report.style import DOUBLE_COLUMN, SINGLE_COLUMN, new_figure

    found = read_sample_history(view.run.folder.sample_history)
    if found is None:
        return
    chosen = _chosen(found)
    width = SINGLE_COLUMN if len(chosen) <= 2 else DOUBLE_COLUMN
    figure = new_figure(width, width / max(len(chosen), 2) + 0.25)
    for axes, at in zip(figure.subplots(1, len(chosen), squeeze=False).flat, chosen, strict=True):
        pixels = _grid(found, at)
        grey = pixels.shape[2] == 1
        axes.imshow(pixels[:, :, 0] if grey else pixels, cmap="gray" if grey else None)
        axes.set_title(f"epoch {found.epochs[at]:,}")
        axes.set_axis_off()
    yield "generated", figure
