"""The hooks: read this file and you know how openset is extended.

A plugin is a module named by an entry point of the group `openset`. It implements any
of these functions with `@openset_core.hookimpl`; each takes no argument and returns a
list of specs (see `openset_core.specs`). Hooks only announce: the work is done by what
a spec's factory builds, and factories are named by string so that announcing one
imports no heavy library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from openset_core.specs import (
        BackboneSpec,
        DatasetSpec,
        FamilySpec,
        FigureSpec,
        ObserverSpec,
        ProtocolSpec,
        RecipeSpec,
        RepresentationLossSpec,
        SampleGeneratorSpec,
        UnknownScorerSpec,
    )

hookspec = pluggy.HookspecMarker("openset")
hookimpl = pluggy.HookimplMarker("openset")


# The four kinds of component.


@hookspec
def openset_backbones() -> list[BackboneSpec | FamilySpec]:
    """Networks that turn images into features: a vector and named maps."""
    raise AssertionError


@hookspec
def openset_representation_losses() -> list[RepresentationLossSpec | FamilySpec]:
    """Heads with their training objective: features to class logits."""
    raise AssertionError


@hookspec
def openset_unknown_scorers() -> list[UnknownScorerSpec | FamilySpec]:
    """Rules that tell from stored features how unknown a sample is."""
    raise AssertionError


@hookspec
def openset_sample_generators() -> list[SampleGeneratorSpec | FamilySpec]:
    """Makers of samples from the open space during training."""
    raise AssertionError


# What an experiment stands on.


@hookspec
def openset_datasets() -> list[DatasetSpec]:
    """Labelled image sets."""
    raise AssertionError


@hookspec
def openset_protocols() -> list[ProtocolSpec]:
    """Evaluation protocols, each a TOML file."""
    raise AssertionError


@hookspec
def openset_recipes() -> list[RecipeSpec]:
    """Training recipes for any method, each a TOML file."""
    raise AssertionError


# What watches a run.


@hookspec
def openset_observers() -> list[ObserverSpec]:
    """Receivers of run events: trackers, loggers, progress displays."""
    raise AssertionError


# What shows runs.


@hookspec
def openset_figures() -> list[FigureSpec]:
    """Figures made from the recorded data of runs."""
    raise AssertionError
