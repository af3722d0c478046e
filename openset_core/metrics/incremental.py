"""Class-incremental recognition on the axes a network has learnt (ARPL, Sec. 5.5.4, Fig. 13).

A network trained on base classes gives every image one logit a base class: the coefficients of
the image on the learnt bases (classifier weights, prototypes or reciprocal points). A new class
is the mean of its training images' coefficients; nothing is trained again.
"""

from __future__ import annotations

import attrs
import numpy as np
import numpy.typing as npt

from openset_core.errors import OpensetError

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@attrs.frozen(kw_only=True)
class IncrementalResults:
    """Accuracy over all classes seen so far, as new classes are added one by one.

    Attributes:
        classes: number of classes, from the base classes alone to all of them.
        accuracy: fraction of those classes' test samples that get their own class.
    """

    classes: tuple[int, ...]
    accuracy: tuple[float, ...]


def add_classes_one_by_one(
    train_logits: npt.NDArray[np.floating],
    train_labels: Integers,
    test_logits: npt.NDArray[np.floating],
    test_labels: Integers,
    base_classes: int,
) -> IncrementalResults:
    """Classify by the nearest class mean of the logits, adding one class after another.

    The paper does not say by which rule the coefficients decide; here base and new classes
    alike are represented by the mean coefficients of their training images, and a test image
    gets the class of the nearest mean (Euclidean).

    Args:
        train_logits: [n, K] of the training images of base and new classes.
        train_labels: int64 [n], base classes 0..base_classes-1, then the new ones in the order
            in which they are added.
        test_logits: [m, K].
        test_labels: int64 [m].
        base_classes: number of base classes.

    Returns:
        Accuracy for every number of classes from `base_classes` to all.

    Raises:
        OpensetError: a class without training samples, or no test samples at all.
    """
    total = int(max(train_labels.max(initial=-1), test_labels.max(initial=-1))) + 1
    counts = np.bincount(train_labels, minlength=total)
    if not len(test_labels) or not counts.all():
        raise OpensetError(
            "class-incremental evaluation needs test samples, and training samples of every class"
        )
    means = np.zeros((total, train_logits.shape[1]))
    np.add.at(means, train_labels, train_logits.astype(np.float64))
    means /= counts[:, None]
    squares = np.square(means).sum(axis=1)

    # Each test sample's best class among those added so far, updated one class at a time.
    base = squares[:base_classes] - 2.0 * test_logits.astype(np.float64) @ means[:base_classes].T
    best = base.argmin(axis=1)
    distance = base.min(axis=1)
    steps, accuracy = [], []
    for count in range(base_classes, total + 1):
        if count > base_classes:
            new = count - 1
            fresh = squares[new] - 2.0 * test_logits.astype(np.float64) @ means[new]
            nearer = fresh < distance
            best[nearer], distance[nearer] = new, fresh[nearer]
        seen = test_labels < count
        if not seen.any():
            continue
        steps.append(count)
        accuracy.append(float(np.mean(best[seen] == test_labels[seen])))
    return IncrementalResults(classes=tuple(steps), accuracy=tuple(accuracy))
