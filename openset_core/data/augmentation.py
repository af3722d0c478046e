"""Random changes of training images, a batch at a time with a different draw for each image."""

from __future__ import annotations

import math

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor

from openset_core.data.randaugment import RandAugment
from openset_core.data.to_device import to_device

FRACTIONS = 1 << 24  # resolution of drawn fractions, which travel as whole numbers
CROP_DRAWS = 4  # numbers drawn for one resized crop: area, shape, row and column


@attrs.frozen(kw_only=True)
class Augmentation:
    """Random changes of training images, in the order of the attributes."""

    randaugment: RandAugment | None = None
    resized_crop: float = 0.0  # least share of the area that is kept; 0 for no such crop
    crop_padding: int = 0  # zero pixels added on each side before a random crop
    flip: bool = False  # with probability one half

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Change uint8 [B, C, H, W] images on any device by draws made on the CPU."""
        return self.apply(images, self.draw(len(images), generator))

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draws for `count` images, int64 [rows, count]: what each part of the change needs.

        The first three rows are row and column of the padded crop and whether to mirror.
        """
        drawn = [torch.zeros(3, count, dtype=torch.int64)]
        if self.crop_padding or self.flip:
            crop = torch.randint(0, 2 * self.crop_padding + 1, (2, count), generator=generator)
            mirrored = torch.rand(count, generator=generator) < (0.5 if self.flip else 0.0)
            drawn = [crop, mirrored[None].long()]
        if self.resized_crop:
            drawn.append(torch.randint(0, FRACTIONS, (CROP_DRAWS, count), generator=generator))
        if self.randaugment is not None:
            drawn.append(self.randaugment.draw(count, generator))
        return torch.cat(drawn)

    def apply(self, images: Tensor, draws: Tensor) -> Tensor:
        """Change uint8 [B, C, H, W] images by draws [rows, B] on the CPU."""
        moved, others = draws[:3], draws[3:]
        crops, operations = others.tensor_split((CROP_DRAWS if self.resized_crop else 0,))
        if self.randaugment is not None:
            images = self.randaugment.apply(images, operations)
        if self.resized_crop:
            images = resized_crops(images, crops / FRACTIONS, self.resized_crop)
        if self.crop_padding or self.flip:
            images = self._moved(images, moved)
        return images

    def _moved(self, images: Tensor, draws: Tensor) -> Tensor:
        count, _channels, height, width = images.shape
        padding = self.crop_padding
        draw, mirrored = draws[:2], draws[2].bool()
        across = torch.arange(width).expand(count, width)
        across = torch.where(mirrored[:, None], width - 1 - across, across) + draw[1][:, None]
        down = torch.arange(height) + draw[0][:, None]
        padded = F.pad(images, (padding,) * 4)
        device = images.device
        rows = torch.arange(count, device=device)[:, None, None]
        down, across = to_device(down, device), to_device(across, device)
        # Indexing with the channels last in the result gives [B, H, W, C] in one gather.
        taken = padded.permute(0, 2, 3, 1)[rows, down[:, :, None], across[:, None, :]]
        return taken.permute(0, 3, 1, 2)


def resized_crops(images: Tensor, fractions: Tensor, least_area: float) -> Tensor:
    """A part of each image at the image's own size (Szegedy et al., CVPR 2015), bilinear.

    Sides are cut to the image where torchvision draws again. No antialiasing is needed, because
    parts are only enlarged. `fractions` are float [4, B] in [0, 1), on the CPU: place of the area
    between `least_area` and 1, place of the aspect ratio between 3/4 and 4/3 on a logarithmic
    scale, row, column.
    """
    area = least_area + (1.0 - least_area) * fractions[0]
    ratio = ((2.0 * fractions[1] - 1.0) * math.log(4 / 3)).exp()
    across, down = (
        (area * shape).sqrt().clamp(max=1.0) for shape in (ratio, ratio.reciprocal())
    )  # sides as shares of the image's
    # In the grid's coordinates the image reaches from -1 to 1.
    right, low = (
        (1.0 - side) * (2.0 * place - 1.0)
        for side, place in ((across, fractions[3]), (down, fractions[2]))
    )
    zero = torch.zeros_like(area)
    matrix = torch.stack([across, zero, right, zero, down, low], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(to_device(matrix, images.device), list(images.shape), align_corners=False)
    taken = F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
    return taken.round().to(torch.uint8)
