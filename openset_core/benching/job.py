"""One run of a bench, wherever a launcher has it executed."""

from __future__ import annotations

import contextlib
import json
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from openset_core.errors import Interrupted, OpensetError
from openset_core.observers import (
    EpochDone,
    Observer,
    RunEvent,
    StageDone,
    StepsDone,
    TrainingStarted,
)
from openset_core.run_folder import Runtime, open_folder

NEXT_STAGE = {"train": "extract", "extract": "score", "score": "report"}


@attrs.frozen(kw_only=True)
class RunProgress:
    stage: str = "train"
    epoch: int = 0  # finished epochs
    epochs: int = 0  # in all; 0 before training has begun
    seconds_left: float | None = None  # until its training ends; None where unknown

    def after(self, event: RunEvent) -> RunProgress:
        if isinstance(event, TrainingStarted):
            return attrs.evolve(self, epoch=event.first_epoch, epochs=event.epochs)
        if isinstance(event, StepsDone):
            return attrs.evolve(self, epoch=event.epoch, seconds_left=event.seconds_left)
        if isinstance(event, EpochDone):
            left = (self.epochs - event.epoch - 1) * float(event.record.get("seconds", 0.0))
            return attrs.evolve(self, epoch=event.epoch + 1, seconds_left=left)
        if isinstance(event, StageDone):
            stage = NEXT_STAGE.get(event.stage, event.stage)
            return attrs.evolve(self, stage=stage, seconds_left=None)
        return self


@attrs.frozen(kw_only=True)
class Job:
    number: int  # position in the bench, which identifies it
    folder: Path  # absolute; its experiment.toml says what to do
    log: Path  # absolute path of a file for what its process prints

    @property
    def progress_file(self) -> Path:
        """Where a process of its own writes the run's progress, which the bench reads."""
        return self.log.with_suffix(".progress.json")

    def write_progress(self, progress: RunProgress) -> None:
        partial = self.progress_file.with_suffix(".partial")
        with contextlib.suppress(OSError):  # a run goes on without it
            partial.write_text(json.dumps(attrs.asdict(progress)), encoding="utf-8")
            os.replace(partial, self.progress_file)

    def read_progress(self) -> RunProgress | None:
        try:
            return RunProgress(**json.loads(self.progress_file.read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def clear_progress(self) -> None:
        with contextlib.suppress(OSError):
            self.progress_file.unlink(missing_ok=True)


@attrs.frozen(kw_only=True)
class Outcome:
    # "done"; "failed", for a reason that would come again; "stopped", as asked; or "died"
    state: str
    reason: str = ""


@attrs.frozen(kw_only=True)
class WorkerConfig:
    """Where and how runs are executed, as plain values for another process."""

    execute: Callable[..., Any]  # a function of a module, which other processes import by its name
    data_root: Path | None = None
    download: bool = False
    device: str = "auto"  # "auto" or "cpu"
    report: bool = True


class _ProgressTracker(Observer):
    def __init__(self, on_progress: Callable[[RunProgress], None]) -> None:
        self._on_progress, self._progress = on_progress, RunProgress()

    def receive(self, event: RunEvent) -> None:
        self._progress = self._progress.after(event)
        self._on_progress(self._progress)


def execute_job(
    job: Job,
    config: WorkerConfig,
    on_progress: Callable[[RunProgress], None],
    should_stop: Callable[[], None],
) -> Outcome:
    """Execute a run, or what is missing of it; a failure is an outcome, not an exception."""
    try:
        _folder, experiment = open_folder(job.folder)
        runtime = Runtime(
            data_root=config.data_root,
            download=config.download,
            device=config.device,
            observers=(_ProgressTracker(on_progress),),
            should_stop=should_stop,
        )
        config.execute(experiment, job.folder, runtime, report=config.report)
    except Interrupted as error:
        return Outcome(state="stopped", reason=str(error))
    except OpensetError as error:
        return Outcome(state="failed", reason=str(error))
    except Exception as error:  # a defect, of a plugin perhaps; the other runs go on
        first = (str(error).splitlines() or [""])[0]
        reason = f"{type(error).__name__}: {first}".rstrip(": ")
        with contextlib.suppress(OSError):
            job.log.parent.mkdir(parents=True, exist_ok=True)
            with job.log.open("a", encoding="utf-8") as log:
                log.write(traceback.format_exc())
            reason += f"; the traceback is in {job.log}"
        return Outcome(state="failed", reason=reason)
    return Outcome(state="done")
