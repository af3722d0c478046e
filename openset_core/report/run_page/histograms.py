"""Score histograms of known samples and of each unknown set, with the threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from attrs import frozen
from markupsafe import Markup

from openset_core.report.axes import Axis, number, number_axis
from openset_core.report.data import Floats, RunData, TestSplit
from openset_core.report.markup import cards, element, figure
from openset_core.report.page import Section
from openset_core.report.run_page.view import Figures, View
from openset_core.report.svg import (
    Frame,
    Hover,
    Points,
    chart,
    dot_key,
    frame_marks,
    legend,
    room_beside,
    steps_path,
    text,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BINS = 40
ROBUST = 0.005
"""Share of the scores at either end that may lie outside, where they lie far outside."""

FAR = 0.75
"""So many times the range of the other scores is far from them."""

ROWS_OF_A_CHART = 8
"""Unknown sets of a chart; more get a chart of their own."""


@frozen(kw_only=True, eq=False)
class Histogram:
    """Shares of known and unknown samples in bins of the score.

    Attributes:
        scorer: its name.
        threshold: the rejection threshold.
        edges: of the bins, ascending, float64 [BINS + 1].
        known: share of the known samples in each bin, float64 [BINS].
        unknown: the same for each unknown set, by name.
        below: whether the first bin also holds scores below it.
        above: whether the last bin also holds scores above it.
    """

    scorer: str
    threshold: float
    edges: Floats
    known: Floats
    unknown: dict[str, Floats]
    below: bool
    above: bool


def histogram(
    scorer: str, threshold: float, known: Floats, unknown: dict[str, Floats]
) -> Histogram:
    """Bin the scores of a scorer.

    A few scores that lie far from all others are counted in the outermost bins, so that the rest
    does not shrink to one bar.

    Args:
        scorer: its name.
        threshold: the rejection threshold.
        known: scores of the known samples, float64 [n].
        unknown: scores of each unknown set, by name.
    """
    pooled = np.concatenate([known, *unknown.values()])
    low, high = float(pooled.min()), float(pooled.max())
    inner_low, inner_high = np.quantile(pooled, [ROBUST, 1 - ROBUST])
    inner_low, inner_high = min(inner_low, threshold), max(inner_high, threshold)
    far = FAR * (inner_high - inner_low)
    if far > 0:
        low = inner_low if low < inner_low - far else low
        high = inner_high if high > inner_high + far else high
    if np.isfinite(threshold):  # a given threshold may lie beyond all scores
        low, high = min(low, threshold), max(high, threshold)
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-300):
        room = abs(low) / 2 or 0.5
        low, high = low - room, high + room
    edges = np.linspace(low, high, BINS + 1)

    def shares(scores: Floats) -> Floats:
        counts, _ = np.histogram(np.clip(scores, low, high), edges)
        return counts / max(len(scores), 1)

    return Histogram(
        scorer=scorer,
        threshold=threshold,
        edges=edges,
        known=shares(known),
        unknown={name: shares(scores) for name, scores in unknown.items()},
        below=bool(pooled.min() < low),
        above=bool(pooled.max() > high),
    )


def histogram_of(run: RunData, scorer: str, sets: tuple[TestSplit, ...]) -> Histogram | None:
    """The histogram of a run's scorer; None without known samples."""
    if run.known is None or not len(run.known):
        return None
    return histogram(
        scorer,
        run.scorers[scorer].threshold,
        run.known.scores[scorer],
        {part.name: part.scores[scorer] for part in sets},
    )


def section(view: View) -> Section | None:
    """A chart a scorer: known samples over each unknown set."""
    run = view.run
    groups = [
        run.unknown[start : start + ROWS_OF_A_CHART]
        for start in range(0, max(len(run.unknown), 1), ROWS_OF_A_CHART)
    ]
    histograms = [
        found
        for scorer in run.scored
        for sets in groups
        if (found := histogram_of(run, scorer, sets)) is not None
    ]
    if not histograms:
        return None
    many = len(histograms) > 2
    single = len(run.unknown) <= 1
    charts = [_card(each, single, width=370 if many else 440) for each in histograms]
    keys = [(dot_key("c0"), "known")]
    if run.unknown:
        keys.append((dot_key("unknown-colour"), "unknown"))
    return Section(
        "scores",
        "Scores of known and unknown samples" if run.unknown else "Scores of known samples",
        legend(keys) + cards(charts, "three" if many else ""),
        "How many of the samples, in percent of their set, get which score. Right of the dashed "
        "line, the threshold, a sample is rejected as unknown.",
        short="Scores",
    )


def _card(found: Histogram, single: bool, width: int) -> Markup:
    rows: list[tuple[str, Floats | None]] = list(found.unknown.items()) or [("", None)]
    row_height, top, bottom = (230, 26, 46) if len(rows) == 1 else (104, 26, 46)
    height = top + row_height * len(rows) + bottom
    axis = number_axis("Score, higher = more unknown", found.edges, count=6)
    marks: list[Markup] = []
    points = []
    frames = []
    title = "Samples, %" if len(rows) == 1 else ""
    heights = [
        number_axis(
            title,
            [0.0, max(found.known.max(), 0.0 if unknown is None else unknown.max(), 1e-9)],
            zero=True,
            as_percent=True,
            count=5 if len(rows) == 1 else 3,
        )
        for _, unknown in rows
    ]
    left = max(map(room_beside, heights))  # the same for all, since they share the scores' axis
    for position, (name, unknown) in enumerate(rows):
        last = position == len(rows) - 1
        row_top = top + position * row_height
        gap = 0 if len(rows) == 1 else 22
        frame = Frame(
            x=axis if last else Axis("", axis.low, axis.high, (), ()),
            y=heights[position],
            left=left,
            width=width,
            height=row_top + row_height + bottom,
            top=row_top + gap,
            bottom=bottom,
        )
        frames.append(frame)
        marks += frame_marks(frame)
        floor = frame.height - frame.bottom
        edges = frame.px(found.edges)
        if unknown is not None:
            outline = steps_path(edges, frame.py(unknown), floor)
            marks.append(element("path", d=outline, class_="area unknown-colour"))
        outline = steps_path(edges, frame.py(found.known), floor)
        marks.append(element("path", d=outline, class_="area c0"))
        if len(rows) > 1 or not single:
            marks.append(text(name, frame.left + 4, frame.top - 6, "start", "strong"))
        points.append(_points(found, frame, name if not single else "", unknown))
    marks += _threshold_marks(found, frames)
    beyond = [side for side, there in (("first", found.below), ("last", found.above)) if there]
    note = None
    if beyond:
        plural = "bars hold" if len(beyond) > 1 else "bar holds"
        note = f"The {' and '.join(beyond)} {plural} all scores beyond, too."
    columns = [("score", "text"), ("known", "percent")]
    columns += [("unknown", "percent")] if found.unknown else []
    label = f"Histogram of the scores of {found.scorer}; " + _said(found)
    drawing = chart((width, height), marks, label, Hover(columns=columns, series=points))
    return figure(found.scorer, drawing, f"threshold {number(found.threshold)}", note)


def _points(found: Histogram, frame: Frame, name: str, unknown: Floats | None) -> Points:
    middles = (found.edges[1:] + found.edges[:-1]) / 2
    tops = found.known if unknown is None else np.maximum(found.known, unknown)
    last = len(middles) - 1
    spans = [
        ("below " if found.below and at == 0 else f"{number(a)} to ")
        + ("any above" if found.above and at == last else number(b))
        for at, (a, b) in enumerate(zip(found.edges, found.edges[1:], strict=False))
    ]
    values: list[Floats | list[str]] = [spans, found.known]
    values += [] if unknown is None else [unknown]
    return Points(name=name, colour="c0", x=frame.px(middles), y=frame.py(tops), values=values)


def _threshold_marks(found: Histogram, frames: list[Frame]) -> list[Markup]:
    first, last = frames[0], frames[-1]
    x = float(first.px(found.threshold))
    rule = f"M{x:.1f} 8V{last.height - last.bottom:.1f}"
    marks = [element("path", d=rule, class_="rule")]
    if x - first.left > 62:
        marks.append(text("accepted", x - 6, 17, "end"))
    if first.width - x > 58:
        marks.append(text("rejected", x + 6, 17))
    return marks


def _said(found: Histogram) -> str:
    """The histogram in words."""
    middle = f"threshold {number(found.threshold)}"
    if not found.unknown:
        return f"known samples only; {middle}"
    return f"known samples and the unknown sets {', '.join(found.unknown)}; {middle}"


def figures(view: View) -> Figures:
    """One figure with a panel for each scorer and unknown set."""
    from openset_core.report.style import DOUBLE_COLUMN, SINGLE_COLUMN, new_figure

    run = view.run
    found = [each for name in run.scored if (each := histogram_of(run, name, run.unknown))]
    if not found:
        return
    sets = [part.name for part in run.unknown] or [""]
    panels = [(each, name) for each in found for name in sets]
    columns = 1 if len(panels) == 1 else min(3, max(2, len(sets)))
    rows = -(-len(panels) // columns)
    width = SINGLE_COLUMN if columns == 1 else DOUBLE_COLUMN
    figure = new_figure(width, rows * (1.9 if columns > 1 else 2.2))
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for position, (axes, (each, name)) in enumerate(zip(grid.flat, panels, strict=False)):
        _draw(axes, each, name, title=f"{each.scorer}, {name}" if len(sets) > 1 else each.scorer)
        if position % columns == 0:
            axes.set_ylabel("Samples (%)")
        if position >= len(panels) - columns:
            axes.set_xlabel("Score")
    grid.flat[0].legend(loc="best")
    yield "scores", figure


def _draw(axes: Axes, found: Histogram, name: str, title: str) -> None:
    from openset_core.report.colours import KNOWN, UNKNOWN

    if name:
        axes.stairs(
            100 * found.unknown[name],
            found.edges,
            fill=True,
            facecolor=UNKNOWN.light + "70",
            edgecolor=UNKNOWN.light,
            label="unknown",
        )
    axes.stairs(
        100 * found.known,
        found.edges,
        fill=True,
        facecolor=KNOWN.light + "60",
        edgecolor=KNOWN.light,
        label="known",
    )
    axes.axvline(found.threshold, color="black", linewidth=0.8, linestyle=(0, (3, 2)))
    axes.set_title(title)
    axes.set_ylim(bottom=0)
