"""Runs side by side in worker processes of this machine.

A slot is a pool of one process: it is kept from run to run, since starting it takes seconds of
imports, and a process that dies breaks the pool of its slot alone, which is then made anew.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from typing import Any

import attrs

from openset_core.benching.job import Job, Outcome, WorkerConfig
from openset_core.benching.launchers import Resources, default_workers, processors, visible_gpus
from openset_core.benching.worker import begin_worker, run_in_pool


@attrs.define(eq=False)
class _Slot:
    """A worker process, the run it executes, and its share of the machine as variables."""

    environment: dict[str, str]
    pool: ProcessPoolExecutor | None = None
    process: BaseProcess | None = None
    job: Job | None = None
    future: Future[Outcome] | None = None

    def start(self, job: Job, config: WorkerConfig) -> None:
        try:
            self._submit(job, config)
        except BrokenProcessPool:  # the worker died while it had nothing to do
            self.end()
            self._submit(job, config)

    def _submit(self, job: Job, config: WorkerConfig) -> None:
        if self.pool is None:
            self.pool = ProcessPoolExecutor(
                max_workers=1, mp_context=get_context("spawn"), initializer=begin_worker
            )
        with _inherited(self.environment):
            self.future = self.pool.submit(run_in_pool, job, config)
        self.job = job
        self.process = next(iter(self.pool._processes.values()))

    def result(self) -> tuple[Job, Outcome]:
        job, future = self.job, self.future
        self.job = self.future = None
        assert job is not None
        assert future is not None
        try:
            return job, future.result()
        except BrokenProcessPool:
            self.end()
            code = self.process.exitcode if self.process else None
            return job, Outcome(state="died", reason=_death(code))
        except Exception as error:  # what cannot be sent to another process
            return job, Outcome(state="failed", reason=f"{type(error).__name__}: {error}")

    def end(self) -> None:
        """End the process, at once if it executes a run."""
        if self.future is not None and self.process is not None:
            self.process.kill()
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)
        self.pool = None


class ProcessLauncher:
    """The launcher `processes`, of at most `runs` workers."""

    def __init__(self, config: WorkerConfig, resources: Resources, runs: int) -> None:
        gpus = visible_gpus() if config.device != "cpu" else []
        workers = resources.workers or default_workers(len(gpus), resources.gpus_per_run, runs)
        self.slots = min(workers, runs)
        self._config = config
        shared = {}
        if resources.threads or "OMP_NUM_THREADS" not in os.environ:
            threads = resources.threads or max(1, processors() // self.slots)
            shared["OMP_NUM_THREADS"] = str(threads)
        # Slot by slot over the GPUs; what does not fit any more shares them all the same.
        self._slots = [
            _Slot(
                {**shared, "CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]} if gpus else dict(shared)
            )
            for slot in range(self.slots)
        ]

    def start(self, job: Job) -> None:
        idle = [slot for slot in self._slots if slot.job is None]
        min(idle, key=lambda slot: slot.pool is None).start(job, self._config)

    def wait(self, seconds: float) -> list[tuple[Job, Outcome]]:
        under_way = {slot.future: slot for slot in self._slots if slot.future is not None}
        done, _others = wait(under_way, timeout=seconds, return_when=FIRST_COMPLETED)
        return [under_way[future].result() for future in done]

    def stop(self) -> None:
        for slot in self._slots:
            if slot.job is not None and slot.process is not None:
                slot.process.terminate()

    def close(self) -> None:
        for slot in self._slots:
            slot.end()


@contextlib.contextmanager
def _inherited(environment: Mapping[str, str]) -> Iterator[None]:
    """What a process inherits that is started in the block: variables, no SIGINT, no `__main__`."""
    variables, main = dict(os.environ), vars(sys.modules["__main__"])
    # Ctrl-C would reach the process before it can ignore it, and multiprocessing would import the
    # caller's script, which starts this bench.
    script: dict[str, Any] = {n: main[n] for n in ("__spec__", "__file__") if n in main}
    blocked = None
    if hasattr(signal, "pthread_sigmask"):
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.environ.update(environment)
    main.update(dict.fromkeys(script))
    try:
        yield
    finally:
        main.update(script)
        for name in environment:
            os.environ.pop(name)
        os.environ.update(variables)
        if blocked is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _death(code: int | None) -> str:
    if code is not None and code < 0:
        return (
            f"its process was ended by signal {-code}; if memory ran out, give fewer --workers or "
            "a lower --set training.batch_size"
        )
    return f"its process ended by itself with exit code {code}"
