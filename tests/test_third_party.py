"""Distributions of third parties, built and installed by pip and used from processes of their own.

pip runs without a network: the packages need nothing that is not installed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from openset_core import RepresentationLossSpec, specs
from openset_core.registry import Registry
from openset_core.specs import HOOK_API

EXAMPLE = Path(__file__).parent / "third_party" / "openset-example"
COMPONENTS = {
    "backbone": "example-net",
    "loss": "example-cosine",
    "scorer": "example-margin",
    "generator": "example-noise",
    "dataset": "example-shapes",
    "protocol": "example",
    "observer": "example-diary",
    "figure": "example-lengths",
}


def pip_install(source, target):
    """Build and install a package into a folder, as its user would."""
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"),
            *("--no-build-isolation", "--disable-pip-version-check", "--target", target, source),
        ],
        check=True,
        capture_output=True,
        text=True,
    )


def copied(source, folder):
    """A copy to build in, so that nothing is left beside the sources."""
    unwanted = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
    return shutil.copytree(source, folder / source.name, ignore=unwanted)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with the example, and with a plugin for another hook API beside it."""
    folder = tmp_path_factory.mktemp("third-party")
    target = folder / "site"
    pip_install(copied(EXAMPLE, folder), target)
    pip_install(other_api(folder / "openset-future", HOOK_API + 1), target)
    return target


def other_api(folder, api):
    """A package whose loss was written for another hook API."""
    folder.mkdir()
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools>=77"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "openset-future"\nversion = "4.5.6"\n'
        '[project.entry-points.openset]\nfuture = "openset_future"\n'
        '[tool.setuptools]\npy-modules = ["openset_future"]\n'
    )
    (folder / "openset_future.py").write_text(
        "from openset_core import RepresentationLossSpec, hookimpl\n\n\n"
        "@hookimpl\n"
        "def openset_representation_losses():\n"
        "    return [\n"
        "        RepresentationLossSpec(\n"
        '            name="future", summary="ahead of its time", factory="openset_future:build",\n'
        f"            api={api},\n"
        "        )\n"
        "    ]\n"
    )
    return folder


@pytest.fixture
def python_there(site, tmp_path):
    """`python ARGUMENTS` in a process that finds the installed packages, in an empty folder."""

    def call(*arguments):
        path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
        variables = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENSET_DATA": str(tmp_path)}
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env={**os.environ, **variables},
        )

    return call


@pytest.fixture
def openset_there(python_there):
    """`openset ARGUMENTS`, likewise."""
    return partial(python_there, "-m", "openset_core.cli")


def test_every_component_is_listed_with_its_distribution(openset_there):
    done = openset_there("plugins")
    assert done.returncode == 0, done.stderr
    own = [
        line.split()[0] for line in done.stdout.splitlines() if "[openset-example 1.2.3]" in line
    ]
    assert sorted(own) == sorted(COMPONENTS.values())


def test_a_run_with_all_of_its_components(openset_there, tmp_path):
    names = [COMPONENTS[kind] for kind in ("loss", "backbone", "generator", "scorer", "observer")]
    arguments = ("--protocol", "example", "--plugins", ",".join(names), "--device", "cpu")
    done = openset_there("run", *arguments, "--out", "run")
    assert done.returncode == 0, done.stderr
    assert "example-cosine+example-noise on example-net, protocol example" in done.stdout
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    metrics = results["scorers"]["example-margin"]["metrics"]
    assert metrics["accuracy"] > 0.6  # of three shapes, chance is a third
    terms = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])["terms"]
    assert set(terms) == {
        "pattern/open_space",
        "classification/cross_entropy",
        "classification/noise",
    }
    diary = (tmp_path / "run" / "diary.txt").read_text().split()
    assert diary[0] == "RunStarted"
    assert diary[-2:] == ["RunDone", "closed"]
    drawn = openset_there("figure", "example-lengths", "run", "--set", "bins=5")
    assert drawn.returncode == 0, drawn.stderr
    assert drawn.stdout.split()[0] == "figures/example-lengths.png"
    numbers = (tmp_path / "figures" / "example-lengths.csv").read_text().splitlines()
    assert numbers[0] == "run,split,mean length"
    assert numbers[1].startswith("example-cosine+example-noise,known,")
    listed = openset_there("figure")
    assert "  missing  openset run --plugins example-cosine --protocol example\n" in listed.stdout


def test_the_protocols_own_defaults_suffice(openset_there):
    done = openset_there("run", "--protocol", "example", "--epochs", "1", "--no-report", "--quiet")
    assert done.returncode == 0, done.stderr
    assert "example-cosine on example-net" in done.stdout


def test_every_component_passes_the_conformance_kit(python_there):
    code = "import sys\nfrom openset_core.testing import check_plugin\n"
    code += "for name in sys.argv[1:]: print(check_plugin(name, raises=False))"
    done = python_there("-c", code, *(f"{kind}:{name}" for kind, name in COMPONENTS.items()))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(", 0 failed, ") == len(COMPONENTS), done.stdout


def test_check_on_the_command_line(openset_there):
    done = openset_there("plugins", "check", "example-margin", "--config", "temperature=2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("scorer example-margin of openset-example 1.2.3: ")
    assert ", 0 failed, " in done.stdout.splitlines()[-1]


def test_plugin_for_another_hook_api_is_refused_and_the_rest_works(openset_there):
    listed = openset_there("plugins")
    assert listed.returncode == 0, listed.stderr
    _components, broken = listed.stdout.split("failed to load:\n")
    reason = (
        f"plugin future of openset-future 4.5.6: future was written for hook API {HOOK_API + 1}, "
        f"this openset has {HOOK_API}; upgrade openset, or install an older version of the plugin"
    )
    assert broken.strip() == reason
    asked = openset_there("run", "--plugins", "future,example-net", "--protocol", "example")
    assert asked.returncode == 2
    assert asked.stderr.strip() == f"error: future is not available: {reason}"
    assert "Traceback" not in asked.stderr
    checked = openset_there("plugins", "check", "future")
    assert checked.returncode == 2
    assert reason in checked.stderr


def test_plugin_that_names_no_hook_api_is_one_for_the_first(monkeypatch):
    """It must not pass for one of today once the version has risen."""
    spec = RepresentationLossSpec(name="old", summary="old", factory="old:build")
    assert spec.api == 1
    monkeypatch.setattr(specs, "HOOK_API", 2)
    found = Registry()
    assert found.components == []
    reasons = {item.entry_point: item.reason for item in found.broken}
    assert reasons["softmax"] == (
        "softmax was written for hook API 1, this openset has 2; "
        "install a newer version of the plugin, or an older openset"
    )
