"""The scikit-learn classifier: its interface, its images, and scikit-learn's own checks."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

import openset_core
from openset_core import OpenSetClassifier
from openset_core.errors import CompositionError, OpensetError, PluginError
from openset_core.estimator import SKLEARN_EXCEPTIONS

QUICK = {"plugins": ["softmax", "lenet-plus-plus"], "epochs": 1, "image_size": 16, "device": "cpu"}
FAST_LEARNER = {"training": {"optimizer": "adam", "lr": 0.003, "batch_size": 16}}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@parametrize_with_checks(
    [OpenSetClassifier(**QUICK, image_shape="pad", acceptance=1.0)],
    expected_failed_checks=lambda _estimator: SKLEARN_EXCEPTIONS,
)
def test_scikit_learn_s_own_checks(estimator, check):
    check(estimator)


def digits(classes, count=None):
    data = load_digits()
    rows = np.isin(data.target, classes)
    return data.images[rows][:count], data.target[rows][:count]


@pytest.fixture(scope="module")
def fitted():
    """A classifier of 0, 1 and 4 that no test may change."""
    torch.set_num_threads(1)
    X, y = digits([0, 1, 4], 300)
    options = {**QUICK, "epochs": 6, "set": FAST_LEARNER}
    return OpenSetClassifier(**options).fit(X, y)


def test_known_are_classified_and_unknown_rejected(fitted):
    X, y = digits([0, 1, 4])
    X, y = X[300:], y[300:]
    found = fitted.predict(X)
    assert found.dtype == y.dtype
    assert (found == y).mean() > 0.85
    assert fitted.score(X, y) == (found == y).mean()
    others, _labels = digits([2, 3, 7])
    rejected = (fitted.predict(others) == -1).mean()
    assert rejected > (found == -1).mean() + 0.1
    assert fitted.classes_.tolist() == [0, 1, 4]
    assert len(fitted.history_) == 6


def test_decision_function_is_negative_exactly_for_the_rejected(fitted):
    X, _y = digits(range(10), 400)
    known, labels = fitted.decision_function(X), fitted.predict(X)
    assert known.shape == (400,)
    np.testing.assert_array_equal(known < 0, labels == -1)
    assert 0 < (known < 0).sum() < 400


def test_probabilities_belong_to_the_classes(fitted):
    X, _y = digits(range(10), 50)
    found = fitted.predict_proba(X)
    assert found.shape == (50, 3)
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    labels = fitted.predict(X)
    accepted = labels != -1
    np.testing.assert_array_equal(fitted.classes_[found.argmax(axis=1)][accepted], labels[accepted])


def test_threshold_accepts_the_asked_share_of_held_out_images():
    X, y = digits([0, 1], 200)
    shares = {}
    for acceptance in (0.5, 1.0):
        classifier = OpenSetClassifier(**QUICK, acceptance=acceptance, validation=0.3).fit(X, y)
        shares[acceptance] = (classifier.predict(X) != -1).mean()
    assert shares[0.5] < 0.75
    assert shares[1.0] > 0.9


def test_flat_rows_and_images_are_the_same():
    X, y = digits([0, 1], 40)
    images = OpenSetClassifier(**QUICK).fit(X, y)
    flat = OpenSetClassifier(**QUICK).fit(X.reshape(40, -1), y)
    assert images.image_shape_ == flat.image_shape_ == (8, 8, 1)
    assert images.value_range_ == flat.value_range_ == (0.0, 16.0)
    expected = images.decision_function(X)
    np.testing.assert_array_equal(flat.decision_function(X.reshape(40, -1)), expected)
    np.testing.assert_array_equal(images.decision_function(X[..., None]), expected)


def test_values_beyond_those_of_training_are_cut_off(fitted):
    X, _y = digits([0, 1, 4], 5)
    bright = np.where(X > 8, 16.0, 0.0)
    expected = fitted.decision_function(bright)
    np.testing.assert_array_equal(
        fitted.decision_function(np.where(X > 8, 999.0, -999.0)), expected
    )


def test_uint8_and_floats_of_the_same_range_train_alike():
    X, y = digits([0, 1], 60)
    pixels = np.round(X * 255 / 16).astype(np.uint8)
    one = OpenSetClassifier(**QUICK).fit(pixels, y)
    other = OpenSetClassifier(**QUICK, value_range=(0, 1)).fit(pixels / 255, y)
    assert (one.value_range_, other.value_range_) == ((0.0, 255.0), (0.0, 1.0))
    np.testing.assert_array_equal(
        one.decision_function(pixels), other.decision_function(pixels / 255)
    )


def test_colour_and_shapes_that_are_no_squares():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (24, 6, 9, 3), dtype=np.uint8)
    X[::2, :, :, 0] = 0
    y = np.arange(24) % 2
    classifier = OpenSetClassifier(**QUICK).fit(X, y)
    assert classifier.image_shape_ == (6, 9, 3)
    assert classifier.model_.description.image.channels == 3
    flat = OpenSetClassifier(**QUICK, image_shape=(6, 9, 3)).fit(X.reshape(24, -1), y)
    np.testing.assert_array_equal(
        classifier.decision_function(X), flat.decision_function(X.reshape(24, -1))
    )


@pytest.mark.parametrize(
    ("names", "unknown_label", "dtype"),
    [
        (["cat", "dog"], "unknown", "U"),
        (["cat", "dog"], -1, "O"),
        ([0, 1], "unknown", "O"),
        ([0, 1], 99, "i"),
        ([2.0, 3.0], -1, "f"),
        ([True, False], -1, "i"),
    ],
)
def test_labels_of_any_kind(names, unknown_label, dtype):
    X, y = digits([0, 1], 40)
    named = np.array(names)[y]
    classifier = OpenSetClassifier(**QUICK, unknown_label=unknown_label, acceptance=0.1)
    found = classifier.fit(X, named).predict(X)
    assert found.dtype.kind == dtype
    assert set(found.tolist()) <= {*named.tolist(), unknown_label}
    assert unknown_label in found.tolist()
    assert classifier.predict(X[:1]).dtype.kind == dtype


# --- in scikit-learn's machinery ------------------------------------------------------------------


def test_pickled_and_saved_classifiers_say_the_same(fitted, tmp_path):
    X, _y = digits(range(10), 30)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict(X), fitted.predict(X))
    fitted.save(tmp_path / "model")
    model = openset_core.load(tmp_path / "model", device="cpu")
    assert model.classes == ("0", "1", "4")
    pixels = np.round(X[..., None] * 255 / 16).astype(np.uint8)
    expected = ["unknown" if label == -1 else str(label) for label in fitted.predict(X)]
    assert model.predict(pixels) == expected
    with pytest.raises(OpensetError, match="is there already"):
        fitted.save(tmp_path / "model")


def test_pipeline_and_search():
    X, y = digits([0, 1], 60)
    scaled = make_pipeline(FunctionTransformer(lambda x: x / 16), OpenSetClassifier(**QUICK))
    assert scaled.fit(X, y).predict(X).shape == (60,)
    search = GridSearchCV(
        OpenSetClassifier(**QUICK), {"acceptance": [0.1, 1.0]}, cv=2, error_score="raise"
    ).fit(X, y)
    assert search.best_params_["acceptance"] == 1.0
    scores = cross_val_score(OpenSetClassifier(**QUICK), X, y, cv=2, error_score="raise")
    assert scores.shape == (2,)


def test_clone_and_parameters():
    classifier = OpenSetClassifier(plugins=["arpl"], set={"arpl": {"weight": 0.2}}, epochs=2)
    copy = clone(classifier).set_params(epochs=5)
    assert (copy.epochs, copy.plugins, copy.set) == (5, ["arpl"], {"arpl": {"weight": 0.2}})
    assert classifier.epochs == 2


def test_fitting_leaves_the_random_state_alone_and_follows_its_own():
    X, y = digits([0, 1], 40)
    np.random.seed(7)
    torch.manual_seed(7)
    expected = np.random.rand(), torch.rand(1).item()
    np.random.seed(7)
    torch.manual_seed(7)
    one = OpenSetClassifier(**QUICK).fit(X, y).decision_function(X)
    assert (np.random.rand(), torch.rand(1).item()) == expected
    np.testing.assert_array_equal(OpenSetClassifier(**QUICK).fit(X, y).decision_function(X), one)
    other = OpenSetClassifier(**QUICK, random_state=3).fit(X, y).decision_function(X)
    assert not np.array_equal(other, one)
    drawn = OpenSetClassifier(**QUICK, random_state=np.random.RandomState(0)).fit(X, y)
    assert drawn.decision_function(X).shape == (40,)


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    X, y = digits([0, 1], 30)
    OpenSetClassifier(**QUICK).fit(X, y).predict(X)
    assert not list(tmp_path.iterdir())


# --- wrong input ----------------------------------------------------------------------------------


def wrong(change, match, **options):
    return pytest.param(change, match, options, id=match)


@pytest.mark.parametrize(
    ("change", "match", "options"),
    [
        wrong(lambda X, y: (X.reshape(30, -1)[:, :50], y), "no square image; say image_shape"),
        wrong(lambda X, y: (X.reshape(30, -1), y), "makes 9", image_shape=(3, 3)),
        wrong(lambda X, y: (X, y), "X has images of shape", image_shape=(3, 3)),
        wrong(lambda X, y: (X.reshape(30, -1), y), "must be", image_shape=(8, 8, 2)),
        wrong(lambda X, y: (X.reshape(30, -1), y), "must be", image_shape="square"),
        wrong(lambda X, y: (np.stack([X] * 4, axis=3), y), "C = 1 or 3"),
        wrong(lambda X, y: (X[..., None, None], y), "X has shape"),
        wrong(lambda X, y: (X, np.zeros(30)), "at least 2 classes; y has 1 class"),
        wrong(lambda X, y: (X, y - 1), "unknown_label=-1 is a class of y"),
        wrong(lambda X, y: (X, y + 0.5 * X.mean(axis=(1, 2))), "continuous"),
        wrong(lambda X, y: (X[:20], y), "inconsistent numbers of samples"),
        wrong(lambda X, y: (X * np.nan, y), "NaN"),
        wrong(lambda X, y: (X, y), "two rising numbers", value_range=(1, 0)),
    ],
)
def test_malformed_input_is_a_value_error(change, match, options):
    X, y = digits([0, 1], 30)
    X, y = change(X, y)
    with pytest.raises(ValueError, match=match):
        OpenSetClassifier(**QUICK, **options).fit(X, y)


def test_images_of_another_shape_are_refused(fitted):
    with pytest.raises(ValueError, match="X has"):
        fitted.predict(np.zeros((2, 9, 8)))
    with pytest.raises(ValueError, match=r"images of shape \[8, 9, 1\]"):
        fitted.predict(np.zeros((2, 8, 9)))


def test_parts_that_do_not_exist_or_fit():
    X, y = digits([0, 1], 30)
    with pytest.raises(PluginError, match="no component is called 'sofmax'; did you mean softmax"):
        OpenSetClassifier(plugins=["sofmax"]).fit(X, y)
    with pytest.raises(CompositionError, match="are 2 components of kind backbone"):
        OpenSetClassifier(plugins=["vgg13", "resnet18"]).fit(X, y)


def test_one_image_a_class_is_too_few():
    X, _y = digits([0, 1], 3)
    with pytest.raises(OpensetError, match="each class has one image"):
        OpenSetClassifier(**QUICK).fit(X, [0, 1, 2])


def test_few_images_still_hold_one_out():
    X, _y = digits([0, 1], 5)
    classifier = OpenSetClassifier(**QUICK, validation=0.01).fit(X, [0, 0, 1, 1, 2])
    assert classifier.predict(X).shape == (5,)
