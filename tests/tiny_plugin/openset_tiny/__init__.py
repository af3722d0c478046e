"""A third party's plugin, small enough to train within a second; used by the tests.

Three variables of the environment change how it behaves, not what it computes:
OPENSET_TINY_SLEEP, seconds that each pass of the backbone takes longer;
OPENSET_TINY_TRACE, a folder for the hash of each process's weights after an epoch; and
OPENSET_TINY_KILL, a file: the first process to find it there removes it and is killed.
"""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from openset_core import (
    BackboneSpec,
    ObserverSpec,
    ProtocolSpec,
    RepresentationLossSpec,
    hookimpl,
    option,
)


@frozen(kw_only=True)
class TinyOptions:
    """Options of the backbone `tiny`."""

    width: int = option(6, "channels of the first map")


@frozen(kw_only=True)
class TurnsOptions:
    """Options of the loss `turns`."""

    nan_epoch: int | None = option(None, "epoch from 1 in which a term turns NaN; nothing for none")
    nan_term: str = option(
        "fit", "the term that turns NaN", choices=("fit", "centre", "small", "none")
    )
    nan_step: int = option(2, "step from 1 of that epoch")


@hookimpl
def openset_backbones() -> list[BackboneSpec]:
    """The backbone `tiny`."""
    return [
        BackboneSpec(
            name="tiny",
            summary="two strided convolutions",
            factory="openset_tiny.parts:build_backbone",
            config=TinyOptions,
            provides=("feature vector", "feature maps"),
        )
    ]


@hookimpl
def openset_representation_losses() -> list[RepresentationLossSpec]:
    """The loss `turns`."""
    return [
        RepresentationLossSpec(
            name="turns",
            summary="two phases, one of which may turn NaN",
            factory="openset_tiny.parts:build_loss",
            config=TurnsOptions,
            default_scorers=("max-logit",),
        )
    ]


@hookimpl
def openset_observers() -> list[ObserverSpec]:
    """The observer `event-log`."""
    return [
        ObserverSpec(
            name="event-log",
            summary="names of events in events.log of the run folder",
            factory="openset_tiny.parts:EventLog",
        )
    ]


@hookimpl
def openset_protocols() -> list[ProtocolSpec]:
    """The protocol `tiny-digits`."""
    return [ProtocolSpec(name="tiny-digits", path=Path(__file__).parent / "tiny-digits.toml")]
