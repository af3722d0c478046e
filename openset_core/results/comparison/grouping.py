"""Runs sorted into settings and methods: which values may be averaged, and what they are called."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from openset_core.errors import OpensetError
from openset_core.experiment.protocol import load_protocol
from openset_core.results.comparison.model import Key, Method, PublishedEntry, Samples, Setting
from openset_core.results.comparison.runs import FinishedRun
from openset_core.results.run_results import RULES, PublishedFigure

TRAINING = "training"
SHOWN_CHANGES = 3
"""How many differing options a method's name carries before it is numbered instead."""


@attrs.frozen(kw_only=True)
class GroupedRun:
    """A run's place: one column or several, and a row for each scorer.

    Attributes:
        run: the run.
        settings: one for each unknown set, where the protocol has a row for each.
        methods: by scorer.
    """

    run: FinishedRun
    settings: tuple[Setting, ...]
    methods: Mapping[str, Method]


@attrs.frozen(kw_only=True)
class SortedRuns:
    """Runs in their places.

    Attributes:
        placed: each run that is used.
        repeated: runs of a method, trial and seed that another one stands for already, with it.
        samples: values by (trial, seed).
    """

    placed: tuple[GroupedRun, ...]
    repeated: tuple[tuple[FinishedRun, FinishedRun], ...]
    samples: dict[Key, Samples]

    @property
    def methods(self) -> tuple[Method, ...]:
        """Every method, in the order in which their names were met, all scorers of one together."""
        found = dict.fromkeys(method for place in self.placed for method in place.methods.values())
        names = list(dict.fromkeys(method.name for method in found))
        return tuple(sorted(found, key=lambda method: names.index(method.name)))

    @property
    def shown(self) -> dict[Setting, tuple[str, ...]]:
        """Metrics of the protocol's table, by setting, in the order in which they were met."""
        return {
            setting: place.run.results.shown for place in self.placed for setting in place.settings
        }


def sort_runs(runs: Sequence[FinishedRun]) -> SortedRuns:
    """Put every run in its place.

    Within a protocol, runs of one method differ in trial and seed alone: the same parts, options
    and training recipe. What differs otherwise is another method, and its name says in what.
    """
    protocols = _protocol_names(runs)
    trials = defaultdict(set)
    for run in runs:
        trials[protocols[run.folder], run.results.group].add(run.results.trial)
    methods = _methods(runs, protocols)
    placed, repeated = [], []
    samples: dict[Key, Samples] = {}
    first: dict[tuple[Any, ...], FinishedRun] = {}
    for run in runs:
        results = run.results
        protocol = protocols[run.folder]
        settings = tuple(
            Setting(
                protocol=protocol,
                group=results.group,
                unknown=unknown,
                over_trials=len(trials[protocol, results.group]) > 1,
            )
            for unknown in results.rows
        )
        rows = dict(methods[run.folder])
        for scorer, method in methods[run.folder].items():
            before = first.setdefault((protocol, method, results.trial, results.seed), run)
            if before is not run:
                repeated.append((run, before))
                del rows[scorer]
        if not rows:
            continue
        placed.append(GroupedRun(run=run, settings=settings, methods=rows))
        for setting, scorer, rule, metric, value in _values(placed[-1]):
            key = (setting, rows[scorer], rule, metric)
            samples.setdefault(key, {})[results.trial, results.seed] = value
    unique = tuple({(run.folder, other.folder): (run, other) for run, other in repeated}.values())
    return SortedRuns(placed=tuple(placed), repeated=unique, samples=samples)


def published_figures(found: SortedRuns) -> list[PublishedEntry]:
    """Published figures of every setting: beside ours, then of methods that were not run.

    The latter are in the protocol's file, and are left out where it is no longer found.
    """
    entries: dict[tuple[Any, ...], PublishedEntry] = {}
    for place in found.placed:
        for setting in place.settings:
            for scorer, method in place.methods.items():
                figures = place.run.results.scorers[scorer].published_against(setting.unknown)
                for metric, figure in figures.items():
                    entry = PublishedEntry(
                        setting=setting, method=method, run=True, metric=metric, figure=figure
                    )
                    entries.setdefault((setting, method, metric), entry)
    beside = {(e.setting, e.method.parts, e.metric, e.figure) for e in entries.values()}
    files = {setting: place.run for place in found.placed for setting in place.settings}
    others = [
        entry
        for setting, run in files.items()
        for entry in _in_protocol(setting, run)
        if (setting, entry.method.parts, entry.metric, entry.figure) not in beside
    ]
    return [*entries.values(), *others]


def _in_protocol(setting: Setting, run: FinishedRun) -> Iterator[PublishedEntry]:
    try:
        content = load_protocol(str(run.recorded.get("protocol", ""))).content
    except OpensetError:
        return
    for figure in content.published:
        if figure.unknown == setting.unknown and figure.group in (None, setting.group):
            yield PublishedEntry(
                setting=setting,
                method=Method(name=figure.method, scorer=figure.scorer or "", parts=figure.method),
                run=False,
                metric=figure.metric,
                figure=PublishedFigure(
                    value=figure.value,
                    deviation=figure.deviation,
                    source=figure.source,
                    compat=figure.compat,
                ),
            )


def _values(place: GroupedRun) -> Iterator[tuple[Setting, str, str, str, float]]:
    for setting in place.settings:
        for scorer in place.methods:
            for rule in RULES:
                found = place.run.results.scorers[scorer].by_rule(rule, setting.unknown)
                for metric, value in found.items():
                    if not math.isnan(value):  # not defined for these samples
                        yield setting, scorer, rule, metric, value


# --- names ----------------------------------------------------------------------------------------


def _protocol_names(runs: Sequence[FinishedRun]) -> dict[Path, str]:
    """The protocol of each run, by folder; a name with several contents is told apart.

    Runs that recorded no digest count as of the first content that goes by their name.
    """
    contents: dict[str, dict[str, None]] = defaultdict(dict)
    for run in runs:
        digest = run.record.get("protocol_digest")
        if digest:
            contents[_stem(run)][digest] = None
    names = {}
    for run in runs:
        name = _stem(run)
        digests = list(contents[name])
        own = run.record.get("protocol_digest") or next(iter(digests), "")
        names[run.folder] = f"{name} ({own[:6]})" if len(digests) > 1 else name
    return names


def _stem(run: FinishedRun) -> str:
    name = run.results.protocol
    return Path(name).stem if name.endswith(".toml") else name


def _methods(
    runs: Sequence[FinishedRun], protocols: Mapping[Path, str]
) -> dict[Path, dict[str, Method]]:
    """The rows of each run by scorer.

    Variants of a method, and of a scorer, are told apart within a protocol: between protocols
    options differ by the protocols' own recipes.
    """
    bases = {run.folder: run.name or _parts_name(run) for run in runs}
    trained = _Variants()
    scoring = _Variants()
    for run in runs:
        protocol, base = protocols[run.folder], bases[run.folder]
        trained.add((protocol, base), {"parts": _parts_name(run), **_method_options(run)})
        for scorer in run.results.scorers:
            scoring.add((protocol, base, scorer), _flat(run.recorded, scorer))
    rows: dict[Path, dict[str, Method]] = {}
    for run in runs:
        protocol, base = protocols[run.folder], bases[run.folder]
        own = {"parts": _parts_name(run), **_method_options(run)}
        name = base + trained.suffix((protocol, base), own)
        rows[run.folder] = {
            scorer: Method(
                name=name,
                scorer=scorer
                + scoring.suffix((protocol, base, scorer), _flat(run.recorded, scorer)),
                parts=run.results.method,
            )
            for scorer in run.results.scorers
        }
    return rows


def _parts_name(run: FinishedRun) -> str:
    parts = f"{run.results.method.replace('+', ',')},{run.results.backbone}"
    recipe = run.results.recipe
    if recipe:
        parts += f" (recipe {Path(recipe).stem if recipe.endswith('.toml') else recipe})"
    return parts


def method_sections(run: FinishedRun) -> list[str]:
    """Option tables in experiment.toml that belong to the trained method."""
    parts = f"+{run.results.method}+{run.results.backbone}+"
    return [
        key
        for key, value in run.recorded.items()
        if isinstance(value, dict) and (key == TRAINING or f"+{key}+" in parts)
    ]


def _method_options(run: FinishedRun) -> dict[str, Any]:
    return {
        name: value
        for section in method_sections(run)
        for name, value in _flat(run.recorded, section).items()
    }


def _flat(recorded: Mapping[str, Any], section: str) -> dict[str, Any]:
    """Options of one table as `section.name`; those of training by their name alone."""
    prefix = "" if section == TRAINING else f"{section}."
    values = recorded.get(section, {})
    return {prefix + name: value for name, value in values.items()}


@attrs.define
class _Variants:
    """Options that go by one name, and what to add to it so that they do not."""

    _found: dict[tuple[str, ...], dict[str, Mapping[str, Any]]] = attrs.field(factory=dict)

    def add(self, name: tuple[str, ...], options: Mapping[str, Any]) -> None:
        """Note options under a name."""
        self._found.setdefault(name, {}).setdefault(_key(options), options)

    def suffix(self, name: tuple[str, ...], options: Mapping[str, Any]) -> str:
        """Options that differ from others of the name, a number where they are many."""
        variants = self._found[name]
        if len(variants) == 1:
            return ""
        names = dict.fromkeys(key for found in variants.values() for key in found)
        differing = [
            key for key in names if len({_key(found.get(key)) for found in variants.values()}) > 1
        ]
        if len(differing) > SHOWN_CHANGES:
            return f" #{list(variants).index(_key(options)) + 1}"
        return f" ({', '.join(f'{key}={_text(options.get(key))}' for key in differing)})"


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _text(value: Any) -> str:
    return "none" if value is None else json.dumps(value).strip('"')
