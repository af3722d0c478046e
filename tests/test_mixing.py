"""Every loss on every backbone, with and without a generator, under every scorer: two steps each.

What cannot work is refused before training, in one sentence that says what is missing.
"""

from __future__ import annotations

import attrs
import numpy as np
import pytest
import torch

from openset_core.errors import CompositionError
from openset_core.experiment import config
from openset_core.experiment.experiment import resolve
from openset_core.experiment.threshold import ThresholdChoice
from openset_core.features.store import FeatureStore, FeatureWriter, as_float
from openset_core.model.artefact import build_model
from openset_core.registry import registry
from openset_core.scoring.fitting import score_run
from openset_core.training.loop import PhaseRunner
from openset_core.training.optimisation import build_optimizers

LOSSES = ("softmax", "gcpl", "rpl", "arpl", "m2iosr")
BACKBONES = (
    "vgg13",
    "classifier32",
    "resnet18",
    "lenet-plus-plus",
    "timm:test_efficientnet",  # its norm layers are timm's fused BatchNormAct2d
    "timm:test_vit",  # a transformer, without BatchNorm
)
GENERATORS = (None, "confused-gan", "joint-confidence")
SMALL = {
    "m2iosr": {"hidden": 16, "fine_locations": 4},
    "confused-gan": {"width": 4},
    "joint-confidence": {"width": 4},
}
CLASSES, BATCH = 3, 4


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def scorers():
    return [part.name for part in registry().of_kind("scorer") if ":" not in part.name]


def built(loss, backbone, generator):
    """The experiment and its untrained model, on grey 32x32 images."""
    names = [name for name in (loss, backbone, generator) if name]
    overrides = {name: dict(SMALL[name]) for name in names if name in SMALL}
    experiment = resolve([*names, *scorers()], "digits", overrides=overrides)
    selection = experiment.selection
    torch.manual_seed(0)
    model = build_model(
        (selection.backbone, experiment.options[selection.backbone.name]),
        (selection.loss, experiment.options[selection.loss.name]),
        CLASSES,
        experiment.protocol.content.image,
        (selection.generator, experiment.options[generator]) if generator else None,
    )
    return experiment, model


def batches(count=2):
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        images = torch.rand(BATCH, 1, 32, 32, generator=generator)
        yield images, torch.arange(BATCH) % CLASSES


def train_two_steps(experiment, model):
    phases = model.phases()
    trainable = [p for p in model.parameters() if p.requires_grad]
    runner = PhaseRunner(model, phases)
    optimizers = build_optimizers(phases, attrs.evolve(experiment.training, lr=1e-3))
    model.train()
    for images, labels in batches():
        runner.new_step()
        for number, item in enumerate(optimizers):
            kept = (p for module in item.phase.keeps_graph for p in module.parameters())
            live = {id(p) for p in (*item.parameters, *kept)}
            for parameter in trainable:
                parameter.requires_grad_(id(parameter) in live)
            terms = runner(number, images, labels, 0, 2)
            assert terms, item.phase.name
            for name, value in terms.items():
                assert torch.isfinite(value), f"{item.phase.name}/{name}"
            sum(terms.values()).backward()
            item.optimizer.step()
            item.optimizer.zero_grad()
    return phases


@pytest.mark.parametrize("generator", GENERATORS, ids=lambda name: name or "no generator")
@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("loss", LOSSES)
def test_parts_mix(loss, backbone, generator, tmp_path):
    experiment, model = built(loss, backbone, generator)
    before = {name: p.detach().clone() for name, p in model.backbone.named_parameters()}
    train_two_steps(experiment, model)
    after = {name.replace(".known", ""): p for name, p in model.backbone.named_parameters()}
    assert any(not torch.equal(value, after[name]) for name, value in before.items())
    model = model.for_inference()
    assert model.generator is None

    def rows(part):
        with torch.inference_mode():
            for images, labels in batches(3):
                embedding, logits = model(images + 0.1 * len(part))
                yield {
                    "embedding": as_float(embedding),
                    "logits": as_float(logits),
                    "label": labels.numpy(),
                    "index": np.arange(BATCH),
                }

    with FeatureWriter(tmp_path / "features.h5", {"test": "mixing"}, CLASSES) as writer:
        for part in ("train", "validation", "known", "unknown/rest"):
            writer.write_split(part, rows(part))
    with FeatureStore(tmp_path / "features.h5") as store:
        for part in experiment.selection.scorers:
            scored = score_run(
                store,
                tmp_path,
                tmp_path / "scores.h5",
                part,
                experiment.options[part.name],
                threshold=ThresholdChoice(acceptance=0.95),
            )
            assert np.isfinite(scored.scores["unknown/rest"]).all(), part.name


def test_every_kind_of_part_is_mixed():
    """A part that is added must be added here too."""
    losses = registry().of_kind("loss")
    installed = {part.name for part in losses if part.distribution == "openset"}
    assert {name for name in installed if ":" not in name} == set(LOSSES)  # families apart
    generators = registry().of_kind("generator")
    assert {part.name for part in generators if part.distribution == "openset"} == {
        name for name in GENERATORS if name
    }


@pytest.mark.parametrize(
    ("plugins", "overrides", "pieces"),
    [
        (
            "m2iosr,vgg13",
            {"m2iosr": {"fine_map": "reduction=3"}},
            ("m2iosr.fine_map", "vgg13", "f16"),
        ),
        ("m2iosr,timm:test_vit", {"m2iosr": {"coarse_map": "r4"}}, ("coarse_map", "test_vit")),
    ],
)
def test_a_map_that_is_not_there_is_refused_before_training(plugins, overrides, pieces):
    experiment = resolve(plugins, "digits", overrides=overrides)
    selection = experiment.selection
    with pytest.raises(CompositionError, match="does not provide") as caught:
        build_model(
            (selection.backbone, experiment.options[selection.backbone.name]),
            (selection.loss, experiment.options[selection.loss.name]),
            CLASSES,
            experiment.protocol.content.image,
        )
    message = str(caught.value)
    assert all(piece in message for piece in pieces)
    assert "\n" not in message


def test_options_of_a_mixture_survive_toml():
    import tomllib

    import tomli_w

    experiment, _model = built("arpl", "timm:test_efficientnet", "confused-gan")
    values = tomllib.loads(tomli_w.dumps(experiment.to_toml()))
    for part in experiment.selection.components:
        options = config.structure(values[part.name], part.spec.config, part.name)
        assert options == experiment.options[part.name]
