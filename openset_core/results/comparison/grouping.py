"""Runs grouped into evaluation settings and methods: which values may be averaged, and names."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from openset_core.errors import OpensetError
from openset_core.experiment.experiment import TRAINING_SECTION
from openset_core.experiment.protocol import load_protocol
from openset_core.results.comparison.model import (
    EvaluationSetting,
    Key,
    Method,
    PublishedEntry,
    Samples,
)
from openset_core.results.comparison.runs import (
    FinishedRun,
    differing,
    option_key,
    option_text,
    options,
    protocol_name,
)
from openset_core.results.run_results import RULES, PublishedFigure

SHOWN_CHANGES = 3  # differing options that a method's name carries before it is numbered instead


@attrs.frozen(kw_only=True)
class GroupedRun:
    """A run with its method by scorer, and with one setting or one for each unknown set."""

    run: FinishedRun
    settings: tuple[EvaluationSetting, ...]
    methods: Mapping[str, Method]


@attrs.frozen(kw_only=True)
class GroupedRuns:
    """Several runs, grouped; `repeated` are left out, each with the run that it repeats."""

    runs: tuple[GroupedRun, ...]
    repeated: tuple[tuple[FinishedRun, FinishedRun], ...]
    samples: dict[Key, Samples]

    @property
    def methods(self) -> tuple[Method, ...]:
        """Every method, by first appearance of its name, all scorers of one together."""
        methods = dict.fromkeys(method for each in self.runs for method in each.methods.values())
        names = list(dict.fromkeys(method.name for method in methods))
        return tuple(sorted(methods, key=lambda method: names.index(method.name)))

    @property
    def shown(self) -> dict[EvaluationSetting, tuple[str, ...]]:
        """Metrics of the protocol's table, by setting, in order of appearance."""
        return {setting: each.run.results.shown for each in self.runs for setting in each.settings}


def group(runs: Sequence[FinishedRun]) -> GroupedRuns:
    """Group runs by setting and method.

    Within a protocol, runs of one method differ in trial and seed alone: components, options and
    training recipe are the same. Anything else makes another method, whose name says the
    difference.
    """
    protocols = _protocol_names(runs)
    trials = defaultdict(set)
    for run in runs:
        trials[protocols[run.folder], run.results.group].add(run.results.trial)
    methods = _methods(runs, protocols)
    grouped, repeated = [], {}
    samples: dict[Key, Samples] = {}
    first: dict[tuple[Any, ...], FinishedRun] = {}
    for run in runs:
        results = run.results
        protocol = protocols[run.folder]
        own = dict(methods[run.folder])
        for scorer, method in methods[run.folder].items():
            earlier = first.setdefault((protocol, method, results.trial, results.seed), run)
            if earlier is not run:
                repeated[run.folder, earlier.folder] = (run, earlier)
                del own[scorer]
        if not own:
            continue
        settings = tuple(
            EvaluationSetting(
                protocol=protocol,
                group=results.group,
                unknown=unknown,
                over_trials=len(trials[protocol, results.group]) > 1,
            )
            for unknown in results.rows
        )
        grouped.append(GroupedRun(run=run, settings=settings, methods=own))
        for setting in settings:
            for scorer, method in own.items():
                for rule in RULES:
                    values = results.scorers[scorer].by_rule(rule, setting.unknown)
                    for metric, value in values.items():
                        if not math.isnan(value):  # not defined for these samples
                            by_run = samples.setdefault((setting, method, rule, metric), {})
                            by_run[results.trial, results.seed] = value
    return GroupedRuns(runs=tuple(grouped), repeated=tuple(repeated.values()), samples=samples)


def published_figures(grouped: GroupedRuns) -> list[PublishedEntry]:
    """Published figures of every setting: beside ours, then of methods that were not run.

    The latter are in the protocol's file, and are left out where that file is gone.
    """
    entries: dict[tuple[Any, ...], PublishedEntry] = {}
    files: dict[EvaluationSetting, FinishedRun] = {}
    for one in grouped.runs:
        for setting in one.settings:
            files[setting] = one.run
            for scorer, method in one.methods.items():
                figures = one.run.results.scorers[scorer].published_against(setting.unknown)
                for metric, figure in figures.items():
                    entry = PublishedEntry(
                        setting=setting, method=method, run=True, metric=metric, figure=figure
                    )
                    entries.setdefault((setting, method, metric), entry)
    beside = {(e.setting, e.method.components, e.metric, e.figure) for e in entries.values()}
    others = []
    for setting, run in files.items():
        try:
            content = load_protocol(str(run.recorded.get("protocol", ""))).content
        except OpensetError:
            continue
        for each in content.published:
            theirs = PublishedFigure.from_protocol(each)
            if (
                each.unknown == setting.unknown
                and each.group in (None, setting.group)
                and (setting, each.method, each.metric, theirs) not in beside
            ):
                own = Method(name=each.method, scorer=each.scorer or "", components=each.method)
                others.append(
                    PublishedEntry(
                        setting=setting, method=own, run=False, metric=each.metric, figure=theirs
                    )
                )
    return [*entries.values(), *others]


def _protocol_names(runs: Sequence[FinishedRun]) -> dict[Path, str]:
    """The protocol of each run, by folder; contents that share a name are told apart by digest.

    Runs that recorded no digest count as of the first content of that name.
    """
    contents: dict[str, dict[str, None]] = defaultdict(dict)
    for run in runs:
        if digest := run.record.get("protocol_digest"):
            contents[protocol_name(run)][digest] = None
    names = {}
    for run in runs:
        name = protocol_name(run)
        digests = list(contents[name])
        own = run.record.get("protocol_digest") or next(iter(digests), "")
        names[run.folder] = f"{name} ({own[:6]})" if len(digests) > 1 else name
    return names


def _methods(
    runs: Sequence[FinishedRun], protocols: Mapping[Path, str]
) -> dict[Path, dict[str, Method]]:
    """The method of each run by scorer, by folder.

    Variants of a method, and of a scorer, are told apart within a protocol: between protocols
    options differ by the protocols' own recipes.
    """
    # Options of a run, then of each of its scorers, by what they are to be told apart within.
    sections: dict[Path, dict[tuple[str, ...], dict[str, Any]]] = {}
    variants: dict[tuple[str, ...], dict[str, Mapping[str, Any]]] = defaultdict(dict)
    for run in runs:
        components = f"{run.results.method.replace('+', ',')},{run.results.backbone}"
        if recipe := run.results.recipe:
            components += f" (recipe {Path(recipe).stem if recipe.endswith('.toml') else recipe})"
        own = {"components": components} | {
            name.removeprefix(f"{TRAINING_SECTION}."): value for name, value in options(run).items()
        }
        key = (protocols[run.folder], run.name or components)
        sections[run.folder] = {key: own} | {
            (*key, scorer): {f"{scorer}.{n}": v for n, v in run.recorded.get(scorer, {}).items()}
            for scorer in run.results.scorers
        }
        for label, values in sections[run.folder].items():
            variants[label].setdefault(option_key(values), values)
    methods: dict[Path, dict[str, Method]] = {}
    for run in runs:
        name, *scorers = (
            label[-1] + _suffix(variants[label], values)
            for label, values in sections[run.folder].items()
        )
        methods[run.folder] = {
            scorer: Method(name=name, scorer=shown, components=run.results.method)
            for scorer, shown in zip(run.results.scorers, scorers, strict=True)
        }
    return methods


def _suffix(variants: Mapping[str, Mapping[str, Any]], values: Mapping[str, Any]) -> str:
    """Options that differ from other variants of a name, or a number where they are many."""
    keys = differing(list(variants.values()))
    if len(keys) > SHOWN_CHANGES:
        return f" #{list(variants).index(option_key(values)) + 1}"
    told = ", ".join(f"{key}={option_text(values.get(key))}" for key in keys)
    return f" ({told})" if told else ""
