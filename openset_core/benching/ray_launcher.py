"""Runs on a Ray cluster, or on a local one that is started for them.

Every node must see the bench folder and the data under the same paths; openset and the plugins
must be installed everywhere. Ray keeps a worker process from task to task.
"""

from __future__ import annotations

import contextlib
from typing import Any

from openset_core.benching.job import Job, Outcome, WorkerConfig
from openset_core.benching.launchers import (
    Resources,
    default_workers,
    first_line,
    processors,
    visible_gpus,
)
from openset_core.benching.worker import run_job
from openset_core.errors import ConfigError


class RayLauncher:
    """The launcher `ray`: a task for each run, with a share of a GPU where there are any."""

    def __init__(self, config: WorkerConfig, resources: Resources, runs: int) -> None:
        try:
            import ray
        except ImportError:
            raise ConfigError(
                "--launcher ray needs Ray: python -m pip install 'openset[ray]'"
            ) from None
        self._ray: Any = ray
        self._config = config
        self._own = not ray.is_initialized()
        share = resources.gpus_per_run
        if self._own and resources.ray_address is None:
            gpus = len(visible_gpus()) if config.device != "cpu" else 0
            self.slots = min(resources.workers or default_workers(gpus, share, runs), runs)
            threads = resources.threads or max(1, processors() // self.slots)
            _begin(ray, address="local", num_cpus=self.slots * threads, include_dashboard=False)
        else:
            if self._own:
                _begin(ray, address=resources.ray_address)
            gpus = int(self._ray.cluster_resources().get("GPU", 0)) if config.device != "cpu" else 0
            self.slots = min(resources.workers or runs, runs)
            threads = resources.threads or 1
        self._task = self._ray.remote(run_job).options(
            num_cpus=threads,
            num_gpus=share if gpus else 0,
            max_retries=0,  # `schedule` decides which run is started again, and how often
        )
        self._jobs: dict[Any, Job] = {}

    def start(self, job: Job) -> None:
        self._jobs[self._task.remote(job, self._config)] = job

    def wait(self, seconds: float) -> list[tuple[Job, Outcome]]:
        if not self._jobs:
            return []
        done, _others = self._ray.wait(list(self._jobs), timeout=seconds)
        return [(self._jobs.pop(reference), self._outcome(reference)) for reference in done]

    def stop(self) -> None:
        """Interrupt every task; what it was writing appears whole or not at all."""
        for reference in self._jobs:
            self._ray.cancel(reference)

    def close(self) -> None:
        for reference in self._jobs:
            with contextlib.suppress(Exception):
                self._ray.cancel(reference, force=True)
        if self._own:
            self._ray.shutdown()

    def _outcome(self, reference: Any) -> Outcome:
        try:
            outcome: Outcome = self._ray.get(reference)
        except self._ray.exceptions.TaskCancelledError:
            return Outcome(state="stopped", reason="interrupted")
        except self._ray.exceptions.RayTaskError as error:
            return Outcome(state="failed", reason=first_line(error.cause or error))
        except self._ray.exceptions.RayError as error:
            return Outcome(state="died", reason=f"its Ray worker died: {first_line(error)}")
        return outcome


def _begin(ray: Any, address: str | None, **options: Any) -> None:
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **options)
    # Ray raises a plain Exception where a node does not come up in time, as on a busy machine.
    except Exception as error:
        with contextlib.suppress(Exception):
            ray.shutdown()
        where = "a local cluster" if address == "local" else f"the cluster at {address}"
        raise ConfigError(f"Ray cannot start or reach {where}: {first_line(error)}") from error
