"""Finished runs, found in run folders, benches, and folders that hold them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from openset_core.errors import OpensetError, RunFolderError
from openset_core.experiment import config
from openset_core.results.run_results import Results
from openset_core.run_folder import RunFolder

BENCH_FILE = "bench.toml"
EXPERIMENT_FILE = RunFolder(Path()).experiment.name


@attrs.frozen(kw_only=True)
class FinishedRun:
    """What a comparison needs of a run; all of it is read from its folder.

    Attributes:
        folder: the run folder.
        results: what came out.
        recorded: the resolved experiment and its record, as experiment.toml says.
        name: what a bench calls the method; empty where nobody named it.
    """

    folder: Path
    results: Results
    recorded: dict[str, Any] = attrs.field(eq=False)
    name: str = ""

    @property
    def record(self) -> dict[str, Any]:
        """What was written down about the run beside its options."""
        found: dict[str, Any] = self.recorded.get("record", {})
        return found


@attrs.frozen
class LeftOut:
    """A run folder that cannot be compared, and why."""

    folder: Path
    reason: str


@attrs.frozen
class RunCollection:
    """What was found.

    Attributes:
        runs: finished runs, each once, in the order of the paths they were found by.
        left_out: run folders without usable results.
    """

    runs: tuple[FinishedRun, ...]
    left_out: tuple[LeftOut, ...] = ()


def find_runs(paths: Sequence[Path]) -> RunCollection:
    """Find the finished runs below some paths.

    Args:
        paths: run folders, benches, or folders that contain either at any depth.

    Raises:
        RunFolderError: a path that does not exist, or nothing finished anywhere.
    """
    names: dict[Path, str] = {}
    folders: dict[Path, Path] = {}  # by resolved path, so that each counts once
    for path in paths:
        if not path.is_dir():
            what = "is a file" if path.exists() else "does not exist"
            raise RunFolderError(f"{path} {what}; name folders of runs or benches")
        for folder in _run_folders(path, names):
            folders.setdefault(folder.resolve(), folder)
    runs, left_out = [], []
    for resolved, folder in folders.items():
        try:
            runs.append(read_run(folder, names.get(resolved, "")))
        except OpensetError as error:
            left_out.append(LeftOut(folder, str(error)))
    if not runs:
        where = " and ".join(map(str, paths)) or "no folder"
        reason = f"; {left_out[0].reason}" if left_out else ""
        raise RunFolderError(f"there is no finished run in {where}{reason}")
    return RunCollection(tuple(runs), tuple(left_out))


def read_run(folder: Path, name: str = "") -> FinishedRun:
    """Read one finished run.

    Raises:
        RunFolderError: not finished, or damaged.
    """
    opened = RunFolder(folder)
    recorded = opened.read()
    if not opened.results.exists():
        raise RunFolderError(f"{folder} is not finished")
    return FinishedRun(
        folder=folder, results=Results.load(opened.results), recorded=recorded, name=name
    )


def _run_folders(top: Path, names: dict[Path, str]) -> Iterator[Path]:
    """Run folders below a path; a bench's in its own order, by method, others by name.

    Args:
        top: where to begin.
        names: takes what benches on the way call their runs' methods, by resolved folder.
    """
    for where, inner, files in os.walk(top):
        folder = Path(where)
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        if BENCH_FILE in files:
            for run, name in _names_in_bench(folder).items():
                names[run.resolve()] = name
                if (run / EXPERIMENT_FILE).exists():
                    yield run
        if EXPERIMENT_FILE in files:
            inner.clear()  # what lies inside belongs to the run
            yield folder


def _names_in_bench(folder: Path) -> dict[Path, str]:
    """What a bench calls the method of each of its runs, by folder."""
    record = config.read_toml(folder / BENCH_FILE, "bench", RunFolderError).get("record", {})
    runs = record.get("runs", {}) if isinstance(record, dict) else {}
    return {folder / run: str(name) for run, name in runs.items()}
