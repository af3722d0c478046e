"""`openset run`: train, extract, score, evaluate."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from openset_core.cli.common import (
    PATH,
    interruptible,
    print_files,
    progress,
    runtime_options,
    set_option,
    threshold_option,
)
from openset_core.cli.own_images import (
    image_folder_config,
    own_images_options,
    print_next,
    set_up_images,
)

if TYPE_CHECKING:
    from openset_core.experiment.experiment import Experiment
    from openset_core.pipeline import Run


@click.command()
@click.argument("experiment", required=False, type=PATH)
@click.option(
    "--plugins",
    "-p",
    default="",
    help="Components by name, separated by commas: m2iosr,vgg13,openmax.",
)
@click.option("--protocol", help="Name of a protocol or path of a TOML file [default: digits].")
@click.option(
    "--recipe", help="Training recipe over the protocol's, by name or path; see `openset recipes`."
)
@own_images_options
@click.option("--trial", type=int, help="Number of the trial [default: 0].")
@click.option("--trials", help='"all", or numbers separated by commas; mean and deviation.')
@click.option("--seed", type=int, help="Training seed [default: 0].")
@click.option("--epochs", type=int, help="Passes over the training images [default: the recipe's].")
@set_option(
    "COMPONENT.OPTION=VALUE",
    "Set an option, for example m2iosr.gamma=0.2 or training.lr=0.05; may be repeated.",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16"]),
    help="Number format while training [default: auto].",
)
@threshold_option
@click.option(
    "--tensorboard",
    is_flag=True,
    help="Keep TensorBoard files; adds the observer tensorboard.",
)
@click.option("--no-report", is_flag=True, help="Leave out report.html and figures/.")
@click.option("--devices", type=int, default=1, show_default=True, help="Train on so many devices.")
@click.option(
    "--out",
    type=PATH,
    help="Run folder; with --trials the folder of run folders [default: a name under runs/].",
)
@runtime_options
def run(
    experiment: Path | None,
    plugins: str,
    protocol: str | None,
    recipe: str | None,
    trial: int | None,
    trials: str | None,
    seed: int | None,
    epochs: int | None,
    assignments: tuple[str, ...],
    precision: str | None,
    thresholds: tuple[str, ...],
    tensorboard: bool,
    no_report: bool,
    devices: int,
    out: Path | None,
    data_root: Path | None,
    download: bool,
    device: str,
    quiet: bool,
    **own: Any,
) -> None:
    """Train a method, score the test sets and print the results.

    EXPERIMENT is an experiment TOML, or a run folder to go on with. What is already done
    is not done again.

    With --data it trains on images of your own: photos/cat/*.jpg, photos/dog/*.jpg, ... or
    photos/train/cat/*.jpg, photos/test/cat/*.jpg, ...
    """
    from openset_core import pipeline
    from openset_core.errors import ConfigError, RunFolderError
    from openset_core.experiment import config
    from openset_core.experiment.experiment import resolve
    from openset_core.experiment.selection import split_names
    from openset_core.run_folder import DEFAULT_RUNS, Runtime

    if devices < 1:
        raise ConfigError(f"--devices {devices} must be at least 1")
    if trial is not None and trials is not None:
        raise ConfigError("--trial and --trials exclude each other")
    overrides = config.merge(
        config.parse_assignments(assignments),
        {"training": {"epochs": epochs}} if epochs is not None else {},
        {"training": {"precision": precision}} if precision else {},
    )
    file = experiment
    if experiment is not None and experiment.is_dir():
        if out is not None and out != experiment:
            raise RunFolderError(f"{experiment} is the run folder already; leave out --out")
        out, file = experiment, experiment / "experiment.toml"
        if not file.exists():
            raise RunFolderError(f"{experiment} is not a run folder: it has no experiment.toml")
    images = image_folder_config(protocol, **own)
    if images is not None and file != experiment:
        raise ConfigError(f"{experiment} has its images already; leave out --data")
    if images is not None and trials is not None:
        raise ConfigError("--data has one trial; another --split-seed splits the images anew")
    names = split_names(plugins)
    if file != experiment:  # a run folder keeps its components, and may get scorers and observers
        names = list(dict.fromkeys([*_recorded_names(file), *names]))
    if tensorboard:
        names = [*(names or _recorded_names(file)), "tensorboard"]

    current: list[Path] = []
    with interruptible(lambda: current[-1] if current else None) as should_stop:
        runtime = Runtime(
            data_root=data_root,
            download=download,
            device=device,
            devices=devices,
            observers=progress(quiet),
            should_stop=should_stop,
        )

        resolve_with = partial(
            resolve,
            names,
            seed=seed,
            overrides=overrides,
            file=file,
            threshold=thresholds,
            recipe=recipe,
        )
        planned: list[tuple[Experiment, Path]] = []
        if images is not None:
            of_protocol = partial(resolve_with, trial=trial)
            planned.append(
                set_up_images(images, of_protocol, out, DEFAULT_RUNS, should_stop, quiet)
            )
        else:
            numbers = [trial] if trials is None else _trial_numbers(trials)
            if numbers is None:
                first = resolve(names, protocol, file=file, trial=0)
                numbers = list(range(first.protocol.trials))
            # All are resolved first: a mistake in the last must not cost the others' training.
            for number in numbers:
                resolved = resolve_with(protocol, number)
                folder = out or DEFAULT_RUNS / resolved.default_folder_name()
                if out and trials is not None:
                    folder = out / f"trial{resolved.trial}"
                planned.append((resolved, folder))
        finished = []
        for resolved, folder in planned:
            should_stop()
            current.append(folder)
            if not quiet:
                click.echo(_headline(resolved, folder), err=True)
            finished.append(pipeline.execute(resolved, folder, runtime, report=not no_report))
    _print(finished, trials is not None)
    if images is not None:
        print_next(finished[0].folder)


def _recorded_names(file: Path | None) -> list[str]:
    """The components of an experiment TOML."""
    from openset_core.experiment import config

    recorded = config.read_toml(file, "experiment").get("plugins", []) if file else []
    return [str(name) for name in recorded] if isinstance(recorded, list) else []


def _trial_numbers(trials: str) -> list[int | None] | None:
    """None for all."""
    from openset_core.errors import ConfigError

    if trials.strip() == "all":
        return None
    try:
        return [int(number) for number in trials.split(",")]
    except ValueError:
        raise ConfigError(f'--trials {trials!r} is neither "all" nor numbers like 0,2,4') from None


def _headline(experiment: Experiment, folder: Path) -> str:
    selection = experiment.selection
    components = [f"loss {selection.loss.name}", f"backbone {selection.backbone.name}"]
    if selection.generator:
        components.append(f"generator {selection.generator.name}")
    components.append(f"scorers {', '.join(scorer.name for scorer in selection.scorers)}")
    recipe = f", recipe {experiment.recipe.name}" if experiment.recipe else ""
    return (
        f"{'; '.join(components)}; protocol {experiment.protocol.name}{recipe}, trial "
        f"{experiment.trial}, seed {experiment.seed}; folder {folder}"
    )


def _print(finished: list[Run], many: bool) -> None:
    from openset_core.results.run_results import TrialsResults

    for item in finished:
        results = item.results
        unknown = sum(n for split, n in results.samples.items() if split.startswith("unknown/"))
        recipe = f", recipe {results.recipe}" if results.recipe else ""
        group = f" ({results.group})" if results.group else ""
        click.echo(
            f"\n{results.method} on {results.backbone}, protocol {results.protocol}{recipe}, trial "
            f"{results.trial}{group}: {results.samples['known']} known and {unknown} unknown test "
            "samples, percent"
        )
        click.echo(results.table())
    if many:
        click.echo(f"\nmean ± standard deviation over {len(finished)} trials, percent")
        click.echo(TrialsResults(tuple(item.results for item in finished)).table())
    for item in finished:
        print_files(item.folder)
