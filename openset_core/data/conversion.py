"""Converting an image set to its prepared form, which `openset_core.data.cache` reads."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import attrs
import numpy as np
import tomli_w

from openset_core import __version__
from openset_core.data.cache import (
    FORMAT,
    PIXEL_FILES,
    Pixels,
    PreparedImages,
    PreparedMeta,
    Rows,
    open_prepared,
    own_options,
    prepared_folder,
    sized,
)
from openset_core.data.datasets import request_images
from openset_core.data.folders import NAMED, ImageFiles
from openset_core.data.images import DataRequest, ImageSet
from openset_core.data.prefetch import prefetch, workers
from openset_core.errors import DataError
from openset_core.experiment import config
from openset_core.registry import Registry

RAW_SIZE = 96
"""Largest side length kept as plain pixels; larger images are kept as JPEG or PNG."""

JPEG_QUALITY = 95
CHUNK = 256

Progress = Callable[[Iterable[Any], int], Iterable[Any]]


def _silent(items: Iterable[Any], _total: int) -> Iterable[Any]:
    return items


def prepare(
    name: str,
    part: str,
    root: Path,
    size: int,
    *,
    interpolation: str = "bilinear",
    fit: str | None = None,
    options: Mapping[str, Any] | None = None,
    lossless: bool = False,
    skip_unreadable: bool = False,
    rebuild: bool = False,
    download: bool = False,
    plugins: Registry | None = None,
    progress: Progress = _silent,
) -> tuple[PreparedImages, bool]:
    """Convert a part of a data set to its prepared form.

    Args:
        name: the data set.
        part: one of its parts.
        root: folder that holds data sets, and will hold the prepared form.
        size: side length in pixels.
        interpolation: how images are resized.
        fit: how images become square, `"crop"` when None.
        options: the data set's own options.
        lossless: keep large images as PNG instead of JPEG.
        skip_unreadable: leave unreadable images out instead of refusing.
        rebuild: write it again even if it is there and current.
        download: whether missing data may be fetched.
        plugins: where data sets are looked up.
        progress: wraps the iteration over images, with their number.

    Returns:
        The prepared images, and whether they were written now.

    Raises:
        DataError: missing data, unreadable images, or no room on the disk; nothing is left behind.
    """
    request = DataRequest(
        part=part,
        root=root,
        download=download,
        size=size,
        interpolation=interpolation,
        fit=fit or "crop",
        lazily=True,
    )
    source = request_images(name, request, plugins, options)
    folder = prepared_folder(
        root, name, part, size, own_options(name, options, plugins), interpolation, fit
    )
    encoding = encoding_for(size, lossless)
    fingerprint = source.fingerprint()
    if folder.is_dir() and not rebuild:
        with contextlib.suppress(DataError):  # one that is damaged is made again
            old = open_prepared(folder)
            if (old.meta.source, old.meta.encoding) == (fingerprint, encoding):
                return old, False
    written = write_prepared(
        source,
        folder,
        name,
        request,
        options=options,
        encoding=encoding,
        skip_unreadable=skip_unreadable,
        progress=progress,
    )
    return written, True


def encoding_for(size: int, lossless: bool) -> str:
    """How images of a size are kept: as plain pixels where they are small."""
    return "raw" if size <= RAW_SIZE else "png" if lossless else "jpeg"


def write_prepared(
    source: ImageSet | ImageFiles,
    folder: Path,
    name: str,
    request: DataRequest,
    *,
    options: Mapping[str, Any] | None = None,
    encoding: str,
    skip_unreadable: bool = False,
    progress: Progress = _silent,
) -> PreparedImages:
    """Write a prepared folder, each image read once and in order.

    Args:
        source: the images.
        folder: where the prepared form will lie, whole or not at all.
        name: name of the data set.
        request: which part, and in which size.
        options: the data set's own options.
        encoding: one of `ENCODINGS`, see `encoding_for`.
        skip_unreadable: leave unreadable images out instead of refusing.
        progress: wraps the iteration over images, with their number.

    Raises:
        DataError: unreadable images, or no room on the disk; nothing is left behind.
    """
    assert request.size is not None
    size, fingerprint = request.size, source.fingerprint()
    channels = source.images.shape[3] if isinstance(source, ImageSet) else 3
    _check_room(folder, len(source), size, channels, encoding)
    write = _Writer(source, request, encoding, channels, skip_unreadable, progress)
    needed = estimated_bytes(len(source), size, channels, encoding)
    with _whole_folder(folder, needed) as temporary:
        index, skipped = write.pixels(temporary)
        labels = np.ascontiguousarray(source.labels[index])
        np.save(temporary / "labels.npy", labels)
        np.save(temporary / "index.npy", index)
        meta = PreparedMeta(
            format=FORMAT,
            dataset=name,
            part=request.part,
            options=dict(options or {}),
            size=size,
            interpolation=request.interpolation,
            encoding=encoding,
            images=len(labels),
            channels=channels,
            classes=tuple(source.classes),
            source=fingerprint,
            content=_fingerprint(temporary, encoding, size, channels, labels, source.classes),
            skipped=tuple(skipped),
            versions=_versions(),
        )
        text = tomli_w.dumps(config.unstructure(meta))
        (temporary / "meta.toml").write_text(text, encoding="utf-8")
    return open_prepared(folder)


@attrs.frozen
class _Writer:
    """Writes the pixels of a source in one pass."""

    source: ImageSet | ImageFiles
    request: DataRequest
    encoding: str
    channels: int
    skip_unreadable: bool
    progress: Progress

    def pixels(self, folder: Path) -> tuple[Rows, list[str]]:
        """Write them.

        Returns:
            Rows that were written, and the sentences on those that could not be read.
        """
        index: list[int] = []
        offsets, bad = [0], list[str]()
        with (folder / PIXEL_FILES[self.encoding == "raw"]).open("wb") as file:
            found = self.progress(self._encoded(), len(self.source))
            for row, item in enumerate(found):
                if isinstance(item, DataError):
                    bad.append(str(item))
                elif not bad or self.skip_unreadable:
                    file.write(item)
                    offsets.append(offsets[-1] + len(item))
                    index.append(row)
            _flush(file)
        if bad and not self.skip_unreadable:
            more = f"; and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
            raise DataError(
                f"{len(bad)} of {len(self.source)} images cannot be read: "
                f"{'; '.join(bad[:NAMED])}{more}; mend them, or leave them out with "
                "--skip-unreadable"
            )
        if not index:
            raise DataError(f"none of {len(self.source)} images can be read; the first: {bad[0]}")
        if self.encoding != "raw":
            np.save(folder / "offsets.npy", np.array(offsets, np.int64))
        return np.array(index, np.int64), bad

    def _encoded(self) -> Iterator[bytes | DataError]:
        source = self.source
        window = 8 * workers()
        if isinstance(source, ImageFiles):
            yield from prefetch(partial(self._from_file, source), range(len(source)), window)
            return
        starts = range(0, len(source), CHUNK)
        for chunk in prefetch(partial(self._from_memory, source), starts, 4):
            yield from chunk

    def _from_file(self, source: ImageFiles, row: int) -> bytes | DataError:
        pixels = source.try_read(row)
        if isinstance(pixels, DataError):
            return pixels
        if pixels.shape[2] != self.channels:
            pixels = np.repeat(pixels, self.channels, axis=2)
        return self._encode(pixels)

    def _from_memory(self, source: ImageSet, start: int) -> list[bytes]:
        import torch

        from openset_core.data.resizing import resized
        from openset_core.experiment.protocol import ImageOptions

        assert self.request.size is not None
        image = ImageOptions(
            size=self.request.size,
            channels=self.channels,
            interpolation=self.request.interpolation,
        )
        rows = np.arange(start, min(start + CHUNK, len(source)))
        # The same operation as in a loader, so that both give the same pixels.
        pixels = resized(torch.from_numpy(source.gather(rows)).permute(0, 3, 1, 2), image)
        return [self._encode(item) for item in pixels.permute(0, 2, 3, 1).contiguous().numpy()]

    def _encode(self, pixels: Pixels) -> bytes:
        if self.encoding == "raw":
            return pixels.tobytes()
        from PIL import Image

        buffer = io.BytesIO()
        image = Image.fromarray(pixels[..., 0] if self.channels == 1 else pixels)
        if self.encoding == "jpeg":  # without subsampling, colours keep their place
            image.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
        else:
            image.save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())  # a full disk may show only here


def _fingerprint(
    folder: Path, encoding: str, size: int, channels: int, labels: Rows, classes: tuple[str, ...]
) -> str:
    """Hash of what was written; for plain pixels that of `ImageSet.fingerprint`."""
    shape = (len(labels), size, size, channels)
    digest = hashlib.sha256(repr((shape, tuple(classes))).encode())
    with (folder / PIXEL_FILES[encoding == "raw"]).open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    digest.update(labels.data)
    return digest.hexdigest()[:16]


def _versions() -> dict[str, str]:
    import PIL

    return {"openset": __version__, "pillow": PIL.__version__, "numpy": np.__version__}


def estimated_bytes(images: int, size: int, channels: int, encoding: str) -> int:
    """Room that a prepared part takes: exact for plain pixels, generous for the others."""
    share = {"raw": 1.0, "png": 0.8, "jpeg": 0.3}[encoding]
    return int(images * (share * channels * size * size + 24))


def _check_room(folder: Path, images: int, size: int, channels: int, encoding: str) -> None:
    place = folder.parent
    while not place.exists():
        place = place.parent
    needed, free = estimated_bytes(images, size, channels, encoding), shutil.disk_usage(place).free
    if needed > free:
        raise DataError(
            f"{folder} needs about {sized(needed)}, {sized(free)} are free; free "
            f"{sized(needed - free)}, or choose another --data-root or a smaller --size"
        )


@contextlib.contextmanager
def _whole_folder(folder: Path, needed: int) -> Iterator[Path]:
    """Write beside a folder, then rename; an old one goes only when the new one is whole."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        if folder.exists():
            os.rename(folder, old)
        os.rename(temporary, folder)
    except OSError as error:
        written = sum(path.stat().st_size for path in temporary.glob("*"))
        missing = f"about {sized(needed - written)} more" if needed > written else "more"
        advice = f"after {sized(written)}; free {missing}, or choose another --data-root"
        reason = {
            errno.ENOSPC: f"the disk is full {advice}",
            errno.EDQUOT: f"the disk quota is used up {advice}",
            errno.EACCES: "permission denied; choose another --data-root",
            errno.EROFS: "the file system is read-only; choose another --data-root",
        }.get(error.errno or 0, str(error))
        raise DataError(f"{folder} cannot be written: {reason}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
