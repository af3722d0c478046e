"""The protocol of images that no protocol knows: all else than the data is the usual."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from openset_core.data.images import Images
from openset_core.experiment import config
from openset_core.experiment.experiment import DEFAULT_PROTOCOL
from openset_core.experiment.protocol import (
    ImageOptions,
    KnownSection,
    ProtocolFile,
    ReportOptions,
    ThresholdRule,
    UnknownSection,
    ValidationSection,
    load_protocol,
)
from openset_core.files import write_text

LIST_DATASET = "image-list"
LIST_NAME = "images.csv"

RECIPE: dict[str, Any] = {
    "epochs": 20,
    "batch_size": 64,
    "lr": 0.02,
    "nesterov": True,
    "weight_decay": 5e-4,
    "schedule": "one-cycle",
    "warmup_epochs": 2,
}
"""Training options for images that no protocol knows; a method's own recipe wins, then the user.

The rate is low for networks with BatchNorm that start from random weights, which learn as well at
0.05, and right for pretrained ones; at 0.05 one without BatchNorm may diverge.
"""

FEW_IMAGES = 5000
FEW_BATCH_SIZE = 32
"""Fewer images give too few steps in as many epochs; on 780 photographs of three classes, batches
of 32 instead of 64 raised validation accuracy from 52.8 to 58.3 % (one run each, at rate 0.05)."""

OPEN_METRICS = ("accuracy", "auroc", "macro_f1", "known_accepted", "unknown_rejected")
CLOSED_METRICS = ("accuracy", "known_accepted")
"""What tables show with and without unknown test images."""

_LEAST_DEVIATION = 1e-3
_CHUNK = 4096


def own_protocol(
    known: KnownSection,
    image: ImageOptions,
    *,
    unknown: bool,
    validation: float,
    acceptance: float = 0.95,
    images: int,
    **facts: Any,
) -> ProtocolFile:
    """A protocol for own images. Components that the user does not name are the default protocol's.

    `unknown` says whether the other classes are the unknown test images, `validation` which share
    is held out where no list says, `images` how many there are to train on, for the recipe;
    `facts` are the protocol's name and the like.
    """
    rest = {"unknown": UnknownSection(dataset=known.dataset, options=known.options)}
    return ProtocolFile(
        **facts,
        known=known,
        image=image,
        unknown=rest if unknown else {},
        validation=ValidationSection(fraction=validation),
        threshold=ThresholdRule(acceptance=acceptance),
        report=ReportOptions(metrics=OPEN_METRICS if unknown else CLOSED_METRICS),
        defaults=load_protocol(DEFAULT_PROTOCOL).content.defaults,
        training=RECIPE | ({"batch_size": FEW_BATCH_SIZE} if images < FEW_IMAGES else {}),
    )


def statistics(
    images: Images, rows: npt.NDArray[np.int64] | None = None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel, of pixels in [0, 1], over some rows or all."""
    rows = np.arange(len(images)) if rows is None else rows
    count: Any = 0  # of each of the 256 pixel values, [C, 256]
    for start in range(0, len(rows), _CHUNK):
        channels = np.moveaxis(images.gather(rows[start : start + _CHUNK]), 3, 0)
        count += np.stack([np.bincount(channel.ravel(), minlength=256) for channel in channels])
    values = np.arange(256) / 255
    share = count / np.sum(count, axis=1, keepdims=True)
    mean = share @ values
    deviation = np.sqrt(np.maximum(share @ values**2 - mean**2, 0.0))
    # One value everywhere has no deviation to divide by.
    deviation[deviation < _LEAST_DEVIATION] = 1.0
    return tuple(np.round(mean, 6).tolist()), tuple(np.round(deviation, 6).tolist())


def write_protocol(content: ProtocolFile, path: Path) -> None:
    import tomli_w

    write_text(path, tomli_w.dumps(config.unstructure(content)))
