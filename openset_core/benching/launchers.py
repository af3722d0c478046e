"""Where the runs of a bench are executed: what a launcher is, and the resources it shares out."""

from __future__ import annotations

import os
from typing import Any, Protocol

import attrs
from attrs.validators import ge, gt, le, optional

from openset_core.benching.job import Job, Outcome

LAUNCHERS = ("inline", "processes", "ray", "slurm")


class Launcher(Protocol):
    """Executes runs, at most `slots` at once."""

    slots: int

    def start(self, job: Job) -> None:
        """Begin a run; called with at most `slots` under way."""

    def wait(self, seconds: float) -> list[tuple[Job, Outcome]]:
        """Return runs that ended; waits for one, but about `seconds` at most if it can."""

    def stop(self) -> None:
        """Ask the runs under way to stop; they end as `"stopped"`, or as something else."""

    def close(self) -> None:
        """End everything at once."""


@attrs.frozen(kw_only=True)
class Resources:
    # runs at once; None for what the machine suggests
    workers: int | None = attrs.field(default=None, validator=optional(ge(1)))
    # of each run; None to divide the processors among the workers
    threads: int | None = attrs.field(default=None, validator=optional(ge(1)))
    gpus_per_run: float = attrs.field(default=1.0, validator=[gt(0.0), le(1.0)])  # share of a GPU
    ray_address: str | None = None  # None: a local cluster is started
    slurm: dict[str, Any] = attrs.field(factory=dict)  # options of jobs, see `SlurmLauncher`


def processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_workers(gpus: int, gpus_per_run: float, runs: int) -> int:
    """As many runs as share the GPUs, or half as many as there are processors, at least two."""
    several = gpus * int(1 / gpus_per_run) if gpus else max(2, processors() // 2)
    return max(1, min(several, runs))


def visible_gpus() -> list[str]:
    """Names by which `CUDA_VISIBLE_DEVICES` gives one GPU each to a process."""
    import torch

    count = torch.cuda.device_count()
    listed = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    named = [name.strip() for name in listed.split(",") if name.strip()]
    return (named or [str(number) for number in range(count)])[:count]


def first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
