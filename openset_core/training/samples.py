"""Looks at training, without any trace in it: generated samples, images, parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from openset_core.components import OpenSetModel
from openset_core.data.loading import PixelScale
from openset_core.training.checkpoint import preserved_random_state

SAMPLES = 64  # images in a look; a square

VALUES = 10_000  # numbers of a parameter in a look at it; as good as all for a histogram

_SEED = 0  # the same noise each epoch, so that looks compare


@torch.no_grad()
def draw_samples(
    model: OpenSetModel, scale: PixelScale, autocast: Any, count: int = SAMPLES
) -> npt.NDArray[np.uint8]:
    """Generated images, uint8 [N, H, W, C]; moves no batch statistics and no random generator."""
    assert model.generator is not None
    training = [module for module in model.generator.modules() if module.training]
    model.generator.eval()
    try:
        with preserved_random_state(_SEED), autocast:
            images = model.generator.sample(count)
    finally:
        for module in training:
            module.training = True
    return pixels_of(images, scale)


def pixels_of(images: Tensor, scale: PixelScale) -> npt.NDArray[np.uint8]:
    """Preprocessed images [N, C, H, W] as pixels, uint8 [N, H, W, C]."""
    pixels = ((images.float() - scale.offset) / scale.factor).round().clamp(0, 255)
    array: npt.NDArray[np.uint8] = pixels.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return array


def parameter_values(model: nn.Module, most: int = VALUES) -> dict[str, npt.NDArray[np.float32]]:
    """Numbers of each trained parameter by its name, evenly spaced where there are very many."""
    return {
        name: parameter.detach()
        .flatten()[:: -(-parameter.numel() // most) or 1]
        .float()
        .cpu()
        .numpy()
        .copy()  # on a CPU it would change with the next step
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
