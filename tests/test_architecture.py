"""The rules of the house, read from the source: who imports what, and what is documented."""

from __future__ import annotations

import ast
import importlib
import re
import shutil
import subprocess
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import openset_core
import openset_plugins
import openset_protocols
from openset_core.registry import registry

CORE = Path(openset_core.__file__).parent
PLUGINS = Path(openset_plugins.__file__).parent
PROTOCOLS = Path(openset_protocols.__file__).parent

PUBLIC_MODULES = (
    "openset_core.auxiliary_batchnorm",
    "openset_core.data.folders",
    "openset_core.data.image_list",
    "openset_core.data.images",
    "openset_core.data.reading",
    "openset_core.errors",
    "openset_core.files",
    "openset_core.observers",
    "openset_core.report.colours",
    "openset_core.report.data",
    "openset_core.report.figures",
    "openset_core.report.figures.panels",
    "openset_core.report.figures.picture",
    "openset_core.report.figures.runs",
    "openset_core.report.figure_cache",
    "openset_core.report.style",
)
"""Modules that plugins may import beside the names of `openset_core` itself."""

EVALUATION_RULES = {"arpl"}
"""Ways to evaluate that are named after the release they follow; no method is meant."""


def modules(folder, name):
    """Every module below a package's folder, by its import name."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        found[".".join([name, *(part for part in parts if part != "__init__")])] = path
    return found


CORE_MODULES = modules(CORE, "openset_core")
PLUGIN_MODULES = modules(PLUGINS, "openset_plugins") | modules(PROTOCOLS, "openset_protocols")
each_core_module = pytest.mark.parametrize("module", CORE_MODULES)
each_plugin_module = pytest.mark.parametrize("module", PLUGIN_MODULES)
every_module = pytest.mark.parametrize("module", CORE_MODULES | PLUGIN_MODULES)


@cache
def tree(module):
    return ast.parse((CORE_MODULES | PLUGIN_MODULES)[module].read_text(encoding="utf-8"))


def imported(source, module, is_package):
    """(module, name) of every import, wherever it stands; name is "" for `import module`."""
    package = module.split(".") if is_package else module.split(".")[:-1]
    found = []
    for node in ast.walk(source):
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            found += [(origin, alias.name) for alias in node.names]
    return found


def imports_of(module):
    path = (CORE_MODULES | PLUGIN_MODULES)[module]
    return imported(tree(module), module, path.name == "__init__.py")


def within(name, package):
    return name == package or name.startswith(package + ".")


def docstrings(source):
    """The string constants that are docstrings, of attributes too."""
    return {
        id(node.value)
        for node in ast.walk(source)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }


def strings(source):
    """String constants that are no docstrings, with their lines."""
    prose = docstrings(source)
    return [
        (node.lineno, node.value)
        for node in ast.walk(source)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose
    ]


# ---- who imports what


def test_all_of_the_source_is_looked_at():
    assert {"openset_core", "openset_core.registry", "openset_core.cli.run"} <= set(CORE_MODULES)
    assert {"openset_plugins.m2iosr.loss", "openset_protocols"} <= set(PLUGIN_MODULES)


def test_imports_are_found_in_every_form():
    source = ast.parse(
        "import a.b as c\nfrom d import e\ndef f():\n    from g.h import i\n"
        "from . import j\nfrom .k import l\nfrom ..m import n\nif x:\n    import o, p\n"
    )
    assert sorted(imported(source, "top.sub.module", False)) == [
        ("a.b", ""),
        ("d", "e"),
        ("g.h", "i"),
        ("o", ""),
        ("p", ""),
        ("top.m", "n"),
        ("top.sub", "j"),
        ("top.sub.k", "l"),
    ]
    assert imported(ast.parse("from .k import l"), "top.sub", True) == [("top.sub.k", "l")]


@each_core_module
def test_the_core_imports_no_plugin(module):
    for origin, name in imports_of(module):
        assert not within(origin, "openset_plugins"), (module, origin)
        assert not within(origin, "openset_protocols"), (module, origin)
        assert name not in ("openset_plugins", "openset_protocols"), module
    for line, text in strings(tree(module)):
        assert "openset_plugins" not in text, f"{module}:{line} names the plugins' package"


def method_names():
    """Names of first-party parts, as written in --plugins and as identifiers."""
    kinds = ("loss", "backbone", "scorer", "generator")
    parts = {
        p.name for p in registry().components if p.distribution == "openset" and p.kind in kinds
    }
    return {name for part in parts for name in (part, part.replace("-", "_"))}


@each_core_module
def test_the_core_knows_no_method_by_name(module):
    methods = method_names()
    assert {"m2iosr", "softmax", "max-logit", "max_logit"} <= methods
    for origin, name in imports_of(module):
        # torch's own functional.softmax is a function, not a method of this project.
        if not within(origin, "torch"):
            assert not {*origin.split("."), name} & methods, (module, origin, name)
    for line, text in strings(tree(module)):
        known = text in methods - EVALUATION_RULES
        assert not known, f"{module}:{line} knows the method {text!r}"


@each_plugin_module
def test_plugins_use_public_names_of_the_core_only(module):
    for origin, name in imports_of(module):
        if not within(origin, "openset_core"):
            continue
        where = f"{module} imports {origin}{'.' + name if name else ''}"
        assert name, f"{where}; name what is used, as in `from {origin} import ...`"
        assert origin == "openset_core" or origin in PUBLIC_MODULES, where
        if origin == "openset_core":
            assert name in openset_core.__all__, where
        else:
            public = importlib.import_module(origin)
            assert not name.startswith("_"), where
            assert getattr(public, name).__module__ == origin, where


def test_no_modules_import_each_other_in_a_circle():
    """Imports inside functions count, too: a circle hides behind them, but stays one."""
    known = CORE_MODULES | PLUGIN_MODULES
    graph = {
        module: {
            target
            for origin, name in imports_of(module)
            for target in (f"{origin}.{name}" if f"{origin}.{name}" in known else origin,)
            if target in known and target != "openset_core"  # the face, which names all it offers
        }
        for module in known
        if module != "openset_core"
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_every_public_name_exists_and_nothing_else_is_promised():
    for name in openset_core.__all__:
        assert getattr(openset_core, name) is not None
    assert len(set(openset_core.__all__)) == len(openset_core.__all__)
    assert dir(openset_core) == sorted(openset_core.__all__)
    assert set(openset_core._LAZY) <= set(openset_core.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = openset_core.Nonsense


def test_the_guide_names_the_public_modules():
    guide = (CORE / "README.md").read_text(encoding="utf-8")
    for name in PUBLIC_MODULES:
        assert f"`{name}`" in guide


def test_the_folders_have_no_other_import_name():
    for package, name in ((openset_plugins, "plugins"), (openset_protocols, "protocols")):
        source = Path(package.__file__).read_text(encoding="utf-8")
        with pytest.raises(ImportError, match=f"import openset_{name}, not {name}"):
            exec(compile(source, name, "exec"), {"__name__": name, "__file__": package.__file__})


# ---- what lies where

TOP_LEVEL = {
    "CONTRIBUTING.md",
    "LICENSE",
    "README.md",
    "openset_core",
    "plugins",
    "protocols",
    "pyproject.toml",
    "tests",
}
"""What the repository holds beside names that begin with a dot."""


def test_the_top_level_stays_as_it_is():
    root = CORE.parent
    if not (root / ".git").exists() or not shutil.which("git"):
        pytest.skip("no git checkout, so nothing says which files belong to the repository")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    names = {path.split("/")[0] for path in listed if path and not path.startswith(".")}
    assert names == TOP_LEVEL


def test_the_pictures_of_the_readme_are_there():
    root = CORE.parent
    shown = re.findall(r'<img src="([^"]+)"', (root / "README.md").read_text(encoding="utf-8"))
    assert len(shown) == 2
    for path in shown:
        assert (root / path).read_bytes().startswith(b"\x89PNG"), path


# ---- what is documented


def public_definitions(node, prefix=""):
    """Public functions and classes of a module and the public methods of those classes."""
    for child in node.body:
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if child.name.startswith("_"):
            continue
        yield prefix + child.name, child
        if isinstance(child, ast.ClassDef):
            yield from public_definitions(child, f"{prefix}{child.name}.")


@every_module
def test_every_public_name_has_a_docstring(module):
    source = tree(module)
    assert ast.get_docstring(source), f"{module} has no docstring"
    bare = [name for name, node in public_definitions(source) if not ast.get_docstring(node)]
    assert bare == [], f"{module}: no docstring on {', '.join(bare)}"
