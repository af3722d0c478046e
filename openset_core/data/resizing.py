"""Image arrays in a protocol's size and colours, the same for loaders and for prepared sets."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from openset_core.experiment.protocol import ImageOptions


def resized(images: Tensor, image: ImageOptions) -> Tensor:
    """uint8 images [N, C, H, W] in a protocol's size and number of channels."""
    size = (image.size, image.size)
    if images.shape[1] != image.channels:
        images = images.expand(-1, 3, -1, -1) if image.channels == 3 else _grey(images)
    if image.fit == "crop":  # the largest square in the middle
        height, width = images.shape[2:]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        images = images[:, :, top : top + side, left : left + side]
    if images.shape[2:] == size:
        return images.contiguous()
    smooth = image.interpolation != "nearest"
    return torch.cat(
        [
            F.interpolate(chunk.contiguous(), size=size, mode=image.interpolation, antialias=smooth)
            for chunk in torch.split(images, 4096)  # bounds the memory of intermediate results
        ]
    )


def _grey(images: Tensor) -> Tensor:
    """ITU-R 601 luma, as Pillow converts to grey."""
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    return (images.float() * weights).sum(dim=1, keepdim=True).round().to(torch.uint8)
