"""The runs of a figure: found, opened, and matched to those that it requires.

A figure names the runs that it shows by the commands that make them. Runs that the user names are
matched to these by their loss, generator and the options of both; others are shown too, named by
what they are. Where the user names none, the folders that the commands would make are looked for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from attrs import evolve

from openset_core.errors import OpensetError, RunFolderError
from openset_core.experiment.experiment import Experiment
from openset_core.files import natural_order
from openset_core.report.data import RunData, open_run
from openset_core.report.figures.drawing import FigureRuns, ResolvedRun, RunGroup
from openset_core.results.comparison.runs import by_experiment, matches
from openset_core.run_folder import DEFAULT_RUNS
from openset_core.specs import FigureSpec

EXPERIMENT = "experiment.toml"
"""File by which a run folder is known."""


def required_runs(
    spec: FigureSpec, protocol: str | None = None, settings: Sequence[str] = ()
) -> tuple[ResolvedRun, ...]:
    """The runs that a figure requires, on another protocol or with further settings if given."""
    return tuple(
        ResolvedRun(required=run, protocol=protocol or run.protocol, settings=tuple(settings))
        for run in spec.runs
    )


def is_made(required: ResolvedRun, root: Path = DEFAULT_RUNS) -> bool:
    """Whether every run of a command is finished in its usual folder."""
    try:
        folders = required.folders(root)
    except OpensetError:
        return False
    return all((path / "results.json").exists() for path in folders)


def fits(required: ResolvedRun, run: RunData) -> bool:
    """Whether a run has the loss, the generator and their options that a figure asks for.

    The protocol and the backbone may differ: a figure can be made for other data. Options are those
    of the run's own protocol; where that file is gone, of the figure's.
    """
    for protocol in (str(run.recorded.get("protocol", "")), required.protocol):
        with contextlib.suppress(OpensetError):
            return matches(run, _resolved(required, protocol))
    return False


@cache
def _resolved(required: ResolvedRun, protocol: str) -> Experiment:
    return required.experiment(protocol=protocol)


@contextlib.contextmanager
def collected(
    spec: FigureSpec,
    paths: Sequence[Path] = (),
    *,
    protocol: str | None = None,
    settings: Sequence[str] = (),
    root: Path = DEFAULT_RUNS,
    data_root: Path = Path("data"),
) -> Iterator[FigureRuns]:
    """Find and open the runs of a figure; they stay open while the block runs."""
    required = required_runs(spec, protocol, settings)
    with contextlib.ExitStack() as stack:
        runs: list[RunData] = []
        unfinished: list[Path] = []
        left_out = 0
        for path in paths or _usual_folders(required, root):
            if (path / EXPERIMENT).exists():
                runs.append(stack.enter_context(open_run(path)))
                continue
            inside = []
            for folder in _run_folders(path):
                try:
                    inside.append(stack.enter_context(open_run(folder)))
                except RunFolderError:  # one of many need not be finished
                    unfinished.append(folder)
            chosen = _asked_for(required, inside)
            left_out += len(inside) - len(chosen)
            runs += chosen
        unique = {run.folder.path.resolve(): run for run in runs}
        yield evolve(
            _grouped(required, list(unique.values())),
            left_out=left_out,
            unfinished=tuple(unfinished),
            data_root=data_root,
        )


def _usual_folders(required: Sequence[ResolvedRun], root: Path) -> list[Path]:
    """Finished runs in the folders that the commands make."""
    folders: dict[Path, None] = {}
    for run in required:
        with contextlib.suppress(OpensetError):  # a component that is not installed
            folders |= dict.fromkeys(run.folders(root))
    return [path for path in folders if (path / "results.json").exists()]


def _run_folders(path: Path) -> list[Path]:
    folders = sorted(
        (file.parent for file in path.rglob(EXPERIMENT)),
        key=lambda folder: [natural_order(name) for name in folder.parts],
    )
    if not folders:
        problem = "holds no run folder" if path.is_dir() else "does not exist"
        raise RunFolderError(f"{path} {problem}; name run folders, or folders that hold some")
    return folders


def _asked_for(required: Sequence[ResolvedRun], runs: Sequence[RunData]) -> Sequence[RunData]:
    """Of many runs those that a figure asks for, on its protocol if there are any; else all."""
    fitting = [(item, run) for run in runs for item in required if fits(item, run)]
    same = [
        run
        for item, run in fitting
        if _resolved(item, item.protocol).protocol.reference == run.recorded.get("protocol")
    ]
    chosen = same or [run for _item, run in fitting] or runs
    return [run for run in runs if any(run is each for each in chosen)]


def _grouped(required: Sequence[ResolvedRun], runs: Sequence[RunData]) -> FigureRuns:
    """Runs that a figure requires in its order, then others; each group under its label."""
    groups: list[RunGroup] = []
    rest, missing = list(runs), []
    for item in required:
        own = [run for run in rest if fits(item, run)]
        rest = [run for run in rest if run not in own]
        label = item.required.label
        groups += [RunGroup(runs=tuple(each), label=label) for each in by_experiment(own)]
        missing += [] if own else [item]
    groups += [RunGroup(runs=tuple(each)) for each in by_experiment(rest)]
    return FigureRuns(groups=tuple(groups), missing=tuple(missing))
