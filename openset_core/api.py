"""The Python interface: the same runs as the command line, with results as objects."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from openset_core.benching.runner import RETRIES, Bench
from openset_core.data.image_folders.scan import NOTE, ImageFolderConfig
from openset_core.errors import ConfigError
from openset_core.experiment.config import structure
from openset_core.experiment.experiment import Experiment, resolve, with_epochs
from openset_core.experiment.protocol import Protocol
from openset_core.observers import Observer
from openset_core.pipeline import Run, execute
from openset_core.results.run_results import Results, TrialsResults
from openset_core.run_folder import DEFAULT_RUNS, Runtime, open_folder

if TYPE_CHECKING:
    from openset_core.report.figures.drawing import FigureResult


@attrs.frozen
class Trials:
    """Several trials of one experiment, one run each."""

    runs: tuple[Run, ...]

    @property
    def results(self) -> TrialsResults:
        """Means and deviations over the trials."""
        return TrialsResults(tuple(run.results for run in self.runs))


def run(
    plugins: str | Sequence[str] = (),
    protocol: str | None = None,
    *,
    data: str | Path | ImageFolderConfig | None = None,
    known: str | Sequence[str] = (),
    trial: int | None = None,
    seed: int | None = None,
    epochs: int | None = None,
    set: Mapping[str, Mapping[str, Any]] | None = None,
    experiment: str | Path | None = None,
    threshold: str | Sequence[str] = (),
    recipe: str | None = None,
    out: str | Path | None = None,
    data_root: str | Path | None = None,
    download: bool = False,
    device: str = "auto",
    devices: int = 1,
    observers: Sequence[Observer] = (),
) -> Run:
    """Train, extract, score and evaluate one trial; what is already done is not repeated.

    Args:
        plugins: names of components, for example `["m2iosr", "vgg13"]`.
        protocol: name of a protocol, or path of a TOML file; `digits` by default.
        data: instead of a protocol, a folder of your own images with a folder for each class; or
            an `ImageFolderConfig`. What is odd about the images is a warning.
        known: for `data`, the known classes in label order; the others are the unknown test
            samples. All but a class `unknown` when empty.
        trial: number of the trial, 0 by default.
        seed: training seed, 0 by default.
        epochs: passes over the training images; the recipe's by default.
        set: options by component, for example `{"m2iosr": {"gamma": 0.2}}`.
        experiment: an experiment TOML that stands for what is not given here.
        threshold: how rejection thresholds are set, as after `--threshold`: `"acceptance=0.99"`, or
            `"openmax:score=1.5"`; the protocol's share of validation images by default.
        recipe: name or path of a training recipe over the protocol's, such as `"strong"`.
        out: run folder; a name made from the experiment under `runs/` by default.
        data_root: folder of data sets; $OPENSET_DATA or `./data` by default.
        download: whether missing data may be fetched.
        device: `"auto"` or `"cpu"`.
        devices: number of devices; more than one trains data-parallel.
        observers: told of what happens.

    Returns:
        The finished run.

    Raises:
        OpensetError: a mistake that the caller can mend, in one sentence.
    """

    def resolved(protocol: str | Protocol | None) -> Experiment:
        return resolve(
            plugins,
            protocol,
            trial,
            seed,
            overrides=with_epochs(set, epochs),
            file=Path(experiment) if experiment else None,
            threshold=[threshold] if isinstance(threshold, str) else threshold,
            recipe=recipe,
        )

    runtime = Runtime(
        data_root=Path(data_root) if data_root else None,
        download=download,
        device=device,
        devices=devices,
        observers=tuple(observers),
    )
    target = Path(out) if out else None
    images = own_images(data, known, protocol)
    if images is not None:
        from openset_core.data.image_folders.setup import set_up

        return execute(*set_up(images, resolved, target, DEFAULT_RUNS, notify=_warn), runtime)
    chosen = resolved(protocol)
    return execute(chosen, target or DEFAULT_RUNS / chosen.default_folder_name(), runtime)


def own_images(
    data: str | Path | ImageFolderConfig | None,
    known: str | Sequence[str],
    protocol: str | None,
    **more: Any,
) -> ImageFolderConfig | None:
    """What a user says about their own images, checked; None without `data`. `more` are other
    attributes of `ImageFolderConfig`, None for its default."""
    names = tuple(known.split(",") if isinstance(known, str) and known else known)
    given = {name: value for name, value in more.items() if value is not None}
    if data is None:
        if names or given:
            options = ["known"] * bool(names) + list(given)
            raise ConfigError(
                f"{' and '.join(options).replace('_', '-')} is said of images of your own; name "
                "their folder with data"
            )
        return None
    if protocol is not None:
        raise ConfigError(
            "data and protocol exclude each other: images of your own make a protocol of their own"
        )
    if isinstance(data, ImageFolderConfig):
        if names or given:
            raise ConfigError("the images are described twice; say all in ImageFolderConfig")
        return data
    return structure({"folder": str(data), "known": names, **given}, ImageFolderConfig, "data")


def _warn(line: str) -> None:
    if line.startswith(NOTE):
        warnings.warn(line.removeprefix(NOTE), stacklevel=4)


def run_trials(
    plugins: str | Sequence[str] = (),
    protocol: str | None = None,
    *,
    trials: Sequence[int] | None = None,
    out: str | Path | None = None,
    **options: Any,
) -> Trials:
    """Run several trials of one experiment, all of the protocol's by default.

    Args:
        plugins: names of components.
        protocol: name of a protocol or path of a TOML file.
        trials: numbers of the trials; None for all.
        out: folder that holds a run folder for each trial.
        **options: as for `run`, without `trial`.
    """
    if trials is None:
        file = options.get("experiment")
        first = resolve(plugins, protocol, file=Path(file) if file else None)
        trials = range(first.protocol.trials)
    runs = []
    for number in trials:
        target = Path(out) / f"trial{number}" if out else None
        runs.append(run(plugins, protocol, trial=number, out=target, **options))
    return Trials(tuple(runs))


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
    slurm: Mapping[str, Any] | None = None,
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
        plugins: a method each: names of components separated by commas, or a mapping with
            `plugins`, `name` and `set` as in a bench TOML.
        protocol: a protocol or several; `digits` by default.
        trials: `"all"`, the default, or numbers.
        seeds: training seeds, or how many; 3 stands for 0, 1, 2. One by default.
        epochs: passes over the training images, for every method; each recipe's by default.
        set: options by component, for every method that has the component.
        reference: the method that the others are compared with; the first one by default.
        file: a bench TOML, or a bench folder to go on with; stands for what is not given here.
        out: bench folder; a name under `runs/` made from what is asked by default.
        launcher: `"inline"`, `"processes"`, `"ray"` or `"slurm"`.
        workers: runs at once.
        threads: processor threads a run.
        gpus_per_run: share of a GPU for each run.
        ray_address: address of a Ray cluster.
        slurm: options of Slurm's jobs, such as `{"partition": "gpu", "time": 120, "memory": 16}`.
        retries: how often a run whose process died is started again.
        data_root: folder of data sets.
        download: whether missing data may be fetched.
        device: `"auto"` or `"cpu"`.
        report: whether to make pages and figures of the bench and its runs.

    Raises:
        OpensetError: a mistake that the caller can mend, before anything has run.
    """
    from openset_core.benching.plan import make_plan
    from openset_core.benching.runner import make_execution, read_request, run_bench
    from openset_core.report.bench_page import write_bench_page

    methods = [plugins] if isinstance(plugins, str) else plugins
    changes: dict[str, Any] = {
        "methods": [dict(m) if isinstance(m, Mapping) else {"plugins": m} for m in methods] or None,
        "protocols": [protocol] if isinstance(protocol, str) else protocol,
        "trials": trials,
        "seeds": seeds,
        "reference": reference,
    }
    folder, request = read_request(Path(file) if file else None, changes, with_epochs(set, epochs))
    execution = make_execution(
        launcher,
        execute=execute,
        retries=retries,
        resources={
            "workers": workers,
            "threads": threads,
            "gpus_per_run": gpus_per_run,
            "ray_address": ray_address,
            "slurm": dict(slurm or {}),
        },
        data_root=data_root,
        download=download,
        device=device,
        report=report,
        make_page=write_bench_page if report else None,
    )
    plan = make_plan(request)
    return run_bench(plan, folder or Path(out or plan.default_folder()), execution)


def figure(
    name: str,
    runs: str | Path | Sequence[str | Path] = (),
    *,
    protocol: str | None = None,
    set: Mapping[str, Any] | None = None,
    output: str | Path | None = None,
    formats: Sequence[str] = ("png", "svg", "pdf", "csv", "html"),
    root: str | Path = DEFAULT_RUNS,
    data_root: str | Path | None = None,
) -> FigureResult:
    """Draw a figure from what runs recorded, as `openset figure` does.

    Args:
        name: of the figure.
        runs: run folders, or folders that hold some; without any, the folders below `root` that the
            figure's own commands make.
        protocol: make the figure for this protocol.
        set: the figure's options, for example `{"samples": 500}`.
        output: path of the files without suffix; nothing is written without.
        formats: kinds of file.
        root: folder in which runs are looked for when none are named.
        data_root: folder of data sets; $OPENSET_DATA or `./data` by default.

    Returns:
        The figure; a notebook shows its `chart`, which is Altair's, `rows` are its numbers.

    Raises:
        OpensetError: too few runs, or runs that do not hold what the figure shows.
    """
    from openset_core.registry import registry
    from openset_core.report.figures.making import make_figure

    paths = [runs] if isinstance(runs, str | Path) else runs
    return make_figure(
        registry().find(name, ("figure",)).spec,
        [Path(path) for path in paths],
        options=set,
        protocol=protocol,
        stem=Path(output) if output else None,
        formats=formats,
        root=Path(root),
        data_root=Path(data_root) if data_root else None,
    )


def load_run(folder: str | Path) -> Run:
    """Open a finished run.

    Raises:
        RunFolderError: not a run folder, or not finished.
    """
    opened, experiment = open_folder(Path(folder))
    return Run(opened.path, experiment, Results.load(opened.results))
