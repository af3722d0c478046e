"""Images that show the same picture: the same pixels, or saved anew in another quality or size.

A picture saved anew has a sketch, see `ImageHash`, that differs by less than saving as JPEG or in
another size changes it; pictures of little contrast must be more alike for that. Mirrored and
cropped copies are not found.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np
import numpy.typing as npt

from openset_core.data.folders import ImageFiles, Pixels
from openset_core.data.images import pixel_digest
from openset_core.data.reading import read_image

SKETCH_SIDE = 16
TOLERANCE = 6.0
"""Root mean square difference of two sketches, in grey levels, up to which they are the same."""

CONTRAST_SHARE = 0.12
"""The same as a share of the sketch's own deviation; the smaller of both counts."""

ASPECT_TOLERANCE = 0.04  # difference of the logarithms of the aspect ratios
NEIGHBOURS = 4  # most similar images that each one is compared with
MAX_COPIES = 8  # different files of a picture; more that are chained together only look alike

Rows = npt.NDArray[np.int64]


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


@attrs.frozen
class Duplicates:
    exact: Rows  # a number for each image, the same for the same pixels, int64 [N]
    resaved: Rows  # the same also for a picture saved anew, int64 [N]
    look_alikes: Rows
    """Rows of images that are too many of one kind to be copies; only their pixels count."""


def find_duplicates(hashes: Sequence[ImageHash]) -> Duplicates:
    numbers: dict[bytes, int] = {}
    exact = np.array([numbers.setdefault(item.digest, len(numbers)) for item in hashes], np.int64)
    _numbers, first = np.unique(exact, return_index=True)
    pairs = _similar([hashes[row] for row in first])
    groups = connected(len(first), pairs)
    look_alike = (np.bincount(groups) > MAX_COPIES)[groups]
    groups = connected(len(first), pairs[~look_alike[pairs[:, 0]]])
    return Duplicates(exact, groups[exact], np.flatnonzero(look_alike[exact]))


def _similar(hashes: Sequence[ImageHash]) -> Rows:
    """Pairs of images with nearly the same sketch, int64 [n, 2]."""
    from sklearn.neighbors import NearestNeighbors

    if len(hashes) < 2:
        return np.zeros((0, 2), np.int64)
    sketches = np.stack([item.sketch for item in hashes]).astype(np.float32)
    contrast = sketches.std(axis=1)
    aspect = np.log([item.aspect for item in hashes])
    search = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(hashes) - 1), algorithm="brute")
    distances, others = search.fit(sketches).kneighbors()
    one, other = np.arange(len(hashes)).repeat(others.shape[1]), others.ravel()
    difference = distances.ravel() / np.sqrt(sketches.shape[1])
    limit = CONTRAST_SHARE * np.minimum(contrast[one], contrast[other])
    same = difference <= np.minimum(TOLERANCE, limit)
    same &= np.abs(aspect[one] - aspect[other]) <= ASPECT_TOLERANCE
    pairs: Rows = np.stack([one, other], axis=1)[same]
    return pairs


def connected(count: int, pairs: Rows) -> Rows:
    """A number for each of `count` images, the same for those that pairs [n, 2] connect."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    numbers: Rows = connected_components(graph, directed=False)[1].astype(np.int64)
    return numbers


def members(numbers: Rows) -> list[Rows]:
    """The rows of each group, groups by their first row."""
    groups: dict[int, list[int]] = {}
    for row, number in enumerate(numbers.tolist()):
        groups.setdefault(number, []).append(row)
    return [np.array(rows, np.int64) for rows in groups.values()]
