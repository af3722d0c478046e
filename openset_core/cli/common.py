"""What several commands share: options, the interrupt handler, printing."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import click

from openset_core.errors import ConfigError, Interrupted

PATH = click.Path(path_type=Path)


def data_root_option(purpose: str = "") -> Callable[..., Any]:
    return click.option(
        "--data-root",
        type=PATH,
        help=f"Folder of data sets{purpose} [default: $OPENSET_DATA, else ./data].",
    )


def set_option(
    metavar: str, help: str, name: str = "--set", argument: str = "assignments"
) -> Callable[..., Any]:
    """An option that may be repeated, for `config.parse_assignments`."""
    return click.option(name, argument, multiple=True, metavar=metavar, help=help)


def runtime_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options on where and how to compute."""
    for decorate in reversed(
        [
            data_root_option(),
            click.option("--download", is_flag=True, help="Fetch data sets that are missing."),
            click.option(
                "--device",
                type=click.Choice(["auto", "cpu"]),
                default="auto",
                show_default=True,
                help="cpu leaves a GPU alone.",
            ),
            click.option("--quiet", "-q", is_flag=True, help="Show results only, no progress."),
        ]
    ):
        command = decorate(command)
    return command


threshold_option = click.option(
    "--threshold",
    "thresholds",
    multiple=True,
    metavar="[SCORER:]RULE",
    help="What to accept: acceptance=0.99, or 0.99 for short, a share of validation images; or "
    "score=VALUE. May be repeated for single scorers [default: the protocol's share].",
)


@contextlib.contextmanager
def interruptible(
    folder: Callable[[], Path | None], command: str = "openset run"
) -> Iterator[Callable[[], None]]:
    """Let Ctrl-C stop between two steps, so that what is being written is finished first; a second
    Ctrl-C stops at once. Yields a function that raises `Interrupted` once Ctrl-C was pressed.
    `command` with the run folder after it is what goes on."""
    pressed = False

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True
        click.echo("\nstopping after this step (Ctrl-C again stops at once)", err=True)

    def should_stop() -> None:
        if pressed:
            where = folder()
            raise Interrupted(
                f"interrupted; what was finished is kept, go on with: {command} {where}"
                if where
                else "interrupted"
            )

    previous = signal.signal(signal.SIGINT, on_signal)
    try:
        yield should_stop
    finally:
        signal.signal(signal.SIGINT, previous)


def option_values(flag: str, assignments: Iterable[str]) -> dict[str, Any]:
    """Values by option, of texts `option=value` given to a flag."""
    from openset_core.experiment.config import parse_value

    values: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not (equals and key.strip()):
            raise ConfigError(f"{flag} {assignment!r} is not of the form option=value")
        values[key.strip()] = parse_value(text.strip())
    return values


def terminal_width() -> int | None:
    """Columns of the terminal that standard output goes to; None where it goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def duration(seconds: float) -> str:
    """A length of time for a reader: `8 s`, `12 min`, `3 h 05 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"


def progress(quiet: bool) -> tuple[Any, ...]:
    """The progress display as a tuple of observers."""
    from openset_core.training.progress import Progress

    return () if quiet else (Progress(),)


FILES = {
    "report.html": "all of it on one page, for a browser",
    "figures/": "the page's figures as PNG and SVG",
    "results.json": "every metric of every scorer",
    "images/": "the images as the network sees them; images.csv says what became of each",
    "model/": "the trained model",
    "features.h5": "embeddings and logits of every sample",
    "scores.h5": "scores of every sample",
    "metrics.jsonl": "losses and validation accuracy by epoch",
    "log.csv": "the same as a table",
    "test-by-epoch.json": "test metrics by epoch; nothing is chosen by them",
    "samples.h5": "generated samples",
    "tensorboard/": "the same for `tensorboard --logdir`",
    "experiment.toml": "everything needed to repeat the run",
}
"""What a run folder may hold for a user."""


def print_files(folder: Path) -> None:
    click.echo(f"\nwritten to {folder}:")
    there = [name for name in FILES if (folder / name).exists()]
    width = max([16, *map(len, there)])
    for name in there:
        click.echo(f"  {name:<{width}} {FILES[name]}")


def bar(quiet: bool, label: str) -> Callable[[Iterable[Any], int], Iterable[Any]]:
    """A progress bar over images, on a terminal; called with them and their number."""
    from openset_core.training.progress import bar

    def wrapped(items: Iterable[Any], total: int) -> Iterable[Any]:
        with bar(label, total, "image", shown=not quiet) as advance:
            for item in items:
                yield item
                advance()

    return wrapped
