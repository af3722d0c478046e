"""A loaded model says of new images what the run said of its test images."""

from __future__ import annotations

import importlib.metadata
import pickle
import shutil
import subprocess
import sys
import tomllib

import numpy as np
import pytest
import tomli_w
import torch
from PIL import Image

import openset_core
from openset_core import api
from openset_core.data.images import data_root
from openset_core.data.inference_input import inference_inputs, regrouped
from openset_core.data.preparation import prepare_data
from openset_core.errors import DataError, ModelError
from openset_core.experiment.protocol import ImageOptions
from openset_core.features.store import FeatureStore
from openset_core.inference.trained_model import UNKNOWN, TrainedModel
from openset_core.model.artefact import checksum
from openset_core.registry import Registry
from openset_core.run_folder import open_folder
from openset_core.scoring.fitting import stored_scores

SCORERS = ("msp", "energy", "openmax", "knn", "mahalanobis")


@pytest.fixture
def model(finished):
    return openset_core.load(finished, device="cpu")


@pytest.fixture
def scored(finished, openset):
    """A run with several scorers."""
    assert openset("score", finished, "--plugins", ",".join(SCORERS)).code == 0
    return finished


def images_of(folder, part):
    """The part's images as the data set has them, uint8 [n, H, W, C]."""
    _folder, experiment = open_folder(folder)
    data = prepare_data(experiment.protocol, experiment.trial, data_root()).splits[part]
    return data.images.images[data.split.index]


# --- the same as the run ------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["known", "unknown/near", "unknown/far"])
def test_predictions_of_the_test_images_are_those_of_the_run(scored, part):
    model = openset_core.load(scored, device="cpu")
    images = images_of(scored, part)
    with FeatureStore(scored / "features.h5") as store:
        stored = {name: store.array(part, name) for name in ("logits", "embedding")}
    features = model.features(images, batch_size=50)
    for name, array in stored.items():
        np.testing.assert_allclose(features[name], array, atol=1e-5)
    results = api.load_run(scored).results
    assert set(model.scorer_names) == set(SCORERS)
    for scorer in SCORERS:
        expected = stored_scores(scored / "scores.h5", scorer, part)
        np.testing.assert_allclose(model.scores(images, scorer), expected, rtol=1e-5, atol=1e-5)
        threshold = results.scorers[scorer].threshold
        found = model.predict(images, scorer=scorer)
        winners = stored["logits"].argmax(axis=1)
        assert found == [
            UNKNOWN if score > threshold else model.classes[winner]
            for score, winner in zip(expected, winners, strict=True)
        ]


def test_accuracy_of_the_run_comes_out_again(finished, model):
    _folder, experiment = open_folder(finished)
    data = prepare_data(experiment.protocol, experiment.trial, data_root())
    known = data.splits["known"]
    images = known.images.images[known.split.index]
    right = model.predict_proba(images).argmax(axis=1) == known.split.label
    metrics = api.load_run(finished).results.scorers["msp"].metrics
    assert right.mean() == pytest.approx(metrics["accuracy"])


def test_files_arrays_and_tensors_say_the_same(tmp_path, finished, model):
    images = images_of(finished, "known")[:5]
    paths = []
    for number, image in enumerate(images):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(image[..., 0]).save(paths[-1])
    expected = model.scores(images)
    forms = {
        "paths": paths,
        "texts": [str(path) for path in paths],
        "generator": (path for path in paths),
        "opened": [Image.open(path) for path in paths],
        "arrays": list(images),
        "grey": [image[..., 0] for image in images],
        "colour": np.repeat(images, 3, axis=3),
        "tensor": torch.from_numpy(images).permute(0, 3, 1, 2),
        "tensors": [torch.from_numpy(image).permute(2, 0, 1) for image in images],
        "backwards": images[::-1][::-1],
        "objects": np.array([*map(str, paths)], dtype=object),
    }
    for form, given in forms.items():
        np.testing.assert_allclose(model.scores(given), expected, atol=1e-6, err_msg=form)
    for one in (paths[0], str(paths[0]), Image.open(paths[0]), images[0], images[0][..., 0]):
        np.testing.assert_allclose(model.scores(one), expected[:1], atol=1e-6)


def test_result_does_not_depend_on_the_batch(finished, model):
    images = images_of(finished, "known")[:11]
    whole = model.predictions(images)
    for size in (1, 4, 11):
        part = model.predictions(images, batch_size=size)
        np.testing.assert_allclose(part.scores, whole.scores, atol=1e-6)
        assert part.labels == whole.labels


def test_different_sizes_in_one_list(model):
    rng = np.random.default_rng(0)
    sizes = ((5, 9, 1), (40, 31, 3), (16, 16), (1, 1, 3))
    images = [rng.integers(0, 256, size, dtype=np.uint8) for size in sizes]
    together = model.predict_proba(images)
    assert together.shape == (4, 3)
    np.testing.assert_allclose(together.sum(axis=1), 1.0)
    for image, row in zip(images, together, strict=True):
        np.testing.assert_allclose(model.predict_proba(image), row[None], atol=1e-6)


def test_no_images_give_no_answers(model):
    assert model.predict([]) == []
    assert model.predict_proba([]).shape == (0, 3)
    assert model.scores(np.zeros((0, 8, 8, 1), np.uint8)).shape == (0,)


# --- scorer and threshold -----------------------------------------------------------------------


def test_the_method_s_own_scorer_decides(scored, tmp_path):
    assert openset_core.load(scored).scorer == "msp"
    assert openset_core.load(scored, scorer="knn").scorer == "knn"
    api.run("softmax,tiny,energy,knn", "tiny-digits", epochs=1, out=tmp_path / "own", device="cpu")
    assert openset_core.load(tmp_path / "own").scorer == "energy"


def test_threshold_is_the_stored_one_and_may_be_another(finished, openset, model):
    images = images_of(finished, "unknown/far")
    results = api.load_run(finished).results
    assert model.threshold == results.scorers["msp"].threshold
    scores = model.scores(images)
    middle = float(np.median(scores))
    assert UNKNOWN not in model.predict(images, threshold=1.0)
    assert set(model.predict(images, threshold=-1.0)) == {UNKNOWN}
    rejected = [label == UNKNOWN for label in model.predict(images, threshold=middle)]
    assert rejected == list(scores > middle)
    openset("score", finished, "--threshold", f"score={middle}")
    assert openset_core.load(finished).threshold == middle


def test_predictions_tell_the_likeliest_classes(finished, model):
    found = model.predictions(images_of(finished, "known")[:3])
    assert len(found) == 3
    (first, likelihood), *others = found.top(0, 9)
    assert first == model.classes[found.winners[0]]
    assert likelihood == found.probabilities[0].max()
    assert [p for _, p in others] == sorted((p for _, p in others), reverse=True)
    assert len(others) == 2
    assert len(found.top(0, 1)) == 1


def test_no_gradients_are_kept(finished, model):
    model.predict(images_of(finished, "known")[:2])
    assert all(parameter.grad is None for parameter in model.network.parameters())
    assert not model.network.training


# --- wrong input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.zeros((2, 8, 8, 3), np.float32), "the array holds float32; give pixels as uint8"),
        (np.zeros((8, 8), bool), "holds bool"),
        (np.zeros((8, 8, 4), np.uint8), "shape [8, 8, 4]"),
        (np.zeros((5, 8, 8), np.uint8), "shape [5, 8, 8]"),
        (np.zeros((0, 8, 1), np.uint8), "shape"),
        (np.zeros(9, np.uint8), "shape [9]"),
        (torch.zeros(1, 3, 8, 8), "the tensor holds float32"),
        (torch.zeros(8, 8, dtype=torch.uint8), "shape [8, 8]"),
        ([np.zeros((8, 8), np.uint8), None], "image 1 is a NoneType"),
        ([np.zeros((2, 8, 8, 1), np.uint8)], "image 0 holds 2 images"),
        (7, "a int is no image"),
        (None, "a NoneType is no image"),
        (b"bytes", "a bytes is no image"),
        ({"a": 1}, "a dict is no image"),
        ("no-such.png", "no-such.png does not exist"),
        ([["nested.png"]], "image 0 is a list"),
    ],
)
def test_wrong_input_is_named(model, given, said):
    with pytest.raises(DataError) as caught:
        model.predict(given)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_batches_are_regrouped_without_loss():
    pieces = [torch.arange(n)[:, None] + 100 * n for n in (1, 7, 2, 3, 0, 4)]
    for size in (1, 3, 5, 17, 40):
        batches = list(regrouped(pieces, size))
        assert torch.equal(torch.cat(batches), torch.cat(pieces))
        assert {len(batch) for batch in batches[:-1]} <= {size}


def test_incoming_gives_the_model_s_size_and_channels():
    image = ImageOptions(size=12, channels=3)
    (piece,) = inference_inputs(np.full((20, 30), 77, np.uint8), image)
    assert piece.shape == (1, 3, 12, 12)
    assert (piece == 77).all()


# --- loading ------------------------------------------------------------------------------------


def test_run_folder_and_model_folder_load_alike(finished, tmp_path):
    moved = shutil.copytree(finished / "model", tmp_path / "elsewhere")
    images = images_of(finished, "known")[:4]
    expected = openset_core.load(str(finished)).scores(images)
    for path in (finished / "model", moved):
        np.testing.assert_array_equal(openset_core.load(path).scores(images), expected)


def test_what_is_no_model_is_named(tmp_path, finished):
    with pytest.raises(ModelError, match="does not exist; name a run folder"):
        openset_core.load(tmp_path / "none")
    with pytest.raises(ModelError, match="holds no model"):
        openset_core.load(tmp_path)
    shutil.rmtree(finished / "model")
    with pytest.raises(ModelError, match="has no trained model yet; go on with: openset run"):
        openset_core.load(finished)


def test_missing_scorers_are_named(finished):
    with pytest.raises(ModelError, match="no fitted scorer 'mps'; did you mean msp"):
        openset_core.load(finished, scorer="mps")
    shutil.rmtree(finished / "model" / "scorers")
    model = openset_core.load(finished)
    assert model.predict_proba(np.zeros((8, 8), np.uint8)).shape == (1, 3)
    with pytest.raises(ModelError, match="has no fitted scorer; `openset score RUN` makes one"):
        model.predict(np.zeros((8, 8), np.uint8))


def scorer_toml(folder, change, sealed):
    path = folder / "model" / "scorers" / "msp.toml"
    values = tomllib.loads(path.read_text(encoding="utf-8"))
    change(values)
    if sealed:
        values["sha256"] = checksum(values)
    path.write_text(tomli_w.dumps(values), encoding="utf-8")


def test_edited_threshold_is_refused(finished):
    scorer_toml(finished, lambda values: values.update(threshold=0.9), sealed=False)
    with pytest.raises(ModelError, match=r"msp\.toml is damaged or was changed by hand"):
        openset_core.load(finished).predict(np.zeros((8, 8), np.uint8))


def test_damaged_scorer_description_is_refused(finished):
    scorer_toml(finished, lambda values: values.update(scorer="msp"), sealed=True)
    with pytest.raises(ModelError, match=r"msp\.toml is damaged; delete it"):
        openset_core.load(finished)


def test_scorer_of_a_plugin_that_is_missing_names_what_to_install(finished):
    scorer_toml(
        finished,
        lambda values: values["scorer"].update(distribution="openset-far", version="3.1"),
        sealed=True,
    )
    with pytest.raises(ModelError, match=r"needs scorer msp; install openset-far 3\.1"):
        openset_core.load(finished).predict(np.zeros((8, 8), np.uint8))


def test_backbone_of_a_plugin_that_is_missing_names_what_to_install(finished):
    ours = [
        entry_point
        for entry_point in importlib.metadata.entry_points(group="openset")
        if entry_point.dist.name == "openset"
    ]
    with pytest.raises(ModelError, match=r"needs backbone tiny; install openset-tiny 1\.0"):
        TrainedModel(finished / "model", plugins=Registry(ours))


def test_state_that_does_not_fit_is_refused(scored):
    from safetensors.numpy import save_file

    from openset_core.model.artefact import load_scorer, save_scorer

    record, state = load_scorer(scored / "model", "knn")
    save_scorer(scored / "model", "knn", {"other": state["embedding"]}, record)
    with pytest.raises(ModelError, match=r"scorer knn of openset .* cannot take back its state"):
        openset_core.load(scored).scores(np.zeros((8, 8), np.uint8), "knn")
    save_file({}, scored / "model" / "scorers" / "knn.safetensors")
    with pytest.raises(ModelError, match="damaged or was changed"):
        openset_core.load(scored).scores(np.zeros((8, 8), np.uint8), "knn")


def test_pickled_model_needs_no_folder(scored):
    model = openset_core.load(scored, scorer="knn", device="cpu")
    images = images_of(scored, "known")[:4]
    expected = [model.scores(images, name) for name in SCORERS]
    content = pickle.dumps(model)
    shutil.rmtree(scored)
    again = pickle.loads(content)
    assert again.scorer == "knn"
    assert again.predict(images) == model.predict(images)
    for name, scores in zip(SCORERS, expected, strict=True):
        np.testing.assert_array_equal(again.scores(images, name), scores)
    assert pickle.loads(pickle.dumps(again)).threshold == model.threshold


def test_files_outside_the_model_are_refused():
    for name in ("../evil.toml", "/tmp/evil.toml", "evil.py"):
        with pytest.raises(ModelError, match="is no file of a model"):
            TrainedModel.from_artefact({name: b""})


def test_the_package_alone_loads_no_torch():
    code = "import sys, openset_core; assert 'torch' not in sys.modules; openset_core.load"
    subprocess.run([sys.executable, "-c", code], check=True)
