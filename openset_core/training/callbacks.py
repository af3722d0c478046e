"""Callbacks of the training loop, which tell the observers what happens.

They read the network and the loss terms, and leave no trace: training goes on to the last bit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from openset_core.components import OpenSetModel
from openset_core.data.loading import Loader, PixelScale
from openset_core.model.building import inference_parameters
from openset_core.observers import (
    EpochDone,
    EpochScores,
    EpochTested,
    ImagesSeen,
    Observers,
    ParametersRead,
    RunEvent,
    SamplesDrawn,
    StepsDone,
    TrainingStarted,
)
from openset_core.training.meter import TermMeter
from openset_core.training.samples import SAMPLES, draw_samples, parameter_values, pixels_of

REPORT_SECONDS = 1.0
"""Time between two reports of the running losses; each report waits for the device."""


class Callback:
    """Called by the training loop; epochs and steps count from 0."""

    def on_train_start(self, first_epoch: int) -> None:
        """Training begins, or goes on after `first_epoch` finished epochs."""

    def on_epoch_start(self, epoch: int) -> None:
        """The first step of an epoch comes next."""

    def on_step_start(self, epoch: int, step: int, images: Tensor) -> None:
        """The phases are given these images, [B, C, H, W], next."""

    def on_step_end(self, epoch: int, step: int, meter: TermMeter, rate: float) -> None:
        """Every phase has updated its parameters; must not wait for the device each time."""

    def on_epoch_end(self, epoch: int, record: Mapping[str, Any]) -> None:
        """An epoch is done and its checkpoint written; `record` is its line in metrics.jsonl."""


class FirstImages(Callback):
    """Sends some training images of the first batch, as the network sees them."""

    def __init__(self, observers: Observers, scale: PixelScale) -> None:
        self._observers, self._scale = observers, scale
        self._sent = False

    def on_step_start(self, epoch: int, step: int, images: Tensor) -> None:
        if not self._sent:
            self._sent = True
            pixels = pixels_of(images[:SAMPLES], self._scale)
            self._observers.send(ImagesSeen(epoch=epoch, images=pixels))


class AfterEpochs(Callback):
    def __init__(self, observers: Observers, make: Callable[[int], RunEvent]) -> None:
        self._observers, self._make = observers, make

    def on_epoch_end(self, epoch: int, record: Mapping[str, Any]) -> None:
        self._observers.send(self._make(epoch))


class ProgressEvents(Callback):
    """Sends the start of training, the running losses about once a second, and each epoch's end."""

    def __init__(
        self,
        observers: Observers,
        model: OpenSetModel,
        loader: Loader,
        epochs: int,
        accelerator: Any,
    ) -> None:
        self._observers, self._model, self._accelerator = observers, model, accelerator
        self._epochs, self._steps = epochs, len(loader)
        self._first_epoch, self._started = 0, time.perf_counter()
        self._last_report = self._started

    def on_train_start(self, first_epoch: int) -> None:
        self._first_epoch, self._started = first_epoch, time.perf_counter()
        precision = self._accelerator.mixed_precision
        self._observers.send(
            TrainingStarted(
                first_epoch=first_epoch,
                epochs=self._epochs,
                steps_per_epoch=self._steps,
                parameters=inference_parameters(self._model),
                training_parameters=self._model.parameter_count(),
                device=str(self._accelerator.device),
                precision="fp32" if precision == "no" else precision,
            )
        )

    def on_epoch_start(self, epoch: int) -> None:
        self._last_report = time.perf_counter()

    def on_step_end(self, epoch: int, step: int, meter: TermMeter, rate: float) -> None:
        now = time.perf_counter()
        if now - self._last_report < REPORT_SECONDS or step + 1 == self._steps:
            return
        self._last_report = now
        meter.check(epoch)
        done = epoch + (step + 1) / self._steps
        seconds_an_epoch = (now - self._started) / (done - self._first_epoch)
        self._observers.send(
            StepsDone(
                epoch=epoch,
                step=step + 1,
                terms=meter.means(),
                rate=rate,
                seconds_left=seconds_an_epoch * (self._epochs - done),
            )
        )

    def on_epoch_end(self, epoch: int, record: Mapping[str, Any]) -> None:
        self._observers.send(EpochDone(epoch=epoch, record=record))


def event_callbacks(
    observers: Observers,
    model: OpenSetModel,
    loader: Loader,
    epochs: int,
    accelerator: Any,
    evaluate: Callable[[], Mapping[str, EpochScores]] | None,
) -> list[Callback]:
    """Those that observers want; costly ones only where an observer asks for them."""
    callbacks: list[Callback] = []
    makers: list[Callable[[int], RunEvent]] = []
    if observers.want(ImagesSeen):
        callbacks.append(FirstImages(observers, loader.scale))
    if observers.want(ParametersRead):
        makers.append(lambda epoch: ParametersRead(epoch=epoch, values=parameter_values(model)))
    if model.generator is not None and observers.want(SamplesDrawn):
        makers.append(
            lambda epoch: SamplesDrawn(
                epoch=epoch, images=draw_samples(model, loader.scale, accelerator.autocast())
            )
        )
    if evaluate is not None and observers.want(EpochTested):
        makers.append(lambda epoch: EpochTested(epoch=epoch, scorers=evaluate()))
    callbacks += [AfterEpochs(observers, make) for make in makers]
    # Last, because the end of an epoch is told after all else of it.
    return [*callbacks, ProgressEvents(observers, model, loader, epochs, accelerator)]
