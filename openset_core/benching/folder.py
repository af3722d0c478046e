"""A bench is a folder: what was asked, a run folder for each run, and the tables."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from openset_core.benching.plan import BenchFile, Plan, PlannedRun, read_bench_file
from openset_core.errors import RunFolderError
from openset_core.experiment import config
from openset_core.experiment.environment import library_versions
from openset_core.files import os_errors_as, write_text
from openset_core.results.comparison.runs import BENCH_FILE
from openset_core.results.run_results import Results
from openset_core.run_folder import RunFolder, initialize_folder

RUNS = "runs"


@attrs.frozen
class BenchFolder:
    path: Path

    @property
    def file(self) -> Path:
        return self.path / BENCH_FILE

    @property
    def logs(self) -> Path:
        """What worker processes printed, and tracebacks of failed runs."""
        return self.path / "logs"

    def run(self, planned: PlannedRun) -> Path:
        return self.path / RUNS / planned.name

    def log(self, planned: PlannedRun) -> Path:
        return self.logs / f"{planned.name}.log"

    @property
    def page(self) -> Path:
        return self.path / "report.html"

    @property
    def figures(self) -> Path:
        return self.path / "figures"

    def read(self) -> BenchFile:
        if not self.file.exists():
            raise RunFolderError(f"{self.path} is not a bench: it has no {BENCH_FILE}")
        return read_bench_file(self.file)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second `openset bench` out of the folder while the block runs."""
        from filelock import FileLock, Timeout

        with os_errors_as(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / ".lock")
            try:
                lock.acquire(timeout=0)
            except NotImplementedError:  # a file system without locks; nobody can be kept out
                pass
            except Timeout:
                raise RunFolderError(
                    f"another `openset bench` is at work in {self.path}; wait for it, or stop it"
                ) from None
        try:
            yield
        finally:
            lock.release()


def check_folder(folder: BenchFolder, plan: Plan) -> None:
    path = folder.path
    with os_errors_as(path):
        if path.exists() and not path.is_dir():
            raise RunFolderError(f"{path} is a file, not a folder; choose another with --out")
        if folder.file.exists():
            asked, recorded = plan.file.asked(), folder.read().asked()
            differing = [key for key in (*asked, *recorded) if asked.get(key) != recorded.get(key)]
            if differing:
                raise RunFolderError(
                    f"{path} holds another bench (different: "
                    f"{', '.join(dict.fromkeys(differing))}); choose another folder with --out, or "
                    f"go on with it by: openset bench {path}"
                )
            return
        foreign = path.is_dir() and any(not item.name.startswith(".") for item in path.iterdir())
    if foreign:
        raise RunFolderError(f"{path} is not empty and no bench; choose another folder with --out")


def initialize(folder: BenchFolder, plan: Plan) -> list[PlannedRun]:
    """Write bench.toml and the experiment of every run; returns the runs that are not finished."""
    unfinished = []
    for planned in plan.runs:
        path = folder.run(planned)
        if is_finished(path, planned):
            continue
        unfinished.append(planned)
        if _is_of(RunFolder(path), planned):
            # Results of other scorers than are wanted now must not pass for these after a crash.
            RunFolder(path).results.unlink(missing_ok=True)
        initialize_folder(path, planned.experiment)
    _write(folder, plan)
    return unfinished


def is_finished(path: Path, planned: PlannedRun) -> bool:
    folder = RunFolder(path)
    if not folder.results.exists() or not _is_of(folder, planned):
        return False
    recorded, wanted = folder.read(), planned.experiment.to_toml()
    scorers = [scorer.name for scorer in planned.experiment.selection.scorers]
    if any(recorded.get(name) != wanted[name] for name in scorers):
        return False
    try:
        return set(scorers) <= set(Results.load(folder.results).scorers)
    except RunFolderError:  # damaged; they are made again from the stored features
        return False


def _is_of(folder: RunFolder, planned: PlannedRun) -> bool:
    """Whether a run folder was begun for what is planned, scorers aside."""
    if not folder.experiment.exists():
        return False
    digest: str = folder.read().get("record", {}).get("digest", "")
    return digest == planned.experiment.digest


def _write(folder: BenchFolder, plan: Plan) -> None:
    import tomli_w

    values = config.unstructure(attrs.evolve(plan.file, record={}))
    values["seeds"] = list(plan.file.seed_numbers)
    values = {key: value for key, value in values.items() if value not in ("", {}, [])}
    values["methods"] = [
        {key: value for key, value in method.items() if value} for method in values["methods"]
    ]
    record: dict[str, Any] = {
        "versions": library_versions(),
        "runs": {f"{RUNS}/{planned.name}": planned.shown for planned in plan.runs},
    }
    text = tomli_w.dumps({**values, "record": record})
    if not folder.file.exists() or folder.file.read_text("utf-8") != text:
        write_text(folder.file, text)
