"""The distribution: every package is in the wheel, under the names it is imported by."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS = PROJECT["tool"]["setuptools"]["package-dir"]


def packages_on_disk():
    """Import name of every folder with Python modules, by the mapping in pyproject.toml."""
    found = set()
    for package, folder in FOLDERS.items():
        for path in (ROOT / folder).rglob("*.py"):
            inner = path.parent.relative_to(ROOT / folder).parts
            found.add(".".join((package, *inner)))
    return found


def test_every_folder_is_a_listed_package():
    assert packages_on_disk() == set(PROJECT["tool"]["setuptools"]["packages"])


def test_every_package_has_an_init_module():
    for package in PROJECT["tool"]["setuptools"]["packages"]:
        top, _, inner = package.partition(".")
        assert (ROOT / FOLDERS[top] / inner.replace(".", "/") / "__init__.py").is_file(), package


def test_every_plugin_folder_has_an_entry_point():
    packages = {name for name in packages_on_disk() if name.startswith("openset_plugins.")}
    offered = set(PROJECT["project"]["entry-points"]["openset"].values())
    assert offered == packages | {"openset_protocols"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from a copy of the sources, so that nothing is left in the repository."""
    copy = tmp_path_factory.mktemp("sources") / "openset"
    unwanted = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "runs")
    shutil.copytree(ROOT, copy, ignore=unwanted)
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, copy],
        check=True,
        capture_output=True,
        text=True,
    )
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder that the wheel was installed to."""
    target = tmp_path_factory.mktemp("site")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--no-compile"),
            *("--disable-pip-version-check", "--target", target, wheel),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    return target


def in_isolation(code, installed, cwd):
    """Output of Python code that finds openset in the installed folder only.

    The environment's other packages are found as always; its editable openset is not.
    """
    prologue = (
        "import sys; sys.meta_path = [finder for finder in sys.meta_path"
        " if 'editable' not in str(finder)]\n"
        f"sys.path.insert(0, {str(installed)!r})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", prologue + code], cwd=cwd, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_wheel_holds_modules_data_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {Path(name) for name in archive.namelist()}
    expected = {
        Path(package, path.relative_to(ROOT / folder))
        for package, folder in FOLDERS.items()
        for pattern in (
            "*.py",
            "*.toml",
            "*.tmpl",
            "report/templates/*",
            "py.typed",
        )
        for path in (ROOT / folder).rglob(pattern)
    }
    assert Path("openset_protocols/digits.toml") in expected
    assert {Path(package, "py.typed") for package in FOLDERS} <= expected
    version = PROJECT["project"]["version"]
    assert {name for name in names if name.parts[0] != f"openset-{version}.dist-info"} == expected


def test_installed_packages_import_from_where_they_were_installed(installed, tmp_path):
    code = (
        "import json, openset_core, openset_plugins, openset_protocols\n"
        "modules = openset_core, openset_plugins, openset_protocols\n"
        "print(json.dumps([module.__file__ for module in modules]))"
    )
    files = json.loads(in_isolation(code, installed, tmp_path))
    assert files == [
        str(installed / package / "__init__.py")
        for package in ("openset_core", "openset_plugins", "openset_protocols")
    ]


def test_installed_plugins_and_protocols_are_found_and_load(installed, tmp_path):
    code = (
        "import json\n"
        "from openset_core.registry import registry\n"
        "from openset_core.experiment.protocol import load_protocol\n"
        "from openset_core.experiment.recipe import load_recipe\n"
        "parts = [part for part in registry().components if part.distribution == 'openset']\n"
        "broken = [str(item) for item in registry().broken]\n"
        "paths = [str(load_protocol(p.name).path) for p in registry().of_kind('protocol')]\n"
        "recipes = [str(load_recipe(p.name).path) for p in registry().of_kind('recipe')]\n"
        "print(json.dumps([[f'{p.kind}:{p.name}' for p in parts], broken, paths, recipes]))"
    )
    parts, broken, paths, recipes = json.loads(in_isolation(code, installed, tmp_path))
    assert broken == []
    assert {"loss:softmax", "backbone:vgg13", "scorer:msp", "dataset:digits"} <= set(parts)
    assert {Path(path).parent for path in paths} == {installed / "openset_protocols"}
    assert {Path(path).name for path in paths} == {
        path.name for path in (ROOT / "protocols").glob("*.toml")
    }
    assert {Path(path).relative_to(installed).as_posix() for path in recipes} == {
        f"openset_protocols/recipes/{path.name}"
        for path in (ROOT / "protocols" / "recipes").glob("*.toml")
    }


def test_entry_points_of_the_wheel_are_those_of_the_project(installed):
    (distribution,) = importlib.metadata.distributions(name="openset", path=[str(installed)])
    found = {(point.group, point.name): point.value for point in distribution.entry_points}
    expected = {("openset", k): v for k, v in PROJECT["project"]["entry-points"]["openset"].items()}
    expected |= {("console_scripts", k): v for k, v in PROJECT["project"]["scripts"].items()}
    assert found == expected


def test_nothing_importable_has_a_folders_name(installed, tmp_path):
    code = (
        "import importlib.util, json\n"
        "names = 'plugins', 'protocols', 'tests'\n"
        "print(json.dumps([n for n in names if importlib.util.find_spec(n) is not None]))"
    )
    assert json.loads(in_isolation(code, installed, tmp_path)) == []
    # The same holds for the environment of the tests, however openset was installed there.
    names = [name for name in ("plugins", "protocols", "tests") if (installed / name).exists()]
    assert names == []
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize("name", ["plugins", "protocols"])
def test_folder_imported_from_the_repository_names_the_right_package(name):
    done = subprocess.run(
        [sys.executable, "-c", f"import {name}"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"ImportError: import openset_{name}, not {name}"


def test_importing_openset_loads_nothing_heavy(tmp_path):
    code = (
        "import sys, json, openset_core, openset_plugins, openset_protocols\n"
        "heavy = 'torch', 'numpy', 'h5py', 'scipy', 'sklearn'\n"
        "print(json.dumps([name for name in heavy if name in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize("command", ["--help", "run --help", "plugins", "protocols"])
def test_help_and_lists_load_no_torch(command):
    code = (
        "import sys\n"
        "from openset_core.cli import cli\n"
        f"cli.main({command.split()}, standalone_mode=False)\n"
        "print('heavy:', [name for name in ('torch', 'scipy', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "heavy: []"
