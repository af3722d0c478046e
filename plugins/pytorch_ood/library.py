"""The library itself: imported late, and explained where it is missing."""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
from types import ModuleType
from typing import Any

from openset_core.errors import PluginError

INSTALL = "pip install 'openset[pytorch-ood]'"


def module(name: str) -> ModuleType:
    """A module of the library, `"detector"`, `"loss"` or `"api"`."""
    try:
        imported = importlib.import_module(f"pytorch_ood.{name}")
        api = importlib.import_module("pytorch_ood.api")
    except ModuleNotFoundError as error:
        if error.name not in ("pytorch_ood", f"pytorch_ood.{name}", "pytorch_ood.api"):
            raise
        raise PluginError(
            f"pytorch-ood:NAME needs the library pytorch-ood, which is not installed: {INSTALL}"
        ) from error
    if not hasattr(api, "LogitsDetector"):
        raise PluginError(f"pytorch-ood {version()} is too old: {INSTALL} --upgrade")
    logger = logging.getLogger("pytorch_ood")
    if logger.level == logging.NOTSET:  # its hints are for its own callers
        logger.setLevel(logging.ERROR)
    return imported


def version() -> str:
    return importlib.metadata.version("pytorch-ood")


def classes(name: str) -> dict[str, Any]:
    """Public classes of `"detector"` or `"loss"`, by name, in the library's order."""
    members = vars(module(name))
    public = members.get("__all__") or [key for key in members if key[0] != "_"]
    return {key: members[key] for key in public if isinstance(members[key], type)}
