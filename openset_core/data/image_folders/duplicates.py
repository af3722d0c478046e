"""Images that show the same picture: the same pixels, or saved again in another size or format.

Exact copies have the same pixels, however they are stored. Near copies have sketches, see `Look`,
that differ by less than saving again as JPEG or in another size changes them; pictures of little
contrast must be more alike for that. Mirrored, cropped or recoloured copies are not found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs
import numpy as np
import numpy.typing as npt

from openset_core.data.image_folders.image_hash import SKETCH_SIDE, Look

TOLERANCE = 6.0
"""Root mean square difference of two sketches, in grey levels, up to which they are near."""

CONTRAST_SHARE = 0.12
"""The same as a share of the sketch's own deviation; the smaller of both counts."""

SHAPE_TOLERANCE = 0.04
"""How much the aspect ratios of near copies may differ."""

MOST_PER_IMAGE = 50
"""Candidates an image on average beyond which near copies are not looked for."""

MOST_IMAGES = 200_000
"""Images beyond which near copies are not looked for: the time grows with the square."""

_BLOCK = 1 << 24

Rows = npt.NDArray[np.int64]


@attrs.frozen
class Copies:
    """Which images show the same picture.

    Attributes:
        exact: pairs of rows with the same pixels, int64 [n, 2]; the first of each is the first
            image with these pixels.
        near: pairs of rows that are nearly the same, int64 [m, 2].
        unsearched: why near copies were not looked for; empty when they were.
    """

    exact: Rows
    near: Rows
    unsearched: str = ""


def find_duplicates(looks: Sequence[Look]) -> Copies:
    """Compare images with each other.

    Args:
        looks: how each image looks, by row.
    """
    first: dict[bytes, int] = {}
    pairs = []
    for row, look in enumerate(looks):
        if first.setdefault(look.digest, row) != row:
            pairs.append((first[look.digest], row))
    alone = np.array(sorted(first.values()), np.int64)
    if len(alone) > MOST_IMAGES:
        return Copies(_pairs(pairs), _pairs([]), f"there are more than {MOST_IMAGES:,} images")
    near = _near([looks[row] for row in alone])
    if near is None:
        return Copies(_pairs(pairs), _pairs([]), "so many images look alike")
    return Copies(_pairs(pairs), alone[near])


def _near(looks: Sequence[Look]) -> Rows | None:
    """Pairs of near copies among images with different pixels; None when they are too many."""
    if len(looks) < 2:
        return _pairs([])
    sketches = np.stack([look.sketch for look in looks]).astype(np.float32)
    # An orthogonal projection brings no two sketches further apart, so that all near pairs are
    # among those that are close in its few dimensions.
    places = _coarse(sketches - sketches.mean(axis=0))
    ratios = np.log([look.width / look.height for look in looks])
    found: list[Rows] = []
    count = 0
    for candidates in _close(places, TOLERANCE * np.sqrt(sketches.shape[1])):
        count += len(candidates)
        if count > MOST_PER_IMAGE * len(looks):
            return None
        found += [pair for pair in candidates if _alike(pair, sketches, ratios)]
    return _pairs(found)


def _close(places: npt.NDArray[np.float32], reach: float) -> Iterator[Rows]:
    """Pairs of rows at most `reach` apart, block by block; each pair once."""
    squares = (places**2).sum(axis=1)
    rows = max(1, _BLOCK // len(places))
    for start in range(0, len(places), rows):
        block = slice(start, start + rows)
        distances = squares[block, None] + squares[None, start:]
        distances -= 2 * places[block] @ places[start:].T
        pairs = np.argwhere(distances <= reach**2) + start
        yield pairs[pairs[:, 0] < pairs[:, 1]]


def _alike(pair: Rows, sketches: npt.NDArray[np.float32], ratios: npt.NDArray[np.float64]) -> bool:
    one, other = pair
    if abs(ratios[one] - ratios[other]) > SHAPE_TOLERANCE:
        return False
    difference = np.sqrt(np.mean((sketches[one] - sketches[other]) ** 2))
    contrast = min(_deviation(sketches[one]), _deviation(sketches[other]))
    return bool(difference <= min(TOLERANCE, CONTRAST_SHARE * contrast))


def _deviation(sketch: npt.NDArray[np.float32]) -> float:
    """Deviation of a sketch over its fields, each colour by itself."""
    return float(sketch.reshape(-1, 3).std(axis=0).mean())


def _coarse(sketches: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Each sketch in 4 x 4 fields, [n, 48], scaled to be an orthogonal projection."""
    block = SKETCH_SIDE // 4
    fields = sketches.reshape(-1, 4, block, 4, block, 3)
    coarse: npt.NDArray[np.float32] = fields.sum(axis=(2, 4)).reshape(len(sketches), -1) / block
    return coarse


def _pairs(pairs: Sequence[object]) -> Rows:
    return np.array(pairs, np.int64).reshape(-1, 2)


def groups(count: int, pairs: Rows) -> Rows:
    """A number for each image, the same for images that pairs connect, int64 [count].

    Args:
        count: number of images.
        pairs: connected rows, [n, 2].
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ones = np.ones(len(pairs), np.int8)
    graph = coo_array((ones, (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    numbers: Rows = connected_components(graph, directed=False)[1].astype(np.int64)
    return numbers


def members(numbers: Rows) -> Iterator[Rows]:
    """The rows of each group, groups by their first row."""
    order = np.argsort(numbers, kind="stable")
    starts = np.flatnonzero(np.diff(numbers[order], prepend=-1))
    found = np.split(order, starts[1:]) if len(order) else []
    yield from sorted(found, key=lambda rows: int(rows[0]))
