"""Figures for which a network was asked or watched once: generated samples, activation maps, times,
test metrics by epoch. All are made from one small trained run, and again without its network."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from torch import nn

from openset_core import Backbone, FeatureMap, Features, FigureSpec, RepresentationLoss, api
from openset_core.components import OpenSetModel
from openset_core.errors import FigureError
from openset_core.inference.trained_model import load
from openset_core.observers import EpochTested, Observer
from openset_core.registry import registry
from openset_core.report.data import open_run
from openset_core.report.figure_cache import kept
from openset_core.report.figures import ClassActivation, Timing
from openset_core.report.figures.activation import (
    HEAT,
    activation_maps,
    chosen_rows,
    heated,
    inside,
    scaled,
)
from openset_core.report.figures.making import draw
from openset_core.report.figures.runs import collected
from openset_core.training.generated_samples import COUNT, read_samples, write_samples
from openset_plugins.paper_figures import ByEpoch, GeneratedBetween, GeneratedFeatures
from openset_plugins.paper_figures.by_epoch import by_epoch
from openset_plugins.paper_figures.generated import embedded_samples
from openset_plugins.paper_figures.retrieval import class_centre, nearest_on_way

PROTOCOL = """
base = "tiny-digits"
summary = "the tiny protocol in a size that the generator makes"
[image]
size = 32
[training]
batch_size = 32
[options.confused-gan]
width = 4
noise_dim = 8
[options.tiny]
width = 1
"""


@pytest.fixture(scope="module")
def trained_once(with_tiny, tmp_path_factory):
    """arpl with a small generator on a plane, two epochs, watched by `by-epoch`."""
    place = tmp_path_factory.mktemp("networks")
    protocol = place / "tiny-32.toml"
    protocol.write_text(PROTOCOL)
    with with_tiny():
        api.run(
            "arpl,confused-gan,tiny,msp,knn,by-epoch",
            str(protocol),
            out=place / "enhanced",
            device="cpu",
        )
        api.run(
            "arpl,tiny",
            str(protocol),
            out=place / "plain",
            device="cpu",
        )
    return place


@pytest.fixture
def trained(tiny, trained_once, tmp_path):
    """A test's own copy of the runs `enhanced` and `plain`."""
    return shutil.copytree(trained_once, tmp_path / "runs")


def drawn(shape, folders, **more):
    spec = FigureSpec(name="some", summary="some figure", shape=shape, **more)
    with collected(spec, folders) as found:
        return draw(spec, shape, found)


@pytest.fixture
def recorded_only(monkeypatch):
    """A call after which neither networks nor data can be asked."""

    def refuse(*_arguments, **_named):
        raise AssertionError("the run folder does not say it all")

    def begin():
        monkeypatch.setattr("openset_core.inference.trained_model.load", refuse)
        monkeypatch.setattr("openset_core.data.preparation.prepare_data", refuse)

    return begin


# ---- by epoch


def test_epochs_are_tested_by_the_runs_own_scorers(trained):
    with open_run(trained / "enhanced") as run:
        told = json.loads((trained / "enhanced" / "test-by-epoch.json").read_text())
        assert told["note"] == "measured on test data after each epoch; nothing is chosen by it"
        assert [line["epoch"] for line in told["epochs"]] == [1, 2]
        last = told["epochs"][-1]["scorers"]
        assert set(last) == set(run.scorers) == {"msp", "knn"}
        for scorer, found in last.items():
            exact = run.scorers[scorer]
            for name, value in found["metrics"].items():
                assert value == pytest.approx(exact.metrics[name], abs=0.01), (scorer, name)
            assert found["unknown"].keys() == exact.unknown.keys()
            assert found["unknown"]["far"]["auroc"] == pytest.approx(
                exact.unknown["far"]["auroc"], abs=0.01
            )


def test_the_figure_shows_the_recorded_epochs(trained, charts):
    result = drawn(ByEpoch(unknown="near", scorer="msp"), [trained / "enhanced"])
    _accuracy, auroc = charts.marks(result.chart, "line")
    told = json.loads((trained / "enhanced" / "test-by-epoch.json").read_text())["epochs"]
    expected = [100 * line["scorers"]["msp"]["unknown"]["near"]["auroc"] for line in told]
    assert [row["x"] for row in auroc] == [1, 2]
    np.testing.assert_allclose([row["mean"] for row in auroc], expected, rtol=1e-4)
    assert charts.axis_titles(result.chart, "x") == ["epoch"]
    assert charts.axis_titles(result.chart, "y") == ["Accuracy (%)", "AUROC (%)"]
    assert "nothing was chosen by it" in result.caption
    pooled = drawn(ByEpoch(scorer="msp"), [trained / "enhanced"])
    first = told[0]["scorers"]["msp"]["metrics"]["accuracy"]
    assert pooled.rows[0] == ("Accuracy (%)", "arpl+confused-gan", 1, round(100 * first, 2))


def test_a_run_that_was_not_watched_says_how_to_watch_it(trained):
    with pytest.raises(FigureError, match=r"plain was trained without the observer by-epoch"):
        drawn(ByEpoch(), [trained / "plain"])
    path = trained / "enhanced" / "test-by-epoch.json"
    with open_run(trained / "enhanced") as run:
        with pytest.raises(FigureError, match=r"no unknown set 'nowhere'.*near, far"):
            by_epoch(run, "auroc", ByEpoch(unknown="nowhere"))
        with pytest.raises(FigureError, match="damaged or lacks macro_f1"):
            by_epoch(run, "macro_f1", ByEpoch())
        path.write_text("{")
        with pytest.raises(FigureError, match="is damaged"):
            by_epoch(run, "auroc", ByEpoch())


class Listener(Observer):
    wants = (EpochTested,)

    def __init__(self):
        self.events = []

    def receive(self, event):
        if isinstance(event, EpochTested):
            self.events.append(event)


def test_watching_changes_nothing_and_goes_on_after_a_stop(tiny, tmp_path):
    def train(name, observers=(), plugins="softmax,tiny,knn", epochs=2):
        run = api.run(
            plugins,
            "tiny-digits",
            out=tmp_path / name,
            epochs=epochs,
            device="cpu",
            observers=observers,
        )
        return (run.folder / "model" / "model.toml").read_text().split("weights_sha256")[1][:80]

    listener = Listener()
    assert train("watched", [listener]) == train("plain")
    assert [event.epoch for event in listener.events] == [0, 1]
    assert 0.0 <= listener.events[0].scorers["knn"].metrics["auroc"] <= 1.0

    folder = tmp_path / "again"
    train("again", plugins="softmax,tiny,msp,by-epoch")
    before = json.loads((folder / "test-by-epoch.json").read_text())
    observer = registry().find("by-epoch").load()(None, folder)
    from openset_core.observers import EpochScores, RunStarted

    observer.receive(RunStarted(folder=folder, experiment={}))
    scores = EpochScores(metrics={"auroc": 0.5}, unknown={})
    observer.receive(EpochTested(epoch=1, scorers={"msp": scores}))
    after = json.loads((folder / "test-by-epoch.json").read_text())
    assert after["epochs"][0] == before["epochs"][0]
    assert after["epochs"][1]["scorers"]["msp"]["metrics"] == {"auroc": 0.5}


# ---- generated samples


def test_a_run_with_a_generator_keeps_samples(trained):
    samples = read_samples(trained / "enhanced" / "samples.h5")
    assert (samples.dtype, samples.shape) == (np.uint8, (COUNT, 32, 32, 1))
    assert samples.std() > 0
    assert len(np.unique(samples.reshape(COUNT, -1), axis=0)) > COUNT // 2
    assert read_samples(trained / "plain" / "samples.h5") is None


def test_damaged_samples_are_refused(tmp_path):
    path = tmp_path / "samples.h5"
    write_samples(path, np.zeros((2, 4, 4, 1), np.uint8))
    assert read_samples(path).shape == (2, 4, 4, 1)
    path.write_bytes(b"nothing")
    with pytest.raises(Exception, match=r"samples\.h5 is damaged; delete it"):
        read_samples(path)


def test_generated_features_are_what_each_network_makes_of_the_same_samples(
    trained, recorded_only, charts
):
    folders = [trained / "plain", trained / "enhanced"]
    result = drawn(GeneratedFeatures(samples=1000), folders)
    samples = read_samples(trained / "enhanced" / "samples.h5")
    for folder, points in zip(folders, charts.marks(result.chart, "point"), strict=True):
        expected = load(folder, device="cpu").features(samples)["embedding"]
        shown = [(row["x"], row["y"]) for row in points if row["group"] == "generated"]
        np.testing.assert_allclose(shown, expected, rtol=1e-3, atol=1e-3 * np.ptp(expected))
        with open_run(folder) as run:
            assert len(points) == len(run.known) + len(samples)
    recorded_only()
    again = drawn(GeneratedFeatures(samples=1000), folders)
    assert again.rows == result.rows


def test_generated_features_need_samples(trained):
    with pytest.raises(FigureError, match="none of these runs keeps generated samples"):
        drawn(GeneratedFeatures(), [trained / "plain"])
    with pytest.raises(FigureError, match="none of these runs keeps generated samples"):
        drawn(GeneratedBetween(), [trained / "plain"])


def test_generated_images_stand_between_training_images(trained, recorded_only, charts):
    folder = trained / "enhanced"
    result = drawn(GeneratedBetween(columns=3, steps=2), [folder])
    with open_run(folder) as run:
        samples = run.generated
        embedding = embedded_samples(run, run, samples)
        train, label = (run.store.array("train", name) for name in ("embedding", "label"))
        images = kept(run, "images-train")
        pictures = dict(zip(images["rows"].tolist(), images["images"], strict=True))
        (shown_images,) = charts.marks(result.chart, "image")
        for column in range(3):
            cells = result.rows[2 * column : 2 * column + 2]
            first, second = (run.class_names.index(name) for name in cells[0][:2])
            start, end = class_centre(run, first), class_centre(run, second)
            step = (end - start) / 3
            expected = nearest_on_way([embedding], start + step, end - step, 2)[0]
            assert [row[3] for row in cells] == expected.tolist()
            shown = [row for row in shown_images if row["column"] == column]
            assert [row["row"] for row in shown] == [0, 1, 2, 3]
            shown = [charts.pixels(row["url"]) for row in shown]
            for image, row in zip(shown[1:3], expected, strict=True):
                np.testing.assert_array_equal(image, samples[row][..., 0])
            for image, number, centre in ((shown[0], first, start), (shown[3], second, end)):
                distance = np.linalg.norm(train - centre, axis=1) + 1e9 * (label != number)
                np.testing.assert_array_equal(image, pictures[int(distance.argmin())][..., 0])
    recorded_only()
    again = drawn(GeneratedBetween(columns=3, steps=2), [folder])
    assert again.rows == result.rows


# ---- class activation


class Average(Backbone):
    """The vector is the average over the map."""

    def __init__(self):
        super().__init__()
        self.vector_dim = 5
        self.feature_info = (
            FeatureMap(name="last", channels=5, reduction=2),
            FeatureMap(name="aside", channels=5, reduction=2),
        )
        self.first = nn.Conv2d(3, 5, 3, stride=2, padding=1)

    def forward(self, images):
        last = self.first(images).relu()
        return Features(last.mean(dim=(2, 3)), {"last": last, "aside": 2 * last})


class Linear(RepresentationLoss):
    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.Linear(5, 4), nn.Linear(4, 3)

    def logits(self, features):
        return self.outer(self.inner(features.vector))


def test_activation_maps_are_those_of_zhou_et_al():
    torch.manual_seed(0)
    model = OpenSetModel(Average(), Linear()).eval()
    images = torch.randn(4, 3, 8, 8)
    labels = torch.tensor([2, 0, 1, 1])
    maps, logits = activation_maps(model, images.clone(), labels, "last")
    weights = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    kernel, bias = weights["backbone.first.weight"], weights["backbone.first.bias"]
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)))
    values = np.zeros((4, 5, 4, 4))
    for y in range(4):
        for x in range(4):
            patch = padded[:, :, 2 * y : 2 * y + 3, 2 * x : 2 * x + 3]
            values[:, :, y, x] = np.einsum("bcij,kcij->bk", patch, kernel) + bias
    values = np.maximum(values, 0)
    # One linear layer after another is one with the product of their weights.
    whole = weights["loss.outer.weight"] @ weights["loss.inner.weight"]
    expected = np.einsum("bk,bkyx->byx", whole[labels.numpy()], values)
    np.testing.assert_allclose(maps.numpy(), expected, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        np.testing.assert_allclose(logits.numpy(), model(images)[1].numpy(), rtol=1e-5)
    with pytest.raises(FigureError, match="do not depend on the feature map aside"):
        activation_maps(model, images.clone(), labels, "aside")


def test_a_map_is_scaled_from_least_to_greatest():
    values = np.array([[-1.0, 2.0], [4.0, 1.5]])
    np.testing.assert_array_equal(scaled(values), [[0, 0.6], [1.0, 0.5]])
    np.testing.assert_array_equal(scaled(-np.ones((2, 2))), np.zeros((2, 2)))
    centre = np.zeros((8, 8))
    centre[2:6, 2:6] = 1.0
    assert inside(centre) == 1.0
    assert inside(np.ones((8, 8))) == 0.0  # a flat map says nothing of where


def test_activation_is_drawn_over_images_and_made_again(trained, recorded_only, charts):
    folders = [trained / "plain", trained / "enhanced"]
    shape = ClassActivation(images=4)
    result = drawn(shape, folders)
    (images,) = charts.marks(result.chart, "image")
    assert [(row["row"], row["column"]) for row in images] == [
        *((row, 0) for row in range(4)),
        *((row, 1) for row in range(4)),
        *((row, 2) for row in range(4)),
    ]
    with open_run(folders[0]) as run, open_run(folders[1]) as other:
        rows = chosen_rows(run, shape, (other,))
        labels = run.known.label[rows]
        assert (run.known.predicted[rows] == labels).all()
        assert (other.known.predicted[rows] == labels).all()
        network = load(folders[0], device="cpu")
        stored = kept(run, "images-known")
        originals = dict(zip(stored["rows"].tolist(), stored["images"], strict=True))
        probabilities = {row[1]: row[3] for row in result.rows if row[0] == "arpl"}
        asked = network.predict_proba(np.stack([originals[int(row)] for row in rows]))
        for row, label, own in zip(rows, labels, asked, strict=True):
            assert probabilities[row] == pytest.approx(own[label], abs=1e-4)
    recorded_only()
    again = drawn(shape, folders)
    assert again.rows == result.rows


def test_a_map_lies_over_its_image():
    values = np.zeros((4, 4), np.float32)
    values[0, 0] = 3.0
    over = heated(np.full((8, 8, 1), 100, np.uint8), values)
    assert over.shape == (96, 96, 3)
    for place, heat in ((over[0, 0], HEAT[-1]), (over[-1, -1], HEAT[0])):
        np.testing.assert_allclose(place, 0.6 * heat + 0.4 * 100, atol=0.5)


def test_images_are_drawn_class_by_class(trained):
    with open_run(trained / "plain") as run:
        rows = chosen_rows(run, ClassActivation(images=9))
        there = {int(n) for n in run.known.label[run.known.correct]}
        labels = run.known.label[rows[: len(there)]]
        assert sorted(labels) == sorted(there)
        other = chosen_rows(run, ClassActivation(images=9, seed=1))
        assert rows.tolist() != other.tolist()


def test_maps_that_are_not_there_are_refused(trained):
    with pytest.raises(FigureError, match=r"no feature map 'f99'; it has half, eighth"):
        drawn(ClassActivation(map="f99"), [trained / "plain"])


# ---- times


def test_times_are_measured_once_and_name_their_hardware(trained, recorded_only, charts):
    shape = Timing(
        batch_size=8, repeats=2, published=(("Theirs", 0.5, 12),), published_hardware="a machine"
    )
    folder = trained / "enhanced"
    result = drawn(shape, [folder])
    ours = [row for row in result.rows if not row[0].endswith("(published)")]
    assert [row[0] for row in ours] == ["arpl+confused-gan, msp", "arpl+confused-gan, knn"]
    told = json.loads((folder / "timing.json").read_text())["measurements"]
    assert [item["scorer"] for item in told] == ["msp", "knn"]
    for row, item in zip(ours, told, strict=True):
        assert row[1:3] == (item["network_ms"] + item["scorer_ms"], item["scorer_ms"])
        assert row[3] == item["parameters"] == load(folder).description.parameters
        assert row[4].startswith(item["device"])
    assert told[0]["network_ms"] == told[1]["network_ms"]
    assert result.rows[-1] == ("Theirs (published)", 0.5, None, 12_000, "a machine")
    sizes = charts.marks(result.chart, "bar")[1]
    assert [row["value"] for row in sizes] == [row[3] for row in result.rows]
    recorded_only()
    assert drawn(shape, [folder]).rows == result.rows
    (folder / "timing.json").write_text("[{}]")
    with pytest.raises(FigureError, match=r"timing\.json"):
        drawn(shape, [folder])
