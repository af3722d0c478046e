"""`openset plugins new`: the package it writes is complete and works as it is.

The environment is fresh but for a .pth file to the packages that the tests run with, so that
torch is not downloaded again; pip installs for real, without a network.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from openset_core.scaffold import KINDS, ScaffoldError, new_package, valid_name

TINY_PROTOCOL = Path(__file__).parent / "tiny_plugin" / "openset_tiny" / "tiny-digits.toml"


class Environment:
    """A virtual environment of its own, on top of the packages that are there."""

    def __init__(self, folder):
        subprocess.run(
            [sys.executable, "-m", "venv", "--without-pip", folder], check=True, capture_output=True
        )
        self.python = folder / "bin" / "python"
        (site,) = folder.glob("lib/python*/site-packages")
        below = [path for path in sys.path if path.endswith("site-packages")]
        (site / "below.pth").write_text(
            "".join(f"import site; site.addsitedir({path!r})\n" for path in below)
        )
        self.site = site

    def run(self, *arguments, cwd):
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "PYTHON"))}
        return subprocess.run(
            [self.python, *map(str, arguments)],
            cwd=cwd,
            capture_output=True,
            text=True,
            env={**inherited, "OMP_NUM_THREADS": "1"},
        )

    def install(self, folder):
        """`pip install -e .`; what it depends on is there already."""
        options = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
        done = self.run("-m", "pip", "install", "--quiet", *options, "-e", ".", cwd=folder)
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A package of one kind and one of all four, installed in a fresh environment."""
    folder = tmp_path_factory.mktemp("scaffold")
    environment = Environment(folder / "venv")
    one = new_package("my-loss", ["loss"], into=folder)
    four = new_package("my-method", KINDS, into=folder, author="Ann Other <ann@example.org>")
    for package in (one, four):
        environment.install(package.folder)
    return environment, one, four


def test_own_tests_pass_unchanged(made):
    environment, one, four = made
    for package in (one, four):
        done = environment.run("-m", "pytest", "-q", cwd=package.folder)
        assert done.returncode == 0, done.stdout + done.stderr
        assert " passed" in done.stdout
        assert "failed" not in done.stdout


def test_installed_components_are_listed_and_described(made, tmp_path):
    environment, _one, four = made
    listed = environment.run("-m", "openset_core.cli", "plugins", cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    own = [x.split()[0] for x in listed.stdout.splitlines() if "[openset-my-method 0.1.0]" in x]
    assert sorted(own) == sorted(component.name for component in four.components)
    shown = environment.run("-m", "openset_core.cli", "plugins", "show", "my-loss", cwd=tmp_path)
    assert "from openset-my-loss 0.1.0, hook API 1" in shown.stdout
    assert "scale (float; default 16.0)" in shown.stdout


def test_openset_trains_with_the_new_loss(made, tmp_path):
    environment, _one, _four = made
    done = environment.run(
        *("-m", "openset_core.cli", "run", "--plugins", "my-loss,lenet-plus-plus"),
        *(
            "--protocol",
            TINY_PROTOCOL,
            "--epochs",
            1,
            "--device",
            "cpu",
            "--out",
            "run",
            "--no-report",
        ),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "my-loss on lenet-plus-plus" in done.stdout
    assert (tmp_path / "run" / "results.json").exists()


def test_openset_trains_with_all_four_together(made, tmp_path):
    environment, _one, four = made
    names = ",".join(component.name for component in four.components)
    done = environment.run(
        *("-m", "openset_core.cli", "run", "--plugins", names),
        *(
            "--protocol",
            TINY_PROTOCOL,
            "--epochs",
            1,
            "--device",
            "cpu",
            "--out",
            "run",
            "--no-report",
        ),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "my-method-loss+my-method-generator on my-method" in done.stdout


@pytest.mark.slow
def test_openset_trains_vgg13_with_the_new_loss(made, tmp_path):
    environment, _one, _four = made
    done = environment.run(
        *("-m", "openset_core.cli", "run", "--plugins", "my-loss,vgg13", "--epochs", 1),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "my-loss on vgg13" in done.stdout


def test_console_command_writes_a_package_and_says_what_comes_next(openset, tmp_path):
    answer = openset("plugins", "new", "far-away", "--kind", "scorer", "--into", tmp_path)
    assert answer.code == 0
    folder = tmp_path / "openset-far-away"
    assert answer.out.startswith(f"{folder}:\n")
    assert f'python -m pip install -e "{folder}[test]"' in answer.out
    listed = {line.strip() for line in answer.out.splitlines()}
    files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert files <= listed
    assert files == {
        ".github/workflows/test.yml",
        ".gitignore",
        "LICENSE",
        "README.md",
        "pyproject.toml",
        "src/openset_far_away/__init__.py",
        "src/openset_far_away/py.typed",
        "src/openset_far_away/scorer.py",
        "tests/test_scorer.py",
    }


@pytest.mark.parametrize("kinds", [[kind] for kind in KINDS] + [list(reversed(KINDS))], ids=str)
def test_nothing_is_left_to_fill_in_and_ruff_has_nothing_to_say(kinds, tmp_path):
    package = new_package("a-new-one", kinds, into=tmp_path)
    for path in package.folder.rglob("*"):
        if path.is_file() and path.name != "test.yml":  # which has {{ }} of its own
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"\{\{|\{%", text), path
    # isort's rules are left out: what counts as first-party depends on where ruff is called.
    for arguments in (["check", "--select", "E,F,B,UP,SIM,PT,RUF"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *arguments, package.folder],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout


def test_metadata_and_licence_name_the_author(tmp_path):
    folder = new_package("named", ["loss"], tmp_path, 'Ann "A" Other <ann@example.org>').folder
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["authors"] == [{"name": "Ann 'A' Other", "email": "ann@example.org"}]
    assert project["entry-points"] == {"openset": {"named": "openset_named"}}
    assert project["license"] == "MIT"
    assert 'Ann "A" Other' in (folder / "LICENSE").read_text(encoding="utf-8")
    unnamed = new_package("unnamed", ["loss"], tmp_path).folder
    assert "the authors of openset-unnamed" in (unnamed / "LICENSE").read_text(encoding="utf-8")


def test_first_kind_has_the_bare_name_and_the_prefix_is_not_doubled(tmp_path):
    package = new_package("openset-mine", ["scorer", "loss", "scorer"], tmp_path)
    assert package.distribution == "openset-mine"
    assert [(p.kind, p.name, p.class_name) for p in package.components] == [
        ("scorer", "mine", "Mine"),
        ("loss", "mine-loss", "MineLoss"),
    ]


@pytest.mark.parametrize(
    ("name", "proposed"),
    [
        ("My Loss", "my-loss"),
        ("MyLoss2", "my-loss2"),
        ("my_loss", "my-loss"),
        ("2nd-loss", "my-2nd-loss"),
        ("--odd--", "odd"),
        ("näher", "n-her"),
        ("../escape", "escape"),
        ("", "my"),
        ("x" * 60, "x" * 40),
    ],
)
def test_bad_names_are_refused_with_the_nearest_valid_one(openset, tmp_path, name, proposed):
    answer = openset("plugins", "new", "--kind", "loss", "--into", tmp_path, "--", name)
    assert answer.code == 2
    assert answer.err.startswith(f"error: {name!r} is no name for a plugin: ")
    assert answer.err.rstrip().endswith(f", for example {proposed}")
    assert list(tmp_path.iterdir()) == []
    new_package(proposed, ["loss"], tmp_path)  # what is proposed is taken


def test_proposals_are_valid_whatever_was_typed():
    for name in ("-", "9", "Ünïcode", "a--b", "A.B.C", " ", "x-" * 50):
        proposed = valid_name(name)
        assert valid_name(proposed) == proposed


def test_names_of_installed_components_are_refused(tmp_path):
    with pytest.raises(ScaffoldError, match=r"loss softmax is taken by openset .* my-softmax"):
        new_package("softmax", ["loss"], tmp_path)
    assert new_package("softmax", ["scorer"], tmp_path).folder.exists()  # of another kind


def test_existing_folder_is_left_as_it_is(openset, tmp_path):
    folder = tmp_path / "openset-my-loss"
    folder.mkdir()
    (folder / "mine.txt").write_text("kept")
    answer = openset("plugins", "new", "my-loss", "--kind", "loss", "--into", tmp_path)
    assert answer.code == 2
    assert answer.err == (
        f"error: {folder} exists already; choose another name, or --into another place\n"
    )
    assert [path.name for path in tmp_path.rglob("*")] == ["openset-my-loss", "mine.txt"]


def test_place_that_cannot_be_written_is_named(openset, tmp_path):
    (tmp_path / "file").write_text("")
    answer = openset("plugins", "new", "x1", "--kind", "loss", "--into", tmp_path / "file" / "in")
    assert answer.code == 2
    assert str(tmp_path / "file" / "in") in answer.err


def test_kinds_may_be_a_list(openset, tmp_path):
    answer = openset("plugins", "new", "two", "--kind", "loss,scorer", "--into", tmp_path)
    assert answer.code == 0
    names = {path.name for path in (tmp_path / "openset-two" / "tests").iterdir()}
    assert names == {"test_loss.py", "test_scorer.py"}


def test_kind_is_required_and_known(openset):
    assert openset("plugins", "new", "x1").code == 2
    answer = openset("plugins", "new", "x1", "--kind", "dataset")
    assert answer.code == 2
    assert "dataset" in answer.err
    with pytest.raises(ScaffoldError, match="one kind or several of backbone, loss"):
        new_package("x1", [])


def test_interrupted_writing_leaves_nothing(tmp_path, monkeypatch):
    def fails(source, target):
        raise OSError("disk full")

    monkeypatch.setattr("os.rename", fails)
    with pytest.raises(ScaffoldError, match="cannot be written: disk full"):
        new_package("x1", ["loss"], tmp_path)
    assert list(tmp_path.iterdir()) == []
