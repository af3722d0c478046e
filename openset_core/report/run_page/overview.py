"""The head of a run's page, what was run, and everything that was recorded about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from openset_core.errors import OpensetError
from openset_core.experiment import config
from openset_core.metrics.open_set import METRICS
from openset_core.report.axes import number, percent, seconds
from openset_core.report.markup import Content, Row, element, facts, folded, table
from openset_core.report.page import Section
from openset_core.report.run_page.provenance import ComponentInUse, Provenance, provenance
from openset_core.report.run_page.view import View
from openset_core.results.run_results import RULES
from openset_core.scoring.fitting import file_name

STAGES = ("train", "extract", "score")


def lead(view: View) -> Markup:
    """The protocol's metrics of the scorer whose decisions are shown, and warnings."""
    results = view.run.results
    made = Markup("")
    if view.scorer:
        found = view.decided.metrics
        tiles = [_tile(view, metric) for metric in results.shown if metric in found]
        if tiles:
            made += element("dl", tiles, class_="tiles")
            made += element("p", "Scorer ", element("b", view.scorer), "; percent", class_="note")
    warnings = [*provenance(view.run).warnings, *view.run.gaps, *view.remarks]
    if warnings:
        items = [element("li", _sentence(each)) for each in warnings]
        made += element("aside", element("ul", items), class_="warnings", aria_label="Warnings")
    return made


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."


def _tile(view: View, metric: str) -> Markup:
    decided = view.decided
    beside: list[Content] = []
    figure = decided.published_against(None).get(metric)
    if figure is not None:
        spread = "" if figure.deviation is None else f" ± {percent(figure.deviation)}"
        said = f"published {percent(figure.value)}{spread}"
        ours = decided.by_rule(figure.compat, None).get(metric) if figure.compat else None
        if figure.compat and ours is not None:
            said += f", {RULES[figure.compat]}; ours by it {percent(ours)}"
        beside.append(element("div", said, class_="beside"))
    return element(
        "div",
        element("dt", METRICS[metric].title),
        element("dd", element("div", percent(decided.metrics[metric]), class_="value"), beside),
        class_="tile",
    )


def subtitle(view: View) -> str:
    """Protocol, trial, seed and the size of the test."""
    results = view.run.results
    unknown = sum(n for part, n in results.samples.items() if part.startswith("unknown/"))
    said = f"Protocol {results.protocol}, trial {results.trial}, seed {results.seed}; "
    said += f"{results.samples.get('known', 0):,} known"
    said += (
        f" and {unknown:,} unknown test samples" if unknown else " test samples, no unknown ones"
    )
    return said + (f"; {results.group}" if results.group else "")


def what_was_run(view: View) -> Section:
    """Parts, settings that were changed, time, and the command."""
    run = view.run
    origin = provenance(run)
    pairs: list[tuple[Content, Content]] = [
        (part.kind.capitalize(), _about(part)) for part in origin.parts
    ]
    pairs.append(("Protocol", _protocol(view, origin)))
    pairs.append(("Known classes", _names(run.class_names)))
    pairs.append(("Epochs", f"{run.results.epochs:,}"))
    parameters = _parameters(view)
    if parameters:
        pairs.append(("Parameters", f"{parameters:,} at test time"))
    if origin.changes:
        pairs.append(("Set by hand", [element("div", element("code", c)) for c in origin.changes]))
    pairs.append(("Thresholds", [element("div", each) for each in _thresholds(view)]))
    times = run.record.get("seconds", {})
    spent = [f"{stage} {seconds(times[stage])}" for stage in STAGES if stage in times]
    if spent:
        pairs.append(("Time", ", ".join(spent)))
    pairs.append(("Computed on", _hardware(run.record)))
    pairs.append(("To repeat it", element("pre", origin.command)))
    return Section("run", "What was run", facts(pairs), short="Set-up")


def _about(part: ComponentInUse) -> Content:
    said: list[Content] = [element("b", part.name)]
    said += [f": {part.summary}"] if part.summary else []
    small = "; ".join(filter(None, [part.reference, part.distribution]))
    return [*said, element("div", small, class_="reference") if small else None]


def _protocol(view: View, origin: Provenance) -> str:
    name = view.run.results.protocol
    return f"{name}: {origin.protocol}" if origin.protocol else name


def _names(names: tuple[str, ...], most: int = 40) -> str:
    said = f"{len(names):,}: " + ", ".join(names[:most])
    return said if len(names) <= most else f"{said} and {len(names) - most:,} more"


def _parameters(view: View) -> int:
    from openset_core.model.artefact import read_description

    try:
        return read_description(view.run.folder.model).parameters
    except OpensetError:
        return 0


def _thresholds(view: View) -> list[str]:
    said = []
    for name, found in view.run.scorers.items():
        how = _how_set(view, name)
        said.append(f"{name}: {number(found.threshold, 4)}{how}")
    return said


def _how_set(view: View, scorer: str) -> str:
    path = view.run.folder.model / "scorers" / f"{file_name(scorer)}.toml"
    try:
        acceptance = config.read_toml(path, "scorer").get("acceptance")
    except OpensetError:
        return ""
    if acceptance is None:
        return ", given as a score"
    return f", accepts {100 * acceptance:.4g} % of the validation samples"


def _hardware(record: Mapping[str, Any]) -> str:
    device, machine = record.get("device", {}), record.get("hardware", {})
    said = []
    if device:
        processes = device.get("processes", 1)
        many = f"{processes} × " if processes > 1 else ""
        said.append(f"{many}{device.get('name', '?')}, {device.get('precision', '?')}")
        threads = device.get("threads", 0)
        if threads:
            said.append(f"{threads} {'threads' if threads > 1 else 'thread'}")
    if machine:
        said.append(
            f"{machine.get('processors', '?')} processors, {machine.get('system', '')} "
            f"{machine.get('machine', '')}"
        )
    return "; ".join(said) or "not recorded"


def everything_recorded(view: View) -> Section:
    """Data, versions and every option."""
    run = view.run
    record = run.record
    made = Markup("")
    data = record.get("data", {})
    if data:
        rows = [
            Row(
                header=part,
                cells=[
                    f"{facts_.get('samples', 0):,}",
                    element("code", facts_.get("split", "")),
                    element("code", facts_.get("data", "")),
                ],
            )
            for part, facts_ in data.items()
        ]
        columns = ["part", "samples", "split", "images and labels"]
        made += table("Data, with fingerprints", columns, rows)
    versions = [(name, str(value)) for name, value in record.get("versions", {}).items()]
    if "git_commit" in record:
        versions.append(("commit", str(record["git_commit"])))
    versions.append(("experiment", str(record.get("digest", ""))))
    made += element("h3", "Versions") + facts(versions, short=True)
    options = [
        (section, _options(values))
        for section, values in run.recorded.items()
        if section != "record" and isinstance(values, Mapping) and values
    ]
    made += folded("Every option", facts(options))
    return Section("record", "Everything recorded", made, short="Record")


def _options(values: Mapping[str, Any]) -> list[Content]:
    return [element("div", element("code", f"{key} = {value!r}")) for key, value in values.items()]
