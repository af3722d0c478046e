"""Where a comparison comes from, as its page tells it."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from attrs import frozen


@frozen(kw_only=True)
class Failure:
    """A run that failed.

    Attributes:
        title: method, protocol, trial and seed.
        reason: one sentence.
    """

    title: str
    reason: str


@frozen(kw_only=True)
class Origin:
    """Where a comparison comes from.

    Attributes:
        kind: what it is, in a word.
        command: repeats it; empty where it is not known.
        folder: where the page will lie, so that it can link to files; None for nowhere.
        failures: runs that failed.
        asked: what a bench was asked, as TOML.
        files: names of files beside the page, and what they are.
        inputs: hash of what the page is made from; written into it where given.
    """

    kind: str = "Comparison"
    command: str = ""
    folder: Path | None = None
    failures: tuple[Failure, ...] = ()
    asked: str = ""
    files: tuple[tuple[str, str], ...] = ()
    inputs: str = ""

    def link(self, path: Path) -> str | None:
        """A relative address of a file, from the page; None where there is no way to it."""
        if self.folder is None or not path.exists():
            return None
        try:
            way = os.path.relpath(path.resolve(), self.folder.resolve())
        except ValueError:  # another drive
            return None
        return quote(Path(way).as_posix())
