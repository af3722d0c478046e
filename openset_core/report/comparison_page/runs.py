"""Every single run, and those that failed."""

from __future__ import annotations

from markupsafe import Markup

from openset_core.metrics.open_set import METRICS
from openset_core.report.axes import percent, seconds
from openset_core.report.comparison_page.cells import breakable, sentence
from openset_core.report.comparison_page.view import View
from openset_core.report.markup import Content, element, folded, note, scrolling
from openset_core.report.page import Section
from openset_core.results.comparison.grouping import GroupedRun
from openset_core.results.comparison.model import EvaluationSetting
from openset_core.run_folder import RunFolder

MOST_ROWS = 1500
"""Rows of single values on a page; files have them all."""


def section(view: View) -> Section:
    """Failed runs first, then a folded table for each setting."""
    c = view.comparison
    body = Markup("")
    if view.origin.failures:
        items = [
            element("li", element("b", each.title), f": {sentence(each.reason)}")
            for each in view.origin.failures
        ]
        body += element("h3", "Failed") + element("ul", items)
    left = MOST_ROWS
    for setting in c.settings:
        places = [place for place in c.runs if setting in place.settings]
        rows = sum(len(place.methods) for place in places)
        heading = view.heading(setting)
        title = f"Every run{f': {heading}' if heading else ''}"
        if rows > left:
            body += note(f"{title}: {rows:,} rows are too many for a page; CSV and JSON have them.")
            continue
        left -= rows
        body += folded(title, _table(view, setting, places))
    intro = ""
    if any(_page(view, place) for place in c.runs):
        intro = "A run's name leads to its own page."
    elif view.origin.folder is not None:
        intro = "A run has a page of its own after openset report RUN; its name leads to it then."
    return Section("runs", "Single runs", body, intro, short="Runs")


def _page(view: View, place: GroupedRun) -> str | None:
    return view.origin.link(RunFolder(place.run.folder).report)


def _table(view: View, setting: EvaluationSetting, places: list[GroupedRun]) -> Markup:
    c = view.comparison
    metrics = c.metrics_in([setting])
    order = {method: number for number, method in enumerate(c.methods)}
    places = sorted(
        places,
        key=lambda place: (
            min(order[method] for method in place.methods.values()),
            place.run.results.trial,
            place.run.results.seed,
        ),
    )
    titles = ["method", "trial", "seed", "scorer", *(METRICS[m].title for m in metrics), "time"]
    head = element(
        "tr",
        [
            element(
                "th", title, scope="col", class_=None if title in ("method", "scorer") else "number"
            )
            for title in titles
        ],
    )
    body = []
    for place in places:
        for number, (scorer, method) in enumerate(place.methods.items()):
            found = place.run.results.scorers[scorer].by_rule("exact", setting.unknown)
            cells: list[Content] = []
            if number == 0:
                cells = _about(view, place, method.name)
            cells.append(element("td", method.scorer, class_="scorer"))
            cells += [
                element("td", percent(found[m]) if m in found else "–", class_="number")
                for m in metrics
            ]
            if number == 0:
                spent = sum(place.run.record.get("seconds", {}).values())
                cells.append(
                    element(
                        "td",
                        seconds(spent) if spent else "–",
                        class_="number",
                        rowspan=_span(place),
                    )
                )
            body.append(element("tr", cells, class_="begins" if number == 0 else None))
    whole = element(
        "table",
        element("caption", "Percent, exact evaluation"),
        element("thead", head),
        element("tbody", body),
        class_="methods",
    )
    return scrolling(whole)


def _span(place: GroupedRun) -> int | None:
    return len(place.methods) if len(place.methods) > 1 else None


def _about(view: View, place: GroupedRun, name: str) -> list[Content]:
    page = _page(view, place)
    shown: Content = breakable(name)
    if page is not None:
        shown = element("a", shown, href=page)
    span = _span(place)
    results = place.run.results
    return [
        element("th", shown, scope="rowgroup" if span else "row", rowspan=span),
        element("td", f"{results.trial}", class_="number", rowspan=span),
        element("td", f"{results.seed}", class_="number", rowspan=span),
    ]
