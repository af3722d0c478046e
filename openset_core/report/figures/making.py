"""A figure from its name to its files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve

from openset_core import specs
from openset_core.data.images import data_root as data_folder
from openset_core.errors import FigureError, did_you_mean
from openset_core.experiment import config
from openset_core.files import write_text
from openset_core.report.charts import output
from openset_core.report.figures.drawing import FigureResult, FigureRuns
from openset_core.report.figures.runs import collected
from openset_core.report.render import write_page
from openset_core.results import tables
from openset_core.run_folder import DEFAULT_RUNS
from openset_core.specs import FigureConfig, FigureSpec

FORMATS = (*output.FORMATS, "csv", "md", "tex", "html")
"""Kinds of file that a figure can become: pictures, tables of its numbers, and a page."""

USUAL_FORMATS = (*output.FORMATS, "csv", "html")

MOST_ROWS = 500
"""Rows of numbers that a page shows; the file of numbers has them all."""


def make_figure(
    spec: FigureSpec,
    runs: Sequence[Path] = (),
    *,
    options: Mapping[str, Any] | None = None,
    protocol: str | None = None,
    settings: Sequence[str] = (),
    stem: Path | None = None,
    formats: Sequence[str] = USUAL_FORMATS,
    root: Path = DEFAULT_RUNS,
    data_root: Path | None = None,
) -> FigureResult:
    """Find a figure's runs, draw it, and write files `stem.FORMAT` if there is a stem."""
    formats = check_formats(formats)
    shape = shape_with(spec, options or {})
    data = data_folder(data_root)
    with collected(
        spec, runs, protocol=protocol, settings=settings, root=root, data_root=data
    ) as there:
        result = draw(spec, shape, there)
        return evolve(result, files=tuple(save(result, spec, stem, formats) if stem else ()))


def check_formats(names: Sequence[str]) -> tuple[str, ...]:
    """The formats asked for, each once."""
    for name in names:
        if name not in FORMATS:
            raise FigureError(
                f"a figure cannot be written as {name!r}{did_you_mean(name, FORMATS)}; there are "
                f"{', '.join(FORMATS)}"
            )
    return tuple(dict.fromkeys(names))


def shape_with(spec: FigureSpec, changes: Mapping[str, Any]) -> FigureConfig:
    """A figure's shape with some options set anew."""
    if not changes:
        return spec.shape
    values = {**config.unstructure(spec.shape), **changes}
    return config.structure(values, type(spec.shape), f"figure {spec.name}")


def draw(spec: FigureSpec, shape: FigureConfig, runs: FigureRuns) -> FigureResult:
    """Draw a figure from its runs."""
    runs.require(spec.min_runs)
    factory: Callable[..., FigureResult] = specs.load_factory(spec.factory)
    return evolve(factory(shape, runs), runs=runs)


def save(
    result: FigureResult, spec: FigureSpec, stem: Path, formats: Sequence[str] = USUAL_FORMATS
) -> list[Path]:
    """Write a figure's files, each whole or not at all, in the order of `FORMATS`."""
    pictures = [name for name in output.FORMATS if name in formats]
    files = output.save_chart(result.chart, stem, pictures)
    texts: dict[str, Callable[[], str]] = {
        "csv": lambda: tables.csv_text(result.columns, result.rows),
        "md": lambda: tables.markdown([result.table]),
        "tex": lambda: tables.latex([result.table]),
    }
    for suffix, text in texts.items():
        if suffix in formats:
            path = stem.with_name(f"{stem.name}.{suffix}")
            write_text(path, text())
            files.append(path)
    if "html" in formats:
        page = stem.with_name(f"{stem.name}.html")
        files.append(write_page("figure.html", page, **_page_values(result, spec)))
    return files


def _page_values(result: FigureResult, spec: FigureSpec) -> dict[str, Any]:
    table = result.table
    return {
        "title": spec.summary,
        "kind": "figure",
        "subtitle": spec.reference,
        "footer": f"Made from the recorded data of runs by openset figure {spec.name}.",
        "result": result,
        "deviation": spec.deviation,
        "columns": [column.title for column in table.columns],
        "rows": [
            {"header": header, "cells": cells}
            for header, *cells in ([tables.cell_text(c) for c in r] for r in table.rows[:MOST_ROWS])
        ],
        "words": [i for i, column in enumerate(table.columns[1:]) if column.left],
        "left_out": max(0, len(table.rows) - MOST_ROWS),
    }
