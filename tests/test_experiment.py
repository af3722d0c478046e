"""How a protocol's recipes reach an experiment: the one for more parts counts more."""

from __future__ import annotations

from pathlib import Path

import pytest

from openset_core.experiment.experiment import resolve

PROTOCOL = """
summary = "made"
[image]
size = 32
channels = 1
[known]
dataset = "digits"
test_fraction = 0.4
trials = [[0, 1, 2]]
[unknown.rest]
dataset = "digits"
classes = "rest"
[training]
lr = 0.5
epochs = 9
[recipes."arpl+confused-gan+classifier32"]
epochs = 1
[recipes."arpl+classifier32"]
lr = 0.01
epochs = 2
[recipes.classifier32]
lr = 0.1
batch_size = 8
[recipes.arpl]
epochs = 3
"""


@pytest.mark.parametrize(
    ("plugins", "expected"),
    [
        ("softmax,vgg13", (0.5, 9, 64)),
        ("arpl,vgg13", (0.5, 3, 64)),
        ("softmax,classifier32", (0.1, 9, 8)),
        ("arpl,classifier32", (0.01, 2, 8)),
        ("arpl,confused-gan,classifier32", (0.01, 1, 8)),
        ("arpl,confused-gan,vgg13", (0.5, 3, 64)),
    ],
)
def test_a_recipe_holds_for_the_parts_it_names(tmp_path: Path, plugins, expected):
    path = tmp_path / "made.toml"
    path.write_text(PROTOCOL)
    training = resolve(plugins, str(path)).training
    assert (training.lr, training.epochs, training.batch_size) == expected
    changed = resolve(plugins, str(path), overrides={"training": {"lr": 0.3}}).training
    assert changed.lr == 0.3
