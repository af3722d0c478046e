"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from openset_core.errors import RunFolderError


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Write beside a file, flush, then rename: readers see the old file or the whole new one.

    Yields:
        The path to write to; it becomes `path` when the block ends without an error.

    Raises:
        RunFolderError: the folder cannot be written or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with os_errors_as(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            with temporary.open("rb+") as handle:
                os.fsync(handle.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Fill a folder beside its place, then rename it; an old one goes when the new one is whole.

    Yields:
        The empty folder to fill; it becomes `path` when the block ends without an error, and is
        removed after one, with the folder above it where that did not exist before.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    new_parent = not path.parent.exists()
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        if path.exists():
            os.rename(path, old)
        os.rename(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
        if new_parent and not path.exists():
            with contextlib.suppress(OSError):
                path.parent.rmdir()


@contextlib.contextmanager
def os_errors_as(path: Path) -> Iterator[None]:
    """Turn an operating system's error about an output path into one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno is None and "write" not in str(error).lower():
            raise
        reason = {
            errno.ENOSPC: "the disk is full; free some space",
            errno.EDQUOT: "the disk quota is used up; free some space",
            errno.EACCES: "permission denied; choose another folder with --out",
            errno.EPERM: "permission denied; choose another folder with --out",
            errno.EROFS: "the file system is read-only; choose another folder with --out",
            errno.ENOTDIR: "a part of the path is a file; choose another folder with --out",
            errno.EEXIST: "a file is in the way; choose another folder with --out",
        }.get(error.errno or 0, str(error))
        raise RunFolderError(f"{path} cannot be written: {reason}") from error


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sha256(path: Path) -> str:
    """Hash of a file's contents."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def natural_order(text: str) -> list[tuple[str, int]]:
    """A sort key that orders numbers in names by value.

    >>> sorted(["trial10", "trial9"], key=natural_order)
    ['trial9', 'trial10']
    """
    pieces = re.findall(r"([^0-9]*)([0-9]*)", text)
    return [(words, int(number or 0)) for words, number in pieces]
