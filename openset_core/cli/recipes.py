"""`openset recipes`: how any method can be trained."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from openset_core.experiment.recipe import RecipeLayer


@click.group(invoke_without_command=True)
@click.pass_context
def recipes(context: click.Context) -> None:
    """List the training recipes for `openset run --recipe NAME`; `show NAME` prints one.

    A recipe is laid over a protocol: its values are stronger than the protocol's and the method's
    own, and weaker than --epochs and --set.
    """
    if context.invoked_subcommand is not None:
        return
    from openset_core.errors import OpensetError
    from openset_core.experiment.recipe import load_recipe
    from openset_core.registry import registry

    names = [component.name for component in registry().of_kind("recipe")]
    width = max(map(len, names), default=0)
    for name in names:
        try:
            content = load_recipe(name).content
        except OpensetError as error:
            click.echo(f"  {name:<{width}}  broken: {error}")
            continue
        click.echo(f"  {name:<{width}}  {content.summary}")
        tuned = dict.fromkeys([*content.datasets, *content.protocols])
        if tuned:
            click.echo(f"  {'':<{width}}  tuned for: {', '.join(tuned)}")


@recipes.command()
@click.argument("name")
@click.option("--protocol", help="Show what it comes to under this protocol, by name or path.")
@click.option(
    "--plugins", "-p", default="", help="... with these components [default: the protocol's own]."
)
@click.option("--toml", is_flag=True, help="The file itself, as a pattern for one of your own.")
def show(name: str, protocol: str | None, plugins: str, toml: bool) -> None:
    """Print a recipe, or what it comes to in an experiment; NAME may be a path."""
    from openset_core.experiment import config
    from openset_core.experiment.experiment import resolve
    from openset_core.experiment.recipe import load_recipe

    recipe = load_recipe(name)
    content = recipe.content
    if toml:
        click.echo(recipe.path.read_text(encoding="utf-8").rstrip())
        return
    click.echo(f"{recipe.name}: {content.summary}")
    for title, words in (
        ("source", content.source),
        ("file", str(recipe.path)),
        ("scorers", ", ".join(content.scorers)),
    ):
        if words:
            click.echo(f"  {title:<9} {words}")
    if protocol is not None or plugins:
        experiment = resolve(plugins, protocol, recipe=name)
        components = ", ".join(experiment.selection.names)
        click.echo(f"\nunder protocol {experiment.protocol.name}, with {components}:")
        _print("images", config.unstructure(experiment.protocol.content.image))
        _print("training", config.unstructure(experiment.training))
        return
    _print_layer("", content)
    for dataset, layer in content.datasets.items():
        _print_layer(f"known classes of {dataset}: ", layer)
    for other, layer in content.protocols.items():
        _print_layer(f"protocol {other}: ", layer)


def _print_layer(title: str, layer: RecipeLayer) -> None:
    from openset_core.cli.describe_protocol import published_table
    from openset_core.results.tables import text

    _print(f"{title}images", layer.image)
    _print(f"{title}training", layer.training)
    for names, options in layer.recipes.items():
        _print(f"{title}training with {names}", options)
    for name, options in layer.options.items():
        _print(f"{title}options of {name}", options)
    if layer.published:
        click.echo(f"  {title}results with it:")
        click.echo(textwrap.indent(text([published_table(layer.published)]), "    "))


def _print(title: str, values: dict[str, Any]) -> None:
    from openset_core.cli.describe_protocol import assignments, wrapped

    if values:
        click.echo(f"  {title}:")
        click.echo("\n".join(wrapped(assignments(values), "    ")))
