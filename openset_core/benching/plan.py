"""What a bench is asked to run, resolved to single runs before the first one starts."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from openset_core.errors import ConfigError, OpensetError, did_you_mean
from openset_core.experiment import config
from openset_core.experiment.experiment import (
    DEFAULT_PROTOCOL,
    TRAINING_SECTION,
    Experiment,
    resolve,
)
from openset_core.experiment.protocol import Protocol, load_protocol
from openset_core.experiment.recipe import load_recipe
from openset_core.experiment.selection import select, split_names
from openset_core.registry import Component, Registry, registry
from openset_core.results.tables import many
from openset_core.run_folder import DEFAULT_RUNS

ALL_TRIALS = "all"


@attrs.frozen(kw_only=True)
class BenchMethod:
    plugins: str  # separated by commas, as after `--plugins`
    name: str = ""  # in tables; the components by default
    recipe: str | None = None  # name or path; the bench's when None
    set: dict[str, dict[str, Any]] = attrs.field(factory=dict)  # by component, and under `training`

    @property
    def label(self) -> str:
        options = [
            f"{section}.{key}={json.dumps(value)}"
            for section, values in self.set.items()
            for key, value in values.items()
        ]
        recipe = [f"recipe {self.recipe}"] if self.recipe else []
        return self.name or " ".join([",".join(split_names(self.plugins)), *recipe, *options])


def _trials(_instance: Any, _attribute: Any, value: str | tuple[int, ...]) -> None:
    if isinstance(value, str) and value != ALL_TRIALS:
        raise ValueError(f'trials must be "{ALL_TRIALS}" or a list of numbers, not {value!r}')
    _numbers(value if isinstance(value, tuple) else (0,), "trials")


def _seeds(_instance: Any, _attribute: Any, value: int | tuple[int, ...]) -> None:
    if isinstance(value, int):
        if value < 1:
            raise ValueError(f"seeds must be at least 1, or a list of seeds, not {value}")
    else:
        _numbers(value, "seeds")


def _numbers(values: Sequence[int], what: str) -> None:
    if not values:
        raise ValueError(f"{what} names none")
    if min(values) < 0:
        raise ValueError(f"{what} must be 0 or more, not {min(values)}")
    if len(set(values)) < len(values):
        raise ValueError(f"{what} names one twice: {', '.join(map(str, values))}")


@attrs.frozen(kw_only=True)
class BenchFile:
    methods: tuple[BenchMethod, ...] = ()
    protocols: tuple[str, ...] = (DEFAULT_PROTOCOL,)  # names or paths
    trials: str | tuple[int, ...] = attrs.field(default=ALL_TRIALS, validator=_trials)
    # or how many: 3 stands for 0, 1, 2
    seeds: int | tuple[int, ...] = attrs.field(default=(0,), validator=_seeds)
    # for every method that has the component
    set: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    recipe: str = ""  # name or path
    reference: str | None = None  # method to compare with; the first when None
    # what a bench wrote down; ignored when read
    record: dict[str, Any] = attrs.field(factory=dict, eq=False)

    @property
    def seed_numbers(self) -> tuple[int, ...]:
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds

    def asked(self) -> dict[str, Any]:
        """What decides which runs there are, as plain values."""
        values = config.unstructure(self)
        values["seeds"] = list(self.seed_numbers)
        for method in values["methods"]:
            method["plugins"] = ",".join(split_names(method["plugins"]))
        left_out = {"reference", "record"} | ({"recipe"} if not self.recipe else set())
        return {key: values[key] for key in values if key not in left_out}


@attrs.frozen(kw_only=True)
class PlannedRun:
    name: str  # of its run folder
    method: str  # in messages
    shown: str  # in tables; empty for its components
    experiment: Experiment

    @property
    def place(self) -> str:
        run = self.experiment
        return f"{run.protocol.path.stem}, trial {run.trial}, seed {run.seed}"

    @property
    def title(self) -> str:
        return f"{self.method} on {self.place}"


@attrs.frozen(kw_only=True)
class Plan:
    file: BenchFile  # protocols and recipes by references that hold in any working directory
    # in order of their start: all methods of a trial before the next trial
    runs: tuple[PlannedRun, ...]

    def extent(self) -> tuple[str, str]:
        """Such as "2 methods on digits" and "3 trials, 1 seed"."""
        runs = [run.experiment for run in self.runs]
        protocols = ", ".join(dict.fromkeys(run.protocol.name for run in runs))
        trials = many(len({run.trial for run in runs}), "trial")
        seeds = many(len(self.file.seed_numbers), "seed")
        return f"{many(len(self.file.methods), 'method')} on {protocols}", f"{trials}, {seeds}"

    def default_folder(self) -> Path:
        """The bench's folder: the same request always gets the same one."""
        protocols = dict.fromkeys(run.experiment.protocol.path.stem for run in self.runs)
        text = json.dumps(self.file.asked(), sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:6]
        stem = "+".join(protocols) if len(protocols) <= 2 else f"{len(protocols)}protocols"
        return DEFAULT_RUNS / f"bench-{stem}-{digest}"


def read_bench_file(path: Path) -> BenchFile:
    return config.structure(config.read_toml(path, "bench"), BenchFile, str(path))


def make_plan(file: BenchFile, installed: Registry | None = None) -> Plan:
    """Resolve every run, so that a mistake in the last one costs nothing."""
    installed = installed or registry()
    if not file.methods:
        raise ConfigError(
            "a bench needs at least one method: --plugins softmax,vgg13 m2iosr,vgg13, or "
            "[[methods]] in a bench TOML"
        )
    if not file.protocols:
        raise ConfigError("a bench needs at least one protocol")
    protocols = [load_protocol(name, installed) for name in file.protocols]
    _check_common_options(file, protocols, installed)
    runs: dict[str, PlannedRun] = {}
    for method, experiment in _experiments(file, protocols, installed):
        name = experiment.default_folder_name()
        run = PlannedRun(name=name, method=method.label, shown=method.name, experiment=experiment)
        _add(runs, run)
    every = all(file.trials == tuple(range(protocol.trials)) for protocol in protocols)
    file = attrs.evolve(
        file,
        methods=tuple(
            attrs.evolve(method, recipe=load_recipe(method.recipe, installed).reference)
            if method.recipe
            else method
            for method in file.methods
        ),
        recipe=load_recipe(file.recipe, installed).reference if file.recipe else "",
        protocols=tuple(protocol.reference for protocol in protocols),
        trials=ALL_TRIALS if every else file.trials,
    )
    return Plan(file=file, runs=tuple(runs.values()))


def _experiments(
    file: BenchFile, protocols: Sequence[Protocol], installed: Registry
) -> Iterator[tuple[BenchMethod, Experiment]]:
    for protocol in protocols:
        trials = range(protocol.trials) if isinstance(file.trials, str) else file.trials
        for trial in trials:
            protocol.check_trial(trial)
        options = [_options(file, method, protocol, installed) for method in file.methods]
        for seed in file.seed_numbers:
            for trial in trials:
                for method, overrides in zip(file.methods, options, strict=True):
                    with _named(method):
                        yield (
                            method,
                            resolve(
                                method.plugins,
                                protocol.reference,
                                trial,
                                seed,
                                overrides,
                                registry_=installed,
                                recipe=file.recipe if method.recipe is None else method.recipe,
                            ),
                        )


@contextlib.contextmanager
def _named(method: BenchMethod) -> Iterator[None]:
    try:
        yield
    except OpensetError as error:
        raise type(error)(f"method {method.label!r}: {error}") from error


def _sections(method: BenchMethod, protocol: Protocol, installed: Registry) -> set[str]:
    """Option tables that a method takes under a protocol."""
    with _named(method):
        selection = select(method.plugins, protocol.content.defaults, installed)
    return {TRAINING_SECTION, *(component.name for component in selection.components)}


def _options(
    file: BenchFile, method: BenchMethod, protocol: Protocol, installed: Registry
) -> config.Overrides:
    sections = _sections(method, protocol, installed)
    common = {section: values for section, values in file.set.items() if section in sections}
    return config.merge(common, method.set)


def _check_common_options(
    file: BenchFile, protocols: Sequence[Protocol], installed: Registry
) -> None:
    known = {
        section
        for protocol in protocols
        for method in file.methods
        for section in _sections(method, protocol, installed)
    }
    for section in file.set:
        if section not in known:
            raise ConfigError(
                f"options for {section!r} are given, which no method of this bench has"
                f"{did_you_mean(section, known)}; there are {', '.join(sorted(known))}"
            )


def _add(runs: dict[str, PlannedRun], planned: PlannedRun) -> None:
    """Add a run, or its scorers to the run that trains the same network."""
    before = runs.get(planned.name)
    if before is None:
        runs[planned.name] = planned
        return
    first, second = before.experiment, planned.experiment
    if _key(first) == _key(second):
        raise ConfigError(
            f"methods {before.method!r} and {planned.method!r} are the same; leave one out"
        )
    joined = _joined(first, second)
    if joined is not None:
        selection = joined.selection
        components = [selection.loss, selection.generator, selection.backbone]
        runs[planned.name] = attrs.evolve(
            before,
            experiment=joined,
            method=",".join(c.name for c in components if c),
            shown=before.shown if before.shown == planned.shown else "",
        )
        return
    # Another experiment of that name, such as a second option of a scorer, gets its own folder.
    text = json.dumps(_key(second), sort_keys=True)
    own = hashlib.sha256(text.encode()).hexdigest()[:6]
    _add(runs, attrs.evolve(planned, name=f"{planned.experiment.default_folder_name()}-{own}"))


def _key(experiment: Experiment) -> list[Any]:
    return [experiment.digest, _scorer_options(experiment)]


def _scorer_options(experiment: Experiment) -> dict[str, Any]:
    return {
        scorer.reference: config.unstructure(experiment.options[scorer.name])
        for scorer in experiment.selection.scorers
    }


def _joined(first: Experiment, second: Experiment) -> Experiment | None:
    """One training for the scorers of both; None where that cannot be."""
    ours, theirs = _scorer_options(first), _scorer_options(second)
    clash = any(ours[name] != theirs[name] for name in ours.keys() & theirs.keys())
    if clash or first.digest != second.digest:
        return None

    def union(kind: str) -> tuple[Component, ...]:
        both = (*getattr(first.selection, kind), *getattr(second.selection, kind))
        return tuple({component.reference: component for component in both}.values())

    selection = attrs.evolve(
        first.selection, scorers=union("scorers"), observers=union("observers")
    )
    return attrs.evolve(first, selection=selection, options={**first.options, **second.options})
