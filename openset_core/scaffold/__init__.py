"""A complete package for a plugin of one's own: `openset plugins new`.

The templates are Jinja templates beside this module, filled in with what `NewPackage` says.
"""

from __future__ import annotations

import datetime
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

from openset_core.errors import OpensetError
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
    """A component that the new package announces."""

    kind: str
    name: str

    @property
    def class_name(self) -> str:
        """The component's name as a Python class."""
        return "".join(word.capitalize() for word in self.name.split("-"))

    @property
    def qualified(self) -> str:
        """Kind and name."""
        return f"{self.kind}:{self.name}"

    @property
    def summary(self) -> str:
        """What the working example computes."""
        return SUMMARIES[self.kind]


@attrs.frozen
class NewPackage:
    """What was written.

    Attributes:
        folder: the package.
        distribution: its name for pip.
        module: its import name.
        components: what it announces.
        files: what lies in the folder, by relative path.
    """

    folder: Path
    distribution: str
    module: str
    components: tuple[NewComponent, ...]
    files: tuple[str, ...]


def new_package(
    name: str, kinds: Sequence[str], into: Path = Path(), author: str | None = None
) -> NewPackage:
    """Write a package that announces one component of each kind.

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
    if not NAME.fullmatch(bare) or len(bare) > LONGEST_NAME:
        raise ScaffoldError(
            f"{name!r} is no name for a plugin: use up to {LONGEST_NAME} lower case letters, "
            f"digits and single hyphens, for example {valid_name(bare)}"
        )
    components = tuple(
        NewComponent(kind, bare if number == 0 else f"{bare}-{kind}")
        for number, kind in enumerate(kinds)
    )
    _check_free(components)
    distribution = PREFIX + bare
    folder = into / distribution
    if folder.exists():
        raise ScaffoldError(
            f"{folder} exists already; choose another name, or --into another place"
        )
    files = _files(distribution, components, author)
    _write(folder, files)
    module = distribution.replace("-", "_")
    return NewPackage(folder, distribution, module, components, tuple(sorted(files)))


def valid_name(name: str) -> str:
    """The nearest name that a package can have.

    >>> valid_name("MyLoss 2")
    'my-loss-2'
    """
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name)
    words = re.sub(r"[^a-z0-9]+", "-", spaced.lower()).strip("-")[:LONGEST_NAME].strip("-")
    return words if NAME.fullmatch(words) else f"my-{words}".strip("-")


def _check_free(components: Sequence[NewComponent]) -> None:
    """Two components of one kind and name would have to be told apart by their distribution."""
    for component in components:
        for installed in registry().of_kind(component.kind):
            if installed.name == component.name:
                raise ScaffoldError(
                    f"{component.kind} {component.name} is taken by {installed.distribution} "
                    f"{installed.version}; choose another name, for example my-{component.name}"
                )


def _files(
    distribution: str, components: Sequence[NewComponent], author: str | None
) -> dict[str, str]:
    """Contents by relative path."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from openset_core import __version__

    environment = Environment(
        loader=PackageLoader(__name__),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    holder, address = _author(author, distribution)
    module = distribution.replace("-", "_")
    values = {
        "address": address,
        "api": HOOK_API,
        "components": components,
        "description": _description(components),
        "distribution": distribution,
        "holder": holder,
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


def _description(components: Sequence[NewComponent]) -> str:
    if len(components) == 1:
        return f"The {components[0].kind} {components[0].name}, a plugin for openset."
    kinds = [f"a {component.kind}" for component in components]
    return f"A plugin for openset: {', '.join(kinds[:-1])} and {kinds[-1]}."


def _author(author: str | None, distribution: str) -> tuple[str, str]:
    """Name and e-mail address of the copyright holder; "" for no address."""
    if not author:
        return f"the authors of {distribution}", ""
    name, _, rest = author.partition("<")
    if not name.strip():
        raise ScaffoldError(f"--author {author!r} has no name; write 'Name <address>' or 'Name'")
    return name.strip(), rest.partition(">")[0].strip()


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
