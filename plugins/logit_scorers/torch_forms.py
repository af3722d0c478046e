"""The scorers over single logit vectors as torch modules, for export."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class LogitModule(nn.Module):
    """Base: logits in float64, divided by a temperature.

    Args:
        temperature: T.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, table: Mapping[str, Tensor]) -> Tensor:
        """Scores of a table with `logits` [n, K], float64 [n]."""
        return self.score(table["logits"].double() / self.temperature)

    def score(self, scaled: Tensor) -> Tensor:
        """Scores from divided logits, float64 [n, K] to [n]."""
        raise NotImplementedError


def odds_below(scaled: Tensor) -> tuple[Tensor, Tensor]:
    """exp(v_k - max v), which is 0 in the top class's place, and v_k - max v, both [n, K]."""
    below = scaled - scaled.max(dim=1, keepdim=True).values
    classes = torch.arange(scaled.shape[1], device=scaled.device)
    top = classes == scaled.argmax(dim=1, keepdim=True)
    return torch.where(top, 0.0, below.exp()), below


class MaximumSoftmaxProbabilityModule(LogitModule):
    """1 - max_k softmax(v / T)_k."""

    def score(self, scaled: Tensor) -> Tensor:
        """See the scorer."""
        odds = odds_below(scaled)[0].sum(dim=1)
        return odds / (1.0 + odds)


class EntropyModule(LogitModule):
    """-sum_k p_k log p_k."""

    def score(self, scaled: Tensor) -> Tensor:
        """See the scorer."""
        odds, below = odds_below(scaled)
        others = odds.sum(dim=1)
        return others.log1p() - (odds * below).sum(dim=1) / (1.0 + others)


class MaximumLogitModule(LogitModule):
    """-max_k v_k."""

    def score(self, scaled: Tensor) -> Tensor:
        """See the scorer."""
        return -scaled.max(dim=1).values


class EnergyModule(LogitModule):
    """-T log sum_k exp(v_k / T)."""

    def score(self, scaled: Tensor) -> Tensor:
        """See the scorer."""
        return -self.temperature * scaled.logsumexp(dim=1)
