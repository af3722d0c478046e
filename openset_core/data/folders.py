"""Image files on disk as one image set: read side by side, brought to one size."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import attrs
import numpy as np
import numpy.typing as npt

from openset_core.data.images import DataRequest, ImageSet
from openset_core.data.prefetch import prefetch, workers
from openset_core.data.reading import image_files, read_image
from openset_core.errors import DataError

Pixels = npt.NDArray[np.uint8]


def some(names: Iterable[object], limit: int = 5, separator: str = ", ") -> str:
    """Some names, and how many more there are."""
    listed = [str(name) for name in names]
    more = f"{separator.replace(',', '')}and {len(listed) - limit} more"
    return separator.join(listed[:limit]) + (more if len(listed) > limit else "")


def class_folders(folder: Path) -> dict[str, list[Path]]:
    """Image files by class: a folder for each class, sorted by name; files below count too.

    Raises:
        DataError: no such folder, or no class folders in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder")
    files = {
        place.name: list(image_files(place))
        for place in sorted(folder.iterdir())
        if place.is_dir() and not place.name.startswith(".")
    }
    classes = {name: members for name, members in files.items() if members}
    if not classes:
        raise DataError(f"{folder} holds no class folders with images")
    return classes


@attrs.frozen(kw_only=True, eq=False)
class ImageFiles:
    """Labelled image files that are read when they are asked for.

    Attributes:
        files: image files, N of them.
        labels: int64 [N].
        classes: class names in label order.
        size: side length that images are brought to; None keeps the files' own.
        interpolation: how they are resized.
        fit: `"crop"`, `"stretch"` or `"cut"`, see `fitted`.
        change: applied to each image's pixels, uint8 [H, W, C], last.
    """

    files: tuple[Path, ...] = attrs.field(repr=False)
    labels: npt.NDArray[np.int64] = attrs.field(repr=False)
    classes: tuple[str, ...]
    size: int | None = None
    interpolation: str = "bilinear"
    fit: str = "crop"
    change: Callable[[Pixels], Pixels] | None = None

    def __len__(self) -> int:
        return len(self.files)

    def fingerprint(self) -> str:
        """Hash of names, lengths and labels of the files; their pixels are not looked at."""
        digest = hashlib.sha256(repr((self.classes, self.change is not None)).encode())
        for file in self.files:
            length = file.stat().st_size if file.exists() else -1
            digest.update(f"{file.parent.name}/{file.name} {length}\n".encode())
        digest.update(np.ascontiguousarray(self.labels).data)
        return digest.hexdigest()[:16]

    def read(self, row: int) -> Pixels:
        """One image, uint8 [H, W, C] with C = 1 or 3.

        Raises:
            DataError: the file cannot be read.
        """
        pixels = self.original(row)
        if self.size is not None:
            pixels = fitted(pixels, self.size, self.interpolation, self.fit)
        return pixels if self.change is None else self.change(pixels)

    def original(self, row: int) -> Pixels:
        """The file's own pixels, uint8 [H, W, C]."""
        return read_image(self.files[row])

    def try_read(self, row: int) -> Pixels | DataError:
        """One image, or the error that names its file."""
        try:
            return self.read(row)
        except DataError as error:
            return error


def read_images(
    files: Sequence[Path],
    labels: Sequence[int],
    classes: Sequence[str],
    request: DataRequest,
    default_size: int | None = None,
    change: Callable[[Pixels], Pixels] | None = None,
    fit: str | None = None,
) -> ImageSet | ImageFiles:
    """Image files as one set, see `ImageFiles`; read at once, unless the request says otherwise.

    Grey images become RGB where others are in colour.

    Args:
        files: image files.
        labels: the class of each.
        classes: class names in label order.
        request: says which size is wanted.
        default_size: size where the request names none; None keeps the files' size, which must
            then be the same for all.
        change: applied to each image's pixels last, for example to invert them.
        fit: how images become square where the set says more than the request, see `fitted`.

    Raises:
        DataError: files that cannot be read, by name; or sizes that differ where none is wanted.
    """
    source = ImageFiles(
        files=tuple(files),
        labels=np.asarray(labels, dtype=np.int64),
        classes=tuple(classes),
        size=request.size or default_size,
        interpolation=request.interpolation,
        fit=fit or request.fit,
        change=change,
    )
    return source if request.lazily else in_memory(source)


def in_memory(source: ImageSet | ImageFiles) -> ImageSet:
    """All images of a source, read at once."""
    if isinstance(source, ImageSet):
        return source
    results = list(prefetch(source.try_read, range(len(source)), 8 * workers()))
    errors = [item for item in results if isinstance(item, DataError)]
    if errors:
        raise DataError(
            f"{len(errors)} of {len(results)} images cannot be used: {some(errors, separator='; ')}"
        )
    arrays = [item for item in results if isinstance(item, np.ndarray)]
    channels = max(array.shape[2] for array in arrays)
    shapes = {array.shape[:2] for array in arrays}
    if len(shapes) > 1:
        raise DataError(
            f"the images of {source.files[0].parent} differ in size; say which size is wanted"
        )
    images = np.stack([np.broadcast_to(item, (*item.shape[:2], channels)) for item in arrays])
    return ImageSet(images=images, labels=source.labels, classes=source.classes)


def fitted(pixels: Pixels, size: int, interpolation: str, fit: str = "crop") -> Pixels:
    """One image, uint8 [H, W, C], as a square of side `size`.

    Args:
        pixels: the image.
        size: side length of the result.
        interpolation: `"nearest"`, `"bilinear"` or `"bicubic"`.
        fit: `"crop"`: the middle is cut out, as is usual where images differ in size;
            `"stretch"`: both sides are resized to `size`; `"cut"`: as crop, but the middle of what
            is large enough is cut out without resizing.
    """
    from PIL import Image

    if pixels.shape[:2] == (size, size):
        return np.ascontiguousarray(pixels)
    height, width = pixels.shape[:2]
    box = (0, 0, width, height)
    if fit != "stretch":
        side = min(height, width)
        if fit == "cut":
            side = min(side, size)
        left, top = (width - side) // 2, (height - side) // 2
        box = (left, top, left + side, top + side)
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    resized = image.resize((size, size), Image.Resampling[interpolation.upper()], box=box)
    return np.array(resized).reshape(size, size, -1)


def read_class_folders(
    folder: Path, request: DataRequest, classes: Sequence[str] | None = None
) -> ImageSet | ImageFiles:
    """Folders of classes as one set.

    Args:
        folder: holds a folder for each class.
        request: says which size is wanted.
        classes: class names in label order; the sorted folder names when None.

    Raises:
        DataError: no class folders, a folder that is none of `classes`, or unreadable files.
    """
    members = class_folders(folder)
    names = tuple(classes or members)
    strange = sorted(set(members) - set(names))
    if strange:
        raise DataError(f"{folder} holds {strange[0]!r}, which is none of the set's classes")
    files = [file for name in members for file in members[name]]
    numbers = [names.index(name) for name in members]
    labels = np.repeat(numbers, [len(files) for files in members.values()])
    return read_images(files, labels.tolist(), names, request)
