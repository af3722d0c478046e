"""`openset report RUN`: the page of a run, and its figures."""

from __future__ import annotations

from pathlib import Path

import click

from openset_core.cli.common import PATH, data_root_option


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=PATH)
@click.option(
    "--scorer",
    metavar="NAME",
    help="Whose decisions the confusion matrix and the galleries show [default: the model's own].",
)
@click.option("--no-figures", is_flag=True, help="Make report.html alone, without figures/.")
@data_root_option(", for images in the galleries")
@click.option("--open", "open_", is_flag=True, help="Open the page in a browser.")
def report(
    runs: tuple[Path, ...],
    scorer: str | None,
    no_figures: bool,
    data_root: Path | None,
    open_: bool,
) -> None:
    """Make the page of a finished run: report.html, and figures/ for papers, in its folder.

    Everything is made from what the run recorded; nothing is trained or scored again. Images of
    the galleries come from the data sets the first time and are kept in the run folder.
    """
    from openset_core.report.run_page.making import make_report

    for run in runs:
        made = make_report(run, scorer=scorer, figures=not no_figures, data_root=data_root)
        for remark in made.remarks:
            click.echo(remark, err=True)
        figures = f" and {len(made.figures)} files in {run / 'figures'}" if made.figures else ""
        click.echo(f"{made.page}{figures}")
        if open_:
            import webbrowser

            webbrowser.open(made.page.resolve().as_uri())
