"""The unknown scorer's contract: from stored features to how unknown a sample is.

NumPy only: scoring a finished run needs neither torch nor the network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import nn

Array = npt.NDArray[Any]
FeatureTable = Mapping[str, Array]
"""Rows of the feature store by array name: `embedding` [n, E], `logits` [n, K], `label` [n]
(int64), `index` [n] (row in the data set), and any extra arrays the loss provides."""


class FeatureSource(Protocol):
    """The training features that a scorer is fitted on."""

    @property
    def num_classes(self) -> int:
        """K, number of known classes."""

    @property
    def rows(self) -> int:
        """Number of training samples."""

    def chunks(self, *arrays: str) -> Iterator[FeatureTable]:
        """The named arrays, some thousand rows at a time; can be called again."""


class UnknownScorer:
    """Base of every scorer. HIGHER = MORE UNKNOWN, always.

    A subclass implements `score`, and `fit`, `state` and `restore` when it learns.

    Attributes:
        reads: arrays of the feature store that `fit` and `score` use.
    """

    reads: tuple[str, ...] = ("logits",)

    def fit(self, source: FeatureSource) -> None:
        """Learn from the training features; by default nothing."""

    def score(self, table: FeatureTable) -> npt.NDArray[np.float64]:
        """How unknown each row is, float64 [n], all finite."""
        raise NotImplementedError

    def probabilities(self, table: FeatureTable) -> npt.NDArray[np.float64] | None:
        """Revised class probabilities [n, K+1], the unknown last; None where there are none."""
        return None

    def torch_module(self) -> nn.Module | None:
        """The fitted scorer for export, as a torch module; None (the default) where it has none.

        Its `forward({"embedding": float32 [n, E], "logits": float32 [n, K]})` gives what `score`
        gives for the same arrays, float64 [n], by operations that `torch.export` can trace for
        any n of 1 or more. What `fit` learnt belongs into buffers. An export is compared with
        `score` and refused where they differ.
        """
        return None

    def state(self) -> dict[str, Array]:
        """What `fit` learnt, as arrays; saved with the model."""
        return {}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take back what `state` returned."""
