"""Auxiliary BatchNorm: conversion of real networks, its domains, and the way back.

Networks run in float64, so that two ways to the same numbers can be told from two different
results; where both take the same steps, equality is to the bit.
"""

from __future__ import annotations

import copy
import importlib.util

import numpy as np
import pytest
import timm
import torch
import torchvision
from timm.layers import BatchNormAct2d
from torch import nn
from torchvision.models.resnet import BasicBlock

from openset_core.auxiliary_batchnorm import (
    AuxiliaryBatchNorm,
    domain,
    has_batchnorm,
    is_converted,
    with_auxiliary_batchnorm,
    without_auxiliary_batchnorm,
)

BATCH, FAKES = 4, 3


@pytest.fixture(autouse=True)
def one_thread():
    """On tensors as small as these, threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Small(nn.Module):
    """A network around one kind of normalisation."""

    def __init__(self, shape, *layers):
        super().__init__()
        self.shape = shape
        self.layers = nn.Sequential(*layers)

    def forward(self, values):
        return self.layers(values)


def one_dimension():
    return Small((6,), nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 4))


def sequence():
    return Small((2, 7), nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.Flatten())


def images():
    return Small((3, 8, 8), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, eps=1e-3, momentum=0.3))


def volumes():
    return Small((1, 5, 5, 5), nn.Conv3d(1, 3, 3), nn.BatchNorm3d(3), nn.ReLU())


def synchronised():
    return nn.SyncBatchNorm.convert_sync_batchnorm(images())


def cumulative():
    """A momentum of None means a plain mean over all batches."""
    return Small((3, 8, 8), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=None))


def plain_statistics():
    return Small(
        (3, 8, 8),
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4, affine=False),
        nn.BatchNorm2d(4, track_running_stats=False),
    )


def fused():
    """timm's norm and activation in one layer."""
    return Small(
        (3, 8, 8), nn.Conv2d(3, 4, 3), BatchNormAct2d(4), nn.Conv2d(4, 4, 3), BatchNormAct2d(4)
    )


def block():
    """torchvision's residual block behind a layer of timm's."""
    return Small((3, 8, 8), nn.Conv2d(3, 4, 3), BatchNormAct2d(4), BasicBlock(4, 4))


def timm_network():
    network = timm.create_model("test_efficientnet", pretrained=False, num_classes=5)
    assert any(isinstance(layer, BatchNormAct2d) for layer in network.modules())
    network.shape = (3, 32, 32)
    return network


def torchvision_network():
    network = torchvision.models.shufflenet_v2_x0_5(num_classes=5)
    network.shape = (3, 32, 32)
    return network


LAYERS = [
    one_dimension,
    sequence,
    images,
    volumes,
    synchronised,
    cumulative,
    plain_statistics,
    fused,
    block,
]
NETWORKS = [*LAYERS, timm_network, torchvision_network]
every_network = pytest.mark.parametrize("make", NETWORKS, ids=lambda make: make.__name__)
two_networks = pytest.mark.parametrize("make", [block, timm_network], ids=["block", "timm"])


def pair(make):
    """A network in float64, and its converted twin whose sides no longer equal each other."""
    torch.manual_seed(0)
    plain = make().double()
    for layer in plain.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            unlike_the_start(layer)
    converted = with_auxiliary_batchnorm(copy.deepcopy(plain))
    for layer in auxiliary(converted):
        unlike_the_start(layer.generated)
    return plain, converted


def unlike_the_start(layer):
    for value in (layer.weight, layer.bias, layer.running_mean):
        if value is not None:
            nn.init.normal_(value)
    if layer.running_var is not None:
        nn.init.uniform_(layer.running_var, 0.5, 2.0)


def auxiliary(network):
    return [layer for layer in network.modules() if isinstance(layer, AuxiliaryBatchNorm)]


def batch(network, count=BATCH, seed=1):
    torch.manual_seed(seed)
    return torch.randn(count, *network.shape, dtype=torch.float64)


def known_names(network):
    """Entries of a converted network's state, by the name they have in the plain one."""
    return {
        name.replace(".known.", "."): value
        for name, value in network.state_dict().items()
        if ".generated." not in name
    }


def generated_names(network):
    return {
        name.replace(".generated.", "."): value.clone()
        for name, value in network.state_dict().items()
        if ".generated." in name
    }


def loss_of(output):
    """A scalar that hangs on every output in its own way."""
    torch.manual_seed(2)
    weights = torch.randn(output.shape[1:], dtype=output.dtype)
    return (output * weights).sum() + output.square().mean()


def gradients(network):
    """The known side's under the names of the plain network, the generated side's under theirs."""
    return {name.replace(".known.", "."): p.grad for name, p in network.named_parameters()}


def equal(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


# ---- known


@every_network
def test_the_known_side_computes_what_was_there_before(make):
    """To the bit, training and evaluation: outputs, running statistics and gradients."""
    plain, converted = pair(make)
    before = generated_names(converted)
    for training in (True, True, False):  # twice, so that statistics move from where they were
        values = batch(plain)
        outputs = []
        for network in (plain, converted):
            network.train(training)
            network.zero_grad()
            outputs.append(network(values))
            loss_of(outputs[-1]).backward()
        assert torch.equal(*outputs)
        equal(plain.state_dict(), known_names(converted))
        got = gradients(converted)
        for name, parameter in plain.named_parameters():
            assert torch.equal(parameter.grad, got.pop(name)), name
        assert all(gradient is None for gradient in got.values())  # the generated side's
    equal(before, generated_names(converted))


@two_networks
def test_known_is_also_what_the_known_domain_says(make):
    _, converted = pair(make)
    twin = copy.deepcopy(converted)
    values = batch(converted)
    with domain(twin, "known"):
        inside = twin(values)
    assert torch.equal(inside, converted(values))
    equal(converted.state_dict(), twin.state_dict())


# ---- generated


@every_network
def test_the_generated_side_is_a_network_of_its_own(make):
    """It computes what a plain network with its parameters would, and moves nothing else."""
    plain, converted = pair(make)
    plain.load_state_dict(plain.state_dict() | generated_names(converted))
    before = {name: value.clone() for name, value in known_names(converted).items()}
    values = batch(plain)
    expected = plain(values)
    with domain(converted, "generated"):
        output = converted(values)
    assert torch.equal(output, expected)
    equal(before, known_names(converted))
    after = generated_names(converted)
    equal({name: plain.state_dict()[name] for name in after}, after)
    loss_of(expected).backward()
    loss_of(output).backward()
    expected_gradients = {name: p.grad for name, p in plain.named_parameters()}
    for name, parameter in converted.named_parameters():
        if ".known." in name:
            assert parameter.grad is None
        else:
            wanted = expected_gradients[name.replace(".generated.", ".")]
            assert torch.equal(parameter.grad, wanted), name


def test_statistics_by_plain_arithmetic():
    """Momentum on the mean and the unbiased variance of each side's own samples."""
    converted = with_auxiliary_batchnorm(nn.Sequential(nn.BatchNorm2d(2, momentum=0.3))).double()
    torch.manual_seed(0)
    known = 3 + 2 * torch.randn(4, 2, 3, 3, dtype=torch.float64)
    fakes = 5 * torch.randn(3, 2, 3, 3, dtype=torch.float64) - 1
    converted(known)
    with domain(converted, "generated"):
        converted(fakes)
    with domain(converted, "mixed", known_samples=4):
        converted(torch.cat([known, fakes]))
    (layer,) = auxiliary(converted)
    for side, values in ((layer.known, known), (layer.generated, fakes)):
        numbers = values.numpy().swapaxes(0, 1).reshape(2, -1)
        mean, variance = np.zeros(2), np.ones(2)
        for _ in range(2):
            mean = 0.7 * mean + 0.3 * numbers.mean(axis=1)
            variance = 0.7 * variance + 0.3 * numbers.var(axis=1, ddof=1)
        np.testing.assert_allclose(side.running_mean.numpy(), mean)
        np.testing.assert_allclose(side.running_var.numpy(), variance)
        assert side.num_batches_tracked.item() == 2


@two_networks
def test_evaluation_takes_the_known_side_in_every_domain(make):
    plain, converted = pair(make)
    values = batch(plain, BATCH + FAKES)
    plain.eval()
    converted.eval()
    expected = plain(values)
    before = {name: value.clone() for name, value in converted.state_dict().items()}
    for kind in ("known", "generated", "mixed"):
        with domain(converted, kind, known_samples=BATCH):
            assert torch.equal(converted(values), expected)
    equal(before, converted.state_dict())


# ---- mixed


@every_network
def test_a_mixed_pass_is_two_passes_in_one(make):
    """Outputs, statistics and gradients of a pass on known and one on generated samples."""
    _, together = pair(make)
    apart = copy.deepcopy(together)
    known, fakes = batch(together), 2 * batch(together, FAKES, seed=3) + 1
    with domain(together, "mixed", known_samples=BATCH):
        both = together(torch.cat([known, fakes]))
    first = apart(known)
    with domain(apart, "generated"):
        second = apart(fakes)
    close = {"rtol": 1e-7, "atol": 1e-9}
    torch.testing.assert_close(both, torch.cat([first, second]), **close)
    torch.testing.assert_close(together.state_dict(), apart.state_dict(), **close)
    (loss_of(both[:BATCH]) + 3 * loss_of(both[BATCH:])).backward()
    (loss_of(first) + 3 * loss_of(second)).backward()
    for (name, one), (_, other) in zip(
        together.named_parameters(), apart.named_parameters(), strict=True
    ):
        assert other.grad is not None, name
        scale = 1e-8 * (1 + other.grad.abs().max().item())
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-6, atol=scale, msg=name)


def test_a_mixed_batch_is_not_normalised_as_one():
    """What the separation is for."""
    plain, converted = pair(images)
    known, fakes = batch(plain), 2 * batch(plain, FAKES, seed=3) + 1
    unmixed = plain(known)
    as_one = copy.deepcopy(plain)(torch.cat([known, fakes]))[:BATCH]
    with domain(converted, "mixed", known_samples=BATCH):
        separated = converted(torch.cat([known, fakes]))[:BATCH]
    torch.testing.assert_close(separated, unmixed)
    assert (as_one - unmixed).abs().max() > 0.1


# ---- domains


def kinds(network):
    return {(layer._domain.kind, layer._domain.known_samples) for layer in auxiliary(network)}


def test_domains_nest():
    _, network = pair(fused)
    (known,) = kinds(network)
    with domain(network, "mixed", known_samples=3):
        (mixed,) = kinds(network)
        with domain(network, "generated"):
            (generated,) = kinds(network)
            with domain(network, "known"):
                assert {kind for kind, _ in kinds(network)} == {known[0]}
            assert kinds(network) == {generated}
        assert kinds(network) == {mixed}
        assert mixed[1] == 3
    assert kinds(network) == {known}
    assert len({known[0], mixed[0], generated[0]}) == 3


def test_a_domain_ends_with_an_exception():
    _, network = pair(fused)
    before = kinds(network)
    with pytest.raises(RuntimeError), domain(network, "mixed"), domain(network, "generated"):
        network(torch.zeros(2, 99))  # the network takes no such input
    assert kinds(network) == before


def test_an_unknown_domain_changes_nothing():
    _, network = pair(fused)
    before = kinds(network)
    with pytest.raises(KeyError, match="fake"), domain(network, "fake"):
        pass
    assert kinds(network) == before


def test_networks_have_domains_of_their_own():
    _, one = pair(images)
    other = copy.deepcopy(one)
    with domain(one, "generated"):
        assert kinds(one) != kinds(other)


def test_a_domain_on_a_plain_network_does_nothing():
    plain, _ = pair(images)
    values = batch(plain)
    twin = copy.deepcopy(plain)
    with domain(plain, "generated"):
        assert torch.equal(plain(values), twin(values))
    equal(plain.state_dict(), twin.state_dict())


# ---- conversion and back


@two_networks
def test_conversion_is_idempotent(make):
    _, converted = pair(make)
    modules = list(converted.modules())
    before = {name: value.clone() for name, value in converted.state_dict().items()}
    assert with_auxiliary_batchnorm(converted) is converted
    assert all(one is other for one, other in zip(modules, converted.modules(), strict=True))
    equal(before, converted.state_dict())


@every_network
def test_the_way_back_gives_the_same_layers(make):
    torch.manual_seed(0)
    network = make()
    layers = dict(network.named_modules())
    state = {name: value.clone() for name, value in network.state_dict().items()}
    assert with_auxiliary_batchnorm(network) is network
    assert is_converted(network)
    assert has_batchnorm(network)
    assert len(auxiliary(network)) == sum(
        isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in layers.values()
    )
    assert without_auxiliary_batchnorm(network) is network
    assert not is_converted(network)
    after = dict(network.named_modules())
    assert list(after) == list(layers)
    assert all(after[name] is layer for name, layer in layers.items())
    equal(state, network.state_dict())


def test_a_new_generated_side_is_a_copy():
    torch.manual_seed(0)
    network = images()
    unlike_the_start(network.layers[1])
    (layer,) = auxiliary(with_auxiliary_batchnorm(network))
    equal(layer.known.state_dict(), layer.generated.state_dict())
    for one, other in zip(layer.known.parameters(), layer.generated.parameters(), strict=True):
        assert one.data_ptr() != other.data_ptr()


@pytest.mark.parametrize("where", ["one parent", "two parents"])
def test_a_layer_used_twice_keeps_one_generated_side(where):
    """Under whatever names: its generated samples must never meet the known statistics."""
    norm = nn.BatchNorm1d(3)
    if where == "one parent":
        network = nn.Sequential(norm, nn.ReLU(), norm)
    else:
        network = nn.Sequential(nn.Sequential(norm, nn.ReLU()), nn.Sequential(norm))
    with_auxiliary_batchnorm(network)
    with domain(network, "generated"):
        network(torch.randn(4, 3))
    (layer,) = auxiliary(network)
    assert layer.known.num_batches_tracked.item() == 0
    assert layer.generated.num_batches_tracked.item() == 2
    without_auxiliary_batchnorm(network)
    assert [m for m in network.modules() if isinstance(m, nn.BatchNorm1d)] == [norm]
    assert not is_converted(network)
    network(torch.randn(4, 3))
    assert norm.num_batches_tracked.item() == 2


def test_a_network_without_batchnorm_stays_as_it_is():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4))
    assert not has_batchnorm(network)
    modules = list(network.modules())
    with_auxiliary_batchnorm(network)
    assert list(network.modules()) == modules
    assert not is_converted(network)


def test_attributes_are_those_of_the_known_side():
    network = with_auxiliary_batchnorm(images())
    (layer,) = auxiliary(network)
    assert (layer.num_features, layer.eps, layer.momentum) == (4, 1e-3, 0.3)
    assert layer.weight is layer.known.weight
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = layer.no_such_thing


@two_networks
def test_state_round_trip(make, tmp_path):
    _, converted = pair(make)
    torch.save(converted.state_dict(), tmp_path / "state.pt")
    torch.manual_seed(7)
    fresh = with_auxiliary_batchnorm(make().double())
    fresh.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    values = batch(converted, BATCH + FAKES)
    outputs = []
    for network in (converted, fresh):
        with domain(network, "mixed", known_samples=BATCH):
            outputs.append(network(values))
    assert torch.equal(*outputs)
    equal(converted.state_dict(), fresh.state_dict())


def test_parameters_of_a_resnet34():
    """The counts of the released code's ResNet-34 with and without auxiliary BatchNorm."""
    network = torchvision.models.resnet34(num_classes=10)
    network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    plain = sum(p.numel() for p in network.parameters())
    with_auxiliary_batchnorm(network)
    assert plain == 21_282_122
    assert sum(p.numel() for p in network.parameters()) == 21_299_146
    assert len(auxiliary(network)) == 36
    without_auxiliary_batchnorm(network)
    assert sum(p.numel() for p in network.parameters()) == plain


# ---- compilation and export


@pytest.fixture
def fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def test_compiled_networks_follow_the_domain(fresh_compiler):
    """Known, generated and mixed by turns: what the uncompiled network computes."""
    _, network = pair(block)
    twin = copy.deepcopy(network)
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    turns = [("known", BATCH), ("generated", FAKES), ("mixed", BATCH), ("known", BATCH)]
    turns += [("mixed", BATCH - 1), ("generated", FAKES)]
    for seed, (kind, count) in enumerate(turns):
        values = batch(network, count + FAKES * (kind == "mixed"), seed=seed)
        with domain(twin, kind, known_samples=count):
            expected = twin(values)
        with domain(network, kind, known_samples=count):
            output = compiled(values)
        torch.testing.assert_close(output, expected, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(network.state_dict(), twin.state_dict(), rtol=1e-9, atol=1e-9)
    compiled.eval()
    twin.eval()
    values = batch(network)
    with domain(network, "generated"):
        torch.testing.assert_close(compiled(values), twin(values), rtol=1e-9, atol=1e-9)


@two_networks
def test_export_takes_the_known_side(make):
    plain, converted = pair(make)
    values = batch(plain)
    expected = plain.eval()(values)
    exported = torch.export.export(converted.eval(), (values,))
    torch.testing.assert_close(exported.module()(values), expected)
    used = {
        str(spec.target)
        for spec in exported.graph_signature.input_specs
        if spec.target and any(node.name == spec.arg.name for node in used_inputs(exported))
    }
    assert any(".known." in name for name in used)
    assert not any(".generated." in name for name in used)


def used_inputs(exported):
    return [node for node in exported.graph.nodes if node.op == "placeholder" and node.users]


@pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript")),
    reason="torch.onnx needs the packages onnx and onnxscript",
)
def test_onnx_export_takes_the_known_side():
    plain, converted = pair(images)
    values = batch(plain).float()
    program = torch.onnx.export(converted.float().eval(), (values,), dynamo=True)
    names = [tensor.name for tensor in program.model_proto.graph.initializer]
    assert names
    assert not any("generated" in name for name in names)
