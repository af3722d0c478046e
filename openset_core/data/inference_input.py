"""Images as a user hands them over, brought to a model's size and channels as in training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from openset_core.data.folders import fitted
from openset_core.data.reading import pixels_of, read_image
from openset_core.data.resizing import resized
from openset_core.errors import DataError
from openset_core.experiment.protocol import ImageOptions

CHUNK = 256  # rows of a large array that are resized at once
_FORMS = "give paths, PIL images, or uint8 arrays"


def inference_inputs(images: Any, image: ImageOptions) -> Iterator[Tensor]:
    """Bring images to a model's size, with the operations that training used.

    They come as one image or many: a path, a PIL image, a uint8 array [H, W], [H, W, C] or
    [N, H, W, C], a uint8 torch tensor [C, H, W] or [N, C, H, W], or any iterable of single images,
    of different sizes if need be. C is 1 or 3. Where the model does not say how an image that is
    not square becomes so, files and PIL images are cropped and arrays stretched, as in training.

    Yields:
        uint8 [b, C, size, size] on the CPU, in order; b is 1 or more.
    """
    if isinstance(images, Tensor) or (isinstance(images, np.ndarray) and images.dtype != object):
        pixels = _pixels(images, "the tensor" if isinstance(images, Tensor) else "the array")
        for chunk in torch.split(pixels, CHUNK) if len(pixels) else ():
            yield _as_in_training(chunk, image, from_file=False)
    elif _is_single(images):
        yield inference_input(images, image)
    elif isinstance(images, Iterable) and not isinstance(images, bytes | dict):
        for number, item in enumerate(images):
            yield inference_input(item, image, f"image {number}")
    else:
        raise DataError(f"a {type(images).__name__} is no image and no list of images; {_FORMS}")


def inference_input(item: Any, image: ImageOptions, name: str = "the image") -> Tensor:
    """One image as uint8 [1, C, size, size], see `inference_inputs`; errors call it `name`."""
    pixels = _pixels(item, name)
    if len(pixels) != 1:
        raise DataError(
            f"{name} holds {len(pixels)} images; a list takes single images, an array of many is "
            "given alone"
        )
    return _as_in_training(pixels, image, from_file=_is_single(item))


def _is_single(item: Any) -> bool:
    return isinstance(item, str | PathLike | Image.Image)


def _pixels(item: Any, name: str) -> Tensor:
    """uint8 [N, C, H, W] on the CPU, of an image or an array of many."""
    if isinstance(item, Tensor):
        _check_type(str(item.dtype).removeprefix("torch."), name)
        tensor = item[None] if item.ndim == 3 else item
        if tensor.ndim != 4 or tensor.shape[1] not in (1, 3) or 0 in tensor.shape[1:]:
            raise DataError(
                f"{name} has shape {list(item.shape)}; uint8 tensors are [C, H, W] or "
                "[N, C, H, W] with C = 1 or 3"
            )
        return tensor.detach().cpu()
    if isinstance(item, str | PathLike):
        item = read_image(Path(item))
    elif isinstance(item, Image.Image):
        item = pixels_of(item, name)
    elif not isinstance(item, np.ndarray):
        raise DataError(f"{name} is a {type(item).__name__}, which is no image; {_FORMS}")
    _check_type(str(item.dtype), name)
    array = item[None, :, :, None] if item.ndim == 2 else item[None] if item.ndim == 3 else item
    if array.ndim != 4 or array.shape[3] not in (1, 3) or 0 in array.shape[1:]:
        raise DataError(
            f"{name} has shape {list(item.shape)}; uint8 images are [H, W], [H, W, C] or "
            "[N, H, W, C] with C = 1 or 3"
        )
    # A copy where memory runs backwards or may not be written, as torch wants neither.
    if any(stride < 0 for stride in array.strides) or not array.flags.writeable:
        array = array.copy()
    return torch.from_numpy(array).permute(0, 3, 1, 2)


def _check_type(dtype: str, name: str) -> None:
    if dtype != "uint8":
        raise DataError(
            f"{name} holds {dtype}; give pixels as uint8 from 0 to 255, for values in [0, 1] by "
            "(255 * x).round().astype('uint8')"
        )


def _as_in_training(pixels: Tensor, image: ImageOptions, from_file: bool) -> Tensor:
    """uint8 [b, C, H, W] in the model's size, by what training does with files or with arrays."""
    square = pixels.shape[2] == pixels.shape[3]
    fit = image.fit or ("crop" if from_file and not square else None)
    if fit is not None:
        arrays = (item.permute(1, 2, 0).contiguous().numpy() for item in pixels)
        squares = [fitted(array, image.size, image.interpolation, fit) for array in arrays]
        pixels = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2)
    return resized(pixels, image)


def regrouped(pieces: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """The same rows in batches of `size`, the last one smaller."""
    held: list[Tensor] = []
    count = 0
    for piece in pieces:
        while count + len(piece) >= size:
            cut = size - count
            yield torch.cat([*held, piece[:cut]])
            held, count, piece = [], 0, piece[cut:]
        if len(piece):
            held.append(piece)
            count += len(piece)
    if held:
        yield torch.cat(held)
