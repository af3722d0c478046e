"""Scorers over logits against NumPy and SciPy, and OpenMax behind the scorer's contract."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logsumexp, softmax

from openset_core.specs import load_factory
from openset_plugins.logit_scorers import openset_unknown_scorers
from openset_plugins.openmax import OpenMaxOptions
from openset_plugins.openmax import openset_unknown_scorers as openset_openmax
from openset_plugins.openmax.scorer import OpenMax

# A stray overflow or invalid operation is a failure, not a warning.
pytestmark = pytest.mark.filterwarnings("error")

SPECS = {spec.name: spec for spec in (*openset_unknown_scorers(), *openset_openmax())}
LOGIT_SCORERS = ("msp", "max-logit", "energy")


def make(name, **options):
    spec = SPECS[name]
    return load_factory(spec.factory)(spec.config(**options))


def score(name, logits, **options):
    return make(name, **options).score({"logits": np.asarray(logits)})


def random_logits(rows=200, classes=7, size=4.0, seed=0):
    return np.random.default_rng(seed).normal(0, size, (rows, classes))


# ---- values


def plain(name, logits, temperature):
    scaled = logits / temperature
    if name == "msp":
        return 1 - softmax(scaled, axis=1).max(axis=1)
    if name == "energy":
        return -temperature * logsumexp(scaled, axis=1)
    return -logits.max(axis=1)


@pytest.mark.parametrize("name", LOGIT_SCORERS)
def test_scores_match_their_definitions(name):
    logits = random_logits()
    np.testing.assert_allclose(
        score(name, logits), plain(name, logits, 1.0), rtol=1e-12, atol=1e-15
    )


@pytest.mark.parametrize("name", ["msp", "energy"])
@pytest.mark.parametrize("temperature", [0.1, 2.5, 1000.0])
def test_temperature_divides_the_logits(name, temperature):
    logits = random_logits(seed=1)
    scores = score(name, logits, temperature=temperature)
    np.testing.assert_allclose(scores, plain(name, logits, temperature), rtol=1e-12, atol=1e-15)
    assert np.abs(scores - score(name, logits)).max() > 0.1


@pytest.mark.parametrize("name", ["msp", "energy"])
@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_a_temperature_must_be_positive(name, temperature):
    with pytest.raises(ValueError, match="temperature"):
        make(name, temperature=temperature)


@pytest.mark.parametrize("name", LOGIT_SCORERS)
def test_float32_logits_are_scored_in_float64(name):
    logits = random_logits(seed=2).astype(np.float32)
    scores = score(name, logits)
    assert scores.dtype == np.float64
    assert scores.shape == (len(logits),)
    np.testing.assert_array_equal(scores, score(name, logits.astype(np.float64)))


@pytest.mark.parametrize("name", LOGIT_SCORERS)
def test_rows_do_not_depend_on_each_other_and_input_is_not_changed(name):
    logits = random_logits(seed=3)
    before = logits.copy()
    whole = score(name, logits)
    np.testing.assert_array_equal(logits, before)
    np.testing.assert_array_equal(whole, [score(name, row[None])[0] for row in logits])
    assert score(name, logits[:0]).shape == (0,)


# ---- direction


@pytest.mark.parametrize("name", LOGIT_SCORERS)
def test_higher_means_more_unknown(name):
    # The evidence for the first class fades.
    rows = np.zeros((6, 4))
    rows[:, 0] = [9.0, 6.0, 4.0, 2.0, 1.0, 0.0]
    assert (np.diff(score(name, rows)) > 0).all()


def test_msp_ignores_a_common_shift_and_the_others_do_not():
    logits = random_logits(rows=20)
    np.testing.assert_allclose(score("msp", logits + 50), score("msp", logits), rtol=1e-9)
    for name in ("max-logit", "energy"):
        np.testing.assert_allclose(score(name, logits + 50), score(name, logits) - 50, rtol=1e-9)


def test_msp_lies_between_zero_and_one_minus_one_over_k():
    assert score("msp", np.full((1, 5), 3.0))[0] == pytest.approx(1 - 1 / 5, abs=1e-15)
    scores = score("msp", random_logits(rows=2000, classes=5, size=20.0))
    assert (scores > 0).all()
    assert (scores < 1 - 1 / 5).all()


# ---- numbers at the edge


EXTREME = np.array([[1e4, -1e4, 0.0], [1e4, 1e4, -1e4], [-1e4, -1e4, -1e4], [-1e4, 0.0, 1e4]])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("msp", [0.0, 1 / 2, 2 / 3, 0.0]),
        ("max-logit", [-1e4, -1e4, 1e4, -1e4]),
        ("energy", [-1e4, -1e4 - np.log(2), 1e4 - np.log(3), -1e4]),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_logits_of_ten_thousand(name, expected, dtype):
    np.testing.assert_allclose(score(name, EXTREME.astype(dtype)), expected, rtol=1e-15, atol=0)


def test_msp_keeps_the_order_where_the_probability_rounds_to_one():
    gaps = np.arange(30.0, 700.0)
    logits = np.stack([gaps, np.zeros_like(gaps), -gaps], axis=1)
    assert len(np.unique(softmax(logits, axis=1).max(axis=1))) < 10  # ties without care
    scores = score("msp", logits)
    assert (np.diff(scores) < 0).all()
    # p / (1 - p) is exp(gap) against one other class, and the third class is nothing.
    np.testing.assert_allclose(scores, np.exp(-gaps), rtol=1e-12)


def test_msp_counts_only_one_of_several_equal_maxima_as_the_prediction():
    assert score("msp", [[5.0, 5.0, -800.0]])[0] == pytest.approx(0.5, abs=1e-15)


# ---- OpenMax as a scorer


CLASSES = 4


class Source:
    """Training features in memory, cut into chunks; remembers what was asked for."""

    def __init__(self, logits, labels, cuts=()):
        self.logits, self.labels, self.cuts = logits, labels, cuts
        self.asked = set()

    num_classes = CLASSES

    @property
    def rows(self):
        return len(self.labels)

    def chunks(self, *arrays):
        self.asked.add(arrays)
        stored = {"logits": self.logits, "label": self.labels, "index": np.arange(self.rows)}
        for rows in np.split(np.arange(self.rows), self.cuts):
            yield {name: stored[name][rows] for name in arrays}


@pytest.fixture(scope="module")
def training():
    """Logits of classifier-like shape, most rows right, and their labels."""
    rng = np.random.default_rng(5)
    labels = rng.integers(0, CLASSES, 400)
    logits = rng.normal(0, 1.5, (400, CLASSES)) + 5 * np.eye(CLASSES)[labels]
    assert (logits.argmax(axis=1) != labels).any()
    return logits.astype(np.float32), labels


@pytest.fixture(scope="module")
def test_table():
    rng = np.random.default_rng(6)
    near = rng.normal(0, 1.5, (60, CLASSES)) + 5 * np.eye(CLASSES)[rng.integers(0, CLASSES, 60)]
    far = rng.normal(0, 2.5, (60, CLASSES))
    return {"logits": np.concatenate([near, far])}


def fitted(training, cuts=(), **options):
    scorer = OpenMax(OpenMaxOptions(**options))
    scorer.fit(Source(*training, cuts))
    return scorer


def test_openmax_reads_logits_and_labels(training):
    source = Source(*training)
    scorer = OpenMax(OpenMaxOptions())
    scorer.fit(source)
    assert set(scorer.reads) == {"logits", "label"}
    assert {name for arrays in source.asked for name in arrays} == set(scorer.reads)


def test_openmax_in_chunks_equals_one_chunk(training, test_table):
    whole = fitted(training)
    cut = fitted(training, cuts=(1, 2, 150, 151, 399))
    assert whole.state().keys() == cut.state().keys()
    for name, array in whole.state().items():
        np.testing.assert_allclose(cut.state()[name], array, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(cut.score(test_table), whole.score(test_table), rtol=1e-9)


def test_openmax_takes_the_label_from_the_table(training):
    logits, labels = training
    counts = fitted(training).state()["counts"]
    right = logits.argmax(axis=1) == labels
    np.testing.assert_array_equal(counts, np.bincount(labels[right], minlength=CLASSES))
    # Other labels, other counts: only rows that are right by those labels count.
    turned = (labels + 1) % CLASSES
    right = logits.argmax(axis=1) == turned
    np.testing.assert_array_equal(
        fitted((logits, turned)).state()["counts"],
        np.bincount(turned[right], minlength=CLASSES),
    )


def test_openmax_state_round_trip(training, test_table):
    scorer = fitted(training, tail_size=12)
    state = {name: array.copy() for name, array in scorer.state().items()}
    other = OpenMax(OpenMaxOptions(tail_size=12))
    with pytest.raises(RuntimeError, match="fit or restore"):
        other.score(test_table)
    other.restore(state)
    np.testing.assert_array_equal(other.score(test_table), scorer.score(test_table))
    np.testing.assert_array_equal(other.probabilities(test_table), scorer.probabilities(test_table))
    for name, array in scorer.state().items():
        assert isinstance(array, np.ndarray)
        np.testing.assert_array_equal(other.state()[name], array)


def test_openmax_forms_order_alike_and_far_samples_higher(training, test_table):
    odds = fitted(training, score="log-odds").score(test_table)
    probability = fitted(training, score="probability").score(test_table)
    assert len(np.unique(odds)) == len(odds)
    assert (np.diff(probability[np.argsort(odds)]) >= 0).all()
    assert ((probability >= 0) & (probability <= 1)).all()
    middle = np.abs(odds) < 10
    assert middle.sum() > 20
    np.testing.assert_allclose(odds[middle], np.log(probability / (1 - probability))[middle], 1e-6)
    for scores in (odds, probability):
        assert scores.dtype == np.float64
        assert np.median(scores[60:]) > np.median(scores[:60])


def test_openmax_probability_is_the_last_column(training, test_table):
    scorer = fitted(training, score="probability")
    revised = scorer.probabilities(test_table)
    assert revised.shape == (120, CLASSES + 1)
    np.testing.assert_allclose(revised.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(scorer.score(test_table), revised[:, -1], rtol=1e-9)
