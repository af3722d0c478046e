"""Runs one after the other, in this process."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from openset_core.benching.job import Job, Outcome, RunProgress, WorkerConfig, execute_job


class InlineLauncher:
    """The launcher `inline`; `wait` executes a run, however long it takes."""

    slots = 1

    def __init__(
        self,
        config: WorkerConfig,
        on_progress: Callable[[int, RunProgress], None],
        should_stop: Callable[[], None],
    ) -> None:
        self._config, self._on_progress, self._should_stop = config, on_progress, should_stop
        self._job: Job | None = None

    def start(self, job: Job) -> None:
        self._job = job

    def wait(self, seconds: float) -> list[tuple[Job, Outcome]]:
        job, self._job = self._job, None
        if job is None:
            return []
        on_progress = partial(self._on_progress, job.number)
        return [(job, execute_job(job, self._config, on_progress, self._should_stop))]

    def stop(self) -> None:
        """Nothing is under way between two calls of `wait`."""

    def close(self) -> None:
        """Nothing to end."""
