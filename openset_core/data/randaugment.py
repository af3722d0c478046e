"""RandAugment on batches of uint8 images, with an operation of its own for each image.

Images of a batch that drew the same operation are changed together by torchvision's kernels.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs
import torch
from torch import Tensor

from openset_core.data.to_device import to_device

MAX_MAGNITUDE = 30
"""The magnitude M at which every operation is strongest."""

PLACES = 1 << 16
"""Resolution of a drawn place in an image."""

DRAWN = 4
"""Numbers drawn for one operation on one image: operation, sign, row and column."""

Change = Callable[[Tensor, float, Tensor], Tensor]
"""(uint8 images [b, C, H, W], strength, places int64 [2, b]) -> changed images."""


@attrs.frozen
class Operation:
    """One operation of RandAugment.

    Attributes:
        name: as the literature has it.
        low: strength at magnitude 0.
        high: strength at magnitude 30.
        change: what it does to images.
        signed: whether the strength is negated with probability one half.
    """

    name: str
    low: float
    high: float
    change: Change
    signed: bool = False

    def strength(self, magnitude: float) -> float:
        """low + M / 30 (high - low)."""
        return self.low + magnitude / MAX_MAGNITUDE * (self.high - self.low)


def _kernel(name: str, takes_strength: bool = True) -> Change:
    """A colour kernel of torchvision."""

    def change(images: Tensor, strength: float, _places: Tensor) -> Tensor:
        from torchvision.transforms.v2 import functional

        kernel = getattr(functional, name)
        changed: Tensor = kernel(images, strength) if takes_strength else kernel(images)
        return changed

    return change


def _affine(images: Tensor, corner: bool = False, **change: float) -> Tensor:
    """Rotated, sheared (as slopes, about the first corner) or shifted, nearest pixel, zero fill."""
    from torchvision.transforms.v2 import functional

    moved: Tensor = functional.affine(
        images,
        angle=change.get("angle", 0.0),
        translate=[change.get("right", 0.0), change.get("down", 0.0)],
        scale=1.0,
        shear=[math.degrees(math.atan(change.get(key, 0.0))) for key in ("shear_x", "shear_y")],
        center=[0.0, 0.0] if corner else None,
    )
    return moved


def _posterize(images: Tensor, strength: float, _places: Tensor) -> Tensor:
    from torchvision.transforms.v2 import functional

    kept: Tensor = functional.posterize(images, max(1, int(strength)))
    return kept


def _solarize(images: Tensor, strength: float, _places: Tensor) -> Tensor:
    # torchvision refuses the threshold 256, which no pixel reaches.
    return torch.where(images.int() >= int(strength), 255 - images, images)


def _solarize_add(images: Tensor, strength: float, _places: Tensor) -> Tensor:
    brighter = (images.int() + int(strength)).clamp(max=255).to(torch.uint8)
    return torch.where(images < 128, brighter, images)


def _cutout(images: Tensor, strength: float, places: Tensor) -> Tensor:
    """A grey square of side `strength` pixels, cut off at the border."""
    side = int(strength)
    edge = [
        places[axis] * images.shape[2 + axis] // PLACES - side // 2 for axis in range(2)
    ]  # of the square, before what lies outside the image is cut off
    down, across = (
        (position >= start[:, None]) & (position < start[:, None] + side)
        for start, position in (
            (start, torch.arange(size)[None])
            for start, size in zip(edge, images.shape[2:], strict=True)
        )
    )
    hole = to_device(down[:, None, :, None] & across[:, None, None, :], images.device)
    colour = (125, 123, 114) if images.shape[1] == 3 else (123,)
    grey = to_device(torch.tensor(colour, dtype=torch.uint8), images.device)[None, :, None, None]
    return torch.where(hole, grey, images)


COLOUR = (
    Operation("autocontrast", 0, 1, _kernel("autocontrast", takes_strength=False)),
    Operation("equalize", 0, 1, _kernel("equalize", takes_strength=False)),
    Operation("invert", 0, 1, _kernel("invert", takes_strength=False)),
    Operation("posterize", 0, 4, _posterize),
    Operation("solarize", 0, 256, _solarize),
    Operation("solarize-add", 0, 110, _solarize_add),
    Operation("color", 0.1, 1.9, _kernel("adjust_saturation")),
    Operation("contrast", 0.1, 1.9, _kernel("adjust_contrast")),
    Operation("brightness", 0.1, 1.9, _kernel("adjust_brightness")),
    Operation("sharpness", 0.1, 1.9, _kernel("adjust_sharpness")),
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

    Attributes:
        operations: how many are drawn for each image, with replacement.
        magnitude: M, 0 to 30.
        placement: whether rotations and shifts are among the operations; Vaze et al. leave them
            out for digits.
    """

    operations: int
    magnitude: float
    placement: bool = True

    @property
    def choices(self) -> tuple[Operation, ...]:
        """The operations that are drawn from."""
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
            for sign in (0, 1) if operation.signed else (None,):
                chosen = drawn[0] == number
                if sign is not None:
                    chosen &= drawn[1] == sign
                rows = chosen.nonzero()[:, 0]
                if len(rows):
                    strength = operation.strength(self.magnitude) * (-1 if sign else 1)
                    there = to_device(rows, images.device)
                    changed[there] = operation.change(images[there], strength, drawn[2:, rows])
        return changed
