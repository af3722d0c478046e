"""`openset compare`: methods over protocols, from finished runs."""

from __future__ import annotations

from pathlib import Path

import click

from openset_core.cli.common import terminal_width

FORMATS = ("text", "markdown", "csv", "latex", "json")
BY_SUFFIX = {
    ".txt": "text",
    ".md": "markdown",
    ".csv": "csv",
    ".tex": "latex",
    ".json": "json",
}


@click.command()
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path), metavar="RUNS_OR_BENCH...")
@click.option(
    "--metrics",
    default="",
    metavar="NAME,...",
    help="Metrics, separated by commas [default: those of each protocol's table].",
)
@click.option(
    "--reference",
    metavar="METHOD",
    help="What the others are compared with, as a table names it [default: the first method].",
)
@click.option(
    "--confidence",
    type=float,
    default=0.95,
    show_default=True,
    help="Level of intervals; tests use one minus it.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(FORMATS),
    help="How to write it [default: by the name of --output, else text].",
)
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), help="Write to a file, not to the terminal."
)
def compare(
    folders: tuple[Path, ...],
    metrics: str,
    reference: str | None,
    confidence: float,
    format_: str | None,
    output: Path | None,
) -> None:
    """Compare methods over protocols, trials and seeds.

    RUNS_OR_BENCH are run folders, benches, or folders that contain either. Runs of the same
    parts, options and recipe are one method; what differs between them is their trials and seeds.

    \b
    Shown are
      methods by metrics with mean and deviation;
      ours beside published figures, by the evaluation rule of the figure;
      methods by protocols with mean, deviation and rank, where there are several protocols;
      intervals of the means;
      paired differences to a reference over the same trials, with intervals, and p-values by
        Holm's correction;
      average ranks over all trials with Friedman's test and Nemenyi's critical difference.

    Deviations and tests are over trials, each the mean of its seeds; with a single trial over
    its seeds. csv is a line for each method and metric in full precision; json holds all.
    """
    from openset_core import comparison
    from openset_core.compose import split_names
    from openset_core.errors import ConfigError
    from openset_core.files import write_text

    if not folders:
        raise ConfigError("name folders of runs or benches to compare, for example: runs/")
    chosen = format_ or (BY_SUFFIX.get(output.suffix.lower()) if output else "text")
    if chosen is None:
        raise ConfigError(
            f"--output {output} does not tell the format; name one with --format, or end the name "
            f"in {', '.join(BY_SUFFIX)}"
        )
    found = comparison.compare(
        *folders, metrics=split_names(metrics), reference=reference, confidence=confidence
    )
    width = None if output else terminal_width()
    content = found.table(width) if chosen == "text" else getattr(found, chosen)()
    content = content.rstrip("\n")
    if output:
        write_text(output, content + "\n")
        click.echo(f"written to {output}")
    else:
        click.echo(content)
