"""What a plugin announces: one attrs class for each kind of component, and typed options.

Nothing here imports numpy or torch; `openset plugins` and `openset --help` read specs
only. A factory is named as `"package.module:attribute"` and imported when it is used.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import attrs

Factory = str | Callable[..., Any]

HOOK_API = 1
"""Version of the contracts below; it rises only when a plugin must change to keep working."""

UNSTATED_HOOK_API = 1
"""What a spec that says nothing was written for. It never rises: the installed version would
otherwise pass for the one that the plugin's author had before him."""

NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._+-]*")


@attrs.frozen(kw_only=True)
class NoOptions:
    """The configuration of a component without options."""


def option(
    default: Any,
    help: str,
    *,
    equation: str = "",
    validator: Any = None,
    choices: Sequence[Any] | None = None,
) -> Any:
    """Declare one option of a configuration class.

    Args:
        default: value when the user says nothing; every option has one.
        help: one line on what the option does, with unit or range.
        equation: the symbol or equation of the paper that the option stands for.
        validator: an attrs validator or a list of them.
        choices: the values allowed, where they are few.

    Returns:
        An `attrs.field` that carries the texts as metadata.

    >>> @attrs.frozen
    ... class Options:
    ...     width: int = option(32, "channels", validator=attrs.validators.ge(1))
    >>> Options()
    Options(width=32)
    >>> Options(width=0)
    Traceback (most recent call last):
    ValueError: 'width' must be >= 1: 0
    """
    if validator is None:
        validators = []
    else:
        validators = list(validator) if isinstance(validator, list | tuple) else [validator]
    if choices is not None:
        validators.append(attrs.validators.in_(tuple(choices)))
    metadata = {"help": help, "equation": equation, "choices": tuple(choices or ())}
    if isinstance(default, list | dict | set):
        raise TypeError("an option's default must be immutable; use a tuple")
    return attrs.field(default=default, validator=validators or None, metadata=metadata)


def _check_name(_instance: Any, _attribute: Any, value: str) -> None:
    if not NAME_PATTERN.fullmatch(value):
        raise ValueError(f"name {value!r} must be lower case letters, digits and . _ + -")


def _check_resolved_name(_instance: Any, _attribute: Any, value: str) -> None:
    head, _, tail = value.partition(":")
    _check_name(_instance, _attribute, head)
    if ":" in value and not tail:
        raise ValueError(f"name {value!r} has nothing after the colon")


@attrs.frozen(kw_only=True)
class ComponentSpec:
    """What every kind of component announces.

    Attributes:
        name: what the user writes in `--plugins`.
        summary: one line for the list of components.
        factory: builds the component, as `"module:attribute"` or a callable. The kinds below
            say with which arguments it is called.
        config: attrs class of the component's options, every one with a default.
        reference: the paper, or where the component comes from.
        needs: what partners must provide, in the words of `provides`, for example
            `"feature maps"`. Checked before anything is built.
        provides: what this component offers to its partners beyond its kind's contract.
        api: version of the hook contracts the plugin was written for, 1 where it does not say.
    """

    kind: ClassVar[str]

    name: str = attrs.field(validator=_check_resolved_name)
    summary: str
    factory: Factory
    config: type = NoOptions
    reference: str = ""
    needs: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    api: int = UNSTATED_HOOK_API


@attrs.frozen(kw_only=True)
class BackboneSpec(ComponentSpec):
    """A network from images to features. `factory(config, BackboneContext) -> Backbone`.

    Attributes:
        image_size: side length in pixels that suits the network where no protocol says one, for
            images of a user's own: a function `(config) -> int | None`, as `"module:attribute"` or
            a callable; None where any will do.
    """

    kind: ClassVar[str] = "backbone"
    provides: tuple[str, ...] = ("feature vector",)
    image_size: Factory | None = None


@attrs.frozen(kw_only=True)
class RepresentationLossSpec(ComponentSpec):
    """A head with its objective. `factory(config, LossContext) -> RepresentationLoss`.

    Attributes:
        default_scorers: scorers used when the user names none.
        default_backbone: backbone used when the user and the protocol name none.
        recipe: training options the method's paper asks for, for example
            `{"lr": 0.01}`; a protocol or the user may override each.
    """

    kind: ClassVar[str] = "loss"
    default_scorers: tuple[str, ...] = ()
    default_backbone: str | None = None
    recipe: Mapping[str, Any] = attrs.field(factory=dict)
    provides: tuple[str, ...] = ("logits", "embedding")


@attrs.frozen(kw_only=True)
class UnknownScorerSpec(ComponentSpec):
    """A rule over stored features. `factory(config) -> UnknownScorer`."""

    kind: ClassVar[str] = "scorer"


@attrs.frozen(kw_only=True)
class SampleGeneratorSpec(ComponentSpec):
    """A maker of open-space samples. `factory(config, GeneratorContext) -> SampleGenerator`."""

    kind: ClassVar[str] = "generator"
    recipe: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class ObserverSpec(ComponentSpec):
    """A receiver of run events. `factory(config, run_folder) -> Observer`."""

    kind: ClassVar[str] = "observer"


@attrs.frozen(kw_only=True)
class DatasetSpec(ComponentSpec):
    """A labelled image set. `factory(config, DataRequest) -> ImageSet`.

    Attributes:
        parts: the splits the set comes in; `("all",)` where it has no official test set,
            so that the protocol must say how it is split.
        classes: class names in label order; empty where only the data knows them.
        files: patterns below the data root, each of which must match something when the set
            is there; `{option}` stands for an option's value. Empty for a set that needs none. A
            mapping gives those of each split, where they can be there one without the other.
        samples: how many images each split must hold, for `openset data check`; splits not
            named may hold any number.
        side: height and width of every image in pixels, for `openset data check`; 0 where they
            differ or are not known.
        class_count: number of classes where `classes` does not list them; 0 when not known.
        downloadable: whether the factory can fetch the set.
        obtain: where a person gets the set who cannot download it this way, and how it is to lie
            below the data root.
    """

    kind: ClassVar[str] = "dataset"
    parts: tuple[str, ...] = ("train", "test")
    classes: tuple[str, ...] = ()
    files: tuple[str, ...] | Mapping[str, tuple[str, ...]] = attrs.field(default=())
    samples: Mapping[str, int] = attrs.field(factory=dict)
    side: int = 0
    class_count: int = 0
    downloadable: bool = False
    obtain: str = ""

    @files.validator
    def _check_files(self, _attribute: Any, value: Any) -> None:
        strange = sorted(set(value) - set(self.parts)) if isinstance(value, Mapping) else []
        if strange:
            raise ValueError(
                f"data set {self.name}: files are given for {strange[0]!r}, which is none of its "
                f"parts ({', '.join(self.parts)})"
            )

    def files_of(self, part: str | None = None) -> tuple[str, ...]:
        """Patterns of the files that a split needs; of all splits, each once, when None."""
        if not isinstance(self.files, Mapping):
            return tuple(self.files)
        if part is not None:
            return tuple(self.files.get(part, ()))
        return tuple(dict.fromkeys(file for files in self.files.values() for file in files))


@attrs.frozen(kw_only=True)
class ProtocolSpec:
    """An evaluation protocol: which classes are known, on which data, judged how.

    Attributes:
        name: what the user writes after `--protocol`.
        path: the TOML file.
    """

    kind: ClassVar[str] = "protocol"

    name: str = attrs.field(validator=_check_name)
    path: Path = attrs.field(converter=Path)
    api: int = UNSTATED_HOOK_API


@attrs.frozen(kw_only=True)
class RequiredRun:
    """A run that a figure is made from, in the words of the command that makes it.

    Attributes:
        label: what the figure calls it, and every other run of the same loss, generator and
            options, whatever its protocol and backbone.
        plugins: component names, as after `--plugins`.
        protocol: name of the protocol.
        options: assignments, as after `--set`.
        trials: as after `--trials`; None for the first trial alone.
    """

    label: str
    plugins: tuple[str, ...]
    protocol: str
    options: tuple[str, ...] = ()
    trials: str | None = None


@attrs.frozen(kw_only=True)
class FigureConfig:
    """Base of what a figure looks like: an attrs class whose values are the figure's options.

    Attributes:
        factory: draws it, as `"module:attribute"`; `factory(config, FigureRuns) -> FigureResult`,
            see `openset_core.report.figures.drawing`.
    """

    factory: ClassVar[Factory]


@attrs.frozen(kw_only=True)
class FigureSpec:
    """A figure that is made from the recorded data of runs.

    Attributes:
        name: what the user writes after `openset figure`.
        summary: one line for the list of figures.
        shape: what is drawn, with its options; the user may set them anew.
        runs: the runs that it shows. Others may be given; they are named by what they are.
        min_runs: with fewer kinds of run than this there is nothing to show.
        reference: paper and number of the figure.
        deviation: where it differs from the paper's, in a sentence.
        api: version of the hook contracts the plugin was written for, 1 where it does not say.
    """

    kind: ClassVar[str] = "figure"

    name: str = attrs.field(validator=_check_name)
    summary: str
    shape: FigureConfig = attrs.field(validator=attrs.validators.instance_of(FigureConfig))
    runs: tuple[RequiredRun, ...] = ()
    min_runs: int = 1
    reference: str = ""
    deviation: str = ""
    api: int = UNSTATED_HOOK_API

    @property
    def factory(self) -> Factory:
        """What draws it."""
        return type(self.shape).factory

    @property
    def config(self) -> type:
        """Class of its options."""
        return type(self.shape)


@attrs.frozen(kw_only=True)
class RecipeSpec:
    """A training recipe for any method: values laid over a protocol's and a method's own.

    Attributes:
        name: what the user writes after `--recipe`.
        path: the TOML file.
    """

    kind: ClassVar[str] = "recipe"

    name: str = attrs.field(validator=_check_name)
    path: Path = attrs.field(converter=Path)
    api: int = UNSTATED_HOOK_API


@attrs.frozen(kw_only=True)
class FamilySpec:
    """A whole namespace of components, served lazily: `prefix:NAME`.

    Attributes:
        prefix: what stands before the colon.
        of: kind of the components, `"backbone"`, `"loss"`, `"scorer"` or `"generator"`.
        summary: one line for the list of components.
        resolve: `"module:function"`, called with NAME, returns the component's spec and
            raises `PluginError` naming the nearest names when there is none.
        names: `"module:function"`, called without arguments, lists the known names.
    """

    kind: ClassVar[str] = "family"

    prefix: str = attrs.field(validator=_check_name)
    of: str = attrs.field(
        validator=attrs.validators.in_(("backbone", "loss", "scorer", "generator"))
    )
    summary: str
    resolve: Factory
    names: Factory
    reference: str = ""
    api: int = UNSTATED_HOOK_API

    @property
    def name(self) -> str:
        """How the family appears in lists."""
        return f"{self.prefix}:NAME"


def load_factory(factory: Factory) -> Callable[..., Any]:
    """Import what a factory string names; a callable is returned as it is.

    Raises:
        ImportError: the module cannot be imported or has no such attribute.

    >>> load_factory("math:sqrt")(4.0)
    2.0
    """
    if not isinstance(factory, str):
        return factory
    module_name, _, attribute = factory.partition(":")
    target: Any = importlib.import_module(module_name)
    for name in attribute.split("."):
        try:
            target = getattr(target, name)
        except AttributeError as error:
            raise ImportError(f"{module_name} has no attribute {attribute!r}") from error
    if not callable(target):
        raise ImportError(f"{factory} is not callable")
    return target  # type: ignore[no-any-return]
