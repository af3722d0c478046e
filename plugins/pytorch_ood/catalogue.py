"""Names of pytorch-ood to specs, or to the reason why there is none."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from attrs import frozen

from openset_core import RepresentationLossSpec, UnknownScorerSpec
from openset_core.errors import PluginError, did_you_mean
from openset_plugins.pytorch_ood import library, options, tables
from openset_plugins.pytorch_ood.detectors import Detector, inputs_of

if TYPE_CHECKING:
    from openset_core import LossContext, RepresentationLoss

PREFIX = "pytorch-ood"


# Factories are values, so that specs of one component are equal, and can be pickled.
@frozen
class DetectorFactory:
    name: str
    reads: tuple[str, ...]

    def __call__(self, config: Any) -> Detector:
        return Detector(self.name, config)


@frozen
class LossFactory:
    name: str

    def __call__(self, config: Any, context: LossContext) -> RepresentationLoss:
        from openset_plugins.pytorch_ood.heads import build

        return build(self.name, config, context)


@cache
def scorer_names() -> tuple[str, ...]:
    return tuple(name for name in library.classes("detector") if name in tables.DETECTORS)


@cache
def loss_names() -> tuple[str, ...]:
    return tuple(name for name in library.classes("loss") if name in tables.LOSSES)


@cache
def resolve_scorer(name: str) -> UnknownScorerSpec:
    """The spec of the scorer `pytorch-ood:NAME`, upper and lower case alike."""
    name = _canonical(name)
    if name not in tables.DETECTORS:
        raise PluginError(f"{PREFIX}:{name} is a loss, not a scorer")
    cls = library.classes("detector")[name]
    inputs = inputs_of(cls)
    return UnknownScorerSpec(
        name=f"{PREFIX}:{name}",
        factory=DetectorFactory(name, inputs.reads),
        config=options.of(name),
        needs=inputs.needs,
        **_words(name, cls),
    )


@cache
def resolve_loss(name: str) -> RepresentationLossSpec:
    """The spec of the loss `pytorch-ood:NAME`, upper and lower case alike."""
    name = _canonical(name)
    if name not in tables.LOSSES:
        raise PluginError(f"{PREFIX}:{name} is a scorer, not a loss")
    cls, loss = library.classes("loss")[name], tables.LOSSES[name]
    outliers = ("generated samples",) if loss.outliers else ()
    return RepresentationLossSpec(
        name=f"{PREFIX}:{name}",
        factory=LossFactory(name),
        config=options.of(name),
        needs=("feature vector", *outliers),
        default_scorers=loss.scorers,
        **_words(name, cls, loss.note),
    )


def _canonical(asked: str) -> str:
    """The library's spelling of a name that serves here, as a detector or a loss.

    Both families answer alike for what neither can serve, so that the user reads it once.
    """
    installed = {**library.classes("detector"), **library.classes("loss")}
    served = [*tables.DETECTORS, *tables.LOSSES]
    refused = {**tables.NO_DETECTORS, **tables.NO_LOSSES}
    spelt = {name.lower(): name for name in [*served, *refused, *installed]}
    name = spelt.get(asked.lower())
    if name is None:
        raise PluginError(
            f"pytorch-ood {library.version()} has no detector or loss {asked!r}"
            f"{did_you_mean(asked, served)}; here serve: {', '.join(sorted(served, key=str.lower))}"
        )
    if name in refused:
        raise PluginError(f"{PREFIX}:{name} cannot be used here: {refused[name]}")
    if name not in installed:
        raise PluginError(
            f"pytorch-ood {library.version()} has no {name}; other releases do: {library.INSTALL}"
        )
    if name not in served:
        raise PluginError(
            f"{PREFIX}:{name} is newer than this openset, which does not know how it scores; "
            "a later openset may"
        )
    return name


def _words(name: str, cls: Any, note: str = "") -> dict[str, Any]:
    """Summary and reference of a class, from what the library says about its paper."""
    paper = cls.info.paper
    source = f"{paper.title}, {paper.venue} {paper.year}, {paper.url}" if paper else ""
    return {
        "summary": f"{paper.title if paper else name}, as in pytorch-ood {library.version()}",
        "reference": "; ".join(part for part in (source, note) if part),
    }
