"""Data-parallel training in several local processes, by torch's own elastic launcher."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from openset_core.errors import Interrupted, TrainingError
from openset_core.observers import Observers
from openset_core.run_folder import Runtime, open_folder
from openset_core.training.event_relay import Relay, relayed

if TYPE_CHECKING:
    from openset_core.training.train import EvaluationFactory

FAILURE_NAME = ".failure.txt"
"""File in the run folder by which a worker says what its user should mend."""


def train_in_processes(
    folder: Path, runtime: Runtime, observers: Observers, evaluation: EvaluationFactory
) -> None:
    """Train in `runtime.devices` processes, which import `evaluation`; observers hear of one."""
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
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # hints that a user cannot follow
    launch = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=runtime.devices,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.5,
    )
    # Observers and signal handlers belong to this process; workers get plain settings.
    plain = attrs.evolve(runtime, observers=(), should_stop=_never)
    reason = folder / FAILURE_NAME
    reason.unlink(missing_ok=True)
    muted = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # the launcher logs a user's mistake with long tracebacks
    try:
        with relayed(observers) as relay, _signal_handlers_kept():
            elastic_launch(launch, _worker)(str(folder), plain, relay, evaluation)
    except SignalException as error:
        raise Interrupted(
            f"interrupted; what was finished is kept, go on with: openset run {folder} "
            f"--devices {runtime.devices}"
        ) from error
    except ChildFailedError as error:
        if not reason.exists():
            raise _unexpected(error) from error
        raise TrainingError(reason.read_text("utf-8")) from error
    finally:
        logging.disable(muted)
        reason.unlink(missing_ok=True)


@contextlib.contextmanager
def _signal_handlers_kept() -> Iterator[None]:
    """Put signal handlers back in the end: the launcher sets its own and leaves them there."""
    names = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    handlers = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                if handler is not None:  # None: not set by Python
                    signal.signal(number, handler)


def _unexpected(error: Any) -> Exception:
    rank, failure = error.get_first_failure()
    if failure.exitcode < 0:
        return TrainingError(
            f"training process {rank} was ended by signal {-failure.exitcode}; if memory ran out, "
            "lower --set training.batch_size"
        )
    said = failure.message
    trace = said["extraInfo"]["py_callstack"] if isinstance(said, dict) else said
    return RuntimeError(f"training process {rank} failed:\n{trace}")


def _never() -> None:  # workers are stopped by the launcher
    pass


def _worker(folder: str, runtime: Runtime, relay: Relay, evaluation: EvaluationFactory) -> None:
    from openset_core.errors import OpensetError
    from openset_core.training.train import train_here

    # Ctrl-C reaches a worker from the terminal and from the launcher, which tells the user; a
    # worker just ends, since its files appear whole or not at all.
    signal.signal(signal.SIGINT, lambda _number, _frame: os._exit(1))
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    first = os.environ.get("RANK") == "0"
    observers = Observers([relay] if first else [])
    try:
        opened, experiment = open_folder(Path(folder))
        train_here(opened, experiment, runtime, observers, evaluation)
    except OpensetError as error:
        (Path(folder) / FAILURE_NAME).write_text(str(error), encoding="utf-8")
        raise
    finally:
        relay.connection.close()
