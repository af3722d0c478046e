"""Scorers over embeddings, and `entropy`, against plain NumPy, SciPy and scikit-learn."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import attrs
import numpy as np
import pytest
from safetensors.numpy import load, save
from scipy import stats
from scipy.spatial.distance import cdist
from scipy.special import softmax
from sklearn.covariance import EmpiricalCovariance, LedoitWolf
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from openset_core.errors import ConfigError
from openset_core.experiment.config import structure
from openset_core.registry import Registry
from openset_core.specs import load_factory
from openset_plugins import feature_scorers, logit_scorers
from openset_plugins.feature_scorers import knn as knn_module
from openset_plugins.feature_scorers import statistics
from openset_plugins.feature_scorers.mahalanobis import ledoit_wolf
from openset_plugins.feature_scorers.statistics import class_means, labelled_blocks

# A stray overflow or invalid operation is a failure, not a warning.
pytestmark = pytest.mark.filterwarnings("error")

SPECS = {
    spec.name: spec
    for spec in (
        *feature_scorers.openset_unknown_scorers(),
        *logit_scorers.openset_unknown_scorers(),
    )
}
# Every rule once, with options that make the training sets below large enough for it.
RULES = [
    ("knn", {"k": 3}),
    ("knn", {"k": 3, "normalize": False}),
    ("mahalanobis", {}),
    ("mahalanobis", {"regularization": "ridge"}),
    ("mahalanobis", {"regularization": "ridge", "ridge": 0.1}),
    ("mahalanobis", {"covariance": "class"}),
    ("mahalanobis", {"covariance": "class", "regularization": "ridge", "ridge": 0.1}),
    ("prototype-distance", {}),
    ("prototype-distance", {"metric": "squared"}),
    ("prototype-distance", {"metric": "cosine"}),
]
rules = pytest.mark.parametrize(
    ("name", "options"), RULES, ids=[" ".join([n, *map(str, o.values())]) for n, o in RULES]
)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads cost more than these few rows, and on a busy machine much more."""
    with threadpool_limits(1):
        yield


@attrs.frozen
class Source:
    """Training features in memory, cut as the test likes."""

    embedding: np.ndarray
    label: np.ndarray
    num_classes: int
    size: int = 10**9

    @property
    def rows(self):
        return len(self.label)

    def chunks(self, *names):
        for start in range(0, self.rows, self.size):
            rows = slice(start, start + self.size)
            yield {name: getattr(self, name)[rows] for name in names}


def make(name, **options):
    spec = SPECS[name]
    return load_factory(spec.factory)(spec.config(**options))


def fitted(name, source, **options):
    scorer = make(name, **options)
    scorer.fit(source)
    return scorer


def score(scorer, embedding):
    scores = scorer.score({"embedding": embedding, "label": np.zeros(len(embedding), np.int64)})
    assert scores.dtype == np.float64
    assert scores.shape == (len(embedding),)
    assert np.isfinite(scores).all()
    return scores


def make_source(rows=400, width=6, classes=4, seed=0, offset=0.0, dtype=np.float32):
    """Classes of correlated Gaussians around spread means, and test rows near and far."""
    rng = np.random.default_rng(seed)
    means = rng.normal(0, 4, (classes, width)) + offset
    mixing = rng.normal(0, 1, (classes, width, width))
    labels = rng.integers(0, classes, rows)
    labels[:classes] = np.arange(classes)
    noise = np.einsum("nij,nj->ni", mixing[labels], rng.normal(0, 1, (rows, width)))
    embedding = (means[labels] + noise).astype(dtype)
    test = np.concatenate([embedding[:20] + 0.1, rng.normal(offset, 8, (60, width))]).astype(dtype)
    return Source(embedding, labels, classes), test


# ---- announced


def test_the_registry_takes_the_module_and_its_options():
    point = SimpleNamespace(
        name="feature-scorers",
        dist=SimpleNamespace(name="openset", version="1"),
        load=lambda: feature_scorers,
    )
    found = Registry([point])
    assert not found.broken
    for name in ("knn", "mahalanobis", "prototype-distance"):
        part = found.find(name, ("scorer",))
        assert part.spec.needs == ("embedding",)
        scorer = part.load()(structure({}, part.spec.config, name))
        assert "embedding" in scorer.reads
        assert "logits" not in scorer.reads
        with pytest.raises(RuntimeError, match="only after fit"):
            scorer.score({"embedding": np.zeros((1, 2))})


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("knn", {"k": 0}),
        ("knn", {"fraction": 0.0}),
        ("knn", {"fraction": 1.5}),
        ("mahalanobis", {"covariance": "tied"}),
        ("mahalanobis", {"ridge": -1.0}),
        ("mahalanobis", {"ridge": float("inf")}),
        ("prototype-distance", {"metric": "manhattan"}),
    ],
)
def test_options_out_of_range_are_refused(name, values):
    with pytest.raises(ConfigError, match=next(iter(values))):
        structure(values, SPECS[name].config, name)


def test_listing_the_scorers_loads_no_numpy():
    code = (
        "import sys, openset_plugins.feature_scorers as m; m.openset_unknown_scorers();"
        "sys.exit(bool({'numpy', 'torch', 'scipy', 'sklearn'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---- knn


def plain_knn(train, test, k, normalize):
    train, test = train.astype(np.float64), test.astype(np.float64)
    if normalize:
        train = train / np.linalg.norm(train, axis=1, keepdims=True)
        test = test / np.linalg.norm(test, axis=1, keepdims=True)
    return np.sort(cdist(test, train), axis=1)[:, min(k, len(train)) - 1]


@pytest.mark.parametrize("k", [1, 2, 9, 10, 50, 399, 400, 10_000])
@pytest.mark.parametrize("normalize", [True, False])
def test_knn_is_the_distance_to_the_kth_nearest(k, normalize):
    source, test = make_source()
    scores = score(fitted("knn", source, k=k, normalize=normalize), test)
    expected = plain_knn(source.embedding, test, k, normalize)
    np.testing.assert_allclose(scores, expected, rtol=1e-12, atol=1e-15)


def test_knn_matches_scikit_learn():
    source, test = make_source(rows=1000, width=24)
    train = source.embedding / np.linalg.norm(source.embedding, axis=1, keepdims=True)
    unit = test / np.linalg.norm(test, axis=1, keepdims=True)
    search = NearestNeighbors(algorithm="brute").fit(train.astype(np.float64))
    expected = search.kneighbors(unit.astype(np.float64), 50)[0][:, -1]
    np.testing.assert_allclose(score(fitted("knn", source), test), expected, rtol=1e-5)


@pytest.mark.parametrize("normalize", [True, False])
def test_knn_keeps_the_digits_of_near_duplicates(normalize):
    # |a|^2 - 2 a.b + |b|^2 in float32 has no digit left of distances of 1e-4 between rows of 1e3.
    rng = np.random.default_rng(5)
    train = (1e3 * rng.normal(size=(300, 16))).astype(np.float32)
    steps = np.float32(2e-4) * rng.integers(1, 9, (300, 16)).astype(np.float32)
    test = train + steps
    source = Source(train, np.zeros(300, np.int64), 1)
    scores = score(fitted("knn", source, k=1, normalize=normalize), test)
    expected = plain_knn(train, test, 1, normalize)
    assert expected.max() < (1e-5 if normalize else 1e-1)
    np.testing.assert_allclose(scores, expected, rtol=1e-9)


def test_knn_ranks_what_float32_cannot_tell_apart():
    # Groups of six that differ in the last bits; divided by their lengths they are rounded again.
    rng = np.random.default_rng(7)
    centres = rng.normal(size=(50, 1, 16)).astype(np.float32)
    steps = rng.integers(-2, 3, (50, 6, 16)).astype(np.float32)
    train = (centres + steps * np.spacing(np.abs(centres))).reshape(300, 16)
    source = Source(train, np.zeros(300, np.int64), 1)
    for k in (1, 2, 4):
        expected = plain_knn(train, train, k, True)
        assert expected.max() < 1e-6
        scores = score(fitted("knn", source, k=k), train)
        np.testing.assert_allclose(scores, expected, rtol=1e-6, atol=1e-15)


def test_knn_ranks_a_cluster_tighter_than_float32_within_rounding():
    # 500 samples lie closer together than the search can tell: more than it has to spare.
    rng = np.random.default_rng(6)
    train = np.concatenate([np.ones((500, 8)), rng.normal(size=(500, 8))]).astype(np.float32)
    train[:500] += (1e-7 * rng.integers(0, 4, (500, 8))).astype(np.float32)
    source = Source(train, np.zeros(1000, np.int64), 1)
    test = np.ones((1, 8), np.float32)
    for k in (1, 100, 400):
        scores = score(fitted("knn", source, k=k, normalize=False), test)
        np.testing.assert_allclose(scores, plain_knn(train, test, k, False), atol=1e-6)


def test_knn_scores_an_exact_duplicate_zero():
    source, _ = make_source(offset=100.0)
    for normalize in (True, False):
        scores = score(fitted("knn", source, k=1, normalize=normalize), source.embedding)
        np.testing.assert_array_equal(scores, 0.0)


def test_knn_ignores_length_only_when_it_normalizes():
    source, test = make_source()
    unit, plain = fitted("knn", source, k=5), fitted("knn", source, k=5, normalize=False)
    np.testing.assert_allclose(score(unit, 4 * test), score(unit, test), rtol=1e-12)
    assert (score(plain, 1000 * test) > score(plain, test)).all()


def test_knn_draws_its_share_the_same_way_each_time():
    source, test = make_source(rows=403)
    scorer = fitted("knn", source, k=2, fraction=0.1)
    kept = scorer.state()["embedding"]
    assert kept.shape == (40, 6)
    positions = [np.flatnonzero((source.embedding == row).all(axis=1)) for row in kept]
    assert (np.diff(np.concatenate(positions)) > 0).all()
    expected = plain_knn(kept, test, 2, True)
    np.testing.assert_allclose(score(scorer, test), expected, rtol=1e-12)
    for size in (1, 40, 402):
        again = fitted("knn", attrs.evolve(source, size=size), k=2, fraction=0.1)
        np.testing.assert_array_equal(again.state()["embedding"], kept)
    assert len(fitted("knn", source, fraction=1e-6).state()["embedding"]) == 1


def test_knn_works_in_blocks(monkeypatch):
    source, test = make_source(rows=700)
    whole = score(fitted("knn", source, k=4), test)
    monkeypatch.setattr(knn_module.NearestNeighbour, "block_elements", 1)  # 64 rows at a time
    monkeypatch.setattr(knn_module, "_LEAST_ROWS", 1)
    monkeypatch.setattr(knn_module, "_BLOCK", 50)
    np.testing.assert_allclose(score(fitted("knn", source, k=4), test), whole, rtol=1e-13)


# ---- mahalanobis


def residuals(source):
    rows = source.embedding.astype(np.float64)
    means = np.stack([rows[source.label == c].mean(axis=0) for c in range(source.num_classes)])
    return means, rows - means[source.label]


def plain_mahalanobis(test, means, covariances):
    scores = []
    for row in test.astype(np.float64):
        each = [
            (row - m) @ np.linalg.inv(c) @ (row - m)
            for m, c in zip(means, covariances, strict=True)
        ]
        scores.append(min(each))
    return np.array(scores)


def test_mahalanobis_without_regularization_is_the_paper():
    source, test = make_source()
    means, apart = residuals(source)
    scores = score(fitted("mahalanobis", source, regularization="ridge", ridge=0.0), test)
    estimate = EmpiricalCovariance(assume_centered=True).fit(apart)
    by_class = [estimate.mahalanobis(test - mean) for mean in means]
    np.testing.assert_allclose(scores, np.min(by_class, axis=0), rtol=1e-9)
    shared = [apart.T @ apart / len(apart)] * source.num_classes
    np.testing.assert_allclose(scores, plain_mahalanobis(test, means, shared), rtol=1e-9)


def test_mahalanobis_shrinks_as_scikit_learn():
    source, test = make_source(rows=60, width=20)
    means, apart = residuals(source)
    estimate = LedoitWolf(assume_centered=True).fit(apart)
    scorer = fitted("mahalanobis", source)
    np.testing.assert_allclose(scorer.state()["shrinkage"], [estimate.shrinkage_], rtol=1e-10)
    assert estimate.shrinkage_ > 0.05
    expected = plain_mahalanobis(test, means, [estimate.covariance_] * 4)
    np.testing.assert_allclose(score(scorer, test), expected, rtol=1e-9)


def test_mahalanobis_with_a_covariance_for_each_class():
    source, test = make_source(rows=300)
    means, apart = residuals(source)
    parts = [apart[source.label == c] for c in range(source.num_classes)]
    estimates = [LedoitWolf(assume_centered=True).fit(part) for part in parts]
    scorer = fitted("mahalanobis", source, covariance="class")
    found = scorer.state()["shrinkage"]
    np.testing.assert_allclose(found, [e.shrinkage_ for e in estimates], rtol=1e-10)
    expected = plain_mahalanobis(test, means, [e.covariance_ for e in estimates])
    np.testing.assert_allclose(score(scorer, test), expected, rtol=1e-9)
    ridged = fitted("mahalanobis", source, covariance="class", regularization="ridge", ridge=0.3)
    empirical = [part.T @ part / len(part) for part in parts]
    covariances = [c + 0.3 * np.trace(c) / len(c) * np.eye(len(c)) for c in empirical]
    expected = plain_mahalanobis(test, means, covariances)
    np.testing.assert_allclose(score(ridged, test), expected, rtol=1e-9)
    np.testing.assert_array_equal(ridged.state()["shrinkage"], 0.3)


@pytest.mark.parametrize("rows", [2, 3, 10, 200])
@pytest.mark.parametrize("width", [1, 5, 40])
def test_ledoit_wolf_matches_scikit_learn(rows, width):
    deviations = np.random.default_rng(rows * width).standard_t(4, (rows, width))
    covariance = deviations.T @ deviations / rows
    fourth = np.mean(np.sum(deviations**2, axis=1) ** 2)
    expected = LedoitWolf(assume_centered=True).fit(deviations).shrinkage_
    found = ledoit_wolf(covariance, fourth, rows)
    assert 0 <= found <= 1
    if width > 1:  # one variance is its own sphere, whatever the amount
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_mahalanobis_does_not_notice_linear_maps():
    source, test = make_source(dtype=np.float64)
    options = {"regularization": "ridge", "ridge": 0.0}
    mapping = np.random.default_rng(3).normal(size=(6, 6))
    moved = attrs.evolve(source, embedding=source.embedding @ mapping + 7)
    np.testing.assert_allclose(
        score(fitted("mahalanobis", moved, **options), test @ mapping + 7),
        score(fitted("mahalanobis", source, **options), test),
        rtol=1e-8,
    )


@pytest.mark.parametrize("covariance", ["shared", "class"])
@pytest.mark.parametrize("regularization", ["ledoit-wolf", "ridge"])
def test_mahalanobis_sees_what_leaves_a_constant_dimension(covariance, regularization):
    source, _ = make_source()
    source.embedding[:, 2] = 3.0
    scorer = fitted("mahalanobis", source, covariance=covariance, regularization=regularization)
    inside = source.embedding[:50].copy()
    outside = inside.copy()
    outside[:, 2] += 5.0
    assert score(scorer, outside).min() > score(scorer, inside).max()


def test_mahalanobis_without_any_deviation_is_euclidean():
    means = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    source = Source(means.repeat(4, axis=0), np.arange(3).repeat(4), 3)
    test = np.random.default_rng(1).normal(size=(20, 5))
    expected = cdist(test, means.astype(np.float64), "sqeuclidean").min(axis=1)
    for covariance in ("shared", "class"):
        scores = score(fitted("mahalanobis", source, covariance=covariance), test)
        np.testing.assert_allclose(scores, expected, rtol=1e-12)


def test_classes_too_small_for_a_covariance_take_the_shared_one():
    source, _ = make_source()
    few = (source.label != 3) | (np.cumsum(source.label == 3) <= 2)
    source = attrs.evolve(source, embedding=source.embedding[few], label=source.label[few])
    source.embedding[source.label == 2] = source.embedding[source.label == 2][0]
    own = fitted("mahalanobis", source, covariance="class").state()
    shared = fitted("mahalanobis", source).state()
    for c in (2, 3):
        assert own["shrinkage"][c] == pytest.approx(shared["shrinkage"][0], rel=1e-12)
        precision = own["whitening"][c] @ own["whitening"][c].T
        expected = shared["whitening"][0] @ shared["whitening"][0].T
        np.testing.assert_allclose(precision, expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(own["counts"], np.bincount(source.label))


# ---- prototype-distance


def test_prototype_distances_match_scipy():
    source, test = make_source()
    means, _ = residuals(source)
    for metric, name in (
        ("euclidean", "euclidean"),
        ("squared", "sqeuclidean"),
        ("cosine", "cosine"),
    ):
        scores = score(fitted("prototype-distance", source, metric=metric), test)
        expected = cdist(test.astype(np.float64), means, name).min(axis=1)
        np.testing.assert_allclose(scores, expected, rtol=1e-9)


def test_cosine_keeps_the_digits_of_small_angles_and_calls_zero_unrelated():
    source = Source(np.array([[1.0, 0.0]], np.float32), np.zeros(1, np.int64), 1)
    scorer = fitted("prototype-distance", source, metric="cosine")
    angle = 1e-6
    rows = np.array([[np.cos(angle), np.sin(angle)], [0.0, 0.0], [-2.0, 0.0]])
    np.testing.assert_allclose(score(scorer, rows), [angle**2 / 2, 1.0, 2.0], rtol=1e-9)
    zero = attrs.evolve(source, embedding=np.zeros((1, 2)))
    scores = score(fitted("prototype-distance", zero, metric="cosine"), rows)
    np.testing.assert_array_equal(scores, 1.0)


def test_a_class_without_samples_has_no_prototype():
    source, test = make_source()
    wider = attrs.evolve(source, num_classes=9)
    for name in ("prototype-distance", "mahalanobis"):
        assert fitted(name, wider).state()["means"].shape == (4, 6)
        np.testing.assert_array_equal(
            score(fitted(name, wider), test), score(fitted(name, source), test)
        )


# ---- every rule


@rules
def test_far_samples_score_higher(name, options):
    source, _ = make_source()
    scorer = fitted(name, source, **options)
    known = score(scorer, source.embedding)
    # Away from all class means, at an angle to each as well.
    middle = source.embedding.mean(axis=0)
    unknown = score(scorer, -40 * middle + np.zeros_like(source.embedding[:3]))
    assert unknown.min() > np.quantile(known, 0.99)


@rules
def test_the_cut_into_chunks_does_not_matter(name, options, monkeypatch):
    # Blocks of 64 rows, so that chunks of every size lie across them.
    monkeypatch.setattr(statistics, "_BLOCK_ELEMENTS", 1)
    source, test = make_source()
    whole = fitted(name, source, **options)
    expected = score(whole, test)
    for size in (7, 64, 399):
        chunked = fitted(name, attrs.evolve(source, size=size), **options)
        for key, array in whole.state().items():
            np.testing.assert_array_equal(chunked.state()[key], array)
        pieces = [score(chunked, test[i : i + size]) for i in range(0, len(test), size)]
        np.testing.assert_allclose(np.concatenate(pieces), expected, rtol=1e-11)


@pytest.mark.parametrize(
    ("name", "options"),
    [(n, o) for n, o in RULES if (n, o) != ("knn", {"k": 3}) and o.get("metric") != "cosine"],
)
def test_a_common_offset_takes_no_digits(name, options):
    # The other rules look at directions, which an offset changes.
    source, test = make_source()
    # Eighths plus the offset are exact, so that only the scorer can lose anything; `knn` keeps
    # float32 and can be given no more.
    offset = 2.0**19 if name == "knn" else 2.0**30
    near, rows = (np.round(8.0 * array) / 8 for array in (source.embedding, test))
    near, rows = near.astype(np.float64), rows.astype(np.float64)
    far = attrs.evolve(source, embedding=near + offset)
    expected = score(fitted(name, attrs.evolve(source, embedding=near), **options), rows)
    rtol = 1e-12 if name == "knn" else 1e-5  # a mean has 53 bits, offset and all
    np.testing.assert_allclose(score(fitted(name, far, **options), rows + offset), expected, rtol)


@rules
def test_the_order_of_training_samples_does_not_matter(name, options):
    source, test = make_source()
    order = np.random.default_rng(9).permutation(source.rows)
    shuffled = attrs.evolve(source, embedding=source.embedding[order], label=source.label[order])
    np.testing.assert_allclose(
        score(fitted(name, shuffled, **options), test),
        score(fitted(name, source, **options), test),
        rtol=1e-9,
    )


@rules
def test_state_scores_alike_in_another_instance(name, options):
    source, test = make_source()
    scorer = fitted(name, source, **options)
    state = scorer.state()
    assert {array.dtype.kind for array in state.values()} <= {"f", "i"}
    restored = make(name, **options)
    restored.restore(load(save({k: np.ascontiguousarray(v) for k, v in state.items()})))
    np.testing.assert_array_equal(score(restored, test), score(scorer, test))
    with pytest.raises(ValueError, match="lacks"):
        make(name, **options).restore({})


@rules
@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_the_type_of_the_embeddings_does_not_matter(name, options, dtype):
    source, test = make_source(dtype=np.float16)
    expected = score(
        fitted(
            name, attrs.evolve(source, embedding=source.embedding.astype(np.float32)), **options
        ),
        test.astype(np.float32),
    )
    typed = attrs.evolve(source, embedding=source.embedding.astype(dtype))
    np.testing.assert_array_equal(
        score(fitted(name, typed, **options), test.astype(dtype)), expected
    )


@rules
def test_scoring_leaves_its_input_alone(name, options):
    source, test = make_source(dtype=np.float64)
    kept, rows = test.copy(), source.embedding.copy()
    score(fitted(name, source, **options), test)
    np.testing.assert_array_equal(test, kept)
    np.testing.assert_array_equal(source.embedding, rows)


def degenerate(kind):
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(24, 5))
    labels = np.arange(24) % 3
    if kind == "one sample a class":
        return rows[:3], labels[:3]
    if kind == "one sample":
        return rows[:1], labels[:1]
    if kind == "two samples a class":
        return rows[:6], labels[:6]
    if kind == "constant":
        return np.full((24, 5), 0.1), labels
    if kind == "zero":
        return np.zeros((24, 5)), labels
    if kind == "duplicates":
        return rows[[0, 1, 2] * 8], labels
    if kind == "wide":
        return rng.normal(size=(24, 100)), labels
    if kind == "huge":
        return rows + 1e6, labels
    if kind == "large":
        return rows * 1e6, labels
    if kind == "tiny":
        return rows * 1e-30, labels
    if kind == "uneven":
        return rows * np.array([1e-6, 1.0, 1e6, 0.0, 1.0]), labels
    if kind == "one class":
        return rows, np.zeros(24, np.int64)
    return rng.normal(size=(24, 1)), labels  # "narrow"


@rules
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "kind",
    [
        "one sample a class",
        "one sample",
        "two samples a class",
        "constant",
        "zero",
        "duplicates",
        "wide",
        "huge",
        "large",
        "tiny",
        "uneven",
        "one class",
        "narrow",
    ],
)
def test_degenerate_training_sets_give_finite_scores(name, options, kind, dtype):
    rows, labels = degenerate(kind)
    rows = rows.astype(dtype)
    source = Source(rows, labels, int(labels.max()) + 1)
    scorer = fitted(name, source, **options)
    known = score(scorer, rows)
    assert (known >= 0).all()
    far = np.full((1, rows.shape[1]), -1e6, dtype) - 10 * np.abs(rows).max()
    only_direction = name == "knn" and options.get("normalize", True)
    if not only_direction and options.get("metric") != "cosine":
        assert score(scorer, far)[0] > known.max()
    for test in (far, np.zeros_like(far), np.full_like(far, 1e6), rows[:0]):
        assert (score(scorer, test) >= 0).all()


@rules
def test_broken_input_is_refused(name, options):
    source, test = make_source()
    scorer = fitted(name, source, **options)
    for value in (np.nan, np.inf):
        broken = source.embedding.copy()
        broken[5, 1] = value
        with pytest.raises(ValueError, match="NaN or infinite"):
            fitted(name, attrs.evolve(source, embedding=broken), **options)
        with pytest.raises(ValueError, match="NaN or infinite"):
            score(scorer, broken)
    with pytest.raises(ValueError, match=r"shape \[n, 6\], got \[80, 5\]"):
        score(scorer, test[:, :5])
    with pytest.raises(ValueError, match="no training sample"):
        fitted(name, Source(test[:0], source.label[:0], 4), **options)
    with pytest.raises(ValueError, match="no training sample"):
        fitted(name, Empty(), **options)
    if "label" in scorer.reads:
        for shift in (-1, 1):
            with pytest.raises(ValueError, match=r"labels must be within 0\.\.3"):
                fitted(name, attrs.evolve(source, label=source.label + shift), **options)


class Empty:
    """A source that gives a chunk without rows."""

    rows, num_classes = 0, 4

    def chunks(self, *_names):
        yield {"embedding": np.zeros((0, 6)), "label": np.zeros(0, np.int64)}


# ---- what they share


def test_blocks_have_one_size_and_lose_nothing(monkeypatch):
    monkeypatch.setattr(statistics, "_BLOCK_ELEMENTS", 1)
    source, _ = make_source(rows=333)
    for size in (1, 63, 64, 65, 200, 333):
        blocks = list(labelled_blocks(attrs.evolve(source, size=size)))
        assert [len(rows) for rows, _ in blocks] == [64] * 5 + [13]
        rows, labels = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
        np.testing.assert_array_equal(rows, source.embedding)
        np.testing.assert_array_equal(labels, source.label)


def test_means_lose_no_digits_to_an_offset():
    rng = np.random.default_rng(0)
    small = rng.integers(-4, 5, (3000, 4)) / 4.0
    labels = rng.integers(0, 3, 3000)
    means, counts = class_means(Source(small + 1e9, labels, 3))
    expected = np.stack([small[labels == c].mean(axis=0) for c in range(3)])
    np.testing.assert_allclose(means - 1e9, expected, atol=2e-7)
    np.testing.assert_array_equal(counts, np.bincount(labels))


def test_the_mean_of_equal_samples_is_that_sample():
    rows = np.full((3000, 2), [0.1, 1e6 / 3])
    means, _ = class_means(Source(rows, np.arange(3000) % 3, 3))
    np.testing.assert_array_equal(means, rows[:3])


def test_a_source_that_changes_is_noticed():
    source, _ = make_source()

    class Changing(Empty):
        rows, num_classes, passes = 400, 4, 0

        def chunks(self, *names):
            self.passes += 1
            for table in source.chunks(*names):
                yield {name: array[self.passes :] for name, array in table.items()}

    for name in ("mahalanobis", "knn"):
        with pytest.raises(ValueError, match=r"other training samples|promised 400"):
            fitted(name, Changing())


# ---- entropy, of the logit scorers


@pytest.mark.parametrize("temperature", [0.5, 1.0, 20.0])
def test_entropy_matches_scipy(temperature):
    logits = np.random.default_rng(0).normal(0, 4, (200, 7))
    scores = make("entropy", temperature=temperature).score({"logits": logits})
    assert scores.dtype == np.float64
    expected = stats.entropy(softmax(logits / temperature, axis=1), axis=1)
    # SciPy's -p log p has an absolute error of 1e-16 where p rounds to 1.
    np.testing.assert_allclose(scores, expected, rtol=1e-12, atol=1e-15)


def test_entropy_has_no_ties_where_the_softmax_rounds_to_one():
    gaps = np.array([0.0, 1.0, 10.0, 40.0, 100.0, 500.0, 700.0])
    logits = np.stack([gaps, np.zeros_like(gaps)], axis=1)
    scores = make("entropy").score({"logits": logits})
    assert (np.diff(scores) < 0).all()
    assert scores[0] == pytest.approx(np.log(2), rel=1e-15)
    # p log p + (1 - p) log(1 - p) for a tiny p, to first order
    np.testing.assert_allclose(scores[3:], np.exp(-gaps[3:]) * (1 + gaps[3:]), rtol=1e-13)


def test_entropy_is_finite_shift_free_and_bounded():
    score_of = make("entropy").score
    logits = np.random.default_rng(1).normal(0, 3, (50, 5)).astype(np.float32)
    scores = score_of({"logits": logits})
    shifted = score_of({"logits": logits.astype(np.float64) - 1e5})
    np.testing.assert_allclose(shifted, scores, rtol=1e-9)
    assert ((scores >= 0) & (scores <= np.log(5))).all()
    extreme = np.array([[1e6, -1e6, 0.0], [1e6, 1e6, 1e6], [-1e30, 1e30, 0.0]])
    np.testing.assert_allclose(score_of({"logits": extreme}), [0.0, np.log(3), 0.0])
    np.testing.assert_array_equal(score_of({"logits": np.zeros((3, 1))}), 0.0)
    assert score_of({"logits": np.zeros((0, 4), np.float16)}).shape == (0,)


def test_entropy_is_highest_where_no_class_stands_out():
    logits = np.array([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [9.0, 0.0, 0.0]])
    assert (np.diff(make("entropy").score({"logits": logits})) < 0).all()
