"""Data-parallel training in several local processes, by torch's own elastic launcher."""

from __future__ import annotations

import os
from pathlib import Path

import attrs

from openset_core.errors import Interrupted, TrainingError
from openset_core.runs import Runtime, open_folder


def train_in_processes(folder: Path, runtime: Runtime) -> None:
    """Train a run folder's experiment with `runtime.devices` processes.

    Raises:
        TrainingError: fewer devices than asked for, or a process failed; its reason is named.
    """
    import torch
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    available = torch.cuda.device_count()
    if runtime.device != "cpu" and 0 < available < runtime.devices:
        raise TrainingError(
            f"--devices {runtime.devices} asks for more GPUs than there are ({available})"
        )
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // runtime.devices)))
    launch = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=runtime.devices,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.5,
    )
    # Observers and signal handlers belong to this process; workers get plain settings.
    plain = attrs.evolve(runtime, observers=(), should_stop=_never)
    reason = folder / ".failure.txt"
    reason.unlink(missing_ok=True)
    try:
        elastic_launch(launch, _worker)(str(folder), plain, bool(runtime.observers))
    except SignalException as error:
        raise Interrupted(
            f"interrupted; what was finished is kept, go on with: openset run {folder} "
            f"--devices {runtime.devices}"
        ) from error
    except ChildFailedError as error:
        text = reason.read_text("utf-8") if reason.exists() else str(error).splitlines()[0]
        reason.unlink(missing_ok=True)
        raise TrainingError(text) from error


def _never() -> None:
    """Workers are stopped by the launcher."""


def _worker(folder: str, runtime: Runtime, show_progress: bool) -> None:
    from openset_core.errors import OpensetError
    from openset_core.observers import Observers
    from openset_core.training.stage import train_here

    opened, experiment = open_folder(Path(folder))
    observers: list[object] = []
    if show_progress and os.environ.get("RANK") == "0":
        from openset_core.cli.progress import Progress

        observers.append(Progress())
    try:
        train_here(opened, experiment, runtime, Observers(observers))  # type: ignore[arg-type]
    except OpensetError as error:
        (Path(folder) / ".failure.txt").write_text(str(error), encoding="utf-8")
        raise
