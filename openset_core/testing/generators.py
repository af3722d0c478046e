"""Checks of sample generators."""

from __future__ import annotations

import attrs
import torch

from openset_core.components import OpenSetModel, Phase, SampleGenerator
from openset_core.testing import stubs
from openset_core.testing.component_under_test import ComponentUnderTest, check_refusal
from openset_core.testing.networks import build_generator, images, models
from openset_core.testing.report import Checks, fail
from openset_core.testing.tensors import expect_tensor, some
from openset_core.testing.training_steps import train

CHECKS = Checks("generator")

MARGIN = 1e-3
"""How far pixels may leave [0, 1] by rounding."""

LARGEST_SHIFT = 0.2
"""How far the range of pixels may move with the preprocessing."""


@CHECKS
def generator_builds(component: ComponentUnderTest) -> None:
    """The factory builds a SampleGenerator for colour images of 32x32 pixels."""
    build_generator(component)


@CHECKS
def samples_have_the_right_form(component: ComponentUnderTest) -> None:
    """sample(count) is float32 [count, C, H, W] and finite, in training and, for one sample too,
    in evaluation."""
    generator = build_generator(component)
    for training, count in ((True, 4), (False, 4), (False, 1)):
        samples = generator.train(training).sample(count)
        shape = (count, stubs.CHANNELS, stubs.SIZE, stubs.SIZE)
        expect_tensor(samples, f"sample({count})", shape, torch.float32)


@CHECKS
def samples_lie_in_the_input_space(component: ComponentUnderTest) -> None:
    """Samples are images as preprocessing makes them: times pixel_std plus pixel_mean, channel by
    channel, their pixels lie in [0, 1], and they are the same pixels under any preprocessing."""
    for channels in (1, 3):
        try:
            generator = build_generator(component, channels=channels)
        except Exception as error:
            check_refusal(error)
            continue
        with torch.no_grad():
            pixels = stubs.pixels_of(generator.train().sample(8))
        low, high = float(pixels.min()), float(pixels.max())
        if low < -MARGIN or high > 1 + MARGIN:
            fail(f"with {channels} channels pixels reach from {low:.3g} to {high:.3g}")
        torch.manual_seed(0)
        context = attrs.evolve(
            stubs.generator_context(channels),
            pixel_mean=(0.0,) * channels,
            pixel_std=(1.0,) * channels,
        )
        with torch.no_grad():
            plain = component.make(SampleGenerator, context).train().sample(8)
        moved = max(abs(float(plain.min()) - low), abs(float(plain.max()) - high))
        if moved > LARGEST_SHIFT:
            fail(
                f"with {channels} channels pixels reach from {low:.3g} to {high:.3g} under one "
                f"preprocessing, from {plain.min():.3g} to {plain.max():.3g} under another; "
                "subtract pixel_mean and divide by pixel_std"
            )


@CHECKS
def samples_repeat_under_a_seed(component: ComponentUnderTest) -> None:
    """The same seed gives the same generator and samples, another seed other samples, and so does
    the next call."""
    drawn = []
    for seed in (0, 0, 1):
        generator = build_generator(component, seed=seed).train()
        torch.manual_seed(10 + seed)
        with torch.no_grad():
            drawn.append((generator.sample(4), generator.sample(4)))
    if not torch.equal(drawn[0][0], drawn[1][0]):
        fail("two draws from one seed differ")
    if torch.equal(drawn[0][0], drawn[0][1]):
        fail("two calls in a row give the same samples")
    if torch.equal(drawn[0][0], drawn[2][0]):
        fail("draws from two seeds are the same; leave the seed to the framework")


@CHECKS
def phases_keep_those_of_the_loss(component: ComponentUnderTest) -> None:
    """For every phase of the loss there is a phase that updates at least the same parameters, and
    all phases have different names."""
    for surroundings, model in models(component):
        own = model.loss.phases(model.backbone)
        updated = [_parameters(phase) for phase in model.phases()]
        for phase in own:
            if not any(_parameters(phase) <= parameters for parameters in updated):
                what = f"the loss's phase {phase.name} updates"
                fail(f"with {surroundings}, no phase updates what {what}")


def _parameters(phase: Phase) -> set[int]:
    parameters = set()
    for item in phase.updates:
        members = item.parameters() if isinstance(item, torch.nn.Module) else [item]
        parameters |= {id(parameter) for parameter in members}
    return parameters


@CHECKS
def the_finished_model_is_without_it(component: ComponentUnderTest) -> None:
    """The finished model has the weights of one that was trained without a generator, no more and
    no less, and still classifies."""
    for surroundings, model in models(component):
        plain = OpenSetModel(
            stubs.StubBackbone(maps=True, batchnorm="with BatchNorm" in surroundings),
            type(model.loss)(),
        )
        train(model)
        names = set(model.for_inference().state_dict())
        different = names ^ set(plain.for_inference().state_dict())
        if different:
            fail(f"with {surroundings}, the finished model differs in {some(sorted(different))}")
        logits = model(images(4))[1]
        expect_tensor(logits, "logits of the finished model", (4, stubs.CLASSES))
