"""The palette of pages and figures.

Ten colours for classes and curves, chosen so that any two of them, and each beside the grey of
what is unknown, differ clearly for normal sight, and under full protanopia, deuteranopia and
tritanopia; each has a lighter twin for dark pages. A test holds them to it.
"""

from __future__ import annotations

from attrs import frozen


@frozen
class Colour:
    """One colour in its two forms, as `#rrggbb`."""

    light: str
    dark: str


PALETTE = (
    Colour("#0e71c9", "#69b0ff"),
    Colour("#cc8519", "#febe72"),
    Colour("#ad072e", "#ec6c72"),
    Colour("#17b36c", "#7be6a7"),
    Colour("#66269a", "#a473d7"),
    Colour("#c986c9", "#f9bef9"),
    Colour("#125a02", "#629b59"),
    Colour("#5a1a16", "#a0635b"),
    Colour("#0c2f6c", "#5576af"),
    Colour("#b43ea0", "#ed86d7"),
)
"""For known classes and for curves, in the order in which they are used; then they repeat."""

UNKNOWN = Colour("#858585", "#9e9e9e")
"""Whatever is unknown."""

KNOWN = PALETTE[0]
"""Known samples where their classes do not matter."""

DASHES = ("", "6 3", "2 2.5", "8 3 2 3", "10 4", "4 2 1 2", "1 3", "12 3 3 3", "5 5", "3 1")
"""Dash patterns of curves in SVG's notation, so that they differ without any colour too."""


def colour(number: int) -> Colour:
    """The colour of a class or curve, by its number from 0."""
    return PALETTE[number % len(PALETTE)]
