"""The examples in docstrings give what they show."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import openset_core
import openset_plugins

FOLDERS = (openset_core, openset_plugins)
MODULES = [
    ".".join([package.__name__, *path.relative_to(folder).with_suffix("").parts])
    for package in FOLDERS
    for folder in [Path(package.__file__).parent]
    for path in sorted(folder.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]
NOT_RUN = {"openset_core.inference.trained_model"}  # its example needs a trained model


@pytest.mark.parametrize("name", sorted(set(MODULES) - NOT_RUN))
def test_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name.removesuffix(".__init__"))
    results = doctest.testmod(module)
    assert results.failed == 0, "see the output"
    assert results.attempted > 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    [
        "errors",
        "experiment.config",
        "experiment.selection",
        "experiment.threshold",
        "files",
        "metrics.curves",
        "metrics.decisions",
        "metrics.summary",
        "registry",
        "results.tables",
        "scaffold.__init__",
        "specs",
    ],
)
def test_modules_with_examples(name):
    assert f"openset_core.{name}" in MODULES
