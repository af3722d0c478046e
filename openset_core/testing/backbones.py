"""Checks of backbones."""

from __future__ import annotations

import math
import socket
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from openset_core.auxiliary_batchnorm import (
    AuxiliaryBatchNorm,
    domain,
    has_batchnorm,
    with_auxiliary_batchnorm,
    without_auxiliary_batchnorm,
)
from openset_core.components import Backbone, FeatureMap, OpenSetModel
from openset_core.specs import load_factory
from openset_core.testing import stubs
from openset_core.testing.component_under_test import ComponentUnderTest
from openset_core.testing.networks import (
    answers,
    build_backbone,
    expect_maps_as_declared,
    expect_seeded,
    features_of,
    images,
)
from openset_core.testing.report import Checks, fail, not_applicable
from openset_core.testing.tensors import (
    changed,
    expect_equal,
    expect_finite,
    expect_tensor,
    some,
    tensors_of,
)

CHECKS = Checks("backbone")


def outputs(backbone: Backbone, batch: Tensor) -> dict[str, Tensor]:
    return answers("backbone", OpenSetModel(backbone, stubs.StubLoss()), batch)


@CHECKS
def backbone_builds(component: ComponentUnderTest) -> None:
    """The factory builds a Backbone for colour images of 32x32 pixels, on the CPU, that sets
    vector_dim, feature_info (FeatureMap objects with different names) and a finite rate."""
    backbone = build_backbone(component)
    dimension = getattr(backbone, "vector_dim", None)
    if type(dimension) is not int or dimension < 1:
        fail(f"vector_dim is {dimension!r}")
    info = backbone.feature_info
    if not isinstance(info, tuple | list) or not all(isinstance(m, FeatureMap) for m in info):
        fail(f"feature_info is {info!r}")
    names = [item.name for item in info]
    if len(set(names)) < len(names):
        fail(f"two maps share a name: {', '.join(names)}")
    if not (isinstance(backbone.rate, int | float) and 0 <= backbone.rate < math.inf):
        fail(f"rate is {backbone.rate!r}")
    devices = {parameter.device.type for parameter in backbone.parameters()} - {"cpu"}
    if devices:
        fail(f"the factory built on {', '.join(devices)}; the framework moves modules")


@CHECKS
def image_size_is_taken(component: ComponentUnderTest) -> None:
    """Where the spec names an image size for images that no protocol sizes, it is a whole number
    of at least 8, and the backbone takes images of that size."""
    if component.spec.image_size is None:
        not_applicable("the spec names no image size")
    size = load_factory(component.spec.image_size)(component.options)
    if size is None:
        not_applicable("the spec names no image size for these options")
    if type(size) is not int or size < 8:
        fail(f"image_size gives {size!r}")
    try:
        features_of(build_backbone(component, size=size).eval(), images(1, size=size))
    except Exception as error:
        fail(f"images of the spec's size, {size}x{size}, are not taken: {error}")


@CHECKS
def vector_has_the_declared_shape(component: ComponentUnderTest) -> None:
    """For float32 images [B, C, H, W] the vector is float32 [B, vector_dim], in training and in
    evaluation, for one image too in evaluation."""
    backbone = build_backbone(component)
    for training, count in ((True, 4), (False, 4), (False, 1)):
        vector = features_of(backbone.train(training), images(count)).vector
        what = f"the vector of {count} images in {'training' if training else 'evaluation'}"
        expect_tensor(vector, what, (count, backbone.vector_dim), torch.float32)


@CHECKS
def maps_are_as_declared(component: ComponentUnderTest) -> None:
    """feature_info tells the truth: forward returns exactly the named maps, each float32
    [B, channels, side, side] with the side that the reduction gives."""
    backbone = build_backbone(component)
    for training in (True, False):
        features = features_of(backbone.train(training), images(2))
        expect_maps_as_declared(backbone, features, stubs.SIZE)


@CHECKS
def provides_is_true(component: ComponentUnderTest) -> None:
    """provides says `feature maps` if and only if there are maps, and `batchnorm` if and only if
    there is a BatchNorm layer."""
    backbone = build_backbone(component)
    present = {"feature maps": bool(backbone.feature_info), "batchnorm": has_batchnorm(backbone)}
    for word, there in present.items():
        said = word in component.spec.provides
        if said and not there:
            fail(f"provides says {word!r}, but the backbone has none")
        if there and not said:
            fail(f"the backbone has {word}, but provides does not say so")
    if "feature vector" not in component.spec.provides:
        fail("provides lacks 'feature vector', which every backbone has")


@CHECKS
def building_leaves_the_seed_alone(component: ComponentUnderTest) -> None:
    """Weights follow from the framework's seed: the same seed gives the same weights, and the
    factory sets no seed of its own."""
    expect_seeded(lambda seed: build_backbone(component, seed), "builds", "building")


@CHECKS
def initial_weights_can_be_left_out(component: ComponentUnderTest) -> None:
    """With initial_weights=False, as when a finished model is loaded, nothing is fetched over the
    network."""
    tried: list[str] = []

    def refuse(_socket: Any, address: Any) -> None:
        tried.append(str(address))
        raise OSError("no network while conformance is checked")

    with mock.patch.object(socket.socket, "connect", refuse):
        build_backbone(component, initial_weights=False)
    if tried:
        fail(f"building connected to {tried[0]}")


@CHECKS
def training_passes_change_no_parameter(component: ComponentUnderTest) -> None:
    """A forward pass in training changes neither parameters nor the images, only buffers, and its
    gradient reaches the images, which a sample generator learns from."""
    backbone = build_backbone(component).train()
    batch = images(4)
    kept, before = batch.clone(), tensors_of(backbone)
    features_of(backbone, batch)
    if not torch.equal(kept, batch):
        fail("the images were changed in place")
    parameters = {name for name, _ in backbone.named_parameters()}
    different = [name for name in changed(before, backbone) if name in parameters]
    if different:
        fail(f"it changed {some(different)}")
    leaf = kept.requires_grad_()
    squares = [value.square().mean() for value in outputs(backbone, leaf).values()]
    total = torch.stack(squares).sum()
    if total.requires_grad:
        total.backward()  # type: ignore[no-untyped-call]
    if leaf.grad is None or not leaf.grad.any():
        fail("no gradient reaches the images")


@CHECKS
def extreme_images_give_finite_features(component: ComponentUnderTest) -> None:
    """Features are finite for constant images, for one image, and for values a hundred times
    beyond the usual."""
    backbone = build_backbone(component)
    plain = images(2)
    extremes = {
        "black images": torch.zeros_like(plain),
        "images of one value": torch.full_like(plain, 3.0),
        "values around 100": 100.0 * plain,
    }
    for training in (True, False):
        for what, batch in extremes.items():
            expect_finite(outputs(backbone.train(training), batch), f" of {what}")


@CHECKS
def channels_last_works(component: ComponentUnderTest) -> None:
    """In the memory layout that training on a GPU uses (channels last) features are the same."""
    backbone = build_backbone(component).eval()
    batch = images(4)
    with torch.no_grad():
        first = outputs(backbone, batch)
        backbone = backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        second = outputs(backbone, batch.contiguous(memory_format=torch.channels_last))
    expect_equal(first, second, "in both layouts", 1e-2)


@CHECKS
def auxiliary_batchnorm_works(component: ComponentUnderTest) -> None:
    """With a second BatchNorm side for generated samples, known samples of a mixed batch come out
    as if they were alone, generated ones leave the known statistics as they are, and evaluation
    and the saved weights are the same as without."""
    backbone = build_backbone(component).eval()
    if not has_batchnorm(backbone):
        not_applicable("the backbone has no BatchNorm")
    names = set(backbone.state_dict())
    known, generated = images(4), torch.randn(4, stubs.CHANNELS, stubs.SIZE, stubs.SIZE)
    with torch.no_grad():
        plain = outputs(backbone, known)
        with_auxiliary_batchnorm(backbone)
        expect_equal(plain, outputs(backbone.eval(), known), "in evaluation, with and without")
        layers = {
            f"{path}.known": layer
            for path, layer in backbone.named_modules()
            if isinstance(layer, AuxiliaryBatchNorm)
        }
        for layer in layers.values():  # batch statistics, but no random draws elsewhere
            layer.train()
        before = {path: tensors_of(layer.known) for path, layer in layers.items()}
        with domain(backbone, "generated"):
            features_of(backbone, generated)
        moved = [path for path in layers if changed(before[path], layers[path].known)]
        if moved:
            fail(f"generated samples moved {some(moved)}")
        alone = outputs(backbone, known)
        with domain(backbone, "mixed", known_samples=len(known)):
            both = outputs(backbone, torch.cat([known, generated]))
    leading = {name: value[: len(known)] for name, value in both.items()}
    expect_equal(alone, leading, "of known samples alone and in a mixed batch", 1e-3)
    if set(without_auxiliary_batchnorm(backbone).state_dict()) != names:
        fail("taking the second side away leaves other weights than before")
