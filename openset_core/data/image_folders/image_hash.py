"""Image files that are read once, with a note of how each one looks."""

from __future__ import annotations

import hashlib

import attrs
import numpy as np
import numpy.typing as npt

from openset_core.data.folders import ImageFiles, Pixels
from openset_core.data.reading import read_image

SKETCH_SIDE = 16


@attrs.frozen(kw_only=True)
class Look:
    """How an image looks.

    Attributes:
        digest: hash of its pixels, however they are stored.
        height: in pixels.
        width: in pixels.
        sketch: mean colour of each of 16 x 16 fields, uint8 [768].
    """

    digest: bytes
    height: int
    width: int
    sketch: npt.NDArray[np.uint8] = attrs.field(eq=False, repr=False)


@attrs.frozen(kw_only=True, eq=False)
class HashedImageFiles(ImageFiles):
    """Image files that note the look of each image when they read it.

    Attributes:
        looks: by row, of the rows that were read.
    """

    looks: dict[int, Look] = attrs.field(factory=dict, repr=False)

    def original(self, row: int) -> Pixels:
        """The file's own pixels, uint8 [H, W, C]; their look is noted."""
        pixels = read_image(self.files[row])
        self.looks[row] = look(pixels)
        return pixels


def look(pixels: Pixels) -> Look:
    """How an image looks.

    Args:
        pixels: uint8 [H, W, C] with C = 1 or 3.
    """
    from PIL import Image

    height, width, channels = pixels.shape
    if channels == 3 and _is_grey(pixels):
        pixels = pixels[..., :1]  # a grey picture stays the same when it is saved in colour
    digest = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    plain = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    small = Image.fromarray(plain).resize((SKETCH_SIDE, SKETCH_SIDE), Image.Resampling.BOX)
    return Look(
        digest=digest.digest(),
        height=height,
        width=width,
        sketch=np.asarray(small.convert("RGB"), dtype=np.uint8).ravel(),
    )


def _is_grey(pixels: Pixels) -> bool:
    red, green, blue = np.moveaxis(pixels, 2, 0)
    return bool(np.array_equal(red, green) and np.array_equal(green, blue))
