"""The page that a bench ends with, and its figures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import tomli_w

from openset_core.benching.folder import BenchFolder
from openset_core.benching.results import FailedRun
from openset_core.errors import RunFolderError
from openset_core.experiment import config
from openset_core.files import sha256, write_text
from openset_core.report.comparison_page.making import comparison_figures, comparison_page
from openset_core.report.comparison_page.view import Failure, Origin
from openset_core.report.page import inputs_in
from openset_core.results.comparison.comparison import Comparison
from openset_core.run_folder import RunFolder

FORMAT = 1
"""Raised when pages made before should be made again."""

FILES = (
    ("results.md", "the tables as Markdown"),
    ("results.tex", "as LaTeX with booktabs"),
    ("results.csv", "means, deviations, intervals, published figures"),
    ("differences.csv", "paired differences"),
    ("runs.csv", "every metric of every run"),
    ("results.json", "all of it"),
    ("figures/", "the figures of this page as PNG and SVG"),
    ("bench.toml", "everything needed to repeat the bench"),
)
"""What lies beside the page."""


def make_page(
    folder: BenchFolder, comparison: Comparison, failed: Sequence[FailedRun] = ()
) -> Path:
    """Make report.html and figures/ from a bench's results, unless they are current.

    Raises:
        RunFolderError: the folder cannot be written.
    """
    inputs = _inputs(folder, comparison)
    if inputs_in(folder.page) == inputs and folder.figures.is_dir():
        return folder.page
    comparison_figures(comparison, folder.figures)
    asked = config.read_toml(folder.file, "bench", RunFolderError)
    asked.pop("record", None)
    name = folder.path.resolve().name
    origin = Origin(
        kind="Bench",
        command=f"openset bench {name}/bench.toml --out {name}-again",
        folder=folder.path,
        failures=tuple(Failure(title=run.title, reason=run.reason) for run in failed),
        asked=tomli_w.dumps(asked),
        files=tuple((file, what) for file, what in FILES if (folder.path / file).exists()),
        inputs=inputs,
    )
    write_text(folder.page, comparison_page(comparison, origin))
    return folder.page


def _inputs(folder: BenchFolder, comparison: Comparison) -> str:
    """Hash of what the page is made from."""
    pages = [RunFolder(place.run.folder).report.exists() for place in comparison.runs]
    facts = [FORMAT, sha256(folder.table("json")), sha256(folder.file), pages]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
