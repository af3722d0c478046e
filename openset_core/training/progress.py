"""The progress display: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from typing import Any, TextIO

from openset_core.observers import (
    EpochDone,
    Observer,
    RunEvent,
    StageDone,
    StepsDone,
    TrainingStarted,
)


class Progress(Observer):
    """Shows epoch, loss terms, rate and time left while training, and each stage's end.

    Args:
        stream: where to write; standard error by default.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.bar: Any = None
        self.started = TrainingStarted(
            first_epoch=0,
            epochs=0,
            steps_per_epoch=1,
            parameters=0,
            training_parameters=0,
            device="",
            precision="",
        )

    def receive(self, event: RunEvent) -> None:
        """Show an event."""
        if isinstance(event, TrainingStarted):
            self._begin(event)
        elif isinstance(event, StepsDone) and self.bar is not None:
            self._move(event.epoch * self.started.steps_per_epoch + event.step)
            self.bar.set_postfix_str(_terms(event.terms) + f" rate {event.rate:.2g}")
        elif isinstance(event, EpochDone):
            self._epoch(event)
        elif isinstance(event, StageDone):
            self._close_bar()
            state = "skipped" if event.skipped else f"{event.seconds:.1f} s"
            self._line(f"{event.stage}: {state}, {event.detail}")

    def close(self) -> None:
        """Take the bar away."""
        self._close_bar()

    def _begin(self, event: TrainingStarted) -> None:
        self.started = event
        extra = event.training_parameters - event.parameters
        helpers = f" (and {extra:,} that only training needs)" if extra else ""
        self._line(
            f"train: {event.parameters:,} parameters{helpers}, {event.device}, {event.precision}"
        )
        if event.first_epoch:
            self._line(f"train: going on after epoch {event.first_epoch} of {event.epochs}")
        if self.stream.isatty():
            from tqdm import tqdm

            self.bar = tqdm(
                total=event.epochs * event.steps_per_epoch,
                initial=event.first_epoch * event.steps_per_epoch,
                unit="step",
                file=self.stream,
                leave=False,
                dynamic_ncols=True,
                desc=f"epoch {event.first_epoch + 1}/{event.epochs}",
            )

    def _epoch(self, event: EpochDone) -> None:
        record, total = event.record, self.started.epochs
        text = (
            f"epoch {record['epoch']}/{total}: {_terms(record['terms'])} "
            f"rate {record['rate']:.2g} validation accuracy {record['validation_accuracy']:.3f}"
        )
        left = (total - record["epoch"]) * record["seconds"]
        if self.bar is None:
            self._line(f"{text}, {record['seconds']:.1f} s, {left:.0f} s left")
            return
        self._move((event.epoch + 1) * self.started.steps_per_epoch)
        self.bar.set_description_str(f"epoch {min(event.epoch + 2, total)}/{total}")
        self.bar.write(f"{text}, {record['seconds']:.1f} s", file=self.stream)

    def _move(self, position: int) -> None:
        self.bar.update(position - self.bar.n)

    def _close_bar(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def _line(self, text: str) -> None:
        print(text, file=self.stream, flush=True)


def _terms(terms: Any) -> str:
    """Loss terms as one short text; the phase is named only where terms share a name."""
    short = [name.rpartition("/")[2] for name in terms]
    names = short if len(set(short)) == len(short) else list(terms)
    return " ".join(
        f"{name} {value:.3f}" for name, value in zip(names, terms.values(), strict=True)
    )
