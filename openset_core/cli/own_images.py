"""`openset run` on images of one's own: its options, and setting up the run folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from openset_core.cli.common import bar

if TYPE_CHECKING:
    from openset_core.data.image_folders.scan import ImageFolderConfig
    from openset_core.data.image_folders.setup import Resolve
    from openset_core.experiment.experiment import Experiment


def _option(name: str, text: str, **more: Any) -> Callable[..., Any]:
    return click.option(name, help=f"For --data, {text}.", **more)


_OPTIONS = (
    click.option(
        "--data",
        type=click.Path(path_type=Path),
        help="Instead of a protocol, a folder of your own images with a folder for each class.",
    ),
    _option(
        "--known",
        "the known classes, separated by commas; the others, and a folder unknown, are the unknown "
        "test images [default: all but unknown]",
        multiple=True,
        metavar="CLASSES",
    ),
    _option(
        "--image-size",
        "height and width that the network sees [default: what suits backbone or images]",
        type=int,
    ),
    _option(
        "--fit", "how images become square [default: crop]", type=click.Choice(["crop", "stretch"])
    ),
    _option("--test", "share of each known class for testing [default: 0.2]", type=float),
    _option(
        "--validation",
        "share of each known class held out to set the threshold [default: 0.15]",
        type=float,
    ),
    _option("--split-seed", "seed of that split [default: 0]", type=int),
)


def own_images_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that describe images of one's own; `image_folder_config` takes their values."""
    for decorate in reversed(_OPTIONS):
        command = decorate(command)
    return command


def image_folder_config(
    protocol: str | None, known: tuple[str, ...], **chosen: Any
) -> ImageFolderConfig | None:
    """What the options say; None without --data."""
    from openset_core.api import own_images

    names = [name for text in known for name in text.split(",")]
    return own_images(chosen.pop("data"), names, protocol, **chosen)


def set_up_images(
    images: ImageFolderConfig,
    resolve: Resolve,
    out: Path | None,
    runs: Path,
    should_stop: Callable[[], None],
    quiet: bool,
) -> tuple[Experiment, Path]:
    """Set up the run, with a progress bar, and print what a user should know of the images."""
    from openset_core.data.image_folders.setup import set_up

    show = bar(quiet, "reading")

    def reading(items: Iterable[Any], total: int) -> Iterable[Any]:
        for item in show(items, total):
            should_stop()
            yield item

    def notify(line: str) -> None:
        if not quiet:
            click.echo(line, err=True)

    return set_up(images, resolve, out, runs, progress=reading, notify=notify)


def print_next(folder: Path) -> None:
    """Print what to do with a model of one's own images."""
    click.echo(
        f"\nnext:\n  openset predict {folder} IMAGES...\n  openset export {folder} --to onnx"
    )
