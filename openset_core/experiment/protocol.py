"""Protocols: which classes are known, on which data, how it is judged.

A protocol is a TOML file; see protocols/README.md for the format. It holds data only. A
person's own file works by path.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs
from attrs import frozen
from attrs.validators import deep_iterable, ge, gt, in_, le, lt

from openset_core.errors import ProtocolError, did_you_mean
from openset_core.experiment import config
from openset_core.experiment.classes import (
    Classes,
    KnownDraw,
    Listed,
    UnknownDraw,
    drawn,
    numbered,
    parse_ranges,
    selected,
)
from openset_core.experiment.named_files import find_file
from openset_core.experiment.selection import Defaults, Selection
from openset_core.experiment.training_options import TrainingOptions
from openset_core.metrics import METRICS
from openset_core.registry import Registry, registry


@frozen(kw_only=True)
class ImageOptions:
    """Image size and preprocessing: resized, scaled to [0, 1], then (x - mean) / std."""

    size: int = attrs.field(default=32, validator=ge(1))
    channels: int = attrs.field(default=3, validator=in_((1, 3)))  # 1 for grey, 3 for RGB
    mean: tuple[float, ...] = (0.0,)  # one for all channels, or for each; `std` too
    std: tuple[float, ...] = attrs.field(default=(1.0,), validator=deep_iterable(gt(0.0)))
    interpolation: str = attrs.field(
        default="bilinear", validator=in_(("nearest", "bilinear", "bicubic"))
    )
    # None: image files are cropped, arrays stretched
    fit: str | None = attrs.field(
        default=None, validator=attrs.validators.optional(in_(("crop", "stretch")))
    )

    def per_channel(self, values: tuple[float, ...]) -> tuple[float, ...]:
        return values * self.channels if len(values) == 1 else values


@frozen(kw_only=True)
class KnownSection:
    """Where the known classes come from: exactly one of trials, classes and draw."""

    dataset: str
    options: dict[str, Any] | None = None
    trials: tuple[Listed, ...] = ()  # by number or name; position = label
    classes: str | None = None  # `"all"` or ranges such as `"0-172"`
    draw: KnownDraw | None = None
    # about so many training images, the same share of each class; None for all
    samples: int | None = attrs.field(default=None, validator=attrs.validators.optional(ge(2)))
    # share of each class used for testing, for a set without a test split
    test_fraction: float | None = attrs.field(
        default=None, validator=attrs.validators.optional([gt(0.0), lt(1.0)])
    )
    split_seed: int = attrs.field(default=0, validator=ge(0))
    split: str | None = None  # a list below the data root, see `openset_core.data.image_list`

    @property
    def count(self) -> int:
        if self.draw:
            return len(self.draw.counts) * self.draw.trials
        return len(self.trials) or 1

    def sides(self, available: Sequence[str]) -> tuple[str, str]:
        """Splits with training and test images; twice the same where the set has one."""
        if self.split is not None:
            return "all", "all"
        whole_wanted = self.test_fraction is not None and "all" in available  # some come as both
        if "test" in available and not whole_wanted:
            return "train", "test"
        if self.test_fraction is None:
            raise ValueError(
                f"lacks test_fraction; data set {self.dataset} has no test split of its own"
            )
        return "all", "all"

    def group(self, trial: int) -> str:
        """What sets a trial apart from trials that may be averaged; empty when nothing does."""
        if self.draw is None or len(self.draw.counts) == 1:
            return ""
        return f"{self.draw.counts[trial // self.draw.trials]} known classes"

    def in_trial(self, trial: int, names: Sequence[str], where: str) -> Classes:
        if self.draw:
            pool = selected(self.draw.classes, names, (), f"{where}.draw.classes")
            group, number = divmod(trial, self.draw.trials)
            count = self.draw.counts[group]
            return drawn(pool, count, (self.draw.seed, count, number), f"{where}.draw")
        if self.classes is not None:
            return selected(self.classes, names, (), f"{where}.classes")
        return numbered(self.trials[trial], names, f"{where}.trials[{trial}]")


@frozen(kw_only=True)
class UnknownSection:
    dataset: str
    options: dict[str, Any] | None = None
    part: str | None = None  # by default `test`, or `all` where the set has no test split
    classes: str = "rest"  # `"rest"` (all that are not known), `"all"`, or ranges
    trials: tuple[Listed, ...] = ()
    draw: UnknownDraw | None = None
    # drawn by a seed; `"known"` for as many as known test images
    samples: int | str | None = attrs.field(default=None)

    def source(self, available: Sequence[str]) -> str:
        return self.part or ("test" if "test" in available else "all")

    @samples.validator
    def _check_samples(self, _attribute: Any, value: int | str | None) -> None:
        if not (value is None or value == "known" or (type(value) is int and value >= 1)):
            raise ValueError(f'samples must be "known" or at least 1, not {value!r}')

    def in_trial(self, trial: int, names: Sequence[str], known: Classes, where: str) -> Classes:
        """The unknown classes of a trial; `known` is empty where those are of another data set."""
        if self.draw:
            pool = selected(self.draw.classes, names, known, f"{where}.draw.classes")
            pool = tuple(number for number in pool if number not in known)
            seed = (self.draw.seed, self.draw.count, trial)
            return drawn(pool, self.draw.count, seed, f"{where}.draw")
        if self.trials:
            where = f"{where}.trials[{trial}]"
            chosen = numbered(self.trials[trial], names, where)
        else:
            where = f"{where}.classes"
            chosen = selected(self.classes, names, known, where)
        both = sorted(set(chosen) & set(known))
        if both:
            raise ProtocolError(
                f"{where} names classes that are known in trial {trial}: "
                f"{', '.join(names[number] for number in both)}"
            )
        return chosen


@frozen(kw_only=True)
class IncrementalSection:
    """Classes that are added after training, see `openset_core.metrics.incremental`."""

    classes: str = "rest"  # `"rest"` for all that are not known, or ranges


@frozen(kw_only=True)
class ValidationSection:
    """Validation data, held out of the known training split of each trial."""

    fraction: float = attrs.field(default=0.1, validator=[gt(0.0), lt(1.0)])


@frozen(kw_only=True)
class ThresholdRule:
    """How the rejection threshold is set: on validation data, never on test data."""

    # share of validation samples
    acceptance: float = attrs.field(default=0.95, validator=[gt(0.0), le(1.0)])
    # a paper's threshold by scorer, for results under the rule `"fixed"`
    fixed: dict[str, float] = attrs.field(factory=dict)


@frozen(kw_only=True)
class ReportOptions:
    metrics: tuple[str, ...] = ("accuracy", "auroc", "oscr", "macro_f1")
    per_unknown: bool = False


@frozen(kw_only=True)
class Published:
    """A published figure, the mean over trials."""

    method: str  # the loss, with `+generator` where one was used
    metric: str
    value: float = attrs.field(validator=[ge(0.0), le(1.0)])
    source: str
    scorer: str | None = None  # None: the method's own
    deviation: float | None = None
    # evaluation rule; None for the exact one
    compat: str | None = attrs.field(
        default=None, validator=attrs.validators.optional(in_(("arpl", "fixed")))
    )
    unknown: str | None = None  # unknown set; None for all of them together
    group: str | None = None  # of trials; None for any
    # of components, where not the defaults, as in ablations
    options: dict[str, dict[str, Any]] = attrs.field(factory=dict)

    def made_with(self, options: Mapping[str, Mapping[str, Any]]) -> bool:
        return all(
            options.get(name, {}).get(key) == value
            for name, values in self.options.items()
            for key, value in values.items()
        )


@frozen(kw_only=True)
class ProtocolFile:
    """The contents of a protocol's TOML file."""

    summary: str
    known: KnownSection
    base: str = ""  # a protocol whose tables hold where this file says nothing
    name: str = ""  # in place of the file's path
    root: str = ""  # a folder beside the file with its data, in place of the data root
    # without any, only closed-set metrics come out
    unknown: dict[str, UnknownSection] = attrs.field(factory=dict)
    incremental: IncrementalSection | None = None
    source: str = ""
    image: ImageOptions = ImageOptions()
    validation: ValidationSection = ValidationSection()
    threshold: ThresholdRule = ThresholdRule()
    report: ReportOptions = ReportOptions()
    defaults: Defaults = attrs.field(factory=Defaults)
    training: dict[str, Any] = attrs.field(factory=dict)
    recipes: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    options: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    published: tuple[Published, ...] = ()


@frozen(kw_only=True)
class Protocol:
    name: str
    path: Path
    content: ProtocolFile
    own: bool = False  # a person's own file, read by its path
    plain_digest: str = ""  # without the recipe that is laid over it; empty without one

    @property
    def reference(self) -> str:
        """What to write down to find the protocol again, from any working directory."""
        return str(self.path.resolve()) if self.own else self.name

    @property
    def short_name(self) -> str:
        return self.content.name or self.path.stem if self.own else self.name

    def data_root(self, root: Path) -> Path:
        return self.path.parent / self.content.root if self.content.root else root

    @property
    def trials(self) -> int:
        return self.content.known.count

    def check_trial(self, trial: int) -> None:
        if not 0 <= trial < self.trials:
            raise ProtocolError(
                f"protocol {self.name} has trials 0 to {self.trials - 1}, there is no trial {trial}"
            )

    @cached_property
    def digest(self) -> str:
        """Hash of what the file says about data, so that a changed protocol is noticed."""
        content = self.content
        sections = (content.known, content.image, content.validation)
        relevant = [config.unstructure(section) for section in sections]
        relevant.append({name: config.unstructure(item) for name, item in content.unknown.items()})
        if content.incremental:
            relevant.append(config.unstructure(content.incremental))
        return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()[:16]

    def options_for(self, selection: Selection) -> config.Overrides:
        """Options for chosen components: `[recipes]` over their own recipes over `[training]`."""
        names = [component.name for component in selection.trained]
        own = [getattr(component.spec, "recipe", {}) for component in selection.trained]
        training = (self.content.training, *own, *matching_recipes(self.content.recipes, names))
        return config.merge(self.content.options, *({"training": values} for values in training))

    def published_for(
        self,
        method: str,
        metric: str,
        scorer: str,
        default_scorer: str,
        unknown: str | None = None,
        group: str = "",
        options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Published | None:
        """The published figure beside a result of ours; one for just these options comes first."""
        fitting = [
            figure
            for figure in self.content.published
            if (figure.method, figure.metric, figure.unknown) == (method, metric, unknown)
            and scorer == (figure.scorer or default_scorer)
            and figure.group in (None, group)
            and figure.made_with(options or {})
        ]
        return max(fitting, key=lambda figure: len(figure.options), default=None)


def matching_recipes(
    recipes: Mapping[str, Mapping[str, Any]], components: Iterable[str]
) -> list[Mapping[str, Any]]:
    """Recipes by `component` or `component+component` that fit, those for more components last."""
    chosen = set(components)
    by_names = [(frozenset(key.split("+")), values) for key, values in recipes.items()]
    matching = [(names, values) for names, values in by_names if names <= chosen]
    return [values for _names, values in sorted(matching, key=lambda item: len(item[0]))]


@frozen(kw_only=True)
class Need:
    """One split of a data set that a protocol reads."""

    dataset: str
    part: str
    options: dict[str, Any] = attrs.field(factory=dict)


def needs(content: ProtocolFile, plugins: Registry | None = None) -> list[Need]:
    """The splits of data sets that a protocol reads, each once, the known classes' first."""
    installed = plugins or registry()

    def splits_of(dataset: str) -> tuple[str, ...]:
        return tuple(installed.find(dataset, ("dataset",)).spec.parts)

    known = content.known
    sides = known.sides(splits_of(known.dataset))
    wanted = [(known.dataset, split, known.options) for split in sides]
    for unknown in content.unknown.values():
        if is_same_set(unknown, known) and unknown.part in (None, "test"):
            continue  # taken from the known classes' test images
        split = unknown.source(splits_of(unknown.dataset))
        wanted.append((unknown.dataset, split, unknown.options))
    every: list[Need] = []
    for name, split, options in wanted:
        need = Need(dataset=name, part=split, options=options or {})
        if need not in every:
            every.append(need)
    return every


def load_protocol(name: str, plugins: Registry | None = None) -> Protocol:
    """Read a protocol, by name or by the path of a TOML file."""
    file = find_file("protocol", name, plugins)
    values = _with_base(file.path, file.label, plugins, ())
    content = config.structure(values, ProtocolFile, file.label, ProtocolError)
    _check(content, file.label)
    label = content.name or file.label if file.own else file.label
    return Protocol(name=label, path=file.path, content=content, own=file.own)


def _with_base(
    path: Path, label: str, plugins: Registry | None, seen: tuple[Path, ...]
) -> dict[str, Any]:
    values = config.read_toml(path, "protocol", ProtocolError)
    base = values.get("base", "")
    if not base or not isinstance(base, str):
        return values
    seen = (*seen, path.resolve())
    if base.endswith(".toml"):
        below = path.parent / base
    else:
        installed = (plugins or registry()).of_kind("protocol")
        paths = {component.name: component.spec.path for component in reversed(installed)}
        if base not in paths:
            raise ProtocolError(
                f"{label}.base names protocol {base!r}, which is not installed"
                f"{did_you_mean(base, list(paths))}"
            )
        below = paths[base]
    if below.resolve() in seen:
        raise ProtocolError(
            f"{label}.base leads back to {below.name}; a protocol cannot be its own"
        )
    taken = _with_base(below, label, plugins, seen)
    taken.pop("name", None)
    if isinstance(taken.get("root"), str) and taken["root"]:
        taken["root"] = str(below.parent.resolve() / taken["root"])
    return _overlaid(taken, values)


def _overlaid(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Tables are merged key by key; anything else of `above` replaces that of `below`."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        merged[key] = _overlaid(old, value) if both else value  # type: ignore[arg-type]
    return merged


def _check(content: ProtocolFile, label: str) -> None:
    _check_known(content.known, f"{label}.known")
    for name, unknown in content.unknown.items():
        _check_unknown(unknown, content.known, f"{label}.unknown.{name}")
    for number, figure in enumerate(content.published):
        if figure.unknown is not None and figure.unknown not in content.unknown:
            raise ProtocolError(
                f"{label}.published[{number}].unknown names {figure.unknown!r}, which is no "
                f"unknown set{did_you_mean(figure.unknown, content.unknown)}"
            )
    for metric in content.report.metrics:
        if metric not in METRICS:
            raise ProtocolError(
                f"{label}.report.metrics names {metric!r}{did_you_mean(metric, METRICS)}; there "
                f"are {', '.join(METRICS)}"
            )
    check_image(content.image, f"{label}.image")
    config.structure(content.training, TrainingOptions, f"{label}.training", ProtocolError)
    for method, recipe in content.recipes.items():
        config.structure(recipe, TrainingOptions, f"{label}.recipes.{method}", ProtocolError)


def check_image(image: ImageOptions, where: str) -> None:
    for name in ("mean", "std"):
        values = getattr(image, name)
        if len(values) not in (1, image.channels):
            raise ProtocolError(
                f"{where}.{name} has {len(values)} values for {image.channels} channels; give "
                "one, or one a channel"
            )


def _check_known(known: KnownSection, where: str) -> None:
    ways = [name for name in ("trials", "classes", "draw") if getattr(known, name)]
    if len(ways) != 1:
        given = " and ".join(ways) if ways else "none of them"
        raise ProtocolError(
            f"{where} needs exactly one of trials, classes and draw, it has {given}; list the "
            "known classes of at least one trial"
        )
    if known.split is not None and known.test_fraction is not None:
        raise ProtocolError(f"{where} has both split and test_fraction; keep one")
    if known.classes is not None and known.classes != "all":
        parse_ranges(known.classes, f"{where}.classes")
    _check_trials(known.trials, where)


def _check_trials(trials: Sequence[Listed], where: str) -> None:
    for number, classes in enumerate(trials):
        if not classes:
            raise ProtocolError(f"{where}.trials[{number}] names no class")
        if len(set(classes)) < len(classes):
            raise ProtocolError(f"{where}.trials[{number}] names a class twice")


def _check_unknown(unknown: UnknownSection, known: KnownSection, where: str) -> None:
    if unknown.trials and unknown.draw:
        raise ProtocolError(f"{where} has both trials and draw; keep one")
    _check_trials(unknown.trials, where)
    if unknown.trials and len(unknown.trials) != known.count:
        raise ProtocolError(
            f"{where}.trials lists {len(unknown.trials)} trials, the known classes have "
            f"{known.count}"
        )
    if unknown.classes not in ("all", "rest"):
        parse_ranges(unknown.classes, f"{where}.classes")
    if not is_same_set(unknown, known):
        if not unknown.trials and not unknown.draw and unknown.classes == "rest":
            raise ProtocolError(
                f"{where} takes another data set than the known classes; write classes = "
                '"all" or list trials'
            )
        return
    if unknown.classes == "all" and not unknown.trials and not unknown.draw:
        raise ProtocolError(
            f"{where} takes all classes of the known data set; write classes = "
            '"rest" or list trials'
        )
    for number, (ours, theirs) in enumerate(zip(unknown.trials, known.trials, strict=False)):
        both = sorted(set(ours) & set(theirs), key=str)
        if both:
            raise ProtocolError(
                f"{where}.trials[{number}] names classes that are known in that trial: "
                f"{', '.join(map(str, both))}"
            )


def is_same_set(unknown: UnknownSection, known: KnownSection) -> bool:
    """Whether both are of one set; named splits (`easy`) and domains hold other images."""
    same = (unknown.dataset, unknown.options or {}) == (known.dataset, known.options or {})
    return same and unknown.part in (None, "test", "train", "all")
