"""`openset protocols`: what a method can be judged by."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from openset_core.cli.common import data_root_option

if TYPE_CHECKING:
    from openset_core.experiment.protocol import ProtocolFile


@click.group(invoke_without_command=True)
@data_root_option()
@click.pass_context
def protocols(context: click.Context, data_root: Path | None) -> None:
    """List the installed protocols; `openset protocols show NAME` prints one.

    Each with its trials, the splits of data sets that it reads, and which of them are missing below
    the data root.
    """
    if context.invoked_subcommand is not None:
        return
    from openset_core.data import images
    from openset_core.errors import OpensetError
    from openset_core.experiment.protocol import load_protocol
    from openset_core.registry import registry

    root = images.data_root(data_root)
    names = [component.name for component in registry().of_kind("protocol")]
    width = max(map(len, names), default=0)
    complete = True
    for name in names:
        try:
            protocol = load_protocol(name)
        except OpensetError as error:
            click.echo(f"  {name:<{width}}  broken: {error}")
            continue
        trials = f"{protocol.trials} trial{'s' if protocol.trials > 1 else ''}"
        click.echo(f"  {name:<{width}}  {protocol.content.summary} ({trials})")
        there, missing = needed_data(protocol.content, root)
        complete = complete and not missing
        lines = [f"data: {', '.join(there)}"] if there else []
        lines += [f"missing: {', '.join(missing)}"] if missing else []
        click.echo(f"  {'':<{width}}  {'; '.join(lines)}")
    if not complete:
        click.echo(f"\nLooked for data in {root}; `openset data` says where each set comes from.")


def needed_data(content: ProtocolFile, root: Path) -> tuple[list[str], list[str]]:
    """The splits of data sets that a protocol reads, in words: those below `root`, prepared ones
    included, and the others."""
    from openset_core.data.cache import SplitSource, is_available
    from openset_core.data.image_format import ImageFormat
    from openset_core.errors import OpensetError
    from openset_core.experiment.protocol import needs

    try:
        wanted = needs(content)
    except (OpensetError, ValueError) as error:
        return [], [str(error)]
    there: dict[str, list[str]] = {}
    missing: dict[str, list[str]] = {}
    for need in wanted:
        source = SplitSource(
            dataset=need.dataset,
            split=need.part,
            root=root,
            format=ImageFormat.of(content.image),
            options=need.options,
        )
        values = [str(value) for value in need.options.values() if value is not True]
        label = " ".join([need.dataset, *values])
        (there if is_available(source) else missing).setdefault(label, []).append(need.part)
    return _labels(there), _labels(missing)


def _labels(datasets: dict[str, list[str]]) -> list[str]:
    return [
        name if splits == ["all"] else f"{name} ({', '.join(splits)})"
        for name, splits in datasets.items()
    ]


@protocols.command()
@click.argument("name")
@click.option("--toml", is_flag=True, help="The file itself, as a pattern for one of your own.")
@data_root_option()
def show(name: str, toml: bool, data_root: Path | None) -> None:
    """Print a protocol: data, classes, recipes and published figures; NAME may be a path."""
    from openset_core.experiment.protocol import load_protocol

    protocol = load_protocol(name)
    if toml:
        click.echo(protocol.path.read_text(encoding="utf-8").rstrip())
        return
    from openset_core.cli.describe_protocol import described
    from openset_core.data import images

    root = images.data_root(data_root)
    there, missing = needed_data(protocol.content, root)
    data = [f"below {root}: {', '.join(there)}"] if there else []
    data += [f"missing below {root}: {', '.join(missing)}"] if missing else []
    for line in described(protocol, data):
        click.echo(line)
