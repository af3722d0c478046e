"""Fewer points for a curve that looks the same."""

from __future__ import annotations

import heapq

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

TOLERANCE = 4e-4
"""Shift of a curve that nobody sees, as a share of the drawing's side; of 400 pixels, a sixth."""

MOST_POINTS = 500


def thinned(
    x: Floats, y: Floats, *, most: int = MOST_POINTS, tolerance: float = TOLERANCE
) -> Integers:
    """Points of a polyline that are worth drawing, the first and the last among them.

    The algorithm of Ramer, Douglas and Peucker, worst place first: of all points left out, the one
    farthest from the line is put back, until none is farther than `tolerance` or `most` points are
    there. What remains are points of the curve itself; none is moved or made up.

    Args:
        x: [n], in units of the drawing's side, at best.
        y: [n], likewise.
        most: number of points to keep at most, at least 2.
        tolerance: distance that does not matter.

    Returns:
        Ascending positions of the points to keep, int64 [at most `most`].
    """
    count = len(x)
    if count <= 2:
        return np.arange(count, dtype=np.int64)
    kept = {0, count - 1}
    waiting: list[tuple[float, int, int, int]] = []

    def look(first: int, last: int) -> None:
        """Note the worst place between two points that are kept."""
        if last - first < 2:
            return
        away = distances(x, y, first, last)
        worst = int(away.argmax())
        heapq.heappush(waiting, (-float(away[worst]), first + 1 + worst, first, last))

    look(0, count - 1)
    while waiting and len(kept) < most and -waiting[0][0] > tolerance:
        _, middle, first, last = heapq.heappop(waiting)
        kept.add(middle)
        look(first, middle)
        look(middle, last)
    return np.array(sorted(kept), dtype=np.int64)


def distances(x: Floats, y: Floats, first: int, last: int) -> Floats:
    """Distances of the points between two points of a polyline from the straight line there.

    Returns:
        float64 [last - first - 1]
    """
    inner = slice(first + 1, last)
    dx, dy = x[last] - x[first], y[last] - y[first]
    from_x, from_y = x[inner] - x[first], y[inner] - y[first]
    length = dx * dx + dy * dy
    along = np.clip((from_x * dx + from_y * dy) / length, 0.0, 1.0) if length > 0 else 0.0
    found: Floats = np.hypot(from_x - along * dx, from_y - along * dy)
    return found
