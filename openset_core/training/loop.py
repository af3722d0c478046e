"""The training loop: epochs of steps, steps of phases. It knows no method."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from openset_core.components import Batch, OpenSetModel, Phase, Terms
from openset_core.data.augmentation import Augmentation
from openset_core.data.loading import Loader
from openset_core.data.randaugment import RandAugment
from openset_core.errors import TrainingError
from openset_core.experiment.training_options import TrainingOptions
from openset_core.observers import EpochScores, Observers
from openset_core.training import checkpoint
from openset_core.training.callbacks import event_callbacks
from openset_core.training.meter import TermMeter
from openset_core.training.optimisation import PhaseOptimizer, build_optimizers


class PhaseRunner(nn.Module):
    """One call computes one phase's terms, so that data-parallel wrappers see a whole pass."""

    def __init__(self, model: OpenSetModel, phases: list[Phase]) -> None:
        super().__init__()
        self.model = model
        self._phases = phases
        self._memo: dict[str, Any] = {}  # what the phases of a step note for each other

    def new_step(self) -> None:
        self._memo = {}

    def forward(
        self, number: int, images: Tensor, labels: Tensor, epoch: int, epochs: int
    ) -> Terms:
        batch = Batch(
            images,
            labels,
            backbone=self.model.backbone,
            epoch=epoch,
            epochs=epochs,
            memo=self._memo,
        )
        return self._phases[number].loss(batch)


def build_augmentation(options: TrainingOptions) -> Augmentation:
    randaugment = RandAugment(
        operations=options.randaugment_ops,
        magnitude=options.randaugment_magnitude,
        placement=options.randaugment_placement,
    )
    return Augmentation(
        randaugment=randaugment if options.randaugment_ops else None,
        resized_crop=options.resized_crop,
        crop_padding=options.crop_padding,
        flip=options.flip,
    )


class Trainer:
    def __init__(
        self,
        model: OpenSetModel,
        loader: Loader,
        validation: Loader,
        options: TrainingOptions,
        *,
        seed: int,
        accelerator: Any,
        checkpoints: Path,
        observers: Observers,
        should_stop: Callable[[], None] = lambda: None,
        evaluate: Callable[[], Mapping[str, EpochScores]] | None = None,
    ) -> None:
        self.model, self.loader, self.validation = model, loader, validation
        self.options, self.accelerator = options, accelerator
        self.checkpoints, self.should_stop = checkpoints, should_stop
        self.augmentation = build_augmentation(options)
        self.order = torch.Generator().manual_seed(seed)
        phases = model.phases()  # a generator may give the backbone a second side here
        self.trainable = [p for p in model.parameters() if p.requires_grad]
        self.optimizers = build_optimizers(phases, options)
        self.plain_runner = PhaseRunner(model, phases)
        self.runner = accelerator.prepare_model(self.plain_runner)
        self.callbacks = event_callbacks(
            observers, model, loader, options.epochs, accelerator, evaluate
        )
        if options.compile:
            model.backbone.compile()

    def fit(self, metrics: Callable[[dict[str, Any]], None]) -> None:
        """Train until the last epoch; `metrics` takes each epoch's record before its checkpoint."""
        state = self.model, self.optimizers, self.order
        first = checkpoint.resume(self.checkpoints, *state)
        for callback in self.callbacks:
            callback.on_train_start(first)
        for epoch in range(first, self.options.epochs):
            begun = time.perf_counter()
            terms, images_per_second = self._epoch(epoch)
            record = {
                "epoch": epoch + 1,
                "terms": terms,
                "rate": self.optimizers[-1].rate,
                "validation_accuracy": self.accuracy(),
                "seconds": round(time.perf_counter() - begun, 3),
                "images_per_second": round(images_per_second, 1),
            }
            if self.accelerator.is_main_process:
                metrics(record)
                checkpoint.save(self.checkpoints, checkpoint.capture(epoch + 1, *state))
            self.accelerator.wait_for_everyone()
            for callback in self.callbacks:
                callback.on_epoch_end(epoch, record)
            if epoch + 1 < self.options.epochs:
                self.should_stop()

    def _epoch(self, epoch: int) -> tuple[dict[str, float], float]:
        self.model.train()
        meter, steps = TermMeter(), len(self.loader)
        active = [
            (number, item)
            for number, item in enumerate(self.optimizers)
            if item.phase.active(epoch, self.options.epochs)
        ]
        if not active:
            raise TrainingError(f"no phase is active in epoch {epoch + 1}")
        for callback in self.callbacks:
            callback.on_epoch_start(epoch)
        begun = time.perf_counter()
        batches = self.loader.shuffled(self.order, self.augmentation)
        for step, (images, labels) in enumerate(batches):
            for callback in self.callbacks:
                callback.on_step_start(epoch, step, images)
            self.plain_runner.new_step()
            for number, item in active:
                item.set_rate(epoch + step / steps)
                terms = self._update(number, item, images, labels, epoch)
                meter.add(item.phase.name, terms, step)
            for callback in self.callbacks:
                callback.on_step_end(epoch, step, meter, active[-1][1].rate)
            self.should_stop()
        means = meter.means()  # waits for the device, so the time below is whole
        seconds = time.perf_counter() - begun
        meter.check(epoch)
        return means, self.loader.samples / seconds

    def _update(
        self, number: int, item: PhaseOptimizer, images: Tensor, labels: Tensor, epoch: int
    ) -> Terms:
        with item.only_own_gradients(self.trainable):
            terms: Terms = self.runner(number, images, labels, epoch, self.options.epochs)
            if not terms:
                raise TrainingError(f"phase {item.phase.name} returned no loss term")
            loss = torch.stack([value.float() for value in terms.values()]).sum()
            self.accelerator.backward(loss)
        item.optimizer.step()
        item.optimizer.zero_grad(set_to_none=True)
        return terms

    @torch.inference_mode()
    def accuracy(self) -> float:
        self.model.eval()
        correct = torch.zeros((), device=self.loader.labels.device)
        for images, labels, _index in self.validation.in_order():
            with self.accelerator.autocast():
                _embedding, logits = self.model(images)
            correct += (logits.argmax(dim=1) == labels).sum()
        return float(correct) / self.validation.samples
