"""Class activation maps over images: where an image speaks for its class."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from openset_core.errors import FigureError
from openset_core.report.charts.panels import image_table
from openset_core.report.data import Integers, RunData
from openset_core.report.figure_cache import keep, kept, split_images
from openset_core.report.figures import ClassActivation
from openset_core.report.figures.drawing import FigureResult, FigureRuns, known_split

if TYPE_CHECKING:
    from torch import Tensor

    from openset_core.components import OpenSetModel

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]
LEAST_SIDE = 4
"""A map with fewer pixels a side says little about where."""

HEAT = np.array(
    [(0, 0, 4), (66, 10, 104), (147, 38, 103), (221, 81, 58), (252, 165, 10), (252, 255, 164)],
    dtype=np.float64,
)
"""Colours of the map from least to greatest, in equal steps."""

HEAT_SHARE = 0.6
"""Of the map in what is shown; the rest is the image."""


def activation_maps(
    model: OpenSetModel, images: Tensor, labels: Tensor, map_name: str
) -> tuple[Tensor, Tensor]:
    """Class activation maps [B, h, w] of preprocessed images [B, C, H, W], and logits [B, K].

    Channel k of the map weighs sum_xy dz/dA_k(x, y), with z the logit of the image's class. Where
    the vector is the average over this map and the logits are linear in it, as in Zhou et al., CVPR
    2016, that is the class's weight of the channel, so that the result is their class activation
    map; otherwise it is Grad-CAM's (Selvaraju et al., ICCV 2017) but for a constant factor, without
    the final rectifier.
    """
    import torch

    with torch.enable_grad():
        features = model.backbone(images.requires_grad_())
        values = features.maps[map_name]
        logits = model.loss.logits(features)
        chosen = logits.gather(1, labels[:, None]).sum()
        (slope,) = torch.autograd.grad(chosen, values, allow_unused=True)
    if slope is None:
        raise FigureError(
            f"the logits do not depend on the feature map {map_name}, so that it has no class "
            "activation; choose another with --set map=NAME"
        )
    weights = slope.sum(dim=(2, 3), keepdim=True)
    return (weights * values).sum(dim=1).detach().float(), logits.detach().float()


def map_of(model: OpenSetModel, map_name: str, image_size: int, where: str) -> str:
    """The map that is looked at: the one named, else the deepest with enough pixels."""
    maps = {info.name: info.side(image_size) for info in model.backbone.feature_info}
    if map_name and map_name not in maps:
        raise FigureError(
            f"the backbone of {where} has no feature map {map_name!r}; it has "
            f"{', '.join(maps) or 'none'}"
        )
    large = [name for name, side in maps.items() if side >= LEAST_SIDE] or list(maps)
    if not large:
        raise FigureError(f"the backbone of {where} hands out no feature map")
    return map_name or large[-1]


def draw(shape: ClassActivation, runs: FigureRuns) -> FigureResult:
    """Draw a row for each image: the image, and each run's map over it."""
    labels, opened = zip(*runs.runs, strict=True)
    first, *others = opened
    known = known_split(first)
    for run in others:
        samples = [each.record.get("data", {}).get("known") for each in (first, run)]
        if samples[0] != samples[1] or run.known is None:
            raise FigureError(
                f"{run.folder.path} was tested on other known samples than {first.folder.path}; "
                "name runs of one protocol and trial"
            )
    chosen = chosen_rows(first, shape, tuple(others))
    pixels = split_images(first, "known", chosen, runs.data_root)
    classes = known.label[chosen]
    names = [first.class_names[number] for number in classes]
    images: list[tuple[int, int, Pixels]] = [(row, 0, image) for row, image in enumerate(pixels)]
    rows: dict[tuple[int, int], tuple[Any, ...]] = {}  # by row and column of the figure
    for column, (label, run) in enumerate(runs.runs, start=1):
        maps, probabilities = _maps(run, chosen, pixels, classes, shape)
        for row, (values, probability) in enumerate(zip(maps, probabilities, strict=True)):
            images.append((row, column, heated(pixels[row], values)))
            numbers = float(probability), inside(values)
            rows[row, column] = (label, int(chosen[row]), names[row], *numbers)
    return FigureResult(
        chart=image_table(
            images,
            f"Rows of images with the class activation maps of {', '.join(labels)}.",
            rows=names,
            columns=["image", *labels],
        ),
        caption=(
            "Class activation maps of known test images for their true class, bright where the "
            "image speaks for the class most; each map is scaled from its least to its greatest "
            "value. The images were drawn by a seed among those that every run gets right."
        ),
        columns=(
            "run",
            "row",
            "class",
            "probability of the class",
            "share of the map's middle half",
        ),
        rows=[rows[place] for place in sorted(rows)],
    )


def heated(image: Pixels, values: Floats) -> Pixels:
    """An image with a map over it, uint8 [H, W, 3], enlarged to a side of at least 96 pixels."""
    from PIL import Image

    times = max(1, 96 // max(image.shape[:2]))
    colours = np.broadcast_to(image, (*image.shape[:2], 3))
    below = colours.repeat(times, axis=0).repeat(times, axis=1)
    size = (below.shape[1], below.shape[0])
    smooth = Image.fromarray(scaled(values)).resize(size, Image.Resampling.BILINEAR)
    steps = np.linspace(0.0, 1.0, len(HEAT))
    over = np.stack([np.interp(np.asarray(smooth), steps, channel) for channel in HEAT.T], axis=-1)
    mixed: Pixels = (HEAT_SHARE * over + (1 - HEAT_SHARE) * below).round().astype(np.uint8)
    return mixed


def scaled(values: Floats) -> Floats:
    """A map from 0 at its least value to 1 at its greatest, as such maps are shown; 0 if flat."""
    span = float(np.ptp(values))
    return (values - values.min()) / span if span > 0 else np.zeros_like(values)


def inside(values: Floats) -> float:
    """Share of a scaled map that lies in the middle half of the image's side."""
    cut = scaled(values)
    height, width = cut.shape
    middle = cut[height // 4 : height - height // 4, width // 4 : width - width // 4]
    total = float(cut.sum())
    return float(middle.sum()) / total if total > 0 else 0.0


def chosen_rows(run: RunData, shape: ClassActivation, others: tuple[RunData, ...] = ()) -> Integers:
    """Known test samples that the run and others classify rightly, of each class in turn, drawn
    by a seed."""
    known = known_split(run)
    right = known.correct.copy()
    for other in others:
        right &= known_split(other).correct
    random = np.random.default_rng(shape.seed)
    turns: dict[int, int] = {}
    ranked = []
    for row in random.permutation(np.flatnonzero(right)).tolist():
        number = int(known.label[row])
        turns[number] = turns.get(number, -1) + 1
        ranked.append((turns[number], number, row))
    if not ranked:
        raise FigureError(f"{run.folder.path} classifies no known test sample rightly")
    # The n-th sample of every class comes before the n+1-th of any.
    return np.array([row for _turn, _number, row in sorted(ranked)[: shape.images]])


def _maps(
    run: RunData, rows: Integers, images: Pixels, labels: Integers, shape: ClassActivation
) -> tuple[Floats, Floats]:
    """Maps [n, h, w] and probabilities of the true class [n]; computed once and kept."""
    digest = hashlib.sha256(repr((rows.tolist(), shape.map)).encode()).hexdigest()[:16]
    arrays = kept(run, f"activation-{digest}")
    if arrays is None:
        arrays = _computed(run, images, labels, shape.map)
        keep(run, f"activation-{digest}", arrays)
    return arrays["maps"], arrays["probabilities"]


def _computed(run: RunData, images: Pixels, labels: Integers, map_name: str) -> dict[str, Any]:
    import torch

    from openset_core.data.inference_input import inference_inputs
    from openset_core.inference.trained_model import load

    trained = load(run.folder.path)
    image = trained.description.image
    name = map_of(trained.network, map_name, image.size, str(run.folder.path))
    pixels = trained.pixel_scale(
        torch.cat(list(inference_inputs(images, image))).to(trained.device)
    )
    truth = torch.from_numpy(labels).to(trained.device)
    maps, logits = activation_maps(trained.network, pixels, truth, name)
    shares = logits.softmax(dim=1).cpu().numpy()
    return {"maps": maps.cpu().numpy(), "probabilities": shares[np.arange(len(labels)), labels]}
