"""A third party's distribution: one part of every kind, and what stands around them.

It is built and installed by pip in the tests, and imports nothing of openset's that is not public.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from attrs import frozen
from attrs.validators import ge, gt

from openset_core import (
    BackboneSpec,
    DatasetSpec,
    FigureConfig,
    FigureSpec,
    ObserverSpec,
    ProtocolSpec,
    RepresentationLossSpec,
    RequiredRun,
    SampleGeneratorSpec,
    UnknownScorerSpec,
    hookimpl,
    option,
)

API = 1


@frozen(kw_only=True)
class BackboneOptions:
    """Options of the backbone `example-net`."""

    width: int = option(8, "channels of the first map", validator=ge(1))


@frozen(kw_only=True)
class LossOptions:
    """Options of the loss `example-cosine`."""

    scale: float = option(8.0, "factor on the cosines", validator=gt(0.0))


@frozen(kw_only=True)
class ScorerOptions:
    """Options of the scorer `example-margin`."""

    temperature: float = option(1.0, "divides the logits", validator=gt(0.0))


@frozen(kw_only=True)
class GeneratorOptions:
    """Options of the generator `example-noise`."""

    weight: float = option(0.1, "weight of the term on noise", validator=ge(0.0))


@frozen(kw_only=True)
class DataOptions:
    """Options of the data set `example-shapes`."""

    count: int = option(60, "images of each class", validator=ge(1))


@frozen(kw_only=True)
class Lengths(FigureConfig):
    """How long embeddings are, known and unknown."""

    factory: ClassVar[str] = "openset_example.figure:draw"

    bins: int = option(20, "number of bins", validator=ge(2))


@hookimpl
def openset_backbones() -> list[BackboneSpec]:
    """The backbone `example-net`."""
    return [
        BackboneSpec(
            name="example-net",
            summary="two strided convolutions",
            factory="openset_example.parts:build_backbone",
            config=BackboneOptions,
            provides=("feature vector", "feature maps", "batchnorm"),
            api=API,
        )
    ]


@hookimpl
def openset_representation_losses() -> list[RepresentationLossSpec]:
    """The loss `example-cosine`."""
    return [
        RepresentationLossSpec(
            name="example-cosine",
            summary="cross entropy over cosines",
            factory="openset_example.parts:build_loss",
            config=LossOptions,
            default_scorers=("example-margin",),
            default_backbone="example-net",
            api=API,
        )
    ]


@hookimpl
def openset_unknown_scorers() -> list[UnknownScorerSpec]:
    """The scorer `example-margin`."""
    return [
        UnknownScorerSpec(
            name="example-margin",
            summary="how close the second class comes to the first",
            factory="openset_example.scorer:Margin",
            config=ScorerOptions,
            needs=("logits",),
            api=API,
        )
    ]


@hookimpl
def openset_sample_generators() -> list[SampleGeneratorSpec]:
    """The generator `example-noise`."""
    return [
        SampleGeneratorSpec(
            name="example-noise",
            summary="a learnt pattern under noise",
            factory="openset_example.parts:build_generator",
            config=GeneratorOptions,
            needs=("logits",),
            provides=("generated samples",),
            api=API,
        )
    ]


@hookimpl
def openset_datasets() -> list[DatasetSpec]:
    """The data set `example-shapes`."""
    return [
        DatasetSpec(
            name="example-shapes",
            summary="bars, crosses, frames and discs of 16x16 pixels, drawn when asked for",
            factory="openset_example.data:load",
            config=DataOptions,
            parts=("train", "test"),
            classes=("bar", "cross", "frame", "disc"),
            api=API,
        )
    ]


@hookimpl
def openset_observers() -> list[ObserverSpec]:
    """The observer `example-diary`."""
    return [
        ObserverSpec(
            name="example-diary",
            summary="diary.txt in the run folder, a line an event",
            factory="openset_example.observer:Diary",
            api=API,
        )
    ]


@hookimpl
def openset_protocols() -> list[ProtocolSpec]:
    """The protocol `example`."""
    return [ProtocolSpec(name="example", path=Path(__file__).parent / "example.toml", api=API)]


@hookimpl
def openset_figures() -> list[FigureSpec]:
    """The figure `example-lengths`."""
    return [
        FigureSpec(
            name="example-lengths",
            summary="lengths of embeddings",
            shape=Lengths(),
            runs=(RequiredRun(label="cosines", plugins=("example-cosine",), protocol="example"),),
            api=API,
        )
    ]
