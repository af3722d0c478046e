"""What learns: backbone, loss and generator."""

from __future__ import annotations

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openset_core import (
    Backbone,
    BackboneContext,
    Batch,
    FeatureMap,
    Features,
    GeneratorContext,
    LossContext,
    Phase,
    RepresentationLoss,
    SampleGenerator,
)
from openset_core.auxiliary_batchnorm import domain, with_auxiliary_batchnorm
from openset_core.errors import CompositionError
from openset_example import BackboneOptions, GeneratorOptions, LossOptions


class ExampleNet(Backbone):
    """Two convolutions of stride two with batch normalisation."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.vector_dim = 2 * width
        self.feature_info = (FeatureMap(name="half", channels=width, reduction=2),)
        self.first = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.second = nn.Sequential(
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.BatchNorm2d(2 * width)
        )

    def forward(self, images: Tensor) -> Features:
        """A vector and the map `half`."""
        half = self.first(images)
        return Features(self.second(half).relu().mean(dim=(2, 3)), {"half": half})


class ExampleCosine(RepresentationLoss):
    """Cross entropy over scaled cosines to one direction a class."""

    def __init__(self, config: LossOptions, context: LossContext) -> None:
        super().__init__()
        self.scale = config.scale
        self.directions = nn.Parameter(torch.randn(context.num_classes, context.vector_dim))

    def logits(self, features: Features) -> Tensor:
        """scale * cosine, [B, K]."""
        vector = F.normalize(features.vector.float(), dim=1)
        return self.scale * F.linear(vector, F.normalize(self.directions, dim=1)).float()

    def loss(self, features: Features, labels: Tensor) -> dict[str, Tensor]:
        """Cross entropy."""
        return {"cross_entropy": F.cross_entropy(self.logits(features), labels)}


class ExampleNoise(SampleGenerator):
    """Noise around a pattern that learns to confuse the classifier."""

    def __init__(self, config: GeneratorOptions, context: GeneratorContext) -> None:
        super().__init__()
        self.weight = config.weight
        shape = (context.channels, context.image_size, context.image_size)
        self.pattern = nn.Parameter(torch.zeros(shape))
        self.register_buffer("mean", torch.tensor(context.pixel_mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(context.pixel_std).view(-1, 1, 1))

    def sample(self, count: int) -> Tensor:
        """Images in the input space."""
        noise = torch.randn(count, *self.pattern.shape, device=self.pattern.device)
        return ((noise + self.pattern).sigmoid() - self.mean) / self.std

    def phases(
        self, backbone: Backbone, loss: RepresentationLoss, phases: list[Phase]
    ) -> list[Phase]:
        """A phase for the pattern, and a term on noise in the loss's last phase."""
        with_auxiliary_batchnorm(backbone)
        *before, last = phases

        def confuse(batch: Batch) -> dict[str, Tensor]:
            with domain(backbone, "generated"):
                features = backbone(self.sample(len(batch.images)))
            return {"open_space": loss.open_space(features).float().mean()}

        def enhanced(batch: Batch) -> dict[str, Tensor]:
            with domain(backbone, "generated"):
                features = backbone(self.sample(len(batch.images)).detach())
            noise = self.weight * loss.open_space(features).float().mean()
            return {**last.loss(batch), "noise": noise}

        own = Phase(name="pattern", loss=confuse, updates=(self,))
        return [*before, own, attrs.evolve(last, loss=enhanced)]


def build_backbone(config: BackboneOptions, context: BackboneContext) -> ExampleNet:
    """Build the backbone.

    Raises:
        CompositionError: images with an odd side.
    """
    if context.image_size % 2:
        raise CompositionError("example-net needs images of an even side; change image.size")
    return ExampleNet(config.width, context.channels)


def build_loss(config: LossOptions, context: LossContext) -> ExampleCosine:
    """Build the loss."""
    return ExampleCosine(config, context)


def build_generator(config: GeneratorOptions, context: GeneratorContext) -> ExampleNoise:
    """Build the generator."""
    return ExampleNoise(config, context)
