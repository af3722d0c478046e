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
from openset_core.files import sha256
from openset_core.report.comparison_page import (
    Failure,
    Origin,
    write_comparison_figures,
    write_comparison_page,
)
from openset_core.report.render import inputs_in
from openset_core.results.comparison import Comparison
from openset_core.run_folder import RunFolder

FORMAT = 2
"""Raised when pages made before should be made again."""

FILES = (
    ("results.md", "the tables as Markdown"),
    ("results.tex", "as LaTeX with booktabs"),
    ("results.csv", "means, deviations, intervals, published figures"),
    ("differences.csv", "paired differences"),
    ("runs.csv", "every metric of every run"),
    ("results.json", "all of it"),
    ("figures/", "the figures of this page as PNG, SVG and PDF"),
    ("bench.toml", "everything needed to repeat the bench"),
)
"""What lies beside the page."""


def write_bench_page(
    bench: BenchFolder, comparison: Comparison, failed: Sequence[FailedRun] = ()
) -> Path:
    """Write report.html and figures/ from a bench's results, unless they are current."""
    pages = [RunFolder(each.run.folder).report.exists() for each in comparison.runs]
    facts = [FORMAT, sha256(bench.path / "results.json"), sha256(bench.file), pages]
    inputs = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    if inputs_in(bench.page) == inputs and bench.figures.is_dir():
        return bench.page
    write_comparison_figures(comparison, bench.figures)
    asked = config.read_toml(bench.file, "bench", RunFolderError)
    asked.pop("record", None)
    name = bench.path.resolve().name
    origin = Origin(
        kind="Bench",
        command=f"openset bench {name}/bench.toml --out {name}-again",
        folder=bench.path,
        failures=tuple(Failure(title=run.title, reason=run.reason) for run in failed),
        asked=tomli_w.dumps(asked),
        files=tuple((file, what) for file, what in FILES if (bench.path / file).exists()),
        inputs=inputs,
    )
    return write_comparison_page(comparison, bench.page, origin)
