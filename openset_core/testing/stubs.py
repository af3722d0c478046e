"""Small stand-ins for what surrounds the component under test, and images that can be learned."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openset_core.components import (
    Backbone,
    BackboneContext,
    FeatureMap,
    Features,
    GeneratorContext,
    LossContext,
    Phase,
    RepresentationLoss,
)

SIZE = 32
CHANNELS = 3
CLASSES = 4
MEAN = (0.5, 0.45, 0.4)
STD = (0.25, 0.2, 0.3)
WIDTH = 8


class StubBackbone(Backbone):
    """Four strided convolutions, a few thousand parameters; with `maps` it gives the feature maps
    m2, m4, m8 and m16."""

    def __init__(self, *, maps: bool, batchnorm: bool) -> None:
        super().__init__()
        self.vector_dim = 2 * WIDTH
        self.feature_info = tuple(
            FeatureMap(name=f"m{r}", channels=WIDTH, reduction=r) for r in (2, 4, 8, 16) if maps
        )
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(inputs, WIDTH, 3, stride=2, padding=1),
                nn.BatchNorm2d(WIDTH) if batchnorm else nn.Identity(),
                nn.LeakyReLU(0.1),
            )
            for inputs in (CHANNELS, WIDTH, WIDTH, WIDTH)
        )
        self.last = nn.Linear(WIDTH, 2 * WIDTH)

    def forward(self, images: Tensor) -> Features:
        hidden, outputs = images, []
        for stage in self.stages:
            hidden = stage(hidden)
            outputs.append(hidden)
        named = zip(self.feature_info, outputs, strict=False)
        vector = self.last(hidden.mean(dim=(2, 3)))
        return Features(vector, {info.name: output for info, output in named})


class StubLoss(RepresentationLoss):
    """A linear classifier in one phase; with `on_maps` a second term depends on feature maps."""

    def __init__(self, vector_dim: int = 2 * WIDTH, *, on_maps: bool = False) -> None:
        super().__init__()
        self.on_maps = on_maps
        self.classifier = nn.Linear(vector_dim, CLASSES)

    def logits(self, features: Features) -> Tensor:
        return self.classifier(features.vector)  # type: ignore[no-any-return]

    def loss(self, features: Features, labels: Tensor) -> dict[str, Tensor]:
        terms = {"fit": F.cross_entropy(self.logits(features), labels)}
        if self.on_maps and features.maps:
            squares = [value.float().square().mean() for value in features.maps.values()]
            terms["maps"] = torch.stack(squares).sum()
        return terms


class StubLossOfTwoPhases(StubLoss):
    """A phase of its own before the classifier's."""

    training_only = ("extra",)

    def __init__(self, vector_dim: int = 2 * WIDTH) -> None:
        super().__init__(vector_dim)
        self.extra = nn.Linear(vector_dim, 1)

    def phases(self, backbone: Backbone) -> list[Phase]:
        return [
            Phase(
                name="early",
                loss=lambda batch: {"small": self.extra(batch.features().vector).square().mean()},
                updates=(backbone, self.extra),
            ),
            Phase(
                name="late",
                loss=lambda batch: self.loss(batch.features(), batch.labels),
                updates=(backbone, self.classifier),
            ),
        ]


def _image_shape(channels: int, size: int) -> dict[str, Any]:
    return {
        "channels": channels,
        "image_size": size,
        "pixel_mean": MEAN[:channels],
        "pixel_std": STD[:channels],
    }


def backbone_context(
    channels: int = CHANNELS, size: int = SIZE, *, initial_weights: bool = True
) -> BackboneContext:
    return BackboneContext(**_image_shape(channels, size), initial_weights=initial_weights)


def generator_context(channels: int = CHANNELS, size: int = SIZE) -> GeneratorContext:
    return GeneratorContext(**_image_shape(channels, size), num_classes=CLASSES)


def loss_context(backbone: Backbone, num_classes: int = CLASSES) -> LossContext:
    return LossContext(
        num_classes=num_classes,
        vector_dim=backbone.vector_dim,
        maps=tuple(backbone.feature_info),
        image_size=SIZE,
        channels=CHANNELS,
        backbone="stub",
    )


def learnable_images(
    count: int, num_classes: int = CLASSES, channels: int = CHANNELS, size: int = SIZE
) -> tuple[Tensor, Tensor]:
    """Images [count, C, S, S] in the input space and labels: a bright quarter for each class."""
    labels = torch.arange(count) % num_classes
    images = 0.15 * torch.rand(count, channels, size, size)
    half = max(size // 2, 1)
    for row, label in enumerate(labels.tolist()):
        top, left, channel = label // 2 % 2, label % 2, label % channels
        area = (slice(top * half, (top + 1) * half), slice(left * half, (left + 1) * half))
        images[row, channel, *area] += 0.6
        images[row, :, *area] += 0.1 + 0.1 * (label // 4)
    mean, std = _mean_and_std(channels)
    return (images - mean) / std, labels


def pixels_of(images: Tensor) -> Tensor:
    """Images of the input space brought back to [0, 1]."""
    mean, std = _mean_and_std(images.shape[1])
    return torch.addcmul(mean, images, std)


def _mean_and_std(channels: int) -> Tensor:
    """[2, 1, C, 1, 1], to broadcast over images."""
    return torch.tensor([MEAN[:channels], STD[:channels]]).view(2, 1, -1, 1, 1)
