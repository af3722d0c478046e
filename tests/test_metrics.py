"""Metrics against scikit-learn, against plain loops over their definitions, and by hand.

The loops in the first part are written from the prose definitions and share no code with the
module. Those of the released ARPL evaluation work in its convention, where a score is HIGHER =
MORE KNOWN; the tests negate.
"""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
import sklearn.metrics as reference

from openset_core.metrics import (
    METRICS,
    ArplCurve,
    closed_set_accuracy,
    confusion_matrix,
    evaluate,
    macro_f1,
    open_set_curve,
    open_set_predictions,
    openness,
    threshold_at_acceptance,
)

# --- Plain loops: exact definitions ---------------------------------------------------------------


def loop_rates(known, unknown, correct):
    """(threshold, TPR, FPR, CCR) at every unique score, ascending."""
    rows = []
    for threshold in sorted(set(known) | set(unknown)):
        tpr = sum(score <= threshold for score in known) / len(known)
        fpr = sum(score <= threshold for score in unknown) / len(unknown)
        right = sum(score <= threshold and ok for score, ok in zip(known, correct, strict=True))
        rows.append((threshold, tpr, fpr, right / len(known)))
    return rows


def loop_trapezoid(points):
    """Area under a list of (x, y) in the order given."""
    pairs = itertools.pairwise(points)
    return sum((x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in pairs)


def loop_oscr(known, unknown, correct):
    curve = [(fpr, ccr) for _, _, fpr, ccr in loop_rates(known, unknown, correct)]
    return loop_trapezoid([(0.0, 0.0), *curve])


def loop_fpr_at_tpr(known, unknown, target):
    for _, tpr, fpr, _ in loop_rates(known, unknown, [True] * len(known)):
        if tpr >= target:
            return fpr
    raise AssertionError("the largest score accepts everything")


def loop_dtacc(known, unknown):
    rates = loop_rates(known, unknown, [True] * len(known))
    return max(0.5 * (tpr + 1 - fpr) for _, tpr, fpr, _ in rates)


# --- Plain loops: the released ARPL evaluation, score = higher is more KNOWN ----------------------


def arpl_sweep(known, unknown):
    """Counts (tp, fp) while the smaller head of the two sorted lists is dropped, known on a tie."""
    known, unknown = sorted(known), sorted(unknown)
    counts = [(len(known), len(unknown))]
    while known or unknown:
        if unknown and (not known or unknown[0] < known[0]):
            unknown.pop(0)
        else:
            known.pop(0)
        counts.append((len(known), len(unknown)))
    return counts


def arpl_threshold_free(known, unknown):
    counts = arpl_sweep(known, unknown)
    n_k, n_u = len(known), len(unknown)
    tpr = [tp / n_k for tp, _ in counts]
    fpr = [fp / n_u for _, fp in counts]
    distance = [abs(value - 0.95) for value in tpr]
    nearest = distance.index(min(distance))
    precision_in = [(tpr_, tp / (tp + fp)) for tpr_, (tp, fp) in zip(tpr, counts, strict=True)
                    if tp + fp > 0]  # fmt: skip
    precision_out = [(1 - fpr_, (n_u - fp) / (n_k - tp + n_u - fp))
                     for fpr_, (tp, fp) in zip(fpr, counts, strict=True)
                     if n_k - tp + n_u - fp > 0]  # fmt: skip
    return {
        "auroc": -loop_trapezoid([(t, 1 - f) for t, f in zip(tpr, fpr, strict=True)]),
        "tnr_at_tpr95": 1 - counts[nearest][1] / n_u,
        "fpr_at_tpr95": counts[nearest][1] / n_u,
        "dtacc": max(0.5 * (t + 1 - f) for t, f in zip(tpr, fpr, strict=True)),
        "auin": -loop_trapezoid([(1.0, 0.5), *precision_in, (0.0, 0.0)]),
        "auout": loop_trapezoid([(0.0, 0.0), *precision_out, (1.0, 0.5)]),
    }


def arpl_oscr_in_order(kinds):
    """Their OSCR for samples in ascending order of their score; 'c' correct, 'w' wrong, 'u'."""
    n = len(kinds)
    n_u = kinds.count("u")
    n_k = n - n_u
    points = [(0.0, 0.0), (0.0, 0.0), (1.0, 1.0)]
    for k in range(n - 1):
        fpr = sum(kind == "u" for kind in kinds[k:]) / n_u
        ccr = sum(kind == "c" for kind in kinds[k + 1 :]) / n_k
        points.append((fpr, ccr))
    return -loop_trapezoid(sorted(points, reverse=True))


def arpl_oscr(known, unknown, correct):
    """The stated deterministic variant: on a tie the correct are dropped first, 'u' last."""
    rank = {"c": 0, "w": 1, "u": 2}
    samples = [(score, rank["c" if ok else "w"]) for score, ok in zip(known, correct, strict=True)]
    samples += [(score, rank["u"]) for score in unknown]
    return arpl_oscr_in_order(["cwu"[kind] for _, kind in sorted(samples)])


# --- Data -----------------------------------------------------------------------------------------


def continuous(rng, size, shift):
    return rng.normal(shift, 1.0, size)


def rounded(rng, size, shift):
    return np.round(rng.normal(shift, 1.0, size), 1)


def integers(rng, size, shift):
    return rng.integers(0, 5, size) + round(shift)


def constant(rng, size, shift):
    return np.full(size, 0.7)


def saturated(rng, size, shift):
    """Negated maximum softmax probability in float32, mostly exactly -1."""
    return -np.minimum(rng.normal(1.1 - shift / 5, 0.2, size), 1).astype(np.float32)


KINDS = [continuous, rounded, integers, constant, saturated]
SIZES = [(1, 1), (1, 7), (9, 1), (20, 20), (37, 11), (100, 240)]


@pytest.fixture(params=itertools.product(KINDS, SIZES), ids=lambda p: f"{p[0].__name__}-{p[1]}")
def samples(request):
    """(known scores, unknown scores, known correct)."""
    make, (n_known, n_unknown) = request.param
    rng = np.random.default_rng([n_known, n_unknown])
    known, unknown = make(rng, n_known, 0.0), make(rng, n_unknown, 0.8)
    return known, unknown, rng.random(n_known) < 0.8


def pooled(known, unknown):
    """Scores and labels (1 = unknown) as scikit-learn takes them."""
    scores = np.concatenate([known, unknown])
    return np.repeat([0, 1], [len(known), len(unknown)]), scores


def all_values(known, unknown, correct, compat=None):
    """`evaluate` without a threshold; class 0 is right, class 1 wrong."""
    return evaluate(
        known,
        unknown,
        known_predicted=np.where(correct, 0, 1),
        known_labels=np.zeros(len(known), dtype=int),
        num_classes=2,
        compat=compat,
    )


# --- Exact metrics --------------------------------------------------------------------------------


def test_auroc_is_that_of_scikit_learn(samples):
    known, unknown, _ = samples
    expected = reference.roc_auc_score(*pooled(known, unknown))
    assert open_set_curve(known, unknown).auroc() == pytest.approx(expected, abs=1e-12)


def test_auout_is_average_precision_of_the_unknown(samples):
    known, unknown, _ = samples
    expected = reference.average_precision_score(*pooled(known, unknown))
    assert open_set_curve(known, unknown).auout() == pytest.approx(expected, abs=1e-12)


def test_auin_is_average_precision_of_the_known(samples):
    known, unknown, _ = samples
    labels, scores = pooled(known, unknown)
    expected = reference.average_precision_score(1 - labels, -scores)
    assert open_set_curve(known, unknown).auin() == pytest.approx(expected, abs=1e-12)


def test_rates_are_those_of_the_definition(samples):
    known, unknown, correct = samples
    curve = open_set_curve(known, unknown, correct)
    expected = np.array(loop_rates(known, unknown, correct))
    actual = np.stack([curve.thresholds, curve.tpr, curve.fpr, curve.ccr], axis=1)
    np.testing.assert_array_equal(actual, expected)


def test_oscr_is_that_of_the_definition(samples):
    expected = loop_oscr(*samples)
    assert open_set_curve(*samples).oscr() == pytest.approx(expected, abs=1e-12)


def test_oscr_without_errors_is_auroc(samples):
    known, unknown, _ = samples
    curve = open_set_curve(known, unknown, np.ones(len(known), dtype=bool))
    assert curve.oscr() == curve.auroc()


def test_oscr_without_ties_counts_pairs():
    rng = np.random.default_rng(3)
    known, unknown, correct = rng.normal(size=30), rng.normal(1, 1, 40), rng.random(30) < 0.7
    pairs = [(k < u) and ok for k, ok in zip(known, correct, strict=True) for u in unknown]
    curve = open_set_curve(known, unknown, correct)
    assert curve.oscr() == pytest.approx(np.mean(pairs), abs=1e-12)


@pytest.mark.parametrize("target", [0.01, 0.5, 0.8, 0.95, 1.0])
def test_tnr_is_taken_at_the_tightest_threshold_that_reaches_the_tpr(samples, target):
    known, unknown, _ = samples
    curve = open_set_curve(known, unknown)
    expected = loop_fpr_at_tpr(known, unknown, target)
    assert curve.fpr_at_tpr(target) == expected
    assert curve.tnr_at_tpr(target) == pytest.approx(1 - expected, abs=1e-15)


def test_dtacc_is_that_of_the_definition(samples):
    known, unknown, _ = samples
    expected = loop_dtacc(known, unknown)
    assert open_set_curve(known, unknown).dtacc() == pytest.approx(expected, abs=1e-15)


def test_the_last_point_of_both_curves():
    curve = open_set_curve([0, 1, 2, 3], [1, 5], [True, False, True, True])
    for points, right_end in [(curve.roc_points(), 1.0), (curve.oscr_points(), 0.75)]:
        assert [axis[0] for axis in points] == [0.0, 0.0]
        assert [axis[-1] for axis in points] == [1.0, right_end]
        assert [len(axis) for axis in points] == [6, 6]
    assert curve.accuracy() == 0.75


def test_a_case_by_hand():
    """Accepting in order: k(right) | k(wrong) and u tied | k(right) | u."""
    curve = open_set_curve([0.1, 0.2, 0.3], [0.2, 0.4], [True, False, True])
    np.testing.assert_array_equal(curve.thresholds, [0.1, 0.2, 0.3, 0.4])
    np.testing.assert_array_equal(curve.known_accepted, [1, 2, 3, 3])
    np.testing.assert_array_equal(curve.unknown_accepted, [0, 1, 1, 2])
    np.testing.assert_array_equal(curve.ccr, [1 / 3, 1 / 3, 2 / 3, 2 / 3])
    assert (curve.num_known, curve.num_unknown) == (3, 2)
    assert curve.auroc() == pytest.approx((1.5 + 3) / 6)
    assert curve.oscr() == pytest.approx(0.5 * (1 / 3) + 0.5 * (2 / 3))
    assert curve.tnr_at_tpr() == 0.5
    assert curve.fpr_at_tpr(1 / 3) == 0.0
    assert curve.dtacc() == 0.75
    assert curve.auin() == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    assert curve.auout() == pytest.approx((1 + 2 / 4) / 2)


def test_perfect_separation_and_its_reverse():
    apart, correct = np.arange(10.0), np.arange(10) < 9
    perfect = open_set_curve(apart, apart + 100, correct)
    assert perfect.auroc() == perfect.dtacc() == perfect.auin() == perfect.auout() == 1.0
    assert perfect.oscr() == 0.9
    assert (perfect.tnr_at_tpr(1.0), perfect.fpr_at_tpr(1.0)) == (1.0, 0.0)
    reverse = open_set_curve(apart, apart - 100, correct)
    assert reverse.auroc() == reverse.oscr() == reverse.tnr_at_tpr() == 0.0
    assert reverse.dtacc() == 0.5


def test_all_scores_equal():
    curve = open_set_curve(np.zeros(8), np.zeros(2), np.arange(8) < 6)
    assert (curve.auroc(), curve.oscr(), curve.dtacc()) == (0.5, 0.375, 0.5)
    assert (curve.auin(), curve.auout()) == (0.8, 0.2)
    assert (curve.tnr_at_tpr(), curve.fpr_at_tpr()) == (0.0, 1.0)


@pytest.mark.parametrize("compat", [None, "arpl"])
@pytest.mark.parametrize(
    "transform",
    [
        lambda x: 1e300 * (x - 3),
        lambda x: 1e6 - np.exp(-x),
        lambda x: np.sign(x) * np.sqrt(np.abs(x)),
        lambda x: np.round(10 * x) * 5e-324,
        lambda x: np.round(10 * x).astype(np.int64) - 2**52,
    ],
    ids=["huge", "bounded", "root", "subnormal", "int64"],
)
def test_only_the_order_of_the_scores_counts(transform, compat):
    rng = np.random.default_rng(5)
    known, unknown = rounded(rng, 60, 0.0), rounded(rng, 80, 0.5)
    correct = rng.random(60) < 0.7
    expected = all_values(known, unknown, correct, compat)
    assert all_values(transform(known), transform(unknown), correct, compat) == expected


@pytest.mark.parametrize("compat", [None, "arpl"])
def test_the_order_of_the_samples_does_not_count(compat):
    rng = np.random.default_rng(6)
    known, unknown = rounded(rng, 300, 0.0), rounded(rng, 200, 0.5)
    correct = rng.random(300) < 0.7
    expected = all_values(known, unknown, correct, compat)
    for _ in range(5):
        order = rng.permutation(300)
        shuffled = all_values(known[order], rng.permutation(unknown), correct[order], compat)
        assert shuffled == expected


def test_minus_zero_ties_with_zero():
    assert open_set_curve([-0.0], [0.0]).auroc() == 0.5


def test_float32_scores_are_compared_exactly():
    just_above = np.nextafter(np.float32(1), np.float32(2))
    assert open_set_curve(np.float32([1]), np.array([just_above])).auroc() == 1.0


def test_the_curve_cannot_be_changed():
    curve = open_set_curve([0.0], [1.0], [True])
    with pytest.raises(AttributeError):
        curve.thresholds = np.zeros(2)
    with pytest.raises(ValueError, match="read-only"):
        curve.known_accepted[0] = 5


# --- The released ARPL evaluation -----------------------------------------------------------------


def test_compat_follows_the_released_definitions(samples):
    known, unknown, correct = samples
    values = all_values(known, unknown, correct, compat="arpl")
    expected = arpl_threshold_free(list(-known), list(-unknown))
    expected["oscr"] = arpl_oscr(list(-known), list(-unknown), list(correct))
    expected["accuracy"] = correct.mean()
    assert values == pytest.approx(expected, abs=1e-12)


def test_compat_oscr_is_the_lowest_that_any_order_of_ties_gives():
    known, unknown = [1, 1, 1, 0, 0, 2], [1, 1, 0, 2]
    correct = [True, False, True, True, False, True]
    kinds = [(-s, "c" if ok else "w") for s, ok in zip(known, correct, strict=True)]
    kinds += [(-s, "u") for s in unknown]
    groups = [[kind for s, kind in kinds if s == score] for score in sorted({s for s, _ in kinds})]
    orders = itertools.product(*(set(itertools.permutations(group)) for group in groups))
    every = [arpl_oscr_in_order(list(itertools.chain(*order))) for order in orders]
    assert min(every) < max(every)
    lowest = ArplCurve.from_curve(open_set_curve(known, unknown, correct)).oscr()
    assert lowest == pytest.approx(min(every), abs=1e-12)


def test_compat_differs_from_exact_as_described():
    tied = open_set_curve(np.zeros(8), np.zeros(8), np.ones(8, dtype=bool))
    assert (tied.auroc(), ArplCurve.from_curve(tied).auroc()) == (0.5, 0.0)
    # One nearest TPR (1.0), several FPR: the highest counts, however far apart the scores are.
    few = open_set_curve([0, 1], [2, 3])
    assert (few.tnr_at_tpr(), ArplCurve.from_curve(few).tnr_at_tpr()) == (1.0, 0.0)
    # Of ten known samples, 0.9 and 1.0 are equally near to 0.95; in float64, 0.9 is the nearer.
    ten = ArplCurve.from_curve(open_set_curve(np.arange(10), [8.5, 10, 11]))
    assert ten.tnr_at_tpr() == pytest.approx(2 / 3)
    perfect = ArplCurve.from_curve(open_set_curve([0, 1], [2, 3], [True, True]))
    assert perfect.auin() == pytest.approx(0.75)  # a triangle up to recall 1/2, then a square
    assert perfect.auout() == pytest.approx(0.75)


def test_compat_auroc_and_dtacc_are_exact_without_ties():
    rng = np.random.default_rng(7)
    curve = open_set_curve(rng.normal(size=500), rng.normal(1, 1, 400))
    compat = ArplCurve.from_curve(curve)
    assert compat.auroc() == curve.auroc()
    assert compat.dtacc() == pytest.approx(curve.dtacc(), abs=1e-15)


def test_compat_chooses_between_equally_near_rates_as_float64_does():
    """With 10, 30, 50, ... known samples two rates are equally near to 0.95."""
    for size in range(1, 100):
        known, unknown = np.arange(size), np.arange(size) + 0.5
        compat = ArplCurve.from_curve(open_set_curve(known, unknown))
        expected = arpl_threshold_free(list(-known), list(-unknown))["fpr_at_tpr95"]
        assert compat.fpr_at_tpr() == expected


@pytest.mark.parametrize(("size", "bias"), [(50, 4e-3), (500, 5e-4), (5000, 5e-5)])
def test_compat_oscr_bias_shrinks_with_the_sample_size(size, bias):
    rng = np.random.default_rng(size)
    curve = open_set_curve(rng.normal(size=size), rng.normal(1, 1, size), rng.random(size) < 0.9)
    difference = curve.oscr() - ArplCurve.from_curve(curve).oscr()
    assert bias / 5 < difference < bias * 5


# --- Decisions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_classes", [1, 2, 6, 40])
def test_decision_metrics_are_those_of_scikit_learn(num_classes):
    """With 40 classes and 30 samples, several classes are absent from labels and predictions."""
    rng = np.random.default_rng(num_classes)
    labels = rng.integers(0, num_classes + 1, 30)
    predicted = np.where(rng.random(30) < 0.6, labels, rng.integers(0, num_classes + 1, 30))
    every = list(range(num_classes + 1))
    assert macro_f1(predicted, labels, num_classes) == pytest.approx(
        reference.f1_score(labels, predicted, average="macro", labels=every, zero_division=0),
        abs=1e-12,
    )
    assert closed_set_accuracy(predicted, labels) == reference.accuracy_score(labels, predicted)
    np.testing.assert_array_equal(
        confusion_matrix(predicted, labels, num_classes),
        reference.confusion_matrix(labels, predicted, labels=every),
    )


def test_confusion_matrix_rows_are_true_classes():
    expected = [[1, 0, 1], [0, 0, 0], [0, 2, 0]]
    assert confusion_matrix([0, 2, 1, 1], [0, 0, 2, 2], 2).tolist() == expected


def test_predictions_accept_at_the_threshold_and_keep_unknown():
    predicted = open_set_predictions([0.1, 0.5, 0.6, 0.0], [1, 0, 1, 2], 0.5, 2)
    assert predicted.tolist() == [1, 0, 2, 2]
    assert open_set_predictions([1.0, 2.0], [0, 1], np.inf, 2).tolist() == [0, 1]
    assert open_set_predictions([1.0, 2.0], [0, 1], -np.inf, 2).tolist() == [2, 2]


def test_threshold_accepts_enough_and_is_the_smallest():
    rng = np.random.default_rng(8)
    for size, share in itertools.product([1, 2, 19, 20, 21, 100, 333], [1e-9, 0.07, 0.5, 0.95, 1]):
        for scores in (rng.normal(size=size), rng.integers(0, 4, size)):
            enough = [s for s in scores if np.count_nonzero(scores <= s) / size >= share]
            assert threshold_at_acceptance(scores, share) == min(enough)


def test_threshold_is_not_misled_by_rounding():
    assert 0.07 * 100 > 7  # so rounding up the product would accept eight
    assert threshold_at_acceptance(np.arange(100), 0.07) == 6


# --- Openness -------------------------------------------------------------------------------------


def test_openness_covers_the_range_m2iosr_states():
    """Sec. 5.2: 10 known classes, 10 .. 100 unknown ones, "from 18% to 59%"."""
    unknown = (10, 14, 19, 25, 32, 42, 54, 71, 100)
    values = [round(100 * openness(10, 10 + count)) for count in unknown]
    assert values == [18, 23, 28, 33, 38, 43, 48, 53, 59]


def test_openness_variants():
    assert openness(7, 7) == 0.0
    assert openness(6, 10) == pytest.approx(0.1340, abs=5e-5)
    assert openness(6, 10, num_target=10) == pytest.approx(0.2254, abs=5e-5)
    assert openness(4, 54, num_target=54) == pytest.approx(0.7278, abs=5e-5)
    assert openness(3, 10, num_target=2) == pytest.approx(1 - (6 / 12) ** 0.5)


# --- evaluate -------------------------------------------------------------------------------------


def whole_experiment(n_known=80, n_unknown=60):
    rng = np.random.default_rng(10)
    labels = rng.integers(0, 4, n_known)
    return {
        "known_scores": rounded(rng, n_known, 0.0),
        "unknown_scores": rounded(rng, n_unknown, 1.0),
        "known_predicted": np.where(rng.random(n_known) < 0.8, labels, (labels + 1) % 4),
        "known_labels": labels,
        "num_classes": 4,
        "threshold": 0.5,
        "unknown_predicted": rng.integers(0, 4, n_unknown),
    }


@pytest.mark.parametrize("compat", [None, "arpl"])
def test_evaluate_returns_the_listed_metrics(compat):
    values = evaluate(**whole_experiment(), compat=compat)
    # What a protocol adds about the test itself comes last.
    assert list(values) == list(METRICS)[: len(values)]
    assert list(METRICS)[len(values) :] == ["openness", "incremental_accuracy"]
    assert all(type(value) is float and 0 <= value <= 1 for value in values.values())
    without = evaluate(**(whole_experiment() | {"threshold": None}), compat=compat)
    at_threshold = {"macro_f1", "known_accepted", "unknown_rejected"}
    assert without == {key: values[key] for key in values if key not in at_threshold}


def test_evaluate_agrees_with_the_single_functions():
    data = whole_experiment()
    values = evaluate(**data)
    correct = data["known_predicted"] == data["known_labels"]
    curve = open_set_curve(data["known_scores"], data["unknown_scores"], correct)
    assert values["accuracy"] == closed_set_accuracy(data["known_predicted"], data["known_labels"])
    assert values["tnr_at_tpr95"] == curve.tnr_at_tpr(0.95)
    assert values["fpr_at_tpr95"] == curve.fpr_at_tpr(0.95)
    for name in ("auroc", "oscr", "dtacc", "auin", "auout"):
        assert values[name] == getattr(curve, name)()
    accepted = data["known_scores"] <= 0.5
    assert values["known_accepted"] == accepted.mean()
    assert values["unknown_rejected"] == (data["unknown_scores"] > 0.5).mean()
    expected = reference.f1_score(
        np.append(data["known_labels"], np.full(60, 4)),
        np.append(
            np.where(accepted, data["known_predicted"], 4),
            np.where(data["unknown_scores"] <= 0.5, data["unknown_predicted"], 4),
        ),
        average="macro",
    )
    assert values["macro_f1"] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("compat", [None, "arpl"])
def test_evaluate_sorts_once(compat, monkeypatch):
    calls = []
    for name in ("sort", "argsort", "lexsort", "unique", "partition"):
        original = getattr(np, name)

        def counted(*args, _name=name, _original=original, **kwargs):
            calls.append(_name)
            return _original(*args, **kwargs)

        monkeypatch.setattr(np, name, counted)
    evaluate(**whole_experiment(), compat=compat)
    assert calls == ["argsort"]


@pytest.mark.parametrize("compat", [None, "arpl"])
def test_arguments_are_left_alone(compat):
    data = whole_experiment()
    before = {key: np.copy(value) for key, value in data.items()}
    for value in data.values():
        if isinstance(value, np.ndarray):
            value.flags.writeable = False  # writing would raise, and so would sorting in place
    evaluate(**data, compat=compat)
    threshold_at_acceptance(data["known_scores"])
    for key, value in data.items():
        np.testing.assert_array_equal(value, before[key])


def test_results_do_not_share_memory_with_arguments():
    predicted = np.array([0, 1])
    open_set_predictions([0.0, 0.0], predicted, 1.0, 2)[0] = 1
    assert predicted.tolist() == [0, 1]


@pytest.mark.parametrize("compat", [None, "arpl"])
def test_a_million_scores(compat):
    data = whole_experiment(400_000, 600_000)
    values = evaluate(**data, compat=compat)
    exact = reference.roc_auc_score(*pooled(data["known_scores"], data["unknown_scores"]))
    assert values["auroc"] <= exact + 1e-12
    assert compat == "arpl" or values["auroc"] == pytest.approx(exact, abs=1e-12)


def test_lists_are_taken_as_arrays():
    values = evaluate([0, 1], [2], known_predicted=[0, 0], known_labels=[0, 1], num_classes=2)
    assert (values["auroc"], values["accuracy"], values["oscr"]) == (1.0, 0.5, 0.5)


def test_directions_agree_with_a_better_scorer():
    data = whole_experiment() | {"known_predicted": whole_experiment()["known_labels"]}
    better = data | {"unknown_scores": data["unknown_scores"] + 10}
    worse, good = evaluate(**data), evaluate(**better)
    of_the_test = {"openness", "incremental_accuracy"}
    for key in set(METRICS) - {"accuracy", "known_accepted"} - of_the_test:
        assert (good[key] > worse[key]) is METRICS[key].higher_is_better
    assert all(info.title and info.definition.endswith(".") for info in METRICS.values())


# --- Refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"known_scores": []}, "known_scores must hold at least one sample"),
        ({"unknown_scores": []}, "unknown_scores must hold at least one sample"),
        ({"known_scores": np.zeros((80, 1))}, r"known_scores must be one-dim.*\(80, 1\)"),
        ({"unknown_scores": 3.0}, r"unknown_scores must be one-dimensional.*\(\)"),
        ({"unknown_scores": [0.0, np.nan]}, "unknown_scores must be finite"),
        ({"known_scores": np.full(80, np.inf)}, "known_scores must be finite"),
        ({"known_scores": ["a"] * 80}, "known_scores must hold real numbers"),
        ({"known_scores": np.zeros(80, complex)}, "known_scores must hold real numbers"),
        ({"known_scores": [0.0]}, "known_predicted must be as long as known_scores.*80 and 1"),
        ({"known_labels": [0]}, "known_labels must be as long as known_scores.*1 and 80"),
        ({"known_labels": np.full(80, 4)}, r"known_labels must lie in 0\.\.3, but holds 4"),
        ({"known_labels": np.zeros(80)}, "known_labels must hold integer.*float64"),
        ({"known_predicted": np.full(80, -1)}, r"known_predicted .*0\.\.4 \(4 = unknown\).*-1"),
        ({"unknown_predicted": None}, "unknown_predicted must be given with threshold"),
        ({"unknown_predicted": [1]}, "unknown_predicted must be as long as unknown_scores"),
        ({"unknown_predicted": np.full(60, 5)}, r"unknown_predicted must lie in 0\.\.4"),
        ({"threshold": np.nan}, "threshold must be a number"),
        ({"num_classes": 0}, "num_classes must be at least 1"),
        ({"num_classes": 4.0}, r"num_classes must be an integer, but is 4\.0"),
        ({"compat": "ARPL"}, "compat must be None or one of 'arpl', but is 'ARPL'"),
    ],
)
def test_evaluate_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        evaluate(**(whole_experiment() | change))


@pytest.mark.parametrize("build", [lambda curve: curve, ArplCurve.from_curve])
def test_curves_refuse(build):
    curve = build(open_set_curve([0.0], [1.0]))
    for metric in ("tnr_at_tpr", "fpr_at_tpr"):
        for share in (0.0, 1.5, float("nan")):
            with pytest.raises(ValueError, match=r"tpr must lie in \(0, 1\]"):
                getattr(curve, metric)(share)
    with pytest.raises(ValueError, match="known_correct was not given"):
        curve.oscr()


def test_ccr_and_accuracy_need_known_correct():
    curve = open_set_curve([0.0], [1.0])
    for read in (lambda: curve.ccr, curve.accuracy, curve.oscr_points):
        with pytest.raises(ValueError, match="known_correct was not given"):
            read()


@pytest.mark.parametrize(
    ("correct", "message"),
    [
        ([True], "known_correct must be as long as known_scores"),
        ([0, 2], "known_correct must hold booleans"),
        ([0.0, 1.0], "known_correct must hold booleans"),
        ([[True, False]], "known_correct must be one-dimensional"),
    ],
)
def test_known_correct_is_checked(correct, message):
    with pytest.raises(ValueError, match=message):
        open_set_curve([0.0, 1.0], [1.0], correct)


def test_zeros_and_ones_say_which_are_correct():
    assert open_set_curve([0.0, 1.0], [2.0], [0, 1]).accuracy() == 0.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: threshold_at_acceptance([1.0], 0.0), r"acceptance must lie in \(0, 1\]"),
        (lambda: threshold_at_acceptance([1.0], 1.1), r"acceptance must lie in \(0, 1\]"),
        (lambda: threshold_at_acceptance([]), "validation_scores must hold at least one"),
        (lambda: closed_set_accuracy([0, 1], [0]), "labels must be as long as predicted"),
        (lambda: closed_set_accuracy([0.5], [0]), "predicted must hold integer"),
        (lambda: macro_f1([0], [3], 2), r"labels must lie in 0\.\.2 \(2 = unknown\)"),
        (lambda: confusion_matrix([-1], [0], 2), "predicted must lie in .* holds -1"),
        (lambda: open_set_predictions([0.0], [0, 1], 0.5, 2), "predicted_class must be as long"),
        (lambda: openness(10, 5), "num_test must count known and unknown test classes"),
        (lambda: openness(10, 11, num_target=2), "negative"),
        (lambda: openness(0, 5), "num_train must be at least 1"),
        (lambda: openness(2, 5, num_target=0), "num_target must be at least 1"),
        (lambda: openness(2, 5.5), "num_test must be an integer"),
    ],
)
def test_functions_refuse(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_module_is_light():
    """Neither torch nor scikit-learn nor scipy is loaded by importing the metrics."""
    code = (
        "import sys, openset_core.metrics; "
        "print(sorted({'torch', 'sklearn', 'scipy', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
