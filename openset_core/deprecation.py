"""Warnings about what is to go, for authors of plugins."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


class DeprecatedError(Exception):
    """What is to go was used where that is not allowed."""


_said: set[str] = set()
_forbidden: list[bool] = []


def deprecated(what: str, *, instead: str, removed_in: str, stacklevel: int = 2) -> None:
    """Warn, once a process, that something is to go.

    Args:
        what: what is deprecated, for example `"FeatureMap.stride"`.
        instead: what replaces it, for example `"FeatureMap.reduction"`.
        removed_in: the version of openset without it, for example `"0.3"`.
        stacklevel: whose line the warning shows: 1 for the function that was called, 2 for its
            caller, which is the plugin where a plugin calls the deprecated function itself.
    """
    text = f"{what} is deprecated and will be removed in openset {removed_in}; use {instead}"
    if _forbidden:
        raise DeprecatedError(text)
    if what not in _said:
        _said.add(what)
        warnings.warn(text, DeprecationWarning, stacklevel=stacklevel + 1)


@contextmanager
def forbidden() -> Iterator[None]:
    """Inside the block what is to go raises `DeprecatedError`, each time, instead of warning."""
    _forbidden.append(True)
    try:
        yield
    finally:
        _forbidden.pop()
