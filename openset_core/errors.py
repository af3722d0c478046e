"""Errors a user can mend: one sentence that says what is wrong, where, and what to do.

The command line prints the sentence and exits with code 2; a traceback appears only
with `--debug`. Anything that is not an `OpensetError` is a defect of the program.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class OpensetError(Exception):
    """Base of every error that a user's input, data or machine can cause."""


class PluginError(OpensetError):
    """A plugin is unknown, broken, or offered twice."""


class CompositionError(OpensetError):
    """The chosen components do not fit together."""


class ConfigError(OpensetError):
    """An option has an unknown key, a wrong type or a value out of range."""


class ProtocolError(OpensetError):
    """A protocol is unknown or contradicts itself or its data."""


class DataError(OpensetError):
    """A data set is missing or unreadable."""


class AbsentSplitError(DataError):
    """A data set is there, but laid out in other splits than the one asked for."""


AbsentPartError = AbsentSplitError
"""The old name, which plugins may still import."""


class RunFolderError(OpensetError):
    """A run folder cannot be written, is damaged, or belongs to another experiment."""


class StoreError(OpensetError):
    """A feature store is damaged or was not written by openset."""


class ModelError(OpensetError):
    """A saved model is damaged, altered, or needs a plugin that is not installed."""


class TrainingError(OpensetError):
    """Training cannot go on, for example because a loss is no longer finite."""


class FigureError(OpensetError):
    """A figure cannot be made from the runs that are there."""


class Interrupted(OpensetError):
    """The user asked to stop; what was finished is kept."""


def nearest(name: str, candidates: Iterable[str], limit: int = 3) -> list[str]:
    """The candidates most like `name`, best first; empty when none is close.

    >>> nearest("digit", ["digits", "mnist"])
    ['digits']
    """
    return difflib.get_close_matches(name, list(candidates), n=limit, cutoff=0.5)


def did_you_mean(name: str, candidates: Iterable[str], limit: int = 3) -> str:
    """A clause for error messages, empty when nothing is close.

    >>> did_you_mean("digit", ["digits", "mnist"])
    '; did you mean digits?'
    """
    close = nearest(name, candidates, limit)
    return f"; did you mean {' or '.join(close)}?" if close else ""
