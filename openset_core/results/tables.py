"""Tables of typed cells, and their text, Markdown, LaTeX and CSV forms."""

from __future__ import annotations

import csv
import io
import math
import re
import textwrap
from collections.abc import Iterable, Sequence

import attrs

EMPTY = "-"
GAP = "  "
LINE_WIDTH = 100  # columns after which a note continues on the next line
LONGEST_FLOAT = 40  # rows of a LaTeX table up to which it stands on one page


@attrs.frozen(kw_only=True)
class Number:
    """A fraction, shown in percent, with its rank behind it in parentheses."""

    value: float
    deviation: float | None = None
    signed: bool = False  # a difference of fractions, shown with a plus
    mark: str = ""  # stands behind it, explained in a note
    best: bool = False  # of its kind, for bold print
    close: bool = False  # not significantly worse than the best
    rank: float | None = None


@attrs.frozen(kw_only=True)
class Interval:
    """Two fractions, shown in percent; `signed` and `rank` as for `Number`."""

    low: float
    high: float
    signed: bool = False
    rank: float | None = None


Cell = str | int | float | Number | Interval | None
"""A plain float is shown with four significant digits, None as a missing value."""


@attrs.frozen
class Column:
    """A column of a table; `left` for text, which is flush left."""

    title: str
    left: bool = False


@attrs.frozen(kw_only=True)
class Table:
    """Rows of as many cells as there are columns, those flush left first, with notes beneath."""

    title: str = ""  # empty for a table that is only its rows, without heading or caption
    columns: tuple[Column, ...]
    rows: Sequence[tuple[Cell, ...]]
    notes: tuple[str, ...] = ()


def many(count: int, what: str) -> str:
    """A number of things: `1 trial`, `5 trials`."""
    return f"{count:,} {what}" + ("" if count == 1 else "s")


def percent(value: float, signed: bool = False) -> str:
    """A fraction in percent with one decimal; neither -0.0 nor +0.0.

    >>> percent(0.9312), percent(-0.00001), percent(0.025, signed=True)
    ('93.1', '0.0', '+2.5')
    """
    if math.isnan(value):
        return EMPTY
    shown = f"{100 * value:{'+' if signed else ''}.1f}"
    return "0.0" if float(shown) == 0 else shown


def rank_text(rank: float) -> str:
    """A rank or an average of ranks: `2`, `2.5`, `2.33`."""
    return f"{rank:.2f}".rstrip("0").rstrip(".")


def cell_text(cell: Cell) -> str:
    """A cell as plain text.

    >>> cell_text(Number(value=0.931, deviation=0.004)), cell_text(Interval(low=0.9, high=0.95))
    ('93.1 ± 0.4', '[90.0, 95.0]')
    >>> cell_text(12345), cell_text(0.123456), cell_text(None)
    ('12,345', '0.1235', '-')
    """
    if cell is None:
        return EMPTY
    if isinstance(cell, str):
        return cell
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, float):
        return f"{cell:.4g}"
    rank = f" ({rank_text(cell.rank)})" if cell.rank is not None else ""
    if isinstance(cell, Interval):
        return f"[{percent(cell.low, cell.signed)}, {percent(cell.high, cell.signed)}]{rank}"
    spread = f" ± {percent(cell.deviation)}" if cell.deviation is not None else ""
    return f"{percent(cell.value, cell.signed)}{spread}{rank}{cell.mark and ' ' + cell.mark}"


def text(tables: Sequence[Table], notes: Sequence[str] = (), width: int | None = None) -> str:
    """Tables for a terminal, one below the other; those wider than `width` are cut into pieces.

    >>> columns = (Column("method", left=True), Column("AUROC"))
    >>> print(text([Table(columns=columns, rows=[("my-loss", Number(value=0.91))])]))
    method   AUROC
    -------  -----
    my-loss   91.0
    """
    blocks = []
    for table, following in zip(tables, [*tables[1:], None], strict=True):
        # Notes that several tables in a row share are printed once, beneath the last.
        below = table.notes if following is None or following.notes != table.notes else ()
        heading = [table.title] if table.title else []
        blocks.append("\n".join([*heading, *_text_lines(table, width), *_wrapped(below)]))
    if notes:
        blocks.append("\n".join(_wrapped([f"note: {note}" for note in notes])))
    return "\n\n".join(blocks)


def _text_lines(table: Table, width: int | None) -> list[str]:
    """A table's lines; in pieces, each with the columns flush left, where it is too wide."""
    left = sum(column.left for column in table.columns)
    columns = []
    for number, column in enumerate(table.columns):
        cells = [cell_text(row[number]) for row in table.rows]
        if number >= left and any(cell.endswith(" *") for cell in cells):
            # A mark hangs out to the right, so that digits stay under digits.
            cells = [cell if cell.endswith(" *") else f"{cell}  " for cell in cells]
        size = max(map(len, [column.title, *cells]))
        align = str.ljust if number < left else str.rjust
        columns.append([align(cell, size) for cell in (column.title, "-" * size, *cells)])
    pieces: list[list[list[str]]] = [columns[:left]]
    for added in columns[left:]:
        taken = sum(len(column[0]) + len(GAP) for column in pieces[-1])
        if width and len(pieces[-1]) > left and taken + len(added[0]) > width:
            pieces.append(columns[:left])
        pieces[-1] = [*pieces[-1], added]
    blocks = (
        "\n".join(GAP.join(cells).rstrip() for cells in zip(*piece, strict=True))
        for piece in pieces
    )
    return "\n\n".join(blocks).split("\n")


def _wrapped(sentences: Iterable[str]) -> list[str]:
    wrapper = textwrap.TextWrapper(
        LINE_WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
    return [line for sentence in sentences for line in wrapper.wrap(sentence)]


def markdown(tables: Sequence[Table], notes: Sequence[str] = ()) -> str:
    """Tables as GitHub's Markdown, the best of each kind in bold."""
    parts = []
    for table in tables:
        heading = [f"### {_markdown_text(table.title)}", ""] if table.title else []
        titles = [_markdown_text(column.title) for column in table.columns]
        rules = ["---" if column.left else "---:" for column in table.columns]
        rows = [[_markdown_cell(cell) for cell in row] for row in table.rows]
        lines = ["| " + " | ".join(cells) + " |" for cells in (titles, rules, *rows)]
        below = [f"- {_markdown_text(note)}" for note in table.notes]
        parts.append("\n".join([*heading, *lines, "", *below]).rstrip())
    if notes:
        listed = [f"- {_markdown_text(note)}" for note in notes]
        parts.append("\n".join(["### Notes", "", *listed]))
    return "\n\n".join(parts) + "\n"


def _markdown_text(words: str) -> str:
    return re.sub(r"([|*_<>`])", r"\\\1", words)


def _markdown_cell(cell: Cell) -> str:
    shown = _markdown_text(cell_text(cell))
    return f"**{shown}**" if isinstance(cell, Number) and cell.best else shown


LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "<": r"$<$",
    ">": r"$>$",
    **{sign: rf"\{sign}" for sign in "&%$#_{}"},
}


def latex_text(words: str) -> str:
    """Words with LaTeX's special characters escaped."""
    return "".join(LATEX.get(sign, sign) for sign in words)


def latex(tables: Sequence[Table], notes: Sequence[str] = ()) -> str:
    """Tables as LaTeX with booktabs: `longtable` for long ones, `tabular` for those untitled."""
    long = any(len(table.rows) > LONGEST_FLOAT for table in tables)
    parts = [r"% needs \usepackage{booktabs}" + (r" and \usepackage{longtable}" if long else "")]
    parts += ["\n".join(_latex_table(table)) for table in tables]
    if notes:
        parts.append("\n".join(f"% note: {note}" for note in notes))
    return "\n\n".join(parts) + "\n"


def _latex_table(table: Table) -> list[str]:
    layout = "".join("l" if column.left else "r" for column in table.columns)
    titles = " & ".join(latex_text(column.title) for column in table.columns) + r" \\"
    rows = [" & ".join(map(_latex_cell, row)) + r" \\" for row in table.rows]
    sentences = [
        words if words.endswith(".") else f"{words}." for words in (table.title, *table.notes)
    ]
    caption = rf"\caption{{{' '.join(map(latex_text, sentences))}}}"
    head = [r"\toprule", titles, r"\midrule"]
    if table.title and len(rows) > LONGEST_FLOAT:
        opening = rf"\begin{{longtable}}{{{layout}}}"
        heads = [*head, r"\endfirsthead", *head, r"\endhead", r"\bottomrule", r"\endfoot"]
        return [opening, rf"{caption} \\", *heads, *rows, r"\end{longtable}"]
    opening = rf"\begin{{tabular}}{{{layout}}}"
    tabular = [opening, *head, *rows, r"\bottomrule", r"\end{tabular}"]
    if not table.title:
        return tabular
    return [r"\begin{table}", r"\centering", caption, *tabular, r"\end{table}"]


def _latex_cell(cell: Cell) -> str:
    if cell is None:
        return "--"
    if not isinstance(cell, Number | Interval):
        return latex_text(cell_text(cell))
    # Blanks are dropped in formulas, so the rank stands outside.
    rank = f" ({rank_text(cell.rank)})" if cell.rank is not None else ""
    shown = cell_text(attrs.evolve(cell, rank=None))
    if isinstance(cell, Interval):
        return f"${shown}${rank}"
    number, *rest = shown.split(" ")
    body = " ".join([rf"\mathbf{{{number}}}" if cell.best else number, *rest])
    return f"${body.replace('±', chr(92) + 'pm')}$".replace(" *$", "^{*}$") + rank


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Comma-separated values with a header, in full precision; empty where a value is None."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return stream.getvalue()
