"""Numbers as text: percent, any size, durations. Filters of the same names in templates."""

from __future__ import annotations

import math


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
