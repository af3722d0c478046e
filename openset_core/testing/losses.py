"""Checks of representation losses."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from openset_core.auxiliary_batchnorm import domain, with_auxiliary_batchnorm
from openset_core.components import Batch, Features, OpenSetModel, RepresentationLoss
from openset_core.experiment.training_options import TrainingOptions
from openset_core.testing import stubs
from openset_core.testing.component_under_test import ComponentUnderTest, check_refusal
from openset_core.testing.networks import answers, expect_seeded, images, model_with_loss
from openset_core.testing.report import Checks, ContractViolation, fail
from openset_core.testing.tensors import expect_finite, expect_tensor, tensor_text
from openset_core.testing.training_steps import (
    EPOCHS,
    epochs_with_all_phases,
    optimizers_of,
    terms_of,
    total,
    train,
    training_step,
)
from openset_core.training.optimisation import build_optimizers

CHECKS = Checks("loss")

LEARNING_STEPS = 60
MOST_STEPS = 300  # for methods with a slow recipe of their own
LEARNING_RATE = 0.01
ENOUGH = 0.6  # share of its training images that a loss must classify rightly; chance is 1/3


@CHECKS
def loss_builds(component: ComponentUnderTest) -> None:
    """The factory builds a RepresentationLoss for any number of classes from two on."""
    for num_classes in (2, 4, 10):
        model_with_loss(component, num_classes=num_classes)


@CHECKS
def needs_is_true(component: ComponentUnderTest) -> None:
    """A loss works on every backbone that provides what its `needs` says: what it uses of a
    backbone beyond the vector stands there, and what stands there is used."""
    try:
        model = model_with_loss(component)
        train(model)
        answers("loss", model, images(8))
    except Exception as error:
        have = ", ".join(component.spec.needs) or "nothing but a vector"
        reason = (str(error).splitlines() or [""])[0]
        fail(f"on a backbone that provides {have}: {type(error).__name__}: {reason}")
    if "feature maps" not in component.spec.needs:
        return
    backbone = stubs.StubBackbone(maps=False, batchnorm=True)
    try:
        bare = component.make(RepresentationLoss, stubs.loss_context(backbone))
        train(OpenSetModel(backbone, bare))
    except Exception as error:
        check_refusal(error)
        return
    fail("needs says 'feature maps', but the loss trains on a backbone without any")


@CHECKS
def provides_is_true(component: ComponentUnderTest) -> None:
    """provides says `logits` and `embedding`, which every loss has."""
    for word in ("logits", "embedding"):
        if word not in component.spec.provides:
            fail(f"provides={component.spec.provides!r} lacks {word!r}")


@CHECKS
def logits_have_the_right_form(component: ComponentUnderTest) -> None:
    """logits(features) is float32 [B, K] and finite, in training and, for one image too, in
    evaluation; they are raw scores, of which softmax gives probabilities, not probabilities."""
    for num_classes in (2, 5):
        model = model_with_loss(component, num_classes=num_classes)
        for training, count in ((True, 6), (False, 6), (False, 1)):
            logits = answers("loss", model.train(training), images(count))["logits"]
            what = f"logits of {count} images and {num_classes} classes"
            expect_tensor(logits, what, (count, num_classes), torch.float32)
            sums = logits.sum(dim=1)
            if logits.min() >= 0 and torch.allclose(sums, torch.ones_like(sums), atol=1e-5):
                fail("every row of the logits is already a probability distribution")


@CHECKS
def embedding_has_the_right_form(component: ComponentUnderTest) -> None:
    """embedding(features) is float32 [B, E], finite, with one E for all batches."""
    model = model_with_loss(component).eval()
    width = answers("loss", model, images(6))["embedding"].shape[-1]
    for count in (6, 1):
        embedding = answers("loss", model, images(count))["embedding"]
        expect_tensor(embedding, f"embedding of {count} images", (count, width), torch.float32)


@CHECKS
def what_was_learnt_has_the_right_form(component: ComponentUnderTest) -> None:
    """landmarks() is None or points [P, E] in the embedding's space, each with its class 0..K-1;
    learned_scalars() is a dict of finite numbers. Both work on the saved model, too."""
    model = model_with_loss(component)
    train(model)
    width = answers("loss", model.eval(), images(2))["embedding"].shape[-1]
    for loss in (model.loss, model.for_inference().loss):
        for name, value in loss.learned_scalars().items():
            if type(value) is not float or not math.isfinite(value):
                fail(f"learned_scalars() says {name}={value!r}, which is no finite float")
        landmarks = loss.landmarks()
        if landmarks is None:
            continue
        count = len(landmarks.points)
        expect_tensor(landmarks.points, "points of landmarks()", (count, width))
        if landmarks.labels.shape != (count,) or landmarks.labels.dtype != torch.int64:
            fail(f"labels of landmarks() are {tensor_text(landmarks.labels)}")
        if not ((landmarks.labels >= 0) & (landmarks.labels < stubs.CLASSES)).all():
            fail(f"landmarks() names classes outside 0..{stubs.CLASSES - 1}")


@CHECKS
def open_space_has_the_right_form(component: ComponentUnderTest) -> None:
    """open_space(features) is a finite float [B], and its gradient reaches the features, so that
    a sample generator can learn from it."""
    model = model_with_loss(component)
    features = model.backbone(images(6))
    leaf = features.vector.detach().requires_grad_()
    scores = model.loss.open_space(features._replace(vector=leaf))
    expect_tensor(scores, "open_space of 6 images", (6,))
    if not scores.requires_grad:
        fail("open_space carries no gradient")
    scores.sum().backward()  # type: ignore[no-untyped-call]
    if leaf.grad is None or not leaf.grad.isfinite().all():
        fail("the gradient of open_space does not reach the vector, or is not finite")


@CHECKS
def phases_use_the_features_given(component: ComponentUnderTest) -> None:
    """The last phase takes its features from `batch.features()`, so that a sample generator can
    compute them together with its own: batch.with_features(features) decides the terms."""
    model = model_with_loss(component).train()
    item = optimizers_of(model)[-1]
    batch = _batch(model)
    features = model.backbone(batch.images)
    leaf = Features(
        features.vector.detach().requires_grad_(),
        {name: value.detach().requires_grad_() for name, value in features.maps.items()},
    )
    total(terms_of(item, batch.with_features(leaf))).backward()  # type: ignore[no-untyped-call]
    if all(value.grad is None for value in (leaf.vector, *leaf.maps.values())):
        fail(f"the terms of phase {item.phase.name} do not depend on the features given")


def _batch(model: OpenSetModel, count: int = 12, num_classes: int = stubs.CLASSES) -> Batch:
    pictures, labels = stubs.learnable_images(count, num_classes)
    return Batch(pictures, labels, backbone=model.backbone, epochs=EPOCHS)


@CHECKS
def training_repeats_under_a_seed(component: ComponentUnderTest) -> None:
    """The same seed gives the same parameters and the same training, and no seed is set."""

    def trained(seed: int) -> OpenSetModel:
        model = model_with_loss(component)
        torch.manual_seed(seed)
        train(model)
        return model

    expect_seeded(trained, "trainings", "training")


@CHECKS
def extreme_features_give_finite_answers(component: ComponentUnderTest) -> None:
    """Logits, embeddings, open_space and the terms of all phases are finite for features a
    thousand times as large as usual, for features that are all equal, and for a batch of one
    class."""
    model = model_with_loss(component).train()
    items = optimizers_of(model)
    plain = model.backbone(images(6))
    for what, factor, shift in (
        ("features times 1000", 1000.0, 0.0),
        ("features that are all zero", 0.0, 0.0),
        ("features that are all equal", 0.0, 1.0),
    ):
        features = Features(
            (factor * plain.vector + shift).detach(),
            {name: (factor * value + shift).detach() for name, value in plain.maps.items()},
        )
        for name in ("logits", "embedding", "open_space"):
            expect_finite({name: getattr(model.loss, name)(features)}, f" of {what}")
        for labels in (torch.arange(6) % stubs.CLASSES, torch.zeros(6, dtype=torch.int64)):
            memo: dict[str, Any] = {}
            for item in items:
                batch = Batch(images(6), labels, backbone=model.backbone, memo=memo)
                try:
                    terms_of(item, batch.with_features(features))
                except ContractViolation as error:
                    fail(f"for {what}: {error}")


@CHECKS
def auxiliary_batchnorm_works(component: ComponentUnderTest) -> None:
    """On a backbone with a second BatchNorm side, as sample generators make it, the last phase
    takes the features of the known samples of a mixed batch, open_space those of the generated
    ones, and gradients go back through both."""
    model = model_with_loss(component, batchnorm=True).train()
    with_auxiliary_batchnorm(model.backbone)
    item = optimizers_of(model)[-1]
    batch = _batch(model)
    count = len(batch.images)
    with domain(model.backbone, "mixed", known_samples=count):
        both = model.backbone(torch.cat([batch.images, torch.randn_like(batch.images)]))
    known, generated = (
        Features(both.vector[rows], {name: value[rows] for name, value in both.maps.items()})
        for rows in (slice(count), slice(count, None))
    )
    terms = terms_of(item, batch.with_features(known))
    outside = model.loss.open_space(generated)
    expect_tensor(outside, "open_space of generated images", (count,))
    for what, value in (("the terms", total(terms)), ("open_space", outside.float().sum())):
        _expect_gradient(value, what, [both.vector, *both.maps.values()])


def _expect_gradient(value: Tensor, what: str, inputs: list[Tensor]) -> None:
    gradients: tuple[Tensor | None, ...] = ()
    if value.requires_grad:
        gradients = torch.autograd.grad(value, inputs, retain_graph=True, allow_unused=True)
    reached = [gradient for gradient in gradients if gradient is not None]
    if not reached:
        fail(f"no gradient of {what} goes back to the backbone's features")
    if not all(gradient.isfinite().all() for gradient in reached):
        fail(f"the gradient of {what} is not finite")


@CHECKS
def it_learns_and_logits_say_so(component: ComponentUnderTest) -> None:
    """After some steps on images that are easily told apart, the largest logit is mostly that of
    an image's own class."""
    model = model_with_loss(component, num_classes=3, batchnorm=True).train()
    options = TrainingOptions(optimizer="adam", lr=LEARNING_RATE)
    items = build_optimizers(model.phases(), options)
    epochs = epochs_with_all_phases(items)
    batch = _batch(model, count=24, num_classes=3)
    accuracy = 0.0
    for number in range(1, MOST_STEPS + 1):
        batch.epoch = epochs[number % len(epochs)]
        training_step(model, items, batch)
        if number % 10 == 0:
            model.eval()
            with torch.no_grad():
                logits = model(batch.images)[1]
            model.train()
            accuracy = float((logits.argmax(dim=1) == batch.labels).float().mean())
            if accuracy == 1.0 or (number >= LEARNING_STEPS and accuracy >= ENOUGH):
                return
    fail(
        f"accuracy {accuracy:.2f} on its own training images after {MOST_STEPS} steps, where "
        "chance is 0.33; logits must be larger for the likelier class"
    )
