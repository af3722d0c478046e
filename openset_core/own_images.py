"""A person's own images as a data set and a protocol, so that they train like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np

from openset_core import config, specs
from openset_core.data.images import DataRequest, ImageSet
from openset_core.errors import DataError
from openset_core.experiment import DEFAULT_PROTOCOL
from openset_core.files import write_text
from openset_core.plugins import Part, Registry, registry
from openset_core.protocols import (
    ImageOptions,
    KnownPart,
    ProtocolFile,
    ReportOptions,
    ThresholdRule,
    ValidationPart,
    load_protocol,
)

DATASET = "own-images"

RECIPE: dict[str, Any] = {
    "epochs": 20,
    "batch_size": 64,
    "lr": 0.05,
    "nesterov": True,
    "weight_decay": 5e-4,
    "schedule": "one-cycle",
    "warmup_epochs": 2,
}
"""Training options for images that no protocol knows; a method's own recipe wins, then the user."""

_LEAST_DEVIATION = 1e-3


@attrs.frozen(eq=False)
class InMemory:
    """Factory of a data set whose images are there already.

    Attributes:
        parts: images by part.
    """

    parts: dict[str, ImageSet]

    def __call__(self, _config: specs.NoOptions, request: DataRequest) -> ImageSet:
        """The images of a part."""
        return self.parts[request.part]


def registry_with(train: ImageSet, test: ImageSet, plugins: Registry | None = None) -> Registry:
    """The installed parts and a data set `own-images` of these images."""
    spec = specs.DatasetSpec(
        name=DATASET,
        summary="images handed over in memory",
        factory=InMemory({"train": train, "test": test}),
        classes=train.classes,
    )
    part = Part(spec=spec, distribution="this process", version="0")
    return (plugins or registry()).extended(part)


def own_protocol(
    images: ImageSet,
    *,
    size: int,
    validation: float = 0.1,
    acceptance: float = 0.95,
    test_fraction: float | None = None,
) -> ProtocolFile:
    """A protocol in which all classes of some images are known.

    Preprocessing standardises by the images' own mean and deviation. Parts that the user does not
    name are those of the default protocol.

    Args:
        images: the training images.
        size: height and width that the network sees.
        validation: share of each class held out for the threshold; raised until at least one
            sample is held out.
        acceptance: share of the held-out samples to accept.
        test_fraction: share of each class used for testing, for a set without a test part.

    Raises:
        DataError: no class has two samples, so that none could be held out.
    """
    largest = int(np.bincount(images.labels).max())
    if largest < 2:
        raise DataError(
            "each class has one image; some need two, to hold one out for the threshold"
        )
    channels = images.images.shape[3]
    mean, std = statistics(images)
    return ProtocolFile(
        summary="own images",
        known=KnownPart(dataset=DATASET, classes="all", test_fraction=test_fraction),
        image=ImageOptions(size=size, channels=channels, mean=mean, std=std),
        validation=ValidationPart(fraction=max(validation, 0.51 / largest)),
        threshold=ThresholdRule(acceptance=acceptance),
        report=ReportOptions(metrics=("accuracy",)),
        defaults=load_protocol(DEFAULT_PROTOCOL).content.defaults,
        training=dict(RECIPE),
    )


def statistics(images: ImageSet) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel, of pixels in [0, 1]."""
    count = np.zeros((images.images.shape[3], 256), dtype=np.int64)
    for channel in range(len(count)):
        for start in range(0, len(images), 4096):
            block = images.images[start : start + 4096, :, :, channel]
            count[channel] += np.bincount(block.ravel(), minlength=256)
    values = np.arange(256) / 255
    share = count / count.sum(axis=1, keepdims=True)
    mean = share @ values
    deviation = np.sqrt(np.maximum(share @ values**2 - mean**2, 0.0))
    # One value everywhere has no deviation to divide by.
    deviation[deviation < _LEAST_DEVIATION] = 1.0
    return tuple(np.round(mean, 6).tolist()), tuple(np.round(deviation, 6).tolist())


def write_protocol(content: ProtocolFile, path: Path) -> None:
    """Write a protocol's TOML file."""
    import tomli_w

    write_text(path, tomli_w.dumps(config.unstructure(content)))
