"""M2IOSR against a plain NumPy transcription of the paper's equations, and its phases.

The transcription in the first part is written from Sun et al., Sec. 4 and Tables 1 and 2, and
shares no code with the plugin: inputs are concatenated pair by pair at every location and run
through whole layers. Where the paper is open it states the reading that the options name.
"""

from __future__ import annotations

import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import integrate, stats
from torch import nn

from openset_core import Backbone, Batch, FeatureMap, Features, LossContext
from openset_core.components import OpenSetModel
from openset_core.errors import CompositionError
from openset_core.experiment.training_options import TrainingOptions
from openset_core.observers import Observers
from openset_core.training.loop import Trainer
from openset_core.training.optimisation import build_optimizer
from openset_plugins.m2iosr import M2IOSROptions, discriminators
from openset_plugins.m2iosr.discriminators import (
    GlobalDiscriminator,
    PairDiscriminator,
    mutual_information,
)
from openset_plugins.m2iosr.loss import M2IOSR, kl_to_class_prior
from openset_plugins.vgg13.network import VGG13

CLASSES, IMAGE, BATCH = 3, 12, 5
DISCRIMINATORS = (
    "global_discriminator",
    "fine_discriminator",
    "coarse_discriminator",
    "map_discriminator",
)
MI_TERMS = ("mi_global", "mi_fine_latent", "mi_coarse_latent", "mi_coarse_coarse")
INDEPENDENT = -2 * math.log(2)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Tensors this small gain nothing from a second thread, and lose much on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Toy(Backbone):
    """Two maps, `low` of half and `high` of a quarter of the image's side, and a vector."""

    vector_dim = 6
    feature_info = (
        FeatureMap(name="low", channels=3, reduction=2),
        FeatureMap(name="high", channels=4, reduction=4),
    )

    def __init__(self, image_size=IMAGE):
        super().__init__()
        self.low = nn.Conv2d(1, 3, kernel_size=3, padding=1)
        self.high = nn.Conv2d(3, 4, kernel_size=3, padding=1)
        self.top = nn.Linear(4 * (image_size // 4) ** 2, 6)

    def forward(self, images):
        low = F.avg_pool2d(torch.tanh(self.low(images)), 2)
        high = F.avg_pool2d(torch.tanh(self.high(low)), 2)
        return Features(torch.tanh(self.top(high.flatten(1))), {"low": low, "high": high})


def context(maps=Toy.feature_info, image_size=IMAGE, vector_dim=Toy.vector_dim):
    return LossContext(
        num_classes=CLASSES,
        vector_dim=vector_dim,
        maps=maps,
        image_size=image_size,
        backbone="toy",
    )


def options(**given):
    small = {
        "latent_dim": 3,
        "hidden": 8,
        "global_channels": (4, 3),
        "fine_map": "low",
        "coarse_map": "high",
    }
    return M2IOSROptions(**(small | given))


def make(seed=0, **given):
    """A loss on the toy's shapes whose weights and biases are all well away from zero."""
    torch.manual_seed(seed)
    loss = M2IOSR(options(**given), context())
    with torch.no_grad():
        for parameter in loss.parameters():
            parameter.normal_(0, 0.5)
    return loss


def make_model(seed=0, **given):
    loss = make(seed, **given)
    torch.manual_seed(seed)
    return OpenSetModel(Toy(), loss)


def some_features(seed=1, dtype=torch.float64):
    torch.manual_seed(seed)
    low = torch.randn(BATCH, 3, IMAGE // 2, IMAGE // 2, dtype=dtype)
    high = torch.randn(BATCH, 4, IMAGE // 4, IMAGE // 4, dtype=dtype)
    return Features(torch.randn(BATCH, 6, dtype=dtype), {"low": low, "high": high})


LABELS = torch.tensor([0, 2, 1, 2, 0])


def array(tensor):
    return tensor.detach().double().numpy()


def total(terms):
    return torch.stack(list(terms.values())).sum()


# ---- the paper in NumPy


def softplus(x):
    return np.log1p(np.exp(x))


def softmax(x):
    return np.exp(x) / np.exp(x).sum()


def whole_layers(pair):
    """Weight and bias of each layer of a discriminator, the first as one layer on [a; b]."""
    first = np.concatenate([array(pair.first.weight), array(pair.second.weight)], axis=1)
    layers = [(first, array(pair.second.bias))]
    layers += [(array(m.weight), array(m.bias)) for m in pair.rest if isinstance(m, nn.Linear)]
    assert len(layers) == 3  # Tables 1 and 2
    return layers


def perceptron(layers, x):
    """W x + c three times with ReLU between; the last gives the raw score T."""
    for number, (weight, bias) in enumerate(layers):
        x = weight @ x + bias
        if number < len(layers) - 1:
            x = np.maximum(x, 0)
    return float(x[0])


def convolution(image, weight, bias, padding):
    """One 3x3 convolution of one image [C, H, W], pixel by pixel."""
    image = np.pad(image, [(0, 0), (padding, padding), (padding, padding)])
    height, width = image.shape[1] - 2, image.shape[2] - 2
    result = np.empty((len(weight), height, width))
    for channel in range(len(weight)):
        for row in range(height):
            for column in range(width):
                window = image[:, row : row + 3, column : column + 3]
                result[channel, row, column] = (weight[channel] * window).sum() + bias[channel]
    return result


def global_input(discriminator, image, padding):
    """f16(x) through two 3x3 convolutions, a ReLU between them, flattened."""
    first, second = (m for m in discriminator.convolutions if isinstance(m, nn.Conv2d))
    hidden = np.maximum(convolution(image, array(first.weight), array(first.bias), padding), 0)
    return convolution(hidden, array(second.weight), array(second.bias), padding).ravel()


def jensen_shannon(pairs_of, layers, kind):
    """E_pos[-softplus(-T)] - E_neg[softplus(T)], negatives [f(x^), .(x)], x^ the next image.

    Args:
        pairs_of: called with the images of a and of b, gives the list of (a, b) to concatenate.
        layers: of the discriminator.
        kind: both, positive or negative.
    """
    positive, negative = [], []
    for x in range(BATCH):
        other = (x + 1) % BATCH
        positive += [perceptron(layers, np.concatenate(pair)) for pair in pairs_of(x, x)]
        negative += [perceptron(layers, np.concatenate(pair)) for pair in pairs_of(other, x)]
    value = 0.0
    if kind != "negative":
        value += np.mean([-softplus(-t) for t in positive])
    if kind != "positive":
        value -= np.mean([softplus(t) for t in negative])
    return value


def paper_information(loss, features, latent, kind="both"):
    """Global MI and l1t16, l1t4, l4t4 of Sec. 4.2."""
    config = loss.config
    f1, f16, f4 = array(latent), array(features.maps["low"]), array(features.maps["high"])
    places16 = [(i, j) for i in range(f16.shape[2]) for j in range(f16.shape[3])]
    places4 = [(i, j) for i in range(f4.shape[2]) for j in range(f4.shape[3])]
    flat = [
        global_input(loss.global_discriminator, image, config.global_padding or 0) for image in f16
    ]
    if config.coarse_pairing == "all-locations":
        meeting = [(p, q) for p in places4 for q in places4]
    else:
        meeting = [(p, p) for p in places4]

    def global_pairs(a, b):
        return [(flat[a], f1[b])]

    def fine_pairs(a, b):
        return [(f16[a][:, i, j], f1[b]) for i, j in places16]

    def coarse_pairs(a, b):
        return [(f4[a][:, i, j], f1[b]) for i, j in places4]

    def map_pairs(a, b):
        return [(f4[a][:, i, j], f4[b][:, k, m]) for (i, j), (k, m) in meeting]

    estimates = [
        (global_pairs, loss.global_discriminator.pair),
        (fine_pairs, loss.fine_discriminator),
        (coarse_pairs, loss.coarse_discriminator),
        (map_pairs, loss.map_discriminator),
    ]
    return [jensen_shannon(pairs, whole_layers(pair), kind) for pairs, pair in estimates]


def paper_kl(loss, mean, variance):
    """Minus Eq. 11, averaged over images; mu_k is a linear map of the one-hot label, with bias."""
    values = []
    for mu, var, label in zip(array(mean), array(variance), LABELS.numpy(), strict=True):
        one_hot = np.eye(CLASSES)[label]
        mu_k = array(loss.class_mean.weight) @ one_hot + array(loss.class_mean.bias)
        eq11 = 0.5 * sum(
            1 + np.log(var[j]) - (mu[j] - mu_k[j]) ** 2 - var[j] for j in range(len(mu))
        )
        values.append(-eq11)
    return np.mean(values)


def paper_terms(loss, features, latent, mean, variance, kind="both"):
    """Eq. 9 with Eq. 10 in it, term by term."""
    c = loss.config
    weights = [c.beta1, c.beta2 * c.a1, c.beta2 * c.a2, c.beta2 * c.a3]
    information = paper_information(loss, features, latent, kind)
    terms = {n: -w * i for n, w, i in zip(MI_TERMS, weights, information, strict=True)}
    if variance is not None:
        terms["kl"] = c.gamma * paper_kl(loss, mean, variance)
    return terms


def assert_terms(terms, expected):
    assert list(terms) == list(expected)
    for name, value in expected.items():
        assert terms[name].shape == ()
        # The estimate is formed in float32.
        assert terms[name].item() == pytest.approx(value, rel=2e-6), name


# ---- Eq. 9 to 11


WEIGHTS = {"beta1": 0.3, "beta2": 1.7, "gamma": 0.45, "a1": 0.5, "a2": 0.2, "a3": 0.9}


@pytest.mark.parametrize("coarse_pairing", ["same-location", "all-locations"])
@pytest.mark.parametrize("padding", [0, 1])
def test_terms_of_the_latent_mean(coarse_pairing, padding):
    loss = make(
        mi_latent="mean", coarse_pairing=coarse_pairing, global_padding=padding, **WEIGHTS
    ).double()
    features = some_features()
    mean, variance, _ = loss.latent(features)
    expected = paper_terms(loss, features, mean, mean, variance)
    terms = loss.max_min_terms(features, LABELS)
    assert_terms(terms, expected)
    assert total(terms).item() == pytest.approx(sum(expected.values()), rel=2e-6)


def test_weights_are_those_of_the_paper():
    c = M2IOSROptions()
    assert (c.beta1, c.beta2, c.gamma) == (0.5, 1.0, 0.1)
    assert (c.a1, c.a2, c.a3) == (0.7, 0.1, 0.2)
    assert (c.latent_dim, c.hidden, c.pairs, c.prior) == (32, 512, "both", "kl")


def test_terms_of_the_sampled_latent():
    loss = make(mi_latent="sample", **WEIGHTS).double()
    features = some_features()
    torch.manual_seed(7)
    mean, variance, sample = loss.latent(features)
    torch.manual_seed(7)
    terms = loss.max_min_terms(features, LABELS)
    assert_terms(terms, paper_terms(loss, features, sample, mean, variance))
    torch.manual_seed(8)
    other = loss.max_min_terms(features, LABELS)
    for name in ("mi_global", "mi_fine_latent", "mi_coarse_latent"):
        assert other[name] != terms[name]
    for name in ("mi_coarse_coarse", "kl"):  # no latent, or only its parameters
        assert other[name] == terms[name]


@pytest.mark.parametrize("kind", ["positive", "negative"])
def test_pairs_of_one_kind(kind):
    loss = make(mi_latent="mean", pairs=kind).double()
    features = some_features()
    mean, variance, _ = loss.latent(features)
    expected = paper_terms(loss, features, mean, mean, variance, kind)
    assert_terms(loss.max_min_terms(features, LABELS), expected)
    both = paper_terms(loss, features, mean, mean, variance)
    assert all(abs(both[name] - expected[name]) > 1e-3 for name in MI_TERMS)


def test_the_estimate_from_scores():
    rng = np.random.default_rng(0)
    positive, negative = rng.normal(1, 2, (4, 7)), rng.normal(-1, 2, (3, 5))
    expected_positive = np.mean(-softplus(-positive))
    expected_negative = np.mean(softplus(negative))
    p, n = torch.from_numpy(positive), torch.from_numpy(negative)
    for given, expected in [
        ((p, n), expected_positive - expected_negative),
        ((p, None), expected_positive),
        ((None, n), -expected_negative),
    ]:
        assert mutual_information(*given).item() == pytest.approx(expected, rel=1e-6)
    zeros = torch.zeros(3)
    assert mutual_information(zeros, zeros).item() == pytest.approx(INDEPENDENT, rel=1e-6)


def test_the_estimate_of_extreme_scores():
    scores = torch.tensor([1e4, -1e4]).requires_grad_()
    value = mutual_information(scores, scores)
    value.backward()
    assert value.item() == pytest.approx(-1e4, rel=1e-6)
    torch.testing.assert_close(scores.grad, torch.tensor([-0.5, 0.5]))


# ---- KL, Eq. 11


GAUSSIANS = {
    "mean": torch.tensor([[0.3, -1.2, 2.0], [0.0, 0.5, -0.4]]),
    "variance": torch.tensor([[0.2, 1.0, 3.5], [0.01, 2.0, 0.7]]),
    "class_mean": torch.tensor([[0.1, 0.4, 2.0], [-1.0, 0.5, 1.0]]),
}


def test_kl_by_integration():
    expected = []
    for mean, variance, class_mean in zip(*map(array, GAUSSIANS.values()), strict=True):
        value = 0.0
        for mu, var, mu_k in zip(mean, variance, class_mean, strict=True):
            p, q, width = stats.norm(mu, np.sqrt(var)), stats.norm(mu_k, 1), 12 * np.sqrt(var)
            value += integrate.quad(
                lambda z, p=p, q=q: p.pdf(z) * (p.logpdf(z) - q.logpdf(z)), mu - width, mu + width
            )[0]
        expected.append(value)
    assert kl_to_class_prior(**GAUSSIANS).item() == pytest.approx(np.mean(expected), rel=1e-6)


def test_kl_by_sampling():
    rng = np.random.default_rng(0)
    mean, variance, class_mean = map(array, GAUSSIANS.values())
    z = mean + np.sqrt(variance) * rng.standard_normal((100_000, *mean.shape))
    ratio = stats.norm.logpdf(z, mean, np.sqrt(variance)) - stats.norm.logpdf(z, class_mean, 1)
    estimates = ratio.sum(axis=2).mean(axis=1)
    error = estimates.std() / np.sqrt(len(estimates))
    assert error < 0.02
    assert abs(kl_to_class_prior(**GAUSSIANS).item() - estimates.mean()) < 4 * error


def test_kl_vanishes_only_at_the_prior():
    mean = torch.tensor([[0.4, -2.0]]).requires_grad_()
    variance = torch.ones(1, 2).requires_grad_()
    value = kl_to_class_prior(mean, variance, torch.tensor([[0.4, -2.0]]))
    value.backward()
    assert value.item() == 0
    assert not mean.grad.any()
    assert not variance.grad.any()
    for shift, factor in [(0.1, 1.0), (0.0, 0.9), (0.0, 1.1)]:
        other = kl_to_class_prior(mean + shift, variance * factor, mean)
        assert other.item() > 1e-3


# ---- the split first layer


def whole_scores(pair, first, second):
    """T from the concatenation, with whole layers; gradients flow to the same weights."""
    shape = torch.broadcast_shapes(first.shape[:-1], second.shape[:-1])
    joined = torch.cat([t.expand(*shape, t.shape[-1]) for t in (first, second)], dim=-1)
    hidden = F.linear(
        joined, torch.cat([pair.first.weight, pair.second.weight], dim=1), pair.second.bias
    )
    middle, last = (m for m in pair.rest if isinstance(m, nn.Linear))
    hidden = F.linear(hidden.relu(), middle.weight, middle.bias)
    return F.linear(hidden.relu(), last.weight, last.bias)[..., 0]


def recorded_scores(monkeypatch, compute):
    """Scores of positive and negative pairs on their way into the estimate, in float64."""
    seen = []

    def record(positive, negative):
        seen.append((positive, negative))
        return positive.sum() + negative.sum()

    monkeypatch.setattr(discriminators, "mutual_information", record)
    compute()
    ((positive, negative),) = seen
    return positive, negative


def objective(positive, negative):
    return -F.softplus(-positive).mean() - F.softplus(negative).mean()


def assert_same_scores(split, whole, leaves):
    """Values, and gradients of the estimate with respect to weights and inputs."""
    exact = {"rtol": 1e-10, "atol": 1e-10}
    torch.testing.assert_close(split[0], whole[0], **exact)
    # The code renumbers the negatives: its row x+1 is [f(x+1), .(x)].
    torch.testing.assert_close(split[1].roll(-1, dims=0), whole[1], **exact)
    gradients = [torch.autograd.grad(objective(*pair), leaves) for pair in (split, whole)]
    for mine, expected in zip(*gradients, strict=True):
        assert expected.abs().max() > 1e-6
        torch.testing.assert_close(mine, expected, **exact)


def next_image(rows):
    return rows[[(x + 1) % len(rows) for x in range(len(rows))]]


@pytest.mark.parametrize(
    ("first_shape", "second_shape"),
    [
        ((BATCH, 4), (BATCH, 3)),
        ((BATCH, 9, 4), (BATCH, 1, 3)),
        ((BATCH, 9, 4), (BATCH, 9, 3)),
        ((BATCH, 9, 1, 4), (BATCH, 1, 9, 3)),
        ((2, 9, 4), (2, 1, 3)),
    ],
    ids=["vectors", "map-vector", "same-location", "all-locations", "two-images"],
)
def test_split_layer_equals_the_concatenation(monkeypatch, first_shape, second_shape):
    torch.manual_seed(0)
    pair = PairDiscriminator(4, 3, 8).double()
    first = torch.randn(first_shape, dtype=torch.float64, requires_grad=True)
    second = torch.randn(second_shape, dtype=torch.float64, requires_grad=True)
    split = recorded_scores(monkeypatch, lambda: pair.information(first, second, "both"))
    whole = whole_scores(pair, first, second), whole_scores(pair, next_image(first), second)
    assert_same_scores(split, whole, [first, second, *pair.parameters()])


@pytest.mark.parametrize("padding", [0, 1])
def test_global_discriminator_equals_the_concatenation(monkeypatch, padding):
    torch.manual_seed(0)
    found = GlobalDiscriminator(3, 6, 3, (4, 5), padding, 8).double()
    maps = torch.randn(BATCH, 3, 6, 6, dtype=torch.float64, requires_grad=True)
    latent = torch.randn(BATCH, 3, dtype=torch.float64, requires_grad=True)
    split = recorded_scores(monkeypatch, lambda: found.information(maps, latent, "both"))
    flat = found.convolutions(maps)
    assert flat.shape == (BATCH, 5 * (6 + 4 * padding - 4) ** 2)
    plain = np.stack([global_input(found, image, padding) for image in array(maps)])
    np.testing.assert_allclose(array(flat), plain, rtol=1e-10, atol=1e-10)
    whole = (
        whole_scores(found.pair, flat, latent),
        whole_scores(found.pair, next_image(flat), latent),
    )
    assert_same_scores(split, whole, [maps, latent, *found.parameters()])


def test_split_layer_starts_as_one_layer_would():
    torch.manual_seed(0)
    pair = PairDiscriminator(30, 6, 400)
    bound = 1 / math.sqrt(30 + 6)  # uniform, by the inputs of the whole layer
    for tensor in (pair.first.weight, pair.second.weight, pair.second.bias):
        assert 0.97 * bound < tensor.abs().max().item() <= bound
        assert tensor.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.08)
    assert pair.first.bias is None


# ---- latent


@pytest.mark.parametrize("variance", ["softplus", "exp"])
def test_samples_have_the_mean_and_variance(variance):
    loss = make(variance=variance).double()
    vector = some_features().vector[:1].expand(40_000, -1)
    torch.manual_seed(0)
    mean, spread, sample = loss.latent(Features(vector, {}))
    raw = array(loss.raw_variance(vector[0]))
    expected = softplus(raw) if variance == "softplus" else np.exp(raw)
    np.testing.assert_allclose(array(spread[0]), expected, rtol=1e-6)
    np.testing.assert_allclose(array(mean[0]), array(loss.mean(vector[0])), rtol=1e-12)
    z = array(sample)
    error = np.sqrt(expected / len(z))
    assert (np.abs(z.mean(axis=0) - array(mean[0])) < 4 * error).all()
    np.testing.assert_allclose(z.var(axis=0), expected, rtol=4 * np.sqrt(2 / len(z)))
    correlation = np.corrcoef(z.T) - np.eye(3)
    assert np.abs(correlation).max() < 4 / np.sqrt(len(z))


@pytest.mark.parametrize("variance", ["softplus", "exp"])
def test_gradient_of_a_sample_through_mean_and_variance(variance):
    loss = make(variance=variance).double()
    features = some_features()
    mean, spread, sample = loss.latent(features)
    noise = (array(sample) - array(mean)) / np.sqrt(array(spread))
    by_mean, by_variance = torch.autograd.grad(
        sample.sum(), [loss.mean.bias, loss.raw_variance.bias]
    )
    np.testing.assert_allclose(array(by_mean), [BATCH] * 3, rtol=1e-6)
    # dz/draw = noise / (2 sqrt(var)) * dvar/draw.
    raw = array(loss.raw_variance(features.vector))
    slope = 1 / (1 + np.exp(-raw)) if variance == "softplus" else np.exp(raw)
    expected = (noise / (2 * np.sqrt(array(spread))) * slope).sum(axis=0)
    np.testing.assert_allclose(array(by_variance), expected, rtol=1e-5)


def test_variance_stays_positive():
    loss = make()
    with torch.no_grad():
        loss.raw_variance.bias.fill_(-200.0)
    features = some_features(dtype=torch.float32)
    mean, variance, sample = loss.latent(features)
    assert (variance > 0).all()
    value = total(loss.max_min_terms(features, LABELS)) + sample.sum()
    value.backward()
    assert torch.isfinite(value)
    assert all(torch.isfinite(p.grad).all() for p in loss.parameters() if p.grad is not None)
    torch.testing.assert_close(sample, mean, rtol=0, atol=1e-3)


@pytest.mark.parametrize("prior", ["none", "adversarial"])
def test_without_the_kl_prior_the_latent_is_its_mean(prior):
    loss = make(prior=prior)
    assert loss.raw_variance is None
    mean, variance, sample = loss.latent(some_features(dtype=torch.float32))
    assert variance is None
    assert torch.equal(sample, mean)


# ---- classification


@pytest.mark.parametrize("classifier_latent", ["sample", "mean"])
def test_cross_entropy(classifier_latent):
    loss = make(classifier_latent=classifier_latent).double()
    features = some_features()
    torch.manual_seed(4)
    mean, _, sample = loss.latent(features)
    latent = array(sample if classifier_latent == "sample" else mean)
    torch.manual_seed(4)
    terms = loss.classification_terms(features, LABELS)
    weight, bias = array(loss.classifier.weight), array(loss.classifier.bias)
    expected = np.mean(
        [-np.log(softmax(weight @ z + bias)[k]) for z, k in zip(latent, LABELS, strict=True)]
    )
    assert_terms(terms, {"cross_entropy": expected})


# ---- phases: what gradients reach, what is updated


def names_of(model, updates):
    ids = {id(p) for u in updates for p in (u.parameters() if isinstance(u, nn.Module) else [u])}
    found = {name for name, p in model.named_parameters() if id(p) in ids}
    assert len(found) == len(ids)  # nothing outside the model
    return found


def members(model, *prefixes):
    """Names of the parameters of some submodules; every prefix must have one."""
    names = [name for name, _ in model.named_parameters()]
    for prefix in prefixes:
        assert any(name.startswith(f"{prefix}.") for name in names), prefix
    return {n for n in names if n.startswith(tuple(f"{prefix}." for prefix in prefixes))}


def loss_members(*names):
    return tuple(f"loss.{name}" for name in names)


def a_batch(model, epoch=0):
    torch.manual_seed(11)
    images = torch.randn(BATCH, 1, IMAGE, IMAGE)
    return Batch(images, LABELS, backbone=model.backbone, epoch=epoch)


def reached(model, phase):
    """Names of the parameters that the phase's loss gives a gradient other than zero."""
    model.zero_grad(set_to_none=True)
    total(phase.loss(a_batch(model))).backward()
    return {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}


ENCODER = ("backbone", *loss_members("mean", "raw_variance"))
MAX_MIN = (*ENCODER, *loss_members(*DISCRIMINATORS, "class_mean"))


@pytest.mark.parametrize("mi_latent", ["sample", "mean"])
def test_max_min_phase(mi_latent):
    model = make_model(mi_latent=mi_latent, schedule="iteration")
    phase = {p.name: p for p in model.phases()}["max-min"]
    assert reached(model, phase) == names_of(model, phase.updates) == members(model, *MAX_MIN)
    assert not members(model, "loss.classifier") & names_of(model, phase.updates)


def test_classification_phase_on_samples():
    model = make_model(classifier_latent="sample", schedule="iteration")
    phase = {p.name: p for p in model.phases()}["classification"]
    expected = members(model, *ENCODER, "loss.classifier")
    assert reached(model, phase) == names_of(model, phase.updates) == expected


def test_classification_phase_on_means():
    model = make_model(classifier_latent="mean", schedule="iteration")
    phase = {p.name: p for p in model.phases()}["classification"]
    found = reached(model, phase)
    assert found == members(model, "backbone", "loss.mean", "loss.classifier")
    # The variance belongs to the encoder but has no part in a mean.
    assert names_of(model, phase.updates) - found <= members(model, "loss.raw_variance")


@pytest.mark.parametrize("prior", ["none", "adversarial"])
def test_phases_without_a_variance(prior):
    model = make_model(prior=prior, schedule="iteration")
    phases = {p.name: p for p in model.phases()}
    encoder = ("backbone", "loss.mean")
    found = reached(model, phases["classification"])
    expected = members(model, *encoder, "loss.classifier")
    assert found == names_of(model, phases["classification"].updates) == expected
    # The prior's own discriminator is seen through, not trained.
    found = (
        reached(model, phases["max-min"]) - members(model, "loss.prior_discriminator")
        if (prior == "adversarial")
        else reached(model, phases["max-min"])
    )
    assert found == members(model, *encoder, *loss_members(*DISCRIMINATORS))
    assert names_of(model, phases["max-min"].updates) == found
    assert model.loss.class_mean is None  # there is no class-conditional prior to learn


@pytest.mark.parametrize("schedule", ["iteration", "epoch", "joint"])
@pytest.mark.parametrize("prior", ["kl", "none", "adversarial"])
def test_schedules(schedule, prior):
    model = make_model(schedule=schedule, prior=prior)
    phases = model.phases()
    names = [phase.name for phase in phases]
    first = ["prior"] if prior == "adversarial" else []
    if schedule == "joint":
        assert names == [*first, "joint"]
    else:
        assert names == [*first, "max-min", "classification"]
    active = [[p.name for p in phases if p.active(epoch, 4)] for epoch in range(4)]
    if schedule == "epoch":
        turns = ["max-min", "classification", "max-min", "classification"]
        assert active == [[*first, turn] for turn in turns]
    else:
        assert active == [names] * 4


def test_joint_phase_has_both_losses():
    fixed = {"mi_latent": "mean", "classifier_latent": "mean"}
    model = make_model(schedule="joint", **fixed)
    (joint,) = model.phases()
    apart = {p.name: p for p in make_model(schedule="iteration", **fixed).phases()}
    batch = a_batch(model)
    expected = apart["max-min"].loss(batch) | apart["classification"].loss(batch)
    terms = joint.loss(a_batch(model))
    assert set(terms) == {*MI_TERMS, "kl", "cross_entropy"}
    assert_terms(terms, {name: value.item() for name, value in expected.items()})
    assert names_of(model, joint.updates) == members(model, *MAX_MIN, "loss.classifier")
    assert reached(model, joint) == members(model, *MAX_MIN, "loss.classifier")


def test_rate_of_the_discriminators():
    model = make_model(schedule="iteration", discriminator_rate=0.25)
    phase = {p.name: p for p in model.phases()}["max-min"]
    groups = build_optimizer(phase, TrainingOptions(lr=0.04)).optimizer.param_groups
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    judges = members(model, *loss_members(*DISCRIMINATORS))
    for name, parameter in model.named_parameters():
        if name in judges:
            assert rates[id(parameter)] == pytest.approx(0.01), name
        elif name in members(model, *MAX_MIN):
            assert rates[id(parameter)] == pytest.approx(0.04), name
        else:
            assert id(parameter) not in rates, name


# ---- ablations


@pytest.mark.parametrize(
    ("weight", "dropped", "silent"),
    [
        ("beta1", ["mi_global"], ["global_discriminator"]),
        (
            "beta2",
            ["mi_fine_latent", "mi_coarse_latent", "mi_coarse_coarse"],
            ["fine_discriminator", "coarse_discriminator", "map_discriminator"],
        ),
        ("a1", ["mi_fine_latent"], ["fine_discriminator"]),
        ("a2", ["mi_coarse_latent"], ["coarse_discriminator"]),
        ("a3", ["mi_coarse_coarse"], ["map_discriminator"]),
        ("gamma", ["kl"], ["class_mean"]),
    ],
)
def test_a_weight_of_zero_drops_its_term(weight, dropped, silent):
    features = some_features(dtype=torch.float32)
    full = make(mi_latent="mean").max_min_terms(features, LABELS)
    loss = make(mi_latent="mean", **{weight: 0.0})
    terms = loss.max_min_terms(features, LABELS)
    assert_terms(terms, {n: v.item() for n, v in full.items() if n not in dropped})
    total(terms).backward()
    for name, parameter in loss.named_parameters():
        if name.startswith(tuple(silent)):
            assert parameter.grad is None


def test_all_weights_zero_leave_a_phase_that_changes_nothing():
    loss = make(beta1=0.0, beta2=0.0, gamma=0.0)
    terms = loss.max_min_terms(some_features(dtype=torch.float32), LABELS)
    assert len(terms) == 1
    assert total(terms).item() == 0
    total(terms).backward()
    assert not any(p.grad.any() for p in loss.parameters() if p.grad is not None)


def test_no_prior_leaves_the_information():
    features = some_features(dtype=torch.float32)
    loss = make(prior="none", **WEIGHTS)
    terms = loss.max_min_terms(features, LABELS)
    mean = loss.embedding(features)
    assert_terms(terms, paper_terms(loss, features, mean, mean, None))


# ---- adversarial prior


def prior_score(loss, code):
    layers = [
        (array(m.weight), array(m.bias))
        for m in loss.prior_discriminator
        if isinstance(m, nn.Linear)
    ]
    return perceptron(layers, code)


def make_adversarial(**given):
    loss = make(prior="adversarial", **given)
    for module in loss.prior_discriminator:  # 1000 inputs: back to scores of moderate size
        if isinstance(module, nn.Linear):
            module.reset_parameters()
    return loss


def test_adversarial_terms():
    loss = make_adversarial(gamma=0.3, gradient_penalty=2.0)
    features = some_features(dtype=torch.float32)
    codes = 1 / (1 + np.exp(-array(loss.embedding(features))))
    torch.manual_seed(6)
    terms = loss.prior_terms(features)
    torch.manual_seed(6)
    real = array(torch.rand(BATCH, 3))
    penalties = []
    for sample in real:
        steps = 1e-6 * np.eye(3)
        slope = [
            (prior_score(loss, sample + step) - prior_score(loss, sample - step)) / 2e-6
            for step in steps
        ]
        penalties.append(np.square(slope).sum())
    expected = {
        "prior_real": np.mean([softplus(-prior_score(loss, c)) for c in real]),
        "prior_fake": np.mean([softplus(prior_score(loss, c)) for c in codes]),
        "gradient_penalty": 2.0 * np.mean(penalties),
    }
    assert list(terms) == list(expected)
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value, rel=1e-4), name
    # The encoder's side in the max-min phase.
    fooled = 0.3 * np.mean([softplus(-prior_score(loss, c)) for c in codes])
    assert loss.max_min_terms(features, LABELS)["prior"].item() == pytest.approx(fooled, rel=1e-5)
    assert "kl" not in loss.max_min_terms(features, LABELS)


def test_gradient_penalty_is_left_out_at_zero_and_else_trains_the_discriminator():
    features = some_features(dtype=torch.float32)
    without = make_adversarial(gradient_penalty=0.0).prior_terms(features)
    assert list(without) == ["prior_real", "prior_fake"]
    loss = make_adversarial(gradient_penalty=1.0)
    loss.prior_terms(features)["gradient_penalty"].backward()
    weights = [m.weight for m in loss.prior_discriminator if isinstance(m, nn.Linear)]
    assert all(weight.grad.any() for weight in weights)


def test_prior_phase_trains_only_its_discriminator():
    model = OpenSetModel(Toy(), make_adversarial(schedule="iteration"))
    phase = model.phases()[0]
    only = members(model, "loss.prior_discriminator")
    assert phase.name == "prior"
    assert names_of(model, phase.updates) == only
    assert reached(model, phase) == only


def test_encoder_term_of_the_prior_does_not_saturate():
    """Where the discriminator is sure, log(1 - D) has no slope left and -log D has all of it."""
    loss = make_adversarial(beta1=0.0, beta2=0.0, gamma=1.0)
    with torch.no_grad():
        loss.prior_discriminator[-1].bias.fill_(-60.0)
    features = some_features(dtype=torch.float32)
    terms = loss.max_min_terms(features, LABELS)
    assert list(terms) == ["prior"]
    (slope,) = torch.autograd.grad(terms["prior"], loss.mean.weight)
    score = loss.prior_discriminator(loss.embedding(features).sigmoid()).mean()
    (full,) = torch.autograd.grad(-score, loss.mean.weight)
    assert full.abs().max() > 1e-4
    torch.testing.assert_close(slope, full, rtol=1e-4, atol=1e-7)


# ---- places drawn at random


def test_a_subset_of_places_is_unbiased():
    features = some_features(dtype=torch.float32)
    with torch.no_grad():
        full = make(mi_latent="mean").max_min_terms(features, LABELS)
        loss = make(mi_latent="mean", fine_locations=5)
        torch.manual_seed(0)
        draws = [loss.max_min_terms(features, LABELS) for _ in range(400)]
    values = np.array([draw["mi_fine_latent"].item() for draw in draws])
    error = values.std() / np.sqrt(len(values))
    assert len(np.unique(values)) > 350
    assert 0 < error < 0.02 * abs(full["mi_fine_latent"].item())
    assert abs(values.mean() - full["mi_fine_latent"].item()) < 4 * error
    for name in set(full) - {"mi_fine_latent"}:
        assert {draw[name].item() for draw in draws} == {full[name].item()}


@pytest.mark.parametrize("count", [36, 1000])
def test_as_many_places_as_there_are_means_all(count):
    features = some_features(dtype=torch.float32)
    full = make(mi_latent="mean").max_min_terms(features, LABELS)
    some = make(mi_latent="mean", fine_locations=count).max_min_terms(features, LABELS)
    assert all(torch.equal(some[name], full[name]) for name in full)


# ---- the estimate as an estimate


def correlated(correlation, count):
    a = torch.randn(count, 1)
    return a, correlation * a + math.sqrt(1 - correlation**2) * torch.randn(count, 1)


def bound(correlation):
    """Largest value of the estimate for Gaussian pairs: 2 JSD(joint, product) - 2 log 2."""
    grid = np.linspace(-7, 7, 701)
    a, b = np.meshgrid(grid, grid)
    joint = stats.multivariate_normal([0, 0], [[1, correlation], [correlation, 1]]).pdf(
        np.stack([a, b], axis=-1)
    )
    product = stats.norm.pdf(a) * stats.norm.pdf(b)
    log_sum = np.log(joint + product)
    cell = (grid[1] - grid[0]) ** 2
    joint_part = (joint * (np.log(np.maximum(joint, 1e-300)) - log_sum)).sum() * cell
    return joint_part + (product * (np.log(product) - log_sum)).sum() * cell


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_a_trained_estimate_measures_dependence(correlation):
    torch.manual_seed(0)
    pair = PairDiscriminator(1, 1, 32)
    optimizer = torch.optim.Adam(pair.parameters(), lr=0.01)
    test = correlated(correlation, 20_000)
    with torch.no_grad():
        before = pair.information(*test, "both").item()
    for _ in range(250):
        optimizer.zero_grad()
        (-pair.information(*correlated(correlation, 512), "both")).backward()
        optimizer.step()
    with torch.no_grad():
        after = pair.information(*test, "both").item()
    if correlation == 0:
        assert bound(correlation) == pytest.approx(INDEPENDENT, abs=1e-6)
        assert after == pytest.approx(INDEPENDENT, abs=0.01)
    else:
        assert after > before + 0.3
        assert after == pytest.approx(bound(correlation), abs=0.03)


# ---- through the trainer


class PlainAccelerator:
    """What the loop asks of an accelerator, for one process on a CPU."""

    device = torch.device("cpu")
    mixed_precision = "no"
    is_main_process = True

    def prepare_model(self, model):
        return model

    def backward(self, value):
        value.backward()

    def autocast(self):
        return nullcontext()

    def wait_for_everyone(self):
        pass


class Images:
    """A loader of two fixed batches."""

    samples = 2 * BATCH
    labels = torch.cat([LABELS, LABELS.flip(0)])

    def __init__(self):
        self.images = torch.randn(self.samples, 1, IMAGE, IMAGE)

    def __len__(self):
        return 2

    def shuffled(self, _order, _augmentation):
        yield from zip(self.images.split(BATCH), self.labels.split(BATCH), strict=True)

    def in_order(self):
        for images, labels in self.shuffled(None, None):
            yield images, labels, torch.arange(len(labels))


def changes_by_phase(model, folder, **training):
    """Train, and note which parameters each step of each phase's optimiser changed."""
    loader = Images()
    trainer = Trainer(
        model,
        loader,
        loader,
        TrainingOptions(**({"epochs": 1, "lr": 0.05, "momentum": 0.9} | training)),
        seed=0,
        accelerator=PlainAccelerator(),
        checkpoints=folder,
        observers=Observers(),
    )
    log, before = [], {}

    def state():
        return {name: p.detach().clone() for name, p in model.named_parameters()}

    def note(name):
        def after_step(*_):
            now = state()
            log.append((name, {n for n in now if not torch.equal(now[n], before[n])}))
            before.update(now)

        return after_step

    for item in trainer.optimizers:
        item.optimizer.register_step_post_hook(note(item.phase.name))
    before.update(state())
    records = []
    trainer.fit(records.append)
    assert all(p.requires_grad for p in model.parameters())
    return log, records


@pytest.mark.parametrize("classifier_latent", ["sample", "mean"])
def test_each_phase_changes_exactly_what_it_should(tmp_path, classifier_latent):
    model = make_model(schedule="iteration", classifier_latent=classifier_latent)
    log, records = changes_by_phase(model, tmp_path)
    assert [name for name, _ in log] == ["max-min", "classification"] * 2
    head = ("mean", "raw_variance") if classifier_latent == "sample" else ("mean",)
    expected = {
        "max-min": members(model, *MAX_MIN),
        "classification": members(model, "backbone", *loss_members(*head, "classifier")),
    }
    for name, changed in log:
        assert changed == expected[name], name
    terms = [*(f"max-min/{name}" for name in (*MI_TERMS, "kl")), "classification/cross_entropy"]
    assert list(records[0]["terms"]) == terms


def test_phases_take_turns_by_epoch(tmp_path):
    model = make_model(schedule="epoch", classifier_latent="sample")
    log, _ = changes_by_phase(model, tmp_path, epochs=2)
    assert [name for name, _ in log] == ["max-min"] * 2 + ["classification"] * 2
    assert log[0][1] == log[1][1] == members(model, *MAX_MIN)
    assert log[2][1] == log[3][1] == members(model, *ENCODER, "loss.classifier")


def test_adversarial_phases_change_exactly_what_they_should(tmp_path):
    model = OpenSetModel(Toy(), make_adversarial(schedule="iteration"))
    log, _ = changes_by_phase(model, tmp_path)
    assert [name for name, _ in log] == ["prior", "max-min", "classification"] * 2
    encoder = ("backbone", "loss.mean")
    expected = {
        "prior": members(model, "loss.prior_discriminator"),
        "max-min": members(model, *encoder, *loss_members(*DISCRIMINATORS)),
        "classification": members(model, *encoder, "loss.classifier"),
    }
    for name, changed in log:
        assert changed == expected[name], name


def test_training_raises_information_and_accuracy(tmp_path):
    """The whole does what it is for: on a handful of images it learns them."""
    torch.manual_seed(0)
    model = OpenSetModel(Toy(), M2IOSR(options(schedule="iteration", hidden=32), context()))
    _, records = changes_by_phase(model, tmp_path, epochs=60, optimizer="adam", lr=0.01)
    first, last = records[0]["terms"], records[-1]["terms"]
    assert last["max-min/mi_global"] < first["max-min/mi_global"] - 0.05
    assert last["classification/cross_entropy"] < 0.5 * first["classification/cross_entropy"]
    assert records[-1]["validation_accuracy"] == 1.0


@pytest.mark.parametrize("prior", ["kl", "adversarial"])
def test_mixed_precision(prior):
    """Terms in bfloat16 are float32 scalars near those in full precision."""
    model = make_model(prior=prior, schedule="iteration", mi_latent="mean")
    if prior == "adversarial":
        model = OpenSetModel(model.backbone, make_adversarial(mi_latent="mean"))
    for phase in model.phases():
        torch.manual_seed(2)
        full = phase.loss(a_batch(model))
        torch.manual_seed(2)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = phase.loss(a_batch(model))
        model.zero_grad()
        torch.stack([value.float() for value in mixed.values()]).sum().backward()
        assert list(mixed) == list(full)
        for name, value in mixed.items():
            assert value.dtype == torch.float32
            assert value.item() == pytest.approx(full[name].item(), rel=0.1, abs=0.02), name


# ---- other backbones


@pytest.mark.parametrize("image_size", [12, 20, 32])
@pytest.mark.parametrize("selectors", [("low", "high"), ("reduction=2", "reduction=4")])
def test_maps_by_name_and_by_reduction(image_size, selectors):
    torch.manual_seed(0)
    config = options(fine_map=selectors[0], coarse_map=selectors[1], schedule="joint")
    model = OpenSetModel(Toy(image_size), M2IOSR(config, context(image_size=image_size)))
    images = torch.randn(4, 1, image_size, image_size)
    (phase,) = model.phases()
    terms = phase.loss(Batch(images, torch.tensor([0, 1, 2, 0]), backbone=model.backbone))
    assert set(terms) == {*MI_TERMS, "kl", "cross_entropy"}
    assert torch.isfinite(total(terms))
    flat = model.loss.global_discriminator.pair.first.in_features
    assert flat == 3 * (image_size // 2 - 4) ** 2
    assert model.loss.fine_discriminator.first.in_features == 3
    assert model.loss.coarse_discriminator.first.in_features == 4
    assert model.loss.map_discriminator.first.in_features == 4


def test_maps_may_change_places():
    """Nothing but the options says which map is fine and which is coarse."""
    torch.manual_seed(0)
    loss = M2IOSR(options(fine_map="high", coarse_map="low", global_padding=1), context())
    terms = loss.max_min_terms(some_features(dtype=torch.float32), LABELS)
    assert torch.isfinite(total(terms))
    assert loss.fine_discriminator.first.in_features == 4
    assert loss.global_discriminator.pair.first.in_features == 3 * 3**2


def test_default_maps_of_vgg13():
    given = context(VGG13.feature_info, image_size=32, vector_dim=VGG13.vector_dim)
    loss = M2IOSR(M2IOSROptions(), given)
    assert (loss.fine_name, loss.coarse_name) == ("f16", "f4")
    assert loss.global_discriminator.pair.first.in_features == 32 * 12**2
    assert loss.mean.in_features == 512
    assert loss.mean.out_features == loss.raw_variance.out_features == 32


@pytest.mark.parametrize("side", [1, 3, 4])
def test_a_map_too_small_for_the_convolutions_is_refused(side):
    given = context(image_size=4 * side)
    with pytest.raises(CompositionError) as caught:
        M2IOSR(options(fine_map="high", global_padding=0), given)
    message = str(caught.value)
    size = f"{side}x{side} pixels"
    for piece in ("m2iosr.fine_map", "high", "toy", size, "m2iosr.global_padding=1"):
        assert piece in message
    assert "\n" not in message
    # The advice works, and is what happens when nothing is said.
    for padding in (1, None):
        loss = M2IOSR(options(fine_map="high", global_padding=padding), given)
        assert loss.global_discriminator.convolutions(torch.zeros(1, 4, side, side)).numel() > 0


def test_the_smallest_map_that_the_convolutions_take():
    loss = M2IOSR(options(fine_map="high"), context(image_size=20))
    assert loss.global_discriminator.pair.first.in_features == 3


@pytest.mark.parametrize("option", ["fine_map", "coarse_map"])
def test_a_missing_map_is_refused(option):
    with pytest.raises(CompositionError) as caught:
        M2IOSR(options(**{option: "reduction=16"}), context())
    message = str(caught.value)
    for piece in (f"m2iosr.{option}", "'reduction=16'", "toy", "low (reduction=2)"):
        assert piece in message
    assert "\n" not in message


def test_a_backbone_without_maps_is_refused():
    with pytest.raises(CompositionError) as caught:
        M2IOSR(options(), context(maps=()))
    message = str(caught.value)
    assert "m2iosr.fine_map" in message
    assert "toy does not provide; its maps are: none" in message.replace("which backbone ", "")
    assert "\n" not in message


# ---- test time


@pytest.mark.parametrize("training", [True, False])
def test_logits_and_embedding_do_not_depend_on_the_random_state(training):
    model = make_model().train(training)
    images = a_batch(model).images
    results = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        results.append(model(images))
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)
    embedding, logits = results[0]
    features = model.backbone(images)
    mean = array(features.vector) @ array(model.loss.mean.weight).T + array(model.loss.mean.bias)
    np.testing.assert_allclose(array(embedding), mean, rtol=1e-4, atol=1e-6)
    weight, bias = array(model.loss.classifier.weight), array(model.loss.classifier.bias)
    np.testing.assert_allclose(array(logits), mean @ weight.T + bias, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("prior", ["kl", "none", "adversarial"])
def test_the_saved_state_is_that_of_test_time(prior):
    trained = make_model(seed=1, prior=prior)
    images = a_batch(trained).images
    expected = trained(images)
    state = trained.for_inference().state_dict()
    keep = ("mean", "classifier", *(("raw_variance",) if prior == "kl" else ()))
    assert {key.split(".")[1] for key in state if key.startswith("loss.")} == set(keep)
    assert set(state) == members(trained, "backbone", *loss_members(*keep))
    fresh = make_model(seed=2, prior=prior).for_inference()
    assert not torch.equal(fresh(images)[1], expected[1])
    fresh.load_state_dict(state)
    for one, other in zip(fresh(images), expected, strict=True):
        assert torch.equal(one, other)
