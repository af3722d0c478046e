"""Runs given to a launcher one after another, until all are done or failed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from openset_core.benching.job import Job, Outcome
from openset_core.benching.launchers import Launcher
from openset_core.benching.status import BenchStatus
from openset_core.errors import Interrupted

TICK = 0.2  # seconds between two looks at whether to stop, and at the progress of runs


def run_jobs(
    jobs: Sequence[Job],
    launcher: Launcher,
    status: BenchStatus,
    show: Callable[[], None],
    *,
    retries: int,
    should_stop: Callable[[], None],
) -> None:
    """Execute every job; a run that dies is started again, going on from its checkpoint."""
    waiting = deque(jobs)
    under_way: list[Job] = []

    def wait() -> list[tuple[Job, Outcome]]:
        ended = launcher.wait(TICK)
        for job in under_way:
            progress = job.read_progress()
            if progress is not None:
                status.progressed(job.number, progress)
        show()
        for job, _outcome in ended:
            under_way.remove(job)
            job.clear_progress()
        return ended

    def settle(job: Job, outcome: Outcome) -> None:
        if outcome.state == "stopped":
            should_stop()
            outcome = Outcome(state="failed", reason="it was stopped from outside")
        elif outcome.state == "died":
            tries = status.runs[job.number].tries
            if tries <= retries:
                waiting.appendleft(job)  # its checkpoint is fresh, and its trial nearly whole
            else:
                times = f" ({tries} times)" if tries > 1 else ""
                outcome = Outcome(state="failed", reason=outcome.reason + times)
        status.ended(job.number, outcome)
        show()

    try:
        while waiting or under_way:
            should_stop()
            while waiting and len(under_way) < launcher.slots:
                job = waiting.popleft()
                job.clear_progress()  # of an earlier try, or a bench that was killed
                status.started(job.number)
                launcher.start(job)
                under_way.append(job)
            show()
            for job, outcome in wait():
                settle(job, outcome)
    except Interrupted:
        launcher.stop()
        while under_way:
            for job, outcome in wait():
                status.ended(job.number, outcome)
            show()
        raise
    finally:
        launcher.close()
        for job in under_way:
            job.clear_progress()
