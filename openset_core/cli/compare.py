"""`openset compare`: methods over protocols, from finished runs."""

from __future__ import annotations

from pathlib import Path

import click

from openset_core.cli.common import terminal_width

CONFIDENCE = 0.95
BY_SUFFIX = {
    ".txt": "text",
    ".md": "markdown",
    ".html": "html",
    ".htm": "html",
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
    default=CONFIDENCE,
    show_default=True,
    help="Level of intervals; tests use one minus it.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(list(dict.fromkeys(BY_SUFFIX.values()))),
    help="How to write it [default: by the name of --output, else text].",
)
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), help="Write to a file, not to the terminal."
)
@click.option(
    "--figures",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Also write the page's figures there, as PNG, SVG and PDF.",
)
def compare(
    folders: tuple[Path, ...],
    metrics: str,
    reference: str | None,
    confidence: float,
    format_: str | None,
    output: Path | None,
    figures: Path | None,
) -> None:
    """Compare methods over protocols, trials and seeds.

    RUNS_OR_BENCH are run folders, benches, or folders that contain either. Runs of the same
    components, options and recipe are one method; they differ in trial and seed.

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
    its seeds. html is a page for a browser that shows all of it with charts and loads nothing; csv
    is a line for each method and metric in full precision; json holds all.
    """
    import shlex

    from openset_core.errors import ConfigError
    from openset_core.experiment.selection import split_names
    from openset_core.files import write_text
    from openset_core.results.comparison import compare as compare_runs

    if not folders:
        raise ConfigError("name folders of runs or benches to compare, for example: runs/")
    chosen = format_ or (BY_SUFFIX.get(output.suffix.lower()) if output else "text")
    if chosen is None:
        raise ConfigError(
            f"--output {output} does not tell the format; name one with --format, or end the name "
            f"in {', '.join(BY_SUFFIX)}"
        )
    compared = compare_runs(
        *folders, metrics=split_names(metrics), reference=reference, confidence=confidence
    )
    if chosen == "text":
        content = compared.table(None if output else terminal_width())
    elif chosen == "html":
        from openset_core.report.comparison_page import Origin, comparison_html

        words = ["openset", "compare", *map(str, folders)]
        words += ["--metrics", metrics] if metrics else []
        words += ["--reference", reference] if reference else []
        words += ["--confidence", f"{confidence:g}"] if confidence != CONFIDENCE else []
        words += ["--output", str(output)] if output else ["--format", "html"]
        origin = Origin(command=shlex.join(words), folder=output.parent if output else None)
        content = comparison_html(compared, origin)
    else:
        content = getattr(compared, chosen)()
    content = content.rstrip("\n")
    if output:
        write_text(output, content + "\n")
        click.echo(f"written to {output}")
    else:
        click.echo(content)
    if figures:
        from openset_core.report.comparison_page import write_comparison_figures

        files = write_comparison_figures(compared, figures)
        click.echo(f"written to {figures}: {len(files)} files of figures", err=output is None)
