"""Finished runs: read from below folders, and told apart by their components and options."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import attrs

from openset_core.errors import OpensetError, RunFolderError
from openset_core.experiment import config
from openset_core.experiment.experiment import TRAINING_SECTION, Experiment
from openset_core.files import natural_order
from openset_core.results.run_results import Results
from openset_core.run_folder import RunFolder

BENCH_FILE = "bench.toml"
EXPERIMENT_FILE = RunFolder(Path()).experiment.name


class RecordedRun(Protocol):
    """Anything that knows the contents of a run's results.json and experiment.toml."""

    @property
    def results(self) -> Results: ...

    @property
    def recorded(self) -> Mapping[str, Any]: ...


Run = TypeVar("Run", bound=RecordedRun)


@attrs.frozen(kw_only=True)
class FinishedRun:
    """A run as its folder records it; `name` is what a bench calls the method, else empty."""

    folder: Path
    results: Results
    recorded: dict[str, Any] = attrs.field(eq=False)  # contents of experiment.toml
    name: str = ""

    @property
    def record(self) -> dict[str, Any]:
        """What was recorded about the run beside its options."""
        record: dict[str, Any] = self.recorded.get("record", {})
        return record

    @property
    def seconds(self) -> float:
        """What all stages took together; 0 where that was not recorded."""
        return float(sum(self.record.get("seconds", {}).values()))


@attrs.frozen
class LeftOut:
    """A run folder that cannot be used, and why, in one sentence."""

    folder: Path
    reason: str


@attrs.frozen
class RunCollection:
    """Finished runs, each once, in the order of the paths that led to them; and the others."""

    runs: tuple[FinishedRun, ...]
    left_out: tuple[LeftOut, ...] = ()


def find_runs(paths: Sequence[Path]) -> RunCollection:
    """Finished runs below run folders, benches, or folders that contain either at any depth."""
    names: dict[Path, str] = {}
    folders: dict[Path, Path] = {}  # by resolved path, so that each counts once
    for path in paths:
        if not path.is_dir():
            problem = "is a file" if path.exists() else "does not exist"
            raise RunFolderError(f"{path} {problem}; name folders of runs or benches")
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
    paths = RunFolder(folder)
    recorded = paths.read()
    if not paths.results.exists():
        raise RunFolderError(f"{folder} is not finished")
    return FinishedRun(
        folder=folder, results=Results.load(paths.results), recorded=recorded, name=name
    )


def _run_folders(top: Path, names: dict[Path, str]) -> Iterator[Path]:
    """Run folders below a path: a bench's by method in the bench's order, others by name.

    `names` takes what benches on the way call their runs' methods, by resolved folder.
    """
    for where, inner, files in os.walk(top):
        folder = Path(where)
        inner[:] = sorted((name for name in inner if name[0] != "."), key=natural_order)
        if BENCH_FILE in files:
            bench = config.read_toml(folder / BENCH_FILE, "bench", RunFolderError)
            record = bench.get("record", {})
            runs = record.get("runs", {}) if isinstance(record, dict) else {}
            for run, name in runs.items():
                names[(folder / run).resolve()] = str(name)
                if (folder / run / EXPERIMENT_FILE).exists():
                    yield folder / run
        if EXPERIMENT_FILE in files:
            inner.clear()  # folders inside belong to the run
            yield folder


def method_components(run: RecordedRun) -> tuple[str, ...]:
    """Names of a run's loss and, where it has one, of its generator; names may hold a plus."""
    method = run.results.method
    for loss in run.recorded:
        generator = method.removeprefix(f"{loss}+")
        if generator != method and generator in run.recorded:
            return loss, generator
    return (method,)


def options(run: RecordedRun) -> dict[str, Any]:
    """Options of a run's loss, generator, backbone and training, as `section.option`.

    Scorers are left out, since one run may have several.
    """
    sections = (*method_components(run), run.results.backbone, TRAINING_SECTION)
    return {
        f"{section}.{name}": value
        for section in sections
        for name, value in run.recorded.get(section, {}).items()
    }


def option_of(run: RecordedRun, name: str) -> tuple[str, str, Any]:
    """One option by `section.option`: section, option and value, None where there is none.

    The sections `loss`, `generator` and `backbone` stand for the run's own components.
    """
    section, _, option = name.rpartition(".")
    loss, *generators = method_components(run)
    roles = {"loss": loss, "generator": (loss, *generators)[-1], "backbone": run.results.backbone}
    section = roles.get(section, section)
    return section, option, run.recorded.get(section, {}).get(option)


def option_text(value: Any) -> str:
    """A value as it is written after `--set`."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(option_text, value))}]"
    return "none" if value is None else json.dumps(value, ensure_ascii=False).strip('"')


def protocol_name(run: RecordedRun) -> str:
    """Name of a run's protocol; of a file of one's own its stem."""
    name = run.results.protocol
    return Path(name).stem if name.endswith(".toml") else name


def matches(run: RecordedRun, experiment: Experiment) -> bool:
    """Whether a run has an experiment's loss, generator and their options.

    Protocol, backbone and training may differ. Options that only one of both knows do not count:
    the run may be of another version.
    """
    if experiment.method != run.results.method:
        return False
    selection = experiment.selection
    for component in filter(None, (selection.loss, selection.generator)):
        asked = config.unstructure(experiment.options[component.name])
        recorded = run.recorded.get(component.name, {})
        if any(asked[name] != recorded[name] for name in asked.keys() & recorded.keys()):
            return False
    return True


def by_experiment(runs: Iterable[Run]) -> list[list[Run]]:
    """Runs that differ in nothing but trial and seed together, in order of trial and seed.

    Alike are runs of one method, backbone and protocol with the same options.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        facts = [run.results.method, run.results.backbone, protocol_name(run), options(run)]
        groups.setdefault(option_key(facts), []).append(run)
    return [
        sorted(members, key=lambda run: (run.results.trial, run.results.seed))
        for members in groups.values()
    ]


def option_key(value: Any) -> str:
    """A value of any type as a key: equal for equal values, whatever the order of tables."""
    return json.dumps(value, sort_keys=True)


def differing(several: Sequence[Mapping[str, Any]], ignore: Iterable[str] = ()) -> dict[str, int]:
    """Keys whose values differ between several mappings, with how many values each has.

    A key that some lack differs from all values.
    """
    keys = dict.fromkeys(key for each in several for key in each if key not in set(ignore))
    counts = {key: len({option_key(each.get(key)) for each in several}) for key in keys}
    return {key: count for key, count in counts.items() if count > 1}


def distinguishing(
    several: Sequence[Mapping[str, Any]], ignore: Iterable[str] = (), most: int = 3
) -> list[str]:
    """The key that alone tells several mappings apart if there is one, else the first differing."""
    counts = differing(several, ignore)
    alone = [key for key, count in counts.items() if count == len(several)]
    return alone[:1] or list(counts)[:most]
