"""An untrained model from its components."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from openset_core.errors import CompositionError
from openset_core.experiment.protocol import ImageOptions
from openset_core.registry import Component

if TYPE_CHECKING:
    from openset_core.components import OpenSetModel


def build_model(
    backbone: tuple[Component, Any],
    loss: tuple[Component, Any],
    num_classes: int,
    image: ImageOptions,
    generator: tuple[Component, Any] | None = None,
    *,
    initial_weights: bool = True,
    label_smoothing: float = 0.0,
) -> OpenSetModel:
    """Build an untrained model of K classes from components and their options."""
    from openset_core.components import (
        Backbone,
        BackboneContext,
        GeneratorContext,
        LossContext,
        OpenSetModel,
        RepresentationLoss,
        SampleGenerator,
    )

    network = _built(
        backbone,
        BackboneContext(
            channels=image.channels,
            image_size=image.size,
            pixel_mean=image.per_channel(image.mean),
            pixel_std=image.per_channel(image.std),
            initial_weights=initial_weights,
        ),
        Backbone,
    )
    context = LossContext(
        num_classes=num_classes,
        vector_dim=network.vector_dim,
        maps=tuple(network.feature_info),
        image_size=image.size,
        channels=image.channels,
        backbone=backbone[0].name,
        label_smoothing=label_smoothing,
    )
    head = _built(loss, context, RepresentationLoss)
    maker = None
    if generator is not None:
        maker = _built(
            generator,
            GeneratorContext(
                num_classes=num_classes,
                channels=image.channels,
                image_size=image.size,
                pixel_mean=image.per_channel(image.mean),
                pixel_std=image.per_channel(image.std),
            ),
            SampleGenerator,
        )
    return OpenSetModel(network, head, maker)


def _built(component: tuple[Component, Any], context: Any, expected: type) -> Any:
    item, options = component
    made = item.load()(options, context)
    if not isinstance(made, expected):
        raise CompositionError(
            f"{item.title} built a {type(made).__name__}, not a {expected.__name__}"
        )
    return made


def inference_parameters(model: OpenSetModel) -> int:
    """Parameters that remain at test time: without generator and training-only modules."""
    from openset_core.auxiliary_batchnorm import AuxiliaryBatchNorm

    dropped = tuple(f"{name}." for name in model.loss.training_only)
    head = sum(
        parameter.numel()
        for name, parameter in model.loss.named_parameters()
        if not f"{name}.".startswith(dropped)
    )
    second_sides = sum(
        parameter.numel()
        for layer in model.backbone.modules()
        if isinstance(layer, AuxiliaryBatchNorm)
        for parameter in layer.generated.parameters()
    )
    return head + sum(parameter.numel() for parameter in model.backbone.parameters()) - second_sides
