"""A bench from what is asked to its tables."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import attrs

from openset_core.benching import results
from openset_core.benching.folder import BenchFolder, check_folder, initialize
from openset_core.benching.job import Job, RunProgress, WorkerConfig
from openset_core.benching.launchers import LAUNCHERS, Launcher, Resources
from openset_core.benching.plan import BenchFile, Plan, read_bench_file
from openset_core.benching.results import FailedRun
from openset_core.benching.schedule import run_jobs
from openset_core.benching.status import BenchStatus
from openset_core.errors import ConfigError, did_you_mean
from openset_core.experiment import config
from openset_core.experiment.config import Overrides
from openset_core.results.comparison.comparison import Comparison

RETRIES = 2

Display = Callable[[BenchStatus, int], AbstractContextManager[Callable[[], None]]]


@attrs.frozen(kw_only=True)
class Bench:
    folder: Path
    failed: tuple[FailedRun, ...]
    comparison: Comparison | None  # of the runs that are done; None where every run failed
    page: Path | None = None  # None where it was not to be made, or nothing is done

    def table(self, width: int | None = None) -> str:
        return self.comparison.table(width) if self.comparison else "no run is done"


@attrs.frozen(kw_only=True)
class Execution:
    """How a bench is executed; none of it changes what is computed."""

    launcher: str = "inline"
    resources: Resources = attrs.field(factory=Resources)
    config: WorkerConfig
    retries: int = RETRIES  # of a run whose process died, at most
    # makes report.html and figures/ in the end; None for no page
    make_page: Callable[[BenchFolder, Comparison, Sequence[FailedRun]], Path] | None = None
    # Given status and runs at once; yields what is called after changes and several times a second.
    display: Display = lambda status, slots: contextlib.nullcontext(lambda: None)
    # called once before the first run starts, when all is checked
    announce: Callable[[BenchStatus], None] = lambda status: None
    should_stop: Callable[[], None] = lambda: None  # called between steps; raises to stop


def make_execution(
    launcher: str,
    *,
    execute: Callable[..., Any],
    retries: int,
    resources: Mapping[str, Any],
    data_root: str | Path | None = None,
    download: bool = False,
    device: str = "auto",
    report: bool = True,
    **more: Any,
) -> Execution:
    """An `Execution` from the attributes of it, its `WorkerConfig` and its `Resources`, checked."""
    if launcher not in LAUNCHERS:
        raise ConfigError(
            f"there is no launcher {launcher!r}{did_you_mean(launcher, LAUNCHERS)}; there are "
            f"{', '.join(LAUNCHERS)}"
        )
    if retries < 0:
        raise ConfigError(f"retries must be 0 or more, not {retries}")
    return Execution(
        launcher=launcher,
        resources=config.structure(resources, Resources, "bench"),
        config=WorkerConfig(
            execute=execute,
            data_root=Path(data_root).absolute() if data_root else None,
            download=download,
            device=device,
            report=report,
        ),
        retries=retries,
        **more,
    )


def read_request(
    file: Path | None, changes: Mapping[str, Any], overrides: Overrides
) -> tuple[Path | None, BenchFile]:
    """What is asked: a bench TOML or folder, and what the caller changes; and that folder."""
    folder, base = None, BenchFile()
    if file is not None and file.is_dir():
        folder, base = file, BenchFolder(file).read()
    elif file is not None:
        base = read_bench_file(file)
    given = {key: value for key, value in changes.items() if value is not None}
    values = {**config.unstructure(base), **given, "set": config.merge(base.set, overrides)}
    return folder, config.structure(values, BenchFile, "bench")


def run_bench(plan: Plan, place: Path, execution: Execution) -> Bench:
    results.check_reference(plan)
    folder = BenchFolder(place)
    check_folder(folder, plan)
    with folder.locked():
        unfinished = {planned.name for planned in initialize(folder, plan)}
        done = [n for n, planned in enumerate(plan.runs) if planned.name not in unfinished]
        status = BenchStatus(plan.runs, done)
        jobs = [
            Job(
                number=number,
                folder=folder.run(planned).absolute(),
                log=folder.log(planned).absolute(),
            )
            for number, planned in enumerate(plan.runs)
            if planned.name in unfinished
        ]
        execution.announce(status)
        if jobs:
            _run_jobs(plan, folder, jobs, status, execution)
        failed = results.failed_runs(status)
        comparison, page = results.compare_bench(folder, plan, failed), None
        if comparison is not None:
            results.save(folder, plan, comparison, failed)
            if execution.make_page is not None:
                page = execution.make_page(folder, comparison, failed)
    return Bench(folder=folder.path, failed=failed, comparison=comparison, page=page)


def _run_jobs(
    plan: Plan, folder: BenchFolder, jobs: Sequence[Job], status: BenchStatus, execution: Execution
) -> None:
    if execution.config.download and execution.launcher != "inline":
        _download(plan, execution.config)  # once, not by every worker at the same time
        execution = attrs.evolve(execution, config=attrs.evolve(execution.config, download=False))
    if execution.launcher != "inline":
        folder.logs.mkdir(parents=True, exist_ok=True)  # processes write their progress there

    def on_progress(number: int, progress: RunProgress) -> None:
        status.progressed(number, progress)
        show()

    launcher = _make_launcher(execution, folder, len(jobs), on_progress)
    retries, should_stop = execution.retries, execution.should_stop
    try:
        with execution.display(status, launcher.slots) as show:
            run_jobs(jobs, launcher, status, show, retries=retries, should_stop=should_stop)
    finally:
        with contextlib.suppress(OSError):  # it is empty: nothing was printed by any run
            folder.logs.rmdir()


def _make_launcher(
    execution: Execution,
    folder: BenchFolder,
    runs: int,
    on_progress: Callable[[int, RunProgress], None],
) -> Launcher:
    worker, resources = execution.config, execution.resources
    if execution.launcher == "inline":
        from openset_core.benching.inline import InlineLauncher

        return InlineLauncher(worker, on_progress, execution.should_stop)
    if execution.launcher == "processes":
        from openset_core.benching.processes import ProcessLauncher

        return ProcessLauncher(worker, resources, runs)
    if execution.launcher == "ray":
        from openset_core.benching.ray_launcher import RayLauncher

        return RayLauncher(worker, resources, runs)
    from openset_core.benching.slurm_launcher import SlurmLauncher

    return SlurmLauncher(worker, resources, runs, folder.logs.absolute() / "slurm")


def _download(plan: Plan, worker: WorkerConfig) -> None:
    from openset_core.data.images import data_root
    from openset_core.data.preparation import prepare_data

    root = data_root(worker.data_root)
    for protocol in {run.experiment.protocol.path: run.experiment for run in plan.runs}.values():
        prepare_data(protocol.protocol, protocol.trial, root, download=True)
