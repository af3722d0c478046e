"""A page of openset, read for tests: elements, tables, charts, and what holds for all pages."""

from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

VOID = {"meta", "link", "br", "img", "input", "wbr"}
LARGEST = 3_000_000


class Page(HTMLParser):
    """Elements of a page with their texts.

    Raises AssertionError where the page is not well formed, loads something, or has a picture
    without alternative text.

    Attributes:
        source: the page.
        elements: [tag, attributes, text inside] each.
    """

    def __init__(self, page: Path | str, check: bool = True) -> None:
        super().__init__(convert_charrefs=True)
        self.source = page if isinstance(page, str) else page.read_text("utf-8")
        self.elements: list[list[Any]] = []
        self._open: list[list[Any]] = []
        self.feed(self.source)
        self.close()
        assert self._open == []
        if check:
            self.check()

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.elements.append([tag, dict(attributes), ""])
        if tag not in VOID:
            self._open.append(self.elements[-1])

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> without a start"
        assert self._open.pop()[0] == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1][0] in ("script", "style"):
            self._open[-1][2] += data
            return
        for element in self._open:
            element[2] += data

    def all(self, tag: str, **wanted: str) -> list[tuple[dict[str, str], str]]:
        """Attributes and text of every such element: `all("td", class_="number")`."""
        wanted = {key.rstrip("_").replace("_", "-"): value for key, value in wanted.items()}
        return [
            (attributes, text)
            for name, attributes, text in self.elements
            if name == tag and wanted.items() <= attributes.items()
        ]

    def section(self, name: str) -> str:
        """Text of the section with this id."""
        ((_, text),) = self.all("section", id=name)
        return str(text)

    @property
    def sections(self) -> list[str]:
        """Ids of the sections, in order."""
        return [attributes["id"] for attributes, _ in self.all("section")]

    def rows(self, caption: str) -> list[list[str]]:
        """Texts of the cells of the table with this caption, head first."""
        tables = re.findall(r"<table[^>]*>\s*<caption>.*?</table>", self.source, re.S)
        (found,) = (
            inner
            for each in tables
            if (inner := Page(each, check=False)).all("caption")[0][1] == caption
        )
        rows: list[list[str]] = []
        for tag, _, text in found.elements:
            if tag == "tr":
                rows.append([])
            elif tag in ("td", "th"):
                rows[-1].append(" ".join(text.split()))
        return rows

    @property
    def charts(self) -> dict[str, dict[str, Any]]:
        """Vega-Lite specifications by their descriptions, in order."""
        found: dict[str, dict[str, Any]] = {}
        for _, text in self.all("script", type="application/json"):
            chart = json.loads(text)
            found[chart["description"]] = chart
        return found

    def chart(self, beginning: str) -> dict[str, Any]:
        """The one chart whose description begins so."""
        (found,) = (chart for said, chart in self.charts.items() if said.startswith(beginning))
        return found

    def chart_rows(self, beginning: str, number: int = 0) -> list[dict[str, Any]]:
        """Rows of the data of that chart; `number` tells several data apart."""
        return chart_rows(self.chart(beginning), number)

    @staticmethod
    def chart_rows_of(chart: dict[str, Any], number: int = 0) -> list[dict[str, Any]]:
        """The same of a specification."""
        return chart_rows(chart, number)

    def check(self) -> None:
        """What holds for every page."""
        assert self.source.startswith("<!DOCTYPE html>")
        assert self.all("html") == [({"lang": "en"}, self.all("html")[0][1])]
        for tag in ("head", "title", "body", "header", "main", "h1", "footer"):
            assert len(self.all(tag)) == 1, tag
        ids = [attributes["id"] for _, attributes, _ in self.elements if "id" in attributes]
        assert len(ids) == len(set(ids))
        levels = [int(tag[1]) for tag, _, _ in self.elements if re.fullmatch("h[1-6]", tag)]
        assert levels[0] == 1
        assert all(later - earlier <= 1 for earlier, later in pairwise(levels))
        for attributes, _ in self.all("section"):
            assert attributes["aria-labelledby"] in ids
        for attributes, _ in self.all("img"):
            assert attributes["alt"]
            assert attributes["src"].startswith("data:image/")
        for attributes, _ in self.all("div", class_="chart"):
            assert attributes["role"] == "img"
            assert len(attributes["aria-label"]) > 20
        assert list(self.charts) == [a["aria-label"] for a, _ in self.all("div", class_="chart")]
        assert len(self.all("table")) == len(self.all("caption"))
        assert all(attributes["scope"] in ("row", "col") for attributes, _ in self.all("th"))
        for attributes, _ in self.all("div", class_="scroll"):
            assert attributes["tabindex"] == "0"
        # It loads nothing.
        for tag, attributes, _ in self.elements:
            for key in ("src", "srcset", "action", "poster", "data", "background"):
                assert attributes.get(key, "data:").startswith("data:"), (tag, attributes)
            if tag == "link":
                assert attributes["href"] == "data:,"
            elif "href" in attributes and attributes["href"].startswith("#"):
                assert attributes["href"][1:] in ids
            elif "href" in attributes:  # to a page beside it
                assert not re.match(r"\w+:|//", attributes["href"]), attributes
        style = "".join(text for _, text in self.all("style"))
        assert not re.search(r"@import|url\(", style)
        assert "prefers-color-scheme: dark" in style
        assert "@media print" in style
        for _, text in self.all("script", type="application/json"):
            assert '"url":"' not in text
        assert len(self.source.encode()) < LARGEST


def chart_rows(chart: dict[str, Any], number: int = 0) -> list[dict[str, Any]]:
    """Rows of a chart's data, numbers as numbers and gaps as None; `number` tells several data."""
    found: list[list[dict[str, Any]]] = []
    named = chart.get("datasets", {})

    def look(values: Any) -> None:
        if isinstance(values, dict):
            data = values.get("data")
            if isinstance(data, dict):
                content = data.get("values", named.get(data.get("name")))
                found.append(_read(content, data.get("format", {}).get("parse", {})))
            for key, value in values.items():
                if key not in ("data", "datasets"):
                    look(value)
        elif isinstance(values, list):
            for value in values:
                look(value)

    look(chart)
    return found[number]


def _read(content: Any, parse: dict[str, str]) -> list[dict[str, Any]]:
    if not isinstance(content, str):
        return list(content)
    convert = {"number": float, "boolean": lambda text: text == "true", "string": str}
    return [
        {key: convert[parse[key]](value) if value else None for key, value in row.items()}
        for row in csv.DictReader(io.StringIO(content))
    ]
