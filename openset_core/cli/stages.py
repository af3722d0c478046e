"""`openset train|extract|score|show RUN`: the stages of a run, one at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from openset_core.cli.common import (
    PATH,
    interruptible,
    progress,
    runtime_options,
    set_option,
    threshold_option,
)

if TYPE_CHECKING:
    from openset_core.pipeline import Stages

run_argument = click.argument("run", type=PATH)


@contextlib.contextmanager
def _stages(
    run: Path,
    stop: Any,
    quiet: bool,
    plugins: str = "",
    assignments: tuple[str, ...] = (),
    thresholds: tuple[str, ...] = (),
    **runtime: Any,
) -> Iterator[Stages]:
    """The stages of a run folder; its observers are closed in the end."""
    from openset_core.errors import CompositionError
    from openset_core.experiment import config
    from openset_core.experiment.experiment import resolve
    from openset_core.experiment.selection import split_names
    from openset_core.pipeline import Stages
    from openset_core.registry import registry
    from openset_core.run_folder import Runtime, initialize_folder, open_folder

    folder, experiment = open_folder(run)
    if plugins or assignments or thresholds:
        added = [registry().find(name) for name in split_names(plugins)]
        for component in added:
            if component.kind != "scorer":
                raise CompositionError(
                    f"{component.name} is a {component.kind}; `openset score` adds scorers only"
                )
        names = [*experiment.selection.names, *(component.reference for component in added)]
        overrides = config.parse_assignments(assignments)
        changed = resolve(names, overrides=overrides, file=folder.experiment, threshold=thresholds)
        folder, experiment = initialize_folder(run, changed)
    told = Runtime(observers=progress(quiet), should_stop=stop, **runtime)
    with contextlib.closing(Stages.begin(folder, experiment, told)) as stages:
        yield stages


@click.command()
@run_argument
@click.option("--devices", type=int, default=1, show_default=True, help="Train on so many devices.")
@runtime_options
def train(run: Path, quiet: bool, **runtime: Any) -> None:
    """Train the network of a run folder, or go on with it."""
    with interruptible(lambda: run) as stop, _stages(run, stop, quiet, **runtime) as stages:
        stages.train()


@click.command()
@run_argument
@click.option("--rebuild", is_flag=True, help="Replace a feature store that is there.")
@runtime_options
def extract(run: Path, rebuild: bool, quiet: bool, **runtime: Any) -> None:
    """Compute the features of every sample with the trained network."""
    with interruptible(lambda: run) as stop, _stages(run, stop, quiet, **runtime) as stages:
        stages.extract(rebuild)


@click.command()
@run_argument
@click.option("--plugins", "-p", default="", help="Scorers to add, separated by commas.")
@set_option(
    "SCORER.OPTION=VALUE",
    "Set a scorer's option, for example openmax.tail_size=10; may be repeated.",
)
@threshold_option
@runtime_options
def score(
    run: Path,
    plugins: str,
    assignments: tuple[str, ...],
    thresholds: tuple[str, ...],
    quiet: bool,
    **runtime: Any,
) -> None:
    """Score stored features, with more scorers if wanted; the network is not used."""
    with (
        interruptible(lambda: run) as stop,
        _stages(run, stop, quiet, plugins, assignments, thresholds, **runtime) as stages,
    ):
        stages.extract()
        results = stages.score()
    click.echo(results.table())
    if not quiet and (run / "report.html").exists():
        from openset_core.report.run_page.making import is_current

        if not is_current(run):
            click.echo(f"report.html shows earlier results; `openset report {run}` makes it again")


@click.command()
@run_argument
def show(run: Path) -> None:
    """Print the results of a finished run again."""
    from openset_core.results.run_results import Results
    from openset_core.run_folder import RunFolder

    folder = RunFolder(run)
    folder.read()  # the folder of a run; its plugins need not be installed
    click.echo(Results.load(folder.results).table())
