"""Confusion matrices over K+1 classes, known and unknown divided by lines (M2IOSR, Fig. 4)."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
import numpy.typing as npt
from attrs import frozen

from openset_core.metrics import open_set_predictions
from openset_core.report.charts.output import Chart
from openset_core.report.charts.theme import TEXT, names_at, records
from openset_core.report.colours import KNOWN
from openset_core.report.data import RunData
from openset_core.report.formatting import percent
from openset_core.report.images import data_uri

Integers = npt.NDArray[np.int64]

MOST_NAMED = 25
"""Up to so many known classes each row and column has its name, and each cell its number."""

IMAGE_SIDE = 640
DARKEST = 0.75
"""Opacity of a cell with all samples of its row, so that its number can still be read."""


@frozen(kw_only=True, eq=False)
class Confusion:
    """Samples by true class and by prediction over K+1 classes."""

    counts: Integers  # int64 [rows, K + 1]; the known classes' rows come first
    rows: tuple[str, ...]
    columns: tuple[str, ...]  # what each column is; the last one is unknown
    known: int

    @property
    def named(self) -> bool:
        """Whether rows and columns have names, and cells numbers."""
        return self.known <= MOST_NAMED

    @property
    def shares(self) -> npt.NDArray[np.float64]:
        """Share of each row's samples, float64 [rows, K + 1]; zeros for a row without any."""
        totals = self.counts.sum(axis=1, keepdims=True)
        shares: npt.NDArray[np.float64] = self.counts / np.maximum(totals, 1)
        return shares

    def largest(self, most: int = 10) -> list[tuple[int, int]]:
        """Row and column of the largest wrong cells, the largest first."""
        wrong = self.counts.copy()
        diagonal = np.arange(self.known)
        wrong[diagonal, diagonal] = 0
        wrong[self.known :, -1] = 0  # an unknown sample called unknown is right
        order = np.argsort(-wrong, axis=None, kind="stable")[:most]
        places = [divmod(int(place), wrong.shape[1]) for place in order]
        return [place for place in places if wrong[place]]


def count_decisions(
    run: RunData, scorer: str, threshold: float, each_class: bool = False
) -> Confusion:
    """Known classes and unknown sets, or each class of these, by decision: unknown above the
    threshold of a scorer. The run has known samples with scores."""
    assert run.known is not None
    rows = list(run.class_names)
    size = len(rows)
    places, decisions = [], []
    for split in (run.known, *run.unknown):
        if split is run.known:
            places.append(split.label)
        elif each_class:
            labels, numbers = np.unique(split.label, return_inverse=True)
            places.append(len(rows) + numbers)
            before = f"{split.name}: " if len(run.unknown) > 1 else ""
            rows += [before + split.class_name(label) for label in labels]
        else:
            places.append(np.full(len(split), len(rows)))
            rows.append(split.name)
        if len(split):
            decisions.append(
                open_set_predictions(split.scores[scorer], split.predicted, threshold, size)
            )
    counts = np.zeros((len(rows), size + 1), dtype=np.int64)
    np.add.at(counts, (np.concatenate(places), np.concatenate(decisions)), 1)
    columns = (*run.class_names, "unknown")
    return Confusion(counts=counts, rows=tuple(rows), columns=columns, known=size)


def confusion_chart(shown: Confusion, *, side: int = 400) -> Chart:
    """The matrix in percent of each row."""
    words = [
        f"{shown.rows[row]} taken for {shown.columns[column]} {shown.counts[row, column]:,} times"
        for row, column in shown.largest(3)
    ]
    said = f"Confusion matrix of {shown.known:,} known classes and unknown; " + (
        f"largest confusions: {', '.join(words)}" if words else "no sample is confused"
    )
    drawn = _named(shown) if shown.named else _as_image(shown, side)
    return drawn.properties(description=said)


def _named(shown: Confusion) -> Chart:
    shares, totals = shown.shares, shown.counts.sum(axis=1)
    rows, columns = (places.ravel() for places in np.indices(shares.shape))
    counts, share = shown.counts.ravel(), shares.ravel()
    data = records(
        x=columns,
        y=rows,
        x_end=columns + 1,
        y_end=rows + 1,
        share=share,
        opacity=DARKEST * share,
        said=[
            "·" if not count else "<1" if value < 0.005 else percent(float(value), 0)
            for count, value in zip(counts, share, strict=True)
        ],
        true=[shown.rows[row] for row in rows],
        predicted=[shown.columns[column] for column in columns],
        samples=[f"{n:,} of {total:,}" for n, total in zip(counts, totals[rows], strict=True)],
    )
    slanted = max(map(len, shown.columns)) > 3
    x = _axis(len(shown.columns), shown.columns, "Predicted", labelAngle=-45 if slanted else 0)
    y = _axis(len(shown.rows), shown.rows, "True")
    cell = 30 if len(shown.columns) <= 14 else 26
    cells = (
        alt.Chart(data)
        .mark_rect(color=KNOWN.light)
        .encode(
            x=alt.X("x:Q", **x),
            x2="x_end:Q",
            y=alt.Y("y:Q", **y),
            y2="y_end:Q",
            opacity=alt.Opacity("opacity:Q", scale=None),
            tooltip=[
                alt.Tooltip("true:N", title="True"),
                alt.Tooltip("predicted:N", title="Predicted"),
                alt.Tooltip("samples:N", title="Samples"),
                alt.Tooltip("share:Q", title="Share", format=".1%"),
            ],
        )
    )
    numbers = (
        alt.Chart(data)
        .transform_calculate(x_middle="datum.x + 0.5", y_middle="datum.y + 0.5")
        .mark_text(fontSize=10, color=TEXT, tooltip=None)
        .encode(x=alt.X("x_middle:Q", **x), y=alt.Y("y_middle:Q", **y), text="said:N")
    )
    edges = _edges(shown.known, shown.known if len(shown.rows) > shown.known else None)
    return alt.LayerChart(layer=[cells, numbers, *edges]).properties(
        width=cell * len(shown.columns), height=cell * len(shown.rows)
    )


def _axis(count: int, names: tuple[str, ...], title: str, **more: Any) -> dict[str, Any]:
    """A scale on which cell 0 goes from 0 to 1, with the names in the middles."""
    axis = alt.Axis(
        grid=False,
        ticks=False,
        domain=False,
        labelLimit=130,
        titlePadding=10,
        labelOverlap=False,
        labelFlush=False,
        tickCount=2 * count,  # else Vega leaves out labels of small cells
        values=[number + 0.5 for number in range(count)],
        labelExpr=names_at(names),
        **more,
    )
    domain = [0, count] if title == "Predicted" else [count, 0]
    scale = alt.Scale(domain=domain, nice=False, zero=False)
    return {"title": title, "axis": axis, "scale": scale}


def _edges(x: float, y: float | None) -> list[alt.Chart]:
    """The lines between known and unknown."""
    lines = [
        alt.Chart(records(x=[float(x)])).mark_rule(color=TEXT, strokeWidth=1.2).encode(x="x:Q")
    ]
    if y is not None:
        at = alt.Chart(records(y=[float(y)]))
        lines.append(at.mark_rule(color=TEXT, strokeWidth=1.2).encode(y="y:Q"))
    return lines


def _as_image(shown: Confusion, side: int) -> Chart:
    pixels, edge = matrix_pixels(shown)
    height = round(side * pixels.shape[0] / pixels.shape[1])
    bare: dict[str, Any] = {"axis": alt.Axis(labels=False, ticks=False, grid=False, domain=True)}
    image = (
        alt.Chart(records(x=[0.5], y=[0.5], image=[data_uri(pixels)]))
        .mark_image(width=side, height=height)
        .encode(
            x=alt.X("x:Q", title="Predicted", scale=alt.Scale(domain=[0, 1]), **bare),
            y=alt.Y("y:Q", title="True", scale=alt.Scale(domain=[1, 0]), **bare),
            url="image:N",
        )
    )
    down = edge / pixels.shape[0] if len(shown.rows) > shown.known else None
    return alt.LayerChart(layer=[image, *_edges(edge / pixels.shape[1], down)]).properties(
        width=side, height=height
    )


def matrix_pixels(shown: Confusion) -> tuple[npt.NDArray[np.uint8], int]:
    """The matrix as an image with transparency.

    Unknown rows and the unknown column are as wide as a twentieth of the known ones, at least, so
    that they are seen beside a thousand classes.
    """
    side = max(1, IMAGE_SIDE // (shown.known + 1))
    band = max(side, shown.known * side // 20)
    heights = [side] * shown.known + [band] * (len(shown.rows) - shown.known)
    widths = [side] * shown.known + [band]
    alpha = np.repeat(np.repeat(np.sqrt(shown.shares), heights, axis=0), widths, axis=1)
    pixels = np.zeros((*alpha.shape, 4), dtype=np.uint8)
    pixels[..., :3] = [int(KNOWN.light[at : at + 2], 16) for at in (1, 3, 5)]
    pixels[..., 3] = np.round(255 * alpha)
    return pixels, shown.known * side
