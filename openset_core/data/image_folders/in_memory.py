"""Own images that are in memory already."""

from __future__ import annotations

import numpy as np

from openset_core import specs
from openset_core.data.image_folders.protocol import own_protocol, statistics
from openset_core.data.images import DataRequest, ImageSet
from openset_core.errors import DataError
from openset_core.experiment.protocol import ImageOptions, KnownSection, ProtocolFile
from openset_core.registry import Component, Registry, registry

DATASET = "own-images"


def registry_with(train: ImageSet, test: ImageSet, plugins: Registry | None = None) -> Registry:
    """The installed components and a data set `own-images` of these images."""
    images = {"train": train, "test": test}

    def serve(_config: specs.NoOptions, request: DataRequest) -> ImageSet:
        return images[request.part]

    summary = "images handed over in memory"
    spec = specs.DatasetSpec(name=DATASET, summary=summary, factory=serve, classes=train.classes)
    dataset = Component(spec=spec, distribution="this process", version="0")
    return (plugins or registry()).extended(dataset)


def protocol_of(
    images: ImageSet, *, size: int, validation: float, acceptance: float
) -> ProtocolFile:
    """A protocol in which all classes of some images are known, standardised by their statistics.

    The share of each class held out for validation is raised until that is at least one sample.
    """
    largest = int(np.bincount(images.labels).max())
    if largest < 2:
        raise DataError(
            "each class has one image; some need two, to hold one out for the threshold"
        )
    mean, std = statistics(images)
    return own_protocol(
        KnownSection(dataset=DATASET, classes="all"),
        ImageOptions(size=size, channels=images.images.shape[3], mean=mean, std=std),
        summary="own images",
        unknown=False,
        validation=max(validation, 0.51 / largest),
        acceptance=acceptance,
        images=len(images),
    )
