"""Small partners for the part under test: a backbone, losses, and images that can be learnt."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openset_core.components import (
    Backbone,
    BackboneContext,
    Batch,
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
REDUCTIONS = (2, 4, 8, 16)


class PartnerBackbone(Backbone):
    """Four strided convolutions, a few thousand parameters.

    Args:
        channels: channels of the images.
        maps: whether the four feature maps are handed out.
        batchnorm: whether each convolution is followed by BatchNorm.
        width: channels of each map.
    """

    def __init__(
        self, channels: int = CHANNELS, *, maps: bool, batchnorm: bool, width: int = 8
    ) -> None:
        super().__init__()
        self.vector_dim = 2 * width
        self.feature_info = (
            tuple(FeatureMap(name=f"m{r}", channels=width, reduction=r) for r in REDUCTIONS)
            if maps
            else ()
        )
        inputs = (channels, *(width,) * (len(REDUCTIONS) - 1))
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(count, width, 3, stride=2, padding=1),
                nn.BatchNorm2d(width) if batchnorm else nn.Identity(),
                nn.LeakyReLU(0.1),
            )
            for count in inputs
        )
        self.last = nn.Linear(width, 2 * width)
        self.calls = 0

    def forward(self, images: Tensor) -> Features:
        """Vector [B, 2 width] and the maps m2, m4, m8, m16."""
        self.calls += 1
        hidden, outputs = images, []
        for stage in self.stages:
            hidden = stage(hidden)
            outputs.append(hidden)
        vector = self.last(hidden.mean(dim=(2, 3)))
        named = zip(self.feature_info, outputs, strict=False)
        return Features(vector, {info.name: output for info, output in named})


class PartnerLoss(RepresentationLoss):
    """A linear classifier in one phase."""

    def __init__(self, vector_dim: int = 16, num_classes: int = CLASSES) -> None:
        super().__init__()
        self.classifier = nn.Linear(vector_dim, num_classes)

    def logits(self, features: Features) -> Tensor:
        """Class scores [B, K]."""
        return self.classifier(features.vector)  # type: ignore[no-any-return]

    def loss(self, features: Features, labels: Tensor) -> dict[str, Tensor]:
        """Cross entropy."""
        return {"fit": F.cross_entropy(self.logits(features), labels)}


class PartnerLossOfTwoPhases(PartnerLoss):
    """A phase of its own before the classifier's."""

    training_only = ("extra",)

    def __init__(self, vector_dim: int = 16, num_classes: int = CLASSES) -> None:
        super().__init__(vector_dim, num_classes)
        self.extra = nn.Linear(vector_dim, 1)

    def phases(self, backbone: Backbone) -> list[Phase]:
        """`early` updates `extra` and the backbone, `late` the classifier and the backbone."""
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


def backbone_context(
    channels: int = CHANNELS, size: int = SIZE, *, initial_weights: bool = True
) -> BackboneContext:
    """What a backbone's factory is told."""
    return BackboneContext(
        channels=channels,
        image_size=size,
        pixel_mean=MEAN[:channels],
        pixel_std=STD[:channels],
        initial_weights=initial_weights,
    )


def generator_context(
    channels: int = CHANNELS, size: int = SIZE, num_classes: int = CLASSES
) -> GeneratorContext:
    """What a generator's factory is told."""
    return GeneratorContext(
        num_classes=num_classes,
        channels=channels,
        image_size=size,
        pixel_mean=MEAN[:channels],
        pixel_std=STD[:channels],
    )


def loss_context(
    backbone: Backbone | None = None,
    *,
    num_classes: int = CLASSES,
    maps: bool = True,
    batchnorm: bool = True,
) -> LossContext:
    """What a loss's factory is told of a backbone, by default of a `PartnerBackbone`."""
    network = backbone or PartnerBackbone(maps=maps, batchnorm=batchnorm)
    return LossContext(
        num_classes=num_classes,
        vector_dim=network.vector_dim,
        maps=tuple(network.feature_info),
        image_size=SIZE,
        channels=CHANNELS,
        backbone="partner",
    )


def batch_of(
    backbone: Backbone,
    *,
    count: int = 12,
    num_classes: int = CLASSES,
    channels: int = CHANNELS,
    size: int = SIZE,
    epoch: int = 0,
    epochs: int = 2,
) -> Batch:
    """Preprocessed images that can be told apart by their class, and noise on them."""
    images, labels = learnable_images(count, num_classes, channels, size)
    return Batch(images, labels, backbone=backbone, epoch=epoch, epochs=epochs)


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
    return preprocessed(images), labels


def preprocessed(pixels: Tensor) -> Tensor:
    """Images in [0, 1] brought to the input space of the contexts above."""
    return (pixels - _column(MEAN, pixels)) / _column(STD, pixels)


def pixels_of(images: Tensor) -> Tensor:
    """Images of the input space brought back to [0, 1]."""
    return images * _column(STD, images) + _column(MEAN, images)


def _column(values: Sequence[float], images: Tensor) -> Tensor:
    return images.new_tensor(values[: images.shape[1]]).view(1, -1, 1, 1)
