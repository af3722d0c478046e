"""What the training loop does with phases, in small."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from openset_core.components import Batch, OpenSetModel, Terms
from openset_core.experiment.training_options import TrainingOptions
from openset_core.testing import stubs
from openset_core.testing.report import fail
from openset_core.testing.tensors import tensor_text
from openset_core.training.optimisation import PhaseOptimizer, build_optimizers

EPOCHS = 4
"""Length of the run that phases with a schedule by epoch are told of."""


def optimizers_of(model: OpenSetModel) -> list[PhaseOptimizer]:
    """The optimisers of a model's phases, as in training; SGD where a phase leaves it open."""
    return build_optimizers(model.phases(), TrainingOptions(lr=0.01, momentum=0.9))


def terms_of(item: PhaseOptimizer, batch: Batch) -> Terms:
    """A phase's terms, which must be a dict of finite scalars."""
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
    return torch.stack([term.float() for term in terms.values()]).sum()


def _nothing(_item: PhaseOptimizer) -> None:
    pass


def training_step(
    model: OpenSetModel,
    items: Sequence[PhaseOptimizer],
    batch: Batch,
    *,
    bf16: bool = False,
    before: Callable[[PhaseOptimizer], None] = _nothing,
    after_backward: Callable[[PhaseOptimizer], None] = _nothing,
    after: Callable[[PhaseOptimizer], None] = _nothing,
) -> None:
    """Every active phase in order, each with a batch of its own and common notes. The functions
    are called before a phase, while its gradients are there, and after it."""
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
        before(item)
        with item.only_own_gradients([p for p in model.parameters() if p.requires_grad]):
            with torch.autocast(batch.images.device.type, torch.bfloat16, enabled=bf16):
                terms = terms_of(item, own)
            loss = total(terms)
            if not loss.requires_grad:
                fail(f"the terms of phase {item.phase.name} depend on nothing that it updates")
            loss.backward()  # type: ignore[no-untyped-call]
        after_backward(item)
        item.optimizer.step()
        model.zero_grad(set_to_none=True)
        after(item)


def train(
    model: OpenSetModel, *, count: int = 12, repeat: int = 1, device: Any = "cpu", **how: Any
) -> None:
    """`repeat` steps of `count` images in each of the epochs that it takes to see all phases;
    `how` goes to `training_step`."""
    model.train()
    items = optimizers_of(model)
    for epoch in epochs_with_all_phases(items) * repeat:
        images, labels = (tensor.to(device) for tensor in stubs.learnable_images(count))
        batch = Batch(images, labels, backbone=model.backbone, epoch=epoch, epochs=EPOCHS)
        training_step(model, items, batch, **how)


def epochs_with_all_phases(items: Sequence[PhaseOptimizer]) -> list[int]:
    """Epochs in which every phase is active at least once, for schedules by epoch."""
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
