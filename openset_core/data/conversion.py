"""Converting an image set to its prepared form, which `openset_core.data.cache` reads."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tomli_w

from openset_core import __version__
from openset_core.data.cache import (
    ENCODING,
    FORMAT,
    PIXEL_FILE,
    Pixels,
    PreparedImages,
    PreparedMeta,
    SplitSource,
    open_prepared,
    sized,
)
from openset_core.data.folders import ImageFiles, some
from openset_core.data.images import ImageSet
from openset_core.data.prefetch import Progress, no_progress, prefetch, workers
from openset_core.errors import DataError
from openset_core.experiment import config
from openset_core.files import atomic_folder

CHUNK = 256


def prepare(
    source: SplitSource,
    skip_unreadable: bool = False,
    rebuild: bool = False,
    download: bool = False,
    progress: Progress = no_progress,
) -> tuple[PreparedImages, bool]:
    """A split of a data set in its prepared form, and whether it was written now."""
    images = source.request(download)
    if source.folder.is_dir() and not rebuild:
        with contextlib.suppress(DataError):  # one that is damaged is made again
            old = open_prepared(source.folder)
            if old.meta.source == images.fingerprint():
                return old, False
    return write_prepared(images, source, skip_unreadable, progress), True


def write_prepared(
    images: ImageSet | ImageFiles,
    source: SplitSource,
    skip_unreadable: bool = False,
    progress: Progress = no_progress,
) -> PreparedImages:
    """Write a prepared folder, each image read once; an error leaves nothing behind."""
    import PIL

    folder, size = source.folder, source.format.size
    channels = images.images.shape[3] if isinstance(images, ImageSet) else 3
    shape = (size, size, channels)
    needed = len(images) * (channels * size * size + 24)
    index: list[int] = []
    unreadable: list[str] = []
    with _room_for(folder, needed), atomic_folder(folder) as temporary:
        with (temporary / PIXEL_FILE).open("wb") as file:
            converted = progress(_converted(images, source, channels), len(images))
            for row, pixels in enumerate(converted):
                if isinstance(pixels, DataError):
                    unreadable.append(str(pixels))
                elif not unreadable or skip_unreadable:
                    file.write(np.broadcast_to(pixels, shape).tobytes())
                    index.append(row)
            file.flush()
            os.fsync(file.fileno())  # a full disk may show only here
        if not index and skip_unreadable:
            raise DataError(f"none of {len(images)} images can be read; the first: {unreadable[0]}")
        if unreadable and not skip_unreadable:
            raise DataError(
                f"{len(unreadable)} of {len(images)} images cannot be read: "
                f"{some(unreadable, separator='; ')}; repair them, or leave them out with "
                "--skip-unreadable"
            )
        labels = np.ascontiguousarray(images.labels[index])
        np.save(temporary / "labels.npy", labels)
        np.save(temporary / "index.npy", np.array(index, np.int64))
        # The same hash as that of an `ImageSet` of these images.
        content = hashlib.sha256(repr(((len(labels), *shape), tuple(images.classes))).encode())
        with (temporary / PIXEL_FILE).open("rb") as file:
            hashlib.file_digest(file, lambda: content)
        content.update(labels.data)
        meta = PreparedMeta(
            format=FORMAT,
            dataset=source.dataset,
            part=source.split,
            options=dict(source.options),
            size=size,
            interpolation=source.format.interpolation,
            encoding=ENCODING,
            images=len(labels),
            channels=channels,
            classes=tuple(images.classes),
            source=images.fingerprint(),
            content=content.hexdigest()[:16],
            skipped=tuple(unreadable),
            versions=dict(openset=__version__, pillow=PIL.__version__, numpy=np.__version__),
        )
        (temporary / "meta.toml").write_text(tomli_w.dumps(config.unstructure(meta)), "utf-8")
    return open_prepared(folder)


def _converted(
    images: ImageSet | ImageFiles, source: SplitSource, channels: int
) -> Iterator[Pixels | DataError]:
    """Every image, uint8 [size, size, C], or the error that names its file."""
    if isinstance(images, ImageFiles):
        yield from prefetch(images.try_read, range(len(images)), 8 * workers())
        return
    import torch

    from openset_core.data.resizing import resized
    from openset_core.experiment.protocol import ImageOptions

    size, interpolation = source.format.size, source.format.interpolation
    image = ImageOptions(size=size, channels=channels, interpolation=interpolation)

    def convert(start: int) -> Pixels:
        # The same operation as in a loader, so that both give the same pixels.
        pixels = torch.from_numpy(images.images[start : start + CHUNK]).permute(0, 3, 1, 2)
        converted: Pixels = resized(pixels, image).permute(0, 2, 3, 1).numpy()
        return converted

    for chunk in prefetch(convert, range(0, len(images), CHUNK), 4):
        yield from chunk


@contextlib.contextmanager
def _room_for(folder: Path, needed: int) -> Iterator[None]:
    """Refuse what the disk has no room for, before and while it is written."""
    place = next(parent for parent in folder.absolute().parents if parent.exists())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise DataError(
            f"{folder} needs about {sized(needed)}, {sized(free)} are free; free "
            f"{sized(needed - free)}, or choose another --data-root or a smaller --size"
        )
    try:
        yield
    except OSError as error:
        full = f"; {sized(needed)} are needed, free some space or choose another --data-root"
        reason = {
            errno.ENOSPC: f"the disk is full{full}",
            errno.EDQUOT: f"the disk quota is used up{full}",
            errno.EACCES: "permission denied; choose another --data-root",
            errno.EROFS: "the file system is read-only; choose another --data-root",
        }.get(error.errno or 0, str(error))
        raise DataError(f"{folder} cannot be written: {reason}") from error
