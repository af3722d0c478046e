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

ONE_BY_ONE = 256
"""Rows of a large array that are resized at once."""


def inference_inputs(images: Any, image: ImageOptions) -> Iterator[Tensor]:
    """Bring images to a model's size, with the operations that training used.

    Where the model does not say how an image that is not square becomes so, files and PIL images
    are cropped and arrays stretched, as in training.

    Args:
        images: one image or many: a path, a PIL image, a uint8 array [H, W], [H, W, C] or
            [N, H, W, C], a uint8 torch tensor [C, H, W] or [N, C, H, W], or a list (any iterable)
            of single images, of different sizes if need be. C is 1 or 3.
        image: the model's size and channels.

    Yields:
        uint8 [b, C, size, size] on the CPU, in order; b is 1 or more.

    Raises:
        DataError: something that is none of these, or a file that cannot be read.
    """
    if isinstance(images, np.ndarray) and images.dtype != object:
        yield from _chunks(_from_array(images, "the array"), image)
    elif isinstance(images, Tensor):
        yield from _chunks(_from_tensor(images, "the tensor"), image)
    elif _is_single(images):
        yield inference_input(images, image)
    elif isinstance(images, Iterable) and not isinstance(images, bytes | dict):
        for number, item in enumerate(images):
            yield inference_input(item, image, f"image {number}")
    else:
        raise DataError(f"a {type(images).__name__} is no image and no list of images; {_FORMS}")


def inference_input(item: Any, image: ImageOptions, name: str = "the image") -> Tensor:
    """One image as uint8 [1, C, size, size]; see `inference_inputs`.

    Args:
        item: a single image.
        image: the model's size and channels.
        name: what an error calls it.
    """
    if isinstance(item, str | PathLike):
        pixels = _from_array(read_image(Path(item)), name)
    elif isinstance(item, np.ndarray):
        pixels = _from_array(item, name)
    elif isinstance(item, Tensor):
        pixels = _from_tensor(item, name)
    elif isinstance(item, Image.Image):
        pixels = _from_array(pixels_of(item, name), name)
    else:
        raise DataError(f"{name} is a {type(item).__name__}, which is no image; {_FORMS}")
    if len(pixels) != 1:
        raise DataError(
            f"{name} holds {len(pixels)} images; a list takes single images, an array of many is "
            "given alone"
        )
    return _as_in_training(pixels, image, from_file=_is_single(item))


_FORMS = "give paths, PIL images, or uint8 arrays"


def _is_single(item: Any) -> bool:
    return isinstance(item, str | PathLike | Image.Image)


def _from_array(array: Any, name: str) -> Tensor:
    _check_type(str(array.dtype), name)
    shape = list(array.shape)
    if array.ndim == 2:
        array = array[None, :, :, None]
    elif array.ndim == 3:
        array = array[None]
    if array.ndim != 4 or array.shape[3] not in (1, 3) or 0 in array.shape[1:]:
        raise DataError(
            f"{name} has shape {shape}; uint8 images are [H, W], [H, W, C] or "
            "[N, H, W, C] with C = 1 or 3"
        )
    # A copy where memory runs backwards or may not be written, as torch wants neither.
    if any(stride < 0 for stride in array.strides) or not array.flags.writeable:
        array = array.copy()
    return torch.from_numpy(array).permute(0, 3, 1, 2)


def _from_tensor(tensor: Tensor, name: str) -> Tensor:
    _check_type(str(tensor.dtype).removeprefix("torch."), name)
    shape = list(tensor.shape)
    if tensor.ndim == 3:
        tensor = tensor[None]
    if tensor.ndim != 4 or tensor.shape[1] not in (1, 3) or 0 in tensor.shape[1:]:
        raise DataError(
            f"{name} has shape {shape}; uint8 tensors are [C, H, W] or [N, C, H, W] with C = 1 or 3"
        )
    return tensor.detach().cpu()


def _check_type(dtype: str, name: str) -> None:
    if dtype != "uint8":
        raise DataError(
            f"{name} holds {dtype}; give pixels as uint8 from 0 to 255, for values in [0, 1] by "
            "(255 * x).round().astype('uint8')"
        )


def _chunks(pixels: Tensor, image: ImageOptions) -> Iterator[Tensor]:
    for chunk in torch.split(pixels, ONE_BY_ONE) if len(pixels) else ():
        yield _as_in_training(chunk, image, from_file=False)


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
