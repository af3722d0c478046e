"""Two-dimensional embeddings: groups of points, landmarks, and densities below."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import numpy.typing as npt
from attrs import field, frozen

from openset_core.report.charts.output import Chart
from openset_core.report.charts.theme import DOUBLE_COLUMN, TEXT, legend_below, records
from openset_core.report.colours import colour

SYMBOLS = ("circle", "square", "diamond", "triangle-down")
"""Of known classes, so that they differ without colours too."""

MANY_CLASSES = 20
"""More known classes than this are not told apart in a legend."""

MOST_POINTS = 5000
"""Points of a plane; of more only some are drawn, evenly, so that files stay small."""

UNKNOWN_LOOKS = (
    ("#4d4d4d", "cross"),
    ("#8c8c8c", "diamond"),
    ("#a6a6a6", "triangle-up"),
    ("#666666", "square"),
    ("#b8b8b8", "triangle-down"),
)
"""Greys and symbols of unknown sets beside coloured classes."""

Points = npt.NDArray[Any]


@frozen(kw_only=True)
class Looks:
    """Colour and symbol of each group of points, by name, and the groups that the legend explains:
    all by default."""

    groups: Mapping[str, tuple[str, str]]
    legend: Sequence[str] = field()
    width: int = DOUBLE_COLUMN

    @legend.default
    def _all(self) -> list[str]:
        return list(self.groups)

    @property
    def colours(self) -> alt.Scale:
        """Of a chart's colours."""
        return alt.Scale(domain=list(self.groups), range=[c for c, _ in self.groups.values()])

    @property
    def symbols(self) -> alt.Scale:
        """Of a chart's shapes."""
        return alt.Scale(domain=list(self.groups), range=[s for _, s in self.groups.values()])

    @property
    def explained(self) -> alt.Legend | None:
        """The legend under a figure; None where there is nothing to explain."""
        if not self.legend:
            return None
        legend = legend_below(self.legend, width=self.width)
        legend.values = list(self.legend)
        legend.symbolSize = 50
        return legend


def few(classes: Sequence[str]) -> list[str]:
    """The known classes that a legend explains: all, or none of many."""
    return list(classes) if len(classes) <= MANY_CLASSES else []


def class_looks(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Colour and symbol of known classes, by name; the pairs repeat after 20."""
    return {name: (colour(n).light, SYMBOLS[(n + n // 10) % 4]) for n, name in enumerate(names)}


def unknown_looks(names: Sequence[str], coloured: bool = False) -> dict[str, tuple[str, str]]:
    """Colour and symbol of unknown sets, by name: greys, or colours unlike that of the known."""
    if coloured:
        shapes = (*SYMBOLS[1:], "triangle-up", "cross")
        order = (3, 1, 2, 4, 5, 6, 7, 8, 9)
        return {n: (colour(order[i % 9]).light, shapes[i % 5]) for i, n in enumerate(names)}
    return {name: UNKNOWN_LOOKS[n % len(UNKNOWN_LOOKS)] for n, name in enumerate(names)}


def plane(
    points: Points,
    groups: Sequence[str],
    looks: Looks,
    *,
    side: float,
    titles: tuple[str, str] = ("dimension 1", "dimension 2"),
    landmarks: tuple[Points, Sequence[str]] | None = None,
    landmark_name: str = "",
    numbers: bool = True,
    hover: Mapping[str, Sequence[Any]] | None = None,
) -> Chart:
    """Points in a plane with equal scales on both axes, at most `MOST_POINTS` of them.

    Args:
        points: [n, 2]; later ones lie on top.
        groups: name of the group of each point.
        looks: of these groups.
        side: pixels of the square.
        titles: of the axes; an empty one for none.
        landmarks: landmarks [P, 2] and their groups, drawn as triangles of their group's colour.
        landmark_name: what the legend calls them.
        numbers: whether the axes have ticks and numbers.
        hover: what is told of each point beside its group, by title.
    """
    marked, owners = (np.empty((0, 2)), ()) if landmarks is None else landmarks
    every = np.concatenate([points, marked]).astype(np.float64)
    low, high = every.min(axis=0), every.max(axis=0)
    centre, half = (low + high) / 2, 0.54 * max(float((high - low).max()), 1e-6)
    ticks = alt.Axis(grid=False, tickCount=5, labels=numbers, ticks=numbers, domain=True)
    place: dict[str, Any] = {
        name: kind(
            f"{name}:Q",
            title=title or None,
            scale=alt.Scale(domain=[middle - half, middle + half], nice=False, zero=False),
            axis=ticks,
        )
        for name, kind, title, middle in zip("xy", (alt.X, alt.Y), titles, centre, strict=True)
    }
    kept = slice(None, None, thinning(len(points)))
    told = {name: values[kept] for name, values in (hover or {}).items()}
    x, y = points[kept].T
    layers = [
        alt.Chart(records(x=x, y=y, group=groups[kept], **told))
        .mark_point(filled=True, size=max(4.0, side / 18), opacity=0.55)
        .encode(
            **place,
            color=alt.Color("group:N", scale=looks.colours, legend=looks.explained),
            shape=alt.Shape("group:N", scale=looks.symbols, legend=looks.explained),
            tooltip=[f"{name}:N" for name in told or ("group",)],
        )
    ]
    if len(marked):
        legend = alt.Legend(
            title=None, orient="bottom", symbolType="triangle-up", symbolFillColor="white"
        )
        named = alt.Scale(domain=[landmark_name], range=[TEXT])
        kinds = [landmark_name] * len(marked)
        layers.append(
            alt.Chart(records(x=marked[:, 0], y=marked[:, 1], group=owners, kind=kinds))
            .mark_point(filled=True, shape="triangle-up", size=45, opacity=1, strokeWidth=0.8)
            .encode(
                **place,
                color=alt.Color("group:N", scale=looks.colours),
                stroke=alt.Stroke("kind:N", scale=named, legend=legend),
                tooltip=["group:N", "kind:N"],
            )
        )
    return alt.layer(*layers).properties(width=side, height=side)


def thinning(count: int) -> int:
    """Of so many points a plane draws one in this many."""
    return max(1, -(-count // MOST_POINTS))


def densities(
    curves: Sequence[tuple[str, npt.NDArray[np.float64]]],
    edges: npt.NDArray[np.float64],
    looks: Looks,
    *,
    title: str,
    y_title: str,
    width: float,
    height: float,
) -> Chart:
    """Histograms over one another.

    Args:
        curves: name of a group and its densities [b].
        edges: of the bins [b + 1].
        looks: of these groups.
        title: of the horizontal axis.
        y_title: of the vertical one; empty for none.
        width: in pixels.
        height: in pixels.
    """
    frame = records(
        x=np.tile(edges, len(curves)),
        density=np.concatenate([np.append(values, values[-1]) for _, values in curves]),
        group=[name for name, _ in curves for _ in edges],
    )
    base = alt.Chart(frame).encode(
        x=alt.X(
            "x:Q",
            title=textwrap.wrap(title, max(12, int(width / 6))),
            scale=alt.Scale(nice=False, zero=False),
            axis=alt.Axis(grid=False, tickCount=4),
        ),
        y=alt.Y("density:Q", title=y_title or None, stack=None, axis=alt.Axis(tickCount=3)),
        color=alt.Color("group:N", scale=looks.colours),
    )
    area = base.mark_area(interpolate="step-after", opacity=0.25)
    line = base.mark_line(interpolate="step-after", strokeWidth=1)
    return alt.layer(area, line).properties(width=width, height=height)
