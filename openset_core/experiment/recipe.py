"""Training recipes: how any method is trained, laid over any protocol.

A recipe is a TOML file; see protocols/README.md for the format. Its values are stronger than a
protocol's and a method's own, and weaker than the user's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
from attrs import frozen

from openset_core.errors import ProtocolError, did_you_mean
from openset_core.experiment import config
from openset_core.experiment.named_files import find_file
from openset_core.experiment.protocol import (
    ImageOptions,
    Protocol,
    Published,
    check_image,
    matching_recipes,
)
from openset_core.experiment.selection import Selection
from openset_core.experiment.training_options import TrainingOptions
from openset_core.metrics import METRICS
from openset_core.registry import Registry


@frozen(kw_only=True)
class RecipeLayer:
    """What a recipe says for some protocols."""

    # a protocol with one channel takes the mean of colours' values
    image: dict[str, Any] = attrs.field(factory=dict)
    training: dict[str, Any] = attrs.field(factory=dict)
    recipes: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    options: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    published: tuple[Published, ...] = ()


@frozen(kw_only=True)
class RecipeFile(RecipeLayer):
    """A recipe's TOML file: a layer for every protocol, and more particular ones."""

    summary: str
    source: str = ""
    scorers: tuple[str, ...] = ()  # where the user names none
    datasets: dict[str, RecipeLayer] = attrs.field(factory=dict)  # by the known classes' data set
    # by name, also for protocols based on it
    protocols: dict[str, RecipeLayer] = attrs.field(factory=dict)


@frozen(kw_only=True)
class Recipe:
    name: str
    path: Path
    content: RecipeFile
    own: bool = False  # a person's own file, read by its path

    @property
    def reference(self) -> str:
        """What to write down to find the recipe again, from any working directory."""
        return str(self.path.resolve()) if self.own else self.name

    def layers(self, protocol: Protocol) -> list[RecipeLayer]:
        """What counts for a protocol, the more particular layer last."""
        content = self.content
        particular = (
            content.datasets.get(protocol.content.known.dataset),
            content.protocols.get(protocol.content.base),
            content.protocols.get(protocol.name),
        )
        return [content, *(layer for layer in particular if layer is not None)]

    def options_for(self, protocol: Protocol, selection: Selection) -> config.Overrides:
        names = [component.name for component in selection.trained]
        merged: config.Overrides = {}
        for layer in self.layers(protocol):
            training = (layer.training, *matching_recipes(layer.recipes, names))
            merged = config.merge(merged, layer.options, *({"training": item} for item in training))
        return merged

    def over(self, protocol: Protocol) -> Protocol:
        """A protocol with this recipe's preprocessing and, alone, its published figures."""
        content = protocol.content
        layers = self.layers(protocol)
        values = config.unstructure(content.image)
        for layer in layers:
            values.update(_for_channels(layer.image, content.image.channels))
        where = f"{self.name}.image"
        image = config.structure(values, ImageOptions, where, ProtocolError)
        check_image(image, where)
        published = tuple(figure for layer in layers for figure in layer.published)
        content = attrs.evolve(content, image=image, published=published)
        return attrs.evolve(protocol, plain_digest=protocol.digest, content=content)


def _for_channels(image: Mapping[str, Any], channels: int) -> dict[str, Any]:
    return {
        key: [sum(value) / len(value)]
        if key in ("mean", "std") and channels == 1 and len(value) > 1
        else value
        for key, value in image.items()
    }


def load_recipe(name: str, plugins: Registry | None = None) -> Recipe:
    """Read a recipe, by name or by the path of a TOML file."""
    file = find_file("recipe", name, plugins)
    values = config.read_toml(file.path, "recipe", ProtocolError)
    content = config.structure(values, RecipeFile, file.label, ProtocolError)
    _check(content, file.label)
    return Recipe(name=file.label, path=file.path, content=content, own=file.own)


def _check(content: RecipeFile, label: str) -> None:
    layers: list[tuple[str, RecipeLayer]] = [(label, content)]
    for kind, members in (("datasets", content.datasets), ("protocols", content.protocols)):
        layers += [(f"{label}.{kind}.{name}", layer) for name, layer in members.items()]
    for where, layer in layers:
        config.structure(layer.image, ImageOptions, f"{where}.image", ProtocolError)
        config.structure(layer.training, TrainingOptions, f"{where}.training", ProtocolError)
        for names, values in layer.recipes.items():
            config.structure(values, TrainingOptions, f"{where}.recipes.{names}", ProtocolError)
        for number, figure in enumerate(layer.published):
            if figure.metric not in METRICS:
                raise ProtocolError(
                    f"{where}.published[{number}].metric is {figure.metric!r}"
                    f"{did_you_mean(figure.metric, METRICS)}; there are {', '.join(METRICS)}"
                )
