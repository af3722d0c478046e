"""`openset plugins`: what is installed, and what each part offers."""

from __future__ import annotations

import textwrap
from typing import Any

import click

KINDS = (
    ("loss", "representation losses"),
    ("backbone", "backbones"),
    ("scorer", "unknown scorers"),
    ("generator", "sample generators"),
    ("dataset", "data sets"),
    ("protocol", "protocols"),
    ("observer", "observers"),
)


@click.group(invoke_without_command=True)
@click.pass_context
def plugins(context: click.Context) -> None:
    """List every installed part; `openset plugins show NAME` tells more."""
    if context.invoked_subcommand is not None:
        return
    from openset_core.plugins import registry

    found = registry()
    width = max((len(part.name) for part in found.parts), default=0)
    for kind, title in KINDS:
        parts = found.of_kind(kind)
        if not parts:
            continue
        click.echo(f"{title}:")
        for part in parts:
            summary = _protocol_summary(part) if kind == "protocol" else part.spec.summary
            origin = f"{part.distribution} {part.version}"
            click.echo(f"  {part.name:<{width}}  {summary}  [{origin}]")
    if found.broken:
        click.echo("failed to load:")
        for broken in found.broken:
            click.echo(f"  {broken}")


def _protocol_summary(part: Any) -> str:
    """The summary alone: checking a whole protocol would slow the list down."""
    from openset_core import config
    from openset_core.errors import ProtocolError

    try:
        values = config.read_toml(part.spec.path, "protocol", ProtocolError)
    except ProtocolError as error:
        return f"(broken: {error})"
    return str(values.get("summary", ""))


@plugins.command()
@click.argument("name")
def show(name: str) -> None:
    """Print a part's options, reference, needs and origin."""
    from openset_core import config
    from openset_core.plugins import PART_KINDS, registry

    part = registry().find(name, (*PART_KINDS, "dataset"))
    spec = part.spec
    click.echo(f"{part.kind} {part.name}: {spec.summary}")
    click.echo(f"from {part.distribution} {part.version}, hook API {spec.api}")
    for label, value in (
        ("reference", spec.reference),
        ("needs", ", ".join(spec.needs)),
        ("provides", ", ".join(spec.provides)),
        ("default scorers", ", ".join(getattr(spec, "default_scorers", ()))),
        ("default backbone", getattr(spec, "default_backbone", None)),
        ("recipe", _assignments(getattr(spec, "recipe", {}))),
    ):
        if value:
            click.echo(textwrap.fill(f"{label}: {value}", 98, subsequent_indent="  "))
    options = config.describe(spec.config)
    if not options:
        click.echo("no options")
        return
    click.echo(f"\noptions, set with --set {part.name}.OPTION=VALUE:")
    for option in options:
        kind = " | ".join(map(str, option.choices)) if option.choices else option.type
        default = "nothing" if option.default is None else _toml(option.default)
        click.echo(f"  {option.name} ({kind}; default {default})")
        text = option.help + (f" [{option.equation}]" if option.equation else "")
        indent = " " * 6
        click.echo(textwrap.fill(text, 98, initial_indent=indent, subsequent_indent=indent))


def _toml(value: Any) -> str:
    """A default as the user would write it after --set."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return str(value)


def _assignments(recipe: Any) -> str:
    return ", ".join(f"{key}={_toml(value)}" for key, value in recipe.items())
