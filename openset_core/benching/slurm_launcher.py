"""Runs as jobs of a Slurm cluster, through submitit.

Every node must see the bench folder, the data and the Python environment under the same paths.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openset_core.benching.job import Job, Outcome, WorkerConfig
from openset_core.benching.launchers import Resources, first_line
from openset_core.benching.worker import run_job
from openset_core.errors import ConfigError

POLL = 1.0  # seconds between two looks at the jobs; submitit asks Slurm itself more rarely
MINUTES = 240
CPUS = 4
TIMED_OUT = "UncompletedJobError"  # what submitit raises in a job whose time is over


class SlurmLauncher:
    """The launcher `slurm`: a job for each run; those that begin together are a job array.

    Options in `Resources.slurm`: `time`, minutes that a run may take (240); `gpus` (1, or 0 with
    device `"cpu"`); `cpus` (`threads`, or 4); `memory`, in GB (what the partition gives); any other
    option of sbatch, such as `partition` or `account`. `cluster=local` runs the jobs on this
    machine, to try it.
    """

    def __init__(self, config: WorkerConfig, resources: Resources, runs: int, folder: Path) -> None:
        try:
            import submitit
        except ImportError:
            raise ConfigError(
                "--launcher slurm needs submitit: python -m pip install 'openset[slurm]'"
            ) from None
        self.slots = min(resources.workers or runs, runs)
        self._config, self._folder = config, folder
        self._waiting: list[Job] = []
        self._jobs: dict[Any, Job] = {}
        self._stopped = False
        options = dict(resources.slurm)
        try:
            self._executor = submitit.AutoExecutor(
                folder,
                cluster=options.pop("cluster", "slurm"),
                local_max_num_timeout=0,
                slurm_max_num_timeout=0,
            )
            self._executor.update_parameters(**self._parameters(options, resources))
        except (RuntimeError, ValueError) as error:
            raise ConfigError(f"--launcher slurm cannot be used: {first_line(error)}") from error
        self._cancel_jobs_of_before()

    def _parameters(self, options: dict[str, Any], resources: Resources) -> Mapping[str, Any]:
        if resources.gpus_per_run != 1.0:
            raise ConfigError(
                "Slurm gives whole GPUs to a job; choose how many with --slurm gpus=N instead of "
                "--gpus-per-run"
            )
        on_cpu = self._config.device == "cpu"
        parameters = {
            "name": "openset",
            "stderr_to_stdout": True,
            "timeout_min": _number(options, "time", MINUTES),
            "gpus_per_node": _number(options, "gpus", 0 if on_cpu else 1),
            "cpus_per_task": _number(options, "cpus", resources.threads or CPUS),
            "slurm_array_parallelism": self.slots,
        }
        if "memory" in options:
            parameters["mem_gb"] = _number(options, "memory", 0)
        return {**parameters, "slurm_additional_parameters": options}

    def _cancel_jobs_of_before(self) -> None:
        """Cancel jobs of a bench that was killed; they write into the same run folders."""
        job_class = type(self._executor._executor).job_class
        for file in self._folder.glob("*_submitted.pkl"):
            job = job_class(self._folder, file.name.removesuffix("_submitted.pkl"))
            if not job.paths.result_pickle.exists():
                job.cancel(check=False)
                deadline = time.monotonic() + 60
                while not job.done(force_check=True) and time.monotonic() < deadline:
                    time.sleep(POLL)
            self._clean(job)

    def start(self, job: Job) -> None:
        """Note a run; `wait` submits those that were noted together."""
        self._waiting.append(job)

    def wait(self, seconds: float) -> list[tuple[Job, Outcome]]:
        self._submit()
        if not any(job.done() for job in self._jobs):
            time.sleep(max(seconds, POLL))
            if self._stopped and self._jobs:  # Slurm is asked at once, which informs all jobs
                next(iter(self._jobs)).get_info(mode="force")
        ended = [job for job in self._jobs if job.done()]
        return [(self._jobs.pop(job), self._outcome(job)) for job in ended]

    def _submit(self) -> None:
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        jobs, self._waiting = self._waiting, []
        if not jobs:
            return
        try:
            submitted = self._executor.map_array(run_job, jobs, [self._config] * len(jobs))
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"Slurm does not take the jobs: {reason}") from error
        self._jobs.update(zip(submitted, jobs, strict=True))

    def stop(self) -> None:
        """Cancel the jobs; what they were writing appears whole or not at all."""
        self._stopped = True
        for job in self._jobs:
            job.cancel(check=False)

    def close(self) -> None:
        for job in self._jobs:
            with contextlib.suppress(Exception):
                job.cancel(check=False)
        with contextlib.suppress(OSError):  # logs of jobs that died stay
            self._folder.rmdir()

    def _outcome(self, job: Any) -> Outcome:
        log = f"the log of its job is {job.paths.stdout}"
        outcome: Outcome
        if self._stopped and not job.paths.result_pickle.exists():
            outcome = Outcome(state="stopped", reason="interrupted")
        else:
            try:
                outcome = job.result()
            except Exception:  # killed, out of memory, or a node that failed
                reason = f"its Slurm job {job.job_id} died in state {job.state}; {log}"
                outcome = Outcome(state="died", reason=reason)
            if outcome.state == "failed" and outcome.reason.startswith(TIMED_OUT):
                reason = f"its Slurm job {job.job_id} ran out of time; give more by --slurm time="
                outcome = Outcome(state="died", reason=f"{reason}MINUTES; {log}")
        self._clean(job, keep_log=outcome.state == "died")
        return outcome

    def _clean(self, job: Any, keep_log: bool = False) -> None:
        paths = job.paths
        for path in (
            paths.submitted_pickle,
            paths.result_pickle,
            paths.submission_file,
            *(() if keep_log else (paths.stdout,)),
        ):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def _number(options: dict[str, Any], name: str, default: int) -> int:
    value = options.pop(name, default)
    try:
        return int(value)
    except ValueError:
        raise ConfigError(f"--slurm {name}={value} is not a whole number") from None
