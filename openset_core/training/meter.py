"""Running means of loss terms, and the first step at which one was no finite number."""

from __future__ import annotations

import torch
from torch import Tensor

from openset_core.components import Terms
from openset_core.errors import TrainingError


class TermMeter:
    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._first_bad: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._names: dict[str, list[str]] = {}

    def add(self, phase: str, terms: Terms, step: int) -> None:
        """Add the terms of one phase in one step, without waiting for the device."""
        values = torch.stack([value.detach().float() for value in terms.values()])
        bad = torch.where(torch.isfinite(values), torch.inf, float(step))
        if phase not in self._sums:
            self._names[phase] = [f"{phase}/{name}" for name in terms]
            self._sums[phase], self._first_bad[phase] = values.clone(), bad
            self._counts[phase] = 1
            return
        self._sums[phase] += values
        torch.minimum(self._first_bad[phase], bad, out=self._first_bad[phase])
        self._counts[phase] += 1

    def means(self) -> dict[str, float]:
        """Mean of each term, by `phase/term`; waits for the device."""
        return {
            name: value
            for phase, names in self._names.items()
            for name, value in zip(
                names, (self._sums[phase] / self._counts[phase]).tolist(), strict=True
            )
        }

    def check(self, epoch: int) -> None:
        """Refuse a term that was not finite, the first to be computed; waits for the device."""
        worst: tuple[float, str] | None = None
        for phase, names in self._names.items():
            for name, step in zip(names, self._first_bad[phase].tolist(), strict=True):
                if step != torch.inf and (worst is None or step < worst[0]):
                    worst = (step, name)
        if worst is not None:
            phase, _, term = worst[1].partition("/")
            raise TrainingError(
                f"training stopped in epoch {epoch + 1}, step {int(worst[0]) + 1}: term {term} of "
                f"phase {phase} is no longer a finite number; the last good checkpoint is kept, "
                "try a lower --set training.lr"
            )
