"""Times and sizes of models as bars, a row a model."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

from openset_core.report.charts.output import Chart
from openset_core.report.charts.theme import (
    DOUBLE_COLUMN,
    TEXT,
    colours,
    legend_below,
    names_at,
    records,
)
from openset_core.results.tables import cell_text


def bars(
    names: Sequence[str],
    values: Sequence[float],
    kinds: Sequence[str],
    *,
    title: str,
    labels: bool = True,
    width: float = 170,
) -> Chart:
    """A bar for each value with the value at its end."""
    every = list(dict.fromkeys(kinds))
    axis = alt.Axis(
        labels=labels, ticks=False, domain=True, labelExpr=names_at(names), labelLimit=260
    )
    data = records(
        row=list(range(len(names))),
        name=names,
        value=values,
        text=[cell_text(value) for value in values],
        kind=kinds,
    )
    base = alt.Chart(data).encode(
        y=alt.Y("row:O", title=None, axis=axis),
        x=alt.X(
            "value:Q",
            title=title,
            scale=alt.Scale(domain=[0, 1.5 * max(values)]),
            axis=alt.Axis(tickCount=4, format="~s"),
        ),
    )
    marks = base.mark_bar(height={"band": 0.7}).encode(
        color=alt.Color(
            "kind:N", scale=colours(every), legend=legend_below(every, width=DOUBLE_COLUMN)
        ),
        tooltip=["name:N", "value:Q", "kind:N"],
    )
    written = base.mark_text(align="left", dx=3, fontSize=9, color=TEXT).encode(text="text:N")
    return alt.layer(marks, written).properties(width=width, height=alt.Step(18))
