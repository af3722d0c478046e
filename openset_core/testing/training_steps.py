"""What the training loop does with phases, in small."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from openset_core.components import Batch, OpenSetModel, Terms
from openset_core.experiment.training_options import TrainingOptions
from openset_core.testing import stubs
from openset_core.testing.report import fail
from openset_core.testing.tensors import tensor_text
from openset_core.training.optimisation import PhaseOptimizer, build_optimizers

EPOCHS = 4
"""Length of the run that phases with a schedule by epoch are told of."""

AfterPhase = Callable[[PhaseOptimizer], None]


def optimizers_of(model: OpenSetModel) -> list[PhaseOptimizer]:
    """The optimisers of a model's phases, as in training; SGD where a phase leaves it open."""
    return build_optimizers(model.phases(), TrainingOptions(lr=0.01, momentum=0.9))


@contextmanager
def only(model: nn.Module, item: PhaseOptimizer) -> Iterator[None]:
    """Freeze all that a phase does not update, as the training loop does."""
    kept = [p for module in item.phase.keeps_graph for p in module.parameters()]
    live = {id(parameter) for parameter in (*item.parameters, *kept)}
    frozen = [p for p in model.parameters() if p.requires_grad and id(p) not in live]
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)


def terms_of(item: PhaseOptimizer, batch: Batch) -> Terms:
    """A phase's terms.

    Raises:
        ContractViolation: they are anything but a dict of finite scalars.
    """
    terms = item.phase.loss(batch)
    if not isinstance(terms, Mapping) or not terms:
        fail(f"phase {item.phase.name} returned {tensor_text(terms)}")
    for name, term in terms.items():
        if not isinstance(term, Tensor) or term.shape != () or not term.is_floating_point():
            fail(f"term {name!r} of phase {item.phase.name} is {tensor_text(term)}")
        if not torch.isfinite(term):
            fail(f"term {name} of phase {item.phase.name} is {term.item()}")
    return dict(terms)


def total(terms: Terms) -> Tensor:
    """The sum that is minimised."""
    return torch.stack([term.float() for term in terms.values()]).sum()


def training_step(
    model: OpenSetModel,
    items: Sequence[PhaseOptimizer],
    batch: Batch,
    *,
    bf16: bool = False,
    before: AfterPhase | None = None,
    after_backward: AfterPhase | None = None,
    after: AfterPhase | None = None,
) -> None:
    """One training step: every active phase in order, each with a batch of its own and common
    notes. The functions are called before a phase, while its gradients are there, and after it.
    """
    memo: dict[str, Any] = {}
    for item in items:
        if not item.phase.active(batch.epoch, batch.epochs):
            continue
        own = Batch(
            batch.images,
            batch.labels,
            backbone=model.backbone,
            epoch=batch.epoch,
            epochs=batch.epochs,
            memo=memo,
        )
        if before is not None:
            before(item)
        with only(model, item):
            with torch.autocast(batch.images.device.type, torch.bfloat16, enabled=bf16):
                terms = terms_of(item, own)
            loss = total(terms)
            if not loss.requires_grad:
                fail(f"the terms of phase {item.phase.name} depend on nothing that it updates")
            loss.backward()  # type: ignore[no-untyped-call]
        if after_backward is not None:
            after_backward(item)
        item.optimizer.step()
        for parameter in model.parameters():
            parameter.grad = None
        if after is not None:
            after(item)


def train(
    model: OpenSetModel, *, count: int = 12, repeat: int = 1, device: Any = "cpu", **how: Any
) -> None:
    """A step, or `repeat` steps, in each of the epochs that it takes to see all phases.

    Args:
        model: all that is trained.
        count: images of a step.
        repeat: steps an epoch.
        device: of the images and labels.
        **how: see `training_step`.
    """
    model.train()
    items = optimizers_of(model)
    for epoch in epochs_with_all_phases(items) * repeat:
        images, labels = (tensor.to(device) for tensor in stubs.learnable_images(count))
        batch = Batch(images, labels, backbone=model.backbone, epoch=epoch, epochs=EPOCHS)
        training_step(model, items, batch, **how)


def epochs_with_all_phases(items: Sequence[PhaseOptimizer]) -> list[int]:
    """Epochs in which every phase is active at least once, for schedules by epoch.

    Raises:
        ContractViolation: some phase is active in none.
    """
    needed, chosen = set(range(len(items))), []
    for epoch in range(EPOCHS):
        active = {n for n in needed if items[n].phase.active(epoch, EPOCHS)}
        if active:
            chosen.append(epoch)
            needed -= active
    if needed:
        names = ", ".join(items[number].phase.name for number in sorted(needed))
        fail(f"phase {names} is active in none of {EPOCHS} epochs")
    return chosen
