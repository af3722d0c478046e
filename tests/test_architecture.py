"""The rules of the house, read from the source: who imports what, and what is documented."""

from __future__ import annotations

import ast
import importlib
import inspect
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

ORDER = (
    # what a third party imports: the contract of plugins
    "errors",
    "files",
    "specs",
    "hookspecs",
    "auxiliary_batchnorm",
    "components",
    "scorer",
    "observers",
    # the flow of a run
    "registry",
    "metrics",  # pure functions on arrays; options and protocols name metrics
    "experiment",
    "run_folder",  # which files a run has; data reads the paths from it
    "data",
    "model",
    "training",
    "features",
    "scoring",
    "results",
    "inference",
    # several runs, and what is shown of them
    "benching",
    "report",
    "pipeline",
    # how people call all of this
    "api",
    "estimator",  # beside api, not in inference, because it trains
    "scaffold",  # below cli, because `openset plugins new` calls it
    "testing",  # below cli, because `openset plugins check` calls it
    "cli",
)
"""Every module and package in openset_core/; each imports from those before it only."""

CONTRACT_MODULES = (
    "openset_core.auxiliary_batchnorm",
    "openset_core.data.folders",
    "openset_core.data.image_list",
    "openset_core.data.images",
    "openset_core.data.reading",
    "openset_core.errors",
    "openset_core.files",
    "openset_core.observers",
    "openset_core.testing",
)
"""Modules that third parties may import beside the names of `openset_core` itself."""

FIGURE_MODULES = (
    "openset_core.report.charts.feature_space",
    "openset_core.report.charts.panels",
    "openset_core.report.charts.sweeps",
    "openset_core.report.data",
    "openset_core.report.figure_cache",
    "openset_core.report.figures",
    "openset_core.report.figures.drawing",
)
"""Modules that plugins with figures may import."""

PUBLIC_MODULES = CONTRACT_MODULES + FIGURE_MODULES

EVALUATION_RULES = {"arpl"}
"""Ways to evaluate that are named after the release they follow; no method is meant."""


def modules(folder, name):
    """Every module below a package's folder, by its import name."""
    paths = {}
    for path in sorted(folder.rglob("*.py")):
        words = path.relative_to(folder).with_suffix("").parts
        paths[".".join([name, *(word for word in words if word != "__init__")])] = path
    return paths


CORE_MODULES = modules(CORE, "openset_core")
PLUGIN_MODULES = modules(PLUGINS, "openset_plugins") | modules(PROTOCOLS, "openset_protocols")
ALL_MODULES = CORE_MODULES | PLUGIN_MODULES


@cache
def tree(module):
    return ast.parse(ALL_MODULES[module].read_text(encoding="utf-8"))


def imported(source, module, is_package, annotations=True):
    """(module, name) of every import, wherever it stands; name is "" for `import module`.

    With annotations=False those under `if TYPE_CHECKING:` are left out.
    """
    package = module.split(".") if is_package else module.split(".")[:-1]
    imports = []
    nodes = [source]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            imports += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            imports += [(origin, alias.name) for alias in node.names]
        elif annotations or not (isinstance(node, ast.If) and is_type_checking(node.test)):
            nodes += ast.iter_child_nodes(node)
    return imports


def is_type_checking(test):
    return isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"


@cache
def imports_of(module, annotations=True):
    is_package = ALL_MODULES[module].name == "__init__.py"
    return imported(tree(module), module, is_package, annotations)


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
    for_types = ast.parse("import a\nif TYPE_CHECKING:\n    import b\nelse:\n    import c\n")
    assert imported(for_types, "top", False, annotations=False) == [("a", "")]


def test_the_core_imports_no_plugin():
    for module in CORE_MODULES:
        for origin, name in imports_of(module):
            assert not within(origin, "openset_plugins"), (module, origin)
            assert not within(origin, "openset_protocols"), (module, origin)
            assert name not in ("openset_plugins", "openset_protocols"), module
        for line, text in strings(tree(module)):
            assert "openset_plugins" not in text, f"{module}:{line} names the plugins' package"


def method_names():
    """Names of first-party components, as written in --plugins and as identifiers."""
    kinds = ("loss", "backbone", "scorer", "generator")
    names = {
        component.name
        for component in registry().components
        if component.distribution == "openset" and component.kind in kinds
    }
    return names | {name.replace("-", "_") for name in names}


def test_the_core_knows_no_method_by_name():
    methods = method_names()
    assert {"m2iosr", "softmax", "max-logit", "max_logit"} <= methods
    for module in CORE_MODULES:
        for origin, name in imports_of(module):
            # torch's own functional.softmax is a function, not a method of this project.
            if not within(origin, "torch"):
                assert not {*origin.split("."), name} & methods, (module, origin, name)
        for line, text in strings(tree(module)):
            known = text in methods - EVALUATION_RULES
            assert not known, f"{module}:{line} knows the method {text!r}"


def test_plugins_use_public_names_of_the_core_only():
    for module in PLUGIN_MODULES:
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


def targets(module, annotations=True):
    """The modules of this project that a module imports."""
    return {
        f"{origin}.{name}" if f"{origin}.{name}" in ALL_MODULES else origin
        for origin, name in imports_of(module, annotations)
        if origin in ALL_MODULES
    }


def test_the_core_does_not_import_from_its_own_face():
    """`openset_core` resolves its names lazily, so an import of one would hide an arrow."""
    for module in set(CORE_MODULES) - {"openset_core"}:
        for origin, name in imports_of(module):
            if origin == "openset_core" and name not in ("", "__version__"):
                assert f"openset_core.{name}" in CORE_MODULES, (module, name)


def test_packages_import_downwards_only():
    """Imports inside functions count; those for type annotations alone do not."""
    rank = {name: number for number, name in enumerate(ORDER)}
    upwards = {}
    for module in CORE_MODULES:
        if module == "openset_core":
            continue
        own = module.split(".")[1]
        for target in targets(module, annotations=False) - {"openset_core"}:
            other = target.split(".")[1]
            if rank[other] > rank[own]:
                upwards.setdefault((own, other), []).append(f"{module} imports {target}")
    assert not upwards, upwards


def test_no_modules_import_each_other_in_a_circle():
    """Imports inside functions count, too: a circle hides behind them, but stays one."""
    graph = {
        module: targets(module) - {"openset_core"}
        for module in ALL_MODULES
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


def test_every_module_that_is_public_for_figures_is_used_by_a_plugin():
    used = {origin for module in PLUGIN_MODULES for origin, _name in imports_of(module)}
    assert set(FIGURE_MODULES) <= used


def test_charts_are_drawn_by_altair_alone():
    origins = {
        origin for module in (*CORE_MODULES, *PLUGIN_MODULES) for origin, _ in imports_of(module)
    }
    assert any(within(origin, "altair") for origin in origins)
    assert not any(within(origin, "matplotlib") for origin in origins)


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


def test_the_core_holds_the_listed_modules_and_packages_only():
    entries = {path.name.removesuffix(".py") for path in CORE.iterdir()}
    assert entries - {"__init__", "__pycache__", "README.md", "py.typed"} == set(ORDER)
    assert len(ORDER) < 30


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


def test_every_module_has_a_docstring():
    assert [module for module in ALL_MODULES if not ast.get_docstring(tree(module))] == []


def definitions(source):
    """Public functions and classes at the top of a module."""
    return [
        node
        for node in source.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    ]


def without_docstring(source):
    """Public functions and classes of a module, or methods of a class, that have none."""
    return [node.name for node in definitions(source) if not ast.get_docstring(node)]


def test_every_function_and_class_of_a_public_module_has_a_docstring():
    bare = {module: without_docstring(tree(module)) for module in PUBLIC_MODULES}
    assert not any(bare.values()), bare


def test_every_public_name_has_a_docstring_and_so_do_its_methods():
    bare = []
    for name in set(openset_core.__all__) - {"HOOK_API", "__version__"}:
        public = getattr(openset_core, name)
        if not inspect.getdoc(public):
            bare.append(name)
        if inspect.isclass(public):
            (node,) = (n for n in definitions(tree(public.__module__)) if n.name == name)
            bare += [f"{name}.{method}" for method in without_docstring(node)]
    assert bare == []
