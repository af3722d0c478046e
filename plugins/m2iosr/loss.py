"""The representation loss of M2IOSR: latent, discriminators, prior and classifier."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openset_core import (
    Backbone,
    Batch,
    FeatureMap,
    Features,
    LossContext,
    Phase,
    RepresentationLoss,
)
from openset_core.errors import CompositionError
from openset_plugins.m2iosr import M2IOSROptions
from openset_plugins.m2iosr.discriminators import (
    GlobalDiscriminator,
    PairDiscriminator,
    PriorDiscriminator,
    locations,
)

Terms = dict[str, Tensor]


def kl_to_class_prior(mean: Tensor, variance: Tensor, class_mean: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(class_mean, 1)), averaged over the batch; minus Eq. 11.

    All [B, J]: mu, sigma squared, and mu^(k) of each sample's class.
    """
    mean, variance, class_mean = mean.float(), variance.float(), class_mean.float()
    per_dimension = variance + (mean - class_mean).square() - 1.0 - variance.log()
    return 0.5 * per_dimension.sum(dim=1).mean()


class M2IOSR(RepresentationLoss):
    training_only = (
        "global_discriminator",
        "fine_discriminator",
        "coarse_discriminator",
        "map_discriminator",
        "class_mean",
        "prior_discriminator",
    )

    def __init__(self, config: M2IOSROptions, context: LossContext) -> None:
        super().__init__()
        self.config = config
        self.num_classes = context.num_classes
        self.label_smoothing = context.label_smoothing
        fine = context.map(config.fine_map, "m2iosr.fine_map")
        coarse = context.map(config.coarse_map, "m2iosr.coarse_map")
        self.fine_name, self.coarse_name = fine.name, coarse.name
        latent, hidden = config.latent_dim, config.hidden

        self.mean = nn.Linear(context.vector_dim, latent)
        self.raw_variance = nn.Linear(context.vector_dim, latent) if config.prior == "kl" else None
        self.classifier = nn.Linear(latent, context.num_classes)

        self.global_discriminator = GlobalDiscriminator(
            fine.channels,
            fine.side(context.image_size),
            latent,
            config.global_channels,
            _padding(fine, context, config),
            hidden,
        )
        self.fine_discriminator = PairDiscriminator(fine.channels, latent, hidden)
        self.coarse_discriminator = PairDiscriminator(coarse.channels, latent, hidden)
        self.map_discriminator = PairDiscriminator(coarse.channels, coarse.channels, hidden)
        # mu^(k): a linear map of the one-hot label, with bias, learned jointly.
        self.class_mean = nn.Linear(context.num_classes, latent) if config.prior == "kl" else None
        self.prior_discriminator = (
            PriorDiscriminator(latent) if config.prior == "adversarial" else None
        )

    def embedding(self, features: Features) -> Tensor:
        """The latent mean, [B, J]."""
        return self.mean(features.vector)  # type: ignore[no-any-return]

    def logits(self, features: Features) -> Tensor:
        return self.classifier(self.embedding(features))  # type: ignore[no-any-return]

    def latent(self, features: Features) -> tuple[Tensor, Tensor | None, Tensor]:
        """Mean, variance and a reparameterised sample, each [B, J].

        Without the KL prior there is no variance and the sample is the mean.
        """
        mean = self.mean(features.vector)
        if self.raw_variance is None:
            return mean, None, mean
        raw = self.raw_variance(features.vector).float()
        variance = F.softplus(raw) + 1e-8 if self.config.variance == "softplus" else raw.exp()
        return mean, variance, mean + variance.sqrt() * torch.randn_like(variance)

    def max_min_terms(self, features: Features, labels: Tensor) -> Terms:
        """The terms of Eq. 9 and 10, with their weights and signs."""
        config = self.config
        mean, variance, sample = self.latent(features)
        latent = sample if config.mi_latent == "sample" else mean
        latent = latent.to(features.vector.dtype)
        terms = {
            name: -weight * information
            for name, weight, information in self._information(features, latent)
        }
        if config.prior == "kl" and config.gamma > 0:
            assert variance is not None
            assert self.class_mean is not None
            one_hot = F.one_hot(labels, self.num_classes).to(mean.dtype)
            terms["kl"] = config.gamma * kl_to_class_prior(mean, variance, self.class_mean(one_hot))
        if self.prior_discriminator is not None and config.gamma > 0:
            # The encoder's side, non-saturating: its codes should pass for prior samples.
            fooled = self.prior_discriminator(latent.sigmoid())
            terms["prior"] = config.gamma * F.softplus(-fooled.float()).mean()
        if not terms:
            terms["none"] = mean.sum() * 0.0  # every weight is zero: a phase still needs a term
        return terms

    def _information(self, features: Features, latent: Tensor) -> list[tuple[str, float, Tensor]]:
        """(name, weight, mutual information) of every pair with a weight, Eq. 9 and 10."""
        config = self.config
        pairs, terms = config.pairs, []
        fine, coarse = features.maps[self.fine_name], features.maps[self.coarse_name]
        if config.beta1 > 0:
            information = self.global_discriminator.information(fine, latent, pairs)
            terms.append(("mi_global", config.beta1, information))
        if config.beta2 > 0 and config.a1 > 0:
            information = self.fine_discriminator.information(
                self._some_places(locations(fine)), latent.unsqueeze(1), pairs
            )
            terms.append(("mi_fine_latent", config.beta2 * config.a1, information))
        if config.beta2 > 0 and config.a2 > 0:
            information = self.coarse_discriminator.information(
                locations(coarse), latent.unsqueeze(1), pairs
            )
            terms.append(("mi_coarse_latent", config.beta2 * config.a2, information))
        if config.beta2 > 0 and config.a3 > 0:
            first = second = locations(coarse)
            if config.coarse_pairing == "all-locations":
                first, second = first.unsqueeze(2), first.unsqueeze(1)
            information = self.map_discriminator.information(first, second, pairs)
            terms.append(("mi_coarse_coarse", config.beta2 * config.a3, information))
        return terms

    def _some_places(self, places: Tensor) -> Tensor:
        """A random subset of a map's locations, the same for the whole batch."""
        count = self.config.fine_locations
        if count is None or count >= places.shape[1]:
            return places
        chosen = torch.randperm(places.shape[1], device=places.device)[:count]
        return places[:, chosen]

    def classification_terms(self, features: Features, labels: Tensor) -> Terms:
        """Cross entropy of the classification phase (Sec. 4.3)."""
        mean, _variance, sample = self.latent(features)
        latent = sample if self.config.classifier_latent == "sample" else mean
        logits = self.classifier(latent.to(features.vector.dtype))
        entropy = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        return {"cross_entropy": entropy}

    def prior_terms(self, features: Features) -> Terms:
        """The adversarial prior's discriminator against uniform samples, as in Deep InfoMax."""
        assert self.prior_discriminator is not None
        with torch.no_grad():
            codes = self.embedding(features).float().sigmoid()
        real = torch.rand_like(codes).requires_grad_()
        real_scores = self.prior_discriminator(real).float()
        fake_scores = self.prior_discriminator(codes).float()
        terms = {"prior_real": F.softplus(-real_scores).mean()}
        terms["prior_fake"] = F.softplus(fake_scores).mean()
        if self.config.gradient_penalty > 0:
            (gradient,) = torch.autograd.grad(real_scores.sum(), real, create_graph=True)
            penalty = gradient.square().sum(dim=1).mean()
            terms["gradient_penalty"] = self.config.gradient_penalty * penalty
        return terms

    def phases(self, backbone: Backbone) -> list[Phase]:
        """Max-min, then classification (Sec. 4.3), by the chosen schedule."""
        encoder = [backbone, self.mean]
        if self.raw_variance is not None:
            encoder.append(self.raw_variance)
        discriminators = nn.ModuleList(
            [
                self.global_discriminator,
                self.fine_discriminator,
                self.coarse_discriminator,
                self.map_discriminator,
            ]
        )
        discriminators.rate = self.config.discriminator_rate  # type: ignore[assignment]
        learners = [*encoder, discriminators]
        if self.class_mean is not None:
            learners.append(self.class_mean)

        def max_min(batch: Batch) -> Terms:
            return self.max_min_terms(batch.features(), batch.labels)

        def classify(batch: Batch) -> Terms:
            return self.classification_terms(batch.features(), batch.labels)

        def joint(batch: Batch) -> Terms:
            return max_min(batch) | classify(batch)

        phases = []
        if self.prior_discriminator is not None:
            phases.append(
                Phase(
                    name="prior",
                    loss=lambda batch: self.prior_terms(batch.features()),
                    updates=(self.prior_discriminator,),
                )
            )
        if self.config.schedule == "joint":
            phases.append(Phase(name="joint", loss=joint, updates=(*learners, self.classifier)))
            return phases
        turns = self.config.schedule == "epoch"
        phases += [
            Phase(
                name="max-min",
                loss=max_min,
                updates=learners,
                active=lambda epoch, _epochs: not turns or epoch % 2 == 0,
            ),
            Phase(
                name="classification",
                loss=classify,
                updates=(*encoder, self.classifier),
                active=lambda epoch, _epochs: not turns or epoch % 2 == 1,
            ),
        ]
        return phases


def _padding(fine: FeatureMap, context: LossContext, config: M2IOSROptions) -> int:
    side = fine.side(context.image_size)
    padding = config.global_padding
    if padding is None:
        padding = 0 if side >= 5 else 1
    if side + 4 * padding < 5:
        raise CompositionError(
            f"m2iosr.fine_map {fine.name} of backbone {context.backbone} has {side}x{side} pixels, "
            "too few for two 3x3 convolutions; set m2iosr.global_padding=1 or choose a larger map"
        )
    return padding
