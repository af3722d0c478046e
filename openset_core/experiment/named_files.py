"""TOML files that plugins offer by name and a person names by path: protocols and recipes."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from openset_core.errors import ProtocolError, did_you_mean
from openset_core.registry import Registry, registry


@frozen
class NamedFile:
    path: Path
    label: str  # what errors and tables call it
    own: bool  # a person's own file, read by its path


def find_file(kind: str, name: str, plugins: Registry | None = None) -> NamedFile:
    """The protocol or recipe that a user means; a path ends in `.toml` or holds a slash."""
    if name.endswith(".toml") or "/" in name:
        return NamedFile(Path(name), str(Path(name)), own=True)
    installed = (plugins or registry()).of_kind(kind)
    matching = [item for item in installed if item.name == name]
    if not matching:
        names = [item.name for item in installed]
        raise ProtocolError(
            f"no {kind} is called {name!r}{did_you_mean(name, names)}; installed: "
            f"{', '.join(names) or 'none'}; a file of your own is named by its path"
        )
    if len(matching) > 1:
        owners = " and ".join(f"{item.distribution} {item.version}" for item in matching)
        paths = " or ".join(str(item.spec.path) for item in matching)
        raise ProtocolError(f"{owners} both offer {kind} {name!r}; name one by path: {paths}")
    return NamedFile(matching[0].spec.path, name, own=False)
