"""The head of the page, and what was compared."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from markupsafe import Markup

from openset_core.errors import OpensetError
from openset_core.experiment.protocol import load_protocol
from openset_core.metrics.open_set import METRICS
from openset_core.report.axes import percent, seconds
from openset_core.report.comparison_page.cells import breakable, opening
from openset_core.report.comparison_page.view import View, many
from openset_core.report.markup import Content, Row, element, facts, folded, table
from openset_core.report.page import Section
from openset_core.results.comparison.grouping import GroupedRun
from openset_core.results.comparison.model import Method
from openset_core.results.tables import rank_text

MOST_NOTES = 4
"""Notes at the head of the page; more stand further below."""


def title(view: View) -> str:
    """What is compared, in a few words."""
    c = view.comparison
    names = list(dict.fromkeys(method.name for method in c.methods))
    protocols = list(c.protocols)
    where = ", ".join(protocols) if len(protocols) <= 3 else f"{len(protocols)} protocols"
    what = names[0] if len(names) == 1 else f"{len(names)} methods"
    return f"{what} on {where}"


def subtitle(view: View) -> str:
    """How much evidence there is."""
    results = [place.run.results for place in view.comparison.runs]
    parts = [
        many(len({result.trial for result in results}), "trial"),
        many(len({result.seed for result in results}), "seed"),
        many(len(results), "run"),
    ]
    failed = view.origin.failures
    return "; ".join([*parts, *([f"{len(failed)} failed"] if failed else [])])


def lead(view: View) -> Markup:
    """The best by each metric, and what a reader must know first."""
    made = Markup("")
    c = view.comparison
    tile = _tile if len(c.settings) == 1 else _rank_tile
    tiles = [tile(view, metric) for metric in c.metrics_in(c.settings)]
    if any(tiles):
        made += element("dl", tiles, class_="tiles")
    notes = _notes(view)
    if notes:
        shown: list[Content] = [opening(each, _names(view)) for each in notes[:MOST_NOTES]]
        if len(notes) > MOST_NOTES:
            more = f"{len(notes) - MOST_NOTES} more"
            shown.append([element("a", more, href="#compared"), " further below."])
        items = [element("li", each) for each in shown]
        made += element("ul", items, class_="warnings", aria_label="Notes")
    return made


def _tile(view: View, metric: str) -> Markup:
    """The best method by a metric, or the only one."""
    c = view.comparison
    (setting,) = c.settings
    best = c.best(setting, metric)
    methods = c.methods_in(setting)
    first = c.duplicate_of(best[0] if best else methods[0], metric)
    found = c.estimate(setting, first, metric)
    title_ = METRICS[metric].title
    value = percent(found.mean) if found else "–"
    spread: Content = None
    if found and found.deviation is not None:
        spread = element("small", f" ± {percent(found.deviation)}")
    beside: list[Content] = []
    if best:
        beside.append(
            element("div", breakable(first.name), f" {view.scorer(first, metric)}", class_="beside")
        )
        others = len(
            {
                c.duplicate_of(m, metric)
                for m in (*best, *c.not_significantly_worse(setting, metric))
            }
            - {first}
        )
        if others:
            said = f"{many(others, 'other')} not clearly worse"
            beside.append(element("div", said, class_="beside"))
    elif len(methods) > 1:
        beside.append(element("div", "the same for all", class_="beside"))
    return element(
        "div",
        element("dt", f"Best {title_}" if best else title_),
        element("dd", element("div", value, spread, class_="value"), beside),
        class_="tile",
    )


def _rank_tile(view: View, metric: str) -> Markup:
    """The method with the best average rank over protocols, where there is more than one."""
    c = view.comparison
    ranks = c.average_ranks(metric)
    if len(set(ranks.values())) < 2:
        return Markup("")
    best = min(ranks, key=lambda method: ranks[method])
    over = many(len(c.protocols), "protocol") if view.several_protocols else "settings"
    shown = [breakable(best.name), f" {view.scorer(best, metric)}"]
    return element(
        "div",
        element("dt", f"Best {METRICS[metric].title}"),
        element(
            "dd",
            element("div", element("small", "rank "), rank_text(ranks[best]), class_="value"),
            element("div", shown, class_="beside"),
            element("div", f"average over {over}", class_="beside"),
        ),
        class_="tile",
    )


def section(view: View) -> Section:
    """Methods, protocols, trials, seeds, machines, notes and the command."""
    c = view.comparison
    body = _methods(view)
    pairs: list[tuple[Content, Content]] = []
    pairs += [("Protocol", _protocol(view, name)) for name in c.protocols]
    results = [place.run.results for place in c.runs]
    pairs.append(("Trials", _numbers(result.trial for result in results)))
    pairs.append(("Seeds", _numbers(result.seed for result in results)))
    pairs.append(("Reference", c.reference.title))
    pairs.append(("Confidence", view.level()))
    records = [place.run.record for place in c.runs]
    pairs.append(("Computed on", _said(_device(record) for record in records)))
    pairs.append(("Versions", _said(_versions(record) for record in records)))
    if view.origin.command:
        pairs.append(("To repeat it", element("pre", view.origin.command)))
    body += facts(pairs)
    if view.origin.asked:
        body += folded("bench.toml", element("pre", view.origin.asked))
    if c.notes and len(_notes(view)) > MOST_NOTES:  # else all stand at the head
        items = [element("li", opening(each, _names(view))) for each in c.notes]
        body += element("h3", "What is not alike, or missing") + element("ul", items)
    if view.origin.files:
        links = [
            element("li", element("a", name, href=name), f": {what}")
            for name, what in view.origin.files
        ]
        body += element("h3", "The same as files") + element("ul", links)
    return Section("compared", "What was compared", body, short="Set-up")


def _notes(view: View) -> list[str]:
    """What failed, and what is not alike."""
    failed = (f"failed: {each.title}: {each.reason}" for each in view.origin.failures)
    return [*failed, *view.comparison.notes]


def _names(view: View) -> list[str]:
    return [method.name for method in view.comparison.methods]


def _methods(view: View) -> Markup:
    """A table of methods: their parts, how often they were run, and what that took."""
    places: dict[str, list[GroupedRun]] = {}
    scorers: dict[str, dict[Method, None]] = {}
    for place in view.comparison.runs:
        for method in place.methods.values():
            runs = places.setdefault(method.name, [])
            if place not in runs:
                runs.append(place)
            scorers.setdefault(method.name, {})[method] = None
    rows = []
    for name, found in places.items():
        parts = _parts(found[0])
        rows.append(
            Row(
                header=breakable(name),
                cells=[
                    breakable(parts) if parts != name else "",
                    ", ".join(method.scorer for method in scorers[name]),
                    f"{len(found)}",
                    _numbers(place.run.results.epochs for place in found),
                    _time(found),
                ],
            )
        )
    columns = ["method", "parts", "scorers", "runs", "epochs", "time a run"]
    if not any(row.cells[0] for row in rows):
        columns.remove("parts")
        rows = [Row(header=row.header, cells=row.cells[1:]) for row in rows]
    return table("Methods", columns, rows, numbers=False)


def _parts(place: GroupedRun) -> str:
    results = place.run.results
    return ",".join([*results.method.split("+"), results.backbone])


def _time(places: Sequence[GroupedRun]) -> str:
    spent = [sum(place.run.record.get("seconds", {}).values()) for place in places]
    spent = [each for each in spent if each]
    return seconds(fmean(spent)) if spent else "–"


def _protocol(view: View, name: str) -> Content:
    settings = view.comparison.protocols[name]
    run = next(place.run for place in view.comparison.runs if place.settings[0] in settings)
    samples = run.results.samples
    unknown = sum(count for part, count in samples.items() if part.startswith("unknown/"))
    said: list[Content] = [element("b", name)]
    try:
        content = load_protocol(str(run.recorded.get("protocol", ""))).content
        said.append(f": {content.summary}")
        if content.source:
            said.append(element("div", content.source, class_="reference"))
    except OpensetError:
        pass
    counts = f"{samples.get('known', 0):,} known"
    counts += f" and {unknown:,} unknown test samples" if unknown else " test samples"
    said.append(element("div", f"{counts} in trial {run.results.trial}", class_="reference"))
    return said


def _numbers(values: Any) -> str:
    """Whole numbers, each once, with runs of them shortened: `0 to 4, 7`."""
    found = sorted(set(values))
    parts: list[list[int]] = []
    for value in found:
        if parts and value == parts[-1][-1] + 1:
            parts[-1].append(value)
        else:
            parts.append([value])
    return ", ".join(
        f"{part[0]} to {part[-1]}" if len(part) > 2 else ", ".join(map(str, part)) for part in parts
    )


def _said(values: Any) -> str:
    return "; ".join(value for value in dict.fromkeys(values) if value) or "not recorded"


def _device(record: Any) -> str:
    device = record.get("device", {})
    return ", ".join(str(device[key]) for key in ("name", "precision") if key in device)


def _versions(record: Any) -> str:
    versions = record.get("versions", {})
    return ", ".join(
        f"{name} {versions[name]}" for name in ("openset", "torch") if name in versions
    )
