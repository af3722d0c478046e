"""Class activation maps over images: where an image speaks for its class."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from openset_core.errors import FigureError
from openset_core.report.data import Integers, RunData
from openset_core.report.figure_cache import keep, kept, split_images
from openset_core.report.figures import ClassActivation
from openset_core.report.figures.picture import Numbers, Picture
from openset_core.report.figures.retrieval import show_image
from openset_core.report.figures.runs import FigureRuns
from openset_core.report.style import DOUBLE_COLUMN, new_figure

if TYPE_CHECKING:
    from torch import Tensor

    from openset_core.components import OpenSetModel

Floats = npt.NDArray[np.float32]
LEAST_SIDE = 4
"""A map with fewer pixels a side says little about where."""


def activation_maps(
    model: OpenSetModel, images: Tensor, labels: Tensor, map_name: str
) -> tuple[Tensor, Tensor]:
    """Class activation maps of some images.

    Channel k of the map weighs sum_xy dz/dA_k(x, y), with z the logit of the image's class. Where
    the vector is the average over this map and the logits are linear in it, as in Zhou et al., CVPR
    2016, that is the class's weight of the channel, so that the result is their class activation
    map; otherwise it is Grad-CAM's (Selvaraju et al., ICCV 2017) but for a constant factor, without
    the final rectifier.

    Args:
        model: in evaluation mode.
        images: preprocessed, float [B, C, H, W].
        labels: the class of each image, int64 [B].
        map_name: name of the backbone's map.

    Returns:
        Maps, float [B, h, w], and logits, float [B, K].

    Raises:
        FigureError: the logits do not depend on the map.
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


def map_of(model: OpenSetModel, wish: str, image_size: int, where: str) -> str:
    """Name of the map that is looked at.

    Args:
        model: the network.
        wish: a name; the deepest map with enough pixels without.
        image_size: height and width of the images.
        where: the run, for messages.

    Raises:
        FigureError: there is no such map.
    """
    maps = {info.name: info.side(image_size) for info in model.backbone.feature_info}
    if wish and wish not in maps:
        raise FigureError(
            f"the backbone of {where} has no feature map {wish!r}; it has "
            f"{', '.join(maps) or 'none'}"
        )
    large = [name for name, side in maps.items() if side >= LEAST_SIDE] or list(maps)
    if not large:
        raise FigureError(f"the backbone of {where} hands out no feature map")
    return wish or large[-1]


def draw(shape: ClassActivation, runs: FigureRuns) -> Picture:
    """Draw a row for each image: the image, and each run's map over it."""
    named = runs.runs
    first = named[0][1]
    for _label, run in named[1:]:
        _check_same_samples(first, run)
    rows = chosen_rows(first, shape, tuple(run for _label, run in named[1:]))
    images = split_images(first, "known", rows, runs.data_root)
    assert first.known is not None
    labels = first.known.label[rows]
    found = [_maps(run, rows, images, labels, shape) for _label, run in named]
    columns = len(named) + 1
    side = min(1.1, DOUBLE_COLUMN / (columns + 0.6))
    figure = new_figure(side * (columns + 0.6), side * len(rows) + 0.3)
    grid = figure.subplots(len(rows), columns, squeeze=False)
    numbers: list[tuple[Any, ...]] = []
    for row, image in enumerate(images):
        show_image(grid[row, 0], image)
        grid[row, 0].set_ylabel(first.class_names[labels[row]], fontsize=7)
        for column, (maps, probabilities) in enumerate(found, start=1):
            axes = grid[row, column]
            show_image(axes, image)
            height, width = image.shape[:2]
            axes.imshow(
                scaled(maps[row]),
                cmap="inferno",
                vmin=0.0,
                vmax=1.0,
                alpha=0.6,
                interpolation="bilinear",
                extent=(-0.5, width - 0.5, height - 0.5, -0.5),
            )
            numbers.append(
                (
                    named[column - 1][0],
                    int(rows[row]),
                    first.class_names[labels[row]],
                    float(probabilities[row]),
                    float(inside(maps[row])),
                )
            )
    grid[0, 0].set_title("image", fontsize=7)
    for column, (label, _run) in enumerate(named, start=1):
        grid[0, column].set_title(label, fontsize=7)
    return Picture(
        figure=figure,
        caption=(
            "Class activation maps of known test images for their true class, bright where the "
            "image speaks for the class most; each map is scaled from its least to its greatest "
            "value. The images were drawn by a seed among those that every run gets right."
        ),
        alt=f"Rows of images with the class activation maps of {', '.join(n for n, _ in named)}.",
        numbers=Numbers(
            ("run", "row", "class", "probability of the class", "share of the map's middle half"),
            numbers,
        ),
    )


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


def _check_same_samples(first: RunData, run: RunData) -> None:
    """Refuse a run that was tested on other known samples."""
    samples = [each.record.get("data", {}).get("known") for each in (first, run)]
    if samples[0] != samples[1] or run.known is None:
        raise FigureError(
            f"{run.folder.path} was tested on other known samples than {first.folder.path}; name "
            "runs of one protocol and trial"
        )


def chosen_rows(run: RunData, shape: ClassActivation, others: tuple[RunData, ...] = ()) -> Integers:
    """Known test samples that are classified rightly, of each class in turn, drawn by a seed.

    Args:
        run: the run.
        shape: how many, and the seed.
        others: further runs that must classify them rightly, too.

    Raises:
        FigureError: there is none.
    """
    if run.known is None:
        raise FigureError("; ".join(run.gaps) or f"{run.folder.path} has no features")
    right = run.known.correct.copy()
    for other in others:
        assert other.known is not None
        right &= other.known.correct
    random = np.random.default_rng(shape.seed)
    order = random.permutation(np.flatnonzero(right))
    turns: dict[int, int] = {}
    keys = []
    for row in order:  # the n-th sample of every class comes before the n+1-th of any
        number = int(run.known.label[row])
        turns[number] = turns.get(number, -1) + 1
        keys.append((turns[number], number))
    ranked = [int(order[i]) for i in sorted(range(len(order)), key=keys.__getitem__)]
    if not ranked:
        raise FigureError(f"{run.folder.path} classifies no known test sample rightly")
    return np.array(ranked[: shape.images])


def _maps(
    run: RunData,
    rows: Integers,
    images: npt.NDArray[np.uint8],
    labels: Integers,
    shape: ClassActivation,
) -> tuple[Floats, Floats]:
    """Maps [n, h, w] and probabilities of the true class [n]; computed once and kept."""
    digest = hashlib.sha256(repr((rows.tolist(), shape.map)).encode()).hexdigest()[:16]
    found = kept(run, f"activation-{digest}")
    if found is None:
        found = _computed(run, images, labels, shape)
        keep(run, f"activation-{digest}", found)
    return found["maps"], found["probabilities"]


def _computed(
    run: RunData, images: npt.NDArray[np.uint8], labels: Integers, shape: ClassActivation
) -> dict[str, Any]:
    import torch

    from openset_core.data.inference_input import inference_inputs
    from openset_core.inference.trained_model import load

    trained = load(run.folder.path)
    image = trained.description.image
    name = map_of(trained.network, shape.map, image.size, str(run.folder.path))
    pixels = torch.cat(list(inference_inputs(images, image))).to(trained.device)
    maps, logits = activation_maps(
        trained.network,
        trained.pixel_scale(pixels),
        torch.from_numpy(labels).to(trained.device),
        name,
    )
    shares = logits.softmax(dim=1).cpu().numpy()
    return {
        "maps": maps.cpu().numpy(),
        "probabilities": shares[np.arange(len(labels)), labels],
    }
