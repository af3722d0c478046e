"""Metrics against a quantity: a curve a method, with error bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt

from openset_core.report.charts.output import Chart
from openset_core.report.charts.theme import DOUBLE_COLUMN, colours, dashes, legend_below, records

MOST_TICKS = 10
"""Values on the horizontal axis up to which each has a tick."""


def sweep(
    curves: Mapping[str, Sequence[tuple[float, float, float]]],
    names: Sequence[str],
    *,
    x_title: str,
    y_title: str,
    log: bool = False,
    width: float = 230,
    height: float = 170,
) -> Chart:
    """A curve a method.

    Args:
        curves: by name, values of the quantity, means and deviations; 0 for none.
        names: of all curves of the figure, which has one legend.
        x_title: name of the quantity.
        y_title: name of the metric.
        log: whether the quantity has a logarithmic scale.
        width: in pixels.
        height: in pixels.
    """
    points = [(name, *values) for name, curve in curves.items() for values in curve]
    method, x, mean, deviation = zip(*points, strict=True) if points else ((), (), (), ())
    frame = records(
        method=method,
        x=x,
        mean=mean,
        low=[m - d for m, d in zip(mean, deviation, strict=True)],
        high=[m + d for m, d in zip(mean, deviation, strict=True)],
    )
    ticks = sorted(set(x))
    axis = alt.Axis(format=".3~g", labelOverlap=True)
    if len(ticks) <= MOST_TICKS:
        axis = alt.Axis(values=ticks, format=".3~g", labelOverlap=True)
    legend = legend_below(names, width=DOUBLE_COLUMN, lines=True)
    base = alt.Chart(frame).encode(
        x=alt.X(
            "x:Q",
            title=x_title,
            axis=axis,
            scale=alt.Scale(type="log" if log else "linear", zero=False, nice=False, padding=8),
        ),
        y=alt.Y("mean:Q", title=y_title, scale=alt.Scale(zero=False, padding=8)),
        color=alt.Color("method:N", scale=colours(names), legend=legend),
        tooltip=["method:N", alt.Tooltip("x:Q", title=x_title), "mean:Q", "low:Q", "high:Q"],
    )
    return alt.layer(
        base.mark_line(strokeWidth=1.5).encode(
            strokeDash=alt.StrokeDash("method:N", scale=dashes(names), legend=legend)
        ),
        base.transform_filter("datum.high > datum.low").mark_rule().encode(y="low:Q", y2="high:Q"),
        base.mark_point(filled=True, size=36, opacity=1),
    ).properties(width=width, height=height)
