"""Where a comparison comes from, as its page tells it."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from attrs import frozen


@frozen(kw_only=True)
class Failure:
    """A run that failed: method, protocol, trial and seed, and why in one sentence."""

    title: str
    reason: str


@frozen(kw_only=True)
class Origin:
    """Where a comparison comes from."""

    kind: str = "Comparison"  # what it is, in a word
    command: str = ""  # repeats it
    folder: Path | None = None  # where the page will lie, so that it can link to files
    failures: tuple[Failure, ...] = ()
    asked: str = ""  # what a bench was asked, as TOML
    files: tuple[tuple[str, str], ...] = ()  # names of files beside the page, and what they are
    inputs: str = ""  # hash of what the page is made from; written into it where given

    def link(self, path: Path) -> str | None:
        """A relative address of a file, from the page; None where there is no way to it."""
        if self.folder is None or not path.exists():
            return None
        try:
            way = os.path.relpath(path.resolve(), self.folder.resolve())
        except ValueError:  # another drive
            return None
        return quote(Path(way).as_posix())
