"""What every run of a bench is doing; the schedule keeps it current, displays read it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence

import attrs

from openset_core.benching.job import Outcome, RunProgress
from openset_core.benching.plan import PlannedRun

WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"
STATES = (DONE, RUNNING, WAITING, FAILED)


@attrs.define(kw_only=True)
class RunStatus:
    planned: PlannedRun
    state: str = WAITING
    progress: RunProgress = attrs.field(factory=RunProgress)
    began: float | None = None  # by the status's clock; None where it was done before
    seconds: float | None = None  # None where it was done before this call
    tries: int = 0
    reason: str = ""  # why it failed


class BenchStatus:
    def __init__(
        self,
        runs: Sequence[PlannedRun],
        done: Sequence[int] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.runs = [RunStatus(planned=run) for run in runs]
        self.clock = clock
        for number in done:
            self.runs[number].state = DONE

    def started(self, number: int) -> None:
        """A run was handed to the launcher; it counts as running once it tells its progress."""
        run = self.runs[number]
        run.state = WAITING
        run.tries += 1

    def progressed(self, number: int, progress: RunProgress) -> None:
        run = self.runs[number]
        if run.state != RUNNING:
            run.state, run.began = RUNNING, self.clock()
        run.progress = progress

    def ended(self, number: int, outcome: Outcome) -> None:
        """A run ended; one that was stopped or is to start again waits."""
        run = self.runs[number]
        if run.began is not None:
            run.seconds = self.clock() - run.began
        run.state = {"done": DONE, "failed": FAILED}.get(outcome.state, WAITING)
        run.reason = outcome.reason

    def counts(self) -> Counter[str]:
        return Counter(run.state for run in self.runs)

    def in_state(self, state: str) -> list[RunStatus]:
        return [run for run in self.runs if run.state == state]

    def seconds_left(self, slots: int) -> float | None:
        """Estimate from the runs that were done in this call; None before there are any."""
        took: dict[str, list[float]] = {}
        for run in self.in_state(DONE):
            if run.seconds is not None:
                took.setdefault(run.planned.method, []).append(run.seconds)
        if not took:
            return None
        of_all = [seconds for many in took.values() for seconds in many]
        now = self.clock()
        left = 0.0
        for run in self.in_state(WAITING) + self.in_state(RUNNING):
            many = took.get(run.planned.method, of_all)
            spent = now - run.began if run.state == RUNNING and run.began else 0.0
            left += max(0.0, sum(many) / len(many) - spent)
        return left / max(1, slots)
