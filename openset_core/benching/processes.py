"""Runs side by side in worker processes of this machine."""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import subprocess
import sys
import threading
import time
from typing import Any

import attrs

from openset_core.benching.job import Job, Outcome, Settings
from openset_core.benching.launchers import Resources, Tell, default_workers, processors
from openset_core.benching.worker import STOP

PATIENCE = 5.0
"""Seconds that a worker has to end by itself."""


@attrs.define(eq=False)
class _Worker:
    """A process, what it is doing, and which share of the machine it has."""

    process: subprocess.Popen[bytes]
    slot: int
    job: Job | None = None

    def send(self, message: Any) -> None:
        """Send an order; one that died is noticed by whoever listens to it."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            pickle.dump(message, self.process.stdin)
            self.process.stdin.flush()


class ProcessLauncher:
    """The launcher `processes`.

    A worker carries out one run after the other, since starting one takes seconds; one that dies
    takes no other run with it and is replaced.

    Args:
        settings: where and how.
        resources: workers, threads and share of a GPU.
        runs: number of runs; there are never more workers.
    """

    def __init__(self, settings: Settings, resources: Resources, runs: int) -> None:
        gpus = visible_gpus() if settings.device != "cpu" else []
        share = resources.gpus_per_run
        self.slots = min(resources.workers or default_workers(len(gpus), share, runs), runs)
        self._settings = settings
        self._threads = resources.threads or max(1, processors() // self.slots)
        self._explicit = resources.threads is not None
        # Slot by slot over the GPUs; what does not fit any more shares them all the same.
        self._gpus = [gpus[slot % len(gpus)] for slot in range(self.slots)] if gpus else []
        self._workers: list[_Worker | None] = [None] * self.slots
        self._messages: queue.Queue[tuple[_Worker, str, Any]] = queue.Queue()

    def start(self, job: Job) -> None:
        """Give a run to a worker that has nothing to do."""
        idle = [n for n, worker in enumerate(self._workers) if worker is None or not worker.job]
        slot = idle[0]
        worker = self._workers[slot] or self._new_worker(slot)
        self._workers[slot] = worker
        worker.job = job
        worker.send((job, self._settings))

    def wait(self, tell: Tell, seconds: float) -> list[tuple[Job, Outcome]]:
        """Take messages until one says that a run ended, or time is over."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                left = max(0.0, deadline - time.monotonic())
                worker, kind, value = self._messages.get(timeout=left)
            except queue.Empty:
                return []
            job = worker.job
            if kind == "event" and job is not None:
                tell(job, value)
                continue
            if kind == "gone":
                self._workers[worker.slot] = None
                value = Outcome(state="died", reason=_death(worker.process.wait()))
            worker.job = None
            if job is not None:
                return [(job, value)]

    def stop(self) -> None:
        """Let every worker stop after its step."""
        for worker in self._workers:
            if worker is not None:
                worker.send(STOP)

    def close(self) -> None:
        """End the workers; those that are in the middle of something are killed."""
        workers = [worker for worker in self._workers if worker is not None]
        self._workers = [None] * self.slots
        for worker in workers:
            if worker.job is not None:
                worker.process.kill()
            with contextlib.suppress(OSError):
                assert worker.process.stdin is not None
                worker.process.stdin.close()  # tells an idle one to end
        for worker in workers:
            try:
                worker.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()

    def _new_worker(self, slot: int) -> _Worker:
        environment = dict(os.environ)
        if self._explicit or "OMP_NUM_THREADS" not in environment:
            environment["OMP_NUM_THREADS"] = str(self._threads)
        if self._gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self._gpus[slot]
        process = subprocess.Popen(
            # -P: modules that happen to lie in the working directory are not imported
            [sys.executable, "-P", "-m", "openset_core.benching.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches this process alone, which tells the workers
        )
        worker = _Worker(process=process, slot=slot)
        threading.Thread(
            target=self._listen, args=(worker,), name=f"openset-worker-{slot}", daemon=True
        ).start()
        return worker

    def _listen(self, worker: _Worker) -> None:
        assert worker.process.stdout is not None
        try:
            while True:
                kind, value = pickle.load(worker.process.stdout)
                self._messages.put((worker, kind, value))
        except (EOFError, OSError, ValueError, pickle.UnpicklingError):  # cut off by its end
            self._messages.put((worker, "gone", None))


def _death(code: int) -> str:
    if code < 0:
        return (
            f"its process was ended by signal {-code}; if memory ran out, give fewer --workers or "
            "a lower --set training.batch_size"
        )
    return f"its process ended by itself with exit code {code}"


def visible_gpus() -> list[str]:
    """Names by which `CUDA_VISIBLE_DEVICES` gives one GPU each to a process."""
    import torch

    count = torch.cuda.device_count()
    listed = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    named = [name.strip() for name in listed.split(",") if name.strip()]
    return (named or [str(number) for number in range(count)])[:count]
