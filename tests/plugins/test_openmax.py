"""OpenMax and its Weibull fits, against SciPy, exact arithmetic and a plain transcription."""

import math
from decimal import Decimal, localcontext

import attrs
import numpy as np
import pytest
import torch
from scipy import optimize, special, stats

from openset_core.errors import ConfigError
from openset_core.experiment.config import structure
from openset_plugins.openmax import OpenMaxOptions
from openset_plugins.openmax.scorer import OpenMax, _largest
from openset_plugins.openmax.weibull import cdf, fit_tails

# A stray division by zero or overflow is a failure, not a warning.
pytestmark = pytest.mark.filterwarnings("error")


# ---- Weibull


def cdf_of(fit, distance, classes=...):
    """The CDF of distances [..., K], or of the classes named for them."""
    shape, log_scale, offset = fit.shape[classes], fit.log_scale[classes], fit.offset[classes]
    return cdf(np, np.asarray(distance), shape, log_scale, offset, fit.shift)


def make_tails(classes, tail, scale, seed=0):
    """Tails of positive distances that spread over about `scale`."""
    rng = np.random.default_rng(seed)
    shape = rng.uniform(0.7, 4.0, size=(classes, 1))
    return scale * (1.0 + rng.weibull(shape, size=(classes, tail)))


def full(tails):
    return np.full(len(tails), tails.shape[1])


@pytest.mark.parametrize("tail", [3, 20, 100])
@pytest.mark.parametrize(
    ("shift", "scale"),
    # Below these ratios of scale to shift it is SciPy that has no digits left.
    [(1.0, 1e-3), (1.0, 1.0), (1.0, 1e3), (1.0, 1e6), (1e4, 1.0), (1e4, 1e3), (1e4, 1e6)],
)
def test_weibull_matches_scipy(tail, shift, scale):
    tails = make_tails(2, tail, scale)
    fit = fit_tails(tails, shift, full(tails))

    def simplex(f, x0, args, disp):
        return optimize.fmin(
            f, x0, args=args, disp=disp, xtol=1e-9, ftol=1e-12, maxiter=4000, maxfun=4000
        )

    for k in range(len(tails)):
        y = tails[k] - tails[k].min() + shift
        # Off the solution, or SciPy would have nothing to do.
        start = {"scale": 0.98 * fit.scale[k]} if shift == 1 else {"scale": float(y.mean())}
        with np.errstate(over="ignore"):
            shape, _, found = stats.weibull_min.fit(
                y, 1.3 * fit.shape[k], floc=0, optimizer=simplex, **start
            )
        assert fit.shape[k] == pytest.approx(shape, rel=1e-4)
        assert fit.scale[k] == pytest.approx(found, rel=1e-6)
        query = np.quantile(tails[k], [0.0, 0.1, 0.5, 0.9, 1.0])
        ours = cdf_of(fit, query, np.full(5, k))
        theirs = stats.weibull_min.cdf(
            query - fit.offset[k] + shift, fit.shape[k], scale=fit.scale[k]
        )
        np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-10)


def exact_terms(tail, shift, shape):
    """The likelihood equation's residual times shape, log(scale / shift) and the CDF, exactly."""
    k = Decimal(shape)
    values = [Decimal(d) for d in tail]
    y = [d - min(values) + Decimal(shift) for d in values]
    logs = [(v / max(y)).ln() for v in y]
    weights = [(k * t).exp() for t in logs]
    n = Decimal(len(y))
    tilted = sum(w * t for w, t in zip(weights, logs, strict=True)) / sum(weights)
    log_scale = (max(y) / Decimal(shift)).ln() + (sum(weights) / n).ln() / k
    cdfs = [1 - (-(k * ((v / Decimal(shift)).ln() - log_scale)).exp()).exp() for v in y]
    return float(k * (tilted - sum(logs) / n) - 1), log_scale, [float(c) for c in cdfs]


@pytest.mark.parametrize("tail", [2, 7, 20])
@pytest.mark.parametrize("shift", [0.1, 1.0, 1e4])
@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 1e3, 1e6])
def test_weibull_solves_the_likelihood_equation_in_exact_arithmetic(tail, shift, scale):
    tails = make_tails(2, tail, scale, seed=3)
    fit = fit_tails(tails, shift, full(tails))
    ours = cdf_of(fit, tails.T).T
    with localcontext() as context:
        context.prec = 50
        for k in range(len(tails)):
            residual, log_scale, expected = exact_terms(tails[k], shift, fit.shape[k])
            assert abs(residual) < 1e-11
            assert fit.log_scale[k] == pytest.approx(float(log_scale), rel=1e-12)
            np.testing.assert_allclose(ours[k], expected, rtol=1e-9, atol=1e-13)


def test_shift_that_dwarfs_the_distances_gives_the_gumbel_limit():
    # For y = shift + d with shift -> infinity the Weibull of d tends to a Gumbel of minima, so
    # shape / shift and the CDF settle; 1e12 is beyond what y itself can hold in float64.
    tails = make_tails(4, 20, 1e-3)
    large = fit_tails(tails, 1e8, full(tails))
    larger = fit_tails(tails, 1e12, full(tails))
    np.testing.assert_allclose(large.shape / 1e8, larger.shape / 1e12, rtol=1e-9)
    np.testing.assert_allclose(cdf_of(large, tails.T), cdf_of(larger, tails.T), rtol=1e-9)


def test_classes_do_not_influence_each_other():
    tails = np.concatenate([make_tails(30, 20, s, seed=5) for s in (1e-6, 1.0, 1e6)])
    together = fit_tails(tails, 1.0, full(tails))
    for k in (0, 17, 45, 89):
        alone = fit_tails(tails[k : k + 1], 1.0, np.array([20]))
        assert alone.shape[0] == together.shape[k]
        assert alone.log_scale[0] == together.log_scale[k]
        assert alone.offset[0] == together.offset[k]


def test_order_within_a_tail_and_padding_do_not_matter():
    tails = make_tails(5, 8, 1.0)
    fit = fit_tails(tails, 1.0, full(tails))
    padded = np.full((5, 20), np.nan)
    padded[:, :8] = tails[:, ::-1]
    ragged = fit_tails(padded, 1.0, np.full(5, 8))
    np.testing.assert_allclose(ragged.shape, fit.shape, rtol=1e-12)
    np.testing.assert_allclose(ragged.log_scale, fit.log_scale, rtol=1e-12)
    np.testing.assert_array_equal(ragged.n, 8)


def test_ragged_tails_equal_each_class_fitted_alone():
    tails = make_tails(4, 20, 1.0)
    counts = np.array([20, 2, 7, 3])
    fit = fit_tails(tails, 1.0, counts)
    for k, n in enumerate(counts):
        alone = fit_tails(tails[k : k + 1, :n], 1.0, np.array([n]))
        assert fit.shape[k] == pytest.approx(alone.shape[0], rel=1e-12)
        assert fit.log_scale[k] == pytest.approx(alone.log_scale[0], rel=1e-12)


def test_uneven_tails_converge():
    # One value apart from all others, on either side, and values over 600 orders of magnitude.
    tails = np.ones((3, 1000))
    tails[0, 0] = 2.0
    tails[1, 1:] = 2.0
    tails[2] = np.logspace(-300, 300, 1000)
    fit = fit_tails(tails, 1.0, full(tails))
    assert np.isfinite(fit.shape).all()
    assert np.isfinite(fit.log_scale).all()
    with localcontext() as context:
        context.prec = 50
        for k in range(3):
            assert abs(exact_terms(tails[k], 1.0, fit.shape[k])[0]) < 1e-11


@pytest.mark.parametrize("shift", [1.0, 1e4])
def test_degenerate_classes(shift):
    tails = np.array([[np.nan, np.nan], [3.0, np.nan], [3.0, 3.0], [0.0, 0.0], [3.0, 4.0]])
    fit = fit_tails(tails, shift, np.array([0, 1, 2, 2, 2]))
    query = np.array([0.0, 3.0, np.nextafter(3.0, 4.0), 1e300])
    probability = cdf_of(fit, np.repeat(query[:, None], 5, axis=1))
    np.testing.assert_array_equal(probability[:, 0], 0.0)  # no value: never
    np.testing.assert_array_equal(probability[:, 1], 0.0)  # one value: no spread to judge by
    np.testing.assert_array_equal(probability[:, 2], [0, 0, 1, 1])  # equal values: a step
    np.testing.assert_array_equal(probability[:, 3], [0, 1, 1, 1])
    assert (np.diff(probability[:, 4]) >= 0).all()
    assert probability[-1, 4] == 1.0
    np.testing.assert_array_equal(cdf_of(fit, np.full(5, np.inf))[[0, 2, 4]], [0, 1, 1])


def test_cdf_is_zero_below_its_support_and_rises():
    tails = make_tails(3, 20, 10.0)
    fit = fit_tails(tails, 1.0, full(tails))
    distance = np.linspace(-1.0, 400.0, 800)[:, None] + np.zeros(3)
    values = cdf_of(fit, distance)
    assert values.shape == (800, 3)
    assert (values[distance <= fit.offset - 1.0] == 0).all()
    assert (np.diff(values, axis=0) >= 0).all()
    assert (values[-1] > 0.999).all()
    assert np.isnan(cdf_of(fit, np.full(3, np.nan))).all()


@pytest.mark.parametrize(
    ("largest", "shift", "count", "message"),
    [
        (np.ones(3), 1.0, np.array([1]), "largest must be"),
        (np.ones((1, 3)), 1.0, np.array([4]), "0..3"),
        (np.ones((1, 3)), 1.0, np.array([1.0]), "valid_count must be integers"),
        (np.ones((1, 3)), 1.0, np.array([1, 2]), "valid_count must be integers"),
        (np.ones((1, 3)), 0.0, np.array([3]), "shift"),
        (np.ones((1, 3)), math.inf, np.array([3]), "shift"),
        (np.array([[1.0, np.inf]]), 1.0, np.array([2]), "finite"),
        (np.array([[1.0, 1e308]]), 1e-3, np.array([2]), "overflow"),
    ],
)
def test_fit_tails_names_what_is_wrong(largest, shift, count, message):
    with pytest.raises(ValueError, match=message):
        fit_tails(largest, shift, count)


# ---- OpenMax


def make_data(classes=12, n=900, seed=0, dtype=np.float64, level=0.0):
    """Logits around `level` with the own class raised, and their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    logits = rng.normal(level, 1.5, size=(n, classes))
    logits[np.arange(n), labels] += rng.uniform(2.0, 7.0, n)
    return logits.astype(dtype), labels


@attrs.frozen
class Source:
    """Training features as a function gives them, in pairs of logits and labels."""

    give: object
    rows = num_classes = 0  # neither is asked for

    def chunks(self, *names):
        assert names == ("logits", "label")
        for logits, labels in self.give():
            yield {"logits": logits, "label": labels}


def fit_openmax(chunks, config=None, **options):
    scorer = OpenMax(config or OpenMaxOptions(**options))
    scorer.fit(Source(chunks))
    return scorer


def changed(fit, state=None, **options):
    """The same fit with other options, or with other arrays."""
    scorer = OpenMax(attrs.evolve(fit.config, **options))
    scorer.restore({**fit.state(), **(state or {})})
    return scorer


def revise(fit, logits):
    return fit.probabilities({"logits": logits})


def revised_logits(fit, logits):
    def formula(xp, table, learned):
        known, unknown = fit.revise(xp, table, learned)
        return xp.concatenate([known, unknown[:, None]], axis=1)

    return fit.in_blocks(formula, {"logits": logits})


def unknown_score(fit, logits, score="probability"):
    return changed(fit, score=score).score({"logits": logits})


def in_chunks(logits, labels, size=None):
    size = size or max(1, len(logits))

    def chunks():
        for start in range(0, len(logits), size):
            yield logits[start : start + size], labels[start : start + size]

    return chunks


def plain_distance(kind, x, m):
    euclidean = math.sqrt(math.fsum((a - b) ** 2 for a, b in zip(x, m, strict=True)))
    dot = math.fsum(a * b for a, b in zip(x, m, strict=True))
    cosine = 1.0 - dot / math.sqrt(math.fsum(a * a for a in x) * math.fsum(b * b for b in m))
    return {"euclidean": euclidean, "cosine": cosine, "eucos": euclidean / 200 + cosine}[kind]


def plain_weibull(tail, shift):
    """Shape, scale and offset of one tail, by bracketing the likelihood equation's root."""
    offset = min(tail)
    y = [d - offset + shift for d in tail]
    logs = [math.log(v / max(y)) for v in y]
    mean = math.fsum(logs) / len(logs)

    def equation(k):
        weights = [math.exp(k * t) for t in logs]
        top = math.fsum(w * t for w, t in zip(weights, logs, strict=True))
        return top / math.fsum(weights) - mean - 1 / k

    low = -1.0 / mean
    high = low
    while equation(high) < 0:
        high *= 2
    shape = optimize.brentq(equation, 0.5 * low, high, xtol=1e-14, rtol=1e-14)
    mean_power = math.fsum(math.exp(shape * t) for t in logs) / len(logs)
    return shape, max(y) * mean_power ** (1 / shape), offset


def plain_openmax(train, labels, test, parameters):
    """Bendale & Boult 2016, Algorithms 1 and 2, one number at a time."""
    classes = train.shape[1]
    means, weibulls = [], []
    for k in range(classes):
        correct = [
            list(x) for x, y in zip(train, labels, strict=True) if y == k and np.argmax(x) == k
        ]
        mean = [math.fsum(column) / len(correct) for column in zip(*correct, strict=True)]
        distances = sorted(plain_distance(parameters.distance, x, mean) for x in correct)
        means.append(mean)
        weibulls.append(plain_weibull(distances[-parameters.tail_size :], parameters.shift))
    alpha = min(parameters.alpha, classes)
    result = []
    for x in test:
        v = list(x)
        ranked = sorted(range(classes), key=lambda k: -v[k])[:alpha]
        if parameters.negative == "shift":
            mean = math.fsum(v[k] for k in ranked) / alpha
            v = [value - min(0.0, mean) for value in v]
        unknown = 0.0
        revised = list(v)
        for r, k in enumerate(ranked, start=1):
            shape, scale, offset = weibulls[k]
            y = plain_distance(parameters.distance, x, means[k]) - offset + parameters.shift
            w = 1.0 - math.exp(-((y / scale) ** shape)) if y > 0 else 0.0
            a = (alpha + 1 - r) / alpha
            if parameters.negative == "keep" or v[k] > 0:
                revised[k] = v[k] * (1.0 - a * w)
                unknown += v[k] * a * w
        revised.append(unknown)
        total = math.fsum(math.exp(value) for value in revised)
        result.append([math.exp(value) / total for value in revised])
    return np.array(result)


@pytest.mark.parametrize("classes", [4, 12])  # fewer and more than alpha
@pytest.mark.parametrize("shift", [1.0, 1e4])
@pytest.mark.parametrize("distance", ["euclidean", "cosine", "eucos"])
def test_matches_a_plain_transcription(distance, shift, classes):
    train, labels = make_data(classes, 300)
    test, _ = make_data(classes, 25, seed=1)
    for negative in ("shift", "clip", "keep"):
        parameters = OpenMaxOptions(distance=distance, shift=shift, negative=negative)
        fit = fit_openmax(in_chunks(train, labels, 64), parameters)
        expected = plain_openmax(train, labels, test, parameters)
        np.testing.assert_allclose(revise(fit, test), expected, rtol=1e-7, atol=1e-10)


def test_negative_logits_take_from_the_unknown_only_as_published():
    train, labels = make_data(level=-3.0)
    test = make_data(n=200, seed=1, level=-3.0)[0]
    fits = {
        negative: fit_openmax(in_chunks(train, labels), negative=negative)
        for negative in ("shift", "clip", "keep")
    }
    for negative, fit in fits.items():
        # The same Weibulls at a smaller scale: every distance is more extreme, nothing else moves.
        nearer = changed(fit, {"log_scale": 0.8 * fit.state()["log_scale"]})
        change = unknown_score(nearer, test, "log-odds")
        change -= unknown_score(fit, test, "log-odds")
        assert (change < 0).any() == (negative == "keep")
    positive = test - test.min() + 0.1
    for negative in ("shift", "clip"):
        np.testing.assert_allclose(
            revised_logits(fits[negative], positive), revised_logits(fits["keep"], positive)
        )


@pytest.mark.parametrize("distance", ["euclidean", "cosine", "eucos"])
@pytest.mark.parametrize("size", [1, 7, 64, 899])
def test_chunked_equals_whole(distance, size):
    train, labels = make_data()
    test, _ = make_data(n=100, seed=1)
    parameters = OpenMaxOptions(distance=distance)
    whole = fit_openmax(in_chunks(train, labels), parameters)
    chunked = fit_openmax(in_chunks(train, labels, size), parameters)
    np.testing.assert_array_equal(chunked.state()["counts"], whole.state()["counts"])
    np.testing.assert_allclose(
        chunked.state()["means"], whole.state()["means"], rtol=1e-12, atol=1e-13
    )
    np.testing.assert_allclose(revise(chunked, test), revise(whole, test), rtol=0, atol=1e-12)
    parts = np.concatenate([revise(whole, test[i : i + size]) for i in range(0, 100, size)])
    np.testing.assert_allclose(parts, revise(whole, test), rtol=0, atol=1e-12)


def test_internal_blocks_do_not_show(monkeypatch):
    train, labels = make_data()
    test, _ = make_data(n=100, seed=1)
    expected = revise(fit_openmax(in_chunks(train, labels)), test)
    monkeypatch.setattr(OpenMax, "block_elements", 1)
    found = revise(fit_openmax(in_chunks(train, labels)), test)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_tails_are_the_largest_distances():
    train, labels = make_data()
    fit = fit_openmax(in_chunks(train, labels, 50), distance="euclidean")
    correct = train.argmax(axis=1) == labels
    for k in range(12):
        own = train[correct & (labels == k)]
        np.testing.assert_allclose(fit.state()["means"][k], own.mean(axis=0), rtol=1e-12)
        assert fit.state()["counts"][k] == len(own)
        largest = np.sort(np.linalg.norm(own - fit.state()["means"][k], axis=1))[-20:]
        alone = fit_tails(largest[None], 1.0, np.array([20]))
        assert fit.state()["offset"][k] == pytest.approx(largest[0], rel=1e-12)
        assert fit.state()["shape"][k] == pytest.approx(alone.shape[0], rel=1e-9)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_narrow_logits_are_computed_in_float64(dtype):
    train, labels = make_data(dtype=dtype)
    test = make_data(n=50, seed=1, dtype=dtype)[0]
    # A shift that float32 could not add to a distance.
    parameters = OpenMaxOptions(shift=1e4)
    narrow = fit_openmax(in_chunks(train, labels), parameters)
    wide = fit_openmax(in_chunks(train.astype(np.float64), labels), parameters)
    found = revise(narrow, test)
    assert found.dtype == narrow.state()["means"].dtype == np.float64
    np.testing.assert_array_equal(found, revise(wide, test.astype(np.float64)))


@pytest.mark.parametrize("negative", ["shift", "clip", "keep"])
@pytest.mark.parametrize("distance", ["euclidean", "cosine", "eucos"])
@pytest.mark.parametrize("level", [-1e4, -20.0, 1e4])
def test_extreme_and_negative_logits(level, distance, negative):
    parameters = OpenMaxOptions(distance=distance, negative=negative)
    train, labels = make_data(level=level)
    fit = fit_openmax(in_chunks(train, labels), parameters)
    rng = np.random.default_rng(2)
    test = np.concatenate(
        [
            make_data(n=50, seed=1, level=level)[0],
            rng.normal(0, 1e4, size=(50, 12)),
            np.zeros((1, 12)),
            np.full((1, 12), level),
        ]
    )
    found = revise(fit, test)
    assert np.isfinite(found).all()
    assert ((found >= 0) & (found <= 1)).all()
    np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=1e-12)
    assert np.isfinite(unknown_score(fit, test, "log-odds")).all()


def test_distances_decide_also_when_all_logits_are_negative():
    rng = np.random.default_rng(0)
    prototypes = 6.0 * np.eye(8)
    labels = rng.integers(0, 8, 800)

    def logits(features):
        return -np.square(features[:, None] - prototypes).sum(axis=2)

    fit = fit_openmax(in_chunks(logits(prototypes[labels] + rng.normal(size=(800, 8))), labels))
    known = logits(prototypes[labels[:200]] + rng.normal(size=(200, 8)))
    unknown = logits(rng.normal(3.0, 3.0, size=(200, 8)))
    assert known.max() < 0
    assert unknown.max() < 0
    scores = unknown_score(fit, np.concatenate([known, unknown]), "log-odds")
    assert np.mean(scores[:200, None] < scores[None, 200:]) > 0.9
    # Where no logit is positive, clipping leaves nothing to move.
    clip = changed(fit, negative="clip")
    np.testing.assert_array_equal(revised_logits(clip, unknown)[:, -1], 0.0)


def test_log_odds_orders_as_the_probability_and_does_not_tie():
    train, labels = make_data()
    test, _ = make_data(n=300, seed=1)
    fit = fit_openmax(in_chunks(train, labels))
    p = unknown_score(fit, test)
    odds = unknown_score(fit, test, "log-odds")
    np.testing.assert_allclose(p, revise(fit, test)[:, -1], rtol=1e-9)
    np.testing.assert_allclose(odds, np.log(p / (1 - p)), rtol=1e-6, atol=1e-9)
    revised = revised_logits(fit, test)
    np.testing.assert_allclose(
        odds, revised[:, -1] - special.logsumexp(revised[:, :-1], axis=1), rtol=1e-9
    )
    np.testing.assert_allclose(special.softmax(revised, axis=1), revise(fit, test), rtol=1e-12)
    far = 50.0 * test
    saturated = unknown_score(fit, far)
    assert len(np.unique(saturated)) < 250
    assert len(np.unique(unknown_score(fit, far, "log-odds"))) == 300
    assert (np.diff(saturated[np.argsort(unknown_score(fit, far, "log-odds"))]) >= 0).all()


@pytest.mark.parametrize("kept", [0, 1])
def test_class_with_too_few_correct_samples_is_never_revised(kept):
    train, labels = make_data()
    rows = np.flatnonzero(labels == 5)
    train[rows[kept:], 5] = -10.0
    fit = fit_openmax(in_chunks(train, labels, 100))
    assert fit.state()["counts"][5] == fit.state()["tail_count"][5] == kept
    assert np.isfinite(fit.state()["means"]).all()
    test, _ = make_data(n=100, seed=1)
    test = test - test.min()  # no negative logits, so nothing is shifted
    revised = revised_logits(fit, test)
    np.testing.assert_array_equal(revised[:, 5], test[:, 5])
    assert np.isfinite(revised).all()


def test_no_correct_sample_at_all_leaves_softmax_with_a_zero_logit():
    train, labels = make_data()
    fit = fit_openmax(in_chunks(train, (labels + 1) % 12), negative="clip")
    kept = fit.state()["counts"] >= 2
    test, _ = make_data(n=20, seed=1)
    revised = revised_logits(fit, test)
    np.testing.assert_array_equal(revised[:, :-1][:, ~kept], test[:, ~kept])


def test_classes_can_be_renamed():
    train, labels = make_data()
    test, _ = make_data(n=100, seed=1)
    order = np.random.default_rng(3).permutation(12)
    place = np.argsort(order)
    fit = fit_openmax(in_chunks(train, labels))
    renamed = fit_openmax(in_chunks(train[:, order], place[labels]))
    np.testing.assert_allclose(renamed.state()["counts"], fit.state()["counts"][order])
    found, expected = revise(renamed, test[:, order]), revise(fit, test)
    np.testing.assert_allclose(found[:, :-1], expected[:, order], rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(found[:, -1], expected[:, -1], rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("distance", ["euclidean", "cosine", "eucos"])
def test_unknown_score_rises_on_the_way_from_the_class_mean(distance):
    train, labels = make_data()
    fit = fit_openmax(in_chunks(train, labels), distance=distance)
    # Only half the way to the middle of all means: there, no logit is left to take from.
    steps = np.linspace(0.0, 0.5, 30)[:, None]
    for k in range(12):
        path = (1 - steps) * fit.state()["means"][k] + steps * fit.state()["means"].mean(axis=0)
        score = unknown_score(fit, path, "log-odds")
        assert score[-1] > score[0] + 1.0
        assert (np.diff(score) > -1e-9).all()
        assert (np.diff(unknown_score(fit, path)) > -1e-9).all()


def test_top_classes_are_those_of_a_stable_sort_also_under_ties():
    rng = np.random.default_rng(0)
    v = rng.integers(0, 4, size=(500, 30)).astype(np.float64)
    v[0] = 0.0
    for alpha in (1, 2, 10, 29, 30):
        expected = np.argsort(-v, axis=1, kind="stable")[:, :alpha]
        largest = np.take_along_axis(v, expected, axis=1)
        values, top = _largest(np, v, alpha)
        np.testing.assert_array_equal(top, expected)
        np.testing.assert_array_equal(values, largest)
        values, top = _largest(torch, torch.from_numpy(v), alpha)
        np.testing.assert_array_equal(values, largest)
        np.testing.assert_array_equal(np.take_along_axis(v, top.numpy(), axis=1), largest)


def test_only_top_classes_change():
    train, labels = make_data()
    test, _ = make_data(n=100, seed=1)
    fit = fit_openmax(in_chunks(train, labels), alpha=3, negative="clip")
    change = revised_logits(fit, test)[:, :-1] != test
    rest = np.argsort(-test, axis=1)[:, 3:]
    assert not np.take_along_axis(change, rest, axis=1).any()
    assert change.any()


def test_arrays_round_trip(tmp_path):
    train, labels = make_data()
    train[labels == 5, 5] = -10.0  # infinities are part of the state
    test, _ = make_data(n=50, seed=1)
    fit = fit_openmax(in_chunks(train, labels), shift=1e4, alpha=4)
    np.savez(tmp_path / "fit.npz", **fit.state())
    with np.load(tmp_path / "fit.npz") as arrays:
        again = OpenMax(fit.config)
        again.restore(arrays)
    for name, array in fit.state().items():
        np.testing.assert_array_equal(again.state()[name], array)
    np.testing.assert_array_equal(revise(again, test), revise(fit, test))


def test_restore_names_what_is_wrong():
    fit = fit_openmax(in_chunks(*make_data()))
    arrays = fit.state()
    with pytest.raises(ValueError, match="lacks means, offset"):
        fit.restore({k: v for k, v in arrays.items() if k not in ("means", "offset")})
    with pytest.raises(ValueError, match="'shape' must have shape"):
        fit.restore({**arrays, "shape": np.ones(3)})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tail_size": 1}, "tail_size"),
        ({"tail_size": 20.0}, "tail_size"),
        ({"alpha": 0}, "alpha"),
        ({"alpha": True}, "alpha"),
        ({"shift": 0.0}, "shift"),
        ({"shift": math.inf}, "shift"),
        ({"shift": math.nan}, "shift"),
        ({"shift": "1"}, "shift"),
        ({"distance": "manhattan"}, "distance"),
        ({"negative": "drop"}, "negative"),
    ],
)
def test_options_name_what_is_wrong(options, message):
    with pytest.raises(ConfigError, match=message):
        structure(options, OpenMaxOptions, "openmax")


def test_fit_names_what_is_wrong():
    train, labels = make_data()
    with pytest.raises(ValueError, match="no training sample"):
        fit_openmax(lambda: [])
    with pytest.raises(ValueError, match=r"shape \[n, K\]"):
        fit_openmax(lambda: [(train[0], labels)])
    with pytest.raises(ValueError, match=r"shape \[n, 12\]"):
        fit_openmax(lambda: [(train, labels), (train[:, :5], labels)])
    with pytest.raises(ValueError, match="floating point"):
        fit_openmax(lambda: [(train.astype(int), labels)])
    with pytest.raises(ValueError, match="labels must be integers"):
        fit_openmax(lambda: [(train, labels[:-1])])
    with pytest.raises(ValueError, match="labels must be integers"):
        fit_openmax(lambda: [(train, labels.astype(float))])
    with pytest.raises(ValueError, match=r"within 0..11, got 1..12"):
        fit_openmax(lambda: [(train, labels + 1)])
    for bad in (np.nan, np.inf, -np.inf):
        broken = train.copy()
        broken[3, 4] = bad
        with pytest.raises(ValueError, match="NaN or infinity"):
            fit_openmax(lambda broken=broken: [(broken, labels)])
    calls = iter([[(train, labels)], [(train[:500], labels[:500])]])
    with pytest.raises(ValueError, match="second time"):
        fit_openmax(lambda: next(calls))


def test_scoring_names_what_is_wrong_and_takes_nothing():
    train, labels = make_data()
    fit = fit_openmax(in_chunks(train, labels))
    for score in (revise, revised_logits, unknown_score):
        with pytest.raises(ValueError, match=r"shape \[n, 12\]"):
            score(fit, train[:, :3])
        with pytest.raises(ValueError, match="NaN or infinity"):
            score(fit, np.full((1, 12), np.nan))
    assert revise(fit, train[:0]).shape == (0, 13)
    assert unknown_score(fit, train[:0]).shape == (0,)
