"""VGG-13: five blocks of two 3x3 convolutions, each block followed by max-pooling."""

from __future__ import annotations

from torch import Tensor, nn

from openset_core import Backbone, BackboneContext, FeatureMap, Features, NoOptions
from openset_core.errors import CompositionError

# The paper names only "VGG-13 as re-designed in CROSR". These widths, with biases and affine
# BatchNorm, are the ones that give the 9,428k and 9,444k parameters of its Table 7.
WIDTHS = (64, 128, 256, 512, 512)


class VGG13(Backbone):
    """Ten convolutions with bias, BatchNorm and ReLU; max-pooling after each pair.

    Maps are named by their side for 32x32 images: f16 (64 channels, after the first pool),
    f8, f4 (256 channels, after the third pool) and f2. The vector is the 512-channel result
    of the last pool, averaged where images larger than 32x32 leave more than one pixel.

    """

    vector_dim = WIDTHS[-1]
    feature_info = tuple(
        FeatureMap(name=f"f{32 // 2**depth}", channels=width, reduction=2**depth)
        for depth, width in enumerate(WIDTHS[:-1], start=1)
    )

    def __init__(self, channels: int) -> None:
        super().__init__()
        blocks, previous = [], channels
        for width in WIDTHS:
            blocks.append(_block(previous, width))
            previous = width
        self.blocks = nn.ModuleList(blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, images: Tensor) -> Features:
        """Features of float [B, C, H, W] images with H and W at least 32."""
        maps, hidden = {}, images
        for info, block in zip(self.feature_info, self.blocks, strict=False):
            hidden = maps[info.name] = block(hidden)
        vector = self.pool(self.blocks[-1](hidden)).flatten(1)
        return Features(vector, maps)


def _block(inputs: int, width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, width):
        layers += [
            nn.Conv2d(channels, width, kernel_size=3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers, nn.MaxPool2d(2))


def build(_config: NoOptions, context: BackboneContext) -> VGG13:
    if context.image_size < 32:
        raise CompositionError(
            f"backbone vgg13 halves images five times and needs at least 32x32 pixels, the "
            f"protocol gives {context.image_size}x{context.image_size}; raise image.size"
        )
    return VGG13(context.channels)
