"""RandAugment on batches of uint8 images, with an operation of its own for each image.

Images of a batch that drew the same operation are changed together by torchvision's kernels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import attrs
import torch
from torch import Tensor

from openset_core.data.to_device import to_device

MAX_MAGNITUDE = 30  # the magnitude M at which every operation is strongest
PLACES = 1 << 16  # resolution of a drawn place in an image
DRAWN = 4  # numbers drawn for one operation on one image: operation, sign, row and column

Change = Callable[[Tensor, float, Tensor], Tensor]
"""(uint8 images [b, C, H, W], strength, places int64 [2, b]) -> changed images."""


@attrs.frozen
class Operation:
    name: str  # as the literature has it
    low: float  # strength at magnitude 0
    high: float  # strength at magnitude 30
    change: Change
    signed: bool = False  # whether the strength is negated with probability one half


def _torchvision(kernel: str, images: Tensor, *values: Any, **options: Any) -> Tensor:
    from torchvision.transforms.v2 import functional

    changed: Tensor = getattr(functional, kernel)(images, *values, **options)
    return changed


def _affine(images: Tensor, corner: bool = False, **change: float) -> Tensor:
    """Rotated, sheared (as slopes, about the first corner) or shifted, nearest pixel, zero fill."""
    return _torchvision(
        "affine",
        images,
        angle=change.get("angle", 0.0),
        translate=[change.get("right", 0.0), change.get("down", 0.0)],
        scale=1.0,
        shear=[math.degrees(math.atan(change.get(key, 0.0))) for key in ("shear_x", "shear_y")],
        center=[0.0, 0.0] if corner else None,
    )


def _solarize(images: Tensor, strength: float, _places: Tensor) -> Tensor:
    # torchvision refuses the threshold 256, which no pixel reaches.
    return torch.where(images.int() >= int(strength), 255 - images, images)


def _solarize_add(images: Tensor, strength: float, _places: Tensor) -> Tensor:
    brighter = (images.int() + int(strength)).clamp(max=255).to(torch.uint8)
    return torch.where(images < 128, brighter, images)


def _cutout(images: Tensor, strength: float, places: Tensor) -> Tensor:
    """A grey square of side `strength` pixels, cut off at the border."""
    side = int(strength)

    def inside(axis: int) -> Tensor:
        size = images.shape[2 + axis]
        start = (places[axis] * size // PLACES - side // 2)[:, None]
        position = torch.arange(size)
        return (position >= start) & (position < start + side)

    hole = to_device(inside(0)[:, None, :, None] & inside(1)[:, None, None, :], images.device)
    colour = (125, 123, 114) if images.shape[1] == 3 else (123,)
    grey = to_device(torch.tensor(colour, dtype=torch.uint8), images.device)[None, :, None, None]
    return torch.where(hole, grey, images)


COLOUR = (
    Operation("autocontrast", 0, 1, lambda x, _v, _p: _torchvision("autocontrast", x)),
    Operation("equalize", 0, 1, lambda x, _v, _p: _torchvision("equalize", x)),
    Operation("invert", 0, 1, lambda x, _v, _p: _torchvision("invert", x)),
    Operation("posterize", 0, 4, lambda x, v, _: _torchvision("posterize", x, max(1, int(v)))),
    Operation("solarize", 0, 256, _solarize),
    Operation("solarize-add", 0, 110, _solarize_add),
    Operation("color", 0.1, 1.9, lambda x, v, _: _torchvision("adjust_saturation", x, v)),
    Operation("contrast", 0.1, 1.9, lambda x, v, _: _torchvision("adjust_contrast", x, v)),
    Operation("brightness", 0.1, 1.9, lambda x, v, _: _torchvision("adjust_brightness", x, v)),
    Operation("sharpness", 0.1, 1.9, lambda x, v, _: _torchvision("adjust_sharpness", x, v)),
)
SHAPE = (
    Operation("shear-x", 0, 0.3, lambda x, v, _: _affine(x, corner=True, shear_x=v), signed=True),
    Operation("shear-y", 0, 0.3, lambda x, v, _: _affine(x, corner=True, shear_y=v), signed=True),
    Operation("cutout", 0, 40, _cutout),
)
PLACEMENT = (
    Operation("rotate", 0, 30, lambda x, v, _: _affine(x, angle=v), signed=True),
    Operation("translate-x", 0, 100, lambda x, v, _: _affine(x, right=v), signed=True),
    Operation("translate-y", 0, 100, lambda x, v, _: _affine(x, down=v), signed=True),
)


@attrs.frozen(kw_only=True)
class RandAugment:
    """Random operations one after the other, of one magnitude (Cubuk et al., CVPRW 2020).

    The sixteen operations and their ranges are those of Vaze et al. (ICLR 2022): strengths grow
    linearly with the magnitude, also those that weaken the change (`posterize` keeps more bits and
    `solarize` inverts less at a higher magnitude), and shifts and squares are in pixels whatever
    the size of the image. Deviations: images are changed at the protocol's size, not before they
    are resized; fractions of a pixel round as torchvision's kernels do, not as Pillow's;
    `posterize` keeps at least one bit.
    """

    operations: int  # drawn for each image, with replacement
    magnitude: float  # M, 0 to 30
    placement: bool = True
    """Whether rotations and shifts are among the operations; Vaze et al. omit them for digits."""

    @property
    def choices(self) -> tuple[Operation, ...]:
        return (*COLOUR, *SHAPE, *(PLACEMENT if self.placement else ()))

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draws for `count` images, int64 [4 * operations, count]."""
        drawn = []
        for _round in range(self.operations):
            drawn += [
                torch.randint(0, len(self.choices), (1, count), generator=generator),
                torch.randint(0, 2, (1, count), generator=generator),
                torch.randint(0, PLACES, (2, count), generator=generator),
            ]
        return torch.cat(drawn)

    def apply(self, images: Tensor, draws: Tensor) -> Tensor:
        """Change uint8 [B, C, H, W] images on any device by draws on the CPU."""
        for drawn in torch.split(draws, DRAWN):
            images = self._round(images, drawn)
        return images

    def _round(self, images: Tensor, drawn: Tensor) -> Tensor:
        changed = torch.empty_like(images)
        # Grouped on the CPU, where the draws are, so that nothing waits for the device.
        for number, operation in enumerate(self.choices):
            share = self.magnitude / MAX_MAGNITUDE
            strength = operation.low + share * (operation.high - operation.low)
            for sign in (0, 1) if operation.signed else (None,):
                chosen = drawn[0] == number
                if sign is not None:
                    chosen &= drawn[1] == sign
                rows = chosen.nonzero()[:, 0]
                if len(rows):
                    there = to_device(rows, images.device)
                    changed[there] = operation.change(
                        images[there], -strength if sign else strength, drawn[2:, rows]
                    )
        return changed
