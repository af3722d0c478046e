"""How training went: every loss term and everything else that was measured, by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from attrs import frozen
from markupsafe import Markup

from openset_core.report.axes import Axis, number, number_axis, percent, whole_number_axis
from openset_core.report.data import Floats
from openset_core.report.markup import cards, element, figure
from openset_core.report.page import Section
from openset_core.report.run_page.view import Figures, View
from openset_core.report.svg import Frame, Hover, Points, chart, curve_path, dots_path, frame_marks
from openset_core.report.thinning import thinned

MOST_DOTS = 40
"""Up to so many epochs each has a dot."""

TITLES: Mapping[str, tuple[str, bool]] = {
    "validation_accuracy": ("Validation accuracy, %", True),
    "rate": ("Learning rate", False),
    "seconds": ("Seconds an epoch", False),
    "images_per_second": ("Training images a second", False),
}
"""Titles of what an epoch's record holds beside the terms, and whether it is a fraction."""


@frozen(kw_only=True, eq=False)
class Measured:
    """One quantity over the epochs.

    Attributes:
        title: its name.
        detail: the phase of a loss term, where there are several.
        epochs: from 1, float64 [n].
        values: float64 [n].
        fraction: whether values are fractions, shown in percent.
    """

    title: str
    detail: str
    epochs: Floats
    values: Floats
    fraction: bool = False

    def written(self, value: float) -> str:
        """A value with its unit."""
        return f"{percent(value, 2)} %" if self.fraction else number(value, 4)


def measured(history: Sequence[Mapping[str, Any]]) -> tuple[list[Measured], list[Measured]]:
    """Loss terms, and everything else that a run's epochs recorded; numbers alone count."""
    terms = [name for line in history for name in line.get("terms", {})]
    others = [
        name
        for line in history
        for name, value in line.items()
        if name != "epoch" and isinstance(value, int | float) and not isinstance(value, bool)
    ]
    names = list(dict.fromkeys(terms))
    several = len({name.partition("/")[0] for name in names}) > 1
    found = []
    for name in names:
        phase, _, term = name.rpartition("/")
        epochs, values = _over_epochs(
            (line["epoch"], line.get("terms", {}).get(name)) for line in history
        )
        found.append(
            Measured(
                title=term.replace("_", " "),
                detail=f"phase {phase}" if several and phase else "",
                epochs=epochs,
                values=values,
            )
        )
    rest = []
    order = list(TITLES)
    for name in sorted(
        dict.fromkeys(others), key=lambda name: order.index(name) if name in order else 1.5
    ):
        title, fraction = TITLES.get(name, (name.replace("_", " "), False))
        epochs, values = _over_epochs((line["epoch"], line.get(name)) for line in history)
        rest.append(
            Measured(title=title, detail="", epochs=epochs, values=values, fraction=fraction)
        )
    return found, rest


def _over_epochs(pairs: Any) -> tuple[Floats, Floats]:
    there = [(epoch, value) for epoch, value in pairs if isinstance(value, int | float)]
    array = np.array(there, dtype=np.float64).reshape(-1, 2)
    return array[:, 0], array[:, 1]


def section(view: View) -> Section | None:
    """Small charts, each with its own scale."""
    if not view.run.history:
        return None
    terms, rest = measured(view.run.history)
    body = Markup("")
    if terms:
        body += element("h3", "Loss terms") + cards(map(_card, terms), "small")
    if rest:
        body += element("h3", "Validation, rate and speed") + cards(map(_card, rest), "small")
    epochs = int(view.run.history[-1]["epoch"])
    return Section(
        "training",
        "Training",
        body,
        f"{epochs:,} {'epochs' if epochs > 1 else 'epoch'}; each chart has a scale of its own. "
        "Loss terms are means over the steps of an epoch and carry their weights.",
    )


def _card(found: Measured) -> Markup:
    finite = found.values[np.isfinite(found.values)]
    last = found.written(float(found.values[-1]))
    axis = _value_axis(found)
    frame = Frame(
        x=_epoch_axis(found.epochs),
        y=axis,
        width=270,
        height=176,
        top=8,
        bottom=40,
        right=10,
    )
    scale = np.ptp(finite) if finite.size and np.ptp(finite) else 1.0
    span = max(float(np.ptp(found.epochs)), 1.0)
    filled = np.nan_to_num(found.values, nan=0.0, posinf=0.0, neginf=0.0)
    chosen = thinned(found.epochs / span, filled / scale, tolerance=1e-3)
    x, y = frame.px(found.epochs[chosen]), frame.py(found.values[chosen])
    marks = frame_marks(frame)
    marks.append(element("path", d=curve_path(x, y), class_="curve c0"))
    if len(found.epochs) <= MOST_DOTS:
        good = np.isfinite(y)
        marks.append(element("path", d=dots_path(x[good], y[good]), class_="dots small c0"))
    shown = [found.written(float(value)) for value in found.values[chosen]]
    points = Points(name="", colour="c0", x=x, y=y, values=[found.epochs[chosen], shown])
    label = f"{found.title} over {len(found.epochs)} epochs"
    if finite.size:
        low, high = (found.written(float(each)) for each in (finite.min(), finite.max()))
        label += (
            f": from {found.written(float(found.values[0]))} to {last}; least {low}, most {high}"
        )
    hover = Hover(columns=[("epoch", "number"), ("", "text")], series=[points])
    title = element("span", found.title, class_="wrap-anywhere")
    drawing = chart((frame.width, frame.height), marks, label, hover)
    detail = f"{found.detail} · " if found.detail else ""
    return figure(title, drawing, f"{detail}last {last}")


def _value_axis(found: Measured) -> Axis:
    return number_axis("", found.values, count=4, margin=0.06, as_percent=found.fraction)


def _epoch_axis(epochs: Floats) -> Axis:
    return whole_number_axis("Epoch", int(epochs.min()), int(epochs.max()))


def figures(view: View) -> Figures:
    """All of it in one figure."""
    from openset_core.report.colours import KNOWN
    from openset_core.report.style import DOUBLE_COLUMN, new_figure

    terms, rest = measured(view.run.history)
    panels = [*terms, *rest]
    if not panels:
        return
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(DOUBLE_COLUMN, 1.5 * rows)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for position, (axes, each) in enumerate(zip(grid.flat, panels, strict=False)):
        values = 100 * each.values if each.fraction else each.values
        dots = "." if len(values) <= MOST_DOTS else ""
        axes.plot(each.epochs, values, color=KNOWN.light, marker=dots, markersize=3)
        axes.set_title(each.title if not each.detail else f"{each.title}\n({each.detail})")
        ticks = _epoch_axis(each.epochs)
        axes.set_xticks(ticks.ticks, ticks.labels)
        axes.locator_params(axis="y", nbins=4)
        axes.grid(True)
        if position >= len(panels) - columns:
            axes.set_xlabel("Epoch")
    yield "training", figure
