"""The guides say what is there: options, lists of components and protocols, links, commands."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest
from click.testing import CliRunner

import openset_core
import openset_plugins
from openset_core.cli import cli
from openset_core.experiment import config
from openset_core.registry import registry
from openset_plugins.timm_models import TimmOptions

PLUGINS = Path(openset_plugins.__file__).parent
FOLDERS = sorted(path.parent for path in PLUGINS.glob("*/README.md"))
KINDS = ("backbone", "loss", "scorer", "generator", "observer")
TABLE = re.compile(r"^### Options of `(.+)`\n\n\| option \| type .*\n\|[-|]+\n((?:\|.*\n)+)", re.M)
ROW = re.compile(r"^\| `(.+?)` \| (.+?) \| `(.*?)` \|", re.M)


def shown(default):
    """A default as the tables write it."""
    if default is None:
        return "nothing"
    if isinstance(default, bool):
        return str(default).lower()
    return str(list(default) if isinstance(default, tuple) else default)


def options_of(cls):
    return [(o.name, o.type, shown(o.default)) for o in config.describe(cls)]


def options_in_the_code():
    """Options by folder and component, of every first-party component that has any."""
    found = defaultdict(dict)
    for component in registry().components:
        factory = getattr(component.spec, "factory", "")
        if component.kind in KINDS and factory.startswith("openset_plugins."):
            options = options_of(component.spec.config)
            if options:
                found[factory.split(".")[1]][component.name] = options
    found["timm_models"]["timm:NAME"] = options_of(TimmOptions)
    return found


IN_THE_CODE = options_in_the_code()
each_folder = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


def test_the_code_s_options_are_found():
    assert IN_THE_CODE["softmax"]["softmax"][0] == ("latent_dim", "int or nothing", "nothing")
    assert {"arpl", "rpl"} == IN_THE_CODE["arpl"].keys()


def test_every_plugin_folder_has_a_readme():
    packages = {path.parent for path in PLUGINS.glob("*/__init__.py")}
    assert packages <= set(FOLDERS)
    for folder in FOLDERS:
        assert (folder / "README.md").read_text(encoding="utf-8").startswith("# ")


@each_folder
def test_the_table_of_options_is_that_of_the_code(folder):
    text = (folder / "README.md").read_text(encoding="utf-8")
    documented = {name: ROW.findall(rows) for name, rows in TABLE.findall(text)}
    assert documented == IN_THE_CODE.get(folder.name, {})


# ---- the guides

ROOT = Path(openset_core.__file__).parents[1]
GUIDES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "openset_core" / "README.md",
    ROOT / "plugins" / "README.md",
    ROOT / "protocols" / "README.md",
    *sorted((ROOT / "plugins").glob("*/README.md")),
]
COMPONENT_KINDS = ("backbone", "loss", "scorer", "generator", "family")


def text(path):
    return path.read_text(encoding="utf-8")


def first_cells(path, heading):
    """Names in code quotes in the first column of the table below a heading."""
    section = text(path).split(f"\n## {heading}\n")[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("|")]
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def installed(*kinds):
    return {
        c.name for c in registry().components if c.distribution == "openset" and c.kind in kinds
    }


def test_the_short_guides_stay_short():
    for name in ("README.md", "CONTRIBUTING.md"):
        assert len(text(ROOT / name).splitlines()) <= 200, name


def test_the_list_of_components_is_the_registry():
    headings = ("Backbones", "Representation losses", "Unknown scorers", "Sample generators")
    listed = set().union(*(first_cells(ROOT / "plugins" / "README.md", each) for each in headings))
    assert listed == installed(*COMPONENT_KINDS)


def test_the_readme_names_every_component():
    named = set(re.findall(r"`([^`\n]+)`", text(ROOT / "README.md").split("## Components")[1]))
    assert installed("backbone", "loss", "scorer", "generator") <= named


def test_the_list_of_protocols_is_the_registry():
    listed = first_cells(ROOT / "protocols" / "README.md", "The protocols")
    assert listed == installed("protocol")


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+)\)", text(path)):
        if "://" not in target:
            assert (path.parent / target).exists(), target
    for target in re.findall(r'<img src="([^"]+)"', text(path)):
        assert (path.parent / target).read_bytes().startswith(b"\x89PNG"), target


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: str(path.relative_to(ROOT)))
def test_code_blocks_are_python_and_toml(path):
    for language, block in re.findall(r"```(python|toml)\n(.*?)```", text(path), re.S):
        if language == "python":
            ast.parse(block)
        else:
            tomllib.loads(block)


def commands():
    """Commands of the guides, on their own lines or in blocks, without comments."""
    for path in GUIDES:
        for line in text(path).splitlines():
            match = re.match(r"(?:    |\$ )(openset .*?)(?:\s+#.*)?$", line)
            if match and not line.rstrip().endswith("\\"):
                yield path.relative_to(ROOT).as_posix(), match[1]


@pytest.mark.parametrize(("path", "command"), sorted(set(commands())))
def test_commands_have_options_that_exist(path, command):
    words = shlex.split(command)[1:]
    group, names = cli, []
    while hasattr(group, "get_command") and len(names) < len(words):
        if words[len(names)] not in group.list_commands(None) and group is not cli:
            break  # an argument of a group that is a command itself
        inner = group.get_command(None, words[len(names)])
        assert inner is not None, f"{path}: no command {words[len(names)]!r}"
        names.append(words[len(names)])
        group = inner
    shown = CliRunner().invoke(cli, [*names, "--help"]).output
    for word in words[len(names) :]:
        if word.startswith("--"):
            assert re.search(rf"{re.escape(word.partition('=')[0])}\b", shown), f"{path}: {command}"


CHEAP = ("openset plugins", "openset plugins show m2iosr", "openset protocols", "openset recipes")


@pytest.mark.parametrize("command", CHEAP)
def test_cheap_commands_of_the_guides_run(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command in {line for _path, line in commands()}
    done = CliRunner().invoke(cli, command.split()[1:])
    assert done.exit_code == 0, done.output
    assert done.output.strip()
