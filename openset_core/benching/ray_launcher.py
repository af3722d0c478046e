"""Runs on a Ray cluster, or on a local one that is started for them.

Every node must see the bench folder and the data under the same paths; openset and the plugins
must be installed everywhere.
"""

from __future__ import annotations

import contextlib
from typing import Any

from openset_core.benching.job import Job, Outcome, Sender, Settings, attempt
from openset_core.benching.launchers import Resources, Tell, default_workers, processors
from openset_core.benching.processes import visible_gpus
from openset_core.errors import ConfigError
from openset_core.observers import RunEvent


def _carry_out(job: Job, settings: Settings, events: Any) -> Outcome:
    """What Ray runs on a node."""
    if not (job.folder / "experiment.toml").exists():
        return Outcome(
            state="failed",
            reason=f"{job.folder} is not there on the node that ran it; put the bench on storage "
            "that all nodes share, with --out",
        )

    def send(event: RunEvent) -> None:
        with contextlib.suppress(Exception):  # a lost display must not stop the run
            events.put((job.number, event))

    return attempt(job, settings.runtime(observers=(Sender(send),)), settings.report)


class RayLauncher:
    """The launcher `ray`: a task for each run, with a share of a GPU where there are any.

    Args:
        settings: where and how.
        resources: workers, threads, share of a GPU, and the cluster's address.
        runs: number of runs.

    Raises:
        ConfigError: Ray is not installed, or the cluster cannot be reached or used.
    """

    def __init__(self, settings: Settings, resources: Resources, runs: int) -> None:
        ray, make_queue = _import_ray()
        self._ray = ray
        self._settings = settings
        self._own = not ray.is_initialized()
        share = resources.gpus_per_run
        local = self._own and resources.ray_address is None
        if local:
            gpus = len(visible_gpus()) if settings.device != "cpu" else 0
            self.slots = min(resources.workers or default_workers(gpus, share, runs), runs)
            threads = resources.threads or max(1, processors() // self.slots)
            _begin(ray, address="local", num_cpus=self.slots * threads, include_dashboard=False)
        else:
            if self._own:
                _begin(ray, address=resources.ray_address)
            gpus = int(ray.cluster_resources().get("GPU", 0)) if settings.device != "cpu" else 0
            self.slots = min(resources.workers or runs, runs)
            threads = resources.threads or 1
        self._task = ray.remote(_carry_out).options(
            num_cpus=threads,
            num_gpus=share if gpus else 0,
            max_retries=0,  # who starts a run again, and how often, is decided in one place
        )
        self._events = make_queue(actor_options={"num_cpus": 0})
        self._jobs: dict[Any, Job] = {}

    def start(self, job: Job) -> None:
        """Hand a run to Ray."""
        self._jobs[self._task.remote(job, self._settings, self._events)] = job

    def wait(self, tell: Tell, seconds: float) -> list[tuple[Job, Outcome]]:
        """Pass events on and collect what is done."""
        if not self._jobs:
            return []
        done, _others = self._ray.wait(list(self._jobs), timeout=seconds)
        self._pass_on(tell)
        return [(self._jobs.pop(reference), self._outcome(reference)) for reference in done]

    def stop(self) -> None:
        """Interrupt every task; what it was writing appears whole or not at all."""
        for reference in self._jobs:
            self._ray.cancel(reference)

    def close(self) -> None:
        """End what still runs, and Ray where it was started for this bench."""
        for reference in self._jobs:
            with contextlib.suppress(Exception):
                self._ray.cancel(reference, force=True)
        if self._own:
            self._ray.shutdown()

    def _pass_on(self, tell: Tell) -> None:
        by_number = {job.number: job for job in self._jobs.values()}
        with contextlib.suppress(Exception):  # the queue's node may be gone; only the display ends
            for number, event in self._events.get_nowait_batch(self._events.qsize()):
                if number in by_number:
                    tell(by_number[number], event)

    def _outcome(self, reference: Any) -> Outcome:
        try:
            outcome: Outcome = self._ray.get(reference)
        except self._ray.exceptions.TaskCancelledError:
            return Outcome(state="stopped", reason="interrupted")
        except self._ray.exceptions.RayTaskError as error:
            return Outcome(state="failed", reason=_first_line(error.cause or error))
        except self._ray.exceptions.RayError as error:
            return Outcome(state="died", reason=f"its Ray worker died: {_first_line(error)}")
        return outcome


def _import_ray() -> tuple[Any, Any]:
    try:
        import ray
        from ray.util.queue import Queue
    except ImportError:
        raise ConfigError(
            "--launcher ray needs Ray: python -m pip install 'openset[ray]'"
        ) from None
    return ray, Queue


def _begin(ray: Any, address: str | None, **options: Any) -> None:
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **options)
    # Ray raises a plain Exception where a node does not come up in time, as on a busy machine.
    except Exception as error:
        with contextlib.suppress(Exception):
            ray.shutdown()
        where = "a local cluster" if address == "local" else f"the cluster at {address}"
        raise ConfigError(f"Ray cannot start or reach {where}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
