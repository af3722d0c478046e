"""OpenMax as an unknown scorer over the feature store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from openset_core import FeatureSource, FeatureTable, UnknownScorer
from openset_plugins.openmax import OpenMaxOptions
from openset_plugins.openmax.openmax import (
    OpenMaxFit,
    OpenMaxParameters,
    fit_openmax,
    revise,
    unknown_score,
)

if TYPE_CHECKING:
    from torch import nn

Floats = npt.NDArray[np.float64]


class OpenMax(UnknownScorer):
    """The unknown class's probability, or its log-odds.

    Args:
        config: options.
    """

    reads = ("logits", "label")

    def __init__(self, config: OpenMaxOptions) -> None:
        self.form = config.score.replace("-", "_")
        options: Any = config  # its validators allow the same words
        self.parameters = OpenMaxParameters(
            tail_size=config.tail_size,
            alpha=config.alpha,
            distance=options.distance,
            shift=config.shift,
            negative=options.negative,
        )
        self._fit: OpenMaxFit | None = None

    def fit(self, source: FeatureSource) -> None:
        """Fit mean activation vectors and Weibulls to correctly classified training samples."""

        def chunks() -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
            for table in source.chunks("logits", "label"):
                yield table["logits"], table["label"]

        self._fit = fit_openmax(chunks, self.parameters)

    def score(self, table: FeatureTable) -> Floats:
        """How unknown each row is, float64 [n]."""
        form: Any = self.form
        return unknown_score(self.fitted, table["logits"], form=form)

    def probabilities(self, table: FeatureTable) -> Floats:
        """OpenMax probabilities [n, K+1], the unknown class last."""
        return revise(self.fitted, table["logits"])

    @property
    def fitted(self) -> OpenMaxFit:
        """What `fit` learnt.

        Raises:
            RuntimeError: `fit` or `restore` was not called.
        """
        if self._fit is None:
            raise RuntimeError("OpenMax scores only after fit or restore")
        return self._fit

    def torch_module(self) -> nn.Module:
        """The same by torch, for export."""
        from openset_plugins.openmax.torch_form import OpenMaxModule

        return OpenMaxModule(self.fitted, self.form)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """The fit as arrays."""
        return self.fitted.to_arrays()

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take back what `state` returned."""
        self._fit = OpenMaxFit.from_arrays(dict(state), self.parameters)
