"""Runs one after the other, in this process."""

from __future__ import annotations

from collections.abc import Callable

from openset_core.benching.job import Job, Outcome, Sender, Settings, attempt
from openset_core.benching.launchers import Tell


class InlineLauncher:
    """The launcher `inline`.

    Args:
        settings: where and how.
        check: asked between steps; raises to stop.
    """

    slots = 1

    def __init__(self, settings: Settings, check: Callable[[], None]) -> None:
        self._settings, self._check = settings, check
        self._job: Job | None = None

    def start(self, job: Job) -> None:
        """Note what `wait` is to carry out."""
        self._job = job

    def wait(self, tell: Tell, seconds: float) -> list[tuple[Job, Outcome]]:
        """Carry the run out, however long it takes."""
        job, self._job = self._job, None
        if job is None:
            return []
        observer = Sender(lambda event: tell(job, event))
        runtime = self._settings.runtime(observers=(observer,), should_stop=self._check)
        return [(job, attempt(job, runtime, self._settings.report))]

    def stop(self) -> None:
        """Nothing is under way between two calls of `wait`."""

    def close(self) -> None:
        """Nothing to end."""
