"""Feature extraction: every sample of a run through its trained network, into the feature store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy.typing as npt
import torch

from openset_core.components import OpenSetModel
from openset_core.data.images import data_root
from openset_core.data.loading import Loader, make_loader
from openset_core.data.preparation import ExperimentData, prepare_data
from openset_core.errors import DataError
from openset_core.experiment.experiment import Experiment
from openset_core.features.store import FeatureWriter, StoredLandmarks, as_float
from openset_core.model.artefact import load_model
from openset_core.model.device import pick_device
from openset_core.run_folder import RunFolder, Runtime

BATCH_SIZE = {"cpu": 64, "accelerator": 512}
"""Images in a batch: on a CPU few, whose maps stay in its caches (a fifth faster than 256 for
classifier32 and resnet18)."""


def extract_features(
    folder: RunFolder,
    experiment: Experiment,
    runtime: Runtime,
    ingredients: Mapping[str, Any],
    data: ExperimentData | None = None,
) -> int:
    """Build the feature store of a run with a trained model; returns the number of samples."""
    data = data or prepare_data(
        experiment.protocol,
        experiment.trial,
        data_root(runtime.data_root),
        runtime.download,
        runtime.plugins,
    )
    facts = data.record()
    for name, recorded in ingredients["data"].items():
        if facts.get(name) != recorded:
            raise DataError(
                f"the data of split {name} changed since {folder.path} was trained; bring back the "
                "old data, or train again in another folder"
            )
    device = torch.device(pick_device(runtime.device))
    batch_size = BATCH_SIZE["cpu" if device.type == "cpu" else "accelerator"]
    model, description = load_model(folder.model, device, runtime.plugins)
    model = model.to(memory_format=torch.channels_last)
    with FeatureWriter(folder.features, ingredients, len(description.classes)) as writer:
        for name, split in data.splits.items():
            if not writer.has(name):
                loader = make_loader(split, description.image, device, batch_size)
                writer.write_split(name, feature_batches(model, loader, runtime.should_stop))
        landmarks = model.loss.landmarks()
        stored = None
        if landmarks is not None:
            labels = landmarks.labels.detach().cpu().numpy()
            stored = StoredLandmarks(as_float(landmarks.points), labels, landmarks.name)
        writer.write_loss(model.loss.learned_scalars(), stored)
    return sum(map(len, data.splits.values()))


@torch.inference_mode()
def feature_batches(
    model: OpenSetModel, loader: Loader, should_stop: Callable[[], None] = lambda: None
) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """What the network says of each sample, in order: the arrays of a store's split."""
    for images, labels, index in loader.in_order():
        embedding, logits = model(images)
        yield {
            "embedding": as_float(embedding),
            "logits": as_float(logits),
            "label": labels.cpu().numpy(),
            "index": index.numpy(),
        }
        should_stop()
