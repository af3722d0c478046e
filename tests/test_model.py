"""The saved model: exact, checked, and free of code."""

from __future__ import annotations

import shutil
import tomllib

import numpy as np
import pytest
import tomli_w
import torch
from safetensors.numpy import load_file, save_file

from openset_core.components import OpenSetModel
from openset_core.errors import ModelError
from openset_core.experiment import experiment
from openset_core.features.store import FeatureStore
from openset_core.files import sha256
from openset_core.model.artefact import (
    build_model,
    checksum,
    load_model,
    read_description,
    save_model,
)
from openset_core.registry import Registry

CLASSES = ("zero", "one", "two")


def untrained(resolved):
    selection, image = resolved.selection, resolved.protocol.content.image
    parts = [(part, resolved.options[part.name]) for part in (selection.backbone, selection.loss)]
    return build_model(*parts, len(CLASSES), image)


def a_little_trained(resolved):
    """A model whose weights and batch statistics are not those of its initialisation."""
    torch.manual_seed(3)
    model = untrained(resolved).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _step in range(3):
        _embedding, logits = model(torch.randn(8, 1, 16, 16))
        logits.logsumexp(dim=1).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


@pytest.fixture
def resolve(tiny):
    def call(loss, **options):
        return experiment.resolve(f"{loss},tiny", "tiny-digits", overrides={loss: options})

    return call


SMALL = {"hidden": 16, "global_channels": [8, 8]}


@pytest.mark.parametrize(
    ("loss", "options"),
    [
        ("softmax", {}),
        ("softmax", {"latent_dim": 4, "bias": False}),
        ("turns", {"nan_epoch": 9}),
        ("m2iosr", SMALL),
        ("m2iosr", {"prior": "adversarial", **SMALL}),
    ],
)
def test_saved_model_answers_exactly_as_the_trained_one(tmp_path, resolve, loss, options):
    resolved = resolve(loss, **options)
    model = a_little_trained(resolved)
    images = torch.randn(5, 1, 16, 16)
    with torch.inference_mode():
        expected = model.eval()(images)
    parameters = model.parameter_count()
    written = save_model(tmp_path / "model", model, resolved, CLASSES)
    loaded, description = load_model(tmp_path / "model")
    assert not loaded.training
    with torch.inference_mode():
        found = loaded(images)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)
    assert description == written
    assert description.classes == CLASSES
    assert description.experiment == resolved.digest
    assert description.parameters == loaded.parameter_count()
    assert (description.parameters < parameters) is (loss == "m2iosr")  # what only training needs


def test_loaded_model_gives_the_features_of_its_run(finished):
    from openset_core.data.images import data_root
    from openset_core.data.loading import MemoryLoader
    from openset_core.data.preparation import prepare_data
    from openset_core.run_folder import open_folder

    model, description = load_model(finished / "model")
    _folder, resolved = open_folder(finished)
    data = prepare_data(resolved.protocol, resolved.trial, data_root())
    assert description.classes == data.class_names
    loader = MemoryLoader(data.splits["known"], description.image, torch.device("cpu"), 50)
    with torch.inference_mode():
        logits = torch.cat([model(images)[1] for images, _labels, _index in loader.in_order()])
    with FeatureStore(finished / "features.h5") as store:
        np.testing.assert_allclose(logits, store.array("known", "logits"), rtol=1e-4, atol=1e-5)


def test_model_folder_holds_toml_and_safetensors_only(finished):
    files = [path for path in (finished / "model").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".toml", ".safetensors"}
    for path in files:
        if path.suffix == ".toml":
            tomllib.loads(path.read_text(encoding="utf-8"))
        else:
            load_file(path)


def test_training_state_is_not_in_the_weights(tmp_path, resolve):
    resolved = resolve("m2iosr", **SMALL)
    save_model(tmp_path, untrained(resolved), resolved, CLASSES)
    names = load_file(tmp_path / "weights.safetensors").keys()
    assert {name.split(".")[0] for name in names} == {"backbone", "loss"}
    assert not [name for name in names if "discriminator" in name or "class_mean" in name]


# --- damaged and altered --------------------------------------------------------------------------


def edit(folder, change, sealed=True):
    """Change model.toml as a forger would, or carelessly."""
    path = folder / "model.toml"
    values = tomllib.loads(path.read_text(encoding="utf-8"))
    change(values)
    if sealed:
        values["sha256"] = checksum(values)
    path.write_text(tomli_w.dumps(values), encoding="utf-8")


def change_weights(folder, change, keep_hash=False):
    path = folder / "weights.safetensors"
    arrays = load_file(path)
    change(arrays)
    save_file(arrays, path)
    if not keep_hash:
        edit(folder, lambda values: values.update(weights_sha256=sha256(path)))


def flip_a_bit(folder):
    path = folder / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def garbage_with_its_hash(folder):
    path = folder / "weights.safetensors"
    path.write_bytes(b"nonsense" * 100)
    edit(folder, lambda values: values.update(weights_sha256=sha256(path)))


def zero_a_bias(arrays):
    arrays["loss.classifier.bias"] = np.zeros_like(arrays["loss.classifier.bias"])


DAMAGE = {
    "weights flipped": (flip_a_bit, "its hash is not the one in model.toml"),
    "weights exchanged": (
        lambda folder: change_weights(folder, zero_a_bias, keep_hash=True),
        "its hash is not the one in model.toml",
    ),
    "weights lost": (lambda folder: (folder / "weights.safetensors").unlink(), "lacks weights"),
    "garbage with its hash": (garbage_with_its_hash, "does not fit"),
    "an array lost": (
        lambda folder: change_weights(folder, lambda arrays: arrays.pop("loss.classifier.bias")),
        "does not fit the installed plugins",
    ),
    "no description": (lambda folder: (folder / "model.toml").unlink(), "does not exist"),
    "description cut": (
        lambda folder: (folder / "model.toml").write_text("format = 2\nclasses = ["),
        "is not valid TOML",
    ),
    "description not text": (
        lambda folder: (folder / "model.toml").write_bytes(b"\xff\xfe\x00"),
        "cannot be read",
    ),
    "edited carelessly": (
        lambda f: edit(f, lambda v: v["image"].update(mean=[0.4]), sealed=False),
        "model.toml is damaged or was changed by hand",
    ),
    "seal lost": (
        lambda f: edit(f, lambda v: v.pop("sha256"), sealed=False),
        "model.toml is damaged or was changed by hand",
    ),
    "classes renamed": (
        lambda f: edit(f, lambda v: v["classes"].reverse(), sealed=False),
        "model.toml is damaged or was changed by hand",
    ),
    "format without a seal": (
        lambda f: edit(f, lambda v: (v.update(format=1), v.pop("sha256")), sealed=False),
        "has format 1, this openset reads 2",
    ),
    "format to come": (lambda f: edit(f, lambda v: v.update(format=3)), "has format 3"),
    "format missing": (lambda f: edit(f, lambda v: v.pop("format")), "has format None"),
    "key lost": (lambda f: edit(f, lambda v: v.pop("classes")), "lacks classes"),
    "key of a part lost": (lambda f: edit(f, lambda v: v["loss"].pop("name")), "loss lacks name"),
    "key added": (lambda f: edit(f, lambda v: v.update(colour="red")), "no option 'colour'"),
    "key misspelt": (
        lambda f: edit(f, lambda v: v["image"].update(sise=v["image"].pop("size"))),
        "image has no option 'sise'; did you mean size?",
    ),
    "wrong type": (
        lambda f: edit(f, lambda v: v.update(classes="zero")),
        "classes expects list of text",
    ),
    "option added": (
        lambda f: edit(f, lambda v: v["loss"]["options"].update(depth=3)),
        "no option 'depth'",
    ),
    "option changed": (
        lambda f: edit(f, lambda v: v["backbone"]["options"].update(width=7)),
        "does not fit the installed plugins",
    ),
    "a class less": (lambda f: edit(f, lambda v: v["classes"].pop()), "does not fit"),
}


@pytest.mark.parametrize(("damage", "said"), DAMAGE.values(), ids=DAMAGE.keys())
def test_damaged_model_is_refused_in_one_sentence(finished, damage, said):
    folder = finished / "model"
    load_model(folder)
    damage(folder)
    with pytest.raises(ModelError) as caught:
        load_model(folder)
    message = str(caught.value)
    assert said in message
    assert str(folder) in message
    assert "\n" not in message


def test_missing_plugin_names_the_distribution_to_install(finished):
    import importlib.metadata

    first_party = [
        entry_point
        for entry_point in importlib.metadata.entry_points(group="openset")
        if entry_point.dist.name == "openset"
    ]
    with pytest.raises(ModelError) as caught:
        load_model(finished / "model", plugins=Registry(first_party))
    assert f"model {finished / 'model'} needs backbone tiny; install openset-tiny 1.0" in str(
        caught.value
    )


def test_part_of_the_same_name_elsewhere_does_not_stand_in(finished):
    edit(
        finished / "model",
        lambda values: values["backbone"].update(distribution="openset-other", version="3.0"),
    )
    with pytest.raises(ModelError, match=r"needs backbone tiny; install openset-other 3\.0"):
        load_model(finished / "model")


def test_model_works_from_another_place(finished, tmp_path):
    moved = shutil.move(finished / "model", tmp_path / "elsewhere")
    model, _description = load_model(moved)
    assert isinstance(model, OpenSetModel)
    assert read_description(moved).backbone.options == {"width": 6}
