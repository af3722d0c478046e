"""Image files to arrays of 8-bit pixels: one way for training data and for predictions.

What a file's pixels become:
- a JPEG's EXIF orientation is applied;
- grey stays grey; a palette, CMYK and every other colour space become RGB, colour profiles are
  not applied;
- a transparent image is laid on white;
- 16 bits become 8 by their high byte, black and white become 0 and 255;
- of an animation or a file of several pages the first image counts.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from openset_core.errors import DataError

MAX_PIXELS = 89_478_485
"""Pixels beyond which a file is refused, Pillow's own limit: a small file may unpack to more
than the memory holds."""

SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".ico", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm"}
    | {".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"}
)
"""Endings, in lower case, by which a file in a folder counts as an image."""

Pixels = npt.NDArray[np.uint8]

_GREY = frozenset(("1", "L", "LA", "La"))
_WIDE = frozenset(("I", "I;16", "I;16B", "I;16L", "I;16N"))


def read_image(path: str | Path) -> Pixels:
    """Read an image file.

    Args:
        path: a file in any format that Pillow reads; its name's ending does not matter.

    Returns:
        uint8 [H, W, C], C = 1 for a grey image and 3 (RGB) for any other.

    Raises:
        DataError: missing, unreadable, no image, damaged, or beyond `MAX_PIXELS`.
    """
    from PIL import Image, UnidentifiedImageError

    path = Path(path)
    try:
        kind = path.stat()  # opening a pipe would wait for who writes to it
        if not stat.S_ISREG(kind.st_mode) and not stat.S_ISDIR(kind.st_mode):
            raise DataError(f"{path} is no regular file")
        if not kind.st_size:
            raise DataError(f"{path} is empty")
        with Image.open(path) as image:
            return pixels_of(image, str(path))
    except FileNotFoundError:
        what = "is a link to a file that does not exist" if path.is_symlink() else "does not exist"
        raise DataError(f"{path} {what}") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder, not an image") from None
    except PermissionError:
        raise DataError(f"{path} cannot be read: permission denied") from None
    except UnidentifiedImageError:
        raise DataError(f"{path} is no image, or of a format that Pillow does not read") from None
    except Image.DecompressionBombError:
        raise _too_large(str(path)) from None
    except MemoryError:
        raise DataError(f"{path} does not fit into memory") from None
    except DataError:
        raise
    except OSError as error:
        # Decoders report damage as OSError without a number; with one it is the system's.
        what = "cannot be read" if error.errno else "is damaged"
        raise DataError(f"{path} {what}: {_first_line(error)}") from error
    # What a decoder raises for damaged contents depends on where the damage lies.
    except Exception as error:
        raise DataError(f"{path} is damaged: {_first_line(error)}") from error


def pixels_of(image: Any, name: str = "the image") -> Pixels:
    """The pixels of an opened PIL image by the rules above, uint8 [H, W, C].

    Args:
        image: a `PIL.Image.Image`; it stays as it is.
        name: what an error calls it.

    Raises:
        DataError: more than `MAX_PIXELS`, or pixels without a known range.
    """
    from PIL import Image, ImageOps

    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _too_large(name, f"{width} x {height} pixels, more than {MAX_PIXELS:,}")
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise DataError(
            f"{name} holds floating-point pixels, whose range is not known; convert it to 8 bits"
        )
    if image.mode in _WIDE:
        wide = np.clip(np.asarray(image, dtype=np.int64), 0, 2**16 - 1)
        return (wide >> 8).astype(np.uint8)[..., None]
    mode = "L" if image.mode in _GREY else "RGB"
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    pixels = np.array(image.convert(mode), dtype=np.uint8)
    return pixels[..., None] if mode == "L" else pixels


def _too_large(name: str, size: str = "") -> DataError:
    what = size or f"more than {MAX_PIXELS:,} pixels"
    return DataError(f"{name} is too large ({what}); make it smaller")


def _first_line(error: BaseException) -> str:
    text = (getattr(error, "strerror", None) or str(error)).strip()
    return text.splitlines()[0] if text else type(error).__name__


def image_files(folder: Path) -> Iterator[Path]:
    """Image files in a folder and the folders below it, by their endings, sorted by path.

    Hidden files and folders are left out, and links to folders are not followed.

    Raises:
        DataError: the folder cannot be read.
    """
    return (path for path in visible_files(folder) if is_image_name(path))


def is_image_name(path: Path) -> bool:
    """Whether a file counts as an image by its ending."""
    return path.suffix.lower() in SUFFIXES


def visible_files(folder: Path) -> Iterator[Path]:
    """All files that `image_files` chooses from."""

    def refuse(error: OSError) -> None:
        raise DataError(f"folder {error.filename} cannot be read: {error.strerror}") from error

    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place, name) for name in sorted(files) if not name.startswith("."))
