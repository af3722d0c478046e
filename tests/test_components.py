"""Base classes: open space by default, features of a batch, errors of contexts and phases."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from openset_core import Backbone, Batch, FeatureMap, Features, LossContext, Phase
from openset_core.components import OpenSetModel, RepresentationLoss, SampleGenerator
from openset_core.errors import CompositionError


class Counting(Backbone):
    """Flattens images and counts how often it runs."""

    vector_dim = 4

    def __init__(self):
        super().__init__()
        self.runs = 0
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images):
        self.runs += 1
        return Features(images.flatten(1) * self.scale, {})


class Identity(RepresentationLoss):
    """The vector is the logits."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(()))
        self.aid = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))

    def logits(self, features):
        return features.vector + self.shift

    def loss(self, features, labels):
        return {"picked": self.logits(features).gather(1, labels[:, None]).mean()}


def features(rows, dtype=torch.float64):
    return Features(torch.tensor(rows, dtype=dtype), {})


# ---- open space


def test_open_space_is_the_negative_entropy():
    torch.manual_seed(0)
    logits = torch.randn(50, 6) * 3
    probabilities = np.exp(logits.double().numpy())
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    expected = (probabilities * np.log(probabilities)).sum(axis=1)
    value = Identity().open_space(Features(logits, {}))
    assert value.shape == (50,)
    np.testing.assert_allclose(value.detach().numpy(), expected, rtol=1e-5, atol=1e-6)


def test_open_space_is_least_for_equally_likely_classes():
    value = Identity().open_space(features([[7.0] * 4, [7.0, 7.1, 7.0, 7.0], [9.0, 0, 0, 0]]))
    assert value[0].item() == pytest.approx(-np.log(4), rel=1e-6)
    assert value[0] < value[1] < value[2] < 0


@pytest.mark.parametrize("size", [1e4, 1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_open_space_of_extreme_logits(size, dtype):
    rows = torch.tensor(
        [[size, 0.0, -size], [size, size, -size], [-size, -size, -size]], dtype=dtype
    ).requires_grad_()
    value = Identity().open_space(Features(rows, {}))
    np.testing.assert_allclose(
        value.detach().numpy(), [0.0, -np.log(2), -np.log(3)], rtol=1e-6, atol=1e-12
    )
    value.sum().backward()
    assert torch.isfinite(rows.grad).all()


# ---- batch


def test_batch_runs_the_backbone_once():
    backbone = Counting()
    images = torch.randn(3, 1, 2, 2)
    batch = Batch(images, torch.zeros(3, dtype=torch.long), backbone=backbone)
    assert backbone.runs == 0  # not before it is asked
    first = batch.features()
    assert batch.features() is first
    assert backbone.runs == 1
    torch.testing.assert_close(first.vector, images.flatten(1))


def test_batches_of_one_step_share_their_memo():
    memo = {}
    batches = [
        Batch(torch.zeros(2, 1), torch.zeros(2), backbone=Counting(), memo=memo) for _ in range(2)
    ]
    batches[0].memo["note"] = 3
    assert batches[1].memo == {"note": 3}
    assert Batch(torch.zeros(2, 1), torch.zeros(2), backbone=Counting()).memo == {}


# ---- maps


CONTEXT = LossContext(
    num_classes=3,
    vector_dim=4,
    maps=(
        FeatureMap(name="early", channels=8, reduction=2),
        FeatureMap(name="late", channels=16, reduction=2),
        FeatureMap(name="top", channels=32, reduction=4),
    ),
    backbone="toy",
)


@pytest.mark.parametrize(
    ("selector", "found"),
    [("early", "early"), ("top", "top"), ("reduction=2", "late"), ("reduction=4", "top")],
)
def test_a_map_is_found_by_name_or_reduction(selector, found):
    assert CONTEXT.map(selector, "part.option").name == found


@pytest.mark.parametrize("selector", ["middle", "reduction=3", "reduction=02", "2", ""])
def test_a_missing_map_is_named_with_those_there_are(selector):
    with pytest.raises(CompositionError) as caught:
        CONTEXT.map(selector, "part.option")
    message = str(caught.value)
    for piece in ("part.option", repr(selector), "toy", "early (reduction=2)", "top (reduction=4)"):
        assert piece in message
    assert "\n" not in message


def test_a_backbone_without_maps_is_said_to_have_none():
    with pytest.raises(CompositionError, match=r"maps are: none$"):
        LossContext(num_classes=3, vector_dim=4).map("reduction=2", "part.option")


def test_side_of_a_map():
    assert [m.side(32) for m in CONTEXT.maps] == [16, 16, 8]


# ---- phases


def test_the_default_phase_minimises_the_loss_of_backbone_and_head():
    backbone, loss = Counting(), Identity()
    (phase,) = loss.phases(backbone)
    batch = Batch(torch.ones(2, 1, 2, 2), torch.tensor([0, 3]), backbone=backbone)
    terms = phase.loss(batch)
    assert list(terms) == ["picked"]
    assert terms["picked"].item() == 1.0
    assert phase.updates == (backbone, loss)
    assert phase.active(0, 1)
    assert phase.active(7, 10)


def test_a_loss_without_objective_says_so():
    with pytest.raises(NotImplementedError, match="RepresentationLoss defines neither loss nor"):
        RepresentationLoss().loss(features([[0.0]]), torch.tensor([0]))


class Extra(SampleGenerator):
    """Adds one phase after those of the loss."""

    def __init__(self, name):
        super().__init__()
        self.name = name
        self.weight = nn.Parameter(torch.zeros(()))

    def phases(self, _backbone, _loss, phases):
        return [*phases, Phase(name=self.name, loss=lambda _batch: {}, updates=(self,))]


def test_phases_of_one_name_are_refused():
    with pytest.raises(CompositionError) as caught:
        OpenSetModel(Counting(), Identity(), Extra("classification")).phases()
    assert "classification, classification" in str(caught.value)


def test_phases_of_different_names_keep_their_order():
    phases = OpenSetModel(Counting(), Identity(), Extra("generator")).phases()
    assert [phase.name for phase in phases] == ["classification", "generator"]


# ---- the whole


def test_inference_drops_generator_and_training_only_parts():
    class WithAid(Identity):
        training_only = ("aid.1", "shift")

        def logits(self, features):
            return features.vector

    model = OpenSetModel(Counting(), WithAid(), Extra("generator"))
    images = torch.randn(2, 1, 2, 2)
    embedding, logits = model(images)
    assert model.for_inference() is model
    assert not model.training
    assert set(model.state_dict()) == {"backbone.scale", "loss.aid.0.weight", "loss.aid.0.bias"}
    assert model.parameter_count() == 1 + 6
    after = model(images)
    torch.testing.assert_close(after[0], embedding)
    torch.testing.assert_close(after[1], logits)


@pytest.mark.parametrize(
    ("wish", "expected"),
    [("nearest=2", "r4"), ("nearest=8", "r8"), ("nearest=64", "r32"), ("nearest=16", "r8")],
)
def test_the_nearest_map_by_ratio_and_the_finer_of_two(wish, expected):
    maps = tuple(FeatureMap(name=f"r{n}", channels=1, reduction=n) for n in (4, 8, 32))
    context = LossContext(num_classes=2, vector_dim=3, maps=maps)
    assert context.map(wish, "x.map").name == expected
