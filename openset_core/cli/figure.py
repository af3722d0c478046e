"""`openset figure`: figures from the recorded data of runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from openset_core.cli.common import PATH, data_root_option, set_option

if TYPE_CHECKING:
    from openset_core.specs import FigureSpec


@click.command()
@click.argument("name", required=False)
@click.argument("runs", nargs=-1, type=PATH)
@click.option(
    "--output",
    "-o",
    type=PATH,
    help="Path of the files without suffix, or with one for that kind alone "
    "[default: figures/NAME].",
)
@click.option(
    "--format",
    "formats",
    default="png,svg,pdf,csv,html",
    show_default=True,
    help="Kinds of file, separated by commas; md and tex are tables of the numbers.",
)
@set_option(
    "OPTION=VALUE",
    "Set an option of the figure, for example samples=500; `openset plugins show figure:NAME` "
    "lists them.",
)
@click.option("--protocol", help="Make the figure for this protocol: name, or path of a TOML file.")
@set_option(
    "COMPONENT.OPTION=VALUE",
    "A further --set of the commands that make the runs, for example training.epochs=5.",
    "--runs-set",
    "settings",
)
@click.option(
    "--root",
    type=PATH,
    default=Path("runs"),
    show_default=True,
    help="Folder in which runs are looked for when none are named.",
)
@click.option("--commands", is_flag=True, help="Print the commands that make the runs, no figure.")
@data_root_option(", for figures that show images not yet kept in the run")
def figure(
    name: str | None,
    runs: tuple[Path, ...],
    output: Path | None,
    formats: str,
    assignments: tuple[str, ...],
    protocol: str | None,
    settings: tuple[str, ...],
    root: Path,
    commands: bool,
    data_root: Path | None,
) -> None:
    """Draw a figure from the recorded data of RUNS; without a NAME, list all figures.

    RUNS are run folders, or folders that hold some, of which those are taken that the figure asks
    for if there are any. Without RUNS, the folders that the figure's own commands make are taken;
    for a run that is not there its command is printed. Nothing is trained.
    """
    from openset_core.experiment import config
    from openset_core.registry import registry
    from openset_core.report.figures.making import make_figure
    from openset_core.report.figures.runs import required_runs

    if name is None:
        _list(root, protocol, settings)
        return
    spec: FigureSpec = registry().find(name, ("figure",)).spec
    if commands:
        for run in required_runs(spec, protocol, settings):
            click.echo(run.command)
        return
    stem, kinds = _target(spec, output, formats)
    result = make_figure(
        spec,
        runs,
        options=config.parse_assignments(f"figure.{text}" for text in assignments).get("figure"),
        protocol=protocol,
        settings=settings,
        stem=stem,
        formats=kinds,
        root=root,
        data_root=data_root,
    )
    for note in result.notes:
        click.echo(f"note: {note}", err=True)
    if result.runs.left_out:
        click.echo(f"note: {result.runs.left_out} other runs there are left out", err=True)
    if result.runs.unfinished:
        first, *others = result.runs.unfinished
        more = f" and {len(others)} more" if others else ""
        click.echo(f"note: not finished and left out: {first}{more}", err=True)
    for run in result.missing:
        click.echo(f"not shown: {run.required.label}; {run.command}", err=True)
    for path in result.files:
        click.echo(path)


def _target(spec: FigureSpec, output: Path | None, formats: str) -> tuple[Path, tuple[str, ...]]:
    """Path without suffix, and kinds of file."""
    from openset_core.experiment.selection import split_names
    from openset_core.report.figures.making import FORMATS, check_formats

    suffix = output.suffix.removeprefix(".") if output is not None else ""
    if output is not None and suffix in FORMATS:
        return output.with_suffix(""), (suffix,)
    stem = Path("figures", spec.name) if output is None else output
    return stem / spec.name if stem.is_dir() else stem, check_formats(split_names(formats))


def _list(root: Path, protocol: str | None, settings: tuple[str, ...]) -> None:
    from openset_core.files import natural_order
    from openset_core.registry import registry
    from openset_core.report.figures.runs import is_made, required_runs

    figures = sorted(registry().of_kind("figure"), key=lambda figure: natural_order(figure.name))
    if not figures:
        click.echo("no plugin offers a figure")
    for component in figures:
        spec: FigureSpec = component.spec
        click.echo(f"{spec.name}: {spec.summary}")
        if spec.reference:
            click.echo(f"  {spec.reference}")
        if not spec.runs:
            click.echo("  any runs")
        for run in required_runs(spec, protocol, settings):
            mark = "there   " if is_made(run, root) else "missing "
            click.echo(f"  {mark} {run.command}")
    click.echo(f"\nRuns are looked for in {root}/; `openset figure NAME RUN...` takes any others.")
