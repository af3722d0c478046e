"""`openset bench`: methods by protocols by trials by seeds, and their table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from openset_core.cli.common import PATH, interruptible, runtime_options, set_option, terminal_width

if TYPE_CHECKING:
    from openset_core.benching.plan import Plan
    from openset_core.benching.runner import Bench
    from openset_core.benching.status import BenchStatus


METHODS = ("--plugins", "-p")


class MethodsCommand(click.Command):
    """A command whose option for methods takes all values that follow it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, spread(args, METHODS))


def spread(arguments: Sequence[str], names: Sequence[str]) -> list[str]:
    """Repeat an option before each of several values, as click wants it.

    >>> spread(["--plugins", "a", "b", "--seeds", "3"], ["--plugins"])
    ['--plugins', 'a', '--plugins', 'b', '--seeds', '3']
    """
    repeated: list[str] = []
    option, values = "", 0
    for argument in arguments:
        if argument.startswith("-"):
            name, equals, _value = argument.partition("=")
            option, values = (name, bool(equals)) if name in names else ("", 0)
        elif option:
            if values:
                repeated.append(option)
            values += 1
        repeated.append(argument)
    return repeated


@click.command(cls=MethodsCommand)
@click.argument("file", required=False, type=PATH, metavar="[BENCH]")
@click.option(
    *METHODS,
    multiple=True,
    metavar="METHOD...",
    help='Methods, each a list of components as in `openset run`: "softmax,vgg13" "m2iosr,vgg13"; '
    "may be repeated.",
)
@click.option(
    "--protocol",
    "protocols",
    multiple=True,
    help="Name of a protocol or path of a TOML file; may be repeated [default: digits].",
)
@click.option(
    "--recipe",
    help="Training recipe over the protocols', by name or path; see `openset recipes`.",
)
@click.option("--trials", help='"all", or numbers separated by commas [default: all].')
@click.option(
    "--seeds",
    help="How many training seeds, or their numbers: 3 stands for 0,1,2 [default: 1].",
)
@click.option("--epochs", type=int, help="Passes over the training images [default: the recipes'].")
@set_option(
    "COMPONENT.OPTION=VALUE",
    "Set an option for every method that has the component; may be repeated.",
)
@click.option(
    "--reference",
    metavar="METHOD",
    help="What the others are compared with [default: the first method].",
)
@click.option(
    "--launcher",
    type=click.Choice(["inline", "processes", "ray", "slurm"]),
    default="inline",
    show_default=True,
    help="Run one after the other here, in worker processes, on Ray, or as jobs of Slurm.",
)
@click.option(
    "--workers",
    type=int,
    help="Runs at once [default: as many as share the GPUs, or half the processors].",
)
@click.option(
    "--threads",
    type=int,
    help="Processor threads a run [default: the processors divided among the workers].",
)
@click.option(
    "--gpus-per-run",
    type=float,
    default=1.0,
    show_default=True,
    help="Share of a GPU for each run; at 0.25 four runs share one.",
)
@click.option(
    "--ray-address", help="Address of a Ray cluster [default: a local one is started and ended]."
)
@set_option(
    "OPTION=VALUE",
    "For --launcher slurm: time in minutes [240], gpus [1], cpus [4], memory in GB, or any "
    "option of sbatch such as partition or account; may be repeated.",
    "--slurm",
    "slurm",
)
@click.option(
    "--retries",
    type=int,
    default=2,
    show_default=True,
    help="How often a run whose process died is started again, from its checkpoint.",
)
@click.option(
    "--out",
    type=PATH,
    help="Bench folder [default: a name under runs/ made from what is asked].",
)
@click.option("--no-report", is_flag=True, help="Make no pages and figures.")
@runtime_options
def bench(
    file: Path | None,
    plugins: tuple[str, ...],
    protocols: tuple[str, ...],
    recipe: str | None,
    trials: str | None,
    seeds: str | None,
    epochs: int | None,
    assignments: tuple[str, ...],
    reference: str | None,
    launcher: str,
    workers: int | None,
    threads: int | None,
    gpus_per_run: float,
    ray_address: str | None,
    slurm: tuple[str, ...],
    out: Path | None,
    no_report: bool,
    quiet: bool,
    **execution_options: Any,
) -> int:
    """Run methods over protocols, trials and seeds, and compare them.

    \b
        openset bench --protocol mnist --plugins "softmax,vgg13" "m2iosr,vgg13" --seeds 3
        openset bench table.toml --launcher processes --workers 4
        openset bench runs/bench-mnist-1a2b3c

    BENCH is a bench TOML, or a bench folder to go on with. A bench folder holds bench.toml, which
    repeats the bench, an ordinary run folder for each run below runs/, and the results as a page
    for a browser, with its figures as PNG and SVG, and as Markdown, CSV, LaTeX and JSON.
    Everything is resolved before the first run starts. Finished runs are not repeated, interrupted
    ones go on from their checkpoints, and a run that fails is listed and does not stop the others;
    the exit status is then 1.

    The tables are those of `openset compare`: means and deviations over trials (each the mean of
    its seeds), published figures beside ours by the same evaluation rule, intervals, the paired
    difference of each method to the reference with an interval and a p-value by Holm's
    correction, and average ranks.

    \b
    A bench TOML:
        protocols = ["mnist"]
        trials = "all"                # or [0, 2]
        seeds = 3                     # or [0, 1, 2]
        reference = "softmax,vgg13"
        [set.training]                # for every method
        epochs = 20
        [[methods]]
        plugins = "softmax,vgg13,msp,openmax"
        [[methods]]
        name = "without information"  # what the tables call it
        plugins = "m2iosr,vgg13"
        recipe = "strong"             # or above, for every method
        [methods.set.m2iosr]          # for this method
        gamma = 0.0
    """
    from openset_core.benching.plan import make_plan
    from openset_core.benching.runner import make_execution, read_request, run_bench
    from openset_core.cli.bench_display import display
    from openset_core.errors import ConfigError
    from openset_core.experiment import config
    from openset_core.experiment.experiment import with_epochs
    from openset_core.pipeline import execute
    from openset_core.report.bench_page import write_bench_page

    if file is not None and not file.is_dir() and file.suffix != ".toml":
        raise ConfigError(
            f"{str(file)!r} is neither a bench TOML nor a bench folder; methods follow --plugins"
        )
    changes = {
        "methods": [{"plugins": method} for method in plugins] or None,
        "protocols": list(protocols) or None,
        "recipe": recipe,
        "trials": _trials(trials),
        "seeds": _seeds(seeds),
        "reference": reference,
    }
    overrides = with_epochs(config.parse_assignments(assignments), epochs)
    folder, request = read_request(file, changes, overrides)
    if folder is not None and out not in (None, folder):
        raise ConfigError(f"{folder} is the bench folder already; leave out --out")
    plan = make_plan(request)
    place = folder or out or plan.default_folder()
    with interruptible(lambda: place, "openset bench") as should_stop:
        execution = make_execution(
            launcher,
            execute=execute,
            resources={
                "workers": workers,
                "threads": threads,
                "gpus_per_run": gpus_per_run,
                "ray_address": ray_address,
                "slurm": _slurm(slurm),
            },
            report=not no_report,
            make_page=None if no_report else write_bench_page,
            announce=lambda status: None if quiet else _announce(plan, status, place, launcher),
            display=lambda status, slots: display(status, slots, quiet),
            should_stop=should_stop,
            **execution_options,
        )
        finished = run_bench(plan, place, execution)
    _print(finished, plan)
    return 1 if finished.failed else 0


def _slurm(assignments: tuple[str, ...]) -> dict[str, str]:
    from openset_core.errors import ConfigError

    options = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not name or not equals:
            raise ConfigError(f"--slurm {assignment!r} is not OPTION=VALUE, such as partition=gpu")
        options[name] = value
    return options


def _numbers(text: str, option: str, form: str) -> list[int]:
    from openset_core.errors import ConfigError

    try:
        return [int(number) for number in text.split(",") if number.strip()]
    except ValueError:
        raise ConfigError(f"{option} {text!r} is not {form}") from None


def _trials(text: str | None) -> str | list[int] | None:
    if text is None or text.strip() == "all":
        return text and "all"
    return _numbers(text, "--trials", '"all", nor numbers like 0,2,4')


def _seeds(text: str | None) -> int | list[int] | None:
    if text is None:
        return None
    numbers = _numbers(text, "--seeds", "a number of seeds, nor seeds like 0,5")
    return numbers[0] if len(numbers) == 1 and "," not in text else numbers


def _announce(plan: Plan, status: BenchStatus, folder: Path, launcher: str) -> None:
    from openset_core.benching.status import DONE
    from openset_core.results.tables import many

    done = len(status.in_state(DONE))
    click.echo(
        f"{', '.join(plan.extent())}: {many(len(plan.runs), 'run')}"
        + (f", {done} of them done" if done else "")
        + f"; launcher {launcher}; folder {folder}",
        err=True,
    )


def _print(finished: Bench, plan: Plan) -> None:
    if finished.comparison is not None:
        click.echo(finished.table(terminal_width()))
    done = len(plan.runs) - len(finished.failed)
    click.echo(f"\n{done} of {len(plan.runs)} runs done, {len(finished.failed)} failed")
    for run in finished.failed:
        click.echo(f"  failed: {run.title}: {run.reason}")
    if finished.failed:
        click.echo(f"try these again: openset bench {finished.folder}")
    click.echo(f"\nwritten to {finished.folder}:")
    for name, what in (
        ("report.html", "all of it on one page, for a browser"),
        ("figures/", "the page's figures as PNG and SVG"),
        ("results.md", "these tables as Markdown"),
        ("results.tex", "as LaTeX with booktabs"),
        ("results.csv", "means, deviations, intervals, published figures"),
        ("differences.csv", "paired differences"),
        ("runs.csv", "every metric of every run"),
        ("results.json", "all of it"),
        ("runs/", "a run folder for each run"),
        ("logs/", "what processes printed, and tracebacks"),
        ("bench.toml", "everything needed to repeat the bench"),
    ):
        if (finished.folder / name).exists():
            click.echo(f"  {name:<16} {what}")
