"""VGG-13: parameter counts of the paper's Table 7, its maps, and a plain re-computation."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from openset_core import BackboneContext, LossContext, NoOptions
from openset_core.components import OpenSetModel
from openset_core.errors import CompositionError
from openset_core.model.building import inference_parameters
from openset_plugins.m2iosr import M2IOSROptions
from openset_plugins.m2iosr.loss import M2IOSR
from openset_plugins.softmax import SoftmaxOptions
from openset_plugins.softmax.loss import Softmax
from openset_plugins.vgg13.network import build


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """A second thread gains little here, and loses much on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# name, channels and reduction, from the paper's text: f_d has d x d pixels for 32x32 images.
MAPS = [("f16", 64, 2), ("f8", 128, 4), ("f4", 256, 8), ("f2", 512, 16)]


def make(channels=3, image_size=32, seed=0):
    torch.manual_seed(seed)
    return build(NoOptions(), BackboneContext(channels=channels, image_size=image_size))


@pytest.fixture(scope="module")
def network():
    """A network whose normalisation layers are all different from the identity."""
    network = make()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval()


def context(network, image_size=32):
    return LossContext(
        num_classes=10,
        vector_dim=network.vector_dim,
        maps=network.feature_info,
        image_size=image_size,
        backbone="vgg13",
    )


# ---- parameters


def test_parameters_of_the_softmax_baseline():
    network = make()
    model = OpenSetModel(network, Softmax(SoftmaxOptions(latent_dim=32), context(network)))
    assert inference_parameters(model) == 9_427_626
    assert model.for_inference().parameter_count() == 9_427_626


def test_parameters_of_m2iosr_at_test_time():
    network = make()
    model = OpenSetModel(network, M2IOSR(M2IOSROptions(), context(network)))
    training = model.parameter_count()
    assert inference_parameters(model) == 9_444_042
    model.for_inference()
    assert model.parameter_count() == 9_444_042 < training
    assert inference_parameters(model) == 9_444_042
    assert not model.training


def test_one_channel_changes_only_the_first_convolution():
    grey, colour = (sum(p.numel() for p in make(c).parameters()) for c in (1, 3))
    assert colour == 9_404_992 + 5_888
    assert colour - grey == 2 * 64 * 3 * 3


# ---- shapes


@pytest.mark.parametrize("image_size", [32, 64])
def test_declared_maps_are_the_measured_ones(network, image_size):
    assert [(m.name, m.channels, m.reduction) for m in network.feature_info] == MAPS
    with torch.no_grad():
        features = network(torch.randn(2, 3, image_size, image_size))
    assert list(features.maps) == [name for name, _, _ in MAPS]
    for info in network.feature_info:
        side = image_size // info.reduction
        assert features.maps[info.name].shape == (2, info.channels, side, side)
        assert info.side(image_size) == side
    assert features.vector.shape == (2, network.vector_dim) == (2, 512)


@pytest.mark.parametrize("image_size", [1, 28, 31])
def test_small_images_are_refused(image_size):
    with pytest.raises(CompositionError) as caught:
        make(image_size=image_size)
    message = str(caught.value)
    assert f"{image_size}x{image_size}" in message
    assert "vgg13" in message
    assert "32x32" in message
    assert "\n" not in message


# ---- values


def recompute(network, images, training):
    """The network layer by layer from its weights: sums of shifted images and formulas."""
    state = {name: tensor.double() for name, tensor in network.state_dict().items()}
    convolutions = [n for n, m in network.named_modules() if isinstance(m, nn.Conv2d)]
    norms = [n for n, m in network.named_modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(convolutions) == len(norms) == 10
    hidden, maps = images.double(), []
    for number, (conv, norm) in enumerate(zip(convolutions, norms, strict=True)):
        weight, size = state[f"{conv}.weight"], hidden.shape[-1]
        padded = F.pad(hidden, (1, 1, 1, 1))
        hidden = state[f"{conv}.bias"][:, None, None] + sum(
            torch.einsum(
                "oc,bchw->bohw", weight[:, :, i, j], padded[:, :, i : i + size, j : j + size]
            )
            for i in range(3)
            for j in range(3)
        )
        if training:
            mean = hidden.mean(dim=(0, 2, 3))
            variance = hidden.var(dim=(0, 2, 3), unbiased=False)
        else:
            mean, variance = state[f"{norm}.running_mean"], state[f"{norm}.running_var"]
        scale = state[f"{norm}.weight"] / (variance + 1e-5).sqrt()
        shift = state[f"{norm}.bias"] - mean * scale
        hidden = (hidden * scale[:, None, None] + shift[:, None, None]).clamp(min=0)
        if number % 2 == 1:
            corners = [hidden[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)]
            hidden = torch.stack(corners).amax(dim=0)
            maps.append(hidden)
    return maps[-1].mean(dim=(2, 3)), maps[:-1]


@pytest.mark.parametrize(("image_size", "training"), [(32, False), (64, True)])
def test_maps_equal_a_recomputation_layer_by_layer(network, image_size, training):
    torch.manual_seed(1)
    images = torch.randn(64 // image_size, 3, image_size, image_size)
    vector, maps = recompute(network, images, training)
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    try:
        with torch.no_grad():
            features = network.train(training)(images)
    finally:
        network.load_state_dict(before, strict=False)
        network.eval()
    for (name, _, _), expected in zip(MAPS, maps, strict=True):
        assert expected.std() > 0.05  # the comparison is not one of zeros
        torch.testing.assert_close(features.maps[name].double(), expected, rtol=2e-4, atol=2e-4)
    torch.testing.assert_close(features.vector.double(), vector, rtol=2e-4, atol=2e-4)


def test_maps_are_not_changed_by_the_layers_above(network):
    """In-place activations must not write into what was handed out."""
    torch.manual_seed(2)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        features = network(images)
        hidden = images
        for (name, _, _), block in zip(MAPS, network.blocks, strict=False):
            hidden = block(hidden.clone())
            assert torch.equal(features.maps[name], hidden)


def test_gradients_reach_every_parameter(network):
    torch.manual_seed(3)
    network.zero_grad(set_to_none=True)
    network(torch.randn(2, 3, 32, 32)).vector.square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
    network.zero_grad(set_to_none=True)


def test_gradients_of_a_map_reach_only_the_layers_below(network):
    network.zero_grad(set_to_none=True)
    network(torch.randn(2, 3, 32, 32)).maps["f16"].square().sum().backward()
    reached = {name for name, p in network.named_parameters() if p.grad is not None}
    assert reached == {f"blocks.0.{name}" for name, _ in network.blocks[0].named_parameters()}
    network.zero_grad(set_to_none=True)
