"""A run folder of the version before still opens: `old_run/` holds the text files that it wrote.

Its arrays are made up here in the layout that it wrote; weights are not needed after extraction.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from openset_core import load_run, pipeline
from openset_core.features.store import FeatureStore
from openset_core.model.artefact import read_description
from openset_core.pipeline import Stages
from openset_core.run_folder import Runtime, open_folder

RECORDED = Path(__file__).parent / "old_run"
SAMPLES = {"train": 60, "validation": 20, "known": 30, "unknown/rest": 24}
CLASSES, WIDTH = 6, 8
VERSIONS = {"openset": "0.1.0", "torch": "2.14.1"}


def write_features(path, ingredients):
    """A feature store as `openset-features-1` was written."""
    random = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        text = json.dumps(ingredients, sort_keys=True)
        file.attrs.update(
            format="openset-features-1",
            key=hashlib.sha256(text.encode()).hexdigest(),
            ingredients=text,
            num_classes=CLASSES,
            learnt='{"radius": 0.5}',
        )
        for name, count in SAMPLES.items():
            group = file.create_group(f"parts/{name}")
            group["embedding"] = random.normal(size=(count, WIDTH)).astype(np.float32)
            group["logits"] = random.normal(size=(count, CLASSES)).astype(np.float32)
            group["label"] = np.arange(count) % CLASSES
            group["index"] = np.arange(count)
            group.attrs["complete"] = True
        landmarks = file.create_group("landmarks")
        landmarks.attrs["name"] = "reciprocal point"
        landmarks["points"] = np.zeros((CLASSES, WIDTH), np.float32)
        landmarks["label"] = np.arange(CLASSES)


@pytest.fixture
def old_run(tmp_path, monkeypatch):
    path = shutil.copytree(RECORDED, tmp_path / "run")
    monkeypatch.setattr(pipeline, "library_versions", lambda: VERSIONS)
    folder, experiment = open_folder(path)
    ingredients = {
        "weights": read_description(folder.model).weights_sha256,
        "image": {
            "size": 32, "channels": 1, "mean": [0.0], "std": [1.0], "interpolation": "bilinear"
        },
        "data": folder.read()["record"]["data"],
        **VERSIONS,
    }  # fmt: skip
    write_features(folder.features, ingredients)
    return folder, experiment


def test_an_old_run_is_the_same_experiment(old_run, openset):
    folder, experiment = old_run
    assert experiment.digest == folder.read()["record"]["digest"] == "04c6363126a83c3c"
    assert load_run(folder.path).results.experiment == experiment.digest
    assert load_run(folder.path).history[0]["epoch"] == 1
    shown = openset("show", folder.path)
    assert (shown.code, shown.out.split()[:2]) == (0, ["scorer", "Accuracy"])


def test_old_features_are_current_and_are_scored(old_run):
    folder, experiment = old_run
    with FeatureStore(folder.features) as store:
        assert set(store.splits) == set(SAMPLES)
        assert store.learned_scalars == {"radius": 0.5}
        assert store.landmarks.name == "reciprocal point"
    stages = Stages.begin(folder, experiment, Runtime(device="cpu"))
    stages.extract()  # would need the weights if the features counted as stale
    results = stages.score()
    stages.close()
    assert set(results.scorers) == {"max-logit", "openmax"}
    assert results.samples == SAMPLES
    with h5py.File(folder.scores) as scores:
        assert scores["max-logit/unknown/rest/score"].shape == (24,)
