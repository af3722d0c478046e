"""What a run records of where it was made: library versions, hardware, commit."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any


def library_versions() -> dict[str, str]:
    """Versions of openset and of the libraries that decide results."""
    from openset_core import __version__

    versions = {"openset": __version__, "python": platform.python_version()}
    for name in ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "timm"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def hardware() -> dict[str, Any]:
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "processors": os.cpu_count() or 0,
    }


def git_commit() -> dict[str, str]:
    """The commit of the working copy that runs, where there is one."""
    here = Path(__file__).resolve().parents[1]
    if not (here.parent / ".git").exists():
        return {}
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"git_commit": done.stdout.strip()}
