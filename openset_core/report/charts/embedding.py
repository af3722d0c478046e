"""Samples in two dimensions: known ones by class, unknown ones in grey, landmarks on top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import numpy.typing as npt

from openset_core.report.charts.output import Chart
from openset_core.report.charts.theme import TEXT, legend_below, records
from openset_core.report.colours import PALETTE, UNKNOWN, colour

Points = npt.NDArray[np.float32]

UNKNOWN_GROUP = "unknown"
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-right")
"""Of classes, so that they differ without colours too."""


def embedding_chart(
    points: Points,
    classes: npt.NDArray[np.int64],
    class_names: Sequence[str],
    *,
    hover: Mapping[str, Any] | None = None,
    landmarks: Points | None = None,
    landmark_classes: npt.NDArray[np.int64] | None = None,
    landmark_name: str = "landmark",
    axes: bool = True,
    side: int = 440,
    description: str,
) -> Chart:
    """A scatter plot on which a step is as long in both directions.

    Args:
        points: float32 [n, 2]; later ones lie on top.
        classes: class of each, int64 [n], -1 for unknown samples.
        class_names: names of the known classes.
        hover: further columns that are told of the point under the pointer.
        landmarks: a method's own points, float32 [P, 2].
        landmark_classes: class of each, int64 [P].
        landmark_name: what a landmark is called.
        axes: whether positions have a meaning, and axes.
        side: of the longer side, in pixels.
        description: alternative text.
    """
    few = len(class_names) <= len(PALETTE)
    # A group is what has a colour of its own: a class where there are few.
    groups = list(dict.fromkeys(class_names if few else map(str, range(len(PALETTE)))))
    group_of = [groups[number % len(PALETTE)] for number in range(len(class_names))]
    grey = UNKNOWN_GROUP if (classes < 0).any() else None
    names = groups if grey is None else [*groups, grey]
    scale = alt.Scale(
        domain=names, range=[*(colour(n).light for n in range(len(groups))), UNKNOWN.light]
    )
    shapes = alt.Scale(
        domain=names, range=[*(SHAPES[n % len(SHAPES)] for n in range(len(groups))), "cross"]
    )
    legend = legend_below(names, width=side) if few else None
    everything = points if landmarks is None else np.concatenate([points, landmarks])
    low, high = everything.min(axis=0).astype(float), everything.max(axis=0).astype(float)
    room = 0.03 * max(float((high - low).max()), 1e-9)
    low, high = low - room, high + room
    spans = high - low
    # A very flat map keeps some height.
    width, height = (max(round(side * span / spans.max()), 160) for span in spans)

    def place(field: str, number: int) -> dict[str, Any]:
        shown = alt.Axis(tickCount=6) if axes else None
        domain = [float(low[number]), float(high[number])]
        fitted = alt.Scale(domain=domain, nice=False, zero=False)
        title = f"z{'₁₂'[number]}" if axes else None
        return {"shorthand": f"{field}:Q", "title": title, "axis": shown, "scale": fitted}

    x, y = alt.X(**place("x", 0)), alt.Y(**place("y", 1))
    samples = alt.Chart(
        records(
            x=points[:, 0],
            y=points[:, 1],
            group=[UNKNOWN_GROUP if number < 0 else group_of[number] for number in classes],
            **(hover or {}),
        )
    )
    layers = [
        samples.mark_point(filled=True, size=22, opacity=0.8).encode(
            x=x,
            y=y,
            color=alt.Color("group:N", title=None, scale=scale, legend=legend),
            shape=alt.Shape("group:N", title=None, scale=shapes, legend=legend),
            tooltip=[alt.Tooltip(f"{name}:N") for name in hover or {}],
        )
    ]
    if landmarks is not None and len(landmarks):
        assert landmark_classes is not None
        marked = alt.Chart(
            records(
                x=landmarks[:, 0],
                y=landmarks[:, 1],
                colour=[colour(number).light for number in landmark_classes],
                what=[f"{landmark_name} of {class_names[number]}" for number in landmark_classes],
            )
        )
        layers.append(
            marked.mark_point(
                filled=True,
                shape="triangle-down",
                size=110,
                stroke=TEXT,
                strokeWidth=1.2,
                opacity=1,
            ).encode(
                x=x,
                y=y,
                color=alt.Color("colour:N", scale=None),
                tooltip=alt.Tooltip("what:N", title="Landmark"),
            )
        )
    return alt.LayerChart(layer=layers).properties(
        width=width, height=height, description=description
    )
