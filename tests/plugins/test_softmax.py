"""Softmax with cross entropy against plain NumPy, values and gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from openset_core import Features, LossContext
from openset_plugins.softmax import SoftmaxOptions
from openset_plugins.softmax.loss import Softmax

CLASSES, DIM, BATCH = 5, 7, 6


def make(**options):
    torch.manual_seed(0)
    loss = Softmax(SoftmaxOptions(**options), LossContext(num_classes=CLASSES, vector_dim=DIM))
    for parameter in loss.parameters():
        nn.init.normal_(parameter)
    return loss.double()


def batch(seed=0):
    torch.manual_seed(seed)
    vector = torch.randn(BATCH, DIM, dtype=torch.float64, requires_grad=True)
    return Features(vector, {}), torch.randint(CLASSES, (BATCH,))


def array(tensor):
    return tensor.detach().numpy()


def plain_logits(loss, vector):
    """From the layers' weights, one sample at a time."""
    rows = []
    for x in array(vector):
        if isinstance(loss.latent, nn.Linear):
            x = array(loss.latent.weight) @ x + array(loss.latent.bias)
        x = array(loss.classifier.weight) @ x
        if loss.classifier.bias is not None:
            x = x + array(loss.classifier.bias)
        rows.append(x)
    return np.array(rows)


def plain_targets(labels, smoothing):
    """1 - s of the target on the label's class and s spread over all K classes."""
    targets = np.full((len(labels), CLASSES), smoothing / CLASSES)
    targets[np.arange(len(labels)), labels] += 1 - smoothing
    return targets


def plain_softmax(logits):
    power = np.exp(logits - logits.max(axis=1, keepdims=True))
    return power / power.sum(axis=1, keepdims=True)


SHAPES = pytest.mark.parametrize(
    ("latent_dim", "bias"), [(None, True), (None, False), (4, True), (4, False)]
)


@SHAPES
def test_layers(latent_dim, bias):
    loss = make(latent_dim=latent_dim, bias=bias)
    width = DIM if latent_dim is None else latent_dim
    shapes = {name: tuple(p.shape) for name, p in loss.named_parameters()}
    expected = {"classifier.weight": (CLASSES, width)}
    if bias:
        expected["classifier.bias"] = (CLASSES,)
    if latent_dim is not None:
        expected |= {"latent.weight": (latent_dim, DIM), "latent.bias": (latent_dim,)}
    assert shapes == expected


@SHAPES
def test_logits_and_embedding(latent_dim, bias):
    loss = make(latent_dim=latent_dim, bias=bias)
    features, _ = batch()
    np.testing.assert_allclose(
        array(loss.logits(features)), plain_logits(loss, features.vector), rtol=1e-12
    )
    embedding = array(loss.embedding(features))
    if latent_dim is None:
        np.testing.assert_array_equal(embedding, array(features.vector))
    else:
        weight, shift = array(loss.latent.weight), array(loss.latent.bias)
        expected = [weight @ x + shift for x in array(features.vector)]
        np.testing.assert_allclose(embedding, expected, rtol=1e-12)


@SHAPES
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_cross_entropy_and_its_gradient(latent_dim, bias, smoothing):
    loss = make(latent_dim=latent_dim, bias=bias, label_smoothing=smoothing)
    features, labels = batch()
    terms = loss.loss(features, labels)
    assert list(terms) == ["cross_entropy"]
    assert terms["cross_entropy"].shape == ()

    targets = plain_targets(labels.numpy(), smoothing)
    probabilities = plain_softmax(plain_logits(loss, features.vector))
    expected = -(targets * np.log(probabilities)).sum(axis=1).mean()
    assert terms["cross_entropy"].item() == pytest.approx(expected, rel=1e-12)

    # d/dv = (softmax - target) / B, and the chain rule through two linear layers.
    terms["cross_entropy"].backward()
    slope = (probabilities - targets) / BATCH
    inner = array(loss.embedding(features))
    np.testing.assert_allclose(array(loss.classifier.weight.grad), slope.T @ inner, atol=1e-12)
    if bias:
        np.testing.assert_allclose(array(loss.classifier.bias.grad), slope.sum(0), atol=1e-12)
    back = slope @ array(loss.classifier.weight)
    if latent_dim is not None:
        vector = array(features.vector)
        np.testing.assert_allclose(array(loss.latent.weight.grad), back.T @ vector, atol=1e-12)
        np.testing.assert_allclose(array(loss.latent.bias.grad), back.sum(0), atol=1e-12)
        back = back @ array(loss.latent.weight)
    np.testing.assert_allclose(array(features.vector.grad), back, atol=1e-12)


def test_extreme_logits_give_a_finite_loss_and_gradient():
    loss = make()
    features, labels = batch()
    far = Features((features.vector * 1e4).detach().requires_grad_(), {})
    value = loss.loss(far, labels)["cross_entropy"]
    value.backward()
    logits = plain_logits(loss, far.vector)
    top = logits.max(axis=1)
    gap = top - logits[np.arange(BATCH), labels]  # the sums' other terms are below 1e-300
    assert value.item() == pytest.approx(gap.mean(), rel=1e-12)
    assert torch.isfinite(far.vector.grad).all()


def test_one_phase_updates_backbone_and_head():
    loss = make()
    backbone = nn.Linear(2, 2)
    (phase,) = loss.phases(backbone)
    members = {id(p) for item in phase.updates for p in item.parameters()}
    assert members == {id(p) for module in (backbone, loss) for p in module.parameters()}
