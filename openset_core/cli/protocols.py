"""`openset protocols`: what a method can be judged by."""

from __future__ import annotations

import click


@click.group(invoke_without_command=True)
@click.pass_context
def protocols(context: click.Context) -> None:
    """List the installed protocols; `openset protocols show NAME` prints one."""
    if context.invoked_subcommand is not None:
        return
    from openset_core.errors import OpensetError
    from openset_core.plugins import registry
    from openset_core.protocols import load_protocol

    for part in registry().of_kind("protocol"):
        try:
            protocol = load_protocol(part.name)
        except OpensetError as error:
            click.echo(f"  {part.name:<12} broken: {error}")
            continue
        content = protocol.content
        sets = sorted({content.known.dataset, *(u.dataset for u in content.unknown.values())})
        click.echo(
            f"  {part.name:<12} {content.summary} ({protocol.trials} trials; data: "
            f"{', '.join(sets)})"
        )


@protocols.command()
@click.argument("name")
def show(name: str) -> None:
    """Print a protocol's file; NAME may be a path."""
    from openset_core.protocols import load_protocol

    protocol = load_protocol(name)
    click.echo(f"# {protocol.path.name}")
    click.echo(protocol.path.read_text(encoding="utf-8").rstrip())
