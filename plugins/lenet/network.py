"""LeNet++: three stages of two 5x5 convolutions, and a linear layer to a small vector."""

from __future__ import annotations

from torch import Tensor, nn

from openset_core import Backbone, BackboneContext, FeatureMap, Features
from openset_core.errors import CompositionError
from openset_plugins.lenet import LeNetOptions

WIDTHS = (32, 64, 128)


class LeNetPlusPlus(Backbone):
    """Convolutions with bias and PReLU, max-pooling after each pair, then a linear layer.

    Every PReLU has one slope, and one also follows the linear layer, so that the vector is what
    a classifier and a drawing see. Maps r2 (32 channels), r4 (64) and r8 (128) are the pooled
    outputs of the stages. There is no BatchNorm.

    """

    feature_info = tuple(
        FeatureMap(name=f"r{2**depth}", channels=width, reduction=2**depth)
        for depth, width in enumerate(WIDTHS, start=1)
    )

    def __init__(self, channels: int, image_size: int, feature_dim: int = 2) -> None:
        super().__init__()
        self.vector_dim = feature_dim
        inputs = (channels, *WIDTHS[:-1])
        self.stages = nn.ModuleList(map(_stage, inputs, WIDTHS))
        pixels = self.feature_info[-1].side(image_size) ** 2
        self.reduce = nn.Sequential(nn.Linear(WIDTHS[-1] * pixels, feature_dim), nn.PReLU())

    def forward(self, images: Tensor) -> Features:
        """Features of float [B, C, H, W] images: a vector [B, feature_dim] and three maps."""
        maps, hidden = {}, images
        for info, stage in zip(self.feature_info, self.stages, strict=True):
            hidden = maps[info.name] = stage(hidden)
        return Features(self.reduce(hidden.flatten(1)), maps)


def _stage(inputs: int, width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, width):
        layers += [nn.Conv2d(channels, width, kernel_size=5, padding=2), nn.PReLU()]
    return nn.Sequential(*layers, nn.MaxPool2d(2))


def build(config: LeNetOptions, context: BackboneContext) -> LeNetPlusPlus:
    if context.image_size < 8:
        raise CompositionError(
            "backbone lenet-plus-plus halves images three times and needs at least 8x8 pixels, "
            f"the protocol gives {context.image_size}x{context.image_size}; raise image.size"
        )
    return LeNetPlusPlus(context.channels, context.image_size, config.feature_dim)
