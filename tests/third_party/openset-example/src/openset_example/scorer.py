"""The scorer."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from openset_core import FeatureTable, UnknownScorer
from openset_example import ScorerOptions


class Margin(UnknownScorer):
    """Second largest logit minus the largest, over the temperature: at most 0."""

    reads = ("logits",)

    def __init__(self, config: ScorerOptions) -> None:
        self.temperature = config.temperature

    def score(self, table: FeatureTable) -> npt.NDArray[np.float64]:
        """How unknown each row is."""
        top = np.sort(table["logits"].astype(np.float64), axis=1)[:, -2:]
        scores: npt.NDArray[np.float64] = (top[:, 0] - top[:, 1]) / self.temperature
        return scores
