"""The observer."""

from __future__ import annotations

from pathlib import Path

from openset_core import NoOptions, Observer, RunEvent


class Diary(Observer):
    """Writes down what happens."""

    def __init__(self, _config: NoOptions, folder: Path) -> None:
        self.path = folder / "diary.txt"

    def receive(self, event: RunEvent) -> None:
        """Add a line."""
        self._add(type(event).__name__)

    def close(self) -> None:
        """Add a last line."""
        self._add("closed")

    def _add(self, line: str) -> None:
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")
