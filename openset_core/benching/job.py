"""One run of a bench, carried out wherever a launcher puts it."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from openset_core.errors import Interrupted, OpensetError
from openset_core.observers import Observer, RunEvent
from openset_core.run_folder import Runtime


@attrs.frozen(kw_only=True)
class Job:
    """What a launcher is given.

    Attributes:
        number: position in the bench, which identifies it.
        folder: absolute path of the run folder; its experiment.toml says what to do.
        log: absolute path of a file for what a process prints.
    """

    number: int
    folder: Path
    log: Path


@attrs.frozen(kw_only=True)
class Outcome:
    """How a run ended.

    Attributes:
        state: `"done"`; `"failed"`, for a reason that would come again; `"stopped"`, as asked; or
            `"died"`, when its process ended without a word.
        reason: one sentence, where it is not done.
    """

    state: str
    reason: str = ""


@attrs.frozen(kw_only=True)
class Settings:
    """Where and how runs are carried out, as plain values for another process.

    Attributes:
        data_root: folder of data sets; $OPENSET_DATA or `./data` when None.
        download: whether missing data may be fetched.
        device: `"auto"` or `"cpu"`.
        report: whether each run's page is made.
    """

    data_root: Path | None = None
    download: bool = False
    device: str = "auto"
    report: bool = True

    def runtime(self, **more: Any) -> Runtime:
        """The same for a run in this process."""
        shared = attrs.asdict(self, filter=attrs.filters.exclude("report"))
        return Runtime(**shared, **more)


class Sender(Observer):
    """Passes every event on.

    Args:
        send: takes an event.
    """

    def __init__(self, send: Callable[[RunEvent], None]) -> None:
        self._send = send

    def receive(self, event: RunEvent) -> None:
        """Pass it on."""
        self._send(event)


def attempt(job: Job, runtime: Runtime, report: bool) -> Outcome:
    """Carry out a run, or whatever is missing of it; a failure is an outcome, not an exception.

    Args:
        job: the run.
        runtime: how.
        report: whether its page is made in the end.
    """
    from openset_core.pipeline import execute
    from openset_core.run_folder import open_folder

    try:
        _folder, experiment = open_folder(job.folder)
        execute(experiment, job.folder, runtime, report=report)
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
