"""ARPL and RPL against a plain NumPy transcription of the papers' equations.

The transcription is written from Chen et al., TPAMI 2021, Eq. 6-8, 12, 14 and 17, one sample and
one class at a time, and shares no code with the plugin. Gradients of the transcription are central
differences in float64; the plugin computes in float32.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from openset_core import Features, LossContext
from openset_plugins.arpl import ARPLOptions, RPLOptions
from openset_plugins.arpl.loss import ARPL, RPL
from openset_plugins.distances import mean_squared_distance

CLASSES, DIM, BATCH = 4, 5, 6
LABELS = torch.tensor([0, 3, 1, 2, 3, 0])
CLOSE = {"rtol": 2e-5, "atol": 2e-6}
GRADIENT = {"rtol": 2e-4, "atol": 2e-5}


@pytest.fixture(autouse=True)
def one_thread():
    """On tensors as small as these, threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def context(num_classes=CLASSES, vector_dim=DIM):
    return LossContext(num_classes=num_classes, vector_dim=vector_dim)


def make(build=ARPL, config=None, margin=0.7, seed=0):
    """A loss with points of ordinary size and a margin that some samples keep and some do not."""
    torch.manual_seed(seed)
    loss = build(config or ARPLOptions(), context())
    with torch.no_grad():
        loss.points.normal_()
        loss.margin.fill_(margin)
    return loss


def vectors(seed=1, scale=1.0):
    torch.manual_seed(seed)
    return (scale * torch.randn(BATCH, DIM)).requires_grad_()


def array(tensor):
    return tensor.detach().double().numpy()


def state(loss, vector):
    """Features, points and margin of a loss in float64."""
    return array(vector), array(loss.points), array(loss.margin)


# ---- the paper in NumPy


def d_e(f, p):
    return sum((a - b) ** 2 for a, b in zip(f, p, strict=True)) / len(f)


def d_d(f, p):
    return sum(a * b for a, b in zip(f, p, strict=True))


def table(distance, features, points):
    return np.array([[distance(f, p) for p in points] for f in features])


DISTANCES = {
    "both": lambda f, p: d_e(f, p) - d_d(f, p),
    "euclidean": d_e,
    "dot": lambda f, p: -d_d(f, p),
}


def softmax(row):
    power = np.exp(row - row.max())
    return power / power.sum()


def plain_cross_entropy(scores, hardness):
    """-log p(y), Eq. 7 and 8, mean over the batch."""
    return np.mean(
        [
            -np.log(softmax(hardness * row)[y])
            for row, y in zip(scores, LABELS.tolist(), strict=True)
        ]
    )


def plain_own(features, points):
    return np.array([d_e(f, points[y]) for f, y in zip(features, LABELS.tolist(), strict=True)])


def plain_arpl(features, points, margin, config):
    """Eq. 14; the released code's MarginRankingLoss(margin=1) is max(0, d_e - R + 1)."""
    scores = table(DISTANCES[config.distance], features, points)
    slack = {"paper": 0.0, "released": 1.0}[config.preset]
    beyond = np.maximum(plain_own(features, points) - margin[0] + slack, 0.0)
    return {
        "cross_entropy": plain_cross_entropy(scores, config.hardness),
        "margin": config.weight * beyond.mean(),
    }


def plain_rpl(features, points, margin, config):
    scores = table(d_e, features, points)
    return {
        "cross_entropy": plain_cross_entropy(scores, config.hardness),
        "open_space": config.weight * np.mean((plain_own(features, points) - margin[0]) ** 2),
    }


def central_differences(function, values, step=1e-6):
    """Gradient of a scalar function with respect to each of several arrays."""
    gradients = []
    for number, value in enumerate(values):
        gradient = np.zeros_like(value)
        for place in np.ndindex(value.shape):
            ends = []
            for sign in (1, -1):
                moved = value.copy()
                moved[place] += sign * step
                ends.append(function(*values[:number], moved, *values[number + 1 :]))
            gradient[place] = (ends[0] - ends[1]) / (2 * step)
        gradients.append(gradient)
    return gradients


def check_against(loss, vector, plain):
    """Every term's value and its gradients in features, points and margin."""
    terms = loss.loss(Features(vector, {}), LABELS)
    values = state(loss, vector)
    expected = plain(*values, loss.config)
    assert list(terms) == list(expected)
    for name, term in terms.items():
        assert term.shape == ()
        assert term.dtype == torch.float32
        np.testing.assert_allclose(term.item(), expected[name], **CLOSE, err_msg=name)
        wanted = central_differences(
            lambda *moved, name=name: plain(*moved, loss.config)[name], values
        )
        got = torch.autograd.grad(
            term, (vector, loss.points, loss.margin), retain_graph=True, allow_unused=True
        )
        for what, one, other in zip(("features", "points", "R"), got, wanted, strict=True):
            one = np.zeros_like(other) if one is None else array(one)
            np.testing.assert_allclose(one, other, **GRADIENT, err_msg=f"{name}, {what}")


# ---- distances


def test_distances():
    """d_e is over m, d_d is not, d is their difference."""
    vector, points = torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 1.0], [3.0, 4.0]])
    logits = {}
    for name in DISTANCES:
        loss = ARPL(ARPLOptions(distance=name), context(2, 2))
        loss.points.data.copy_(points)
        logits[name] = loss.logits(Features(vector, {})).tolist()[0]
    assert logits["euclidean"] == [(4.0 + 9.0) / 2, 0.0]
    assert logits["dot"] == [-7.0, -25.0]
    assert logits["both"] == [6.5 - 7.0, -25.0]


@pytest.mark.parametrize("name", DISTANCES)
def test_logits_are_the_distances(name):
    loss = make(config=ARPLOptions(distance=name))
    vector = vectors()
    expected = table(DISTANCES[name], *state(loss, vector)[:2])
    np.testing.assert_allclose(array(loss.logits(Features(vector, {}))), expected, **CLOSE)


@pytest.mark.parametrize("preset", ["paper", "released"])
@pytest.mark.parametrize("name", DISTANCES)
def test_logits_stay_raw_whatever_the_hardness(name, preset):
    features = Features(vectors(), {})
    raw, hard = (
        make(config=ARPLOptions(distance=name, preset=preset, hardness=hardness))
        for hardness in (1.0, 7.0)
    )
    assert torch.equal(raw.logits(features), hard.logits(features))
    terms = [loss.loss(features, LABELS) for loss in (raw, hard)]
    assert terms[0]["cross_entropy"].item() != pytest.approx(terms[1]["cross_entropy"].item())
    assert terms[0]["margin"].item() == terms[1]["margin"].item()


def test_a_distance_is_never_negative():
    """The expanded square may round below zero; a point on itself is 0 from itself."""
    torch.manual_seed(0)
    points = 1e3 * torch.randn(50, 64)
    distances = mean_squared_distance(points, points)
    assert distances.min().item() >= 0
    assert distances.diagonal().max().item() < 1e-6 * distances.mean().item()


# ---- the loss


@pytest.mark.parametrize("hardness", [1.0, 0.5, 3.0])
@pytest.mark.parametrize("name", DISTANCES)
@pytest.mark.parametrize("preset", ["paper", "released"])
def test_arpl_is_the_papers(preset, name, hardness):
    config = ARPLOptions(preset=preset, distance=name, hardness=hardness, weight=0.3)
    loss = make(config=config, margin=1.5 if preset == "paper" else 2.5)
    vector = vectors()
    own = plain_own(*state(loss, vector)[:2])
    assert own.min() < 1.5 < own.max()  # the hinge is active for some samples, not for all
    check_against(loss, vector, plain_arpl)


@pytest.mark.parametrize("preset", ["paper", "released"])
def test_the_margin_ignores_samples_that_keep_it(preset):
    loss = make(config=ARPLOptions(preset=preset, weight=1.0), margin=1e3)
    vector = vectors()
    term = loss.loss(Features(vector, {}), LABELS)["margin"]
    assert term.item() == 0.0
    for gradient in torch.autograd.grad(term, (vector, loss.points, loss.margin)):
        assert not gradient.any()


def test_the_margin_grows_with_the_share_of_samples_beyond_it():
    """dL/dR = -lambda times that share."""
    loss = make(config=ARPLOptions(preset="paper", weight=0.3))
    vector = vectors()
    own = np.sort(plain_own(*state(loss, vector)[:2]))
    loss.margin.data.fill_((own[1] + own[2]) / 2)  # two keep it, four do not
    term = loss.loss(Features(vector, {}), LABELS)["margin"]
    (gradient,) = torch.autograd.grad(term, loss.margin)
    assert gradient.item() == pytest.approx(-0.3 * 4 / 6)


@pytest.mark.parametrize("margin", [-1.0, 0.0, 1.5, 10.0])
def test_released_margin_is_the_papers_plus_one(margin):
    """R of the released code is R of the paper + 1: same terms, same gradients."""
    results = []
    for preset, shift in (("paper", 0.0), ("released", 1.0)):
        loss = make(config=ARPLOptions(preset=preset), margin=margin + shift)
        vector = vectors()
        terms = loss.loss(Features(vector, {}), LABELS)
        total = terms["cross_entropy"] + terms["margin"]
        results.append([total, *torch.autograd.grad(total, (vector, loss.points, loss.margin))])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_presets_start_at_their_own_margin():
    """The released start stands for a margin of -1 in the paper's sense, not for its 1."""
    margins = {
        preset: ARPL(ARPLOptions(preset=preset), context()).margin
        for preset in ("paper", "released")
    }
    assert margins["paper"].tolist() == [1.0]
    assert margins["released"].tolist() == [0.0]
    assert all(margin.requires_grad for margin in margins.values())
    assert ARPLOptions().preset == "released"
    # Every sample is beyond the released margin at the start, also one that lies on its point.
    loss = ARPL(ARPLOptions(weight=1.0), context())
    on_points = Features(loss.points[LABELS].detach(), {})
    assert loss.loss(on_points, LABELS)["margin"].item() == pytest.approx(1.0)


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
@pytest.mark.parametrize(
    ("build", "options", "term"),
    [(ARPL, ARPLOptions, "margin"), (RPL, RPLOptions, "open_space")],
)
def test_weight_stands_before_the_second_term(build, options, term, weight):
    features = Features(vectors(), {})
    whole = make(build, options(weight=1.0)).loss(features, LABELS)
    part = make(build, options(weight=weight)).loss(features, LABELS)
    assert whole[term].item() > 0.1
    assert part[term].item() == pytest.approx(weight * whole[term].item())
    assert part["cross_entropy"].item() == whole["cross_entropy"].item()


def test_paper_defaults():
    config = ARPLOptions()
    assert (config.weight, config.hardness, config.distance) == (0.1, 1.0, "both")
    assert (RPLOptions().weight, RPLOptions().hardness) == (0.1, 1.0)


@pytest.mark.parametrize("hardness", [1.0, 2.0])
def test_rpl_is_the_released_codes(hardness):
    loss = make(RPL, RPLOptions(hardness=hardness, weight=0.3))
    check_against(loss, vectors(), plain_rpl)


def test_rpl_logits():
    vector = vectors()
    raw, hard = (make(RPL, RPLOptions(hardness=hardness)) for hardness in (1.0, 4.0))
    logits = raw.logits(Features(vector, {}))
    np.testing.assert_allclose(array(logits), table(d_e, *state(raw, vector)[:2]), **CLOSE)
    assert torch.equal(logits, hard.logits(Features(vector, {})))
    assert RPL(RPLOptions(), context()).margin.tolist() == [0.0]


# ---- open space


@pytest.mark.parametrize(
    ("build", "config"),
    [
        *((ARPL, ARPLOptions(distance=name, hardness=3.0)) for name in DISTANCES),
        (RPL, RPLOptions(hardness=3.0)),
    ],
)
def test_open_space_is_the_negative_entropy_over_d_e_alone(build, config):
    """Eq. 17 without 1/N: no dot product and no hardness, whatever the logits are."""
    loss = make(build, config)
    vector = vectors()

    def plain(features, points):
        rows = [softmax(row) for row in table(d_e, features, points)]
        return np.array([np.sum(row * np.log(row)) for row in rows])

    value = loss.open_space(Features(vector, {}))
    values = state(loss, vector)[:2]
    np.testing.assert_allclose(array(value), plain(*values), **CLOSE)
    wanted = central_differences(lambda *moved: plain(*moved).sum(), values)
    got = torch.autograd.grad(value.sum(), (vector, loss.points))
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(array(one), other, **GRADIENT)


def test_open_space_is_least_where_all_points_are_equally_far():
    """Lemma 1."""
    loss = ARPL(ARPLOptions(), context(4, 2))
    loss.points.data.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
    value = loss.open_space(Features(torch.tensor([[0.0, 0.0], [0.3, 0.1], [2.0, 1.0]]), {}))
    assert value[0].item() == pytest.approx(-math.log(4), rel=1e-6)
    assert value[0] < value[1] < value[2] < 0


@pytest.mark.parametrize("scale", [1e3, 1e4, 1e8, 1e15])
@pytest.mark.parametrize("build", [ARPL, RPL])
def test_huge_distances_make_no_nan(build, scale):
    """A probability of zero has no entropy; 0 log 0 written plainly would be NaN."""
    loss = make(build, ARPLOptions() if build is ARPL else RPLOptions())
    vector = vectors(scale=scale)
    rows = table(d_e, *state(loss, vector)[:2])
    assert all(softmax(row).astype(np.float32).min() == 0.0 for row in rows)  # what is feared
    value = loss.open_space(Features(vector, {}))
    terms = loss.loss(Features(vector, {}), LABELS)
    total = value.sum() + terms["cross_entropy"]
    for result in (value, *torch.autograd.grad(total, (vector, loss.points))):
        assert torch.isfinite(result).all()
    assert (value <= 0).all()
    assert (value >= -math.log(CLASSES) - 1e-6).all()


# ---- mixed precision


@pytest.mark.parametrize(
    ("build", "config"),
    [
        *((ARPL, ARPLOptions(distance=name)) for name in DISTANCES),
        (RPL, RPLOptions()),
    ],
)
def test_float32_under_mixed_precision(build, config):
    """Features of a bf16 network, everything behind them in full precision."""
    loss = make(build, config)
    plain = plain_arpl if build is ARPL else plain_rpl
    distance = DISTANCES[getattr(config, "distance", "euclidean")]
    vector = vectors(scale=4.0).detach().bfloat16().requires_grad_()
    values = state(loss, vector)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = Features(vector, {})
        logits, outside = loss.logits(features), loss.open_space(features)
        terms = loss.loss(features, LABELS)
    for result in (logits, outside, *terms.values()):
        assert result.dtype == torch.float32
    np.testing.assert_allclose(array(logits), table(distance, *values[:2]), rtol=1e-4, atol=1e-4)
    expected = plain(*values, config)
    for name, term in terms.items():
        assert term.item() == pytest.approx(expected[name], rel=1e-4, abs=1e-4), name


# ---- the whole


@pytest.mark.parametrize(("build", "config"), [(ARPL, ARPLOptions()), (RPL, RPLOptions())])
def test_parameters(build, config):
    """One point a class and one margin for all classes: K m + 1."""
    torch.manual_seed(0)
    loss = build(config, context(10, 128))
    shapes = {name: tuple(p.shape) for name, p in loss.named_parameters()}
    assert shapes == {"points": (10, 128), "margin": (1,)}
    assert sum(p.numel() for p in loss.parameters()) == 10 * 128 + 1
    assert loss.points.std().item() == pytest.approx(0.1, rel=0.1)
    assert loss.points.mean().abs().item() < 0.01
    (phase,) = loss.phases(nn.Identity())
    assert phase.updates[1] is loss  # points and margin are in the network's own optimiser


def test_option_of_the_points_start():
    torch.manual_seed(0)
    loss = ARPL(ARPLOptions(init_std=2.0), context(10, 128))
    assert loss.points.std().item() == pytest.approx(2.0, rel=0.1)


def trained(weight, preset, dim):
    """Margin in the paper's sense, and d_e to own and to other points, after training."""
    torch.manual_seed(0)
    labels = torch.arange(3).repeat(12)
    images = torch.randn(3, 8)[labels] + 0.3 * torch.randn(len(labels), 8)
    network = nn.Linear(8, dim)
    loss = ARPL(ARPLOptions(weight=weight, preset=preset), context(3, dim))
    parameters = [*network.parameters(), *loss.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
    for _ in range(250):
        optimizer.zero_grad()
        sum(loss.loss(Features(network(images), {}), labels).values()).backward()
        optimizer.step()
    vector = network(images)
    distances = table(d_e, array(vector), array(loss.points))
    own = np.eye(3, dtype=bool)[labels.numpy()]
    right = loss.logits(Features(vector, {})).argmax(dim=1) == labels
    assert right.all()
    margin = loss.margin.item() - (1.0 if preset == "released" else 0.0)
    return margin, distances[own], distances[~own]


@pytest.mark.parametrize(("dim", "preset"), [(2, "paper"), (8, "released")])
def test_theorem_1(dim, preset):
    """With L_o, samples of other classes end within R of every point; without it they do not."""
    margin, own, others = trained(1.0, preset, dim)
    assert margin > 0
    assert own.max() <= 1.02 * margin  # L_o is minimised
    assert others.max() <= 1.02 * margin  # so the open space is bounded, Eq. 11
    assert own.mean() > others.mean()  # L_c: the own class is the farthest
    free_margin, _, free = trained(0.0, preset, dim)
    assert free.max() > 1.5 * max(free_margin, margin)


@pytest.mark.parametrize("named", [(ARPL, ARPLOptions()), (RPL, RPLOptions())])
def test_reciprocal_points_and_margin_are_told(named):
    build, config = named
    loss = make(build, config, margin=0.7)
    landmarks = loss.landmarks()
    assert torch.equal(landmarks.points, loss.points)
    assert landmarks.labels.tolist() == list(range(CLASSES))
    assert landmarks.name == "reciprocal point"
    assert loss.learned_scalars() == {"margin": pytest.approx(0.7)}


@pytest.mark.parametrize("distance", ["euclidean", "both", "dot"])
def test_rpl_takes_the_distances_of_arpl(distance):
    features = Features(vectors(), {})
    rpl = make(RPL, RPLOptions(distance=distance))
    arpl = make(ARPL, ARPLOptions(distance=distance))
    assert torch.equal(rpl.logits(features), arpl.logits(features))
    # The bound stays RPL's own, on the Euclidean distance.
    own = mean_squared_distance(features.vector, rpl.points)[torch.arange(BATCH), LABELS]
    expected = 0.1 * (own - rpl.margin).square().mean()
    torch.testing.assert_close(rpl.loss(features, LABELS)["open_space"], expected)
