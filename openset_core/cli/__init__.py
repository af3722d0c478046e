"""The command line: one module a command, imported when the command is used."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

import openset_core
from openset_core.errors import OpensetError

COMMANDS = {
    "run": "run",
    "train": "stages",
    "extract": "stages",
    "score": "stages",
    "show": "stages",
    "report": "report",
    "bench": "bench",
    "compare": "compare",
    "figure": "figure",
    "predict": "predict",
    "export": "export",
    "plugins": "plugins",
    "protocols": "protocols",
    "recipes": "recipes",
    "data": "data",
}
"""The module of each command, in the order of use."""


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports the one that is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"{__name__}.{COMMANDS[cmd_name]}")
        command: click.Command = getattr(module, cmd_name)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(openset_core.__version__, prog_name="openset")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Open-set recognition from interchangeable components.

    An experiment is a backbone, a representation loss, unknown scorers and, if wanted, a
    sample generator, judged by a protocol. Start with:

        openset run --plugins m2iosr,vgg13
    """


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the console script; exits with 2 for a user's mistake."""
    given = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in given  # allowed before and after the command
    arguments = [argument for argument in given if argument != "--debug"]
    try:
        result: Any = cli.main(arguments, prog_name="openset", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except OpensetError as error:
        if debug:
            raise
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        click.echo("error: stopped at once; what was finished before is kept", err=True)
        sys.exit(2)
    sys.exit(result if isinstance(result, int) else 0)
