"""HTML and SVG elements made in Python, everything escaped that is not markup already."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TypeAlias

from attrs import frozen
from markupsafe import Markup, escape

Content: TypeAlias = "str | Markup | int | float | Iterable[Content] | None"
Attribute: TypeAlias = str | int | float | bool | None
_VOID = frozenset({"br", "circle", "img", "input", "line", "path", "rect"})
"""Elements that are written without an end; those of SVG close themselves."""

_HTML_VOID = frozenset({"br", "img", "input"})


def element(name: str, /, *children: Content, **attributes: Attribute) -> Markup:
    """An element of HTML or SVG.

    >>> element("p", "5 < 6", class_="note")
    Markup('<p class="note">5 &lt; 6</p>')

    Args:
        name: of the element.
        *children: text, which is escaped, markup, which is not, or iterables of them.
        **attributes: a trailing underscore goes, others become hyphens; False and None leave
            an attribute out, True writes its name alone.
    """
    written = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        label = key.rstrip("_").replace("_", "-")
        written.append(f" {label}" if value is True else f' {label}="{escape(str(value))}"')
    start = f"<{name}{''.join(written)}"
    if name in _VOID:
        return Markup(start + (">" if name in _HTML_VOID else "/>"))
    return Markup(f"{start}>{joined(children)}</{name}>")


def joined(children: Content) -> Markup:
    """Text and markup put together, in order."""
    if children is None:
        return Markup("")
    if isinstance(children, str | int | float):
        return escape(children)
    return Markup("").join(joined(child) for child in children)


@frozen(kw_only=True)
class Row:
    """A row of a table.

    Attributes:
        header: what names the row.
        cells: the other cells.
        kind: class of the row, for its look.
        best: numbers of the cells that are the best of their column.
    """

    header: Content
    cells: Sequence[Content]
    kind: str | None = None
    best: frozenset[int] = frozenset()


def table(
    caption: Content,
    columns: Sequence[Content],
    rows: Iterable[Row],
    *,
    numbers: bool = True,
    words: Collection[int] = (),
) -> Markup:
    """A table whose first column names the rows; it scrolls by itself where it is too wide.

    Args:
        caption: what the table shows.
        columns: headers, that of the first column too.
        rows: in order.
        numbers: whether the cells are numbers, which stand at the right.
        words: positions of cells, from 0, that are not.
    """
    looks = ["number" if numbers and at not in words else None for at in range(len(columns) - 1)]
    first, *others = columns
    head = element(
        "tr",
        element("th", first, scope="col"),
        [
            element("th", column, scope="col", class_=look)
            for column, look in zip(others, looks, strict=True)
        ],
    )
    body = [
        element(
            "tr",
            element("th", row.header, scope="row", class_="name" if numbers else None),
            [
                element(
                    "td",
                    cell,
                    class_=" ".join(filter(None, [looks[i], "best" if i in row.best else ""]))
                    or None,
                )
                for i, cell in enumerate(row.cells)
            ],
            class_=row.kind,
        )
        for row in rows
    ]
    whole = element(
        "table",
        element("caption", caption),
        element("thead", head),
        element("tbody", body),
    )
    return scrolling(whole, caption if isinstance(caption, str) else "Table")


def scrolling(content: Content, label: str = "") -> Markup:
    """Content that scrolls sideways where it is too wide, by keyboard too.

    Args:
        content: what scrolls.
        label: says what it is.
    """
    role = "region" if label else None
    return element(
        "div", content, class_="scroll", tabindex="0", role=role, aria_label=label or None
    )


def facts(pairs: Iterable[tuple[Content, Content]], short: bool = False) -> Markup:
    """Names and values as a list.

    Args:
        pairs: in order.
        short: whether all values are short enough to stand beside their names on a phone.
    """
    return element(
        "dl",
        [[element("dt", name), element("dd", value)] for name, value in pairs],
        class_="facts short" if short else "facts",
    )


def figure(title: Content, body: Content, subtitle: Content = None, note: Content = None) -> Markup:
    """A figure with its title above, and a note below."""
    caption = element("figcaption", title, element("small", subtitle) if subtitle else None)
    return element("figure", caption, body, element("p", note, class_="note") if note else None)


def cards(figures: Iterable[Content], kind: str = "") -> Markup:
    """Figures side by side, as many as there is room for.

    Args:
        figures: in order.
        kind: `""`, `"small"` for many little ones, or `"one"` for a single wide one.
    """
    return element("div", figures, class_=f"cards {kind}".strip())


def note(*content: Content) -> Markup:
    """A remark in small print."""
    return element("p", *content, class_="note")


def folded(title: Content, *content: Content) -> Markup:
    """Content that opens with a click or a key; print shows it."""
    return element("details", element("summary", title), *content)
