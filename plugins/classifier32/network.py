"""classifier32: three blocks of three convolutions, each block ending in a stride of two."""

from __future__ import annotations

from torch import Tensor, nn

from openset_core import Backbone, BackboneContext, FeatureMap, Features
from openset_plugins.classifier32 import Classifier32Options

WIDTH = 128
SLOPE = 0.2


class Classifier32(Backbone):
    """Nine bias-free 3x3 convolutions, each with BatchNorm and LeakyReLU(0.2).

    Convolutions 3, 6 and 9 have stride 2. Whole channels are dropped from the image and after
    convolutions 3 and 6; after 9 there is no dropout, only the average over the last map, which
    is the vector. Map r2 is the output of convolution 5, r4 of 8, r8 of 9, all with 128
    channels. Convolutions start from N(0, 0.05), BatchNorm scales from N(1, 0.02).

    The released ARPL code also holds a tenth BatchNorm (256 parameters) that no image passes.
    It is left out here, so counts are 256 below the published ones: with a bias-free linear
    head for 10 classes 1,000,384 parameters, published 1,000,640.

    """

    vector_dim = WIDTH

    def __init__(self, channels: int, image_size: int, dropout: float = 0.2) -> None:
        super().__init__()
        # One stage for each resolution, so that a stage's output is its deepest map.
        self.stages = nn.ModuleDict(
            {
                "r1": nn.Sequential(nn.Dropout2d(dropout), _layer(channels, 64), _layer(64, 64)),
                "r2": _stage(64, dropout),
                "r4": _stage(WIDTH, dropout),
                "r8": _layer(WIDTH, WIDTH, stride=2),
            }
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.feature_info = tuple(
            FeatureMap(name=f"r{reduction}", channels=WIDTH, reduction=reduction)
            for reduction in (2, 4, 8)
            if image_size % reduction == 0
        )
        self.apply(_initialise)

    def forward(self, images: Tensor) -> Features:
        """Features of float [B, C, H, W] images: a vector [B, 128] and the declared maps."""
        outputs, hidden = {}, images
        for name, stage in self.stages.items():
            hidden = outputs[name] = stage(hidden)
        vector = self.pool(hidden).flatten(1)
        return Features(vector, {info.name: outputs[info.name] for info in self.feature_info})


def _layer(inputs: int, width: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, width, kernel_size=3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.LeakyReLU(SLOPE, inplace=True),
    )


def _stage(inputs: int, dropout: float) -> nn.Sequential:
    """The stride that ends one block, the dropout after it, and the start of the next block."""
    return nn.Sequential(
        _layer(inputs, WIDTH, stride=2),
        nn.Dropout2d(dropout),
        _layer(WIDTH, WIDTH),
        _layer(WIDTH, WIDTH),
    )


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.05)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


def build(config: Classifier32Options, context: BackboneContext) -> Classifier32:
    return Classifier32(context.channels, context.image_size, config.dropout)
