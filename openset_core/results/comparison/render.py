"""Tables as terminal text, Markdown and LaTeX."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Callable, Sequence

from attrs import evolve

from openset_core.results.comparison.tables import Cell, Column, Interval, Number, Table, rank_text
from openset_core.results.text_table import GAP, aligned

EMPTY = "-"
WIDTH = 100
"""Columns after which a sentence goes on in the next line."""

LONGEST_FLOAT = 40
"""Rows of a LaTeX table up to which it stands on one page."""


def text(tables: Sequence[Table], notes: Sequence[str] = (), width: int | None = None) -> str:
    """Tables for a terminal, one below the other.

    Args:
        tables: what to show.
        notes: sentences on the whole, put last.
        width: columns of the terminal; wider tables are cut into pieces. None for no limit.
    """
    parts = []
    for table, following in zip(tables, [*tables[1:], None], strict=True):
        # What holds for several tables in a row is said once, beneath the last.
        below = table.notes if following is None or following.notes != table.notes else ()
        parts.append("\n".join([table.title, *_lines(table, width), *_wrapped(below)]))
    if notes:
        parts.append("\n".join(_wrapped([f"note: {note}" for note in notes])))
    return "\n\n".join(parts)


def _lines(table: Table, width: int | None) -> list[str]:
    """A table's lines; in pieces, each with the columns flush left, where it is too wide."""
    columns = [
        [column.title, *_padded([_plain(row[number]) for row in table.rows], column)]
        for number, column in enumerate(table.columns)
    ]
    left = sum(column.left for column in table.columns)
    widths = [max(map(len, column)) + len(GAP) for column in columns]
    pieces: list[list[int]] = [[]]
    for number in range(left, len(columns)):
        taken = sum(widths[:left]) + sum(widths[other] for other in pieces[-1])
        if width and pieces[-1] and taken + widths[number] > width + len(GAP):
            pieces.append([])
        pieces[-1].append(number)
    lines: list[str] = []
    for piece in pieces:
        header, *rows = zip(*columns[:left], *(columns[n] for n in piece), strict=True)
        lines += [*([""] if lines else []), *aligned(header, rows, left)]
    return lines


def markdown(tables: Sequence[Table], notes: Sequence[str] = ()) -> str:
    """Tables as GitHub's Markdown, the best of each kind in bold."""
    parts = []
    for table in tables:
        titles = [_markdown_text(column.title) for column in table.columns]
        rules = ["---" if column.left else "---:" for column in table.columns]
        rows = [[_markdown_cell(cell) for cell in row] for row in table.rows]
        lines = ["| " + " | ".join(cells) + " |" for cells in (titles, rules, *rows)]
        below = [f"- {_markdown_text(note)}" for note in table.notes]
        parts.append(
            "\n".join([f"### {_markdown_text(table.title)}", "", *lines, "", *below]).rstrip()
        )
    if notes:
        listed = [f"- {_markdown_text(note)}" for note in notes]
        parts.append("\n".join(["### Notes", "", *listed]))
    return "\n\n".join(parts) + "\n"


def latex(tables: Sequence[Table], notes: Sequence[str] = ()) -> str:
    r"""Tables as LaTeX with booktabs, the best of each kind in bold.

    A table that is longer than a page is a `longtable`, which goes on in the next.
    """
    long = any(len(table.rows) > LONGEST_FLOAT for table in tables)
    parts = [r"% needs \usepackage{booktabs}" + (r" and \usepackage{longtable}" if long else "")]
    parts += ["\n".join(_latex_table(table)) for table in tables]
    if notes:
        parts.append("\n".join(f"% note: {note}" for note in notes))
    return "\n\n".join(parts) + "\n"


def _latex_table(table: Table) -> list[str]:
    layout = "".join("l" if column.left else "r" for column in table.columns)
    titles = " & ".join(_latex_text(column.title) for column in table.columns) + r" \\"
    rows = [" & ".join(map(_latex_cell, row)) + r" \\" for row in table.rows]
    caption = " ".join(_latex_text(_sentence(words)) for words in (table.title, *table.notes))
    if len(rows) > LONGEST_FLOAT:
        head = [r"\toprule", titles, r"\midrule"]
        return [
            rf"\begin{{longtable}}{{{layout}}}",
            rf"\caption{{{caption}}} \\",
            *(*head, r"\endfirsthead"),
            *(*head, r"\endhead"),
            *(r"\bottomrule", r"\endfoot"),
            *rows,
            r"\end{longtable}",
        ]
    return [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{caption}}}",
        rf"\begin{{tabular}}{{{layout}}}",
        r"\toprule",
        titles,
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]


def _wrapped(sentences: Sequence[str]) -> list[str]:
    return [
        line
        for sentence in sentences
        for line in textwrap.wrap(
            sentence, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )
    ]


# --- cells ----------------------------------------------------------------------------------------


def _percent(value: float, signed: bool = False) -> str:
    if math.isnan(value):
        return EMPTY
    shown = f"{100 * value:{'+' if signed else ''}.1f}"
    return "0.0" if float(shown) == 0 else shown  # neither -0.0 nor +0.0


def _plain(cell: Cell) -> str:
    if cell is None:
        return EMPTY
    if isinstance(cell, str):
        return cell
    rank = f" ({rank_text(cell.rank)})" if cell.rank is not None else ""
    if isinstance(cell, Interval):
        return f"[{_percent(cell.low, cell.signed)}, {_percent(cell.high, cell.signed)}]{rank}"
    spread = f" ± {_percent(cell.deviation)}" if cell.deviation is not None else ""
    return f"{_percent(cell.value, cell.signed)}{spread}{rank}{cell.mark and ' ' + cell.mark}"


def _padded(cells: list[str], column: Column) -> list[str]:
    """Numbers with a mark hang it out to the right, so that digits stay under digits."""
    if column.left or not any(cell.endswith(" *") for cell in cells):
        return cells
    return [cell if cell.endswith(" *") else f"{cell}  " for cell in cells]


def _markdown_text(words: str) -> str:
    return re.sub(r"([|*_<>`])", r"\\\1", words)


def _markdown_cell(cell: Cell) -> str:
    shown = _markdown_text(_plain(cell))
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


def _latex_text(words: str) -> str:
    return "".join(LATEX.get(sign, sign) for sign in words)


def _latex_cell(cell: Cell) -> str:
    if isinstance(cell, str):
        return re.sub(r"^< ", "$<$ ", cell) if cell.startswith("< ") else _latex_text(cell)
    if cell is None:
        return "--"
    # Blanks count for nothing within formulas, so the rank stands outside.
    rank = f" ({rank_text(cell.rank)})" if cell.rank is not None else ""
    shown = _plain(evolve(cell, rank=None))
    if isinstance(cell, Interval):
        return f"${shown}${rank}"
    number, *rest = shown.split(" ")
    body = " ".join([rf"\mathbf{{{number}}}" if cell.best else number, *rest])
    return f"${body.replace('±', chr(92) + 'pm')}$".replace(" *$", "^{*}$") + rank


def _sentence(words: str) -> str:
    return words if words.endswith(".") else f"{words}."


Format = Callable[[Sequence[Table], Sequence[str]], str]
FORMATS: dict[str, Format] = {"text": text, "markdown": markdown, "latex": latex}
