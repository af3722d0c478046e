"""GCPL against a plain NumPy transcription of the loss in ARPL's comparison.

Cross entropy over minus the squared distance divided by the dimension, and half the mean squared
difference, over samples and dimensions, between a feature and its own prototype. Gradients of
the transcription are written out by hand.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from openset_core import Features, LossContext
from openset_plugins.gcpl import GCPLOptions
from openset_plugins.gcpl.loss import GCPL

CLASSES, DIM, BATCH = 4, 5, 6
LABELS = torch.tensor([0, 3, 1, 2, 3, 0])
CLOSE = {"rtol": 2e-5, "atol": 2e-6}


@pytest.fixture(autouse=True)
def one_thread():
    """On tensors as small as these, threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make(seed=0, **options):
    torch.manual_seed(seed)
    loss = GCPL(GCPLOptions(**options), LossContext(num_classes=CLASSES, vector_dim=DIM))
    with torch.no_grad():
        loss.prototypes.normal_()
    return loss


def vectors(seed=1, scale=1.0):
    torch.manual_seed(seed)
    return (scale * torch.randn(BATCH, DIM)).requires_grad_()


def array(tensor):
    return tensor.detach().double().numpy()


# ---- the equations in NumPy


def plain_distances(features, points):
    return np.array([[np.sum((f - p) ** 2) / len(f) for p in points] for f in features])


def plain_probabilities(features, points, hardness):
    power = np.exp(-hardness * plain_distances(features, points))
    return power / power.sum(axis=1, keepdims=True)


def plain_terms(features, points, config):
    labels = LABELS.numpy()
    chosen = plain_probabilities(features, points, config.hardness)[np.arange(BATCH), labels]
    return {
        "cross_entropy": -np.log(chosen).mean(),
        "prototype": config.weight * 0.5 * np.mean((features - points[labels]) ** 2),
    }


def plain_gradients(features, points, config):
    """Of each term, with respect to features and points.

    d(d_e)/df = 2 (f - p) / m, and the cross entropy's derivative in the scores is p - onehot.
    """
    target = np.eye(CLASSES)[LABELS.numpy()]
    pull = plain_probabilities(features, points, config.hardness) - target
    in_features, in_points = np.zeros_like(features), np.zeros_like(points)
    for i, f in enumerate(features):
        for k, p in enumerate(points):
            slope = -config.hardness * pull[i, k] / BATCH * 2 * (f - p) / DIM
            in_features[i] += slope
            in_points[k] -= slope
    off = config.weight * (features - target @ points) / (BATCH * DIM)
    return {"cross_entropy": (in_features, in_points), "prototype": (off, -target.T @ off)}


# ---- the loss


@pytest.mark.parametrize("hardness", [1.0, 0.5, 3.0])
@pytest.mark.parametrize("weight", [0.1, 1.0])
def test_values_and_gradients(hardness, weight):
    loss = make(hardness=hardness, weight=weight)
    vector = vectors()
    terms = loss.loss(Features(vector, {}), LABELS)
    values = array(vector), array(loss.prototypes)
    expected = plain_terms(*values, loss.config)
    gradients = plain_gradients(*values, loss.config)
    assert list(terms) == list(expected)
    for name, term in terms.items():
        assert term.shape == ()
        np.testing.assert_allclose(term.item(), expected[name], **CLOSE, err_msg=name)
        got = torch.autograd.grad(term, (vector, loss.prototypes), retain_graph=True)
        for one, other in zip(got, gradients[name], strict=True):
            np.testing.assert_allclose(array(one), other, **CLOSE, err_msg=name)


def test_logits_are_raw_whatever_the_hardness():
    vector = vectors()
    raw, hard = make(hardness=1.0), make(hardness=5.0)
    logits = raw.logits(Features(vector, {}))
    expected = -plain_distances(array(vector), array(raw.prototypes))
    np.testing.assert_allclose(array(logits), expected, **CLOSE)
    assert torch.equal(logits, hard.logits(Features(vector, {})))


def test_a_sample_on_its_prototype_belongs_to_its_class():
    loss = make()
    features = Features(loss.prototypes.detach(), {})
    assert loss.logits(features).argmax(dim=1).tolist() == list(range(CLASSES))
    own = Features(loss.prototypes[LABELS].detach(), {})
    assert loss.loss(own, LABELS)["prototype"].item() == 0.0
    assert loss.loss(own, LABELS.flip(0))["prototype"].item() > 0.0


def test_open_space_is_the_negative_entropy_of_the_class_probabilities():
    loss = make()
    vector = vectors()
    p = plain_probabilities(array(vector), array(loss.prototypes), 1.0)
    value = loss.open_space(Features(vector, {}))
    np.testing.assert_allclose(array(value), (p * np.log(p)).sum(axis=1), **CLOSE)


@pytest.mark.parametrize("scale", [1e3, 1e8, 1e15])
def test_huge_distances_make_no_nan(scale):
    loss = make()
    vector = vectors(scale=scale)
    features = Features(vector, {})
    value, terms = loss.open_space(features), loss.loss(features, LABELS)
    total = value.sum() + terms["cross_entropy"]
    for result in (value, *terms.values(), *torch.autograd.grad(total, (vector, loss.prototypes))):
        assert torch.isfinite(result).all()


def test_float32_under_mixed_precision():
    loss = make()
    vector = vectors(scale=4.0).detach().bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = loss.logits(Features(vector, {}))
        terms = loss.loss(Features(vector, {}), LABELS)
    expected = plain_terms(array(vector), array(loss.prototypes), loss.config)
    assert logits.dtype == torch.float32
    distances = plain_distances(array(vector), array(loss.prototypes))
    np.testing.assert_allclose(array(logits), -distances, rtol=1e-4, atol=1e-4)
    for name, term in terms.items():
        assert term.dtype == torch.float32
        assert term.item() == pytest.approx(expected[name], rel=1e-4), name


def test_parameters():
    torch.manual_seed(0)
    loss = GCPL(GCPLOptions(), LossContext(num_classes=10, vector_dim=128))
    assert {name: tuple(p.shape) for name, p in loss.named_parameters()} == {
        "prototypes": (10, 128)
    }
    assert loss.prototypes.std().item() == pytest.approx(0.1, rel=0.1)
    assert (loss.config.weight, loss.config.hardness) == (0.1, 1.0)


def test_prototypes_are_told():
    loss = make()
    landmarks = loss.landmarks()
    assert torch.equal(landmarks.points, loss.prototypes)
    assert landmarks.labels.tolist() == list(range(CLASSES))
    assert landmarks.name == "prototype"
    assert loss.learned_scalars() == {}
