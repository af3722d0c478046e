"""Warnings about what is to go, for authors of plugins."""

from __future__ import annotations

import warnings

_said: set[str] = set()


def deprecated(what: str, *, instead: str, removed_in: str, stacklevel: int = 2) -> None:
    """Warn, once a process, that something is to go.

    Args:
        what: what is deprecated, for example `"FeatureMap.stride"`.
        instead: what replaces it, for example `"FeatureMap.reduction"`.
        removed_in: the version of openset without it, for example `"0.3"`.
        stacklevel: whose line the warning shows: 1 for the function that was called, 2 for its
            caller, which is the plugin where a plugin calls the deprecated function itself.
    """
    if what in _said:
        return
    _said.add(what)
    warnings.warn(
        f"{what} is deprecated and will be removed in openset {removed_in}; use {instead}",
        DeprecationWarning,
        stacklevel=stacklevel + 1,
    )
