"""A scikit-learn classifier that rejects what it does not know.

    from openset_core import OpenSetClassifier
    classifier = OpenSetClassifier(plugins=["softmax", "resnet18"], epochs=10).fit(X, y)
    classifier.predict(X_new)          # a class of y, or -1

It trains by the ordinary run in a temporary folder, which is gone afterwards; `save` keeps the
model.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from openset_core.data.image_folders.in_memory import protocol_of, registry_with
from openset_core.data.image_folders.protocol import write_protocol
from openset_core.data.images import ImageSet
from openset_core.errors import OpensetError
from openset_core.experiment.experiment import resolve, with_epochs
from openset_core.files import atomic_write
from openset_core.inference.trained_model import Predictions, TrainedModel
from openset_core.pipeline import execute
from openset_core.run_folder import Runtime
from openset_core.training.checkpoint import preserved_random_state
from openset_core.training.progress import Progress

PAD = "pad"

SKLEARN_EXCEPTIONS = {
    "check_classifiers_train": "decision_function tells how known a sample is, one value, and not "
    "which class it is, one value a class",
    "check_classifiers_classes": "for the same reason, and because predict may say unknown_label, "
    "which is no class of y",
    "check_decision_proba_consistency": "decision_function tells known from unknown, predict_proba "
    "one known class from another; they need not rank alike",
}
"""Checks of scikit-learn's `check_estimator` that do not hold, with the reason. The others hold
with `image_shape="pad"`, which their tables of numbers need."""


class OpenSetClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Open-set classifier from interchangeable components, with scikit-learn's interface.

    Args:
        plugins: names of components, for example `["arpl", "timm:resnet18", "energy"]`; for a kind
            that is left out, the default protocol's.
        epochs: passes over the training images; the recipe's when None.
        set: options by component, for example `{"training": {"lr": 0.01}}`.
        image_shape: (height, width) or (height, width, channels) of flat rows. None takes a row as
            a grey square and refuses a number of features that is none. `"pad"` adds zeros up to
            the next square, for rows that are no images.
        image_size: height and width that the network sees; images are resized to it.
        value_range: values of `X` that mean black and white, where `X` is not uint8; values outside
            are cut off. None takes the least and the greatest of the training data. The network
            sees 256 steps.
        validation: share of each class held out of training for the threshold.
        acceptance: share of the held-out images that the threshold accepts, in (0, 1].
        unknown_label: what `predict` gives an unknown image; may not be a class.
        random_state: training seed.
        device: `"auto"`, or `"cpu"` to leave a GPU alone.
        verbose: show progress on standard error.

    Attributes:
        classes_: the classes, sorted.
        model_: the trained model, as `openset_core.load` gives it.
        image_shape_: height, width and channels of the training images.
        value_range_: values that mean black and white; (0, 255) for uint8.
        history_: the record of each epoch.
    """

    def __init__(
        self,
        plugins: str | Sequence[str] = (),
        *,
        epochs: int | None = None,
        set: Mapping[str, Mapping[str, Any]] | None = None,
        image_shape: tuple[int, ...] | str | None = None,
        image_size: int = 32,
        value_range: tuple[float, float] | None = None,
        validation: float = 0.1,
        acceptance: float = 0.95,
        unknown_label: Any = -1,
        random_state: Any = 0,
        device: str = "auto",
        verbose: bool = False,
    ) -> None:
        self.plugins = plugins
        self.epochs = epochs
        self.set = set
        self.image_shape = image_shape
        self.image_size = image_size
        self.value_range = value_range
        self.validation = validation
        self.acceptance = acceptance
        self.unknown_label = unknown_label
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.classifier_tags.poor_score = True  # on tables that are no images
        return tags

    # --- training -----------------------------------------------------------------------------

    def fit(self, X: Any, y: Any) -> OpenSetClassifier:
        """Train on images and their classes; part of each class is held out for the threshold.

        Args:
            X: [n, H, W], [n, H, W, C] with C = 1 or 3, or flat [n, features]; uint8, or numbers
                in `value_range`.
            y: [n], classes.

        Raises:
            ValueError: malformed X or y, fewer than two classes, `unknown_label` among the classes.
            OpensetError: components that are not installed or do not fit together.
        """
        values, y = self._validated(X, y)
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"{type(self).__name__} needs at least 2 classes; y has 1 class, "
                f"{self.classes_[0]!r}"
            )
        if any(name == self.unknown_label for name in self.classes_.tolist()):
            raise ValueError(
                f"unknown_label={self.unknown_label!r} is a class of y; choose another label"
            )
        images = self._fitted_images(values)
        names = tuple(str(name) for name in self.classes_)
        train = ImageSet(images=images, labels=labels.astype(np.int64), classes=names)
        with preserved_random_state(), tempfile.TemporaryDirectory(prefix="openset-fit-") as folder:
            self._train(train, Path(folder))
        return self

    def _train(self, train: ImageSet, folder: Path) -> None:
        protocol = protocol_of(
            train, size=self.image_size, validation=self.validation, acceptance=self.acceptance
        )
        write_protocol(protocol, folder / "own.toml")
        # A run needs test images although its results are not used here: one of each class.
        _classes, first = np.unique(train.labels, return_index=True)
        duplicate_of = ImageSet(
            images=train.images[first], labels=train.labels[first], classes=train.classes
        )
        plugins = registry_with(train, duplicate_of)
        seed = self.random_state
        if not isinstance(seed, int | np.integer):
            seed = check_random_state(seed).randint(2**31 - 1)
        experiment = resolve(
            self.plugins,
            str(folder / "own.toml"),
            seed=int(seed),
            overrides=with_epochs(self.set, self.epochs),
            registry_=plugins,
        )
        observers = (Progress(),) if self.verbose else ()
        runtime = Runtime(device=self.device, observers=observers, plugins=plugins)
        run = execute(experiment, folder / "run", runtime)
        self.history_ = run.history
        stored = TrainedModel(folder / "run" / "model", device="cpu")
        self.model_ = TrainedModel.from_artefact(stored.artefact(), device=self.device)

    # --- prediction ---------------------------------------------------------------------------

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """A class, or `unknown_label`, for each image, [n].

        Where labels and `unknown_label` are of different kinds, as text and -1, the result is an
        array of objects.
        """
        predictions = self._predictions(X)
        known = self.classes_[predictions.winners]
        unknown = np.asarray(self.unknown_label)
        kinds = {known.dtype.kind, unknown.dtype.kind}
        if len(kinds) > 1 and kinds & {"U", "S", "O"}:
            known = known.astype(object)
            known[predictions.unknown] = self.unknown_label
            return known
        small = np.min_scalar_type(self.unknown_label) if unknown.dtype.kind in "iu" else unknown
        wide = known.astype(np.result_type(known.dtype, small))
        wide[predictions.unknown] = self.unknown_label
        return wide

    def predict_proba(self, X: Any) -> npt.NDArray[np.float64]:
        """Probabilities of the known classes, [n, K] in the order of `classes_`."""
        return self._predictions(X).probabilities

    def decision_function(self, X: Any) -> npt.NDArray[np.float64]:
        """How known each image is, [n]: the threshold minus the unknown score.

        Negative for unknown images, as scikit-learn's outlier detectors have it; `predict` says
        `unknown_label` exactly there.
        """
        predictions = self._predictions(X)
        return predictions.threshold - predictions.scores

    def save(self, folder: str | Path) -> None:
        """Write the trained model as a folder for `openset_core.load` and `openset predict`.

        Raises:
            OpensetError: the folder is there and not empty.
        """
        check_is_fitted(self)
        folder = Path(folder)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise OpensetError(f"{folder} is there already; choose another folder")
        # model.toml marks a model as complete, so it comes last.
        artefact = self.model_.artefact()
        for name in sorted(artefact, key=lambda name: (name == "model.toml", name)):
            with atomic_write(folder / name) as temporary:
                temporary.write_bytes(artefact[name])

    def _predictions(self, X: Any) -> Predictions:
        check_is_fitted(self)
        images = self._images(self._validated(X)[0])
        if images.shape[1:] != self.image_shape_:
            raise ValueError(
                f"X has images of shape {list(images.shape[1:])}, {type(self).__name__} was fitted "
                f"with {list(self.image_shape_)}"
            )
        model: TrainedModel = self.model_
        return model.predictions(images)

    # --- from X to pixels ---------------------------------------------------------------------

    def _validated(self, X: Any, *y: Any) -> tuple[npt.NDArray[Any], Any]:
        """`X` as a numeric array of two dimensions or more, and `y` where it is given."""
        kept = getattr(X, "dtype", None) == np.uint8
        checked = validate_data(
            self,
            X,
            *y,
            reset=bool(y),
            allow_nd=True,
            dtype=np.uint8 if kept else [np.float64, np.float32],
            ensure_min_samples=2 if y else 1,
        )
        return checked if y else (checked, None)

    def _fitted_images(self, values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """The training images; notes their range of values and their shape."""
        if values.dtype == np.uint8:
            self.value_range_ = (0.0, 255.0)
        elif self.value_range is not None:
            low, high = map(float, self.value_range)
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ValueError(f"value_range={self.value_range!r} must be two rising numbers")
            self.value_range_ = (low, high)
        else:
            low, high = float(values.min()), float(values.max())
            self.value_range_ = (low, high if high > low else low + 1.0)
        images = self._images(values)
        self.image_shape_ = images.shape[1:]
        return images

    def _images(self, values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """uint8 [n, H, W, C] of a checked `X`."""
        pixels = values
        if values.dtype != np.uint8 or self.value_range_ != (0.0, 255.0):
            low, high = self.value_range_
            # Halved, so that a range of nearly all float64 does not overflow.
            scaled = (values / 2 - low / 2) / (high / 2 - low / 2)
            pixels = np.round(np.clip(scaled, 0.0, 1.0) * 255).astype(np.uint8)
        if pixels.ndim == 2:
            return np.ascontiguousarray(self._unflattened(pixels))
        if self.image_shape is not None and self.image_shape != PAD:
            expected = self._given_shape()
            shape = (*pixels.shape[1:], 1) if pixels.ndim == 3 else pixels.shape[1:]
            if shape != expected:
                raise ValueError(
                    f"X has images of shape {list(shape)}, image_shape={self.image_shape!r}"
                )
        if pixels.ndim == 3:
            pixels = pixels[..., None]
        if pixels.ndim != 4 or pixels.shape[3] not in (1, 3) or 0 in pixels.shape[1:]:
            raise ValueError(
                f"X has shape {list(values.shape)}; images are [n, H, W], [n, H, W, C] with C = 1 "
                "or 3, or flat [n, features]"
            )
        return np.ascontiguousarray(pixels)

    def _unflattened(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        features = pixels.shape[1]
        if self.image_shape == PAD:
            side = math.isqrt(features - 1) + 1
            padded = np.pad(pixels, ((0, 0), (0, side * side - features)))
            return padded.reshape(-1, side, side, 1)
        if self.image_shape is None:
            side = math.isqrt(features)
            shape: tuple[int, ...] = (side, side, 1)
            if side * side != features:
                raise ValueError(
                    f"X has {features} features, which is no square image; say "
                    "image_shape=(height, width, channels), or image_shape='pad' for rows that "
                    "are no images"
                )
        else:
            shape = self._given_shape()
        if math.prod(shape) != features:
            raise ValueError(
                f"X has {features} features, image_shape={self.image_shape!r} makes "
                f"{math.prod(shape)}"
            )
        return pixels.reshape(-1, *shape)

    def _given_shape(self) -> tuple[int, ...]:
        shape = self.image_shape
        sound = (
            isinstance(shape, tuple | list)
            and len(shape) in (2, 3)
            and all(isinstance(side, int | np.integer) and side > 0 for side in shape)
            and (len(shape) == 2 or shape[2] in (1, 3))
        )
        if not sound:
            raise ValueError(
                f"image_shape={shape!r} must be (height, width), (height, width, channels) with 1 "
                "or 3 channels, 'pad' or None"
            )
        assert isinstance(shape, tuple | list)
        return (*shape, 1) if len(shape) == 2 else tuple(shape)
