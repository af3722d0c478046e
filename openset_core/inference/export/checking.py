"""Comparison of an exported file with the model it was made from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from openset_core.errors import ModelError
from openset_core.experiment.protocol import ImageOptions
from openset_core.inference.export.export_module import OUTPUTS, PreparedExport

Array = npt.NDArray[Any]
Run = Callable[[Array, float], Sequence[Array]]  # images and a threshold to the four outputs

# Other kernels round float32 otherwise, which deep networks and distances enlarge.
_PROBABILITY = 1e-3
_SCORE = 1e-3
# A resized pixel on the edge between two whole numbers may fall either way.
_RESIZED = 10.0
# The same float64 operations on the same features.
_SCORER = 1e-6


def test_images(image: ImageOptions) -> npt.NDArray[np.uint8]:
    """Noise, ramps and plain images, uint8 [9, C, size, size]."""
    rng = np.random.default_rng(0)
    shape = (image.channels, image.size, image.size)
    ramp = np.broadcast_to(np.linspace(0, 255, image.size), shape)
    noise = rng.integers(0, 256, (4, *shape))
    plain = [np.full(shape, value) for value in (0, 127, 255)]
    return np.stack([*noise, ramp, ramp.swapaxes(1, 2), *plain]).astype(np.uint8)


def _ramps(image: ImageOptions) -> npt.NDArray[np.uint8]:
    """Images of another size, uint8 [2, C, size + 7, 2 size + 3]."""
    height, width = image.size + 7, 2 * image.size + 3
    across = np.broadcast_to(np.linspace(0, 255, width), (image.channels, height, width))
    down = np.broadcast_to(np.linspace(255, 0, height)[:, None], across.shape)
    return np.stack([across, (across + down) / 2]).astype(np.uint8)


def check_scorer(exported: PreparedExport) -> None:
    """Compare the scorer's torch form with its `score`."""
    images = test_images(exported.model.description.image)
    features = exported.model.features(torch.from_numpy(images))
    expected = exported.model.scores(torch.from_numpy(images), exported.fitted.component.name)
    with torch.inference_mode():
        tensors = {name: torch.from_numpy(array) for name, array in features.items()}
        scores = exported.module.scorer(tensors).numpy()
    if _excess(scores, expected, _SCORER) > 1:
        scorer = exported.fitted.component
        raise ModelError(
            f"scorer {scorer.name} of {scorer.distribution} {scorer.version} cannot be exported: "
            f"its torch form differs from its score by {np.abs(scores - expected).max():.3g}; "
            "report this to its author"
        )


def check_file(exported: PreparedExport, run: Run, what: str) -> float:
    """The greatest difference of scores between a file and the model, beyond which it is refused.

    `what` names the file's runtime in messages.
    """
    images = test_images(exported.model.description.image)
    others = _ramps(exported.model.description.image)
    scores = exported.model.scores(torch.from_numpy(images), exported.fitted.component.name)
    cases = [(batch, exported.threshold) for batch in (images[:1], images, others)]
    cases.append((images, float(np.median(scores))))
    greatest = 0.0
    for batch, threshold in cases:
        outputs = [np.asarray(output) for output in run(batch, threshold)]
        with torch.inference_mode():
            tensors = exported.module(
                torch.from_numpy(batch), torch.tensor(threshold, dtype=torch.float64)
            )
        expected = [tensor.numpy() for tensor in tensors]
        for name, output, right in zip(OUTPUTS, outputs, expected, strict=True):
            if output.shape != right.shape or output.dtype != right.dtype:
                raise ModelError(
                    f"{what} gives {name} as {output.dtype} {list(output.shape)}, not "
                    f"{right.dtype} {list(right.shape)}; nothing was kept"
                )
        slack = _RESIZED if batch is others else 1.0
        _check_numbers(outputs, expected, threshold, what, slack)
        greatest = max(greatest, float(np.abs(outputs[1] - expected[1]).max()))
    return greatest


def _check_numbers(
    outputs: Sequence[Array], expected: Sequence[Array], threshold: float, what: str, slack: float
) -> None:
    probabilities, scores, *decisions = expected
    for name, output, right, allowed in (
        ("probabilities", outputs[0], probabilities, slack * _PROBABILITY),
        ("score", outputs[1], scores, slack * _SCORE),
    ):
        if _excess(output, right, allowed) > 1:
            raise ModelError(
                f"{what} gives {name} that differ from PyTorch's by "
                f"{np.abs(output - right).max():.3g}; nothing was kept"
            )
    # Decisions on an edge may fall either way.
    top = np.sort(probabilities, axis=1)
    clear = np.abs(scores - threshold) > slack * _SCORE * (1 + np.abs(scores))
    if probabilities.shape[1] > 1:
        clear &= top[:, -1] - top[:, -2] > 2 * slack * _PROBABILITY
    for output, right in zip(outputs[2:], decisions, strict=True):
        if not np.array_equal(output[clear], right[clear]):
            raise ModelError(f"{what} decides otherwise than PyTorch; nothing was kept")


def _excess(values: Array, expected: Array, allowed: float) -> float:
    """Greatest difference as a multiple of what is allowed; infinite for NaN."""
    if not np.isfinite(values).all():
        return float("inf")
    return float((np.abs(values - expected) / (allowed * (1 + np.abs(expected)))).max())
