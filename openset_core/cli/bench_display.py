"""What a bench shows while it runs: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from typing import Any, TextIO

from openset_core.benching.runner import Display, Silent
from openset_core.benching.status import DONE, FAILED, RUNNING, STATES, WAITING, Board, Entry
from openset_core.cli.common import duration


class Lines:
    """A line when a run begins, goes on, or ends.

    Args:
        board: what to show.
        slots: how many runs are under way at once.
        stream: where to write.
    """

    def __init__(self, board: Board, slots: int, stream: TextIO) -> None:
        self._board, self._slots, self._stream = board, slots, stream
        self._seen = [(entry.state, entry.tries) for entry in board.entries]

    def __call__(self) -> None:
        """Write about what changed since the last call."""
        for number, entry in enumerate(self._board.entries):
            before, now = self._seen[number], (entry.state, entry.tries)
            if now == before:
                continue
            self._seen[number] = now
            line = self._line(entry, before[0])
            if line:
                print(line, file=self._stream, flush=True)

    def close(self) -> None:
        """Nothing to take away."""

    def _line(self, entry: Entry, before: str) -> str:
        counts = self._board.counts()
        title = entry.planned.title
        if entry.state == RUNNING:
            return f"begins{' again' if entry.tries > 1 else ''}: {title}"
        if entry.state in (DONE, FAILED):
            place = f"[{counts[DONE] + counts[FAILED]}/{len(self._board.entries)}]"
            if entry.state == FAILED:
                return f"{place} failed: {title}: {entry.reason}"
            took = f", {duration(entry.seconds)}" if entry.seconds is not None else ""
            left = self._board.seconds_left(self._slots)
            rest = f"; about {duration(left)} left" if left else ""
            return f"{place} done: {title}{took}{rest}"
        if before == RUNNING:
            return f"stopped: {title}" + (f": {entry.reason}" if entry.reason else "")
        return ""


class LiveTable:
    """A table that is drawn anew in place: methods by state, and the runs under way.

    Args:
        board: what to show.
        slots: how many runs are under way at once.
        stream: a terminal.
    """

    def __init__(self, board: Board, slots: int, stream: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live

        self._board, self._slots = board, slots
        self._several = len({_protocol(entry) for entry in board.entries}) > 1
        self._live = Live(
            console=Console(file=stream),
            get_renderable=self._picture,
            refresh_per_second=4,
            transient=True,
        )
        self._live.start()

    def __call__(self) -> None:
        """The table is drawn by the clock."""

    def close(self) -> None:
        """Take the table away."""
        self._live.stop()

    def _picture(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        parts = [self._methods()]
        if self._board.in_state(RUNNING):
            parts += [Text(), self._running()]
        for entry in self._board.in_state(FAILED)[-3:]:
            parts.append(Text(f"failed: {entry.planned.title}: {entry.reason}", style="red"))
        left = self._board.seconds_left(self._slots)
        if left:
            parts.append(Text(f"about {duration(left)} left", style="dim"))
        return Group(*parts)

    def _methods(self) -> Any:
        table = _table(["method", *STATES])
        found: dict[str, dict[str, int]] = {}
        for entry in self._board.entries:
            states = found.setdefault(_name(entry, self._several), dict.fromkeys(STATES, 0))
            states[entry.state] += 1
        for name, states in found.items():
            table.add_row(name, *(_count(states[state], state) for state in STATES))
        return table

    def _running(self) -> Any:
        table = _table(["running", "trial", "seed", "epoch", "time left"])
        for entry in self._board.in_state(RUNNING):
            run = entry.planned.experiment
            tries = f" (try {entry.tries})" if entry.tries > 1 else ""
            table.add_row(
                _name(entry, self._several) + tries,
                str(run.trial),
                str(run.seed),
                _progress(entry),
                duration(entry.seconds_left) if entry.seconds_left is not None else "",
            )
        return table


def display(board: Board, slots: int, quiet: bool, stream: TextIO | None = None) -> Display:
    """The display that fits: none when quiet, live on a terminal, else lines."""
    stream = stream or sys.stderr
    if quiet:
        return Silent()
    return LiveTable(board, slots, stream) if stream.isatty() else Lines(board, slots, stream)


def _protocol(entry: Entry) -> str:
    return entry.planned.experiment.protocol.path.stem


def _name(entry: Entry, several_protocols: bool) -> str:
    on = f" on {_protocol(entry)}" if several_protocols else ""
    return entry.planned.method + on


def _progress(entry: Entry) -> str:
    """Which epoch of how many, or the stage after training."""
    if entry.stage != "train":
        return entry.stage
    if not entry.epochs:
        return "starts"
    return f"{min(entry.epoch + 1, entry.epochs)}/{entry.epochs}"


def _table(titles: list[str]) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, title in enumerate(titles):
        table.add_column(title, justify="right" if number else "left", no_wrap=number > 0)
    return table


def _count(count: int, state: str) -> Any:
    from rich.text import Text

    style = {DONE: "green", RUNNING: "cyan", WAITING: "", FAILED: "bold red"}[state]
    return Text(str(count) if count else "-", style=style if count else "dim")
