"""`openset plugins`: what is installed, and what each component offers."""

from __future__ import annotations

import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from openset_core.cli.common import option_values, set_option

if TYPE_CHECKING:
    from openset_core.registry import Component

KINDS = {
    "loss": "representation losses",
    "backbone": "backbones",
    "scorer": "unknown scorers",
    "generator": "sample generators",
    "dataset": "data sets",
    "protocol": "protocols",
    "recipe": "training recipes",
    "observer": "observers",
    "figure": "figures",
}


@click.group(invoke_without_command=True)
@click.pass_context
def plugins(context: click.Context) -> None:
    """List every installed component; `show` tells more, `check` tests one, `new` begins one."""
    if context.invoked_subcommand is not None:
        return
    from openset_core.registry import registry

    installed = registry()
    width = max((len(component.name) for component in installed.components), default=0)
    for kind, title in KINDS.items():
        components = installed.of_kind(kind)
        if components:
            click.echo(f"{title}:")
        for component in components:
            origin = f"{component.distribution} {component.version}"
            click.echo(f"  {component.name:<{width}}  {_summary(component)}  [{origin}]")
    if installed.broken:
        click.echo("failed to load:")
        for broken in installed.broken:
            click.echo(f"  {broken}")


def _summary(component: Component) -> str:
    """The summary line; of a TOML file only that is read, since a whole check would be slow."""
    from openset_core.errors import ProtocolError
    from openset_core.experiment import config

    if hasattr(component.spec, "summary"):
        return str(component.spec.summary)
    try:
        values = config.read_toml(component.spec.path, component.kind, ProtocolError)
    except ProtocolError as error:
        return f"(broken: {error})"
    return str(values.get("summary", ""))


@plugins.command()
@click.argument("name")
def show(name: str) -> None:
    """Print a component's options, reference, needs and origin."""
    from openset_core.experiment import config
    from openset_core.registry import COMPONENT_KINDS, registry

    component = registry().find(name, (*COMPONENT_KINDS, "dataset", "figure"))
    spec = component.spec
    figure = component.kind == "figure"
    recipe = getattr(spec, "recipe", {})
    click.echo(f"{component.kind} {component.name}: {spec.summary}")
    click.echo(f"from {component.distribution} {component.version}, hook API {spec.api}")
    for label, value in (
        ("reference", spec.reference),
        ("departs", getattr(spec, "departs", "")),
        ("needs", ", ".join(getattr(spec, "needs", ()))),
        ("provides", ", ".join(getattr(spec, "provides", ()))),
        ("default scorers", ", ".join(getattr(spec, "default_scorers", ()))),
        ("default backbone", getattr(spec, "default_backbone", None)),
        ("recipe", ", ".join(f"{key}={_toml(value)}" for key, value in recipe.items())),
    ):
        if value:
            click.echo(textwrap.fill(f"{label}: {value}", 98, subsequent_indent="  "))
    options = config.describe(spec.config)
    if not options:
        click.echo("no options")
        return
    command = f"openset figure {component.name} --set " if figure else f"--set {component.name}."
    click.echo(f"\noptions, set with {command}OPTION=VALUE:")
    for option in options:
        kind = " | ".join(map(str, option.choices)) if option.choices else option.type
        value = getattr(spec.shape, option.name) if figure else option.default
        default = "nothing" if value is None else _toml(value)
        click.echo(f"  {option.name} ({kind}; default {default})")
        text = option.help + (f" [{option.equation}]" if option.equation else "")
        indent = " " * 6
        click.echo(textwrap.fill(text, 98, initial_indent=indent, subsequent_indent=indent))


@plugins.command()
@click.argument("name")
@set_option(
    "OPTION=VALUE",
    "Check with this option instead of its default; may be repeated.",
    "--config",
)
def check(name: str, assignments: tuple[str, ...]) -> int:
    """Test whether a component keeps the contracts that other components rely on.

    Every contract is a check of its own. Exit status: 0 when all hold, 1 when one is broken, 2
    for a mistake on this command line.
    """
    from openset_core import testing
    from openset_core.testing.report import run_checks

    checks = testing.checks(name, option_values("--config", assignments))
    under_test = checks[0].component
    origin = under_test.component
    begun = time.perf_counter()
    title = f"{under_test.title} of {origin.distribution} {origin.version}"
    click.echo(f"{title}: {len(checks)} checks")
    report = run_checks(title, checks, raises=False, tell=click.echo)
    click.echo(f"{report.counts} in {time.perf_counter() - begun:.1f} s")
    return 0 if report.passed else 1


def _kinds(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...]:
    choice = click.Choice(["backbone", "loss", "scorer", "generator"])
    names = [name.strip() for value in values for name in value.split(",")]
    return tuple(choice.convert(name, parameter, context) for name in names)


@plugins.command()
@click.argument("name")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    required=True,
    callback=_kinds,
    metavar="[backbone|loss|scorer|generator]",
    help="What the plugin offers; several components by commas, or by repeating it.",
)
@click.option(
    "--into",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="Folder in which the package's folder is made [default: here].",
)
@click.option("--author", help="Your name, or 'Name <address>', for licence and metadata.")
def new(name: str, kinds: tuple[str, ...], into: Path, author: str | None) -> None:
    """Write a complete package for a plugin of your own, with working code and tests.

    NAME is what users will write after --plugins, for example my-loss.
    """
    from openset_core.scaffold import new_package

    package = new_package(name, kinds, into, author)
    folder, first = package.folder, package.components[0]
    click.echo(f"{folder}:")
    for path in package.files:
        click.echo(f"  {path}")
    click.echo(
        "\nnext:\n"
        f'  python -m pip install -e "{folder}[test]"\n'
        f"  python -m pytest {folder}\n"
        f"  openset plugins check {first.kind}:{first.name}\n"
        f"  openset run --plugins {','.join(item.name for item in package.components)}"
    )


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return str(value)
