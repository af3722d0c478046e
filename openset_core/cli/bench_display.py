"""What a bench shows while it runs: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from openset_core.benching.status import (
    DONE,
    FAILED,
    RUNNING,
    STATES,
    WAITING,
    BenchStatus,
    RunStatus,
)
from openset_core.cli.common import duration


class Lines:
    def __init__(self, status: BenchStatus, slots: int, stream: TextIO) -> None:
        self._status, self._slots, self._stream = status, slots, stream
        self._seen = [(run.state, run.tries) for run in status.runs]

    def __call__(self) -> None:
        for number, run in enumerate(self._status.runs):
            before, now = self._seen[number], (run.state, run.tries)
            if now == before:
                continue
            self._seen[number] = now
            line = self._line(run, before[0])
            if line:
                print(line, file=self._stream, flush=True)

    def _line(self, run: RunStatus, before: str) -> str:
        counts = self._status.counts()
        title = run.planned.title
        if run.state == RUNNING:
            return f"begins{' again' if run.tries > 1 else ''}: {title}"
        if run.state in (DONE, FAILED):
            place = f"[{counts[DONE] + counts[FAILED]}/{len(self._status.runs)}]"
            if run.state == FAILED:
                return f"{place} failed: {title}: {run.reason}"
            took = f", {duration(run.seconds)}" if run.seconds is not None else ""
            left = self._status.seconds_left(self._slots)
            rest = f"; about {duration(left)} left" if left else ""
            return f"{place} done: {title}{took}{rest}"
        if before == RUNNING:
            return f"stopped: {title}" + (f": {run.reason}" if run.reason else "")
        return ""


class LiveTable:
    """A table that is drawn anew in place: methods by state, and the runs under way."""

    def __init__(self, status: BenchStatus, slots: int) -> None:
        self._status, self._slots = status, slots
        protocols = {run.planned.experiment.protocol.path.stem for run in status.runs}
        self._several = len(protocols) > 1

    def _name(self, run: RunStatus) -> str:
        stem = run.planned.experiment.protocol.path.stem
        return run.planned.method + (f" on {stem}" if self._several else "")

    def render(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        lines = [self._methods()]
        if self._status.in_state(RUNNING):
            lines += [Text(), self._running()]
        for run in self._status.in_state(FAILED)[-3:]:
            lines.append(Text(f"failed: {run.planned.title}: {run.reason}", style="red"))
        left = self._status.seconds_left(self._slots)
        if left:
            lines.append(Text(f"about {duration(left)} left", style="dim"))
        return Group(*lines)

    def _methods(self) -> Any:
        from rich.text import Text

        table = _table(["method", *STATES])
        counts: dict[str, dict[str, int]] = {}
        for run in self._status.runs:
            states = counts.setdefault(self._name(run), dict.fromkeys(STATES, 0))
            states[run.state] += 1
        styles = {DONE: "green", RUNNING: "cyan", WAITING: "white", FAILED: "bold red"}
        for name, states in counts.items():
            cells = [
                f"[{styles[state]}]{states[state]}" if states[state] else "[dim]-"
                for state in STATES
            ]
            table.add_row(Text(name), *cells)
        return table

    def _running(self) -> Any:
        from rich.text import Text

        table = _table(["running", "trial", "seed", "epoch", "time left"])
        for run in self._status.in_state(RUNNING):
            tries = f" (try {run.tries})" if run.tries > 1 else ""
            left = run.progress.seconds_left
            table.add_row(
                Text(self._name(run) + tries),
                str(run.planned.experiment.trial),
                str(run.planned.experiment.seed),
                _progress(run),
                duration(left) if left is not None else "",
            )
        return table


@contextlib.contextmanager
def display(
    status: BenchStatus, slots: int, quiet: bool, stream: TextIO | None = None
) -> Iterator[Callable[[], None]]:
    """Show nothing when quiet, a live table on a terminal, else lines; yields what draws them."""
    stream = stream or sys.stderr
    if quiet or not stream.isatty():
        yield (lambda: None) if quiet else Lines(status, slots, stream)
        return
    from rich.console import Console
    from rich.live import Live

    console, render = Console(file=stream), LiveTable(status, slots).render
    with Live(console=console, get_renderable=render, refresh_per_second=4, transient=True):
        yield lambda: None  # the clock draws


def _progress(run: RunStatus) -> str:
    progress = run.progress
    if progress.stage != "train":
        return progress.stage
    if not progress.epochs:
        return "starts"
    return f"{min(progress.epoch + 1, progress.epochs)}/{progress.epochs}"


def _table(titles: list[str]) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, title in enumerate(titles):
        table.add_column(title, justify="right" if number else "left", no_wrap=number > 0)
    return table
