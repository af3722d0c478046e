"""Every first-party backbone keeps its contract; each one's counts, layers and start values."""

from __future__ import annotations

import importlib.metadata
import math
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from openset_core import BackboneContext
from openset_core.auxiliary_batchnorm import has_batchnorm, with_auxiliary_batchnorm
from openset_core.errors import CompositionError, ConfigError
from openset_core.experiment import config
from openset_core.registry import Registry

MODULES = ("classifier32", "lenet", "resnet", "vgg13")
BACKBONES = ("classifier32", "lenet-plus-plus", "resnet18", "resnet34", "vgg13")
# resnet34 differs from resnet18 in the number of blocks alone, and takes long.
QUICK = tuple(name for name in BACKBONES if name != "resnet34")

plugins = Registry(
    entry_points=[
        importlib.metadata.EntryPoint(name, f"openset_plugins.{name}", "openset")
        for name in MODULES
    ]
)


def make(name, channels=3, image_size=32, seed=0, **options):
    part = plugins.find(name, ("backbone",))
    chosen = config.structure(options, part.spec.config, name)
    torch.manual_seed(seed)
    return part.load()(chosen, BackboneContext(channels=channels, image_size=image_size))


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def unsettle(network, seed=1):
    """Give normalisation layers values that differ from the identity."""
    torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval()


# ---- the contract, for all


def test_every_plugin_loads_and_offers_what_this_file_tests():
    assert not plugins.broken
    assert tuple(part.name for part in plugins.of_kind("backbone")) == BACKBONES


def test_listing_the_backbones_imports_no_torch():
    modules = ", ".join(f"openset_plugins.{name}" for name in MODULES)
    code = f"import sys, {modules}; print([m for m in ('torch', 'numpy') if m in sys.modules])"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize(("channels", "image_size"), [(3, 32), (1, 32), (3, 64), (1, 64)])
def test_declared_shapes_are_the_measured_ones(name, channels, image_size):
    network = make(name, channels, image_size).eval()
    with torch.no_grad():
        features = network(torch.randn(1, channels, image_size, image_size))
    assert features.vector.shape == (1, network.vector_dim)
    assert features.vector.dtype == torch.float32
    assert list(features.maps) == [info.name for info in network.feature_info]
    assert len(features.maps) >= 3
    for info in network.feature_info:
        side = info.side(image_size)
        assert side == image_size // info.reduction
        assert features.maps[info.name].shape == (1, info.channels, side, side)


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("image_size", [36, 45])
def test_no_map_is_declared_with_a_side_it_does_not_have(name, image_size):
    network = make(name, image_size=image_size).eval()
    with torch.no_grad():
        maps = network(torch.randn(1, 3, image_size, image_size)).maps
    assert {name: values.shape[-1] for name, values in maps.items()} == {
        info.name: info.side(image_size) for info in network.feature_info
    }


@pytest.mark.parametrize("name", QUICK)
def test_evaluation_is_deterministic_and_treats_samples_alone(name):
    network = unsettle(make(name))
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        first, again, alone = network(images), network(images), network(images[:1])
    assert torch.equal(first.vector, again.vector)
    assert all(torch.equal(first.maps[key], again.maps[key]) for key in first.maps)
    torch.testing.assert_close(first.vector[:1], alone.vector, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", QUICK)
def test_a_seed_fixes_the_start_values(name):
    one, same, other = (make(name, seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("name", QUICK)
def test_gradients_of_the_vector_reach_every_parameter(name):
    network = make(name).train()
    network(torch.randn(4, 3, 32, 32)).vector.square().sum().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().max() > 0, key


@pytest.mark.parametrize("name", BACKBONES)
def test_batchnorm_is_promised_where_there_is_some(name):
    provides = plugins.find(name).spec.provides
    assert ("batchnorm" in provides) == has_batchnorm(make(name))
    assert {"feature vector", "feature maps"} <= set(provides)


# ---- classifier32


@pytest.mark.parametrize(
    ("classes", "published"),
    [(4, 999_872), (6, 1_000_128), (10, 1_000_640), (20, 1_001_920)],
)
def test_classifier32_has_the_published_parameters_without_the_unused_bn10(classes, published):
    network = make("classifier32")
    head = nn.Linear(network.vector_dim, classes, bias=False)
    unused = 2 * 128
    assert count(network) + count(head) + unused == published
    assert sum(p.numel() for p in network.parameters() if p.dim() == 4) == 997_056


def test_classifier32_with_auxiliary_batchnorm_gains_the_published_parameters():
    network = make("classifier32")
    plain = count(network)
    assert count(with_auxiliary_batchnorm(network)) - plain == 2_304 - 2 * 128


def test_classifier32_starts_from_the_published_distributions():
    network = make("classifier32")
    convolutions = [m.weight for m in network.modules() if isinstance(m, nn.Conv2d)]
    weights = torch.cat([weight.flatten() for weight in convolutions])
    assert len(convolutions) == 9
    assert weights.mean().abs() < 5 * 0.05 / math.sqrt(len(weights))
    assert weights.std().item() == pytest.approx(0.05, rel=0.01)
    for weight in convolutions:
        assert weight.std().item() == pytest.approx(0.05, rel=0.1)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    scales = torch.cat([norm.weight for norm in norms])
    assert len(scales) == 1_152 - 128
    assert scales.mean().item() == pytest.approx(1.0, abs=5 * 0.02 / math.sqrt(len(scales)))
    assert scales.std().item() == pytest.approx(0.02, rel=0.15)
    assert all((norm.bias == 0).all() for norm in norms)
    assert all((norm.eps, norm.momentum) == (1e-5, 0.1) for norm in norms)


@pytest.mark.parametrize("image_size", [32, 64])
def test_classifier32_equals_a_recomputation_layer_by_layer(image_size):
    network = unsettle(make("classifier32", image_size=image_size))
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    images = torch.randn(2, 3, image_size, image_size)
    hidden, outputs = images.double(), []
    for number, (conv, norm) in enumerate(zip(convolutions, norms, strict=True), start=1):
        assert conv.bias is None
        stride = 2 if number in (3, 6, 9) else 1
        hidden = F.conv2d(hidden, conv.weight.double(), stride=stride, padding=1)
        scale = norm.weight.double() / (norm.running_var.double() + 1e-5).sqrt()
        shift = norm.bias.double() - norm.running_mean.double() * scale
        hidden = hidden * scale[:, None, None] + shift[:, None, None]
        hidden = torch.where(hidden > 0, hidden, 0.2 * hidden)
        outputs.append(hidden)
    with torch.no_grad():
        features = network(images)
    for name, number in (("r2", 5), ("r4", 8), ("r8", 9)):
        expected = outputs[number - 1]
        assert expected.std() > 0.05
        torch.testing.assert_close(features.maps[name].double(), expected, rtol=2e-4, atol=2e-4)
    expected = hidden.mean(dim=(2, 3))
    torch.testing.assert_close(features.vector.double(), expected, rtol=2e-4, atol=2e-4)


def test_classifier32_drops_channels_of_the_image_and_after_convolutions_3_and_6():
    network = make("classifier32", dropout=0.5).train()
    order = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Dropout2d):
            module.register_forward_hook(lambda m, _i, _o: order.append(type(m).__name__[0]))
    first = next(m for m in network.modules() if isinstance(m, nn.Conv2d))
    seen = []
    first.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0]))
    images = torch.rand(64, 3, 32, 32) + 0.5
    network(images)
    assert "".join(order) == "DCCCDCCCDCCC"
    factors = (seen[0] / images).flatten(2)
    assert (factors == factors[:, :, :1]).all()  # a channel is dropped whole or not at all
    assert set(factors.unique().tolist()) == {0.0, 2.0}
    assert 0.3 < (factors == 0).float().mean() < 0.7


def test_classifier32_options():
    images = torch.randn(8, 3, 32, 32)
    without = make("classifier32", dropout=0.0).train()
    assert torch.equal(without(images).vector, without(images).vector)
    default = make("classifier32").train()
    assert not torch.equal(default(images).vector, default(images).vector)
    drops = [m.p for m in default.modules() if isinstance(m, nn.Dropout2d)]
    assert drops == [0.2, 0.2, 0.2]
    with pytest.raises(ConfigError, match=r"classifier32\.dropout"):
        make("classifier32", dropout=1.0)


# ---- resnet


@pytest.mark.parametrize(("name", "expected"), [("resnet18", 11_173_962), ("resnet34", 21_282_122)])
def test_resnet_parameters_with_a_head_for_ten_classes(name, expected):
    assert count(make(name)) + count(nn.Linear(512, 10)) == expected


def test_resnet34_with_auxiliary_batchnorm_has_the_published_parameters():
    network = with_auxiliary_batchnorm(make("resnet34"))
    assert count(network) + count(nn.Linear(512, 10)) == 21_299_146


@pytest.mark.parametrize(("name", "stem"), [("resnet18", "imagenet"), ("resnet34", "cifar")])
def test_resnet_equals_torchvisions(name, stem):
    network = unsettle(make(name, image_size=64, stem=stem))
    theirs = getattr(torchvision.models, name)(num_classes=1)
    if stem == "cifar":
        theirs.conv1 = nn.Conv2d(3, 64, 3, stride=1, padding=1, bias=False)
        theirs.maxpool = nn.Identity()
    theirs.fc = nn.Identity()
    ours = network.state_dict()
    rename = {"conv1": "stem.0", "bn1": "stem.1"}
    rename |= {f"layer{number + 1}": f"stages.{number}" for number in range(4)}
    theirs.load_state_dict(
        {
            key: ours[f"{rename[key.partition('.')[0]]}.{key.partition('.')[2]}"]
            for key in theirs.state_dict()
        }
    )
    outputs = []
    for number in range(4):
        getattr(theirs, f"layer{number + 1}").register_forward_hook(
            lambda _m, _i, output: outputs.append(output)
        )
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        vector = theirs.eval()(images)
        features = network(images)
    assert vector.std() > 1e-3
    torch.testing.assert_close(features.vector, vector)
    first = 1 if stem == "cifar" else 4
    assert list(features.maps) == [f"r{first * 2**number}" for number in range(4)]
    for mine, expected in zip(features.maps.values(), outputs, strict=True):
        torch.testing.assert_close(mine, expected)


def test_resnet_starts_as_pytorch_starts_layers():
    network = make("resnet18")
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_in = module.weight[0].numel()
            bound = 1 / math.sqrt(fan_in)  # kaiming_uniform with a = sqrt(5)
            assert module.weight.abs().max() <= bound
            assert module.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
        elif isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all()
            assert (module.bias == 0).all()


def test_resnet_refuses_another_stem():
    with pytest.raises(ConfigError, match=r"resnet18\.stem"):
        make("resnet18", stem="deep")


# ---- lenet


def test_lenet_parameters():
    pairs = [(3, 32), (32, 32), (32, 64), (64, 64), (64, 128), (128, 128)]
    convolutions = sum(25 * inputs * width + width + 1 for inputs, width in pairs)
    assert count(make("lenet-plus-plus")) == convolutions + 2048 * 2 + 2 + 1
    assert make("lenet-plus-plus").vector_dim == 2


@pytest.mark.parametrize(("feature_dim", "image_size"), [(2, 32), (5, 28)])
def test_lenet_equals_a_recomputation(feature_dim, image_size):
    network = make("lenet-plus-plus", image_size=image_size, feature_dim=feature_dim).eval()
    slopes = [m for m in network.modules() if isinstance(m, nn.PReLU)]
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    (linear,) = (m for m in network.modules() if isinstance(m, nn.Linear))
    assert len(slopes) == len(convolutions) + 1 == 7
    for number, slope in enumerate(slopes):
        nn.init.constant_(slope.weight, 0.1 * (number + 1))

    def prelu(values, slope):
        return torch.where(values > 0, values, slope.weight.double() * values)

    images = torch.randn(3, 3, image_size, image_size)
    hidden, maps = images.double(), []
    for number, (conv, slope) in enumerate(zip(convolutions, slopes, strict=False)):
        hidden = F.conv2d(hidden, conv.weight.double(), conv.bias.double(), padding=2)
        hidden = prelu(hidden, slope)
        if number % 2:
            hidden = F.max_pool2d(hidden, 2)
            maps.append(hidden)
    vector = hidden.flatten(1) @ linear.weight.double().T + linear.bias.double()
    with torch.no_grad():
        features = network(images)
    for mine, expected in zip(features.maps.values(), maps, strict=True):
        torch.testing.assert_close(mine.double(), expected, rtol=1e-4, atol=1e-5)
    expected = prelu(vector, slopes[-1])
    assert (expected < 0).any()
    torch.testing.assert_close(features.vector.double(), expected, rtol=1e-4, atol=1e-5)


def test_lenet_refuses_images_that_pool_to_nothing():
    with pytest.raises(CompositionError, match="at least 8x8 pixels, the protocol gives 7x7"):
        make("lenet-plus-plus", image_size=7)
