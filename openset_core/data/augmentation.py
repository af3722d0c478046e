"""Random changes of training images, a batch at a time with a different draw for each image."""

from __future__ import annotations

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor


@attrs.frozen(kw_only=True)
class Augmentation:
    """Random changes of training images.

    Attributes:
        crop_padding: zero pixels added on each side before a random crop.
        flip: whether images are mirrored with probability one half.
    """

    crop_padding: int = 0
    flip: bool = False

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Change uint8 [B, C, H, W] images, each by its own draw.

        Args:
            images: batch on any device.
            generator: source of the draws, on the CPU, so that they do not depend on the
                device.
        """
        return self.apply(images, self.draw(len(images), generator))

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draws for `count` images, int64 [3, count]: row and column of the crop, mirrored."""
        if not (self.crop_padding or self.flip):
            return torch.zeros(3, count, dtype=torch.int64)
        crop = torch.randint(0, 2 * self.crop_padding + 1, (2, count), generator=generator)
        mirrored = torch.rand(count, generator=generator) < (0.5 if self.flip else 0.0)
        return torch.cat([crop, mirrored[None].long()])

    def apply(self, images: Tensor, draws: Tensor) -> Tensor:
        """Change uint8 [B, C, H, W] images by draws [3, B]."""
        if not (self.crop_padding or self.flip):
            return images
        count, _channels, height, width = images.shape
        padding = self.crop_padding
        draw, mirrored = draws[:2], draws[2].bool()
        across = torch.arange(width).expand(count, width)
        across = torch.where(mirrored[:, None], width - 1 - across, across) + draw[1][:, None]
        down = torch.arange(height) + draw[0][:, None]
        padded = F.pad(images, (padding,) * 4)
        device = images.device
        rows = torch.arange(count, device=device)[:, None, None]
        down, across = down.to(device), across.to(device)
        # Indexing with the channels last in the result gives [B, H, W, C] in one gather.
        taken = padded.permute(0, 2, 3, 1)[rows, down[:, :, None], across[:, None, :]]
        return taken.permute(0, 3, 1, 2)
