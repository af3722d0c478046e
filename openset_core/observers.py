"""Run events and who receives them: progress displays, loggers, experiment trackers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs


@attrs.frozen(kw_only=True)
class RunEvent:
    """Something that happened in a run; the classes below say what."""


@attrs.frozen(kw_only=True)
class RunStarted(RunEvent):
    """A run begins or goes on.

    Attributes:
        folder: the run folder.
        experiment: the resolved experiment as plain values.
    """

    folder: Path
    experiment: Mapping[str, Any]


@attrs.frozen(kw_only=True)
class TrainingStarted(RunEvent):
    """Training begins, or goes on after `first_epoch` finished epochs."""

    first_epoch: int
    epochs: int
    steps_per_epoch: int
    parameters: int
    training_parameters: int
    device: str
    precision: str


@attrs.frozen(kw_only=True)
class StepsDone(RunEvent):
    """Some training steps are done; sent about once a second.

    Attributes:
        epoch: epoch from 0.
        step: finished steps of this epoch.
        terms: running mean of each loss term in this epoch.
        rate: learning rate of the last phase, which is the classifier's.
        seconds_left: estimate until training ends.
    """

    epoch: int
    step: int
    terms: Mapping[str, float]
    rate: float
    seconds_left: float


@attrs.frozen(kw_only=True)
class EpochDone(RunEvent):
    """An epoch is done and its checkpoint written; `record` is its line in metrics.jsonl."""

    epoch: int
    record: Mapping[str, Any]


@attrs.frozen(kw_only=True, eq=False)
class ImagesSeen(RunEvent):
    """Training images as the network sees them, augmentation and all: some of the first batch.

    Sent only where an observer `wants` it, once when training begins or goes on.

    Attributes:
        epoch: epoch from 0.
        images: uint8 [N, H, W, C].
    """

    epoch: int
    images: Any


@attrs.frozen(kw_only=True, eq=False)
class ParametersRead(RunEvent):
    """The trained parameters after an epoch.

    Read and sent only where an observer `wants` it, before the epoch's `EpochDone`.

    Attributes:
        epoch: epoch from 0.
        values: by name, float32 [n]; of a large parameter evenly spaced numbers only.
    """

    epoch: int
    values: Mapping[str, Any]


@attrs.frozen(kw_only=True, eq=False)
class SamplesDrawn(RunEvent):
    """What the sample generator makes after an epoch, from the same noise each time.

    Drawn and sent only where an observer `wants` it, before the epoch's `EpochDone`.

    Attributes:
        epoch: epoch from 0.
        images: uint8 [N, H, W, C].
    """

    epoch: int
    images: Any


@attrs.frozen(kw_only=True)
class EpochScores:
    """How one scorer does on the test after an epoch.

    Attributes:
        metrics: exact metrics over all unknown sets together, fractions by name; those that need a
            threshold are not among them.
        unknown: the same against each unknown set alone.
    """

    metrics: Mapping[str, float]
    unknown: Mapping[str, Mapping[str, float]]


@attrs.frozen(kw_only=True)
class EpochTested(RunEvent):
    """The test after an epoch, for curves over training; nothing may be chosen by it.

    Computed and sent only where an observer `wants` it, before the epoch's `EpochDone`.

    Attributes:
        epoch: epoch from 0.
        scorers: by scorer.
    """

    epoch: int
    scorers: Mapping[str, EpochScores]


@attrs.frozen(kw_only=True)
class StageDone(RunEvent):
    """A stage (`train`, `extract`, `score`) is done, now or by an earlier call."""

    stage: str
    seconds: float
    detail: str
    skipped: bool = False


@attrs.frozen(kw_only=True)
class RunDone(RunEvent):
    """Everything is done; `results` is what results.json holds."""

    folder: Path
    results: Mapping[str, Any]


class Observer:
    """Base of every observer; it must not change the run.

    Attributes:
        wants: events that cost work and are sent only to observers that name them here.
    """

    wants: tuple[type[RunEvent], ...] = ()

    def receive(self, event: RunEvent) -> None:
        """Take notice of an event."""

    def close(self) -> None:
        """The run ended, with or without success."""


@attrs.frozen
class Observers:
    """Several observers as one."""

    members: Sequence[Observer] = ()

    def send(self, event: RunEvent) -> None:
        """Tell every observer."""
        for observer in self.members:
            observer.receive(event)

    def want(self, kind: type[RunEvent]) -> bool:
        """Whether some observer wants an event that costs work."""
        return any(kind in observer.wants for observer in self.members)

    def close(self) -> None:
        """Close every observer."""
        for observer in self.members:
            observer.close()
