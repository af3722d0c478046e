"""A bench from its wishes to its tables."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import attrs

from openset_core.benching import results
from openset_core.benching.folder import BenchFolder, check_claim, claim
from openset_core.benching.job import Job, Settings
from openset_core.benching.launchers import Resources
from openset_core.benching.named_launchers import LAUNCHERS
from openset_core.benching.plan import BenchFile, Plan, make_plan, read_bench_file
from openset_core.benching.results import FailedRun
from openset_core.benching.schedule import carry_out_all
from openset_core.benching.status import Board
from openset_core.errors import ConfigError, did_you_mean
from openset_core.experiment import config
from openset_core.experiment.config import Overrides
from openset_core.experiment.experiment import with_epochs
from openset_core.results.comparison.comparison import Comparison

RETRIES = 2


@attrs.frozen(kw_only=True)
class Bench:
    """A bench that came to its end.

    Attributes:
        folder: where everything is.
        failed: runs that failed; all others are done.
        comparison: of the runs that are done; None where every run failed.
        page: report.html; None where it was not to be made, or nothing is done.
    """

    folder: Path
    failed: tuple[FailedRun, ...]
    comparison: Comparison | None
    page: Path | None = None

    def table(self, width: int | None = None) -> str:
        """What the terminal shows: methods by metrics, intervals, differences, ranks.

        Args:
            width: columns of the terminal; wider tables are cut into pieces. None for no limit.
        """
        return self.comparison.table(width) if self.comparison else "no run is done"


class Display(Protocol):
    """Shows what goes on."""

    def __call__(self) -> None:
        """Called after every change, and several times a second."""

    def close(self) -> None:
        """Called in the end."""


class Silent:
    """A display that shows nothing."""

    def __call__(self) -> None:
        """Nothing to show."""

    def close(self) -> None:
        """Nothing to take away."""


@attrs.frozen(kw_only=True)
class Execution:
    """How a bench is carried out; none of it changes what is computed.

    Attributes:
        launcher: a name of `LAUNCHERS`.
        resources: workers, threads, GPUs.
        settings: data, device, pages of the runs.
        retries: how often a run whose process died is started again, at most.
        report: whether to make the bench's own report.html and figures/ in the end.
        display: makes what shows the board, given the number of runs at once.
        announce: called once before the first run starts, when all is checked.
        should_stop: asked all the time; raises to stop.
    """

    launcher: str = "inline"
    resources: Resources = attrs.field(factory=Resources)
    settings: Settings = attrs.field(factory=Settings)
    retries: int = RETRIES
    report: bool = True
    display: Callable[[Board, int], Display] = lambda board, slots: Silent()
    announce: Callable[[Board], None] = lambda board: None
    should_stop: Callable[[], None] = lambda: None


def bench(
    plugins: str | Sequence[str | Mapping[str, Any]] = (),
    protocol: str | Sequence[str] | None = None,
    *,
    trials: str | Sequence[int] | None = None,
    seeds: int | Sequence[int] | None = None,
    epochs: int | None = None,
    set: Mapping[str, Mapping[str, Any]] | None = None,
    reference: str | None = None,
    file: str | Path | None = None,
    out: str | Path | None = None,
    launcher: str = "inline",
    workers: int | None = None,
    threads: int | None = None,
    gpus_per_run: float = 1.0,
    ray_address: str | None = None,
    retries: int = RETRIES,
    data_root: str | Path | None = None,
    download: bool = False,
    device: str = "auto",
    report: bool = True,
) -> Bench:
    """Run methods over protocols, trials and seeds, and compare them.

    Finished runs are not repeated, interrupted ones go on from their checkpoints. A run that fails
    is listed, and does not stop the others.

    Args:
        plugins: a method each: names of parts separated by commas, or a mapping with `plugins`,
            `name` and `set` as in a bench TOML.
        protocol: a protocol or several; `digits` by default.
        trials: `"all"`, the default, or numbers.
        seeds: training seeds, or how many; 3 stands for 0, 1, 2. One by default.
        epochs: passes over the training images, for every method; each recipe's by default.
        set: options by part, for every method that has the part.
        reference: the method that the others are compared with; the first one by default.
        file: a bench TOML, or a bench folder to go on with; stands for what is not given here.
        out: bench folder; a name under `runs/` made from the wishes by default.
        launcher: `"inline"`, `"processes"` or `"ray"`.
        workers: runs at once.
        threads: processor threads a run.
        gpus_per_run: share of a GPU for each run.
        ray_address: address of a Ray cluster.
        retries: how often a run whose process died is started again.
        data_root: folder of data sets.
        download: whether missing data may be fetched.
        device: `"auto"` or `"cpu"`.
        report: whether to make the bench's page and figures in the end.

    Raises:
        OpensetError: a mistake that the caller can mend, before anything has run.
    """
    methods = [plugins] if isinstance(plugins, str) else plugins
    changes: dict[str, Any] = {
        "methods": [dict(m) if isinstance(m, Mapping) else {"plugins": m} for m in methods] or None,
        "protocols": [protocol] if isinstance(protocol, str) else protocol,
        "trials": trials,
        "seeds": seeds,
        "reference": reference,
    }
    folder, wishes = read_wishes(Path(file) if file else None, changes, with_epochs(set, epochs))
    execution = make_execution(
        launcher,
        retries=retries,
        resources={
            "workers": workers,
            "threads": threads,
            "gpus_per_run": gpus_per_run,
            "ray_address": ray_address,
        },
        data_root=data_root,
        download=download,
        device=device,
        report=report,
    )
    plan = make_plan(wishes)
    return run_bench(plan, folder or Path(out or plan.default_folder()), execution)


def make_execution(
    launcher: str,
    *,
    retries: int,
    resources: Mapping[str, Any],
    data_root: str | Path | None = None,
    download: bool = False,
    device: str = "auto",
    report: bool = True,
    **more: Any,
) -> Execution:
    """How a bench is carried out, checked.

    Args:
        launcher: a name of `LAUNCHERS`.
        retries: how often a run whose process died is started again.
        resources: fields of `Resources`.
        data_root: folder of data sets.
        download: whether missing data may be fetched.
        device: `"auto"` or `"cpu"`.
        report: whether pages and figures are made, of the bench and of its runs.
        **more: other attributes of `Execution`.

    Raises:
        ConfigError: a launcher that does not exist, or a number out of range.
    """
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
        settings=Settings(
            data_root=Path(data_root).absolute() if data_root else None,
            download=download,
            device=device,
            report=report,
        ),
        retries=retries,
        report=report,
        **more,
    )


def read_wishes(
    file: Path | None, changes: Mapping[str, Any], overrides: Overrides
) -> tuple[Path | None, BenchFile]:
    """What is asked: a bench TOML or a bench folder, and what the caller says himself.

    Args:
        file: TOML, or folder of a bench that is gone on with.
        changes: what replaces the file's entries; None leaves one as it is.
        overrides: options for every method, over the file's.

    Returns:
        The bench's folder where `file` is one, and what is asked.

    Raises:
        OpensetError: a file or value that does not fit.
    """
    folder, base = None, BenchFile()
    if file is not None and file.is_dir():
        folder, base = file, BenchFolder(file).read()
    elif file is not None:
        base = read_bench_file(file)
    given = {key: value for key, value in changes.items() if value is not None}
    values = {**config.unstructure(base), **given, "set": config.merge(base.set, overrides)}
    return folder, config.structure(values, BenchFile, "bench")


def run_bench(plan: Plan, place: Path, execution: Execution) -> Bench:
    """Carry a plan out, or whatever is missing of it, and compare the runs.

    Args:
        plan: every run, resolved.
        place: bench folder.
        execution: how.

    Raises:
        OpensetError: the folder holds something else, or a launcher cannot be used.
        Interrupted: as asked; what is finished is kept.
    """
    results.check_reference(plan)
    folder = BenchFolder(place)
    check_claim(folder, plan)
    with folder.locked():
        unfinished = {planned.name for planned in claim(folder, plan)}
        done = [n for n, planned in enumerate(plan.runs) if planned.name not in unfinished]
        board = Board(plan.runs, done)
        jobs = [
            Job(
                number=number,
                folder=folder.run(planned).absolute(),
                log=folder.log(planned).absolute(),
            )
            for number, planned in enumerate(plan.runs)
            if planned.name in unfinished
        ]
        execution.announce(board)
        if jobs:
            _carry_out(plan, folder, jobs, board, execution)
        failed = results.failed_runs(board)
        comparison = results.compare_bench(folder, plan, failed)
        if comparison is not None:
            results.save(folder, plan, comparison, failed)
        page = None
        if comparison is not None and execution.report:
            from openset_core.report.bench_page import write_bench_page

            page = write_bench_page(folder, comparison, failed)
    return Bench(folder=folder.path, failed=failed, comparison=comparison, page=page)


def _carry_out(
    plan: Plan, folder: BenchFolder, jobs: Sequence[Job], board: Board, execution: Execution
) -> None:
    settings = execution.settings
    if settings.download and execution.launcher != "inline":
        _download(plan, settings)  # once, not by every worker at the same time
        settings = attrs.evolve(settings, download=False)
    make = LAUNCHERS[execution.launcher]
    launcher = make(settings, execution.resources, len(jobs), execution.should_stop)
    show = execution.display(board, launcher.slots)
    try:
        carry_out_all(
            jobs,
            launcher,
            board,
            show,
            retries=execution.retries,
            should_stop=execution.should_stop,
        )
    finally:
        show.close()
        with contextlib.suppress(OSError):  # nothing was printed by any run
            folder.logs.rmdir()


def _download(plan: Plan, settings: Settings) -> None:
    from openset_core.data.images import data_root
    from openset_core.data.preparation import prepare_data

    root = data_root(settings.data_root)
    for protocol in {run.experiment.protocol.path: run.experiment for run in plan.runs}.values():
        prepare_data(protocol.protocol, protocol.trial, root, download=True)
