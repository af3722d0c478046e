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


def own_images_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that describe images of one's own; `image_folder_config` takes their values."""
    for decorate in reversed(
        [
            click.option(
                "--data",
                type=click.Path(path_type=Path),
                help="Instead of a protocol, a folder of your own images with a folder for each "
                "class.",
            ),
            click.option(
                "--known",
                multiple=True,
                metavar="CLASSES",
                help="For --data, the known classes, separated by commas; the others, and a folder "
                "unknown, are the unknown test images [default: all but unknown].",
            ),
            click.option(
                "--image-size",
                type=int,
                help="For --data, height and width that the network sees [default: what suits "
                "backbone or images].",
            ),
            click.option(
                "--fit",
                type=click.Choice(["crop", "stretch"]),
                help="For --data, how images become square [default: crop].",
            ),
            click.option(
                "--test",
                type=float,
                help="For --data, share of each known class for testing [default: 0.2].",
            ),
            click.option(
                "--validation",
                type=float,
                help="For --data, share of each known class held out to set the threshold "
                "[default: 0.15].",
            ),
            click.option(
                "--split-seed", type=int, help="For --data, seed of that split [default: 0]."
            ),
        ]
    ):
        command = decorate(command)
    return command


def image_folder_config(
    protocol: str | None, known: tuple[str, ...], **chosen: Any
) -> ImageFolderConfig | None:
    """What the options say; None without --data.

    Raises:
        ConfigError: they contradict each other.
    """
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
    """Set up the run, with a progress bar, and print what a user should know of the images.

    Args:
        images: what the user says about them.
        resolve: makes an experiment of their protocol.
        out: the run folder, or None for one below `runs`.
        runs: where run folders lie.
        should_stop: called before each image; raises to stop.
        quiet: whether to print nothing.

    Returns:
        The experiment and its run folder.
    """
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
