"""What every run of a bench is doing; launchers tell it, displays read it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence

import attrs

from openset_core.benching.job import Outcome
from openset_core.benching.plan import PlannedRun
from openset_core.observers import EpochDone, RunEvent, StageDone, StepsDone, TrainingStarted

WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"
STATES = (DONE, RUNNING, WAITING, FAILED)

FOLLOWING = {"train": "extract", "extract": "score", "score": "report"}
"""Stages after the one that is done."""


@attrs.define(kw_only=True)
class Entry:
    """What one run is doing.

    Attributes:
        planned: the run.
        state: one of `STATES`.
        stage: the stage it is in, while running.
        epoch: finished epochs.
        epochs: epochs in all; 0 before training has begun.
        seconds_left: estimate until its training ends; None where unknown.
        began: when it began, by the board's clock; None where it was done before.
        seconds: how long it took in this call; None where it was done before.
        tries: how often it was started.
        reason: why it failed.
    """

    planned: PlannedRun
    state: str = WAITING
    stage: str = ""
    epoch: int = 0
    epochs: int = 0
    seconds_left: float | None = None
    began: float | None = None
    seconds: float | None = None
    tries: int = 0
    reason: str = ""


class Board:
    """The state of every run.

    Args:
        runs: the plan's runs.
        done: positions of those that were finished before.
        clock: seconds, for measuring.
    """

    def __init__(
        self,
        runs: Sequence[PlannedRun],
        done: Sequence[int] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.entries = [Entry(planned=run) for run in runs]
        self.clock = clock
        for number in done:
            self.entries[number].state = DONE

    def started(self, number: int) -> None:
        """A run was handed to the launcher; it counts as running once it says something."""
        entry = self.entries[number]
        entry.state, entry.stage, entry.seconds_left = WAITING, "", None
        entry.tries += 1

    def on_event(self, number: int, event: RunEvent) -> None:
        """Something happened in a run."""
        entry = self.entries[number]
        if entry.state != RUNNING:
            entry.state, entry.stage, entry.began = RUNNING, "train", self.clock()
        if isinstance(event, TrainingStarted):
            entry.epoch, entry.epochs = event.first_epoch, event.epochs
        elif isinstance(event, StepsDone):
            entry.epoch = event.epoch
            entry.seconds_left = event.seconds_left
        elif isinstance(event, EpochDone):
            entry.epoch = event.epoch + 1
            seconds = float(event.record.get("seconds", 0.0))
            entry.seconds_left = (entry.epochs - entry.epoch) * seconds
        elif isinstance(event, StageDone):
            entry.stage = FOLLOWING.get(event.stage, event.stage)
            entry.seconds_left = None

    def ended(self, number: int, outcome: Outcome) -> None:
        """A run ended; one that was stopped or is to start again waits."""
        entry = self.entries[number]
        if entry.began is not None:
            entry.seconds = self.clock() - entry.began
        entry.state = {"done": DONE, "failed": FAILED}.get(outcome.state, WAITING)
        entry.reason = outcome.reason
        entry.stage, entry.seconds_left = "", None

    def counts(self) -> Counter[str]:
        """Number of runs by state."""
        return Counter(entry.state for entry in self.entries)

    def in_state(self, state: str) -> list[Entry]:
        """Runs in a state, in order."""
        return [entry for entry in self.entries if entry.state == state]

    def seconds_left(self, slots: int) -> float | None:
        """Estimate until all is done, from the runs that were done in this call.

        Args:
            slots: how many run at once.

        Returns:
            None before there is anything to go by.
        """
        took: dict[str, list[float]] = {}
        for entry in self.entries:
            if entry.state == DONE and entry.seconds is not None:
                took.setdefault(entry.planned.method, []).append(entry.seconds)
        if not took:
            return None
        everything = [seconds for many in took.values() for seconds in many]
        now = self.clock()
        left = 0.0
        for entry in self.entries:
            if entry.state in (WAITING, RUNNING):
                many = took.get(entry.planned.method, everything)
                spent = now - entry.began if entry.state == RUNNING and entry.began else 0.0
                left += max(0.0, sum(many) / len(many) - spent)
        return left / max(1, slots)
