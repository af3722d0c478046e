"""What a reader must know before believing a difference: where runs are not alike."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from openset_core.results.comparison.grouping import TRAINING, GroupedRun, SortedRuns
from openset_core.results.comparison.model import Method
from openset_core.results.comparison.runs import FinishedRun, LeftOut

NAMED = 3
"""How many folders or trials a note names before it only counts the rest."""


def notes(found: SortedRuns, left_out: Sequence[LeftOut]) -> list[str]:
    """One sentence for everything that makes values less comparable than they look.

    Args:
        found: the runs in their places.
        left_out: run folders that could not be read.
    """
    by_protocol: dict[str, list[GroupedRun]] = defaultdict(list)
    for place in found.placed:
        by_protocol[place.settings[0].protocol].append(place)
    return [
        *(f"left out: {item.reason}" for item in left_out),
        *(
            f"left out: {run.folder} repeats {before.folder}, with the same method, trial and seed"
            for run, before in found.repeated
        ),
        *_contents(by_protocol),
        *(
            note
            for protocol, places in by_protocol.items()
            for note in (
                *_data(protocol, places),
                *_missing(protocol, places),
                *_recipes(protocol, places),
                *_thresholds(protocol, places),
            )
        ),
        *_surroundings(found.placed),
    ]


def _contents(by_protocol: dict[str, list[GroupedRun]]) -> Iterator[str]:
    names: dict[str, list[str]] = defaultdict(list)
    for protocol in by_protocol:
        names[protocol.partition(" (")[0]].append(protocol)
    for name, versions in names.items():
        if len(versions) > 1:
            yield (
                f"protocol {name} says different things about data in different runs, which are "
                f"not compared with each other: {', '.join(versions)}"
            )


def _data(protocol: str, places: Sequence[GroupedRun]) -> Iterator[str]:
    first: dict[int, FinishedRun] = {}
    for place in places:
        run = place.run
        before = first.setdefault(run.results.trial, run)
        parts = [
            part
            for part, facts in run.record.get("data", {}).items()
            if before.record.get("data", {}).get(part, facts) != facts
        ]
        if parts:
            yield (
                f"{run.folder} and {before.folder} are trial {run.results.trial} of {protocol} on "
                f"different data ({', '.join(parts)}); they cannot be compared"
            )


def _missing(protocol: str, places: Sequence[GroupedRun]) -> Iterator[str]:
    have: dict[Method, set[tuple[int, int]]] = defaultdict(set)
    for place in places:
        for method in place.methods.values():
            have[method].add((place.run.results.trial, place.run.results.seed))
    everything = set().union(*have.values())
    for method, there in have.items():
        lacking: list[str] = []
        for trial in sorted({trial for trial, _seed in everything}):
            seeds = sorted(seed for number, seed in everything if number == trial)
            gone = [seed for seed in seeds if (trial, seed) not in there]
            if len(gone) == len(seeds):
                lacking.append(f"trial {trial}")
            else:
                lacking += [f"trial {trial} seed {seed}" for seed in gone]
        if lacking:
            yield (
                f"{method.title} lacks {_some(lacking)} of {protocol}; its mean is over the others"
            )


def _recipes(protocol: str, places: Sequence[GroupedRun]) -> Iterator[str]:
    """Training options that differ between methods; their own recipes may well ask for that."""
    recipes = [place.run.recorded.get(TRAINING, {}) for place in places]
    options: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name in dict.fromkeys(name for recipe in recipes for name in recipe):
        for place, recipe in zip(places, recipes, strict=True):
            for method in place.methods.values():
                names = options[name][json.dumps(recipe.get(name))]
                if method.name not in names:
                    names.append(method.name)
    differing = [name for name, values in options.items() if len(values) > 1]
    if "epochs" in differing:
        told = "; ".join(
            f"{value} for {', '.join(names)}" for value, names in options["epochs"].items()
        )
        yield f"epochs on {protocol} differ: {told}"
    others = [name for name in differing if name != "epochs"]
    if others:
        yield f"training options on {protocol} differ between methods: {', '.join(others)}"


def _thresholds(protocol: str, places: Sequence[GroupedRun]) -> Iterator[str]:
    chosen = {
        json.dumps(place.run.recorded.get("threshold", {}), sort_keys=True) for place in places
    }
    if len(chosen) > 1:
        yield (
            f"rejection thresholds on {protocol} are set by different rules; metrics at a "
            "threshold do not compare"
        )


def _surroundings(places: Sequence[GroupedRun]) -> Iterator[str]:
    """Versions and number formats; they seldom matter, but somebody will ask."""

    def values(*keys: str) -> list[str]:
        found: list[str] = []
        for place in places:
            value: Any = place.run.record
            for key in keys:
                value = value.get(key, {}) if isinstance(value, dict) else {}
            if value and str(value) not in found:
                found.append(str(value))
        return found

    for what, keys in (
        ("versions of openset", ("versions", "openset")),
        ("versions of torch", ("versions", "torch")),
        ("number formats", ("device", "precision")),
        ("devices", ("device", "name")),
    ):
        found = values(*keys)
        if len(found) > 1:
            yield f"runs were made with different {what}: {', '.join(found)}"


def _some(items: Sequence[str]) -> str:
    more = len(items) - NAMED
    named = ", ".join(items[:NAMED])
    return f"{named} and {more} more" if more > 0 else named
