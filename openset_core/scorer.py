"""The unknown scorer's contract: from stored features to how unknown a sample is.

Scoring a finished run needs neither torch nor the network, so this module imports NumPy only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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


class FormulaScorer(UnknownScorer):
    """A scorer whose score is one formula, written once for NumPy and torch.

    `score` applies the formula to stored arrays, in blocks of rows that fit into the cache;
    `torch_module` is the same formula for export. A subclass implements `formula`, and `fit`,
    `state` and `restore` when it learns:

        class MaximumLogit(FormulaScorer):
            def formula(self, xp, table, learned):
                return -xp.amax(table["logits"], axis=1)
    """

    block_elements = 2**20
    """Float64 numbers that a block's largest array holds, about: 8 MB."""

    def formula(self, xp: Any, table: Mapping[str, Any], learned: Mapping[str, Any]) -> Any:
        """How unknown each row is, [n]; uses neither its neighbours nor their number.

        Args:
            xp: `numpy` or `torch`; functions that both have under one name take `axis` and
                `keepdims` in both (`sum`, `amax`, `where`, `exp`, `concatenate`, ...).
            table: the arrays that `reads` names, but the label, float64.
            learned: the arrays of `learned`, of the same kind and in their own types.
        """
        raise NotImplementedError

    def learned(self) -> Mapping[str, Array]:
        """The arrays that the formula uses, by default all of the state."""
        return self.state()

    def inputs(self, table: FeatureTable) -> dict[str, npt.NDArray[np.float64]]:
        """The arrays that the formula reads, float64; a subclass can refuse them here."""
        return {name: np.asarray(table[name], dtype=np.float64) for name in self._names}

    def row_elements(self, width: int) -> int:
        """Numbers that a row takes in the formula's largest array.

        Args:
            width: columns of the widest array that the formula reads.
        """
        return width

    def score(self, table: FeatureTable) -> npt.NDArray[np.float64]:
        """The formula's values, float64 [n]."""
        scores: npt.NDArray[np.float64] = self.in_blocks(self.formula, table)
        return scores

    def in_blocks(self, formula: Callable[..., Any], table: FeatureTable) -> Any:
        """The values of this or another formula of the same arguments, by NumPy."""
        inputs, learned = self.inputs(table), self.learned()
        rows = len(next(iter(inputs.values())))
        width = max(array.shape[1] for array in inputs.values())
        size = max(64, self.block_elements // max(1, self.row_elements(width)))
        return np.concatenate(
            [
                formula(np, {name: a[start : start + size] for name, a in inputs.items()}, learned)
                for start in range(0, max(1, rows), size)
            ]
        )

    def torch_module(self) -> nn.Module:
        """The formula as a torch module, with what it learnt in buffers."""
        import torch

        scorer, names, learned = self, self._names, self.learned()

        class Formula(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                for name, array in learned.items():
                    self.register_buffer(name, torch.from_numpy(np.array(array)))

            def forward(self, table: Mapping[str, torch.Tensor]) -> Any:
                arrays = {name: table[name].double() for name in names}
                return scorer.formula(torch, arrays, dict(self.named_buffers()))

        return Formula()

    @property
    def _names(self) -> list[str]:
        return [name for name in self.reads if name not in ("label", "index")]
