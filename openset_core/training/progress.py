"""Progress displays: a bar on a terminal, plain lines or nothing elsewhere."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from openset_core.observers import (
    EpochDone,
    Observer,
    RunEvent,
    StageDone,
    StepsDone,
    TrainingStarted,
)


@contextlib.contextmanager
def bar(label: str, total: int, unit: str, shown: bool = True) -> Iterator[Callable[[], None]]:
    """A bar on standard error, where that is a terminal; yields what to call after each item."""
    if not shown or not sys.stderr.isatty():
        yield lambda: None
        return
    with _bar(sys.stderr, unit) as progress:
        task = progress.add_task(label, total=total, note="")
        yield lambda: progress.advance(task)


def _bar(stream: TextIO, unit: str, **options: Any) -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(20),
        MofNCompleteColumn(),
        TextColumn(f"{unit}s"),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}", markup=False),
        console=Console(file=stream),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        **options,
    )


class Progress(Observer):
    """Shows epoch, loss terms, rate and time left while training, and each stage's end."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.bar: Any = None
        self.epochs, self.steps = 0, 1  # in all, and in each epoch

    def receive(self, event: RunEvent) -> None:
        if isinstance(event, TrainingStarted):
            self._begin(event)
        elif isinstance(event, StepsDone):
            note = f"{_terms(event.terms)} rate {event.rate:.2g}"
            self._move(event.epoch, event.step, note=note)
        elif isinstance(event, EpochDone):
            self._epoch(event)
        elif isinstance(event, StageDone):
            self.close()
            state = "skipped" if event.skipped else f"{event.seconds:.1f} s"
            self._line(f"{event.stage}: {state}, {event.detail}")

    def close(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def _begin(self, event: TrainingStarted) -> None:
        self.epochs, self.steps = event.epochs, event.steps_per_epoch
        extra = event.training_parameters - event.parameters
        helpers = f" (and {extra:,} for training alone)" if extra else ""
        self._line(
            f"train: {event.parameters:,} parameters{helpers}, {event.device}, {event.precision}"
        )
        if event.first_epoch:
            self._line(f"train: going on after epoch {event.first_epoch} of {event.epochs}")
        if self.stream.isatty():
            self.bar = _bar(self.stream, "step", auto_refresh=False)  # drawn at each event
            total, done = self.epochs * self.steps, event.first_epoch * self.steps
            self.bar.add_task("", total=total, completed=done, note="")
            self._move(event.first_epoch, 0)
            self.bar.start()

    def _epoch(self, event: EpochDone) -> None:
        record, total = event.record, self.epochs
        left = (total - record["epoch"]) * record["seconds"]
        self._line(
            f"epoch {record['epoch']}/{total}: {_terms(record['terms'])} "
            f"rate {record['rate']:.2g} validation accuracy {record['validation_accuracy']:.3f}, "
            f"{record['seconds']:.1f} s" + ("" if self.bar else f", {left:.0f} s left")
        )
        self._move(event.epoch + 1, 0)

    def _move(self, epoch: int, step: int, **fields: Any) -> None:
        if self.bar is not None:
            self.bar.update(
                self.bar.task_ids[0],
                description=f"epoch {min(epoch + 1, self.epochs)}/{self.epochs}",
                completed=epoch * self.steps + step,
                refresh=True,
                **fields,
            )

    def _line(self, text: str) -> None:
        if self.bar is not None:  # above the bar
            self.bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, file=self.stream, flush=True)


def _terms(terms: Any) -> str:
    """Loss terms as one short text; the phase is named only where terms share a name."""
    short = [name.rpartition("/")[2] for name in terms]
    names = short if len(set(short)) == len(short) else list(terms)
    return " ".join(
        f"{name} {value:.3f}" for name, value in zip(names, terms.values(), strict=True)
    )
