"""Instantiated adversarial enhancement: generator, discriminator and classifier in turn."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from openset_core import (
    Backbone,
    Batch,
    Features,
    GeneratorContext,
    OptimizerRecipe,
    Phase,
    RepresentationLoss,
    SampleGenerator,
)
from openset_core.auxiliary_batchnorm import domain, has_batchnorm, with_auxiliary_batchnorm
from openset_core.errors import CompositionError
from openset_plugins.confused_gan import ConfusedGANOptions
from openset_plugins.confused_gan.networks import (
    SIZES,
    DiscriminatorNetwork,
    GeneratorNetwork,
    InputSpace,
)

Terms = dict[str, Tensor]


class ConfusedGAN(SampleGenerator):
    """The GAN and its phases: discriminator, generator, classifier on both, focus.

    Passes of a step, forward: generator 2 (one batch of noise for the first two phases, another
    without gradients for the classifier), discriminator 3, backbone 1 on generated images, 1 on
    known and generated images together, and 1 on known images for focus training. The released
    code also runs the classifier's loss back through the generator, and every other phase's
    gradients into networks that the phase does not update; here those are frozen.

    """

    def __init__(self, config: ConfusedGANOptions, context: GeneratorContext) -> None:
        super().__init__()
        self.config = config
        self.num_classes = context.num_classes
        self.separate = False  # whether the backbone has a second BatchNorm side
        self.generator = GeneratorNetwork(
            config.noise_dim, config.width, context.channels, context.image_size
        )
        self.discriminator = DiscriminatorNetwork(config.width, context.channels, config.squash)
        self.space = InputSpace(context.pixel_mean, context.pixel_std)

    def pixels(self, count: int) -> Tensor:
        """Generated images in (0, 1), [count, C, H, W]."""
        noise = torch.randn(count, self.config.noise_dim, device=self.space.mean.device)
        return self.generator(noise)  # type: ignore[no-any-return]

    def sample(self, count: int) -> Tensor:
        return self.space.enter(self.pixels(count))

    def confusion(self, loss: RepresentationLoss, features: Features) -> Tensor:
        """beta times how far generated samples lie from the open space; to be minimised."""
        config = self.config
        if config.confusion == "uniform":
            # KL(U || p) up to a constant: minus the mean log-probability.
            log_probabilities = F.log_softmax(loss.logits(features).float(), dim=1)
            kl = -log_probabilities.mean() - torch.log(torch.tensor(float(self.num_classes)))
            return config.beta * kl
        outside = loss.open_space(features).float().mean()
        if config.entropy == "released":
            return config.beta * outside.exp()
        return config.beta * outside / self.num_classes

    def discriminate(self, batch: Batch) -> Terms:
        """Eq. 15: real images against generated ones."""
        fake = self.pixels(len(batch.images))
        batch.memo["confused-gan"] = fake  # the generator's phase goes back through it
        real_scores = self.discriminator(self.space.leave(batch.images)).float()
        fake_scores = self.discriminator(fake.detach()).float()
        return {
            "real": F.softplus(-real_scores).mean(),
            "fake": F.softplus(fake_scores).mean(),
        }

    def generate(self, batch: Batch, backbone: Backbone, loss: RepresentationLoss) -> Terms:
        """Eq. 18: pass for real, and confuse the classifier."""
        fake = batch.memo["confused-gan"]
        fooled = self.discriminator(fake).float()
        with domain(backbone, "generated"):
            features = backbone(self.space.enter(fake))
        return {
            "fool": F.softplus(-fooled).mean(),
            "confuse": self.confusion(loss, features),
        }

    def enhance(
        self, batch: Batch, backbone: Backbone, loss: RepresentationLoss, phase: Phase
    ) -> Terms:
        """Eq. 19: the loss's own phase on known samples, confusion on generated ones."""
        with torch.no_grad():
            fake = self.sample(len(batch.images))
        known, generated = self._features(backbone, batch.images, fake)
        terms = dict(phase.loss(batch.with_features(known)))
        terms["generated"] = self.confusion(loss, generated)
        return terms

    def _features(
        self, backbone: Backbone, known: Tensor, generated: Tensor
    ) -> tuple[Features, Features]:
        """Features of known and of generated images, each normalised by its own batch."""
        if self.separate:
            count = len(known)
            with domain(backbone, "mixed", known_samples=count):
                both = backbone(torch.cat([known, generated.to(known.dtype)]))
            return _rows(both, slice(count)), _rows(both, slice(count, None))
        # Without auxiliary BN "processed independently" (Sec. 4.2) still means two passes.
        return backbone(known), backbone(generated)

    def phases(
        self, backbone: Backbone, loss: RepresentationLoss, phases: list[Phase]
    ) -> list[Phase]:
        """Algorithm 2 around the loss's last phase; earlier phases of the loss stay as they are."""
        setting, possible = self.config.auxiliary_bn, has_batchnorm(backbone)
        if setting == "on" and not possible:
            raise CompositionError(
                "auxiliary_bn=on was asked for, but the backbone has no BatchNorm, so that "
                "auxiliary BatchNorm is not needed; leave auxiliary_bn at auto"
            )
        self.separate = setting != "off" and possible
        if self.separate:
            with_auxiliary_batchnorm(backbone)
        *before, last = phases
        adam = OptimizerRecipe(
            optimizer="adam",
            lr=self.config.lr,
            betas=(self.config.beta1, 0.999),
            weight_decay=0.0,
            schedule="constant",
        )
        by_epoch = self.config.focus == "epoch"

        def in_turn(epoch: int, epochs: int, turn: int) -> bool:
            """By epoch in turn, counting only epochs in which the loss's phase runs."""
            before = sum(last.active(earlier, epochs) for earlier in range(epoch))
            return last.active(epoch, epochs) and not (by_epoch and before % 2 != turn)

        enhancing, focusing = partial(in_turn, turn=0), partial(in_turn, turn=1)
        arranged = [
            *before,
            Phase(
                name="discriminator",
                loss=self.discriminate,
                updates=(self.discriminator,),
                optimizer=adam,
                active=enhancing,
                keeps_graph=(self.generator,),
            ),
            Phase(
                name="generator",
                loss=lambda batch: self.generate(batch, backbone, loss),
                updates=(self.generator,),
                optimizer=adam,
                active=enhancing,
            ),
            Phase(
                name=last.name,
                loss=lambda batch: self.enhance(batch, backbone, loss, last),
                updates=last.updates,
                optimizer=last.optimizer,
                active=enhancing,
            ),
        ]
        if self.config.focus != "off":
            arranged.append(
                Phase(
                    name="focus",
                    loss=last.loss,
                    updates=last.updates,
                    active=focusing,
                    shares_optimizer=last.name,
                )
            )
        return arranged


def _rows(features: Features, rows: slice) -> Features:
    return Features(
        features.vector[rows], {name: values[rows] for name, values in features.maps.items()}
    )


def build(config: ConfusedGANOptions, context: GeneratorContext) -> ConfusedGAN:
    if context.image_size not in SIZES:
        raise CompositionError(
            f"the confused GAN makes images of {', '.join(map(str, sorted(SIZES)))} pixels a side, "
            f"the protocol has {context.image_size}; change image.size or leave the generator out"
        )
    return ConfusedGAN(config, context)
