"""Checks of sample generators."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs
import torch

from openset_core.components import OpenSetModel, Phase, RepresentationLoss, SampleGenerator
from openset_core.testing import losses
from openset_core.testing import stubs as partners
from openset_core.testing import training_steps as steps
from openset_core.testing.component_under_test import Subject, refusal
from openset_core.testing.report import Checks, Seen, fail

GENERATOR_CHECKS = Checks()

SIZES = (28, 32, 64)
MARGIN = 1e-3
"""How far pixels may leave [0, 1] by rounding."""

DIFFERENT = 0.2
"""How far the range of pixels may move with the preprocessing."""

LOSSES: tuple[Callable[[], RepresentationLoss], ...] = (
    partners.PartnerLoss,
    partners.PartnerLossOfTwoPhases,
)


def build(
    subject: Subject, channels: int = partners.CHANNELS, size: int = partners.SIZE, seed: int = 0
) -> SampleGenerator:
    """Build the generator for images of a shape."""
    torch.manual_seed(seed)
    made: SampleGenerator = subject.make(
        SampleGenerator, partners.generator_context(channels, size)
    )
    return made


def models(subject: Subject) -> Iterator[tuple[str, OpenSetModel]]:
    """The generator with each kind of partner: one phase or two, with and without BatchNorm."""
    for batchnorm in (True, False):
        for make in LOSSES:
            if not batchnorm and make is partners.PartnerLossOfTwoPhases:
                continue
            generator = build(subject)
            loss = make()
            backbone = partners.PartnerBackbone(maps=True, batchnorm=batchnorm)
            kind = "with" if batchnorm else "without"
            what = f"a loss of {len(loss.phases(backbone))} phases on a backbone {kind} BatchNorm"
            yield what, OpenSetModel(backbone, loss, generator).train()


@GENERATOR_CHECKS
def generator_builds(subject: Subject) -> None:
    """The factory builds a SampleGenerator for colour images of 32x32 pixels."""
    build(subject)


@GENERATOR_CHECKS
def samples_have_the_right_form(subject: Subject) -> None:
    """sample(count) is float32 [count, C, H, W] and finite, in training and, for one sample too,
    in evaluation."""
    generator = build(subject)
    shape = (partners.CHANNELS, partners.SIZE, partners.SIZE)
    for training, count in ((True, 4), (False, 4), (False, 1)):
        generator.train(training)
        found = generator.sample(count)
        steps.expect_tensor(found, f"sample({count})", (count, *shape), torch.float32)


@GENERATOR_CHECKS
def samples_lie_in_the_input_space(subject: Subject) -> None:
    """Samples are images as preprocessing makes them: times pixel_std plus pixel_mean, channel by
    channel, their pixels lie in [0, 1], and they are the same pixels under any preprocessing."""
    for channels in (1, 3):
        try:
            generator = build(subject, channels)
        except Exception as error:
            refusal(error)
            continue
        with torch.no_grad():
            pixels = partners.pixels_of(generator.train().sample(8))
        low, high = float(pixels.min()), float(pixels.max())
        if low < -MARGIN or high > 1 + MARGIN:
            fail(f"with {channels} channels pixels reach from {low:.3g} to {high:.3g}")
        torch.manual_seed(0)
        context = attrs.evolve(
            partners.generator_context(channels),
            pixel_mean=(0.0,) * channels,
            pixel_std=(1.0,) * channels,
        )
        with torch.no_grad():
            plain = subject.make(SampleGenerator, context).train().sample(8)
        moved = max(abs(float(plain.min()) - low), abs(float(plain.max()) - high))
        if moved > DIFFERENT:
            fail(
                f"with {channels} channels pixels reach from {low:.3g} to {high:.3g} under one "
                f"preprocessing, from {plain.min():.3g} to {plain.max():.3g} under another; "
                "subtract pixel_mean and divide by pixel_std"
            )


@GENERATOR_CHECKS
def other_images_work_or_are_refused(subject: Subject) -> None:
    """For 1 and 3 channels and sides of 28, 32 and 64 pixels the factory builds a generator of
    such images, or refuses in one sentence (CompositionError)."""
    for channels in (1, 3):
        for size in SIZES:
            try:
                generator = build(subject, channels, size)
            except Exception as error:
                refusal(error)
                continue
            with torch.no_grad():
                found = generator.sample(2)
            what = f"a sample for {channels}x{size}x{size} images"
            steps.expect_tensor(found, what, (2, channels, size, size), torch.float32)


@GENERATOR_CHECKS
def samples_repeat_under_a_seed(subject: Subject) -> None:
    """The same seed gives the same generator and samples, another seed other samples, and so does
    the next call."""
    drawn = []
    for seed in (0, 0, 1):
        generator = build(subject).train()
        torch.manual_seed(10 + seed)
        with torch.no_grad():
            drawn.append((generator.sample(4), generator.sample(4)))
    if not torch.equal(drawn[0][0], drawn[1][0]):
        fail("two draws from one seed differ")
    if torch.equal(drawn[0][0], drawn[0][1]):
        fail("two calls in a row give the same samples")
    if torch.equal(drawn[0][0], drawn[2][0]):
        fail("draws from two seeds are the same; leave the seed to the framework")


@GENERATOR_CHECKS
def devices_are_not_mixed(subject: Subject) -> None:
    """Moved to another device, the generator draws its samples there. A generator without
    parameters needs a buffer to know where it is."""
    generator = build(subject).train()
    steps.on_another_device(generator, lambda: {"the sample": generator.sample(4)})


@GENERATOR_CHECKS
def phases_keep_those_of_the_loss(subject: Subject) -> None:
    """For every phase of the loss there is a phase that updates at least the same parameters, and
    all phases have different names."""
    for what, model in models(subject):
        own = model.loss.phases(model.backbone)
        updated = [_parameters(phase) for phase in model.phases()]
        for phase in own:
            if not any(_parameters(phase) <= found for found in updated):
                fail(f"with {what}, no phase updates what the loss's phase {phase.name} updates")


def _parameters(phase: Phase) -> set[int]:
    found = set()
    for item in phase.updates:
        members = item.parameters() if isinstance(item, torch.nn.Module) else [item]
        found |= {id(parameter) for parameter in members}
    return found


@GENERATOR_CHECKS
def every_phase_runs(subject: Subject) -> None:
    """With losses of one phase and of two, on backbones with BatchNorm and without, every phase
    gives finite scalar terms, and some steps keep them finite."""
    for what, model in models(subject):
        try:
            losses.one_step(model, repeat=3)
        except Seen as error:
            fail(f"with {what}: {error}")


@GENERATOR_CHECKS
def gradients_reach_what_phases_update(subject: Subject) -> None:
    """In every phase gradients reach each module and parameter that the phase declares in
    `updates`, the generator's own as well as the loss's."""
    for _what, model in models(subject):
        losses.look_at_gradients(model)


@GENERATOR_CHECKS
def every_parameter_is_trained(subject: Subject) -> None:
    """Every trainable parameter of the generator gets a gradient in some phase that updates it."""
    _what, model = next(models(subject))
    assert model.generator is not None
    missed = losses.never_trained(model, model.generator)
    if missed:
        fail(f"no phase trains {', '.join(missed)}; give it a gradient, or make it a buffer")


@GENERATOR_CHECKS
def nothing_else_changes(subject: Subject) -> None:
    """A phase changes what it updates and BatchNorm statistics, and nothing else: no other
    parameter, no buffer of a module that it does not update, neither images nor labels."""
    for _what, model in models(subject):
        losses.compare_changes(model)


@GENERATOR_CHECKS
def bf16_works(subject: Subject) -> None:
    """Under bf16 autocast a step of all phases is finite and parameters stay float32."""
    _what, model = next(models(subject))
    losses.one_step(model, precision="bf16")
    for name, parameter in model.named_parameters():
        if parameter.dtype != torch.float32 or not parameter.isfinite().all():
            fail(f"after a step {name} is {parameter.dtype}, or not finite")


@GENERATOR_CHECKS
def state_dict_round_trip(subject: Subject) -> None:
    """The generator's state dict, written to safetensors and loaded into a fresh one, gives the
    same samples under the same seed, so that training can go on after a break."""
    _what, model = next(models(subject))
    losses.one_step(model)
    assert model.generator is not None
    fresh = build(subject, seed=5)
    fresh.load_state_dict(steps.through_safetensors(model.generator.state_dict()))
    drawn = []
    for generator in (model.generator, fresh):
        torch.manual_seed(6)
        with torch.no_grad():
            drawn.append(generator.eval().sample(4))
    steps.expect_equal(drawn[0], drawn[1], "samples before saving and after loading")


@GENERATOR_CHECKS
def the_finished_model_is_without_it(subject: Subject) -> None:
    """The finished model has the weights of one that was trained without a generator, no more and
    no less, and still classifies."""
    for what, model in models(subject):
        plain = OpenSetModel(
            partners.PartnerBackbone(maps=True, batchnorm="with BatchNorm" in what),
            type(model.loss)(),
        )
        losses.one_step(model)
        names = set(model.for_inference().state_dict())
        expected = set(plain.for_inference().state_dict())
        if names != expected:
            odd = ", ".join(sorted(names ^ expected)[:4])
            fail(f"with {what}, the finished model differs in {odd}")
        logits = model(losses.images(4))[1]
        steps.expect_tensor(logits, "logits of the finished model", (4, partners.CLASSES))
