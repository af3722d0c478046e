"""Checks of representation losses."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any
from unittest import SkipTest

import torch
from torch import Tensor, nn

from openset_core.auxiliary_batchnorm import domain, with_auxiliary_batchnorm
from openset_core.components import Batch, Features, OpenSetModel, RepresentationLoss
from openset_core.testing import stubs as partners
from openset_core.testing import training_steps as steps
from openset_core.testing.component_under_test import Subject, refusal
from openset_core.testing.report import Checks, Seen, fail, not_applicable

LOSS_CHECKS = Checks()

LEARNING_STEPS = 60
MOST_STEPS = 300
"""For methods with a slow recipe of their own."""

LEARNING_RATE = 0.01
ENOUGH = 0.6
"""Share of its own training images that a loss must classify rightly, where chance is 1/3."""


def build(
    subject: Subject,
    *,
    seed: int = 0,
    num_classes: int = partners.CLASSES,
    batchnorm: bool | None = None,
) -> OpenSetModel:
    """The loss on a small backbone that has what the loss needs, and nothing else."""
    torch.manual_seed(seed)
    needs = subject.spec.needs
    backbone = partners.PartnerBackbone(
        maps="feature maps" in needs,
        batchnorm="batchnorm" in needs if batchnorm is None else batchnorm,
    )
    context = partners.loss_context(backbone, num_classes=num_classes)
    return OpenSetModel(backbone, subject.make(RepresentationLoss, context))


def answers(model: OpenSetModel, images: Tensor) -> dict[str, Tensor]:
    """What the loss says of images at test time."""
    features = model.backbone(images)
    return {
        "logits": model.loss.logits(features),
        "embedding": model.loss.embedding(features),
        "open_space": model.loss.open_space(features),
    }


def images(count: int = 8) -> Tensor:
    """Images in the input space."""
    return partners.learnable_images(count)[0]


@LOSS_CHECKS
def loss_builds(subject: Subject) -> None:
    """The factory builds a RepresentationLoss for any number of classes from two on."""
    for num_classes in (2, 4, 10):
        build(subject, num_classes=num_classes)


@LOSS_CHECKS
def needs_is_true(subject: Subject) -> None:
    """A loss works on every backbone that provides what its `needs` says: what it uses of a
    backbone beyond the vector stands there, and what stands there is used."""
    try:
        model = build(subject)
        one_step(model)
        answers(model, images())
    except Exception as error:
        have = ", ".join(subject.spec.needs) or "nothing but a vector"
        reason = (str(error).splitlines() or [""])[0]
        fail(f"on a backbone that provides {have}: {type(error).__name__}: {reason}")
    if "feature maps" not in subject.spec.needs:
        return
    backbone = partners.PartnerBackbone(maps=False, batchnorm=True)
    try:
        bare = subject.make(RepresentationLoss, partners.loss_context(backbone))
        one_step(OpenSetModel(backbone, bare))
    except Exception as error:
        refusal(error)
        return
    fail("needs says 'feature maps', but the loss trains on a backbone without any")


@LOSS_CHECKS
def provides_is_true(subject: Subject) -> None:
    """provides says `logits` and `embedding`, which every loss has."""
    for word in ("logits", "embedding"):
        if word not in subject.spec.provides:
            fail(f"provides={subject.spec.provides!r} lacks {word!r}")


@LOSS_CHECKS
def logits_have_the_right_form(subject: Subject) -> None:
    """logits(features) is float32 [B, K] and finite, in training and, for one image too, in
    evaluation."""
    for num_classes in (2, 5):
        model = build(subject, num_classes=num_classes)
        for training, count in ((True, 6), (False, 6), (False, 1)):
            model.train(training)
            found = answers(model, images(count))["logits"]
            what = f"logits of {count} images and {num_classes} classes"
            steps.expect_tensor(found, what, (count, num_classes), torch.float32)


@LOSS_CHECKS
def embedding_has_the_right_form(subject: Subject) -> None:
    """embedding(features) is float32 [B, E], finite, with one E for all batches."""
    model = build(subject).eval()
    width = answers(model, images(6))["embedding"].shape[-1]
    for count in (6, 1):
        found = answers(model, images(count))["embedding"]
        steps.expect_tensor(found, f"embedding of {count} images", (count, width), torch.float32)


@LOSS_CHECKS
def what_was_learnt_has_the_right_form(subject: Subject) -> None:
    """landmarks() is None or points [P, E] in the embedding's space, each with its class 0..K-1;
    learnt() is a dict of finite numbers. Both work on the saved model, too."""
    model = build(subject)
    one_step(model)
    width = answers(model.eval(), images(2))["embedding"].shape[-1]
    for loss in (model.loss, model.for_inference().loss):
        for name, value in loss.learned_scalars().items():
            if type(value) is not float or not math.isfinite(value):
                fail(f"learnt() says {name}={value!r}, which is no finite float")
        landmarks = loss.landmarks()
        if landmarks is None:
            continue
        count = len(landmarks.points)
        steps.expect_tensor(landmarks.points, "points of landmarks()", (count, width))
        if landmarks.labels.shape != (count,) or landmarks.labels.dtype != torch.int64:
            fail(f"labels of landmarks() are {steps.tensor_text(landmarks.labels)}")
        if not ((landmarks.labels >= 0) & (landmarks.labels < partners.CLASSES)).all():
            fail(f"landmarks() names classes outside 0..{partners.CLASSES - 1}")


@LOSS_CHECKS
def open_space_has_the_right_form(subject: Subject) -> None:
    """open_space(features) is a finite float [B], and its gradient reaches the features, so that
    a sample generator can learn from it."""
    model = build(subject)
    features = model.backbone(images(6))
    leaf = features.vector.detach().requires_grad_()
    found = model.loss.open_space(features._replace(vector=leaf))
    steps.expect_tensor(found, "open_space of 6 images", (6,))
    if not found.requires_grad:
        fail("open_space carries no gradient")
    found.sum().backward()  # type: ignore[no-untyped-call]
    if leaf.grad is None or not leaf.grad.isfinite().all():
        fail("the gradient of open_space does not reach the vector, or is not finite")


@LOSS_CHECKS
def phases_give_scalar_terms(subject: Subject) -> None:
    """phases(backbone) is a list of phases with different names, each active in some of the first
    epochs; each gives a dict of finite scalar terms that depend on what it updates."""
    model = build(subject).train()
    phases = model.phases()
    if not phases:
        fail("there is no phase")
    one_step(model)


def one_step(
    model: OpenSetModel,
    after: Callable[[Any, Any], None] | None = None,
    *,
    batch: Batch | None = None,
    precision: str = "fp32",
    update: bool = True,
    repeat: int = 1,
) -> list[dict[str, Tensor]]:
    """Some steps in each of the epochs that it takes to see all phases."""
    model.train()
    items = steps.optimizers_of(model.phases())
    found = []
    for epoch in steps.active_in(items) * repeat:
        own = batch or partners.batch_of(model.backbone)
        own.epoch, own.epochs = epoch, 4
        found += steps.step(model, items, own, after=after, precision=precision, update=update)
    return found


@LOSS_CHECKS
def gradients_reach_what_phases_update(subject: Subject) -> None:
    """In every phase gradients reach each module and parameter that the phase declares in
    `updates`, and are finite."""
    model = build(subject).train()
    look_at_gradients(model)


def look_at_gradients(model: OpenSetModel) -> None:
    """Run a step and look at the gradients of each item that a phase updates."""
    names = {id(module): name for name, module in model.named_modules()}
    names |= {id(parameter): name for name, parameter in model.named_parameters()}

    def look(item: Any, _terms: Any) -> None:
        for updated in item.phase.updates:
            members = list(updated.parameters()) if isinstance(updated, nn.Module) else [updated]
            trainable = [parameter for parameter in members if parameter.requires_grad]
            reached = [p.grad for p in trainable if p.grad is not None]
            name = names.get(id(updated), type(updated).__name__)
            if trainable and not reached:
                fail(f"phase {item.phase.name} updates {name}, but no gradient reaches it")
            if not all(gradient.isfinite().all() for gradient in reached):
                fail(f"a gradient of {name} in phase {item.phase.name} is not finite")

    one_step(model, look, update=False)


@LOSS_CHECKS
def every_parameter_is_trained(subject: Subject) -> None:
    """Every trainable parameter of the loss gets a gradient in some phase that updates it."""
    model = build(subject)
    missed = never_trained(model, model.loss)
    if missed:
        fail(f"no phase trains {', '.join(missed)}; give it a gradient, or make it a buffer")


def never_trained(model: OpenSetModel, owner: nn.Module) -> list[str]:
    """Names of trainable parameters that get no gradient in any phase that updates them."""
    reached: set[int] = set()

    def look(item: Any, _terms: Any) -> None:
        reached.update(id(p) for p in item.parameters if p.grad is not None)

    one_step(model, look, update=False)
    named = owner.named_parameters()
    return [name for name, p in named if p.requires_grad and id(p) not in reached]


@LOSS_CHECKS
def nothing_else_changes(subject: Subject) -> None:
    """A phase changes what it updates and BatchNorm statistics, and nothing else: no other
    parameter, no buffer of a module that it does not update, neither images nor labels."""
    model = build(subject).train()
    compare_changes(model)


def compare_changes(model: OpenSetModel) -> None:
    """Run the phases one by one and look at all tensors after each."""
    items = steps.optimizers_of(model.phases())
    for epoch in steps.active_in(items):
        batch = partners.batch_of(model.backbone, epoch=epoch, epochs=4)
        memo: dict[str, Any] = {}
        for item in items:
            if not item.phase.active(epoch, 4):
                continue
            own = Batch(
                batch.images,
                batch.labels,
                backbone=model.backbone,
                epoch=epoch,
                epochs=4,
                memo=memo,
            )
            kept = batch.images.clone(), batch.labels.clone()
            before = steps.tensors_of(model)
            trainable = {name for name, p in model.named_parameters() if p.requires_grad}
            with steps.only(model, item):
                terms = steps.terms_of(item, own)
                torch.stack([t.float() for t in terms.values()]).sum().backward()  # type: ignore[no-untyped-call]
            item.optimizer.step()
            for parameter in model.parameters():
                parameter.grad = None
            different = set(steps.changed(before, model)) - _may_change(model, item)
            if different:
                fail(f"phase {item.phase.name} changed {', '.join(sorted(different)[:4])}")
            if not (torch.equal(kept[0], batch.images) and torch.equal(kept[1], batch.labels)):
                fail(f"phase {item.phase.name} changed the images or the labels in place")
            if {name for name, p in model.named_parameters() if p.requires_grad} != trainable:
                fail(f"phase {item.phase.name} froze or thawed parameters")


def _may_change(model: OpenSetModel, item: Any) -> set[str]:
    updated = {id(parameter) for parameter in item.parameters}
    for module in item.phase.updates:
        if isinstance(module, nn.Module):
            updated.update(id(buffer) for buffer in module.buffers())
    members = [*model.named_parameters(), *model.named_buffers()]
    allowed = {name for name, tensor in members if id(tensor) in updated}
    return allowed | steps.batchnorm_statistics(model)


@LOSS_CHECKS
def phases_use_the_features_given(subject: Subject) -> None:
    """The last phase takes its features from `batch.features()`, so that a sample generator can
    compute them together with its own: batch.with_features(features) decides the terms."""
    model = build(subject).train()
    item = steps.optimizers_of(model.phases())[-1]
    batch = partners.batch_of(model.backbone)
    features = model.backbone(batch.images)
    leaf = Features(
        features.vector.detach().requires_grad_(),
        {name: value.detach().requires_grad_() for name, value in features.maps.items()},
    )
    terms = steps.terms_of(item, batch.with_features(leaf))
    torch.stack([term.float() for term in terms.values()]).sum().backward()  # type: ignore[no-untyped-call]
    if all(value.grad is None for value in (leaf.vector, *leaf.maps.values())):
        fail(f"the terms of phase {item.phase.name} do not depend on the features given")


@LOSS_CHECKS
def evaluation_is_deterministic(subject: Subject) -> None:
    """In evaluation logits, embedding and open_space are the same each time, for each image by
    itself, and change nothing."""
    model = build(subject).eval()
    batch = images(6)
    before = steps.tensors_of(model)
    with torch.no_grad():
        first, second = answers(model, batch), answers(model, batch)
        alone = answers(model, batch[:1])
    different = steps.changed(before, model)
    if different:
        fail(f"evaluation changed {', '.join(different[:4])}")
    for name, value in first.items():
        steps.expect_equal(value, second[name], f"{name} of the same images twice")
        steps.expect_equal(value[:1], alone[name], f"{name} of an image alone and in a batch", 1e-3)


@LOSS_CHECKS
def training_repeats_under_a_seed(subject: Subject) -> None:
    """The same seed gives the same parameters and the same training, and no seed is set."""
    finals = []
    for _ in range(2):
        model = build(subject)
        torch.manual_seed(3)
        one_step(model)
        finals.append(steps.tensors_of(model))
        after = torch.rand(()).item()
    for name, value in finals[0].items():
        if not torch.equal(value.nan_to_num(), finals[1][name].nan_to_num()):
            fail(f"two trainings from one seed differ in {name}")
    model = build(subject)
    torch.manual_seed(4)
    one_step(model)
    if torch.rand(()).item() == after:
        fail("after training from two seeds the next random numbers are the same")


@LOSS_CHECKS
def state_dict_round_trip(subject: Subject) -> None:
    """The saved model, without what `training_only` names, gives the same logits and embeddings
    once it is loaded from safetensors into a fresh one."""
    model = build(subject)
    one_step(model)
    batch = images(6)
    with torch.no_grad():
        whole = answers(model.eval(), batch)
    try:
        reduced = model.for_inference()
    except AttributeError as error:
        fail(f"training_only={model.loss.training_only!r} names what is not there: {error}")
    fresh = build(subject, seed=9).for_inference()
    try:
        fresh.load_state_dict(steps.through_safetensors(reduced.state_dict()))
    except RuntimeError as error:
        fail(" ".join(str(error).split()))
    with torch.no_grad():
        for where, other in (("without training_only", reduced), ("loaded", fresh)):
            try:
                embedding, logits = other(batch)
            except AttributeError as error:
                fail(f"{where}, logits or embedding ask for what was left out: {error}")
            steps.expect_equal(whole["logits"], logits, f"logits before and {where}")
            steps.expect_equal(whole["embedding"], embedding, f"embedding before and {where}")


@LOSS_CHECKS
def devices_are_not_mixed(subject: Subject) -> None:
    """Moved to another device, the loss computes there: no constant stays behind and no device is
    named."""
    model = build(subject).train()
    phases = model.phases()
    batch = partners.batch_of(model.backbone)
    skipped = []

    def answer(pictures: Tensor) -> dict[str, Tensor]:
        return answers(model, pictures)

    steps.on_another_device(model, answer, batch.images)
    memo: dict[str, Any] = {}
    for phase in phases:

        def terms(pictures: Tensor, labels: Tensor, phase: Any = phase) -> dict[str, Tensor]:
            own = Batch(pictures, labels, backbone=model.backbone, memo=memo)
            return dict(phase.loss(own))

        try:
            steps.on_another_device(model, terms, batch.images, batch.labels)
        except SkipTest as reason:
            skipped.append(f"phase {phase.name}: {reason}")
    if skipped:
        not_applicable("; ".join(skipped))


@LOSS_CHECKS
def extreme_features_give_finite_answers(subject: Subject) -> None:
    """Logits, embeddings, open_space and the terms of all phases are finite for features a
    thousand times as large as usual, for features that are all equal, and for a batch of one
    class."""
    model = build(subject).train()
    items = steps.optimizers_of(model.phases())
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
        for name, function in (
            ("logits", model.loss.logits),
            ("embedding", model.loss.embedding),
            ("open_space", model.loss.open_space),
        ):
            if not function(features).isfinite().all():
                fail(f"{name} of {what} holds NaN or infinite values")
        for labels in (torch.arange(6) % partners.CLASSES, torch.zeros(6, dtype=torch.int64)):
            memo: dict[str, Any] = {}
            for item in items:
                batch = Batch(images(6), labels, backbone=model.backbone, memo=memo)
                try:
                    steps.terms_of(item, batch.with_features(features))
                except Seen as error:
                    fail(f"for {what}: {error}")


@LOSS_CHECKS
def bf16_works(subject: Subject) -> None:
    """Under bf16 autocast terms and answers are finite and a step changes parameters that stay
    float32."""
    model = build(subject)
    one_step(model, precision="bf16")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for name, value in answers(model, images(6)).items():
            if not value.isfinite().all():
                fail(f"{name} holds NaN or infinite values")
    for name, parameter in model.named_parameters():
        if parameter.dtype != torch.float32 or not parameter.isfinite().all():
            fail(f"after a step {name} is {parameter.dtype}, or not finite")


@LOSS_CHECKS
def auxiliary_batchnorm_works(subject: Subject) -> None:
    """On a backbone with a second BatchNorm side, as sample generators make it, the last phase
    takes the features of the known samples of a mixed batch, open_space those of the generated
    ones, and gradients go back through both."""
    model = build(subject, batchnorm=True).train()
    with_auxiliary_batchnorm(model.backbone)
    item = steps.optimizers_of(model.phases())[-1]
    batch = partners.batch_of(model.backbone)
    count = len(batch.images)
    generated = torch.randn_like(batch.images)
    with domain(model.backbone, "mixed", known_samples=count):
        both = model.backbone(torch.cat([batch.images, generated]))
    known, fake = (
        Features(both.vector[rows], {name: value[rows] for name, value in both.maps.items()})
        for rows in (slice(count), slice(count, None))
    )
    terms = steps.terms_of(item, batch.with_features(known))
    outside = model.loss.open_space(fake)
    steps.expect_tensor(outside, "open_space of generated images", (count,))
    made = [both.vector, *both.maps.values()]
    for what, value in (
        ("the terms", torch.stack([term.float() for term in terms.values()]).sum()),
        ("open_space", outside.float().sum()),
    ):
        found: tuple[Tensor | None, ...] = (None,)
        if value.requires_grad:
            found = torch.autograd.grad(value, made, retain_graph=True, allow_unused=True)
        reached = [gradient for gradient in found if gradient is not None]
        if not reached:
            fail(f"no gradient of {what} goes back to the backbone's features")
        if not all(gradient.isfinite().all() for gradient in reached):
            fail(f"the gradient of {what} is not finite")


@LOSS_CHECKS
def it_learns_and_logits_say_so(subject: Subject) -> None:
    """After some steps on images that are easily told apart, the largest logit is mostly that of
    an image's own class."""
    model = build(subject, num_classes=3, batchnorm=True).train()
    phases = model.phases()
    from openset_core.experiment.training_options import TrainingOptions
    from openset_core.training.optimisation import build_optimizers

    items = build_optimizers(phases, TrainingOptions(optimizer="adam", lr=LEARNING_RATE))
    epochs = steps.active_in(items)
    batch = partners.batch_of(model.backbone, count=24, num_classes=3)
    accuracy = 0.0
    for number in range(1, MOST_STEPS + 1):
        batch.epoch, batch.epochs = epochs[number % len(epochs)], 4
        steps.step(model, items, batch)
        if number % 10 == 0:
            accuracy = _accuracy(model, batch)
            if accuracy == 1.0 or (number >= LEARNING_STEPS and accuracy >= ENOUGH):
                return
    fail(
        f"accuracy {accuracy:.2f} on its own training images after {MOST_STEPS} steps, where "
        "chance is 0.33; logits must be larger for the likelier class"
    )


def _accuracy(model: OpenSetModel, batch: Batch) -> float:
    model.eval()
    with torch.no_grad():
        logits = model(batch.images)[1]
    model.train()
    return float((logits.argmax(dim=1) == batch.labels).float().mean())


@LOSS_CHECKS
def probabilities_follow_from_logits(subject: Subject) -> None:
    """softmax over the logits gives class probabilities: logits are raw scores, whose size is not
    bounded to what a softmax returns."""
    model = build(subject).eval()
    with torch.no_grad():
        logits = answers(model, images(8))["logits"]
    sums = logits.sum(dim=1)
    if logits.min() >= 0 and torch.allclose(sums, torch.ones_like(sums), atol=1e-5):
        fail("every row of the logits is already a probability distribution")
