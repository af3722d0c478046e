"""Columns of text lined up for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

GAP = "  "
"""What stands between two columns."""


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Lines of a table: header, rule, rows.

    Args:
        header: column titles.
        rows: cells, as many in each row as there are titles.
        left: so many first columns are flush left, the others flush right.
    """
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if number < left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return GAP.join(padded).rstrip()

    return [line(header), GAP.join("-" * width for width in widths), *map(line, rows)]
