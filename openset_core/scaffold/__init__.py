"""A complete package for a plugin of one's own: `openset plugins new`.

The templates are text files beside this module, filled in by `string.Template` with `%%{name}`.
"""

from __future__ import annotations

import datetime
import re
import shutil
import string
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

from openset_core.errors import OpensetError
from openset_core.registry import registry
from openset_core.specs import HOOK_API

KINDS = ("backbone", "loss", "scorer", "generator")
TEMPLATES = Path(__file__).parent / "templates"
PREFIX = "openset-"
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
LONGEST_NAME = 40

SUMMARIES = {
    "backbone": "a backbone of three convolutional stages",
    "loss": "cross entropy over cosines with a margin",
    "scorer": "distance to the nearest class mean",
    "generator": "smooth noise as samples of the open space",
}

# What the modules of each kind import: for the announcement from openset_core and from attrs'
# validators, for the tests from libraries, from openset_core, its errors and the package itself.
SPEC_IMPORTS = {
    "backbone": ("BackboneSpec", ("ge",)),
    "loss": ("RepresentationLossSpec", ("ge", "gt", "le")),
    "scorer": ("UnknownScorerSpec", ()),
    "generator": ("SampleGeneratorSpec", ("ge",)),
}
TEST_IMPORTS = {
    "backbone": ("import torch", "BackboneContext", "CompositionError", "build"),
    "loss": ("import torch", "Features, LossContext", "", "build"),
    "scorer": ("import numpy as np", "", "", "%%{class}"),
    "generator": ("", "GeneratorContext", "", "build"),
}


class ScaffoldError(OpensetError):
    """A package cannot be made under this name or at this place."""


class _Template(string.Template):
    """Placeholders `%%{name}`: nothing that Python, TOML or YAML would write."""

    delimiter = "%%"


@attrs.frozen
class NewComponent:
    """A part that the new package announces."""

    kind: str
    name: str

    @property
    def class_name(self) -> str:
        """The part's name as a Python class."""
        return "".join(word.capitalize() for word in self.name.split("-"))


@attrs.frozen
class NewPackage:
    """What was written.

    Attributes:
        folder: the package.
        distribution: its name for pip.
        module: its import name.
        parts: what it announces.
        files: what lies in the folder, by relative path.
    """

    folder: Path
    distribution: str
    module: str
    parts: tuple[NewComponent, ...]
    files: tuple[str, ...]


def new_package(
    name: str, kinds: Sequence[str], into: Path = Path(), author: str | None = None
) -> NewPackage:
    """Write a package that announces one part of each kind.

    Args:
        name: what users write after `--plugins`; with several kinds that of the first, the
            others have their kind added.
        kinds: among `backbone`, `loss`, `scorer` and `generator`.
        into: folder in which the package's folder is made.
        author: name, or `Name <address>`.

    Raises:
        ScaffoldError: a bad name, one that is taken, or a folder that is there already.
    """
    kinds = list(dict.fromkeys(kinds))
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise ScaffoldError(
            f"a package needs one kind or several of {', '.join(KINDS)}, not {unknown or 'none'}"
        )
    bare = name.removeprefix(PREFIX)
    _check_name(name, bare)
    parts = tuple(
        NewComponent(kind, bare if number == 0 else f"{bare}-{kind}")
        for number, kind in enumerate(kinds)
    )
    _check_free(parts)
    distribution = PREFIX + bare
    folder = into / distribution
    if folder.exists():
        raise ScaffoldError(
            f"{folder} exists already; choose another name, or --into another place"
        )
    module = distribution.replace("-", "_")
    files = _files(bare, distribution, module, parts, author)
    _write(folder, files)
    return NewPackage(folder, distribution, module, parts, tuple(sorted(files)))


def valid_name(name: str) -> str:
    """The nearest name that a package can have."""
    words = re.sub(r"[^a-z0-9]+", "-", _spaced(name).lower()).strip("-")
    words = words[:LONGEST_NAME].strip("-")
    return words if NAME.fullmatch(words) else f"my-{words}".strip("-")


def _spaced(name: str) -> str:
    """`MyLoss` as `My-Loss`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name)


def _check_name(name: str, bare: str) -> None:
    if not NAME.fullmatch(bare) or len(bare) > LONGEST_NAME:
        raise ScaffoldError(
            f"{name!r} is no name for a plugin: use up to {LONGEST_NAME} lower case letters, "
            f"digits and single hyphens, for example {valid_name(bare)}"
        )


def _check_free(parts: Sequence[NewComponent]) -> None:
    """A part of that kind and name would have to be written with its distribution each time."""
    for part in parts:
        for installed in registry().of_kind(part.kind):
            if installed.name == part.name:
                raise ScaffoldError(
                    f"{part.kind} {part.name} is taken by {installed.distribution} "
                    f"{installed.version}; choose another name, for example my-{part.name}"
                )


# --- contents -----------------------------------------------------------------------------


def _files(
    name: str, distribution: str, module: str, parts: Sequence[NewComponent], author: str | None
) -> dict[str, str]:
    """Contents by relative path."""
    from openset_core import __version__

    holder, authors = _author(author, distribution)
    common = {
        "api": str(HOOK_API),
        "authors": authors,
        "check_commands": "\n".join(f"    openset plugins check {_qualified(p)}" for p in parts),
        "check_steps": "\n".join(
            f"      - run: openset plugins check {_qualified(p)}" for p in parts
        ),
        "description": _description(parts),
        "distribution": distribution,
        "example": _example(parts),
        "holder": holder,
        "module": module,
        "name": name,
        "openset_version": __version__,
        "part_list": "\n".join(f"- {p.kind} `{p.name}`: {SUMMARIES[p.kind]}" for p in parts),
        "show_commands": "\n".join(f"    openset plugins show {_qualified(p)}" for p in parts),
        "year": str(datetime.date.today().year),
    }
    files = {
        ".github/workflows/test.yml": _filled("workflow.yml", common),
        ".gitignore": _filled("gitignore", common),
        "LICENSE": _filled("LICENSE", common),
        "README.md": _filled("README.md", common),
        "pyproject.toml": _filled("pyproject.toml", common),
        f"src/{module}/__init__.py": _announcement(parts, common),
        f"src/{module}/py.typed": "",
    }
    for part in parts:
        values = {**common, "class": part.class_name, "part": part.name, "kind": part.kind}
        files[f"src/{module}/{part.kind}.py"] = _filled(f"{part.kind}.py", values)
        head = {**values, "imports": _test_imports(part, values)}
        files[f"tests/test_{part.kind}.py"] = _filled("test_head.py", head) + _filled(
            f"test_{part.kind}.py", values
        )
    return files


def _announcement(parts: Sequence[NewComponent], common: Mapping[str, str]) -> str:
    specs: list[str] = []
    validators: set[str] = set()
    for part in parts:
        spec, needed = SPEC_IMPORTS[part.kind]
        specs.append(spec)
        validators.update(needed)
    lines = ["from attrs import frozen"]
    if validators:
        lines.append(f"from attrs.validators import {', '.join(sorted(validators))}")
    lines += [_import_line("openset_core", [*sorted(specs), "hookimpl", "option"])]
    text = _filled("init_head.py", {**common, "imports": "\n".join(lines)})
    for part in parts:
        values = {**common, "class": part.class_name, "part": part.name}
        text += _filled(f"{part.kind}_spec.py", values)
    return text


def _import_line(origin: str, names: Sequence[str], width: int = 100) -> str:
    line = f"from {origin} import {', '.join(names)}"
    if len(line) <= width:
        return line
    return "\n".join([f"from {origin} import (", *(f"    {name}," for name in names), ")"])


def _test_imports(part: NewComponent, values: Mapping[str, str]) -> str:
    library, public, errors, built = TEST_IMPORTS[part.kind]
    libraries = sorted(["import pytest", *([library] if library else [])])
    core = ["from openset_core import " + ", ".join([*([public] if public else []), "testing"])]
    if errors:
        core.append(f"from openset_core.errors import {errors}")
    own = [
        f"from {values['module']} import {part.class_name}Options",
        f"from {values['module']}.{part.kind} import {_Template(built).substitute(values)}",
    ]
    return "\n".join([*libraries, *core, "", *own])


def _filled(template: str, values: Mapping[str, str]) -> str:
    text = (TEMPLATES / f"{template}.tmpl").read_text(encoding="utf-8")
    return _Template(text).substitute(values)


def _description(parts: Sequence[NewComponent]) -> str:
    if len(parts) == 1:
        return f"The {parts[0].kind} {parts[0].name}, a plugin for openset."
    kinds = [f"a {part.kind}" for part in parts]
    return f"A plugin for openset: {', '.join(kinds[:-1])} and {kinds[-1]}."


def _qualified(part: NewComponent) -> str:
    return f"{part.kind}:{part.name}"


def _example(parts: Sequence[NewComponent]) -> str:
    """What to write after `--plugins`; the protocol adds what is missing."""
    return ",".join(part.name for part in parts)


def _author(author: str | None, distribution: str) -> tuple[str, str]:
    """Copyright holder, and the entry of pyproject's `authors`."""
    if not author:
        return f"the authors of {distribution}", f'{{ name = "the authors of {distribution}" }}'
    name, _, rest = author.partition("<")
    quoted = name.strip().replace("\\", "").replace('"', "'")
    address = rest.partition(">")[0].strip().replace('"', "")
    if not quoted:
        raise ScaffoldError(f"--author {author!r} has no name; write 'Name <address>' or 'Name'")
    mail = f', email = "{address}"' if address else ""
    return name.strip(), f'{{ name = "{quoted}"{mail} }}'


def _write(folder: Path, files: Mapping[str, str]) -> None:
    """Write all files beside the place and rename: the folder appears whole or not at all."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise ScaffoldError(f"{folder} cannot be made: {error}") from error
    try:
        for path, text in files.items():
            target = temporary / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        temporary.chmod(0o755)
        temporary.rename(folder)
    except OSError as error:
        raise ScaffoldError(f"{folder} cannot be written: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
