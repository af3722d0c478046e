"""Optimisers and schedules of phases."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from typing import Any

import attrs
import torch
from torch import nn

from openset_core.components import Phase
from openset_core.errors import CompositionError
from openset_core.experiment.training_options import TrainingOptions


def rate_factor(options: TrainingOptions, schedule: str, progress: float) -> float:
    """Factor on the learning rate after `progress` epochs, fractions included."""
    warmup = min(options.warmup_epochs, float(options.epochs))
    if schedule == "cosine" and options.restarts:
        return _restarting_cosine(options, progress, warmup)
    if schedule != "constant" and progress < warmup:
        start = options.final_factor
        return start + (1.0 - start) * progress / warmup
    if schedule == "step":
        return float(options.step_factor ** int(progress / options.step_epochs))
    if schedule in ("cosine", "one-cycle"):
        span = max(options.epochs - warmup, 1e-9)
        done = min(max((progress - warmup) / span, 0.0), 1.0)
        final = options.final_factor
        return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * done))
    return 1.0


def _restarting_cosine(options: TrainingOptions, progress: float, warmup: float) -> float:
    """Cosine in cycles of equal length (Vaze et al., ICLR 2022), its rate changing each step."""
    cycle = options.epochs / (options.restarts + 1)
    warmup = min(warmup, cycle / 2)  # for runs much shorter than the recipe
    final = options.final_factor

    def cosine(epochs: float) -> float:
        return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * (epochs % cycle) / cycle))

    if progress < warmup:
        return final + (cosine(warmup) - final) * progress / warmup
    return cosine(progress)


@attrs.frozen
class PhaseOptimizer:
    phase: Phase
    optimizer: torch.optim.Optimizer
    parameters: list[nn.Parameter]
    schedule: str
    options: TrainingOptions

    def set_rate(self, progress: float) -> None:
        """Set the learning rate for a point of training, in epochs."""
        factor = rate_factor(self.options, self.schedule, progress)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor

    @property
    def rate(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    @contextlib.contextmanager
    def only_own_gradients(self, trainable: list[nn.Parameter]) -> Iterator[None]:
        """Freeze what the phase does not update; gradients still pass through it."""
        if len(self.parameters) == len(trainable):
            yield
            return
        kept = (p for module in self.phase.keeps_graph for p in module.parameters())
        live = set(map(id, (*self.parameters, *kept)))
        frozen = [p for p in trainable if id(p) not in live]
        for parameter in frozen:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in frozen:
                parameter.requires_grad_(True)


def build_optimizers(phases: Iterable[Phase], options: TrainingOptions) -> list[PhaseOptimizer]:
    """The optimisers of all phases, in order; a phase may share an earlier one's."""
    built: dict[str, PhaseOptimizer] = {}
    for phase in phases:
        if phase.shares_optimizer is None:
            built[phase.name] = build_optimizer(phase, options)
        elif phase.shares_optimizer in built:
            built[phase.name] = attrs.evolve(built[phase.shares_optimizer], phase=phase)
        else:
            raise CompositionError(
                f"phase {phase.name} shares the optimiser of {phase.shares_optimizer}, which is no "
                "earlier phase"
            )
    return list(built.values())


def build_optimizer(phase: Phase, options: TrainingOptions) -> PhaseOptimizer:
    """The optimiser of one phase; what its recipe leaves open follows the options."""
    recipe = phase.optimizer
    groups = _groups(phase.updates, _chosen(recipe.lr, options.lr))
    parameters = [parameter for group in groups for parameter in group["params"]]
    if not parameters:
        raise CompositionError(
            f"phase {phase.name} has no parameters to train; all that it updates is frozen"
        )
    name = recipe.optimizer or options.optimizer
    decay = _chosen(recipe.weight_decay, options.weight_decay)
    optimizer: torch.optim.Optimizer
    if name == "sgd":
        momentum = _chosen(recipe.momentum, options.momentum)
        optimizer = torch.optim.SGD(
            groups,
            momentum=momentum,
            weight_decay=decay,
            nesterov=options.nesterov and momentum > 0,
            fused=True,
        )
    else:
        kind = torch.optim.Adam if name == "adam" else torch.optim.AdamW
        betas = recipe.betas or options.betas
        optimizer = kind(groups, betas=betas, weight_decay=decay, fused=True)
    return PhaseOptimizer(
        phase, optimizer, parameters, recipe.schedule or options.schedule, options
    )


def _chosen(own: float | None, general: float) -> float:
    return general if own is None else own


def _groups(updates: Iterable[nn.Module | nn.Parameter], lr: float) -> list[dict[str, Any]]:
    """Parameter groups by rate, every trainable parameter once."""
    seen: set[int] = set()
    by_rate: dict[float, list[nn.Parameter]] = {}
    for item in updates:
        rate = float(getattr(item, "rate", 1.0)) if isinstance(item, nn.Module) else 1.0
        members = item.parameters() if isinstance(item, nn.Module) else [item]
        for parameter in members:
            if parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                by_rate.setdefault(rate, []).append(parameter)
    return [
        {"params": parameters, "lr": lr * rate, "initial_lr": lr * rate}
        for rate, parameters in by_rate.items()
    ]
