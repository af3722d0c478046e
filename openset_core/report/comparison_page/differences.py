"""Differences to the reference over the same trials."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from openset_core.metrics.open_set import METRICS
from openset_core.report.colours import UNKNOWN, colour
from openset_core.report.comparison_page.cells import shown, tables_markup
from openset_core.report.comparison_page.forest import Line, forest
from openset_core.report.comparison_page.intervals import OPEN_SETTINGS, direction, under
from openset_core.report.comparison_page.paper import panels, place_name
from openset_core.report.comparison_page.view import Figures, View
from openset_core.report.markup import cards, figure, folded
from openset_core.report.page import Section
from openset_core.report.svg import dot_key, legend, ring_key
from openset_core.results.comparison.model import EvaluationSetting, Method
from openset_core.results.comparison.statistics import Difference
from openset_core.results.comparison.tables import difference_tables, p_text, verdict

LOOKS = {
    "better": ("c0", False),
    "worse": ("c1", False),
    "same": ("unknown-colour", True),
    "unclear": ("unknown-colour", True),
}
"""Class of colour, and whether the dot is hollow, of each verdict."""


def section(view: View) -> Section | None:
    """A chart for each metric in each setting; None where nothing is compared."""
    c = view.comparison
    body = Markup("")
    number = 0
    for setting in c.settings:
        compared = {metric: c.differences(setting, metric) for metric in c.metrics_in([setting])}
        charts = [
            _card(view, setting, metric, found) for metric, found in compared.items() if found
        ]
        if charts:
            body += under(view.heading(setting), cards(charts), number < OPEN_SETTINGS)
            number += 1
    if not body:
        return None
    keys = [
        (dot_key("c0"), "better"),
        (dot_key("c1"), "worse"),
        (ring_key("unknown-colour"), "unclear: it may be chance"),
    ]
    body = legend(keys) + body
    body += folded("Differences in numbers", tables_markup(difference_tables(c)))
    title = f"Differences to {c.reference.title}"
    return Section("differences", title, body, _intro(view), short="Differences")


def _intro(view: View) -> str:
    c = view.comparison
    units = view.units(c.settings[0])
    pairs = [
        found.pairs
        for setting in c.settings
        for metric in c.metrics_in([setting])
        for found in c.differences(setting, metric).values()
    ]
    said = f"Each method minus {c.reference.title}"
    if max(pairs) == 1:
        return (
            f"{said}, in percentage points. There is one pair of runs each, so that nothing can be "
            "said about chance."
        )
    said += f" over the same {units}, in percentage points. "
    return (
        said + f"Lines are paired {view.level()} t intervals, each for its difference alone; p is "
        "that of the paired t test with Holm's correction for all methods compared by one metric, "
        f"and decides: below {view.significance()} a difference counts."
    )


def _card(
    view: View, setting: EvaluationSetting, metric: str, compared: dict[Method, Difference]
) -> Markup:
    lines = _lines(view, metric, compared)
    said = [f"{line.title} {shown(line.value or 0.0, signed=True)} {line.beside}" for line in lines]
    label = (
        f"Differences of {METRICS[metric].title} to {view.comparison.reference.title} in "
        f"{setting.title}, percentage points: {'; '.join(said)}"
    )
    return figure(METRICS[metric].title, forest(lines, label, zero=True), direction(metric))


def _lines(view: View, metric: str, compared: dict[Method, Difference]) -> list[Line]:
    lines = []
    for method, found in compared.items():
        judged = verdict(found, metric, view.comparison.confidence)
        look, hollow = LOOKS[judged]
        p = p_text(found.p_adjusted)
        said = f"{shown(found.mean, signed=True)} points: {judged}"
        if found.low is not None and found.high is not None:
            low, high = (shown(value, signed=True) for value in (found.low, found.high))
            said += f"\n{view.level()} interval {low} to {high}"
        said += f"\n{found.pairs} pairs" if found.pairs > 1 else "\none pair"
        said += f", p {p} after Holm" if p else ""
        lines.append(
            Line(
                name=method.name,
                label=view.scorer(method, metric),
                value=found.mean,
                low=found.low,
                high=found.high,
                said=said,
                colour=look,
                hollow=hollow,
                beside=f"p {p}" if p else "",
            )
        )
    return lines


def figures(view: View) -> Figures:
    """A figure for each setting: a panel a metric."""
    c = view.comparison
    paper = {"c0": colour(0).light, "c1": colour(1).light, "unknown-colour": UNKNOWN.light}
    for setting in view.pictured:
        drawn: dict[str, Sequence[Line]] = {}
        for metric in c.metrics_in([setting]):
            compared = c.differences(setting, metric)
            if compared:
                drawn[METRICS[metric].title] = _lines(view, metric, compared)
        if drawn:
            figure_ = panels(drawn, lambda line: paper[line.colour], zero=True)
            yield place_name("differences", view, setting), figure_
