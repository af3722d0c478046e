"""Tables of a comparison as HTML: the same ones that `formats` writes as text and LaTeX."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from openset_core.report.axes import percent
from openset_core.report.markup import Content, element, note, scrolling
from openset_core.results.tables import Cell, Interval, Number, Table, cell_text, rank_text

BREAK = Markup("<wbr>")


def tables_markup(tables: Sequence[Table]) -> Markup:
    """Tables one below the other; notes that several in a row share stand below the last."""
    made = Markup("")
    for table, following in zip(tables, [*tables[1:], None], strict=True):
        made += table_markup(table)
        if following is None or following.notes != table.notes:
            made += Markup("").join(note(opening(each, ())) for each in table.notes)
    return made


def table_markup(found: Table) -> Markup:
    """A table without its notes; names at its left stand once for all rows that share them."""
    left = sum(column.left for column in found.columns)
    head = element(
        "tr",
        [
            element("th", column.title, scope="col", class_=None if column.left else "number")
            for column in found.columns
        ],
    )
    body = [
        element(
            "tr",
            _names(found.rows, number, left),
            [_cell(cell) for cell in row[left:]],
            class_="begins" if number and _starts(found.rows, number, 0) else None,
        )
        for number, row in enumerate(found.rows)
    ]
    whole = element(
        "table",
        element("caption", found.title),
        element("thead", head),
        element("tbody", body),
        class_="methods",
    )
    return scrolling(whole)


def _starts(rows: Sequence[Sequence[Cell]], number: int, column: int) -> bool:
    """Whether a name differs from that of the row above, or one to the left of it does."""
    return number == 0 or rows[number][: column + 1] != rows[number - 1][: column + 1]


def _names(rows: Sequence[Sequence[Cell]], number: int, left: int) -> list[Markup]:
    made = []
    for column in range(left):
        last = column == left - 1
        if not last and not _starts(rows, number, column):
            continue
        span = 1
        while not last and number + span < len(rows) and not _starts(rows, number + span, column):
            span += 1
        made.append(
            element(
                "th",
                breakable(str(rows[number][column] or "–")),
                scope="row" if span == 1 else "rowgroup",
                rowspan=span if span > 1 else None,
                class_="scorer" if last else "method" if not column else None,
            )
        )
    return made


def _cell(cell: Cell) -> Markup:
    if cell is None:
        return element("td", "–", class_="number")
    if not isinstance(cell, Number | Interval):
        return element("td", cell_text(cell), class_="number")
    rank = element("small", f" ({rank_text(cell.rank)})") if cell.rank is not None else ""
    if isinstance(cell, Interval):
        low, high = (shown(value, cell.signed) for value in (cell.low, cell.high))
        return element("td", f"[{low}, {high}]", rank, class_="number")
    spread = element("small", f" ± {percent(cell.deviation)}") if cell.deviation is not None else ""
    kind = " best" if cell.best else " close" if cell.close else ""
    return element("td", shown(cell.value, cell.signed), spread, rank, class_=f"number{kind}")


def shown(value: float, signed: bool = False) -> str:
    """A fraction in percent, with a true minus sign; neither −0.0 nor +0.0."""
    text = percent(value)
    if text.lstrip("-") == "0.0":
        return "0.0"
    return ("+" + text if signed and value > 0 else text).replace("-", "−")


def breakable(name: str) -> Content:
    """A name that may be broken after its commas."""
    first, *others = name.split(",")
    return [first, [[",", BREAK, part] for part in others]]


def sentence(text: str) -> str:
    """A text with a full stop."""
    return text if text.endswith(".") else f"{text}."


def opening(text: str, names: Sequence[str]) -> str:
    """A sentence that begins with a capital letter, unless it begins with one of the names."""
    first = text.partition(" ")[0]
    letters = first.rstrip(":")  # one alone is a symbol, as in `p:`
    word = letters.isalpha() and len(letters) > 1
    word = word and not any(name.startswith(first) for name in names)
    return sentence(text[:1].upper() + text[1:] if word else text)
