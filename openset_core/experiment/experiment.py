"""An experiment: everything that decides a run's result, resolved to its last default."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs

from openset_core.errors import ConfigError, PluginError, did_you_mean
from openset_core.experiment import config
from openset_core.experiment.protocol import Protocol, load_protocol
from openset_core.experiment.recipe import Recipe, load_recipe
from openset_core.experiment.selection import Selection, check_label_smoothing, select, split_names
from openset_core.experiment.threshold import ThresholdChoice, Thresholds, rules_for
from openset_core.experiment.training_options import TrainingOptions
from openset_core.registry import Registry, registry

DEFAULT_PROTOCOL = "digits"
TRAINING_SECTION = "training"
THRESHOLD_SECTION = "threshold"


@attrs.frozen(kw_only=True)
class ExperimentFile:
    """What an experiment TOML may say beside the option tables of components."""

    plugins: tuple[str, ...] = ()
    protocol: str = DEFAULT_PROTOCOL  # name or path, as `recipe`
    recipe: str = ""
    trial: int = attrs.field(default=0, validator=attrs.validators.ge(0))
    seed: int = attrs.field(default=0, validator=attrs.validators.ge(0))
    training: dict[str, Any] = attrs.field(factory=dict)
    threshold: Thresholds = attrs.field(factory=Thresholds)
    # of a finished run; read only to tell where missing components are from
    record: dict[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Experiment:
    """A resolved experiment."""

    selection: Selection
    protocol: Protocol  # under a recipe with the recipe's preprocessing and figures
    trial: int
    seed: int
    training: TrainingOptions
    options: dict[str, Any]
    thresholds: Thresholds = attrs.field(factory=Thresholds)  # where not as the protocol says
    recipe: Recipe | None = None
    # options that the user set, for the run's default name
    changes: dict[str, dict[str, Any]] = attrs.field(factory=dict, eq=False)

    def to_toml(self) -> dict[str, Any]:
        """Plain values that `resolve` turns back into this experiment."""
        return {
            "plugins": self.selection.names,
            "protocol": self.protocol.reference,
            **({"recipe": self.recipe.reference} if self.recipe else {}),
            "trial": self.trial,
            "seed": self.seed,
            TRAINING_SECTION: config.unstructure(self.training),
            **({THRESHOLD_SECTION: config.unstructure(self.thresholds)} if self.thresholds else {}),
            **{name: config.unstructure(options) for name, options in self.options.items()},
        }

    def threshold_for(self, scorer: str) -> ThresholdChoice:
        return self.thresholds.choice(scorer, self.protocol.content.threshold.acceptance)

    @cached_property
    def digest(self) -> str:
        """Hash of what decides the trained weights; scorers and observers do not."""
        trained = self.selection.trained
        relevant = {
            "parts": {item.kind: f"{item.distribution}/{item.name}" for item in trained},
            "options": {item.name: config.unstructure(self.options[item.name]) for item in trained},
            "protocol": self.protocol.digest,
            "trial": self.trial,
            "seed": self.seed,
            "training": config.unstructure(self.training),
        }
        return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def method(self) -> str:
        """Loss and generator, as published figures name them."""
        generator = self.selection.generator
        return self.selection.loss.name + (f"+{generator.name}" if generator else "")

    @property
    def default_scorer(self) -> str:
        """The recipe's score rule, else the method's own."""
        defaults = (
            self.recipe.content.scorers if self.recipe else ()
        ) or self.selection.loss.spec.default_scorers
        return defaults[0] if defaults else self.selection.scorers[0].name

    def default_folder_name(self) -> str:
        """A run's folder name: the same for the same experiment, whatever its scorers."""
        selection = self.selection
        words = [
            self.protocol.short_name,
            selection.loss.name,
            *([selection.generator.name] if selection.generator else []),
            selection.backbone.name,
            *([self.recipe.path.stem] if self.recipe else []),
            f"trial{self.trial}",
            f"seed{self.seed}",
        ]
        scorers = {scorer.name for scorer in selection.scorers}
        changes = {name: values for name, values in self.changes.items() if values}
        if changes := {name: changes[name] for name in changes.keys() - scorers}:
            text = json.dumps(changes, sort_keys=True)
            words.append(hashlib.sha256(text.encode()).hexdigest()[:6])
        return re.sub(r"[^A-Za-z0-9._+-]+", "_", "-".join(words))

    def differences(
        self, other: Mapping[str, Any], ours: Mapping[str, Any] | None = None
    ) -> list[str]:
        """Names of what differs between this experiment (`ours`) and a recorded one."""
        ours = self.to_toml() if ours is None else ours
        scorers = {scorer.name for scorer in self.selection.scorers}
        keys = (ours.keys() | other.keys()) - {"record", "plugins", THRESHOLD_SECTION} - scorers
        differing = []
        for key in sorted(keys):
            mine, theirs = ours.get(key), other.get(key)
            if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
                names = sorted(mine.keys() | theirs.keys())
                differing += [
                    f"{key}.{name}" for name in names if mine.get(name) != theirs.get(name)
                ]
            elif mine != theirs:
                differing.append(key)
        return differing


def resolve(
    plugins: str | Sequence[str] = (),
    protocol: str | Protocol | None = None,
    trial: int | None = None,
    seed: int | None = None,
    overrides: config.Overrides | None = None,
    file: Path | None = None,
    registry_: Registry | None = None,
    threshold: Sequence[str] = (),
    recipe: str | None = None,
) -> Experiment:
    """Resolve what a user asks for into an experiment.

    Options have four layers, each stronger than the one before: defaults of components and core;
    the protocol, see `Protocol.options_for`; the named recipe, see `Recipe.options_for`; what the
    user says, in the experiment `file` and over it in `overrides` (`--set`) and `threshold`.
    """
    installed = registry_ or registry()
    base, tables = _read_file(file)
    if seed is not None and seed < 0:
        raise ConfigError(f"seed {seed} must be 0 or more")
    names = split_names(plugins) or list(base.plugins)
    _check_installed(names, base.record.get("plugins"), installed)
    if not isinstance(protocol, Protocol):
        protocol = load_protocol(protocol or _beside(base.protocol, file), installed)
    trial = base.trial if trial is None else trial
    protocol.check_trial(trial)
    recipe_name = base.recipe if recipe is None else recipe
    named = load_recipe(recipe_name, installed) if recipe_name else None
    rules = named.content.scorers if named else ()
    selection = select(names, protocol.content.defaults, installed, rules)
    own = {TRAINING_SECTION: base.training} if base.training else {}
    user = config.merge(own, tables, overrides or {})
    _check_sections(user, selection)
    merged = config.merge(
        protocol.options_for(selection),
        named.options_for(protocol, selection) if named else {},
        user,
    )
    training = config.structure(merged.get(TRAINING_SECTION, {}), TrainingOptions, TRAINING_SECTION)
    check_label_smoothing(selection, training.label_smoothing)
    return Experiment(
        selection=selection,
        protocol=named.over(protocol) if named else protocol,
        trial=trial,
        seed=base.seed if seed is None else seed,
        training=training,
        options={
            item.name: config.structure(merged.get(item.name, {}), item.spec.config, item.name)
            for item in selection.components
        },
        thresholds=_thresholds(base.threshold, threshold, selection),
        recipe=named,
        changes=user,
    )


def _check_installed(names: Sequence[str], origins: Any, installed: Registry) -> None:
    """Name the distribution of a component that a run was made with and that is not there."""
    for name in names if isinstance(origins, dict) else ():
        bare = name.rpartition("/")[2]
        origin = str(origins.get(bare) or origins.get(bare.partition(":")[2]) or "")
        if not origin:
            continue
        try:
            importlib.metadata.version(origin.split()[0])
        except importlib.metadata.PackageNotFoundError:
            try:
                installed.find(name)
            except PluginError:
                raise PluginError(
                    f"{name} belongs to {origin}, which is not installed; "
                    f"install {origin.split()[0]}"
                ) from None


def _beside(protocol: str, file: Path | None) -> str:
    """A protocol's path as an experiment file gives it, which may be relative to that file."""
    if file is not None and protocol.endswith(".toml") and (file.parent / protocol).exists():
        return str(file.parent / protocol)
    return protocol


def _thresholds(before: Thresholds, texts: Sequence[str], selection: Selection) -> Thresholds:
    scorers = [scorer.name for scorer in selection.scorers]
    for name in before.scorers:
        if name not in scorers:
            raise ConfigError(
                f"{THRESHOLD_SECTION}.scorers names {name!r}, which is no scorer of this run"
                f"{did_you_mean(name, scorers)}; it has {', '.join(scorers)}"
            )
    return before.changed(rules_for(texts, scorers))


def _read_file(path: Path | None) -> tuple[ExperimentFile, config.Overrides]:
    """Split an experiment TOML into its own keys and the option tables of components."""
    if path is None:
        return ExperimentFile(), {}
    values = config.read_toml(path, "experiment")
    own = {field.name for field in attrs.fields(ExperimentFile)}
    tables = {key: value for key, value in values.items() if key not in own}
    for key, value in tables.items():
        if not isinstance(value, dict):
            raise ConfigError(f"{path} has no option {key!r}{did_you_mean(key, own)}")
    rest = {key: value for key, value in values.items() if key in own}
    return config.structure(rest, ExperimentFile, str(path)), tables


def _check_sections(user: config.Overrides, selection: Selection) -> None:
    allowed = {component.name for component in selection.components} | {TRAINING_SECTION}
    for section in user:
        if section not in allowed:
            raise ConfigError(
                f"options for {section!r} are given, which is not part of this experiment"
                f"{did_you_mean(section, allowed)}; it has {', '.join(sorted(allowed))}"
            )


def with_epochs(
    overrides: Mapping[str, Mapping[str, Any]] | None, epochs: int | None
) -> config.Overrides:
    merged: config.Overrides = {name: dict(values) for name, values in (overrides or {}).items()}
    if epochs is not None:
        merged.setdefault("training", {})["epochs"] = epochs
    return merged
