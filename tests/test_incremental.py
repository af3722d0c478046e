"""Class-incremental evaluation against a plain recomputation for every number of classes."""

from __future__ import annotations

import numpy as np
import pytest

from openset_core.errors import OpensetError
from openset_core.metrics import add_classes_one_by_one


def blobs(seed: int, classes: int, each: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Samples around one random centre a class; the centres do not depend on the spread."""
    centres = np.random.default_rng(0).normal(size=(classes, 4)) * 3
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), each)
    return (centres[labels] + spread * rng.normal(size=(len(labels), 4))).astype(np.float32), labels


def plain(train, train_labels, test, test_labels, base):
    """Everything again from scratch for each number of classes."""
    total = train_labels.max() + 1
    found = []
    for count in range(base, total + 1):
        means = np.stack([train[train_labels == k].mean(axis=0) for k in range(count)])
        seen = test_labels < count
        gaps = ((test[seen][:, None].astype(float) - means[None]) ** 2).sum(axis=2)
        found.append((gaps.argmin(axis=1) == test_labels[seen]).mean())
    return found


def test_equals_recomputing_for_every_number_of_classes():
    train, test = blobs(1, 7, 20, 2.5), blobs(2, 7, 15, 2.5)
    ours = add_classes_one_by_one(*train, *test, base_classes=3)
    assert ours.classes == (3, 4, 5, 6, 7)
    np.testing.assert_allclose(ours.accuracy, plain(*train, *test, 3), atol=1e-12)
    assert ours.accuracy[-1] < 1.0  # a case in which the rule matters


def test_separable_classes_are_all_recognised_and_order_of_rows_is_free():
    train, labels = blobs(1, 6, 20, 0.01)
    test = blobs(2, 6, 10, 0.01)
    order = np.random.default_rng(3).permutation(len(labels))
    ours = add_classes_one_by_one(train[order], labels[order], *test, base_classes=2)
    assert ours.accuracy == (1.0,) * 5


def test_a_class_without_training_samples_is_refused():
    train, labels = blobs(1, 5, 4, 0.1)
    with pytest.raises(OpensetError, match="training samples of every class"):
        add_classes_one_by_one(
            train[labels != 3], labels[labels != 3], *blobs(2, 5, 4, 0.1), base_classes=2
        )
