"""The training loop: epochs of steps, steps of phases. It knows no method."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from openset_core.auxiliary_batchnorm import AuxiliaryBatchNorm
from openset_core.components import Batch, OpenSetModel, Phase, Terms
from openset_core.data.augmentation import Augmentation
from openset_core.data.loading import Loader
from openset_core.data.randaugment import RandAugment
from openset_core.errors import TrainingError
from openset_core.experiment.training_options import TrainingOptions
from openset_core.observers import (
    EpochDone,
    EpochScores,
    EpochTested,
    ImagesSeen,
    Observers,
    ParametersRead,
    SamplesDrawn,
    StepsDone,
    TrainingStarted,
)
from openset_core.training import checkpoint
from openset_core.training.optimisation import PhaseOptimizer, build_optimizers
from openset_core.training.samples import SAMPLES, draw_samples, parameter_values, pixels_of

REPORT_SECONDS = 1.0
"""Time between two looks at the running losses; each look waits for the device."""


class PhaseRunner(nn.Module):
    """One call computes one phase's terms, so that data-parallel wrappers see a whole pass."""

    def __init__(self, model: OpenSetModel, phases: list[Phase]) -> None:
        super().__init__()
        self.model = model
        self._phases = phases
        self._memo: dict[str, Any] = {}

    def new_step(self) -> None:
        """Forget what the phases of the last step noted."""
        self._memo = {}

    def forward(
        self, number: int, images: Tensor, labels: Tensor, epoch: int, epochs: int
    ) -> Terms:
        """Terms of phase `number` for a batch."""
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
    """The random changes of training images that training options ask for."""
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


class TermMeter:
    """Running means of loss terms, kept on the device, and the first step that was not finite."""

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
        """Mean of each term, by `phase/term`."""
        return {
            name: value
            for phase, names in self._names.items()
            for name, value in zip(
                names, (self._sums[phase] / self._counts[phase]).tolist(), strict=True
            )
        }

    def check(self, epoch: int) -> None:
        """Raise `TrainingError` for a term that was not finite, the earliest in the epoch.

        Within a step, phases and terms count in the order in which they are computed.
        """
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


class Trainer:
    """Trains a model and keeps a checkpoint of every epoch.

    Args:
        model: backbone, loss and generator.
        loader: training images on this process's device.
        validation: held-out known images, for the accuracy of each epoch.
        options: training options.
        seed: seed of the data order and the augmentation.
        accelerator: a Hugging Face `Accelerator`.
        checkpoints: folder of the resume state.
        observers: who is told.
        should_stop: asked after every step; raises to stop.
        evaluate: metrics on the test by scorer; asked after an epoch where an observer wants it.
    """

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
        self.checkpoints, self.observers, self.should_stop = checkpoints, observers, should_stop
        self.evaluate = evaluate
        self.augmentation = build_augmentation(options)
        self.order = torch.Generator().manual_seed(seed)
        phases = model.phases()  # a generator may give the backbone a second side here
        self.trainable = [p for p in model.parameters() if p.requires_grad]
        self.optimizers = build_optimizers(phases, options)
        runner = PhaseRunner(model, phases)
        self.plain_runner = runner
        self.runner = accelerator.prepare_model(runner)
        if options.compile:
            model.backbone.compile()

    # --- the loop -------------------------------------------------------------------------

    def fit(self, metrics: Callable[[dict[str, Any]], None]) -> None:
        """Train until the last epoch, going on after the last checkpoint.

        Args:
            metrics: called with each epoch's record before its checkpoint is written.
        """
        first = self._resume()
        epochs = self.options.epochs
        self._announce(first)
        started = time.perf_counter()
        for epoch in range(first, epochs):
            begun = time.perf_counter()

            def seconds_left(done: float, first: int = first, since: float = started) -> float:
                elapsed = time.perf_counter() - since
                return elapsed / max(done - first, 1e-9) * (epochs - done)

            show = epoch == first and self.observers.want(ImagesSeen)
            terms, images_per_second = self._epoch(epoch, seconds_left, show)
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
                checkpoint.save(self.checkpoints, self._state(epoch + 1))
            self.accelerator.wait_for_everyone()
            if self.observers.want(ParametersRead):
                values = parameter_values(self.model)
                self.observers.send(ParametersRead(epoch=epoch, values=values))
            if self.model.generator is not None and self.observers.want(SamplesDrawn):
                images = draw_samples(self.model, self.loader.scale, self.accelerator.autocast())
                self.observers.send(SamplesDrawn(epoch=epoch, images=images))
            if self.evaluate is not None and self.observers.want(EpochTested):
                self.observers.send(EpochTested(epoch=epoch, scorers=self.evaluate()))
            self.observers.send(EpochDone(epoch=epoch, record=record))
            if epoch + 1 < epochs:
                self.should_stop()

    def _epoch(
        self, epoch: int, seconds_left: Callable[[float], float], show: bool = False
    ) -> tuple[dict[str, float], float]:
        self.model.train()
        meter, steps = TermMeter(), len(self.loader)
        active = [
            (number, item)
            for number, item in enumerate(self.optimizers)
            if item.phase.active(epoch, self.options.epochs)
        ]
        if not active:
            raise TrainingError(f"no phase is active in epoch {epoch + 1}")
        begun = last_report = time.perf_counter()
        for step, (images, labels) in enumerate(
            self.loader.shuffled(self.order, self.augmentation)
        ):
            if show and step == 0:
                pixels = pixels_of(images[:SAMPLES], self.loader.scale)
                self.observers.send(ImagesSeen(epoch=epoch, images=pixels))
            self.plain_runner.new_step()
            for number, item in active:
                item.set_rate(epoch + step / steps)
                terms = self._phase(number, item, images, labels, epoch)
                meter.add(item.phase.name, terms, step)
            now = time.perf_counter()
            if now - last_report >= REPORT_SECONDS and step + 1 < steps:
                last_report = now
                meter.check(epoch)
                self.observers.send(
                    StepsDone(
                        epoch=epoch,
                        step=step + 1,
                        terms=meter.means(),
                        rate=active[-1][1].rate,
                        seconds_left=seconds_left(epoch + (step + 1) / steps),
                    )
                )
            self.should_stop()
        means = meter.means()  # waits for the device, so the time below is whole
        seconds = time.perf_counter() - begun
        meter.check(epoch)
        return means, self.loader.samples / seconds

    def _phase(
        self, number: int, item: PhaseOptimizer, images: Tensor, labels: Tensor, epoch: int
    ) -> Terms:
        with self._only(item):
            terms: Terms = self.runner(number, images, labels, epoch, self.options.epochs)
            if not terms:
                raise TrainingError(f"phase {item.phase.name} returned no loss term")
            self.accelerator.backward(
                torch.stack([value.float() for value in terms.values()]).sum()
            )
        item.optimizer.step()
        item.optimizer.zero_grad(set_to_none=True)
        return terms

    @contextmanager
    def _only(self, item: PhaseOptimizer) -> Iterator[None]:
        """Freeze all that a phase does not update; gradients still pass through it."""
        if len(item.parameters) == len(self.trainable):
            yield
            return
        kept = (p for module in item.phase.keeps_graph for p in module.parameters())
        live = set(map(id, (*item.parameters, *kept)))
        frozen = [p for p in self.trainable if id(p) not in live]
        for parameter in frozen:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in frozen:
                parameter.requires_grad_(True)

    @torch.inference_mode()
    def accuracy(self) -> float:
        """Closed-set accuracy on the validation part."""
        self.model.eval()
        correct = torch.zeros((), device=self.loader.labels.device)
        for images, labels, _index in self.validation.in_order():
            with self.accelerator.autocast():
                _embedding, logits = self.model(images)
            correct += (logits.argmax(dim=1) == labels).sum()
        return float(correct) / self.validation.samples

    # --- resume state -----------------------------------------------------------------------

    def _state(self, epochs_done: int) -> dict[str, Any]:
        return {
            "epochs_done": epochs_done,
            "model": self.model.state_dict(),
            "optimizers": {
                item.phase.name: item.optimizer.state_dict() for item in self._own_optimizers()
            },
            "order": self.order.get_state(),
            "random": checkpoint.random_state(),
        }

    def _own_optimizers(self) -> list[PhaseOptimizer]:
        """Phases with an optimiser of their own; the others share one of these."""
        return [item for item in self.optimizers if item.phase.shares_optimizer is None]

    def _resume(self) -> int:
        state = checkpoint.load(self.checkpoints)
        if state is None:
            return 0
        try:
            self.model.load_state_dict(state["model"])
            for item in self._own_optimizers():
                item.optimizer.load_state_dict(state["optimizers"][item.phase.name])
            self.order.set_state(state["order"])
            checkpoint.restore_random_state(state["random"])
            return int(state["epochs_done"])
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise TrainingError(
                f"checkpoint in {self.checkpoints} does not fit this experiment: "
                f"{str(error).splitlines()[0]}; delete it to train from the start"
            ) from error

    def _announce(self, first: int) -> None:
        training = sum(parameter.numel() for parameter in self.model.parameters())
        self.observers.send(
            TrainingStarted(
                first_epoch=first,
                epochs=self.options.epochs,
                steps_per_epoch=len(self.loader),
                parameters=inference_parameters(self.model),
                training_parameters=training,
                device=str(self.accelerator.device),
                precision=_precision_name(self.accelerator.mixed_precision),
            )
        )


def inference_parameters(model: OpenSetModel) -> int:
    """Parameters that remain at test time: without generator and training-only modules."""
    dropped = tuple(f"{name}." for name in model.loss.training_only)
    head = sum(
        parameter.numel()
        for name, parameter in model.loss.named_parameters()
        if not f"{name}.".startswith(dropped)
    )
    second_sides = sum(
        parameter.numel()
        for layer in model.backbone.modules()
        if isinstance(layer, AuxiliaryBatchNorm)
        for parameter in layer.generated.parameters()
    )
    return head + sum(parameter.numel() for parameter in model.backbone.parameters()) - second_sides


def _precision_name(mixed_precision: str) -> str:
    return "fp32" if mixed_precision == "no" else mixed_precision
