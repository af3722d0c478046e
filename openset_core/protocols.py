"""Protocols: which classes are known, on which data, how it is judged.

A protocol is a TOML file; see CONTRIBUTING.md for the format. It holds data only. A
person's own file works by path.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import attrs
from attrs import frozen
from attrs.validators import deep_iterable, ge, gt, in_, le, lt

from openset_core import config
from openset_core.compose import Defaults
from openset_core.errors import ProtocolError, did_you_mean
from openset_core.metrics import METRICS
from openset_core.plugins import Registry, registry
from openset_core.training.options import TrainingOptions


@frozen(kw_only=True)
class ImageOptions:
    """Image size and preprocessing: resized, scaled to [0, 1], then (x - mean) / std."""

    size: int = attrs.field(default=32, validator=ge(1))
    channels: int = attrs.field(default=3, validator=in_((1, 3)))
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = attrs.field(default=(1.0,), validator=deep_iterable(gt(0.0)))
    interpolation: str = attrs.field(
        default="bilinear", validator=in_(("nearest", "bilinear", "bicubic"))
    )

    def per_channel(self, values: tuple[float, ...]) -> tuple[float, ...]:
        """A value for each channel, where one stands for all."""
        return values * self.channels if len(values) == 1 else values


@frozen(kw_only=True)
class KnownPart:
    """Where the known classes come from.

    Attributes:
        dataset: name of the data set.
        trials: for each trial the known classes; position in the list = label.
        test_fraction: share of each class used for testing, for a set without a test part.
        split_seed: seed of that split, the same in every trial.
    """

    dataset: str
    trials: tuple[tuple[int, ...], ...]
    test_fraction: float | None = attrs.field(
        default=None, validator=attrs.validators.optional([gt(0.0), lt(1.0)])
    )
    split_seed: int = attrs.field(default=0, validator=ge(0))


@frozen(kw_only=True)
class UnknownPart:
    """One set of unknown test samples.

    Attributes:
        dataset: name of the data set.
        classes: `"rest"` for all classes that are not known (same data set), or `"all"`.
        trials: instead, for each trial the unknown classes.
    """

    dataset: str
    classes: str = attrs.field(default="rest", validator=in_(("rest", "all")))
    trials: tuple[tuple[int, ...], ...] = ()


@frozen(kw_only=True)
class ValidationPart:
    """Validation data, held out of the known training part of each trial."""

    fraction: float = attrs.field(default=0.1, validator=[gt(0.0), lt(1.0)])


@frozen(kw_only=True)
class ThresholdRule:
    """How the rejection threshold is set: on validation data, never on test data."""

    acceptance: float = attrs.field(default=0.95, validator=[gt(0.0), le(1.0)])


@frozen(kw_only=True)
class ReportOptions:
    """Metrics that count in this protocol, in the order of the table."""

    metrics: tuple[str, ...] = ("accuracy", "auroc", "oscr", "macro_f1")


@frozen(kw_only=True)
class Published:
    """A published figure.

    Attributes:
        method: name of the loss it belongs to, with `+generator` where one was used.
        metric: name of the metric.
        value: mean over trials, a fraction in [0, 1].
        source: paper and table.
        scorer: score rule of the figure; None when it stands for any.
        deviation: standard deviation over trials, None when not given.
        compat: evaluation rule of the figure, `"arpl"` or None for the exact one.
    """

    method: str
    metric: str
    value: float = attrs.field(validator=[ge(0.0), le(1.0)])
    source: str
    scorer: str | None = None
    deviation: float | None = None
    compat: str | None = None


@frozen(kw_only=True)
class ProtocolFile:
    """The contents of a protocol's TOML file."""

    summary: str
    known: KnownPart
    unknown: dict[str, UnknownPart]
    source: str = ""
    image: ImageOptions = ImageOptions()
    validation: ValidationPart = ValidationPart()
    threshold: ThresholdRule = ThresholdRule()
    report: ReportOptions = ReportOptions()
    defaults: Defaults = attrs.field(factory=Defaults)
    training: dict[str, Any] = attrs.field(factory=dict)
    recipes: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    options: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    published: tuple[Published, ...] = ()


@frozen(kw_only=True)
class Protocol:
    """A protocol, read and checked.

    Attributes:
        name: its name, or the path of a person's own file.
        path: the TOML file.
        content: what the file says.
    """

    name: str
    path: Path
    content: ProtocolFile

    @property
    def reference(self) -> str:
        """What to write down to find the protocol again, from any working directory."""
        return str(self.path.resolve()) if self.path == Path(self.name) else self.name

    @property
    def trials(self) -> int:
        """Number of listed trials."""
        return len(self.content.known.trials)

    def check_trial(self, trial: int) -> None:
        """Raise `ProtocolError` for a trial that does not exist."""
        if not 0 <= trial < self.trials:
            raise ProtocolError(
                f"protocol {self.name} has trials 0 to {self.trials - 1}, there is no trial {trial}"
            )

    @cached_property
    def digest(self) -> str:
        """Hash of what the file says about data, so that a changed protocol is noticed."""
        import hashlib
        import json

        content = self.content
        relevant = [
            config.unstructure(part) for part in (content.known, content.image, content.validation)
        ] + [{name: config.unstructure(part) for name, part in content.unknown.items()}]
        return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()[:16]

    def published_for(
        self, method: str, metric: str, scorer: str, default_scorer: str
    ) -> Published | None:
        """The published figure that stands beside a result of ours, if there is one.

        A figure without a scorer belongs to the method's own score rule.
        """
        for figure in self.content.published:
            if (figure.method, figure.metric) == (method, metric) and scorer == (
                figure.scorer or default_scorer
            ):
                return figure
        return None


def load_protocol(name: str, plugins: Registry | None = None) -> Protocol:
    """Find a protocol by name, or by the path of a TOML file.

    Raises:
        ProtocolError: unknown name, or a file that contradicts itself.
    """
    if name.endswith(".toml") or "/" in name:
        path, label = Path(name), str(Path(name))
    else:
        plugins = plugins or registry()
        installed = plugins.of_kind("protocol")
        found = [part for part in installed if part.name == name]
        if not found:
            names = [part.name for part in installed]
            raise ProtocolError(
                f"no protocol is called {name!r}{did_you_mean(name, names)}; installed: "
                f"{', '.join(names) or 'none'}; a file of your own is named by its path"
            )
        if len(found) > 1:
            owners = " and ".join(f"{part.distribution} {part.version}" for part in found)
            paths = " or ".join(str(part.spec.path) for part in found)
            raise ProtocolError(f"{owners} both offer protocol {name!r}; name one by path: {paths}")
        path, label = found[0].spec.path, name
    values = config.read_toml(path, "protocol", ProtocolError)
    content = config.structure(values, ProtocolFile, label, ProtocolError)
    _check(content, label)
    return Protocol(name=label, path=path, content=content)


def _check(content: ProtocolFile, label: str) -> None:
    """Contradictions that the types alone do not show."""
    trials = content.known.trials
    if not trials:
        raise ProtocolError(f"{label}.known.trials is empty; list the known classes of one trial")
    for number, known in enumerate(trials):
        where = f"{label}.known.trials[{number}]"
        if len(known) < 1:
            raise ProtocolError(f"{where} names no class")
        if len(set(known)) < len(known):
            raise ProtocolError(f"{where} names a class twice")
    for name, part in content.unknown.items():
        _check_unknown(part, trials, content.known.dataset, f"{label}.unknown.{name}")
    for metric in content.report.metrics:
        if metric not in METRICS:
            raise ProtocolError(
                f"{label}.report.metrics names {metric!r}{did_you_mean(metric, METRICS)}; there "
                f"are {', '.join(METRICS)}"
            )
    for name in ("mean", "std"):
        values = getattr(content.image, name)
        if len(values) not in (1, content.image.channels):
            raise ProtocolError(
                f"{label}.image.{name} has {len(values)} values for {content.image.channels} "
                "channels; give one, or one a channel"
            )
    config.structure(content.training, TrainingOptions, f"{label}.training", ProtocolError)
    for method, recipe in content.recipes.items():
        config.structure(recipe, TrainingOptions, f"{label}.recipes.{method}", ProtocolError)


def _check_unknown(
    part: UnknownPart, known: tuple[tuple[int, ...], ...], known_dataset: str, where: str
) -> None:
    if part.trials and len(part.trials) != len(known):
        raise ProtocolError(
            f"{where}.trials lists {len(part.trials)} trials, known.trials lists {len(known)}"
        )
    if part.dataset != known_dataset:
        if not part.trials and part.classes == "rest":
            raise ProtocolError(
                f'{where} takes another data set than the known classes; write classes = "all" '
                "or list trials"
            )
        return
    if part.classes == "all" and not part.trials:
        raise ProtocolError(
            f"{where} takes all classes of the known data set; write classes = "
            '"rest" or list trials'
        )
    for number, (ours, theirs) in enumerate(zip(part.trials, known, strict=False)):
        both = sorted(set(ours) & set(theirs))
        if both:
            raise ProtocolError(
                f"{where}.trials[{number}] names classes that are known in that trial: "
                f"{', '.join(map(str, both))}"
            )
