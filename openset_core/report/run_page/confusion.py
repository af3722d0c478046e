"""The confusion matrix, known and unknown divided by lines (M2IOSR, Fig. 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from attrs import frozen
from markupsafe import Markup

from openset_core.metrics import open_set as metrics
from openset_core.report.axes import percent
from openset_core.report.colours import KNOWN
from openset_core.report.data import Integers, TestSplit
from openset_core.report.images import data_uri
from openset_core.report.markup import Row, cards, element, figure, scrolling, table
from openset_core.report.page import Section
from openset_core.report.run_page.view import TOO_MANY_NAMES, Figures, View

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_UNKNOWN_ROWS = 20
"""Up to so many unknown classes each has a row; more are put together by set."""

CONFUSIONS = 10
"""Largest confusions that are listed where a matrix is too large for numbers."""

IMAGE_SIDE = 640

CAPTION = "Rows are true classes, columns predictions; percent of the row."


@frozen(kw_only=True, eq=False)
class Confusion:
    """Samples by true class and by prediction over K+1 classes.

    Attributes:
        counts: int64 [rows, K + 1]; the known classes' rows come first.
        rows: what each row is.
        columns: what each column is; the last one is unknown.
        known: number of known classes K, which is the number of rows before the unknown ones.
    """

    counts: Integers
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    known: int

    @property
    def shares(self) -> npt.NDArray[np.float64]:
        """Share of each row's samples, float64 [rows, K + 1]; zeros for a row without any."""
        totals = self.counts.sum(axis=1, keepdims=True)
        shares: npt.NDArray[np.float64] = self.counts / np.maximum(totals, 1)
        return shares


def confusion(view: View) -> Confusion | None:
    """Count the decisions of a run's test; None without scores."""
    run = view.run
    if run.known is None or not view.has_scores or not len(run.known):
        return None
    size = run.num_classes
    known = metrics.confusion_matrix(view.decisions(run.known), run.known.label, size)[:size]
    blocks, names = [known], list(run.class_names)
    classes = sum(len(np.unique(part.label)) for part in run.unknown)
    each_class = classes <= MOST_UNKNOWN_ROWS and size <= TOO_MANY_NAMES
    for part in run.unknown:
        decided = view.decisions(part)
        if not each_class:
            blocks.append(np.bincount(decided, minlength=size + 1)[None])
            names.append(part.name)
            continue
        for number in np.unique(part.label):
            blocks.append(np.bincount(decided[part.label == number], minlength=size + 1)[None])
            names.append(_row_name(part, int(number), len(run.unknown)))
    return Confusion(
        counts=np.concatenate(blocks).astype(np.int64),
        rows=tuple(names),
        columns=(*run.class_names, "unknown"),
        known=size,
    )


def _row_name(part: TestSplit, number: int, sets: int) -> str:
    name = part.class_name(number)
    return f"{part.name}: {name}" if sets > 1 else name


def section(view: View) -> Section | None:
    """The matrix: numbers where they can be read, else an image and the largest confusions."""
    found = confusion(view)
    if found is None:
        return None
    body = _numbers(found) if found.known <= TOO_MANY_NAMES else _picture(found)
    return Section(
        "confusion",
        "Confusion matrix",
        body,
        f"What became of the test samples by the decision of {view.scorer}: in percent of each "
        "row. Known and unknown classes are divided by lines.",
        short="Confusion",
    )


def _numbers(found: Confusion) -> Markup:
    shares = found.shares
    last = len(found.columns) - 1
    head = element(
        "tr",
        element("th", "true ↓ predicted →", scope="col", class_="axis-title"),
        [
            element("th", name, scope="col", class_="divide-left" if at == last else None)
            for at, name in enumerate(found.columns)
        ],
        element("th", "samples", scope="col", class_="axis-title"),
    )
    rows = []
    for at, name in enumerate(found.rows):
        total = int(found.counts[at].sum())
        cells = [
            _cell(int(count), float(share), total, divided=column == last)
            for column, (count, share) in enumerate(zip(found.counts[at], shares[at], strict=True))
        ]
        rows.append(
            element(
                "tr",
                element("th", name, scope="row"),
                cells,
                element("td", f"{total:,}", class_="total"),
                class_="divide-top" if at == found.known else None,
            )
        )
    whole = element(
        "table",
        element("caption", CAPTION),
        element("thead", head),
        element("tbody", rows),
    )
    return element("div", scrolling(whole, "Confusion matrix"), class_="matrix")


def _cell(count: int, share: float, total: int, divided: bool) -> Markup:
    looks = ["divide-left"] if divided else []
    looks += [] if count else ["zero"]
    shown = percent(share, 0) if count else "·"
    if count and share < 0.005:
        shown = "<1"
    return element(
        "td",
        shown,
        class_=" ".join(looks) or None,
        style=f"--share: {share:.3f}" if count else None,
        title=f"{count:,} of {total:,}",
    )


def _picture(found: Confusion) -> Markup:
    pixels = matrix_pixels(found)
    label = (
        f"Confusion matrix of {found.known} known classes; the largest confusions stand in the "
        "table below"
    )
    image = element("img", src=data_uri(pixels), alt=label)
    picture = figure(
        f"{found.known:,} known classes",
        element("div", image, class_="matrix"),
        "rows: true classes, then unknown sets below the line; columns: predictions, unknown right "
        "of the line; the stronger the colour, the larger the share of the row",
    )
    rows = [
        Row(header=f"{found.rows[row]} → {found.columns[column]}", cells=[f"{count:,}", share])
        for row, column, count, share in largest_confusions(found)
    ]
    listed = table("Largest confusions", ["true → predicted", "samples", "% of row"], rows)
    return cards([picture], "one") + listed


def largest_confusions(found: Confusion) -> list[tuple[int, int, int, str]]:
    """Row, column, samples and share in percent of the largest wrong cells, the largest first."""
    wrong = found.counts.copy()
    diagonal = np.arange(found.known)
    wrong[diagonal, diagonal] = 0
    wrong[found.known :, -1] = 0  # an unknown sample called unknown is right
    shares = found.shares
    order = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS]
    places = [divmod(int(place), wrong.shape[1]) for place in order]
    return [
        (row, column, int(wrong[row, column]), percent(float(shares[row, column])))
        for row, column in places
        if wrong[row, column]
    ]


def matrix_pixels(found: Confusion) -> npt.NDArray[np.uint8]:
    """The matrix as an image with transparency, uint8 [H, W, 4].

    Unknown rows and the unknown column are as wide as a twentieth of the known ones, at least, so
    that they are seen beside a thousand classes.
    """
    side = max(1, IMAGE_SIDE // (found.known + 1))
    band = max(side, found.known * side // 20)
    alpha = np.sqrt(found.shares)
    heights = [side] * found.known + [band] * (len(found.rows) - found.known)
    widths = [side] * found.known + [band]
    large = np.repeat(np.repeat(alpha, heights, axis=0), widths, axis=1)
    edge = found.known * side
    pixels = np.zeros((*large.shape, 4), dtype=np.uint8)
    pixels[..., :3] = [int(KNOWN.light[at : at + 2], 16) for at in (1, 3, 5)]
    pixels[..., 3] = np.round(255 * large)
    line = (128, 128, 128, 255)
    pixels[:, edge - 1 : edge + 1] = line
    if len(found.rows) > found.known:
        pixels[edge - 1 : edge + 1, :] = line
    return pixels


def figures(view: View) -> Figures:
    """The matrix as a figure."""
    from matplotlib.colors import LinearSegmentedColormap

    from openset_core.report.style import DOUBLE_COLUMN, SINGLE_COLUMN, new_figure

    found = confusion(view)
    if found is None:
        return
    named = found.known <= TOO_MANY_NAMES
    small = found.known <= 8
    width = SINGLE_COLUMN if small or not named else DOUBLE_COLUMN
    ratio = (len(found.rows) if named else found.known) / len(found.columns)
    figure = new_figure(width, min(9.0, 0.9 + (width - 1.0) * ratio))
    axes = figure.subplots()
    blues = LinearSegmentedColormap.from_list("known", ["#ffffff", KNOWN.light])
    edge = found.known
    if not named:
        pixels = matrix_pixels(found)
        axes.imshow(pixels)
        axes.set(xticks=[], yticks=[])
    else:
        shares = 100 * found.shares
        axes.imshow(shares, cmap=blues, vmin=0, vmax=100)
        _write_numbers(axes, shares, found.counts, 6.5 if small else 6)
        axes.set_xticks(range(len(found.columns)), found.columns)
        axes.set_yticks(range(len(found.rows)), found.rows)
        if max(map(len, found.columns)) > 3:
            axes.tick_params(axis="x", rotation=45)
            for label in axes.get_xticklabels():
                label.set(ha="right", rotation_mode="anchor")
        axes.axvline(edge - 0.5, color="black", linewidth=1)
        if len(found.rows) > edge:
            axes.axhline(edge - 0.5, color="black", linewidth=1)
        axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(True)
    axes.set(xlabel="Predicted class", ylabel="True class")
    yield "confusion", figure


def _write_numbers(
    axes: Axes, shares: npt.NDArray[np.float64], counts: Integers, size: float
) -> None:
    for row, column in zip(*np.nonzero(counts), strict=True):
        share = shares[row, column]
        axes.text(
            column,
            row,
            f"{share:.0f}" if share >= 0.5 else "<1",
            ha="center",
            va="center",
            fontsize=size,
            color="white" if share > 85 else "black",
        )
