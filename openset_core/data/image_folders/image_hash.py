"""Image files that are read once, with a hash of each image to find duplicates by."""

from __future__ import annotations

import attrs
import numpy as np
import numpy.typing as npt

from openset_core.data.folders import ImageFiles, Pixels
from openset_core.data.images import pixel_digest
from openset_core.data.reading import read_image

SKETCH_SIDE = 16


@attrs.frozen(kw_only=True)
class ImageHash:
    digest: bytes  # of the pixels, however they are stored
    aspect: float  # width over height
    sketch: npt.NDArray[np.uint8] = attrs.field(eq=False, repr=False)
    """Mean grey level of each of 16 x 16 fields, uint8 [256]; formats that save colours coarsely
    change it little."""


@attrs.frozen(kw_only=True, eq=False)
class HashedImageFiles(ImageFiles):
    """Image files that keep the hash of each image, by row, when they read it."""

    hashes: dict[int, ImageHash] = attrs.field(factory=dict, repr=False)

    def original(self, row: int) -> Pixels:
        pixels = read_image(self.files[row])
        self.hashes[row] = image_hash(pixels)
        return pixels


def image_hash(pixels: Pixels) -> ImageHash:
    """The hash of an image, uint8 [H, W, C] with C = 1 or 3."""
    from PIL import Image

    if (pixels == pixels[..., :1]).all():
        pixels = pixels[..., :1]  # a grey picture stays the same when it is saved in colour
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    small = image.convert("L").resize((SKETCH_SIDE, SKETCH_SIDE), Image.Resampling.BOX)
    return ImageHash(
        digest=pixel_digest(pixels),
        aspect=pixels.shape[1] / pixels.shape[0],
        sketch=np.asarray(small, dtype=np.uint8).ravel(),
    )
