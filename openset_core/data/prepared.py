"""Image sets in a fast local form: converted once, then streamed instead of held in memory.

A prepared part is a folder `<data root>/prepared/<name>-<part>-<size>/` with

- `images.raw`: uint8 [N, size, size, C], or `images.packed`: JPEG or PNG files one after the
  other, with `offsets.npy`, int64 [N + 1];
- `labels.npy`, int64 [N], and `index.npy`, int64 [N], the row of each image in its source;
- `meta.toml`: what it is, and what it was made from.

It appears whole or not at all. Nothing in it is executed when it is read.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import attrs
import numpy as np
import numpy.typing as npt
import tomli_w

from openset_core import __version__, config
from openset_core.data.ahead import read_ahead, workers
from openset_core.data.folders import NAMED, ImageFiles, in_memory
from openset_core.data.images import DataRequest, Images, ImageSet
from openset_core.data.sets import is_present, request_images
from openset_core.errors import DataError
from openset_core.plugins import Registry, registry

FORMAT = 1
RAW_SIZE = 96
"""Largest side length kept as plain pixels; larger images are kept as JPEG or PNG."""

ENCODINGS = ("raw", "jpeg", "png")
MEMORY_LIMIT = 4 * 2**30
"""Bytes of pixels beyond which a set of files must be prepared before it is used."""

JPEG_QUALITY = 95
CHUNK = 256

Pixels = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]


@attrs.frozen(kw_only=True)
class PreparedMeta:
    """What `meta.toml` says.

    Attributes:
        format: version of the folder's layout.
        dataset: name of the data set.
        part: its part.
        options: the data set's options.
        size: side length in pixels.
        interpolation: how images were resized.
        encoding: `"raw"`, `"jpeg"` or `"png"`.
        images: number of images.
        channels: 1 or 3.
        classes: class names in label order.
        source: fingerprint of what it was made from.
        content: fingerprint of what is in it.
        skipped: files that could not be read.
        versions: of openset, Pillow and NumPy at the time.
    """

    format: int
    dataset: str
    part: str
    options: dict[str, Any] = attrs.field(factory=dict)
    size: int
    interpolation: str
    encoding: str = attrs.field(validator=attrs.validators.in_(ENCODINGS))
    images: int
    channels: int
    classes: tuple[str, ...]
    source: str
    content: str
    skipped: tuple[str, ...] = ()
    versions: dict[str, str] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True, eq=False)
class PreparedImages:
    """Labelled images read from a prepared folder when they are asked for.

    Attributes:
        folder: the prepared folder.
        meta: what it says about itself.
        labels: int64 [N].
    """

    folder: Path
    meta: PreparedMeta
    labels: Rows = attrs.field(repr=False)
    _data: Pixels = attrs.field(repr=False)
    _offsets: Rows | None = attrs.field(repr=False)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in label order."""
        return self.meta.classes

    def __len__(self) -> int:
        return len(self.labels)

    def fingerprint(self) -> str:
        """Hash of pixels and labels, taken when the folder was written."""
        return self.meta.content

    def gather(self, rows: Rows) -> Pixels:
        """Some images, uint8 [n, H, W, C]; threads may call it at the same time.

        Raises:
            DataError: an image is damaged.
        """
        if self._offsets is None:
            return np.asarray(self._data[rows])
        shape = (self.meta.size, self.meta.size, self.meta.channels)
        found = np.empty((len(rows), *shape), np.uint8)
        for position, row in enumerate(rows):
            found[position] = self._decoded(int(row), shape)
        return found

    def _decoded(self, row: int, shape: tuple[int, ...]) -> Pixels:
        from PIL import Image

        assert self._offsets is not None
        start, stop = int(self._offsets[row]), int(self._offsets[row + 1])
        try:
            with Image.open(io.BytesIO(self._data[start:stop].tobytes())) as image:
                return np.asarray(image, dtype=np.uint8).reshape(shape)
        # What a decoder raises for damaged contents depends on where the damage lies.
        except Exception as error:
            raise _damaged(self.folder, f"image {row} cannot be decoded") from error


# --- reading ----------------------------------------------------------------------------------


def prepared_folder(
    root: Path,
    name: str,
    part: str,
    size: int,
    options: Mapping[str, Any] | None = None,
    interpolation: str = "bilinear",
    fit: str | None = None,
) -> Path:
    """Where the prepared form of a part lies; its name tells how it differs from the usual.

    Args:
        root: folder that holds data sets.
        name: the data set.
        part: one of its parts.
        size: side length in pixels.
        options: the data set's options that differ from its defaults.
        interpolation: how images are resized.
        fit: how images become square, `"crop"` when None.
    """
    label = f"{name}-{part}-{size}"
    if interpolation != "bilinear":
        label += f"-{interpolation}"
    if fit not in (None, "crop"):
        label += f"-{fit}"
    for key, value in sorted((options or {}).items()):
        text = str(value)
        if not re.fullmatch(r"[\w.+-]{1,40}", text):
            text = hashlib.sha256(text.encode()).hexdigest()[:12]
        label += f"-{key}={text}"
    return root / "prepared" / label


def own_options(
    name: str, options: Mapping[str, Any] | None, plugins: Registry | None = None
) -> dict[str, Any]:
    """Options of a data set that differ from its defaults, so that naming a default says nothing.

    Raises:
        ConfigError: an unknown option or a value out of range.
        PluginError: no such data set.
    """
    spec = (plugins or registry()).find(name, ("dataset",)).spec
    chosen = config.unstructure(config.structure(dict(options or {}), spec.config, name))
    usual = config.unstructure(spec.config())
    return {key: value for key, value in chosen.items() if value != usual.get(key)}


def is_available(
    name: str,
    part: str,
    root: Path,
    size: int,
    interpolation: str = "bilinear",
    plugins: Registry | None = None,
    options: Mapping[str, Any] | None = None,
    fit: str | None = None,
) -> bool:
    """Whether `open_images` would find a part, prepared or as it is; nothing is read.

    Arguments as for `open_images`.

    Raises:
        PluginError: no such data set.
    """
    prepared = prepared_folder(
        root, name, part, size, own_options(name, options, plugins), interpolation, fit
    )
    return prepared.is_dir() or is_present(name, root, options, plugins, part)


def open_prepared(folder: Path) -> PreparedImages:
    """Open a prepared folder; pixels are read when they are asked for.

    Raises:
        DataError: damaged, or written by another version of openset.
    """
    try:
        values = config.read_toml(folder / "meta.toml", "description", DataError)
        if values.get("format") != FORMAT:
            raise DataError(
                f"{folder} has format {values.get('format')}, this openset reads {FORMAT}; make it "
                "again with `openset data prepare --rebuild`"
            )
        meta = config.structure(values, PreparedMeta, str(folder / "meta.toml"), DataError)
        labels = np.load(folder / "labels.npy", allow_pickle=False)
        raw = meta.encoding == "raw"
        offsets = None if raw else np.load(folder / "offsets.npy", allow_pickle=False)
        file = folder / _FILES[raw]
        shape = (meta.images, meta.size, meta.size, meta.channels)
        expected = int(np.prod(shape)) if offsets is None else int(offsets[-1])
        if file.stat().st_size != expected:
            raise _damaged(folder, f"{file.name} has not the length it should have")
        if len(labels) != meta.images or (offsets is not None and len(offsets) != meta.images + 1):
            raise _damaged(folder, f"it does not hold {meta.images} images")
        data = np.memmap(file, np.uint8, "r", shape=shape if raw else (expected,))
    except (OSError, ValueError, LookupError) as error:
        raise _damaged(folder, str(error).splitlines()[0]) from error
    return PreparedImages(folder=folder, meta=meta, labels=labels, data=data, offsets=offsets)


_FILES = {True: "images.raw", False: "images.packed"}


def _damaged(folder: Path, what: str) -> DataError:
    return DataError(
        f"prepared data in {folder} is damaged ({what}); make it again with `openset data prepare "
        "--rebuild`"
    )


def open_images(
    name: str,
    part: str,
    root: Path,
    size: int,
    interpolation: str = "bilinear",
    download: bool = False,
    plugins: Registry | None = None,
    options: Mapping[str, Any] | None = None,
    fit: str | None = None,
) -> Images:
    """A part of a data set for training at a size: the prepared form where there is one.

    Args:
        name: the data set.
        part: one of its parts.
        root: folder that holds data sets.
        size: side length the images are wanted in.
        interpolation: how they are resized.
        download: whether missing data may be fetched.
        plugins: where data sets are looked up.
        options: the data set's own options.
        fit: how images become square, `"crop"` when None.

    Raises:
        DataError: the data is missing, damaged, or too large to be read at once.
        PluginError: no such data set.
    """
    folder = prepared_folder(
        root, name, part, size, own_options(name, options, plugins), interpolation, fit
    )
    if folder.is_dir():
        return open_prepared(folder)
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
    needed = len(source) * size * size * 3
    if isinstance(source, ImageFiles) and needed > MEMORY_LIMIT:
        chosen = f" --interpolation {interpolation}" if interpolation != "bilinear" else ""
        chosen += f" --fit {fit}" if fit not in (None, "crop") else ""
        chosen += "".join(f" --set {key}={value}" for key, value in (options or {}).items())
        raise DataError(
            f"part {part} of data set {name} has {len(source):,} images, {_sized(needed)} at "
            f"{size}x{size}, too much to hold in memory; convert it once with `openset data "
            f"prepare {name} --size {size}{chosen}`"
        )
    return in_memory(source)


# --- writing ----------------------------------------------------------------------------------

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
        with (folder / _FILES[self.encoding == "raw"]).open("wb") as file:
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
            yield from read_ahead(partial(self._from_file, source), range(len(source)), window)
            return
        starts = range(0, len(source), CHUNK)
        for chunk in read_ahead(partial(self._from_memory, source), starts, 4):
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
        from openset_core.protocols import ImageOptions

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
    with (folder / _FILES[encoding == "raw"]).open("rb") as file:
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
            f"{folder} needs about {_sized(needed)}, {_sized(free)} are free; free "
            f"{_sized(needed - free)}, or choose another --data-root or a smaller --size"
        )


def _sized(count: int) -> str:
    """Bytes in words."""
    value, unit = float(count), "bytes"
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{count} bytes" if unit == "bytes" else f"{value:.1f} {unit}"


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
        reason = {
            errno.ENOSPC: f"the disk is full after {_sized(written)}; free about "
            f"{_sized(max(needed - written, 0))} more, or choose another --data-root",
            errno.EDQUOT: f"the disk quota is used up after {_sized(written)}; free about "
            f"{_sized(max(needed - written, 0))} more, or choose another --data-root",
            errno.EACCES: "permission denied; choose another --data-root",
            errno.EROFS: "the file system is read-only; choose another --data-root",
        }.get(error.errno or 0, str(error))
        raise DataError(f"{folder} cannot be written: {reason}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
