"""First-party evaluation protocols and training recipes: one TOML file each."""

from __future__ import annotations

from pathlib import Path

from openset_core import ProtocolSpec, RecipeSpec, hookimpl

# Run from the repository root, Python can find this folder as `protocols`.
if __name__ != "openset_protocols":
    raise ImportError(f"import openset_protocols, not {__name__}")


@hookimpl
def openset_protocols() -> list[ProtocolSpec]:
    """Every TOML file beside this module."""
    folder = Path(__file__).parent
    return [ProtocolSpec(name=path.stem, path=path) for path in sorted(folder.glob("*.toml"))]


@hookimpl
def openset_recipes() -> list[RecipeSpec]:
    """Every TOML file in `recipes`."""
    folder = Path(__file__).parent / "recipes"
    return [RecipeSpec(name=path.stem, path=path) for path in sorted(folder.glob("*.toml"))]
