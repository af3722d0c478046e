"""Scorers over single logit vectors, in float64."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openset_core import FormulaScorer, NoOptions
from openset_plugins.logit_scorers import TemperatureOptions


class TemperatureScorer(FormulaScorer):
    """Base: logits divided by a temperature.

    With d_k = (v_k - max v) / T, the odds of class k against the top class are exp(d_k). The sum
    over all classes but the top one keeps its precision where the largest probability rounds to
    1 and a subtraction would leave nothing but ties.
    """

    def __init__(self, config: TemperatureOptions) -> None:
        self.temperature = config.temperature

    def formula(self, xp: Any, table: Mapping[str, Any], learned: Mapping[str, Any]) -> Any:
        scaled = table["logits"] / self.temperature
        top = xp.amax(scaled, axis=1, keepdims=True)
        below = scaled - top
        odds = xp.exp(below)
        lower = xp.sum(xp.where(below < 0, odds, 0.0), axis=1)
        equal = xp.sum(xp.where(below < 0, 0.0, odds), axis=1)  # classes that share the maximum
        return self.of(xp, top[:, 0], below, odds, lower + (equal - 1.0))

    def of(self, xp: Any, top: Any, below: Any, odds: Any, others: Any) -> Any:
        """The score [n], from max v / T, d, exp(d) and the sum of the odds of the other classes."""
        raise NotImplementedError


class MaximumSoftmaxProbability(TemperatureScorer):
    """1 - max_k softmax(v / T)_k, in [0, 1 - 1/K], as the probability of all other classes."""

    def of(self, xp: Any, top: Any, below: Any, odds: Any, others: Any) -> Any:
        return others / (1.0 + others)


class Entropy(TemperatureScorer):
    """-sum_k p_k log p_k with p = softmax(v / T), in nats, in [0, log K].

    It is log(sum o) - sum o d / sum o for odds o = exp(d). No term is negative, and the top class,
    whose o is 1, adds only to the first: nothing cancels where p rounds to 1.
    """

    def of(self, xp: Any, top: Any, below: Any, odds: Any, others: Any) -> Any:
        return xp.log1p(others) - xp.sum(odds * below, axis=1) / (1.0 + others)


class Energy(TemperatureScorer):
    """-T log sum_k exp(v_k / T), Eq. 4."""

    def of(self, xp: Any, top: Any, below: Any, odds: Any, others: Any) -> Any:
        return -self.temperature * (top + xp.log1p(others))


class MaximumLogit(FormulaScorer):
    def __init__(self, _config: NoOptions) -> None:
        pass

    def formula(self, xp: Any, table: Mapping[str, Any], learned: Mapping[str, Any]) -> Any:
        return -xp.amax(table["logits"], axis=1)
