"""A detector of pytorch-ood as an unknown scorer.

The library is given exactly what it asks for: float32 logits or embeddings on the CPU, all
training samples at once. Its scores are higher for outliers, as ours are, and are passed on.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from attrs import asdict, frozen

from openset_core import FeatureSource, FeatureTable, UnknownScorer
from openset_plugins.pytorch_ood import library, tables

if TYPE_CHECKING:
    from torch import Tensor

Array = npt.NDArray[Any]
logger = logging.getLogger(__name__)

# Elements of the largest array that a detector makes for a block: rows x classes x dimensions.
_BLOCK_ELEMENTS = 2**25
_MOST_ROWS = 4096
# Share of the logits' deviation that an affine map may miss: GPUs multiply with 11 bits.
_MISFIT = 0.01
# Directions of the embedding with less than this share of the largest variance are rounding.
_LEAST_VARIANCE = 1e-12


@frozen
class Inputs:
    """What a detector works on, read from its class."""

    array: str  # "logits" or "embedding"
    method: str  # the library's word in `fit_...` and `predict_...`
    head: bool  # whether the constructor takes the classifier, which is computed from the logits
    needs: tuple[str, ...]
    reads: tuple[str, ...]


def inputs_of(cls: type) -> Inputs:
    api = library.module("api")
    for base, array, method in (
        (api.LogitsDetector, "logits", "logits"),
        (api.FeaturesDetector, "embedding", "features"),
        (api.FeatureMapsDetector, "embedding", "feature_maps"),
    ):
        if issubclass(cls, base):
            head = bool({"head", "w"} & inspect.signature(cls).parameters.keys())
            needs = (array, "logits") if head else (array,)
            return Inputs(array, method, head, needs, (*needs, "label"))
    raise TypeError(f"{cls.__name__} works on neither logits nor features")


class Detector(UnknownScorer):
    """Scores of a detector of the library.

    A detector that works on the weights of a linear classifier is given the affine map from
    embeddings to logits, found by least squares on the training features: the feature store does
    not hold the network. It is the classifier itself where there is one, except that directions
    in which no training sample varies get weight 0. Methods on feature maps (ReAct, ASH, ...) see
    the embedding as a map of one pixel, the penultimate layer that their papers use.

    What `fit` learnt is kept as arrays. A detector that holds something else (scikit-learn's
    search, Weibull distributions) is fitted again from the kept training features when a restored
    scorer is first used. All training features are held in memory while fitting.
    """

    def __init__(self, name: str, config: Any) -> None:
        self.name = name
        self._cls: Any = library.classes("detector")[name]
        self._arguments = asdict(config)
        self._inputs = inputs_of(self._cls)
        self.reads = self._inputs.reads
        self._detector: Any = None
        self._state: dict[str, Array] = {}

    def fit(self, source: FeatureSource) -> None:
        from openset_plugins.pytorch_ood.state import learned_arrays

        chunks = list(source.chunks(*self.reads))
        if not sum(len(table["label"]) for table in chunks):
            raise ValueError("there is no training sample to fit the scorer on")
        values = np.concatenate([_floats(table, self._inputs.array) for table in chunks])
        labels = np.concatenate([np.asarray(table["label"], dtype=np.int64) for table in chunks])
        state: dict[str, Array] = {"classes": np.array([source.num_classes], dtype=np.int64)}
        if self._inputs.head:
            logits = np.concatenate([_floats(table, "logits") for table in chunks])
            state["head.weight"], state["head.bias"] = affine_map(values, logits, self.name)
        detector = self._fitted(state, values, labels)
        arrays = learned_arrays(self._built(state), detector)
        if arrays is None:
            arrays = {"fit.values": values, "fit.labels": labels}
            self._detector = detector
        else:
            # Made again from the arrays, in whose layout every other process has them: products
            # with a transposed matrix round differently.
            self._detector = None
        self._state = {**state, **arrays}

    def _fitted(self, state: Mapping[str, Array], values: Array, labels: Array) -> Any:
        import torch

        detector = self._built(state)
        fit = getattr(detector, f"fit_{self._inputs.method}")
        if self._cls.requires_fit:
            with _errors_as_one_sentence(self.name, "be fitted"):
                fit(self._tensor(values), torch.from_numpy(labels))
        return detector

    def score(self, table: FeatureTable) -> npt.NDArray[np.float64]:
        """The library's scores; infinite ones become the largest float32.

        A sample that the library gives no score (NaN) counts as the most unknown, with a warning.
        """
        import torch

        values = _floats(table, self._inputs.array)
        detector = self._ready()
        predict = getattr(detector, f"predict_{self._inputs.method}")
        # Some detectors hold a row for each class.
        classes = int(self._state["classes"][0]) if "classes" in self._state else 1
        size = max(1, min(_MOST_ROWS, _BLOCK_ELEMENTS // max(1, classes * values.shape[1])))
        pieces = []
        for start in range(0, len(values), size):
            block = values[start : start + size]
            rows = len(block)
            if self.name in tables.COMPARES_IN_BATCH:
                every = np.eye(block.shape[1], dtype=np.float32)
                block = np.concatenate([block, every])
            with torch.no_grad(), _errors_as_one_sentence(self.name, "score"):
                pieces.append(predict(self._tensor(block)).double().numpy()[:rows])
        scores = np.concatenate(pieces) if pieces else np.zeros(0)
        missing = np.isnan(scores)
        if missing.any():
            # ASH, LTS and SCALE divide by a sample's activation, which may be none at all.
            logger.warning(
                "pytorch-ood:%s gives %d of %d samples no score; they count as the most unknown",
                self.name,
                missing.sum(),
                len(scores),
            )
            scores[missing] = np.inf
        # A divergence from what never happens is infinite; as a score it is the greatest there is.
        limit = float(np.finfo(np.float32).max)
        return np.clip(scores, -limit, limit)  # type: ignore[no-any-return]

    def _tensor(self, values: Array) -> Tensor:
        import torch

        tensor = torch.from_numpy(values)
        return tensor[:, :, None, None] if self._inputs.method == "feature_maps" else tensor

    def state(self) -> dict[str, Array]:
        """The classifier's weights and what the detector learnt, or what it is fitted on."""
        return dict(self._state)

    def restore(self, state: Mapping[str, Array]) -> None:
        expected = {"classes", *(("head.weight", "head.bias") if self._inputs.head else ())}
        missing = sorted(expected - state.keys())
        if missing:
            raise ValueError(f"the state of scorer pytorch-ood:{self.name} lacks {missing[0]!r}")
        self._state, self._detector = dict(state), None

    def _ready(self) -> Any:
        """The detector, made from the state where it is not there yet."""
        state = self._state
        if self._detector is None:
            if not state and (self._cls.requires_fit or self._inputs.head):
                raise RuntimeError(f"pytorch-ood:{self.name} scores only after fit or restore")
            if "fit.values" in state:
                self._detector = self._fitted(state, state["fit.values"], state["fit.labels"])
            else:
                from openset_plugins.pytorch_ood.state import take_back

                self._detector = take_back(self._built(state), state)
        return self._detector

    def _built(self, state: Mapping[str, Array]) -> Any:
        """A new detector with the user's options; the network is never called."""
        given: dict[str, Any] = {"encoder": None, "model": None, "backbone": None}
        if self._inputs.head:
            given.update(_classifier(state, self._inputs.method == "feature_maps"))
        wanted = inspect.signature(self._cls).parameters
        given = {key: value for key, value in given.items() if key in wanted}
        with _errors_as_one_sentence(self.name, "be built"):
            return self._cls(**given, **self._arguments)


@contextlib.contextmanager
def _errors_as_one_sentence(name: str, what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        if isinstance(error, AssertionError) and what == "be fitted":
            text = "it expects samples of every class"
        raise ValueError(f"pytorch-ood's {name} cannot {what}: {text}") from error


def _floats(table: FeatureTable, name: str) -> Array:
    """An array of the store as the network gave it, float32 [n, D]."""
    with np.errstate(over="ignore"):
        values = np.array(table[name], dtype=np.float32)
    if values.ndim != 2:
        raise ValueError(f"{name} must have shape [n, D], got {list(values.shape)}")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} holds values that are not finite in float32")
    return values


def affine_map(embedding: Array, logits: Array, name: str) -> tuple[Array, Array]:
    """Weights [K, E] and bias [K], float32, with logits [n, K] = embedding [n, E] W' + b."""
    x, y = embedding.astype(np.float64), logits.astype(np.float64)
    x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
    x -= x_mean
    y -= y_mean
    if not x.any():
        raise ValueError(f"pytorch-ood's {name} needs training embeddings that are not all equal")
    inverse = np.linalg.pinv(x.T @ x, rcond=_LEAST_VARIANCE, hermitian=True)
    weight = (inverse @ (x.T @ y)).T
    spread = float(np.sqrt(np.square(y).mean()))
    missed = float(np.sqrt(np.square(y - x @ weight.T).mean()))
    if missed > _MISFIT * spread:
        raise ValueError(
            f"pytorch-ood's {name} works on a linear classifier, but the logits of this run are "
            f"no affine map of the embedding (the best one misses {missed / spread:.0%} of their "
            "deviation); use a loss with a linear classifier on the embedding, such as softmax"
        )
    bias = (y_mean - weight @ x_mean).astype(np.float32)
    return np.ascontiguousarray(weight, dtype=np.float32), bias


def _classifier(state: Mapping[str, Array], maps: bool) -> dict[str, Any]:
    """The classifier under the names that constructors use."""
    import torch
    from torch import nn

    weight, bias = (torch.from_numpy(np.array(state[f"head.{key}"])) for key in ("weight", "bias"))
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    linear.load_state_dict({"weight": weight, "bias": bias})
    linear.requires_grad_(False)
    head = nn.Sequential(nn.Flatten(), linear) if maps else linear
    return {"head": head, "w": weight, "b": bias}
