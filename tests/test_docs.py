"""The README of each plugin folder lists the options that the code has."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest

import openset_plugins
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
