"""Any timm model as a backbone: true shapes, one pass, freezing, weights, conversion, refusals."""

from __future__ import annotations

import importlib.metadata
import pickle
import subprocess
import sys
import time
from functools import cache

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as pictures

from openset_core import BackboneContext, LossContext
from openset_core.auxiliary_batchnorm import has_batchnorm, with_auxiliary_batchnorm
from openset_core.components import Phase
from openset_core.errors import CompositionError, ConfigError, ModelError, OpensetError, PluginError
from openset_core.experiment import config
from openset_core.experiment.protocol import ImageOptions
from openset_core.experiment.training_options import TrainingOptions
from openset_core.model.artefact import build_model
from openset_core.registry import Registry
from openset_core.training.optimisation import build_optimizers
from openset_plugins.timm_models import TimmOptions, catalogue
from openset_plugins.timm_models.backbone import build
from openset_plugins.timm_models.preprocessing import Conversion, for_channels

# Name, length of the vector, and (name, channels, side) of the maps for 32x32 images.
MODELS = {
    "resnet18": (512, [("r2", 64, 16), ("r4", 64, 8), ("r8", 128, 4), ("r16", 256, 2)]),
    "convnext_atto": (320, [("r4", 40, 8), ("r8", 80, 4), ("r16", 160, 2)]),
    "vit_tiny_patch16_224": (192, [("r16", 192, 2)]),
    "mobilenetv3_small_050": (1024, [("r2", 16, 16), ("r4", 8, 8), ("r8", 16, 4), ("r16", 24, 2)]),
    "efficientnet_b0": (1280, [("r2", 16, 16), ("r4", 24, 8), ("r8", 40, 4), ("r16", 112, 2)]),
    "hiera_tiny_224": (768, [("r4", 96, 8), ("r8", 192, 4), ("r16", 384, 2)]),
    "test_efficientnet.r160_in1k": (
        256,
        [("r2", 16, 16), ("r4", 24, 8), ("r8", 32, 4), ("r16", 48, 2)],
    ),
}
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

plugins = Registry(
    entry_points=[
        importlib.metadata.EntryPoint(name, f"openset_plugins.{name}", "openset")
        for name in ("timm_models", "softmax")
    ]
)


def make(name, channels=3, image_size=32, mean=(0.0,), std=(1.0,), seed=0, **options):
    part = plugins.find(f"timm:{name}")
    chosen = config.structure(options, part.spec.config, part.name)
    context = BackboneContext(
        channels=channels, image_size=image_size, pixel_mean=mean, pixel_std=std
    )
    torch.manual_seed(seed)
    return part.load()(chosen, context)


@cache
def shared(name):
    """A network that no test may change."""
    network = make(name).eval()
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network


def theirs(network, images):
    """What timm itself makes of images, by its two documented steps."""
    inner = network.network
    return inner.forward_head(inner.forward_features(images), pre_logits=True)


# ---- names


def test_the_family_is_listed_without_importing_timm():
    code = (
        "import sys, openset_plugins.timm_models as plugin; plugin.openset_backbones(); "
        "print([m for m in ('timm', 'torch', 'numpy') if m in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert answer.stdout.strip() == "[]"


def test_names_are_those_of_timm_with_and_without_tags():
    names = catalogue.names()
    assert len(names) == len(set(names)) > 2500
    assert set(timm.list_models()) | set(timm.list_pretrained()) <= set(names)
    assert {"resnet18", "resnet18.a1_in1k", "vit_tiny_patch16_224"} <= set(names)


def test_a_spec_tells_what_the_model_has():
    part = plugins.find("timm:resnet18.a1_in1k")
    assert part.kind == "backbone"
    assert part.name == "timm:resnet18.a1_in1k"
    assert "11.2 million" in part.spec.summary
    assert "apache-2.0" in part.spec.reference
    assert plugins.find("backbone:timm:resnet18").spec is plugins.find("timm:resnet18").spec
    provides = {
        name: set(plugins.find(f"timm:{name}").spec.provides)
        for name in ("resnet18", "convnext_atto")
    }
    assert provides["resnet18"] == {"feature vector", "feature maps", "batchnorm"}
    assert provides["convnext_atto"] == {"feature vector", "feature maps"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet81", "did you mean resnet18"),
        ("vit_tiny_patch16", "vit_tiny_patch16_224"),
        ("resnet18.a9_in1k", "with a tag it has: resnet18.a1_in1k, resnet18.a2_in1k"),
        ("tf_efficientnet_b0_ns", "write timm:tf_efficientnet_b0.ns_jft_in1k"),
        ("no-such-thing-at-all", "has no model 'no-such-thing-at-all'"),
        ("hf-hub:someone/something", "has no model"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name, expected):
    with pytest.raises(PluginError) as caught:
        plugins.find(f"timm:{name}")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


# ---- features


@pytest.mark.parametrize("name", MODELS)
def test_declared_shapes_are_the_measured_ones(name):
    network = shared(name)
    vector_dim, maps = MODELS[name]
    assert network.vector_dim == vector_dim
    assert [(m.name, m.channels, m.side(32)) for m in network.feature_info] == maps
    with torch.no_grad():
        features = network(torch.randn(2, 3, 32, 32))
    assert features.vector.shape == (2, vector_dim)
    assert list(features.maps) == [name for name, _, _ in maps]
    for key, channels, side in maps:
        assert features.maps[key].shape == (2, channels, side, side)
        assert int(key[1:]) == 32 // side
    assert has_batchnorm(network) == ("batchnorm" in catalogue.resolve(name).provides)


@pytest.mark.parametrize("name", MODELS)
def test_the_vector_is_timms_own(name):
    network = shared(name)
    torch.manual_seed(2)
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        features, again = network(images), network(images)
        torch.testing.assert_close(features.vector, theirs(network, images))
        alone = network(images[:1]).vector
    assert features.vector.std() > 1e-4
    assert torch.equal(features.vector, again.vector)
    torch.testing.assert_close(features.vector[:1], alone, rtol=1e-3, atol=1e-4)


def test_the_vector_of_vgg_is_measured_not_believed(monkeypatch):
    for name in ("kaiming_normal_", "kaiming_uniform_"):  # 129 million draws take seconds
        monkeypatch.setattr(nn.init, name, lambda tensor, *_args, **_kw: tensor)
    network = make("vgg13_bn")
    assert network.network.num_features == 512
    assert network.vector_dim == 4096
    with torch.no_grad():
        assert network.eval()(torch.randn(1, 3, 32, 32)).vector.shape == (1, 4096)


def test_a_model_without_stages_gives_the_vector_alone(monkeypatch):
    """Models that others register with timm may lack forward_intermediates."""
    inner = type(make("test_resnet").network)
    assert "feature maps" in catalogue.resolve.__wrapped__("test_resnet").provides
    monkeypatch.delattr(inner, "forward_intermediates")
    assert catalogue.resolve.__wrapped__("test_resnet").provides == ("feature vector", "batchnorm")
    network = make("test_resnet").eval()
    assert network.feature_info == ()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        features = network(images)
        assert torch.equal(features.vector, theirs(network, images))
    assert features.maps == {}
    with pytest.raises(CompositionError, match="more than the 0 feature stages"):
        make("test_resnet", freeze=1)


def test_maps_are_the_outputs_of_timms_stages():
    network = shared("resnet18")
    outputs = {}
    stages = {"r2": "act1", "r4": "layer1", "r8": "layer2", "r16": "layer3"}
    hooks = [
        network.network.get_submodule(stage).register_forward_hook(
            lambda _m, _i, output, key=key: outputs.setdefault(key, output.clone())
        )
        for key, stage in stages.items()
    ]
    with torch.no_grad():
        maps = network(torch.randn(2, 3, 32, 32)).maps
    for hook in hooks:
        hook.remove()
    assert maps.keys() == outputs.keys()
    assert all(torch.equal(maps[key], outputs[key]) for key in maps)


def test_a_transformers_tokens_are_laid_out_as_they_lie_in_the_image():
    network = shared("vit_tiny_patch16_224")
    inner = network.network
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        features = network(images)
        tokens = inner.forward_features(images)[:, 1:]  # after the final norm, class token first
        columns = features.maps["r16"].permute(0, 2, 3, 1).reshape(2, 4, 192)
        torch.testing.assert_close(inner.norm(columns), tokens)


def test_all_stages_on_request():
    network = make("vit_tiny_patch16_224", maps="all").eval()
    names = [info.name for info in network.feature_info]
    assert names == [*(f"r16.{number}" for number in range(11)), "r16"]
    context = LossContext(num_classes=2, vector_dim=192, maps=network.feature_info)
    assert context.map("reduction=16", "test").name == "r16"
    assert context.map("r16.3", "test").name == "r16.3"
    block = []
    network.network.blocks[3].register_forward_hook(lambda _m, _i, output: block.append(output))
    with torch.no_grad():
        features = network(torch.randn(2, 3, 32, 32))
    tokens = features.maps["r16.3"].permute(0, 2, 3, 1).reshape(2, 4, 192)
    assert torch.equal(tokens, block[0][:, 1:])


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("resnet18", ("conv1", "layer1.0.conv1", "layer4.1.conv2")),
        ("vit_tiny_patch16_224", ("patch_embed.proj", "blocks.0", "blocks.11", "norm")),
    ],
)
def test_vector_and_maps_come_from_one_pass(name, layers):
    network = shared(name)
    passes = dict.fromkeys(layers, 0)

    def count(layer):
        passes[layer] += 1

    hooks = [
        network.network.get_submodule(layer).register_forward_hook(
            lambda _m, _i, _o, layer=layer: count(layer)
        )
        for layer in layers
    ]
    with torch.no_grad():
        network(torch.randn(1, 3, 32, 32))
    for hook in hooks:
        hook.remove()
    assert set(passes.values()) == {1}


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "vit_tiny_patch16_224"])
def test_gradients_reach_every_parameter(name):
    network = make(name)
    assert network.training
    assert network.network.training
    network(torch.randn(4, 3, 32, 32)).vector.square().sum().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_grey_images_and_other_sizes(name):
    network = make(name, channels=1, image_size=64).eval()
    with torch.no_grad():
        features = network(torch.randn(2, 1, 64, 64))
    assert features.vector.shape == (2, network.vector_dim)
    for info in network.feature_info:
        side = 64 // info.reduction
        assert features.maps[info.name].shape == (2, info.channels, side, side)
        assert info.side(64) == side


# ---- refusals


def test_images_that_a_model_cannot_take_are_refused():
    with pytest.raises(CompositionError, match="cannot take 3x32x32 images") as caught:
        make("haloregnetz_b")
    assert "timm:haloregnetz_b.preprocessing=model" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "size", "patch"), [("vit_tiny_patch16_224", 28, 16), ("convnext_atto", 30, 4)]
)
def test_pixels_that_fill_no_patch_are_not_dropped_silently(name, size, patch):
    with pytest.raises(CompositionError) as caught:
        make(name, image_size=size)
    assert f"{patch}x{patch} patches, which do not fill {size}x{size}" in str(caught.value)


def test_patches_that_overlap_lose_nothing():
    assert make("pvt_v2_b0", image_size=32).vector_dim == 256  # 7x7 patches, 4 pixels apart


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"freeze": "some"}, "freeze must be none, all or a number of stages: 'some'"),
        ({"freeze": -1}, "freeze must be none"),
        ({"freeze": 0.5}, "freeze expects int or text"),
        ({"rate": -1.0}, "rate"),
        ({"preprocessing": "none"}, "preprocessing"),
        ({"pretrained": True, "checkpoint": "x.pth"}, "exclude each other"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ConfigError) as caught:
        config.structure(options, TimmOptions, "timm:resnet18")
    assert message in str(caught.value)


# ---- freezing and the learning rate


def trained(network):
    return {key for key, p in network.network.named_parameters() if p.requires_grad}


def moved_statistics(network):
    """Modules whose running statistics a pass in training mode changes."""
    before = {key: value.clone() for key, value in network.network.named_buffers()}
    network.train()
    network(torch.randn(4, 3, 32, 32))
    return {
        key.rpartition(".")[0]
        for key, value in network.network.named_buffers()
        if key.endswith("running_mean") and not torch.equal(value, before[key])
    }


def test_nothing_is_frozen_by_default():
    network = make("resnet18")
    assert trained(network) == {key for key, _ in network.network.named_parameters()}
    assert len(moved_statistics(network)) == 20
    assert trained(make("resnet18", freeze=0)) == trained(network)


@pytest.mark.parametrize(
    ("freeze", "stages"), [(1, ()), (2, ("layer1",)), (4, ("layer1", "layer2", "layer3"))]
)
def test_the_first_stages_are_frozen_with_the_stem(freeze, stages):
    network = make("resnet18", freeze=freeze)
    keys = {key for key, _ in network.network.named_parameters()}
    frozen = {key for key in keys if key.startswith(("conv1.", "bn1.", *stages))}
    assert trained(network) == keys - frozen
    moved = moved_statistics(network)
    assert moved
    assert not any(key.startswith(("bn1", *stages)) for key in moved)
    assert network.training
    assert not network.network.bn1.training
    network(torch.randn(4, 3, 32, 32)).vector.sum().backward()
    assert all(
        (parameter.grad is None) == (key in frozen)
        for key, parameter in network.network.named_parameters()
    )


def test_blocks_of_a_transformer_are_frozen_with_its_embedding():
    network = make("vit_tiny_patch16_224", freeze=3)
    keys = {key for key, _ in network.network.named_parameters()}
    frozen = ("patch_embed.", "pos_embed", "cls_token", "blocks.0.", "blocks.1.", "blocks.2.")
    assert trained(network) == {key for key in keys if not key.startswith(frozen)}


def test_everything_frozen():
    network = make("resnet18", freeze="all")
    assert trained(network) == set()
    assert moved_statistics(network) == set()
    images = torch.randn(2, 3, 32, 32, requires_grad=True)
    network(images).vector.sum().backward()  # a generator still learns through it
    assert images.grad.abs().max() > 0


def test_a_frozen_batchnorm_stays_frozen_with_an_auxiliary_side():
    network = with_auxiliary_batchnorm(make("resnet18", freeze=2))
    moved = moved_statistics(network)
    assert "layer2.0.bn1.known" in moved
    assert not any(key.startswith(("bn1", "layer1")) for key in moved)


def test_too_many_stages():
    with pytest.raises(CompositionError, match="freeze=6 asks for more than the 5 feature stages"):
        make("resnet18", freeze=6)


def test_the_rate_of_the_trunk_reaches_the_optimiser():
    network, head = make("test_resnet", rate=0.1), nn.Linear(2, 2)
    assert network.rate == 0.1
    phase = Phase(name="all", loss=lambda _batch: {}, updates=(network, head))
    (item,) = build_optimizers([phase], TrainingOptions(lr=0.5))
    rates = {group["lr"]: len(group["params"]) for group in item.optimizer.param_groups}
    assert rates == {0.05: len(list(network.parameters())), 0.5: 2}


# ---- preprocessing


@pytest.mark.parametrize("size", [(48, 40), (20, 20)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_the_conversion_is_torchvisions_preprocessing(size, interpolation):
    torch.manual_seed(0)
    pixels = torch.rand(3, 3, 32, 32)
    given = ((0.5, 0.4, 0.3), (0.25, 0.2, 0.3))
    expected = pictures.resize(pixels, size, InterpolationMode(interpolation), antialias=True)
    expected = pictures.normalize(expected, *IMAGENET)
    conversion = Conversion(size, interpolation, given, IMAGENET)
    converted = conversion(pictures.normalize(pixels, *given))
    torch.testing.assert_close(converted, expected, rtol=1e-5, atol=1e-5)
    assert not conversion.state_dict()


def test_the_conversion_agrees_with_pil_up_to_its_rounding():
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    pil = Image.fromarray(pixels).resize((80, 80), Image.Resampling.BILINEAR)
    conversion = Conversion((80, 80), "bilinear", ((0.0,), (1.0,)), ((0.0,), (1.0,)))
    ours = conversion(torch.tensor(pixels / 255.0).permute(2, 0, 1)[None].float())[0]
    error = ours.permute(1, 2, 0).numpy() * 255 - np.asarray(pil, dtype=np.float64)
    assert np.abs(error).max() <= 1.5


def test_images_of_the_models_size_are_not_resampled():
    images = torch.randn(2, 3, 32, 32)
    conversion = Conversion((32, 32), "bicubic", ((0.0,), (1.0,)), ((0.5,), (0.5,)))
    assert torch.equal(conversion(images), images * 2.0 - 1.0)


def test_grey_images_take_the_average_normalisation():
    assert for_channels((0.2, 0.3, 0.7), 1) == (pytest.approx(0.4),)
    assert for_channels((0.2, 0.3, 0.7), 3) == (0.2, 0.3, 0.7)


def test_a_model_with_its_own_preprocessing_sees_what_its_weights_expect():
    given = ((0.5, 0.4, 0.3), (0.25, 0.2, 0.3))
    network = make("test_resnet", mean=given[0], std=given[1], preprocessing="model").eval()
    known = network.network.pretrained_cfg
    torch.manual_seed(3)
    pixels = torch.rand(2, 3, 32, 32)
    side = known["input_size"][-1]
    mode = InterpolationMode(known["interpolation"])
    expected = pictures.resize(pixels, [side, side], mode, antialias=True)
    expected = pictures.normalize(expected, known["mean"], known["std"])
    with torch.no_grad():
        features = network(pictures.normalize(pixels, *given))
        torch.testing.assert_close(features.vector, theirs(network, expected), rtol=1e-3, atol=1e-4)
    for info in network.feature_info:
        assert info.side(32) == side // info.reduction
        assert features.maps[info.name].shape == (2, info.channels, *[side // info.reduction] * 2)


def test_a_transformer_keeps_its_own_size_with_its_own_preprocessing():
    network = make("vit_tiny_patch16_224", preprocessing="model").eval()
    with torch.no_grad():
        assert network(torch.randn(1, 3, 32, 32)).maps["r16"].shape == (1, 192, 14, 14)
    assert network.feature_info[0].side(32) == 14


@pytest.mark.parametrize(
    ("options", "own"),
    [
        ({}, False),
        ({"pretrained": True}, True),
        ({"checkpoint": "weights.pth"}, True),
        ({"preprocessing": "model"}, True),
        ({"pretrained": True, "preprocessing": "protocol"}, False),
    ],
)
def test_whose_preprocessing_holds(options, own):
    assert TimmOptions(**options).own_preprocessing is own


def test_the_model_is_told_the_protocols_normalisation():
    backbone, loss = (plugins.find(name) for name in ("timm:test_resnet", "softmax"))
    image = ImageOptions(size=32, channels=3, mean=(0.5,), std=(0.1, 0.2, 0.4))
    options = TimmOptions(preprocessing="model")
    model = build_model((backbone, options), (loss, loss.spec.config()), 3, image)
    known = model.backbone.network.pretrained_cfg
    expected = [old / new for old, new in zip(image.std, known["std"], strict=True)]
    torch.testing.assert_close(model.backbone.conversion.scale.flatten(), torch.tensor(expected))
    embedding, logits = model.eval()(torch.randn(2, 3, 32, 32))
    assert embedding.shape == (2, model.backbone.vector_dim)
    assert logits.shape == (2, 3)
    assert not any("conversion" in key for key in model.state_dict())


# ---- weights


def full_state(name, **arguments):
    """Weights of a model with its classifier of 1000 classes, as people keep them."""
    torch.manual_seed(7)
    return timm.create_model(name, **arguments).state_dict()


def same_weights(network, state):
    """Compare with a state dict, but for the classifier."""
    own = network.network.state_dict()
    assert own
    return all(torch.equal(own[key], state[key]) for key in own)


@pytest.mark.parametrize("form", ["safetensors", "plain", "wrapped"])
@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_a_checkpoint_comes_back(name, form, tmp_path):
    state = full_state(name)
    path = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pth")
    if form == "safetensors":
        save_file(state, path)
    elif form == "plain":
        torch.save(state, path)
    else:
        parallel = {f"module.{key}": value for key, value in state.items()}
        torch.save({"epoch": 3, "state_dict": parallel, "optimizer": {"lr": 0.1}}, path)
    network = make(name, checkpoint=str(path))
    assert same_weights(network, state)
    assert not network.network.pretrained_cfg.get("state_dict")
    assert isinstance(network.conversion, Conversion)


def test_a_checkpoint_of_colour_weights_serves_grey_images(tmp_path):
    state = full_state("test_resnet")
    save_file(state, tmp_path / "weights.safetensors")
    network = make("test_resnet", channels=1, checkpoint=str(tmp_path / "weights.safetensors"))
    weight = network.network.get_submodule(network.network.pretrained_cfg["first_conv"]).weight
    key = f"{network.network.pretrained_cfg['first_conv']}.weight"
    torch.testing.assert_close(weight.data, state[key].sum(dim=1, keepdim=True))


def test_position_embeddings_are_resampled_for_the_protocols_size(tmp_path):
    state = full_state("test_vit")
    save_file(state, tmp_path / "weights.safetensors")
    path = str(tmp_path / "weights.safetensors")
    network = make("test_vit", checkpoint=path, preprocessing="protocol")
    assert network.network.pos_embed.shape[1] < state["pos_embed"].shape[1]
    assert torch.equal(network.network.patch_embed.proj.weight, state["patch_embed.proj.weight"])


class Trap:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    path, mark = tmp_path / "weights.pth", tmp_path / "mark"
    torch.save({"state_dict": {"a": torch.zeros(1)}, "trap": Trap(str(mark))}, path)
    plain = tmp_path / "plain.pth"
    plain.write_bytes(pickle.dumps(Trap(str(mark)), protocol=2))
    for each in (path, plain):
        with pytest.raises(ModelError) as caught:
            make("test_resnet", checkpoint=str(each))
        assert "could run code" in str(caught.value)
        assert str(each) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not mark.exists()


def test_files_that_are_no_weights(tmp_path):
    def refused(path):
        with pytest.raises(OpensetError) as caught:
            make("test_resnet", checkpoint=str(path))
        assert isinstance(caught.value, ModelError)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "does not exist" in refused(tmp_path / "missing.pth")
    (tmp_path / "text.safetensors").write_text("not tensors at all")
    assert "is damaged" in refused(tmp_path / "text.safetensors")
    (tmp_path / "text.pth").write_text("not tensors at all")
    refused(tmp_path / "text.pth")
    whole = tmp_path / "whole.pth"
    torch.save(full_state("test_resnet"), whole)
    (tmp_path / "cut.pth").write_bytes(whole.read_bytes()[:20_000])
    assert "is damaged" in refused(tmp_path / "cut.pth")
    torch.save({"epoch": 3}, tmp_path / "no_state.pth")
    assert "holds no state dict" in refused(tmp_path / "no_state.pth")
    save_file(full_state("test_vit"), tmp_path / "other.safetensors")
    assert "does not fit timm:test_resnet" in refused(tmp_path / "other.safetensors")


def test_weights_that_lack_a_layer_do_not_pass(tmp_path):
    state = full_state("test_resnet")
    missing = next(key for key in state if key.startswith("layer3"))
    del state[missing]
    save_file(state, tmp_path / "weights.safetensors")
    with pytest.raises(ModelError, match="does not fit") as caught:
        make("test_resnet", checkpoint=str(tmp_path / "weights.safetensors"))
    assert missing in str(caught.value)


def test_weights_that_cannot_be_downloaded(monkeypatch, tmp_path):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    begun = time.perf_counter()
    with pytest.raises(ModelError) as caught:
        make("test_resnet.r160_in1k", pretrained=True)
    assert time.perf_counter() - begun < 20
    message = str(caught.value)
    assert "pretrained weights of timm:test_resnet.r160_in1k cannot be downloaded" in message
    assert "timm:test_resnet.r160_in1k.checkpoint" in message
    assert "\n" not in message


def test_a_name_without_weights_is_refused_before_any_download(monkeypatch):
    monkeypatch.setattr(timm, "create_model", None)
    known = timm.models.PretrainedCfg()
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda _name: known)
    context = BackboneContext(channels=3, image_size=32)
    with pytest.raises(CompositionError, match="has no pretrained weights for resnet18") as caught:
        build("resnet18", TimmOptions(pretrained=True), context)
    assert "resnet18.a1_in1k" in str(caught.value)
