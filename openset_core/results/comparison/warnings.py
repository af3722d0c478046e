"""What a reader must know before believing a difference: where runs are not alike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from openset_core.experiment.experiment import TRAINING_SECTION
from openset_core.results.comparison.grouping import GroupedRun, GroupedRuns
from openset_core.results.comparison.model import Method
from openset_core.results.comparison.runs import LeftOut, differing, option_key

NAMED = 3  # trials that a warning names before it only counts the rest


def warnings(grouped: GroupedRuns, left_out: Sequence[LeftOut]) -> list[str]:
    """One sentence for everything that makes values less comparable than they look."""
    by_protocol: dict[str, list[GroupedRun]] = defaultdict(list)
    for each in grouped.runs:
        by_protocol[each.settings[0].protocol].append(each)
    notes = [f"left out: {item.reason}" for item in left_out]
    notes += [
        f"left out: {run.folder} repeats {earlier.folder}, with the same method, trial and seed"
        for run, earlier in grouped.repeated
    ]
    contents: dict[str, list[str]] = defaultdict(list)
    for protocol in by_protocol:
        contents[protocol.partition(" (")[0]].append(protocol)
    notes += [
        f"protocol {name} says different things about data in different runs, which are not "
        f"compared with each other: {', '.join(several)}"
        for name, several in contents.items()
        if len(several) > 1
    ]
    for protocol, runs in by_protocol.items():
        for check in (_data, _missing, _training):
            notes += check(protocol, runs)
        if len({option_key(each.run.recorded.get("threshold", {})) for each in runs}) > 1:
            notes.append(
                f"rejection thresholds on {protocol} are set by different rules; metrics at a "
                "threshold do not compare"
            )
    return [*notes, *_environments(grouped.runs)]


def _data(protocol: str, runs: Sequence[GroupedRun]) -> Iterator[str]:
    first = {each.run.results.trial: each.run for each in reversed(runs)}
    for each in runs:
        run = each.run
        trial = run.results.trial
        expected = first[trial].record.get("data", {})
        splits = [
            split
            for split, facts in run.record.get("data", {}).items()
            if expected.get(split, facts) != facts
        ]
        if splits:
            yield (
                f"{run.folder} and {first[trial].folder} are trial {trial} of {protocol} on "
                f"different data ({', '.join(splits)}); they cannot be compared"
            )


def _missing(protocol: str, runs: Sequence[GroupedRun]) -> Iterator[str]:
    finished: dict[Method, set[tuple[int, int]]] = defaultdict(set)
    for each in runs:
        for method in each.methods.values():
            finished[method].add((each.run.results.trial, each.run.results.seed))
    expected: dict[int, set[int]] = defaultdict(set)
    for trial, seed in set().union(*finished.values()):
        expected[trial].add(seed)
    scorers: dict[tuple[str, str], list[str]] = defaultdict(list)  # by method and what it lacks
    for method, own in finished.items():
        lacking: list[str] = []
        for trial, seeds in sorted(expected.items()):
            missing = [seed for seed in sorted(seeds) if (trial, seed) not in own]
            whole = len(missing) == len(seeds)
            lacking += [f"trial {trial}"] if whole else [f"trial {trial} seed {s}" for s in missing]
        if lacking:
            more = f" and {len(lacking) - NAMED} more" if len(lacking) > NAMED else ""
            scorers[method.name, ", ".join(lacking[:NAMED]) + more].append(method.scorer)
    for (name, missing_runs), names in scorers.items():
        yield (
            f"{name} {', '.join(names)} lacks {missing_runs} of {protocol}; its mean is over the "
            "others"
        )


def _training(protocol: str, runs: Sequence[GroupedRun]) -> Iterator[str]:
    """Training options that differ between methods; their own recipes may well ask for that."""
    recipes = [each.run.recorded.get(TRAINING_SECTION, {}) for each in runs]
    names = list(differing(recipes))
    if "epochs" in names:
        methods: dict[str, dict[str, None]] = defaultdict(dict)
        for each, recipe in zip(runs, recipes, strict=True):
            own = methods[option_key(recipe.get("epochs"))]
            own.update(dict.fromkeys(method.name for method in each.methods.values()))
        epochs = "; ".join(f"{value} for {', '.join(own)}" for value, own in methods.items())
        yield f"epochs on {protocol} differ: {epochs}"
    others = [name for name in names if name != "epochs"]
    if others:
        yield f"training options on {protocol} differ between methods: {', '.join(others)}"


def _environments(runs: Sequence[GroupedRun]) -> Iterator[str]:
    """Versions and number formats, which seldom matter."""
    for what, section, key in (
        ("versions of openset", "versions", "openset"),
        ("versions of torch", "versions", "torch"),
        ("number formats", "device", "precision"),
        ("devices", "device", "name"),
    ):
        values = [each.run.record.get(section, {}).get(key) for each in runs]
        different = dict.fromkeys(str(value) for value in values if value)
        if len(different) > 1:
            yield f"runs were made with different {what}: {', '.join(different)}"
