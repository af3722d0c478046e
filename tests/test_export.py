"""Exported files say what the model says, and are not kept when they do not."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import openset_core
from openset_core import api
from openset_core.errors import ModelError
from openset_core.inference.export import checking, onnx_file, torch_file
from openset_core.inference.export.export_module import prepare_export
from openset_core.registry import registry
from openset_core.scoring.fitting import build_scorer

MISSING = [name for name in onnx_file.PACKAGES if importlib.util.find_spec(name) is None]
needs_onnx = pytest.mark.skipif(
    bool(MISSING), reason=f"{', '.join(MISSING)} not installed (extra `onnx`)"
)

FORMS = [
    ("msp", {}),
    ("msp", {"temperature": 3.0}),
    ("entropy", {}),
    ("max-logit", {}),
    ("energy", {"temperature": 0.5}),
    ("knn", {"k": 3}),
    ("knn", {"k": 500, "normalize": False}),
    ("mahalanobis", {}),
    ("mahalanobis", {"covariance": "class", "regularization": "ridge", "ridge": 0.1}),
    ("prototype-distance", {}),
    ("prototype-distance", {"metric": "squared"}),
    ("prototype-distance", {"metric": "cosine"}),
    ("openmax", {}),
    ("openmax", {"alpha": 2, "score": "probability"}),
    ("openmax", {"distance": "euclidean", "negative": "keep"}),
    ("openmax", {"distance": "cosine", "negative": "clip", "shift": 10000.0}),
]


class Rows:
    """Training features of four classes."""

    num_classes, rows = 4, 120

    def __init__(self, only_correct=True):
        rng = np.random.default_rng(0)
        self.label = np.arange(self.rows) % 4
        logits = rng.normal(size=(self.rows, 4)) + 5 * np.eye(4)[self.label]
        if not only_correct:  # classes 1 and 2 have one correct sample, and equal ones
            logits[self.label == 1] = -logits[self.label == 1]
            logits[1] = [0.0, 9.0, 0.0, 0.0]
            logits[self.label == 2] = [0.0, 0.0, 7.0, 1.0]
        self.logits = logits.astype(np.float32)
        self.embedding = rng.normal(size=(self.rows, 6)).astype(np.float32)
        self.embedding += 3 * np.eye(6, dtype=np.float32)[self.label]

    def chunks(self, *arrays):
        yield {name: getattr(self, name) for name in arrays}


def queries():
    rng = np.random.default_rng(1)
    logits = rng.normal(scale=6, size=(60, 4))
    logits[:4] = [[40, 0, 0, 0], [1, 1, 1, 1], [-5, -6, -7, -8], [0, 0, 0, 0]]
    embedding = rng.normal(scale=3, size=(60, 6))
    embedding[0] = 0
    embedding[1] = Rows().embedding[0]
    return {"embedding": embedding.astype(np.float32), "logits": logits.astype(np.float32)}


@pytest.mark.parametrize("only_correct", [True, False])
@pytest.mark.parametrize(("name", "options"), FORMS)
def test_torch_form_equals_the_score(name, options, only_correct):
    part = registry().find(name, ("scorer",))
    scorer = build_scorer(part, part.spec.config(**options))
    scorer.fit(Rows(only_correct))
    table = queries()
    expected = scorer.score(table)
    module = scorer.torch_module().eval()
    with torch.inference_mode():
        found = module({key: torch.from_numpy(array) for key, array in table.items()})
        one = module({key: torch.from_numpy(array[5:6]) for key, array in table.items()})
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-7)
    np.testing.assert_allclose(one, expected[5:6], rtol=1e-9, atol=1e-7)


# --- files ----------------------------------------------------------------------------------------


def session_of(path):
    import onnxruntime

    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def images_for(model, count, seed=3):
    image = model.description.image
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, image.channels, image.size, image.size), dtype=np.uint8)


@needs_onnx
def test_onnx_file_decides_as_the_model_does(openset, finished):
    answer = openset("export", finished, "--to", "onnx")
    assert answer.code == 0, answer.err
    assert f"written {finished / 'model.onnx'}" in answer.out
    model = openset_core.load(finished, device="cpu")
    session = session_of(finished / "model.onnx")
    assert [value.name for value in session.get_inputs()] == ["images"]
    assert [value.name for value in session.get_overridable_initializers()] == ["threshold"]
    for count in (1, 7):
        images = images_for(model, count)
        expected = model.predictions(torch.from_numpy(images))
        found = dict(
            zip(
                ("probabilities", "score", "unknown", "label"),
                session.run(None, {"images": images}),
                strict=True,
            )
        )
        assert found["probabilities"].shape == (count, 3)
        np.testing.assert_allclose(found["probabilities"], expected.probabilities, atol=1e-5)
        np.testing.assert_allclose(found["score"], expected.scores, atol=1e-5)
        np.testing.assert_array_equal(found["unknown"], expected.unknown)
        labels = np.where(expected.unknown, -1, expected.winners)
        np.testing.assert_array_equal(found["label"], labels)
    # Another threshold than the stored one, without another file.
    images = images_for(model, 9)
    middle = float(np.median(model.scores(torch.from_numpy(images))))
    feed = {"images": images, "threshold": np.array(middle)}
    _probabilities, score, unknown, label = session.run(None, feed)
    assert 0 < unknown.sum() < 9
    np.testing.assert_array_equal(unknown, score > middle)
    np.testing.assert_array_equal(label == -1, unknown)
    written = session.get_modelmeta().custom_metadata_map
    assert json.loads(written["openset.classes"]) == list(model.classes)
    assert float(written["openset.threshold"]) == model.threshold
    assert written["openset.scorer"] == "msp"
    assert json.loads(written["openset.image"])["size"] == 16


@needs_onnx
@pytest.mark.parametrize(
    "scorer",
    [
        "openmax",
        pytest.param("knn", marks=pytest.mark.slow),
        pytest.param("mahalanobis", marks=pytest.mark.slow),
    ],
)
def test_scorers_with_state_in_onnx(openset, finished, tmp_path, scorer):
    openset("score", finished, "--plugins", scorer)
    target = tmp_path / "deep" / "one.onnx"
    answer = openset("export", finished, "--to", "onnx", "--scorer", scorer, "-o", target)
    assert answer.code == 0, answer.err
    model = openset_core.load(finished, device="cpu", scorer=scorer)
    images = images_for(model, 5)
    found = session_of(target).run(["score", "unknown"], {"images": images})
    expected = model.predictions(torch.from_numpy(images))
    np.testing.assert_allclose(found[0], expected.scores, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(found[1], expected.unknown)


def test_torchexport_file_decides_as_the_model_does(openset, finished):
    answer = openset("export", finished / "model", "--to", "torchexport")
    assert answer.code == 0, answer.err
    extra = {torch_file.DESCRIPTION: ""}
    program = torch.export.load(finished / "model.pt2", extra_files=extra)
    model = openset_core.load(finished, device="cpu")
    threshold = float(json.loads(extra[torch_file.DESCRIPTION])["openset.threshold"])
    assert threshold == model.threshold
    for count in (1, 6):
        images = torch.from_numpy(images_for(model, count))
        expected = model.predictions(images)
        found = program.module()(images, torch.tensor(threshold, dtype=torch.float64))
        np.testing.assert_allclose(found[1].numpy(), expected.scores, atol=1e-5)
        np.testing.assert_array_equal(found[2], expected.unknown)


@needs_onnx
@pytest.mark.slow
@pytest.mark.parametrize(
    ("plugins", "options"),
    [
        ("arpl,tiny", {}),
        ("rpl,tiny", {}),
        ("gcpl,tiny", {}),
        ("m2iosr,tiny", {"m2iosr": {"hidden": 16, "global_channels": [8, 8]}}),
        ("softmax,resnet18", {}),
        ("softmax,timm:efficientnet_b0", {}),
    ],
)
def test_losses_and_backbones_in_onnx(tiny, tmp_path, plugins, options):
    api.run(plugins, "tiny-digits", epochs=1, out=tmp_path / "run", device="cpu", set=options)
    model = openset_core.load(tmp_path / "run", device="cpu")
    assert onnx_file.write(prepare_export(model), tmp_path / "x.onnx") < 1e-2
    images = images_for(model, 5)
    score = session_of(tmp_path / "x.onnx").run(["score"], {"images": images})[0]
    expected = model.scores(torch.from_numpy(images))
    np.testing.assert_allclose(score, expected, rtol=1e-3, atol=1e-4)


# --- refused --------------------------------------------------------------------------------------


def without_form(monkeypatch, name):
    part = registry().find(name, ("scorer",))
    monkeypatch.setattr(part.load(), "torch_module", lambda _self: None)


@pytest.mark.parametrize("form", ["onnx", "torchexport"])
def test_scorer_without_a_torch_form_is_named_with_those_that_have_one(
    openset, finished, monkeypatch, form
):
    if form == "onnx" and MISSING:
        pytest.skip("extra `onnx` is not installed")
    openset("score", finished, "--plugins", "energy")
    without_form(monkeypatch, "energy")
    answer = openset("export", finished, "--to", form, "--scorer", "energy")
    assert answer.code == 2
    assert answer.err.startswith("error: scorer energy of openset ")
    assert "cannot be exported; of this run's scorers msp can, by --scorer msp" in answer.err
    without_form(monkeypatch, "msp")
    answer = openset("export", finished, "--to", form)
    assert "none of this run's scorers can; `openset score RUN --plugins NAME`" in answer.err
    assert not [*finished.glob("model.*")]


class Shifted(nn.Module):
    def forward(self, table):
        return -table["logits"].double().max(dim=1).values + 0.01


class Branching(nn.Module):
    def forward(self, table):
        scores = -table["logits"].double().max(dim=1).values
        return scores if scores.sum().item() > 1e9 else scores * 1.0


def test_wrong_torch_form_is_refused(openset, finished, monkeypatch):
    openset("score", finished, "--plugins", "max-logit")
    part = registry().find("max-logit", ("scorer",))
    monkeypatch.setattr(part.load(), "torch_module", lambda _self: Shifted())
    answer = openset("export", finished, "--to", "torchexport", "--scorer", "max-logit")
    assert answer.code == 2
    assert "its torch form differs from its score by 0.01" in answer.err
    assert not (finished / "model.pt2").exists()


def test_form_that_torch_cannot_trace_is_one_sentence(openset, finished, monkeypatch):
    openset("score", finished, "--plugins", "max-logit")
    part = registry().find("max-logit", ("scorer",))
    monkeypatch.setattr(part.load(), "torch_module", lambda _self: Branching())
    answer = openset("export", finished, "--to", "torchexport", "--scorer", "max-logit")
    assert answer.code == 2
    assert "softmax on tiny with max-logit cannot be exported to torch.export" in answer.err
    assert answer.err.count("\n") == 1
    assert not (finished / "model.pt2").exists()


def test_missing_packages_are_named(openset, finished, monkeypatch):
    monkeypatch.setattr(onnx_file.importlib.util, "find_spec", lambda name: None)
    answer = openset("export", finished, "--to", "onnx")
    assert answer.code == 2
    assert "onnx, onnxruntime, onnxscript; install with: pip install 'openset[onnx]'" in (
        answer.err
    )


def test_mistakes_of_the_user(openset, finished, tmp_path):
    assert openset("export", finished).code == 2
    assert openset("export", finished, "--to", "tflite").code == 2
    answer = openset("export", finished, "--to", "torchexport", "--scorer", "knn")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert openset("export", tmp_path, "--to", "torchexport").code == 2
    (tmp_path / "file").touch()
    answer = openset("export", finished, "--to", "torchexport", "-o", tmp_path / "file" / "x.pt2")
    assert answer.code == 2
    assert "cannot be written" in answer.err


CHANGES = {
    "probabilities": (0, lambda a: a + 0.01, "gives probabilities that differ"),
    "score": (1, lambda a: a + 0.01, "gives score that differ"),
    "no number": (1, lambda a: a * np.nan, "gives score that differ"),
    "decision": (2, lambda a: ~a, "decides otherwise"),
    "label": (3, lambda a: a + 1, "decides otherwise"),
    "type": (1, lambda a: a.astype(np.float32), "gives score as float32 [1], not float64 [1]"),
    "shape": (2, lambda a: a[:, None], "gives unknown as bool [1, 1], not bool [1]"),
}


@pytest.mark.parametrize(("place", "change", "said"), CHANGES.values(), ids=CHANGES.keys())
def test_a_file_that_differs_is_refused(finished, place, change, said):
    exported = prepare_export(openset_core.load(finished, device="cpu"))

    def run(images, threshold):
        with torch.inference_mode():
            answer = exported.module(
                torch.from_numpy(images), torch.tensor(threshold, dtype=torch.float64)
            )
        return [tensor.numpy() for tensor in answer]

    def changed(images, threshold):
        outputs = run(images, threshold)
        outputs[place] = change(outputs[place])
        return outputs

    assert checking.check_file(exported, run, "it") == 0.0
    with pytest.raises(ModelError) as caught:
        checking.check_file(exported, changed, "it")
    assert said in str(caught.value)


@needs_onnx
def test_an_onnx_file_that_differs_is_not_kept(openset, finished, monkeypatch):
    def refuse(*_arguments):
        raise ModelError("it differs")

    monkeypatch.setattr(onnx_file, "check_file", refuse)
    (finished / "model.onnx").write_text("old")
    assert openset("export", finished, "--to", "onnx").code == 2
    assert (finished / "model.onnx").read_text() == "old"
    assert not [path for path in finished.iterdir() if path.name.endswith(".partial")]


@needs_onnx
def test_images_of_any_size_are_brought_to_the_models(openset, finished):
    openset("export", finished, "--to", "onnx")
    openset("export", finished, "--to", "torchexport")
    model = openset_core.load(finished, device="cpu")
    session = session_of(finished / "model.onnx")
    program = torch.export.load(finished / "model.pt2").module()
    threshold = torch.tensor(model.threshold, dtype=torch.float64)
    channels = model.description.image.channels
    rng = np.random.default_rng(5)
    for height, width in ((40, 40), (61, 30), (9, 200), (1, 1)):
        coarse = rng.integers(0, 256, (4, 4), dtype=np.uint8)
        photo = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        images = np.asarray(photo)[None, None].repeat(channels, axis=1)
        expected = model.predictions(photo)
        onnx_score = session.run(["score"], {"images": images})[0]
        torch_score = program(torch.from_numpy(images), threshold)[1].numpy()
        np.testing.assert_allclose(onnx_score, expected.scores, atol=5e-3)
        np.testing.assert_allclose(torch_score, expected.scores, atol=5e-3)
