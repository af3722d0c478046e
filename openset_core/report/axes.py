"""Axes of charts: ranges, round ticks, and how numbers are written."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from attrs import frozen

Floats = npt.NDArray[np.float64]


def percent(value: float, digits: int = 1) -> str:
    """A fraction as percent, without the sign; a dash for what is no number.

    >>> percent(0.9712)
    '97.1'
    """
    return f"{100 * value:.{digits}f}" if math.isfinite(value) else "–"


def number(value: float, digits: int = 3) -> str:
    """A number of any size to some digits, with a true minus sign.

    >>> number(0.279476), number(0.75), number(-12345.6), number(0.00002)
    ('0.279', '0.750', '−12,346', '2.00e−05')
    """
    if not math.isfinite(value):
        return "–"
    size = abs(value)
    if size == 0:
        text = "0"
    elif size < 1e-4 or size >= 1e7:
        text = f"{value:.{digits - 1}e}"
    else:
        decimals = digits - 1 - math.floor(math.log10(size))
        text = f"{value:,.{max(decimals, 0)}f}"
    return text.replace("-", "−")


def seconds(value: float) -> str:
    """A duration.

    >>> seconds(0.034), seconds(38.67), seconds(754), seconds(9000)
    ('0.03 s', '38.7 s', '12 min 34 s', '2 h 30 min')
    """
    if not math.isfinite(value):
        return "–"
    if value < 99.95:
        return f"{value:.2f} s" if value < 1 else f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


@frozen
class Axis:
    """One axis of a chart.

    Attributes:
        title: what it shows, with the unit.
        low: value at its start.
        high: value at its end, above `low`.
        ticks: values that are labelled.
        labels: their texts.
        log: whether equal ratios are equally far apart.
    """

    title: str
    low: float
    high: float
    ticks: tuple[float, ...]
    labels: tuple[str, ...]
    log: bool = False

    def place(self, values: npt.ArrayLike) -> Floats:
        """Values as shares of the axis, 0 at its start and 1 at its end, float64 of any shape."""
        array = np.asarray(values, dtype=np.float64)
        if self.log:
            with np.errstate(divide="ignore", invalid="ignore"):
                array = np.log10(array)
            low, high = math.log10(self.low), math.log10(self.high)
        else:
            low, high = self.low, self.high
        found: Floats = (array - low) / (high - low)
        return found


def fraction_axis(title: str, high: float = 1.0) -> Axis:
    """From 0 to `high`, in percent."""
    ticks = round_ticks(0.0, high, 5)
    return Axis(title, 0.0, high, ticks, tuple(f"{100 * tick:.4g}" for tick in ticks))


def number_axis(
    title: str,
    values: npt.ArrayLike,
    *,
    count: int = 5,
    zero: bool = False,
    margin: float = 0.0,
    as_percent: bool = False,
    log: bool = False,
) -> Axis:
    """An axis that holds all finite values.

    Args:
        title: what it shows.
        values: of any shape; when none is finite the axis runs from 0 to 1.
        count: about so many ticks.
        zero: whether 0 belongs to the axis.
        margin: room at both ends, as a share of the range.
        as_percent: whether values are fractions to be written in percent.
        log: whether the axis is logarithmic; ignored unless all finite values are positive.
    """
    array = np.asarray(values, dtype=np.float64).ravel()
    array = array[np.isfinite(array)]
    if not array.size:
        array = np.array([0.0, 1.0])
    low, high = float(array.min()), float(array.max())
    if log and low > 0:
        return _log_axis(title, low, high, as_percent)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high - low <= 1e-12 * max(abs(low), abs(high), 1e-300):
        room = abs(low) / 2 or 0.5
        low, high = low - room, high + room
    room = margin * (high - low)
    low, high = (low if zero and low == 0 else low - room), high + room
    ticks = round_ticks(low, high, count)
    return Axis(title, low, high, ticks, tick_labels(ticks, as_percent))


def _log_axis(title: str, low: float, high: float, as_percent: bool) -> Axis:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    last = max(last, first + 1)
    step = max(1, math.ceil((last - first) / 5))
    ticks = tuple(10.0**power for power in range(first, last + 1, step))
    factor = 100 if as_percent else 1
    labels = tuple(f"{factor * tick:g}" for tick in ticks)
    return Axis(title, 10.0**first, 10.0**last, ticks, labels, log=True)


def whole_number_axis(title: str, first: int, last: int, count: int = 5) -> Axis:
    """From one whole number to another, with ticks at whole numbers only."""
    if first == last:
        return Axis(title, first - 0.5, last + 0.5, (float(first),), (f"{first:,}",))
    steps = round_ticks(first, last, count)
    ticks = tuple(tick for tick in steps if tick == int(tick)) or (float(first), float(last))
    if last - first < count:
        ticks = tuple(float(value) for value in range(first, last + 1))
    return Axis(title, first, last, ticks, tuple(f"{int(tick):,}" for tick in ticks))


def round_ticks(low: float, high: float, count: int) -> tuple[float, ...]:
    """About `count` multiples of 1, 2 or 5 times a power of ten in a range."""
    raw = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    # Products of whole numbers keep 0 exact, and 0.3 as near as it gets.
    return tuple(float(f"{n * step:.12g}") for n in range(first, last + 1))


def tick_labels(ticks: Sequence[float], as_percent: bool = False) -> tuple[str, ...]:
    """Texts of ticks, all with as many decimals as tell them apart."""
    values = [100 * tick if as_percent else tick for tick in ticks]
    largest = max((abs(value) for value in values), default=0.0)
    step = min((b - a for a, b in itertools.pairwise(values)), default=largest or 1.0)
    if largest >= 1e6 or (largest and largest < 1e-4):
        return tuple(f"{value:.3g}".replace("-", "−") for value in values)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 0
    return tuple(f"{value:,.{decimals}f}".replace("-", "−") for value in values)
