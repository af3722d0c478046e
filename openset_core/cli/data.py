"""`openset data`: what data sets there are, whether they are whole, and making them fast."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from openset_core.cli.common import bar, option_values

if TYPE_CHECKING:
    from openset_core.data.checking import SplitReport

root_option = click.option(
    "--data-root",
    type=click.Path(path_type=Path),
    help="Folder of data sets [default: $OPENSET_DATA, else ./data].",
)
set_option = click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="OPTION=VALUE",
    help="An option of the data set, such as domain=clipart; may be repeated.",
)
split_option = click.option(
    "--part",
    "splits",
    multiple=True,
    metavar="SPLIT",
    help="Only this split, such as test; may be repeated [default: all splits].",
)
download_option = click.option("--download", is_flag=True, help="Fetch what is missing.")
quiet_option = click.option("--quiet", "-q", is_flag=True, help="Show no progress.")


@click.group(invoke_without_command=True)
@root_option
@click.pass_context
def data(context: click.Context, data_root: Path | None) -> None:
    """List the data sets: which are there, and how to get the others.

    `openset data check NAME` reads every image of one and names what is wrong;
    `openset data prepare NAME` converts one that does not fit in memory.
    """
    if context.invoked_subcommand is not None:
        return
    from openset_core.data.datasets import missing_files
    from openset_core.data.images import data_root as folder_of_sets
    from openset_core.registry import registry

    root = folder_of_sets(data_root)
    click.echo(f"data sets below {root} (--data-root, else $OPENSET_DATA, else ./data)\n")
    specs = [dataset.spec for dataset in registry().of_kind("dataset")]
    width = max((len(spec.name) for spec in specs), default=0)
    # A path stays in one piece, to be copied.
    wrapper = textwrap.TextWrapper(110, break_long_words=False, break_on_hyphens=False)
    wrapper.initial_indent = wrapper.subsequent_indent = " " * (width + 12)
    for spec in specs:
        files = {split: missing_files(spec.name, root, split=split) for split in spec.parts}
        missing = {split: patterns for split, patterns in files.items() if patterns}
        state = "missing" if len(missing) == len(files) else "partly" if missing else "present"
        state = state if spec.files else "built in"
        count = len(spec.classes) or spec.class_count
        facts = ", ".join(spec.parts) + (f"; {_classes(count)}" if count else "")
        click.echo(f"{spec.name:<{width}}  {state:<8}  {spec.summary} ({facts})")
        for line in wrapper.wrap(_where(spec, missing, root)):
            click.echo(line)
    prepared = sorted(path.name for path in (root / "prepared").glob("[!.]*") if path.is_dir())
    if prepared:
        click.echo(f"\nprepared for streaming: {', '.join(prepared)}")
    unfinished = sorted(map(str, (root / "prepared").glob(".*.partial")))
    if unfinished:
        click.echo(f"\nbeing prepared, or left by an interrupted run: {', '.join(unfinished)}")


def _classes(count: int) -> str:
    return f"{count} class{'es' if count > 1 else ''}"


def _where(spec: Any, missing: dict[str, list[Path]], root: Path) -> str:
    """Where a set lies, or where it was looked for and how to get it."""
    if not missing:
        patterns = [pattern for pattern in spec.files_of() if "{" not in pattern]
        places = {Path(pattern).parts[0] for pattern in patterns}
        return "in " + ", ".join(str(root / place) for place in sorted(places)) if places else ""
    there = [split for split in spec.parts if split not in missing]
    text = f"split {' and '.join(there)} is there; " if there else ""
    files = dict.fromkeys(str(file) for patterns in missing.values() for file in patterns)
    text += f"looked for {', '.join(files)}"
    if spec.downloadable:
        text += "; --download fetches it"
    return text + (f"; {spec.obtain}" if spec.obtain else "")


@data.command()
@click.argument("name")
@split_option
@set_option
@click.option("--duplicates", is_flag=True, help="Look for images that occur twice, too.")
@root_option
@download_option
@quiet_option
def check(
    name: str,
    splits: tuple[str, ...],
    assignments: tuple[str, ...],
    duplicates: bool,
    data_root: Path | None,
    download: bool,
    quiet: bool,
) -> None:
    """Read every image of the data set NAME and report what is there.

    Counts of images and classes, sizes, range of the pixels, images of each class; unreadable
    files by name. Exit status 2 when something is wrong.
    """
    from openset_core.data import images
    from openset_core.data.checking import check_split
    from openset_core.errors import AbsentSplitError, DataError
    from openset_core.registry import registry

    root = images.data_root(data_root)
    options = option_values("--set", assignments)
    wrong, absent, checked = list[str](), list[str](), 0
    for split in splits or registry().find(name, ("dataset",)).spec.parts:
        show = bar(quiet, f"{name} {split}")
        try:
            report = check_split(
                name, split, root, options, duplicates=duplicates, download=download, progress=show
            )
        except AbsentSplitError as error:
            absent.append(str(error))
            continue
        except DataError as error:
            click.echo(f"{split}: cannot be used: {error}")
            wrong.append(str(error))
            continue
        checked += 1
        _print_report(report)
        wrong += [f"split {split}: {problem}" for problem in report.problems]
    if not (checked or wrong) or splits:  # a set laid out in one way lacks the splits of another
        wrong += absent
    if wrong:
        more = f" (and {len(wrong) - 1} more, see above)" if len(wrong) > 1 else ""
        about = "" if wrong[0].startswith("data set ") else f"data set {name} is not in order: "
        raise DataError(f"{about}{wrong[0]}{more}")
    click.echo(f"data set {name} is in order")


def _print_report(report: SplitReport) -> None:
    classes = len(report.per_class)
    least, most = min(report.per_class.values()), max(report.per_class.values())
    spread = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    low_height, low_width, high_height, high_width = report.sizes
    size = f"{low_height}x{low_width}"
    if (low_height, low_width) != (high_height, high_width):
        size += f" to {high_height}x{high_width}"
    colours = " and ".join({1: "grey", 3: "colour"}[number] for number in report.channels)
    click.echo(
        f"{report.split}: {report.images:,} images, {_classes(classes)}, {spread} images a class\n"
        f"  pixels: {size}, {colours or 'none'}, values {report.values[0]} to {report.values[1]}"
    )
    if least != most and classes <= 20:
        counts = ", ".join(f"{name}: {count:,}" for name, count in report.per_class.items())
        click.echo(f"  by class: {counts}")
    if report.duplicates == 0:
        click.echo("  no image occurs twice")
    for problem in report.problems:
        click.echo(f"  WRONG {problem}")


@data.command()
@click.argument("name")
@click.option(
    "--size",
    type=click.IntRange(min=1),
    help="Side length in pixels [default: as the protocols read the set, else 224].",
)
@split_option
@set_option
@click.option(
    "--interpolation",
    type=click.Choice(["nearest", "bilinear", "bicubic"]),
    help="How images are resized [default: as the protocols do, else bilinear].",
)
@click.option(
    "--fit",
    type=click.Choice(["crop", "stretch"]),
    help="How images become square [default: as the protocols do, else crop].",
)
@click.option("--skip-unreadable", is_flag=True, help="Leave out files that cannot be read.")
@click.option("--rebuild", is_flag=True, help="Write it again even if it is there and current.")
@root_option
@download_option
@quiet_option
def prepare(
    name: str,
    size: int | None,
    splits: tuple[str, ...],
    assignments: tuple[str, ...],
    interpolation: str | None,
    fit: str | None,
    skip_unreadable: bool,
    rebuild: bool,
    data_root: Path | None,
    download: bool,
    quiet: bool,
) -> None:
    """Convert the data set NAME once, so that training streams it instead of holding it in memory.

    Images are resized and written as plain pixels to <data root>/prepared/. Every protocol with
    that image size then uses them; without --size it is the one that the installed protocols read
    the set in.
    """
    from openset_core.data import images
    from openset_core.data.cache import SplitSource, sized
    from openset_core.data.conversion import prepare as convert
    from openset_core.data.image_format import choose_format
    from openset_core.errors import AbsentSplitError
    from openset_core.registry import registry

    root = images.data_root(data_root)
    options = option_values("--set", assignments)
    chosen = splits or registry().find(name, ("dataset",)).spec.parts
    image_format = choose_format(name, size=size, interpolation=interpolation, fit=fit)
    converted, absent = 0, None
    for split in chosen:
        source = SplitSource(
            dataset=name, split=split, root=root, format=image_format, options=options
        )
        show = bar(quiet, f"{name} {split}")
        try:
            done, written = convert(source, skip_unreadable, rebuild, download, show)
        except AbsentSplitError as error:
            absent = error
            continue
        converted += 1
        state = "written" if written else "is there already, and current"
        click.echo(f"{done.folder}: {len(done):,} images, {sized(done.pixels.nbytes)}, {state}")
        for sentence in done.meta.skipped:
            click.echo(f"  left out: {sentence}")
    if absent and (splits or not converted):
        raise absent
