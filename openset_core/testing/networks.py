"""Checks that backbones, losses and generators share. Each is looked at as one of the three
components of a model; stubs are the others.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from openset_core.components import (
    Backbone,
    Batch,
    Features,
    OpenSetModel,
    RepresentationLoss,
    SampleGenerator,
)
from openset_core.testing import stubs
from openset_core.testing.component_under_test import ComponentUnderTest, check_refusal
from openset_core.testing.report import Checks, ContractViolation, fail, not_applicable
from openset_core.testing.tensors import (
    changed,
    expect_equal,
    expect_finite,
    expect_tensor,
    some,
    tensor_text,
    tensors_of,
)
from openset_core.testing.training_steps import (
    EPOCHS,
    epochs_with_all_phases,
    optimizers_of,
    train,
    training_step,
)
from openset_core.training.optimisation import PhaseOptimizer

CHECKS = Checks("backbone", "loss", "generator")


# --- the component in a model -----------------------------------------------------------------


def build_backbone(component: ComponentUnderTest, seed: int = 0, **images: Any) -> Backbone:
    torch.manual_seed(seed)
    return component.make(Backbone, stubs.backbone_context(**images))


def build_generator(component: ComponentUnderTest, seed: int = 0, **images: Any) -> SampleGenerator:
    torch.manual_seed(seed)
    return component.make(SampleGenerator, stubs.generator_context(**images))


def model_with_loss(
    component: ComponentUnderTest,
    *,
    seed: int = 0,
    num_classes: int = stubs.CLASSES,
    batchnorm: bool = False,
) -> OpenSetModel:
    """The loss on a small backbone that has what the loss needs, and nothing else."""
    torch.manual_seed(seed)
    backbone = stubs.StubBackbone(
        maps="feature maps" in component.spec.needs,
        batchnorm=batchnorm or "batchnorm" in component.spec.needs,
    )
    context = stubs.loss_context(backbone, num_classes)
    return OpenSetModel(backbone, component.make(RepresentationLoss, context))


def models(component: ComponentUnderTest, seed: int = 0) -> Iterator[tuple[str, OpenSetModel]]:
    """What surrounds the component, in words, and the model; a generator meets losses of one
    phase and of two, and backbones with BatchNorm and without."""
    if component.kind == "backbone":
        network = build_backbone(component, seed, initial_weights=seed == 0)
        loss = stubs.StubLoss(network.vector_dim, on_maps=True)
        yield "a linear classifier", OpenSetModel(network, loss).train()
    elif component.kind == "loss":
        have = ", ".join(component.spec.needs) or "nothing but a vector"
        model = model_with_loss(component, seed=seed)
        yield f"a backbone that provides {have}", model.train()
    else:
        for batchnorm, make in (
            (True, stubs.StubLoss),
            (True, stubs.StubLossOfTwoPhases),
            (False, stubs.StubLoss),
        ):
            generator = build_generator(component, seed)
            loss, backbone = make(), stubs.StubBackbone(maps=True, batchnorm=batchnorm)
            count, kind = len(loss.phases(backbone)), "with" if batchnorm else "without"
            surroundings = f"a loss of {count} phases on a backbone {kind} BatchNorm"
            yield surroundings, OpenSetModel(backbone, loss, generator).train()


def images(count: int, channels: int = stubs.CHANNELS, size: int = stubs.SIZE) -> Tensor:
    return stubs.learnable_images(count, channels=channels, size=size)[0]


def features_of(backbone: Backbone, batch: Tensor) -> Features:
    features = backbone(batch)
    if not isinstance(features, Features):
        fail(f"forward returned {tensor_text(features)}; return Features(vector, maps)")
    return features


def answers(kind: str, model: OpenSetModel, batch: Tensor) -> dict[str, Tensor]:
    """What the component of a kind makes of images (a generator: as many samples), by name."""
    if kind == "generator":
        assert model.generator is not None
        return {"samples": model.generator.sample(len(batch))}
    features = features_of(model.backbone, batch)
    if kind == "backbone":
        maps = {f"map {name}": value for name, value in features.maps.items()}
        return {"the vector": features.vector} | maps
    return {
        "logits": model.loss.logits(features),
        "embedding": model.loss.embedding(features),
        "open_space": model.loss.open_space(features),
    }


def expect_maps_as_declared(backbone: Backbone, features: Features, size: int) -> None:
    declared = {item.name: item for item in backbone.feature_info}
    if set(features.maps) != set(declared):
        fail(f"declared are maps {sorted(declared)}, returned {sorted(features.maps)}")
    for name, item in declared.items():
        side = item.side(size)
        shape = (len(features.vector), item.channels, side, side)
        what = f"map {name} (channels={item.channels}, reduction={item.reduction})"
        expect_tensor(features.maps[name], what, shape, torch.float32)


def expect_seeded(act: Callable[[int], nn.Module], what: str, action: str) -> None:
    """Fail unless a seed decides parameters and buffers, and the random numbers that follow."""
    states, draws = [], []
    for seed in (1, 1, 2):
        states.append(tensors_of(act(seed)))
        draws.append(torch.rand(()).item())
    different = changed(states[0], states[1])
    if different:
        fail(f"two {what} from one seed differ in {some(different)}")
    if draws[0] == draws[2]:
        fail(f"after {action} from two seeds the next random numbers are the same")


# --- checks -----------------------------------------------------------------------------------


@CHECKS.only("backbone", "generator")
def other_images_work_or_are_refused(component: ComponentUnderTest) -> None:
    """For 1 and 3 channels and sides of 28, 32 and 64 pixels the factory builds a backbone whose
    maps and vector are as declared, or a generator of such images, or refuses in one sentence
    (CompositionError); not every shape is refused."""
    built = 0
    for channels, size in itertools.product((1, 3), (28, 32, 64)):
        of_shape = {"channels": channels, "size": size}
        what = f"{channels}x{size}x{size} images"
        try:
            if component.kind == "backbone":
                backbone = build_backbone(component, **of_shape, initial_weights=False).eval()
            else:
                generator = build_generator(component, **of_shape)
        except Exception as error:
            check_refusal(error)
            continue
        built += 1
        with torch.no_grad():
            if component.kind == "backbone":
                features = features_of(backbone, images(2, **of_shape))
                vector, length = features.vector, backbone.vector_dim
                expect_tensor(vector, f"the vector of {what}", (2, length), torch.float32)
                expect_maps_as_declared(backbone, features, size)
            else:
                samples = generator.sample(2)
                shape = (2, channels, size, size)
                expect_tensor(samples, f"a sample for {what}", shape, torch.float32)
    if not built:
        fail("every size was refused")


@CHECKS.only("backbone", "loss")
def evaluation_is_deterministic(component: ComponentUnderTest) -> None:
    """In evaluation the same images give the same answers, each image by itself, and nothing of
    the model changes, BatchNorm statistics least of all."""
    ((_, model),) = models(component)
    model.eval()
    batch = images(4)
    before = tensors_of(model)
    with torch.no_grad():
        first, second, alone = (
            answers(component.kind, model, these) for these in (batch, batch, batch[:1])
        )
    different = changed(before, model)
    if different:
        fail(f"evaluation changed {some(different)}")
    expect_equal(first, second, "of the same images twice")
    leading = {name: value[:1] for name, value in first.items()}
    expect_equal(leading, alone, "of an image alone and in a batch", 1e-3)


@CHECKS.only("loss", "generator")
def every_phase_runs(component: ComponentUnderTest) -> None:
    """There is a list of phases with different names, each active in some of the first epochs;
    each gives a dict of finite scalar terms that depend on what it updates, and some steps keep
    them finite."""
    for surroundings, model in models(component):
        if not model.phases():
            fail("there is no phase")
        try:
            train(model, repeat=3)
        except ContractViolation as error:
            fail(f"with {surroundings}: {error}")


def _images_a_step(component: ComponentUnderTest) -> int:
    return 4 if component.kind == "backbone" else 12  # backbones may be large


@CHECKS
def gradients_reach_what_is_trained(component: ComponentUnderTest) -> None:
    """In every phase gradients reach each module and parameter that the phase declares in
    `updates`, and are finite; every trainable parameter of the component gets a gradient in some
    phase that updates it."""
    for _, model in models(component):
        trained = _trained_parameters(model, _images_a_step(component))
        own = getattr(model, component.kind).named_parameters()
        missed = [name for name, p in own if p.requires_grad and id(p) not in trained]
        if missed:
            fail(f"no phase trains {some(missed)}; give it a gradient, or make it a buffer")


def _trained_parameters(model: OpenSetModel, count: int) -> set[int]:
    """Ids of the parameters that get a gradient; fails where a phase gives none, or not finite."""
    names = {id(module): name for name, module in model.named_modules()}
    names |= {id(parameter): name for name, parameter in model.named_parameters()}
    trained: set[int] = set()

    def look(item: PhaseOptimizer) -> None:
        for updated in item.phase.updates:
            members = updated.parameters() if isinstance(updated, nn.Module) else [updated]
            trainable = [parameter for parameter in members if parameter.requires_grad]
            gradients = [p.grad for p in trainable if p.grad is not None]
            name = names.get(id(updated), type(updated).__name__)
            if trainable and not gradients:
                fail(f"phase {item.phase.name} updates {name}, but no gradient reaches it")
            if not all(gradient.isfinite().all() for gradient in gradients):
                fail(f"a gradient of {name} in phase {item.phase.name} is not finite")
        trained.update(id(p) for p in item.parameters if p.grad is not None)

    train(model, count=count, after_backward=look)
    return trained


@CHECKS.only("loss", "generator")
def nothing_else_changes(component: ComponentUnderTest) -> None:
    """A phase changes what it updates and BatchNorm statistics, and nothing else: no other
    parameter, no buffer of a module that it does not update, neither images nor labels."""
    for _, model in models(component):
        items = optimizers_of(model)
        for epoch in epochs_with_all_phases(items):
            _compare_phases(model, items, epoch)


def _compare_phases(model: OpenSetModel, items: list[PhaseOptimizer], epoch: int) -> None:
    """Run a step and compare the model and the batch before and after each phase."""
    pictures, labels = stubs.learnable_images(12)
    batch = Batch(pictures, labels, backbone=model.backbone, epoch=epoch, epochs=EPOCHS)
    kept = pictures.clone(), labels.clone()
    before = tensors_of(model)
    trainable = [parameter.requires_grad for parameter in model.parameters()]

    def compare(item: PhaseOptimizer) -> None:
        different = sorted(set(changed(before, model)) - _may_change(model, item))
        if different:
            fail(f"phase {item.phase.name} changed {some(different)}")
        if not (torch.equal(kept[0], pictures) and torch.equal(kept[1], labels)):
            fail(f"phase {item.phase.name} changed the images or the labels in place")
        if [parameter.requires_grad for parameter in model.parameters()] != trainable:
            fail(f"phase {item.phase.name} froze or thawed parameters")

    def snapshot(_item: PhaseOptimizer) -> None:
        before.update(tensors_of(model))

    training_step(model, items, batch, before=snapshot, after=compare)


def _may_change(model: OpenSetModel, item: PhaseOptimizer) -> set[str]:
    allowed = {id(parameter) for parameter in item.parameters}
    modules = [module for module in item.phase.updates if isinstance(module, nn.Module)]
    modules += [module for module in model.modules() if isinstance(module, _BatchNorm)]
    allowed.update(id(buffer) for module in modules for buffer in module.buffers())
    members = [*model.named_parameters(), *model.named_buffers()]
    return {name for name, tensor in members if id(tensor) in allowed}


@CHECKS
def state_dict_round_trip(component: ComponentUnderTest) -> None:
    """The state dict holds all that matters: written to safetensors after some training and
    loaded, strictly, into a fresh component, it gives the same answers. Of a loss this is the
    saved model, without what `training_only` names."""
    kind = component.kind
    _, model = next(models(component))
    train(model, count=_images_a_step(component))
    batch = images(4)
    trained = _saved_answers(kind, model, batch)
    reduced, fresh = model, next(models(component, seed=9))[1]
    if kind == "loss":
        try:
            reduced, fresh = model.for_inference(), fresh.for_inference()
        except AttributeError as error:
            fail(f"training_only={model.loss.training_only!r} names what is not there: {error}")
    saved, target = ((m if kind == "loss" else getattr(m, kind)) for m in (reduced, fresh))
    written = save({name: t.clone().contiguous() for name, t in saved.state_dict().items()})
    try:
        target.load_state_dict(load(written))
    except RuntimeError as error:
        fail(" ".join(str(error).split()))
    for where, other in (("without training_only", reduced), ("after loading", fresh)):
        try:
            result = _saved_answers(kind, other, batch)
        except AttributeError as error:
            fail(f"{where}, the answers ask for what was left out: {error}")
        expect_equal(trained, result, f"before saving and {where}")


def _saved_answers(kind: str, model: OpenSetModel, batch: Tensor) -> dict[str, Tensor]:
    torch.manual_seed(6)
    model.eval()
    with torch.no_grad():
        if kind != "loss":
            return answers(kind, model, batch)
        embedding, logits = model(batch)
    return {"embedding": embedding, "logits": logits}


@CHECKS
def bf16_works(component: ComponentUnderTest) -> None:
    """Under bf16 autocast terms and answers are finite, and a step changes parameters that stay
    float32 and finite."""
    _, model = next(models(component))
    if component.kind == "backbone":  # the terms tell of all answers; bf16 is slow on a CPU
        train(model, count=2, bf16=True)
    else:
        train(model, count=stubs.CLASSES, bf16=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            expect_finite(answers(component.kind, model, images(4)), " in bf16")
    for name, parameter in model.named_parameters():
        if parameter.dtype != torch.float32 or not parameter.isfinite().all():
            fail(f"after a step {name} is {parameter.dtype}, or not finite")


@CHECKS
def devices_are_not_mixed(component: ComponentUnderTest) -> None:
    """Moved to a GPU, the component trains and answers there: no constant stays behind and no
    device is named. A generator without parameters needs a buffer to know where it is."""
    device = torch.accelerator.current_accelerator(check_available=True)
    if device is None:
        not_applicable("this machine has no GPU")
    _, model = next(models(component))
    model.to(device)
    train(model, device=device)
    for name, value in answers(component.kind, model, images(6).to(device)).items():
        if value.device.type != device.type:
            fail(f"{name} lies on {value.device}, not on the device of the module")
