"""Images on a page: thumbnails, sheets of images, and pictures as data that needs no file."""

from __future__ import annotations

import base64
import io

import numpy as np
import numpy.typing as npt

LARGEST_THUMBNAIL = 96
"""Longest side in pixels of a thumbnail; smaller images stay as they are."""

Pixels = npt.NDArray[np.uint8]


def data_uri(pixels: Pixels) -> str:
    """An image, uint8 [H, W] or [H, W, C], C = 1, 3 or 4 (transparency last), as a PNG address."""
    from PIL import Image

    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    with io.BytesIO() as file:
        Image.fromarray(np.ascontiguousarray(pixels)).save(file, format="PNG", optimize=True)
        return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def montage(images: Pixels, columns: int, gap: int = 1) -> Pixels:
    """Images side by side in rows, uint8 [H, W, C], with grey lines between them."""
    count, height, width, channels = images.shape
    rows = -(-count // columns)
    whole = np.full(
        (rows * (height + gap) - gap, columns * (width + gap) - gap, channels), 128, np.uint8
    )
    for number, image in enumerate(images):
        top, left = (number // columns) * (height + gap), (number % columns) * (width + gap)
        whole[top : top + height, left : left + width] = image
    return whole


def thumbnail(image: Pixels) -> Pixels:
    """An image no larger than `LARGEST_THUMBNAIL`, uint8 [H, W, C]."""
    from PIL import Image

    height, width, channels = image.shape
    scale = LARGEST_THUMBNAIL / max(height, width)
    if scale >= 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    flat = image[:, :, 0] if channels == 1 else image
    small = np.asarray(Image.fromarray(flat).resize(size, Image.Resampling.LANCZOS))
    return small[:, :, None] if channels == 1 else small
