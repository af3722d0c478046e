"""The embeddings in two dimensions: known samples by class, unknown ones in grey."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from attrs import evolve, frozen
from markupsafe import Markup

from openset_core.report.axes import Axis, number_axis
from openset_core.report.colours import PALETTE, UNKNOWN, colour
from openset_core.report.data import Floats, Integers
from openset_core.report.embedding import EmbeddingMap, Points
from openset_core.report.markup import cards, element, figure
from openset_core.report.page import Section
from openset_core.report.run_page.view import Figures, View
from openset_core.report.svg import (
    Frame,
    Hover,
    chart,
    dot_key,
    dots_path,
    frame_marks,
    legend,
    triangle_key,
    triangle_path,
)
from openset_core.report.svg import Points as Pointed

REACH = 14


@frozen(kw_only=True, eq=False)
class Group:
    """Points of one colour.

    Attributes:
        name: for the legend.
        points: float32 [n, 2].
        number: of the colour; None for unknown samples.
    """

    name: str
    points: Points
    number: int | None


def groups(found: EmbeddingMap, class_names: tuple[str, ...]) -> Iterator[Group]:
    """Unknown samples first, so that known ones lie above them; then a group a class."""
    grey = [each.points for each in found.unknown]
    if grey:
        yield Group(name="unknown", points=np.concatenate(grey), number=None)
    labels = found.known.part.label[found.known.rows]
    for number, name in enumerate(class_names):
        mine = labels == number
        if mine.any():
            yield Group(name=name, points=found.known.points[mine], number=number)


def section(view: View) -> Section | None:
    """The map as a chart."""
    found = view.map
    if found is None:
        return None
    names = view.run.class_names
    few = len(names) <= len(PALETTE)
    frame = _frame(found)
    marks: list[Markup] = frame_marks(frame, grid=found.exact) if found.exact else []
    keys = []
    for group in groups(found, names):
        look = "unknown-colour" if group.number is None else f"c{group.number % len(PALETTE)}"
        x, y = frame.px(group.points[:, 0]), frame.py(group.points[:, 1])
        marks.append(element("path", d=dots_path(x, y), class_=f"dots {look}"))
        if few or group.number is None:
            keys.append((dot_key(look), group.name))
    keys = [*keys[1:], *keys[:1]] if found.unknown else keys
    if not few:
        keys.insert(0, (dot_key("c0"), f"known ({len(names):,} classes; colours repeat)"))
    for (x, y), label in zip(found.landmarks, found.landmark_labels, strict=True):
        place = triangle_path(float(frame.px(x)), float(frame.py(y)))
        marks.append(element("path", d=place, class_=f"mark c{label % len(PALETTE)}"))
    if len(found.landmarks):
        keys.append((triangle_key(), f"{found.landmark_name} of the class of its colour"))
    label = (
        f"{_what(found)} of {_count(found)} test samples, known ones coloured by class, unknown "
        "ones in grey"
    )
    drawing = chart((frame.width, frame.height), marks, label, _hover(view, found, frame))
    picture = figure(_what(found), drawing, _how(found))
    return Section(
        "embedding",
        "Map of the embeddings",
        cards([picture], "one") + legend(keys),
        "Where the network puts the test samples. Point at a sample for its class, prediction and "
        "score.",
        short="Embeddings",
    )


def _what(found: EmbeddingMap) -> str:
    return "The embedding itself" if found.exact else "t-SNE"


def _count(found: EmbeddingMap) -> str:
    known, unknown = len(found.known.rows), sum(len(each.rows) for each in found.unknown)
    return f"{known:,} known and {unknown:,} unknown" if found.unknown else f"{known:,} known"


def _how(found: EmbeddingMap) -> str:
    from openset_core.report.embedding import PERPLEXITY, SEED

    which = f"{_count(found)} test samples" + ("" if found.whole else f", drawn with seed {SEED}")
    if found.exact:
        return which
    return (
        f"{which}; {found.dimensions} dimensions, perplexity {PERPLEXITY:.0f}, seed {SEED}. "
        "Distances between clusters mean little."
    )


def _frame(found: EmbeddingMap) -> Frame:
    everything = np.concatenate(
        [found.known.points, *(each.points for each in found.unknown), found.landmarks]
    )
    empty = Axis("", 0.0, 1.0, (), ())
    # Positions on a t-SNE have no unit, so it goes without ticks and titles.
    margins = {} if found.exact else {"left": 8, "right": 8, "top": 8, "bottom": 8}
    low, high = everything.min(axis=0), everything.max(axis=0)
    slope = float((high[1] - low[1]) / max(high[0] - low[0], 1e-9))
    height = round(min(max(560 * slope, 300), 560))
    frame = Frame(x=empty, y=empty, width=560, height=height, **margins)
    inner = (frame.width - frame.left - frame.right, frame.height - frame.top - frame.bottom)
    x, y = _equal_axes(everything, inner[0] / inner[1])
    return evolve(frame, x=x, y=y)


def _equal_axes(points: Points, ratio: float) -> tuple[Axis, Axis]:
    """Axes on which a step is as long in both directions: distances are what counts here."""
    low, high = points.min(axis=0).astype(float), points.max(axis=0).astype(float)
    middle, span = (low + high) / 2, np.maximum(high - low, 1e-9)
    tall = max(span[1], span[0] / ratio) * 1.06
    sides: Floats = np.array([tall * ratio, tall])
    starts, ends = middle - sides / 2, middle + sides / 2
    first, second = (
        number_axis(title, [starts[at], ends[at]]) for at, title in enumerate(("z₁", "z₂"))
    )
    return first, second


def _hover(view: View, found: EmbeddingMap, frame: Frame) -> Hover:
    run = view.run
    names = [*run.class_names]
    series = []
    scored = view.has_scores
    for each in (*found.unknown, found.known):
        numbers = each.part.label[each.rows]
        own = {number: name for number, name in enumerate(run.class_names)}
        is_known = each.part.part == "known"
        places: list[int] = []
        for number in numbers.tolist():
            name = own[number] if is_known else each.part.class_name(number)
            if name not in names:
                names.append(name)
            places.append(names.index(name))
        values: list[Integers | Floats] = [
            np.array(places, dtype=np.int64),
            each.part.predicted[each.rows],
        ]
        if scored:
            values.append(view.scores(each.part)[each.rows])
        title = "known" if is_known else f"unknown, {each.part.name}"
        series.append(
            Pointed(
                name=title,
                colour="ink" if is_known else "unknown",
                x=frame.px(each.points[:, 0]),
                y=frame.py(each.points[:, 1]),
                values=values,
            )
        )
    columns = [("class", "name"), ("largest logit", "name")]
    if scored:
        columns.append((f"{view.scorer} score", "number"))
    return Hover(columns=columns, series=series, names=names, reach=REACH)


def figures(view: View) -> Figures:
    """The map as a figure."""
    from openset_core.report.style import SINGLE_COLUMN, new_figure

    found = view.map
    if found is None:
        return
    names = view.run.class_names
    few = len(names) <= len(PALETTE)
    figure = new_figure(SINGLE_COLUMN, SINGLE_COLUMN + (0.5 if few else 0.2))
    axes = figure.subplots()
    handles = []
    for group in groups(found, names):
        shade = UNKNOWN.light if group.number is None else colour(group.number).light
        x, y = group.points.T
        handle = axes.scatter(x, y, s=5, color=shade, alpha=0.8, linewidths=0, label=group.name)
        if few or group.number is None:
            handles.append(handle)
    if found.unknown:
        handles = [*handles[1:], handles[0]]
    if len(found.landmarks):
        x, y = found.landmarks.T
        shades = [colour(int(label)).light for label in found.landmark_labels]
        style: dict[str, Any] = {"marker": "^", "edgecolors": "black", "linewidths": 0.7}
        handles.append(axes.scatter(x, y, s=34, c=shades, label=found.landmark_name, **style))
    axes.set_aspect("equal", adjustable="datalim")
    if found.exact:
        axes.set(xlabel="$z_1$", ylabel="$z_2$")
    else:
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set_visible(False)
    if handles:
        figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=min(4 if few else 2, len(handles)),
            markerscale=1.6,
            handletextpad=0.3,
            columnspacing=1.0,
        )
    yield "embedding", figure
