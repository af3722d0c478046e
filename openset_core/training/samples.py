"""A look at what a sample generator makes, without any trace in the training."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from openset_core.components import OpenSetModel
from openset_core.data.loading import PixelScale
from openset_core.training import checkpoint

SAMPLES = 64
"""Images in a look; a square."""

_SEED = 0  # the same noise each epoch, so that looks compare


@torch.no_grad()
def draw_samples(
    model: OpenSetModel, scale: PixelScale, autocast: Any, count: int = SAMPLES
) -> npt.NDArray[np.uint8]:
    """Generated images as pixels, uint8 [N, H, W, C].

    The generator runs in evaluation mode, so that no batch statistics move, and every random
    generator is put back: training goes on as if nobody had looked.

    Args:
        model: a model with a generator.
        scale: preprocessing of the model's input, to be undone.
        autocast: context of the mixed precision.
        count: number of images.
    """
    assert model.generator is not None
    random = checkpoint.random_state()
    training = [module for module in model.generator.modules() if module.training]
    checkpoint.seed_everything(_SEED)
    model.generator.eval()
    try:
        with autocast:
            images = model.generator.sample(count)
    finally:
        for module in training:
            module.training = True
        checkpoint.restore_random_state(random)
    pixels = ((images.float() - scale.offset) / scale.factor).round().clamp(0, 255)
    array: npt.NDArray[np.uint8] = pixels.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return array
