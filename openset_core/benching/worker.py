"""A worker process: runs that arrive by its standard input, one after the other.

It lives as long as the process that started it: when that one is gone, so is the other end of
the pipe, and the worker ends at once, so that nobody writes into a run folder that a resumed bench
works on.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import sys
import threading
from typing import Any, BinaryIO

from openset_core.benching.job import Job, Sender, Settings, attempt
from openset_core.errors import Interrupted

STOP = "stop"


def main() -> None:
    """Serve the process at the other end of standard input and output."""
    answers = _take_standard_output()
    orders: queue.Queue[tuple[Job, Settings]] = queue.Queue()
    stopping = threading.Event()

    def listen() -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                order = pickle.load(sys.stdin.buffer)
                if order == STOP:
                    stopping.set()
                else:
                    orders.put(order)
        os._exit(1)

    threading.Thread(target=listen, name="openset-orders", daemon=True).start()

    def send(kind: str, value: Any) -> None:
        with contextlib.suppress(OSError):
            pickle.dump((kind, value), answers)
            answers.flush()

    def should_stop() -> None:
        if stopping.is_set():
            raise Interrupted("interrupted")

    while True:
        job, settings = orders.get()
        with _output_to(job):
            runtime = settings.runtime(
                observers=(Sender(lambda event: send("event", event)),), should_stop=should_stop
            )
            outcome = attempt(job, runtime, settings.report)
        send("ended", outcome)


def _take_standard_output() -> BinaryIO:
    """Keep the pipe for answers, so that nothing a library prints gets into it."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers


@contextlib.contextmanager
def _output_to(job: Job) -> Any:
    """Send what is printed to the run's log; an empty one is removed."""
    sys.stdout.flush()
    kept = os.dup(2)
    try:
        job.log.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(job.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError:  # no log then; the run itself will say what is wrong with the disk
        yield
        return
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for stream in (1, 2):
            os.dup2(kept, stream)
        os.close(kept)
        with contextlib.suppress(OSError):
            if job.log.stat().st_size == 0:
                job.log.unlink()


if __name__ == "__main__":
    main()
