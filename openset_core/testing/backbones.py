"""Checks of backbones."""

from __future__ import annotations

import math
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from openset_core.auxiliary_batchnorm import (
    AuxiliaryBatchNorm,
    domain,
    has_batchnorm,
    with_auxiliary_batchnorm,
    without_auxiliary_batchnorm,
)
from openset_core.components import Backbone, FeatureMap, Features
from openset_core.specs import load_factory
from openset_core.testing import stubs as partners
from openset_core.testing import training_steps as steps
from openset_core.testing.component_under_test import Subject, refusal
from openset_core.testing.report import Checks, fail, not_applicable

BACKBONE_CHECKS = Checks()

SIZES = (28, 32, 64)


def build(
    subject: Subject, channels: int = partners.CHANNELS, size: int = partners.SIZE, **how: Any
) -> Backbone:
    """Build the backbone for images of a shape, from seed 0."""
    torch.manual_seed(0)
    context = partners.backbone_context(channels, size, **how)
    made: Backbone = subject.make(Backbone, context)
    return made


def images(count: int, channels: int = partners.CHANNELS, size: int = partners.SIZE) -> Tensor:
    """Images in the input space."""
    return partners.learnable_images(count, channels=channels, size=size)[0]


def features_of(backbone: Backbone, batch: Tensor) -> Features:
    """The backbone's answer, which must be `Features`."""
    found = backbone(batch)
    if not isinstance(found, Features):
        fail(f"forward returned {steps.tensor_text(found)}; return Features(vector, maps)")
    return found


def outputs(features: Features) -> dict[str, Tensor]:
    """Vector and maps by name."""
    return {"the vector": features.vector} | {
        f"map {name}": value for name, value in features.maps.items()
    }


@BACKBONE_CHECKS
def backbone_builds(subject: Subject) -> None:
    """The factory builds a Backbone for colour images of 32x32 pixels that sets vector_dim,
    feature_info (FeatureMap objects with different names) and a finite rate."""
    backbone = build(subject)
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


@BACKBONE_CHECKS
def image_size_is_taken(subject: Subject) -> None:
    """Where the spec names an image size for images that no protocol sizes, it is a whole number
    of at least 8, and the backbone takes images of that size."""
    if subject.spec.image_size is None:
        not_applicable("the spec names no image size")
    size = load_factory(subject.spec.image_size)(subject.options)
    if size is None:
        not_applicable("the spec names no image size for these options")
    if type(size) is not int or size < 8:
        fail(f"image_size gives {size!r}")
    try:
        features_of(build(subject, size=size).eval(), images(1, size=size))
    except Exception as error:
        fail(f"images of the spec's size, {size}x{size}, are not taken: {error}")


@BACKBONE_CHECKS
def vector_has_the_declared_shape(subject: Subject) -> None:
    """For float32 images [B, C, H, W] the vector is float32 [B, vector_dim], in training and in
    evaluation, for one image too in evaluation."""
    backbone = build(subject)
    for training, count in ((True, 4), (False, 4), (False, 1)):
        backbone.train(training)
        vector = features_of(backbone, images(count)).vector
        mode = "training" if training else "evaluation"
        what = f"the vector of {count} images in {mode}"
        steps.expect_tensor(vector, what, (count, backbone.vector_dim), torch.float32)


@BACKBONE_CHECKS
def maps_are_as_declared(subject: Subject) -> None:
    """feature_info tells the truth: forward returns exactly the named maps, each float32
    [B, channels, side, side] with the side that the reduction gives."""
    backbone = build(subject)
    for training in (True, False):
        backbone.train(training)
        _compare_maps(backbone, features_of(backbone, images(2)), partners.SIZE)


def _compare_maps(backbone: Backbone, features: Features, size: int) -> None:
    declared = {item.name: item for item in backbone.feature_info}
    if set(features.maps) != set(declared):
        fail(f"declared are maps {sorted(declared)}, returned {sorted(features.maps)}")
    for name, item in declared.items():
        side = item.side(size)
        shape = (len(features.vector), item.channels, side, side)
        what = f"map {name} (channels={item.channels}, reduction={item.reduction})"
        steps.expect_tensor(features.maps[name], what, shape, torch.float32)


@BACKBONE_CHECKS
def provides_is_true(subject: Subject) -> None:
    """provides says `feature maps` if and only if there are maps, and `batchnorm` if and only if
    there is a BatchNorm layer."""
    backbone = build(subject)
    found = {"feature maps": bool(backbone.feature_info), "batchnorm": has_batchnorm(backbone)}
    for word, there in found.items():
        said = word in subject.spec.provides
        if said and not there:
            fail(f"provides says {word!r}, but the backbone has none")
        if there and not said:
            fail(f"the backbone has {word}, but provides does not say so")
    if "feature vector" not in subject.spec.provides:
        fail("provides lacks 'feature vector', which every backbone has")


@BACKBONE_CHECKS
def other_images_work_or_are_refused(subject: Subject) -> None:
    """For 1 and 3 channels and sides of 28, 32 and 64 pixels the factory builds a backbone whose
    maps and vector are as declared, or refuses in one sentence (CompositionError)."""
    built = 0
    for channels in (1, 3):
        for size in SIZES:
            try:
                backbone = build(subject, channels, size, initial_weights=False)
            except Exception as error:
                refusal(error)
                continue
            built += 1
            found = features_of(backbone.eval(), images(2, channels, size))
            what = f"the vector of {channels}x{size}x{size} images"
            steps.expect_tensor(found.vector, what, (2, backbone.vector_dim), torch.float32)
            _compare_maps(backbone, found, size)
    if not built:
        fail("every size was refused")


@BACKBONE_CHECKS
def building_leaves_the_seed_alone(subject: Subject) -> None:
    """Weights follow from the framework's seed: the same seed gives the same weights, and the
    factory sets no seed of its own."""
    first, second = build(subject), build(subject)
    different = steps.changed(steps.tensors_of(first), second)
    if different:
        fail(f"two builds from one seed differ in {_some(different)}")
    draws = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        subject.make(Backbone, partners.backbone_context())
        draws.append(torch.rand(()).item())
    if draws[0] == draws[1]:
        fail("after building from two seeds the next random numbers are the same")


@BACKBONE_CHECKS
def initial_weights_can_be_left_out(subject: Subject) -> None:
    """With initial_weights=False, as when a finished model is loaded, nothing is fetched over the
    network."""
    with _no_network() as tried:
        build(subject, initial_weights=False)
    if tried:
        fail(f"building connected to {tried[0]}")


@contextmanager
def _no_network() -> Iterator[list[str]]:
    tried: list[str] = []

    def refuse(_socket: Any, address: Any) -> None:
        tried.append(str(address))
        raise OSError("no network while conformance is checked")

    real = socket.socket.connect
    socket.socket.connect = refuse  # type: ignore[assignment,method-assign]
    try:
        yield tried
    finally:
        socket.socket.connect = real  # type: ignore[method-assign]


@BACKBONE_CHECKS
def evaluation_is_deterministic(subject: Subject) -> None:
    """In evaluation the same images give the same features, each image by itself, and nothing of
    the module changes, BatchNorm statistics least of all."""
    backbone = build(subject).eval()
    batch = images(4)
    before = steps.tensors_of(backbone)
    with torch.no_grad():
        first = outputs(features_of(backbone, batch))
        second = outputs(features_of(backbone, batch))
        alone = outputs(features_of(backbone, batch[:1]))
    different = steps.changed(before, backbone)
    if different:
        fail(f"evaluation changed {_some(different)}")
    for name, value in first.items():
        steps.expect_equal(value, second[name], f"{name} of the same images twice")
        steps.expect_equal(value[:1], alone[name], f"{name} of an image alone and in a batch", 1e-3)


@BACKBONE_CHECKS
def training_passes_change_no_parameter(subject: Subject) -> None:
    """A forward pass in training changes neither parameters nor the images; only buffers may
    move."""
    backbone = build(subject).train()
    batch = images(4)
    kept, before = batch.clone(), steps.tensors_of(backbone)
    features_of(backbone, batch)
    if not torch.equal(kept, batch):
        fail("the images were changed in place")
    parameters = {name for name, _ in backbone.named_parameters()}
    different = [name for name in steps.changed(before, backbone) if name in parameters]
    if different:
        fail(f"it changed {_some(different)}")


@BACKBONE_CHECKS
def gradients_reach_all_parameters(subject: Subject) -> None:
    """Gradients from the vector and the maps reach every trainable parameter and the images, and
    are finite."""
    backbone = build(subject).train()
    trainable = {name: p for name, p in backbone.named_parameters() if p.requires_grad}
    batch = images(4).requires_grad_()
    total = sum(value.square().mean() for value in outputs(features_of(backbone, batch)).values())
    assert isinstance(total, Tensor)
    if not total.requires_grad:
        fail("the features carry no gradient")
    total.backward()  # type: ignore[no-untyped-call]
    missed = [name for name, parameter in trainable.items() if parameter.grad is None]
    if missed:
        fail(f"no gradient reaches {_some(missed)}")
    if batch.grad is None or not batch.grad.any():
        fail("no gradient reaches the images, which a sample generator learns from")
    bad = [n for n, p in trainable.items() if p.grad is not None and not p.grad.isfinite().all()]
    if bad:
        fail(f"the gradient of {_some(bad)} is not finite")


@BACKBONE_CHECKS
def extreme_images_give_finite_features(subject: Subject) -> None:
    """Features are finite for constant images, for one image, and for values a hundred times
    beyond the usual."""
    backbone = build(subject)
    plain = images(2)
    extremes = {
        "black images": torch.zeros_like(plain),
        "images of one value": torch.full_like(plain, 3.0),
        "values around 100": 100.0 * plain,
    }
    for training in (True, False):
        backbone.train(training)
        for what, batch in extremes.items():
            for name, value in outputs(features_of(backbone, batch)).items():
                if not value.isfinite().all():
                    fail(f"{name} of {what} holds NaN or infinite values")


@BACKBONE_CHECKS
def state_dict_round_trip(subject: Subject) -> None:
    """The state dict holds all that matters: written to safetensors and loaded, strictly, into a
    backbone built without initial weights, it gives the same features."""
    backbone = build(subject).train()
    with torch.no_grad():
        for _ in range(2):
            features_of(backbone, images(4))  # moves buffers, which must be saved too
        for parameter in backbone.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    torch.manual_seed(1)
    fresh = subject.make(Backbone, partners.backbone_context(initial_weights=False))
    try:
        fresh.load_state_dict(steps.through_safetensors(backbone.state_dict()))
    except RuntimeError as error:
        fail(" ".join(str(error).split()))
    batch = images(4)
    with torch.no_grad():
        before = outputs(features_of(backbone.eval(), batch))
        after = outputs(features_of(fresh.eval(), batch))
    for name, value in before.items():
        steps.expect_equal(value, after[name], f"{name} before saving and after loading")


@BACKBONE_CHECKS
def devices_are_not_mixed(subject: Subject) -> None:
    """Moved to another device, the backbone computes there: no constant stays behind and no
    device is named."""
    backbone = build(subject).train()
    where = {parameter.device.type for parameter in backbone.parameters()}
    if where - {"cpu"}:
        fail(f"the factory built on {', '.join(sorted(where))}; the framework moves modules")

    def forward(batch: Tensor) -> dict[str, Tensor]:
        return outputs(features_of(backbone, batch))

    steps.on_another_device(backbone, forward, images(4))


@BACKBONE_CHECKS
def channels_last_works(subject: Subject) -> None:
    """In the memory layout that training on a GPU uses (channels last) features are the same."""
    backbone = build(subject).eval()
    batch = images(4)
    with torch.no_grad():
        first = outputs(features_of(backbone, batch))
        backbone = backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        second = outputs(features_of(backbone, batch.contiguous(memory_format=torch.channels_last)))
    for name, value in first.items():
        steps.expect_equal(value, second[name], f"{name} in both layouts", 1e-2)


@BACKBONE_CHECKS
def bf16_works(subject: Subject) -> None:
    """Under bf16 autocast the features are finite and gradients come back in float32."""
    backbone = build(subject).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = outputs(features_of(backbone, images(4)))
    for name, value in found.items():
        if not value.isfinite().all():
            fail(f"{name} holds NaN or infinite values")
    torch.stack([value.float().square().mean() for value in found.values()]).sum().backward()  # type: ignore[no-untyped-call]
    for name, parameter in backbone.named_parameters():
        gradient = parameter.grad
        if gradient is not None and (
            gradient.dtype != torch.float32 or not gradient.isfinite().all()
        ):
            fail(f"the gradient of {name} is {gradient.dtype}, or not finite")


@BACKBONE_CHECKS
def auxiliary_batchnorm_works(subject: Subject) -> None:
    """With a second BatchNorm side for generated samples, known samples of a mixed batch come out
    as if they were alone, generated ones leave the known statistics as they are, and evaluation
    and the saved weights are the same as without."""
    backbone = build(subject)
    if not has_batchnorm(backbone):
        not_applicable("the backbone has no BatchNorm")
    names = set(backbone.state_dict())
    known, generated = images(4), preprocessed_noise(4)
    with torch.no_grad():
        plain = outputs(features_of(backbone.eval(), known))
        with_auxiliary_batchnorm(backbone)
        converted = outputs(features_of(backbone.eval(), known))
        for name, value in plain.items():
            steps.expect_equal(value, converted[name], f"{name} in evaluation, with and without")
        steps.only_batchnorm_trains(backbone)
        own = _known_statistics(backbone)
        with domain(backbone, "generated"):
            features_of(backbone, generated)
        moved = [name for name, value in own.items() if not _same(backbone, name, value)]
        if moved:
            fail(f"generated samples moved {_some(moved)}")
        alone = outputs(features_of(backbone, known))
        with domain(backbone, "mixed", known_samples=len(known)):
            both = outputs(features_of(backbone, torch.cat([known, generated])))
    for name, value in alone.items():
        what = f"{name} of known samples alone and in a mixed batch"
        steps.expect_equal(value, both[name][: len(known)], what, 1e-3)
    if set(without_auxiliary_batchnorm(backbone).state_dict()) != names:
        fail("taking the second side away leaves other weights than before")


def preprocessed_noise(count: int) -> Tensor:
    """Noise in the input space."""
    return partners.preprocessed(torch.rand(count, partners.CHANNELS, partners.SIZE, partners.SIZE))


def _known_statistics(backbone: Backbone) -> steps.TENSORS:
    return {
        f"{path}.known.{name}": value.clone()
        for path, layer in backbone.named_modules()
        if isinstance(layer, AuxiliaryBatchNorm)
        for name, value in layer.known.named_buffers()
    }


def _same(backbone: Backbone, name: str, value: Tensor) -> bool:
    return torch.equal(backbone.get_buffer(name), value)


def _some(names: list[str], limit: int = 4) -> str:
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
