"""`openset protocols`: what a method can be judged by."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from openset_core.protocols import KnownPart, ProtocolFile, UnknownPart

NOT_INSTALLED = "no such data set"


@click.group(invoke_without_command=True)
@click.option(
    "--data-root",
    type=click.Path(path_type=Path),
    help="Folder of data sets [default: $OPENSET_DATA, else ./data].",
)
@click.pass_context
def protocols(context: click.Context, data_root: Path | None) -> None:
    """List the installed protocols; `openset protocols show NAME` prints one.

    Each with its trials, the data it needs, and which of it is missing below the data root.
    """
    if context.invoked_subcommand is not None:
        return
    from openset_core.data import images
    from openset_core.errors import OpensetError
    from openset_core.plugins import registry
    from openset_core.protocols import load_protocol

    root = images.data_root(data_root)
    parts = registry().of_kind("protocol")
    width = max((len(part.name) for part in parts), default=0)
    complete = True
    for part in parts:
        try:
            content = (protocol := load_protocol(part.name)).content
        except OpensetError as error:
            click.echo(f"  {part.name:<{width}}  broken: {error}")
            continue
        trials = f"{protocol.trials} trial{'s' if protocol.trials > 1 else ''}"
        click.echo(f"  {part.name:<{width}}  {content.summary} ({trials})")
        found = needed_data(content, root)
        complete &= all(there is True for there in found.values())
        listed = ", ".join(
            name if there is True else f"{name} ({there or 'missing'})"
            for name, there in found.items()
        )
        click.echo(f"  {'':<{width}}  data: {listed}")
    if not complete:
        click.echo(f"\nLooked for data in {root}; `openset data` says where each set comes from.")


def needed_data(content: ProtocolFile, root: Path) -> dict[str, bool | str]:
    """Data sets that a protocol needs: whether each is below `root`, or why that is unknown."""
    from openset_core.data.images import is_present
    from openset_core.errors import OpensetError

    found: dict[str, bool | str] = {}
    sets: list[KnownPart | UnknownPart] = [content.known, *content.unknown.values()]
    for part in sets:
        options = part.options or {}
        label = part.dataset + "".join(
            f" {value}" for value in options.values() if value is not True
        )
        try:
            found[label] = is_present(part.dataset, root, options)
        except OpensetError:
            found[label] = NOT_INSTALLED
    return found


@protocols.command()
@click.argument("name")
def show(name: str) -> None:
    """Print a protocol's file; NAME may be a path."""
    from openset_core.protocols import load_protocol

    protocol = load_protocol(name)
    click.echo(f"# {protocol.path.name}")
    click.echo(protocol.path.read_text(encoding="utf-8").rstrip())
