"""What happens in a process that a launcher started."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from openset_core.benching.job import Job, Outcome, WorkerConfig, execute_job
from openset_core.errors import Interrupted

_stopping = threading.Event()


def run_job(
    job: Job, config: WorkerConfig, should_stop: Callable[[], None] = lambda: None
) -> Outcome:
    """Execute a run in this process: what it prints goes to its log, progress to its file."""
    if not (job.folder / "experiment.toml").exists():
        return Outcome(
            state="failed",
            reason=f"{job.folder} is not there on the node that ran it; put the bench on storage "
            "that all nodes share, with --out",
        )
    with _output_to(job.log):
        return execute_job(job, config, job.write_progress, should_stop)


def run_in_pool(job: Job, config: WorkerConfig) -> Outcome:
    """The same in a worker that `begin_worker` prepared: SIGTERM stops the run between steps."""

    def should_stop() -> None:
        if _stopping.is_set():
            raise Interrupted("interrupted")

    return run_job(job, config, should_stop)


def begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the bench, which asks its workers
    if hasattr(os, "setsid"):
        os.setsid()  # Linux shares processors by session: each run counts as one of its own
    signal.signal(signal.SIGTERM, lambda _number, _frame: _stopping.set())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch  # noqa: F401  (seconds, once a worker)


def _end_with_parent() -> None:
    """End at once with the bench: the next one may work on the same run folders."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextlib.contextmanager
def _output_to(log: Path) -> Iterator[None]:
    """Send what is printed, by libraries in C too, to a log; an empty one is removed."""
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError:  # without a log; the run itself will say what is wrong with the disk
        yield
        return
    sys.stdout.flush()
    sys.stderr.flush()
    before = [os.dup(stream) for stream in (1, 2)]
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for stream, earlier in zip((1, 2), before, strict=True):
            os.dup2(earlier, stream)
            os.close(earlier)
        with contextlib.suppress(OSError):
            if log.stat().st_size == 0:
                log.unlink()
