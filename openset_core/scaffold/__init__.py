"""A complete package for a plugin of one's own: `openset plugins new`.

The templates are Jinja templates beside this module, filled in with what `NewPackage` says.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from pathlib import Path

import attrs

from openset_core.errors import OpensetError
from openset_core.files import atomic_folder
from openset_core.registry import registry
from openset_core.specs import HOOK_API

PREFIX = "openset-"
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
LONGEST_NAME = 40

SUMMARIES = {
    "backbone": "a backbone of three convolutional stages",
    "loss": "cross entropy over cosines with a margin",
    "scorer": "distance to the nearest class mean",
    "generator": "smooth noise as samples of the open space",
}
KINDS = tuple(SUMMARIES)


class ScaffoldError(OpensetError):
    """A package cannot be made under this name or at this place."""


@attrs.frozen
class NewComponent:
    """A component that the new package announces, as the templates use it."""

    kind: str
    name: str

    @property
    def class_name(self) -> str:
        return "".join(word.capitalize() for word in self.name.split("-"))

    @property
    def qualified(self) -> str:
        return f"{self.kind}:{self.name}"

    @property
    def summary(self) -> str:
        return SUMMARIES[self.kind]


@attrs.frozen
class NewPackage:
    """What was written; `files` are relative to `folder`."""

    folder: Path
    distribution: str
    components: tuple[NewComponent, ...]
    files: tuple[str, ...]


def new_package(
    name: str, kinds: Sequence[str], into: Path = Path(), author: str | None = None
) -> NewPackage:
    """Write a package that announces one component of each kind. `name` is that of the first; the
    others have their kind added. `author` is a name, or `Name <address>`."""
    kinds = list(dict.fromkeys(kinds))
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise ScaffoldError(
            f"a package needs one kind or several of {', '.join(KINDS)}, not {unknown or 'none'}"
        )
    bare = name.removeprefix(PREFIX)
    if not NAME.fullmatch(bare) or len(bare) > LONGEST_NAME:
        raise ScaffoldError(
            f"{name!r} is no name for a plugin: use up to {LONGEST_NAME} lower case letters, "
            f"digits and single hyphens, for example {valid_name(bare)}"
        )
    components = tuple(
        NewComponent(kind, bare if number == 0 else f"{bare}-{kind}")
        for number, kind in enumerate(kinds)
    )
    for component in components:
        for installed in registry().of_kind(component.kind):
            if installed.name == component.name:
                raise ScaffoldError(
                    f"{component.kind} {component.name} is taken by {installed.distribution} "
                    f"{installed.version}; choose another name, for example my-{component.name}"
                )
    distribution = PREFIX + bare
    folder = into / distribution
    if folder.exists():
        raise ScaffoldError(
            f"{folder} exists already; choose another name, or --into another place"
        )
    files = _files(distribution, components, author)
    try:
        with atomic_folder(folder) as temporary:
            for path, text in files.items():
                target = temporary / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ScaffoldError(f"{folder} cannot be written: {error}") from error
    return NewPackage(folder, distribution, components, tuple(sorted(files)))


def valid_name(name: str) -> str:
    """The nearest name that a package can have.

    >>> valid_name("MyLoss 2")
    'my-loss-2'
    """
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name)
    words = re.sub(r"[^a-z0-9]+", "-", spaced.lower()).strip("-")[:LONGEST_NAME].strip("-")
    return words if NAME.fullmatch(words) else f"my-{words}".strip("-")


def _files(
    distribution: str, components: Sequence[NewComponent], author: str | None
) -> dict[str, str]:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from openset_core import __version__

    environment = Environment(
        loader=PackageLoader(__name__),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    holder, _, rest = (author or f"the authors of {distribution}").partition("<")
    if not holder.strip():
        raise ScaffoldError(f"--author {author!r} has no name; write 'Name <address>' or 'Name'")
    listed = [f"a {component.kind}" for component in components]
    description = f"A plugin for openset: {', '.join(listed[:-1])} and {listed[-1]}."
    if len(components) == 1:
        description = f"The {components[0].kind} {components[0].name}, a plugin for openset."
    module = distribution.replace("-", "_")
    values = {
        "address": rest.partition(">")[0].strip(),
        "api": HOOK_API,
        "components": components,
        "description": description,
        "distribution": distribution,
        "holder": holder.strip(),
        "kinds": [component.kind for component in components],
        "module": module,
        "openset_version": __version__,
        "year": datetime.date.today().year,
    }

    def filled(template: str, component: NewComponent | None = None) -> str:
        return environment.get_template(f"{template}.tmpl").render(values, component=component)

    files = {
        ".github/workflows/test.yml": filled("workflow.yml"),
        ".gitignore": filled("gitignore"),
        "LICENSE": filled("LICENSE"),
        "README.md": filled("README.md"),
        "pyproject.toml": filled("pyproject.toml"),
        f"src/{module}/__init__.py": filled("__init__.py"),
        f"src/{module}/py.typed": "",
    }
    for component in components:
        kind = component.kind
        files[f"src/{module}/{kind}.py"] = filled(f"{kind}.py", component)
        files[f"tests/test_{kind}.py"] = filled(f"test_{kind}.py", component)
    return files
