"""Scorers over single logit vectors, in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

from openset_core import FeatureTable, NoOptions, UnknownScorer
from openset_plugins.logit_scorers import TemperatureOptions

if TYPE_CHECKING:
    from torch import nn

Scores = npt.NDArray[np.float64]


def _logits(table: FeatureTable) -> Scores:
    return np.asarray(table["logits"], dtype=np.float64)


class MaximumSoftmaxProbability(UnknownScorer):
    """1 - max_k softmax(v / T)_k, in [0, 1 - 1/K].

    Computed as the probability of all other classes, which keeps its precision where the
    largest probability rounds to 1 and a subtraction would leave nothing but ties.
    """

    def __init__(self, config: TemperatureOptions) -> None:
        self.temperature = config.temperature

    def score(self, table: FeatureTable) -> Scores:
        """Probability that the predicted class is wrong, float64 [n]."""
        scaled = _logits(table) / self.temperature
        top = scaled.argmax(axis=1)[:, None]
        others = scaled - np.take_along_axis(scaled, top, axis=1)
        np.put_along_axis(others, top, -np.inf, axis=1)
        odds = np.exp(others).sum(axis=1)
        scores: Scores = odds / (1.0 + odds)
        return scores

    def torch_module(self) -> nn.Module:
        """The same by torch, for export."""
        from openset_plugins.logit_scorers.torch_forms import MaximumSoftmaxProbabilityModule

        return MaximumSoftmaxProbabilityModule(self.temperature)


class Entropy(UnknownScorer):
    """-sum_k p_k log p_k with p = softmax(v / T), in nats, in [0, log K].

    With o_k = exp((v_k - max v) / T) it is log(sum o) - sum o log o / sum o. No term is negative,
    and the top class, whose o is 1, adds only to the first: nothing cancels where p rounds to 1.
    """

    def __init__(self, config: TemperatureOptions) -> None:
        self.temperature = config.temperature

    def score(self, table: FeatureTable) -> Scores:
        """Entropy of the class probabilities, float64 [n]."""
        scaled = _logits(table) / self.temperature
        top = scaled.argmax(axis=1)[:, None]
        below = scaled - np.take_along_axis(scaled, top, axis=1)
        odds = np.exp(below)
        weighted = -(odds * below).sum(axis=1)
        np.put_along_axis(odds, top, 0.0, axis=1)
        others = odds.sum(axis=1)
        scores: Scores = np.log1p(others) + weighted / (1.0 + others)
        return scores

    def torch_module(self) -> nn.Module:
        """The same by torch, for export."""
        from openset_plugins.logit_scorers.torch_forms import EntropyModule

        return EntropyModule(self.temperature)


class MaximumLogit(UnknownScorer):
    """-max_k v_k."""

    def __init__(self, _config: NoOptions) -> None:
        pass

    def score(self, table: FeatureTable) -> Scores:
        """The largest logit, negated, float64 [n]."""
        scores: Scores = -_logits(table).max(axis=1)
        return scores

    def torch_module(self) -> nn.Module:
        """The same by torch, for export."""
        from openset_plugins.logit_scorers.torch_forms import MaximumLogitModule

        return MaximumLogitModule()


class Energy(UnknownScorer):
    """-T log sum_k exp(v_k / T), Eq. 4."""

    def __init__(self, config: TemperatureOptions) -> None:
        self.temperature = config.temperature

    def score(self, table: FeatureTable) -> Scores:
        """Free energy, float64 [n]."""
        scaled = _logits(table) / self.temperature
        return -self.temperature * np.asarray(logsumexp(scaled, axis=1), dtype=np.float64)

    def torch_module(self) -> nn.Module:
        """The same by torch, for export."""
        from openset_plugins.logit_scorers.torch_forms import EnergyModule

        return EnergyModule(self.temperature)
