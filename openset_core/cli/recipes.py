"""`openset recipes`: how any method can be trained."""

from __future__ import annotations

from typing import Any

import click


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

    parts = registry().of_kind("recipe")
    width = max((len(part.name) for part in parts), default=0)
    for part in parts:
        try:
            content = load_recipe(part.name).content
        except OpensetError as error:
            click.echo(f"  {part.name:<{width}}  broken: {error}")
            continue
        click.echo(f"  {part.name:<{width}}  {content.summary}")
        tuned = dict.fromkeys([*content.datasets, *content.protocols])
        if tuned:
            click.echo(f"  {'':<{width}}  tuned for: {', '.join(tuned)}")


@recipes.command()
@click.argument("name")
@click.option("--protocol", help="Show what it comes to under this protocol, by name or path.")
@click.option(
    "--plugins", "-p", default="", help="... with these parts [default: the protocol's own]."
)
@click.option("--toml", is_flag=True, help="The file itself, as a pattern for one of your own.")
def show(name: str, protocol: str | None, plugins: str, toml: bool) -> None:
    """Print a recipe, or what it comes to in an experiment; NAME may be a path."""
    from openset_core.cli.describe_protocol import published_table
    from openset_core.experiment.recipe import RecipeLayer, load_recipe

    recipe = load_recipe(name)
    content = recipe.content
    if toml:
        click.echo(recipe.path.read_text(encoding="utf-8").rstrip())
        return
    click.echo(f"{recipe.name}: {content.summary}")
    for title, text in (
        ("source", content.source),
        ("file", str(recipe.path)),
        ("scorers", ", ".join(content.scorers)),
    ):
        if text:
            click.echo(f"  {title:<9} {text}")
    if protocol is not None or plugins:
        _show_resolved(name, protocol, plugins)
        return

    def layer(title: str, values: RecipeLayer) -> None:
        for what, options in (("images", values.image), ("training", values.training)):
            _print(f"{title}{what}", options)
        for parts, options in values.recipes.items():
            _print(f"{title}training with {parts}", options)
        for part, options in values.options.items():
            _print(f"{title}options of {part}", options)
        if values.published:
            click.echo(f"  {title}results with it:")
            for line in published_table(values.published):
                click.echo(f"    {line}")

    layer("", content)
    for dataset, values in content.datasets.items():
        layer(f"known classes of {dataset}: ", values)
    for other, values in content.protocols.items():
        layer(f"protocol {other}: ", values)


def _show_resolved(name: str, protocol: str | None, plugins: str) -> None:
    from openset_core.experiment import config
    from openset_core.experiment.experiment import resolve

    experiment = resolve(plugins, protocol, recipe=name)
    click.echo(
        f"\nunder protocol {experiment.protocol.name}, with "
        f"{', '.join(experiment.selection.names)}:"
    )
    _print("images", config.unstructure(experiment.protocol.content.image))
    _print("training", config.unstructure(experiment.training))


def _print(title: str, values: dict[str, Any]) -> None:
    if not values:
        return
    from openset_core.cli.describe_protocol import assignments

    click.echo(f"  {title}:")
    for line in assignments(values, "    "):
        click.echo(line)
