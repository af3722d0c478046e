"""From the protocol's images to those that a model's weights expect."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Conversion(nn.Module):
    """Resize, and exchange the protocol's normalisation for the model's.

    With an image p in [0, 1], the protocol gives (p - m) / s and the model wants (p - M) / S,
    which is (p - m) / s * s / S + (m - M) / S. Interpolation weights sum to one, so resizing
    before or after makes no difference. Nothing is stored in the state dict: the protocol and
    the model's name determine it. `given` and `wanted` are mean and deviation of the images that
    come and go, for one or for each channel.

    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        size: tuple[int, int],
        interpolation: str,
        given: tuple[Sequence[float], Sequence[float]],
        wanted: tuple[Sequence[float], Sequence[float]],
    ) -> None:
        super().__init__()
        self.size, self.interpolation = size, interpolation
        old_mean, old_std, new_mean, new_std = (
            torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1)
            for values in (*given, *wanted)
        )
        self.register_buffer("scale", (old_std / new_std).float(), persistent=False)
        self.register_buffer("shift", ((old_mean - new_mean) / new_std).float(), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Float [B, C, h, w] in the protocol's form to [B, C, H, W] in the model's."""
        if images.shape[-2:] != self.size:
            images = F.interpolate(
                images, self.size, mode=self.interpolation, align_corners=False, antialias=True
            )
        return images * self.scale + self.shift


def for_channels(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """A model's means or deviations for images of another number of channels: their average."""
    if len(values) == channels:
        return tuple(values)
    return (sum(values) / len(values),) * channels
