"""Runs given to a launcher one after another, until all are done or failed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from openset_core.benching.job import Job, Outcome
from openset_core.benching.launchers import Launcher
from openset_core.benching.status import Board
from openset_core.errors import Interrupted
from openset_core.observers import RunEvent

TICK = 0.2
"""Seconds between two looks at whether to stop, and two pictures of a display."""


def carry_out_all(
    jobs: Sequence[Job],
    launcher: Launcher,
    board: Board,
    show: Callable[[], None],
    *,
    retries: int,
    should_stop: Callable[[], None],
) -> None:
    """Carry out every job; a run that dies is started again, going on from its checkpoint.

    Args:
        jobs: what to do, in order.
        launcher: where; it is closed in the end.
        board: told of everything.
        show: called after every change and about five times a second.
        retries: how often a run that died is started again, at most.
        should_stop: asked all the time; raises to stop.

    Raises:
        Interrupted: as asked; runs under way have stopped, their checkpoints are kept.
    """
    waiting, under_way = deque(jobs), 0

    def tell(job: Job, event: RunEvent) -> None:
        board.on_event(job.number, event)
        show()

    def settle(job: Job, outcome: Outcome) -> None:
        if outcome.state == "stopped":
            should_stop()
            outcome = Outcome(state="failed", reason="it was stopped from outside")
        elif outcome.state == "died":
            tries = board.entries[job.number].tries
            if tries <= retries:
                waiting.appendleft(job)  # its checkpoint is fresh, and its trial nearly whole
            else:
                times = f" ({tries} times)" if tries > 1 else ""
                outcome = Outcome(state="failed", reason=outcome.reason + times)
        board.ended(job.number, outcome)
        show()

    try:
        while waiting or under_way:
            should_stop()
            while waiting and under_way < launcher.slots:
                job = waiting.popleft()
                board.started(job.number)
                launcher.start(job)
                under_way += 1
            show()
            for job, outcome in launcher.wait(tell, TICK):
                under_way -= 1
                settle(job, outcome)
    except Interrupted:
        launcher.stop()
        while under_way:
            for job, outcome in launcher.wait(tell, TICK):
                under_way -= 1
                board.ended(job.number, outcome)
            show()
        raise
    finally:
        launcher.close()
