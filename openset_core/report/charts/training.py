"""How training went: one quantity over the epochs a panel, each with a scale of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
import numpy.typing as npt
from attrs import frozen

from openset_core.report.charts.curves import simplify_polyline
from openset_core.report.charts.output import Chart
from openset_core.report.charts.theme import records
from openset_core.report.colours import KNOWN
from openset_core.report.formatting import number, percent

Floats = npt.NDArray[np.float64]

MOST_DOTS = 40
"""Up to so many epochs each has a dot."""


@frozen(kw_only=True, eq=False)
class Measured:
    """One quantity over the epochs."""

    title: str
    detail: str = ""
    epochs: Floats  # from 1, float64 [n]
    values: Floats  # float64 [n]; gaps where not finite
    fraction: bool = False

    def text(self, value: float) -> str:
        """A value with its unit."""
        return f"{percent(value, 2)} %" if self.fraction else number(value, 4)


def training_panel(measured: Measured, *, width: int = 190, titled: bool = False) -> alt.Chart:
    """One quantity over the epochs."""
    values, epochs = measured.values, measured.epochs
    finite = values[np.isfinite(values)]
    scale = float(np.ptp(finite)) or 1.0 if len(finite) else 1.0
    # A gap counts as a place far below, so that its neighbours stay.
    level = np.where(np.isfinite(values), values, min(finite, default=0.0) - scale)
    span = max(float(np.ptp(epochs)), 1.0)
    chosen = simplify_polyline(epochs / span, level / scale, most=300, tolerance=1e-3)
    if len(epochs) <= MOST_DOTS:
        chosen = np.arange(len(epochs))
    data = records(
        epoch=epochs[chosen].astype(np.int64),
        value=values[chosen],
        said=[measured.text(float(value)) for value in values[chosen]],
    )
    first, last = int(epochs.min()), int(epochs.max())
    domain = [first, last] if first < last else [first - 0.5, first + 0.5]
    ticks: dict[str, Any] = (
        {"tickCount": 5, "tickMinStep": 1} if first < last else {"values": [first]}
    )
    drawn: alt.Chart = (
        alt.Chart(data)
        .mark_line(color=KNOWN.light, point={"size": 18} if len(epochs) <= MOST_DOTS else False)
        .encode(
            x=alt.X(
                "epoch:Q",
                title="Epoch",
                scale=alt.Scale(domain=domain, nice=False, zero=False),
                axis=alt.Axis(format="d", grid=False, **ticks),
            ),
            y=alt.Y(
                "value:Q",
                title=None,
                scale=alt.Scale(zero=False),
                axis=alt.Axis(tickCount=4, format="~%" if measured.fraction else ".4~g"),
            ),
            tooltip=[alt.Tooltip("epoch:Q", title="Epoch"), alt.Tooltip("said:N", title="Value")],
        )
    )
    said = f"{measured.title}{f' ({measured.detail})' if measured.detail else ''}"
    told = f"{said} over {len(epochs):,} {'epochs' if len(epochs) > 1 else 'epoch'}"
    if len(finite):
        start, end, low, high = (
            measured.text(float(each))
            for each in (values[0], values[-1], finite.min(), finite.max())
        )
        told += f": from {start} to {end}; least {low}, most {high}"
    drawn = drawn.properties(width=width, height=round(0.6 * width), description=told)
    if titled:
        drawn = drawn.properties(title=said)
    return drawn


def training_chart(panels: Sequence[Measured], columns: int = 3) -> Chart:
    """All of it in one chart, for a file."""
    drawn = [training_panel(each, width=150, titled=True) for each in panels]
    return alt.concat(*drawn, columns=columns).properties(
        description=f"Training: {', '.join(each.title for each in panels)} over the epochs"
    )
