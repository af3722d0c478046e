"""Base classes of the components that learn, and the phase: the one idea of the training loop.

A backbone turns images into `Features`; a representation loss owns the head and the
objective; a sample generator makes samples of the open space. Each training step runs a
list of phases in order, every phase with its own optimiser. Unknown scorers read stored
features and need no torch: see `openset_core.scorer`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import attrs
import torch.nn.functional as F
from torch import Tensor, nn

from openset_core.auxiliary_batchnorm import without_auxiliary_batchnorm
from openset_core.errors import CompositionError

Terms = dict[str, Tensor]
"""Named scalar terms of a loss; their sum is what a phase minimises."""


# --- features -----------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class FeatureMap:
    """One feature map of a backbone.

    Attributes:
        name: key in `Features.maps`.
        channels: number of channels.
        reduction: input pixels for each pixel of the map, along one side.
    """

    name: str
    channels: int
    reduction: int

    def side(self, image_size: int) -> int:
        """Height and width of the map for square images of this size."""
        return image_size // self.reduction


class Features(NamedTuple):
    """What a backbone makes of a batch of images.

    Attributes:
        vector: float [B, D].
        maps: name to float [B, C_i, H_i, W_i].
    """

    vector: Tensor
    maps: dict[str, Tensor]


# --- backbone -----------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class BackboneContext:
    """What a backbone's factory is told.

    Attributes:
        channels: channels of the images.
        image_size: height and width of the images in pixels.
        pixel_mean: mean that preprocessing subtracts, one for all channels or for each;
            images are in [0, 1] before it.
        pixel_std: deviation that preprocessing divides by, likewise.
        initial_weights: false when the weights of a finished model are loaded next, so that
            nothing needs to be fetched or read to start from.
    """

    channels: int
    image_size: int
    pixel_mean: tuple[float, ...] = (0.0,)
    pixel_std: tuple[float, ...] = (1.0,)
    initial_weights: bool = True


class Backbone(nn.Module):
    """A network from images to features, without a classifier head.

    A subclass sets these attributes and implements `forward`.

    Attributes:
        vector_dim: D, length of the feature vector.
        feature_info: the maps that `forward` returns; empty when there are none.
        rate: factor on the learning rate of all parameters of this backbone.
    """

    vector_dim: int
    feature_info: tuple[FeatureMap, ...] = ()
    rate: float = 1.0

    def forward(self, images: Tensor) -> Features:
        """Compute features.

        Args:
            images: float [B, C, H, W], preprocessed.
        """
        raise NotImplementedError


# --- phases -------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class OptimizerRecipe:
    """How one phase is optimised; what is None follows the experiment's training options.

    Attributes:
        optimizer: `"sgd"`, `"adam"` or `"adamw"`.
        lr: learning rate before the schedule.
        momentum: of SGD.
        betas: of Adam.
        weight_decay: L2 penalty (SGD, Adam) or decoupled decay (AdamW).
        schedule: name of the schedule, `"constant"` to leave the rate alone.
    """

    optimizer: str | None = None
    lr: float | None = None
    momentum: float | None = None
    betas: tuple[float, float] | None = None
    weight_decay: float | None = None
    schedule: str | None = None


class Batch:
    """One batch of known training samples, as a phase sees it.

    Attributes:
        images: float [B, C, H, W], augmented and preprocessed.
        labels: int64 [B], 0..K-1.
        epoch: epoch from 0.
        epochs: number of epochs of the run.
        memo: notes that phases of the same step leave for each other.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        backbone: Backbone,
        epoch: int = 0,
        epochs: int = 1,
        memo: dict[str, Any] | None = None,
        features: Features | None = None,
    ) -> None:
        self.images = images
        self.labels = labels
        self.epoch = epoch
        self.epochs = epochs
        self.memo = {} if memo is None else memo
        self._backbone = backbone
        self._features = features

    def features(self) -> Features:
        """Features of the batch; the backbone runs once a phase, however often this is asked."""
        if self._features is None:
            self._features = self._backbone(self.images)
        return self._features

    def with_features(self, features: Features) -> Batch:
        """The same batch with features that were computed elsewhere, for a wrapped phase."""
        return Batch(
            self.images,
            self.labels,
            backbone=self._backbone,
            epoch=self.epoch,
            epochs=self.epochs,
            memo=self.memo,
            features=features,
        )


def _every_epoch(_epoch: int, _epochs: int) -> bool:
    return True


@attrs.frozen(kw_only=True)
class Phase:
    """One part of a training step: what it minimises and what it updates.

    Attributes:
        name: unique among the phases of a run; stands before its terms in logs.
        loss: called with the batch, returns named scalar terms; their sum is minimised.
            Terms must already carry their weights.
        updates: modules or parameters that the phase's optimiser changes. Everything else
            is frozen while the phase runs; gradients pass through it.
        optimizer: recipe of the phase's own optimiser.
        active: called with (epoch, epochs), tells whether the phase runs in that epoch.
        shares_optimizer: name of an earlier phase with the same `updates` whose optimiser this
            phase uses, momentum included; then `optimizer` does not count.
        keeps_graph: modules that stay trainable while the phase runs although it does not
            update them, so that a later phase can go back through what this one computed.
    """

    name: str
    loss: Callable[[Batch], Terms]
    updates: Sequence[nn.Module | nn.Parameter]
    optimizer: OptimizerRecipe = OptimizerRecipe()
    active: Callable[[int, int], bool] = _every_epoch
    shares_optimizer: str | None = None
    keeps_graph: Sequence[nn.Module] = ()


# --- representation loss --------------------------------------------------------------------


class Landmarks(NamedTuple):
    """Points that a loss keeps in the space of its embedding, such as one prototype a class.

    Attributes:
        points: float [P, E].
        labels: the class that each point belongs to, int64 [P], 0..K-1.
        name: what the method calls one of them, in the singular.
    """

    points: Tensor
    labels: Tensor
    name: str


@attrs.frozen(kw_only=True)
class LossContext:
    """What a representation loss's factory is told about its partners.

    Attributes:
        num_classes: K, number of known classes.
        vector_dim: D, length of the backbone's feature vector.
        maps: the backbone's feature maps.
        image_size: height and width of the images in pixels.
        channels: channels of the images.
        backbone: name of the backbone, for messages.
        label_smoothing: share of the target that cross entropy spreads evenly over all K
            classes; above 0 only for a loss whose spec provides `label smoothing`.
    """

    num_classes: int
    vector_dim: int
    maps: tuple[FeatureMap, ...] = ()
    image_size: int = 32
    channels: int = 3
    backbone: str = "the backbone"
    label_smoothing: float = 0.0

    def map(self, selector: str, asked_by: str) -> FeatureMap:
        """The feature map that an option names.

        Args:
            selector: a map's name; `reduction=N` for the last map of that reduction; or
                `nearest=N` for the map whose reduction is nearest to N by ratio, the finer of
                two that are equally near.
            asked_by: option that asks, for the message (`"m2iosr.local_map"`).

        Raises:
            CompositionError: the backbone has no such map; names those it has.
        """
        for candidate in reversed(self.maps):
            if selector in (candidate.name, f"reduction={candidate.reduction}"):
                return candidate
        wish, _, number = selector.partition("=")
        if wish == "nearest" and number.isdigit() and int(number) > 0 and self.maps:
            target = math.log(int(number))
            return min(
                reversed(self.maps),
                key=lambda item: (abs(math.log(item.reduction) - target), item.reduction),
            )
        have = ", ".join(f"{m.name} (reduction={m.reduction})" for m in self.maps) or "none"
        raise CompositionError(
            f"{asked_by} asks for the feature map {selector!r}, which backbone {self.backbone} "
            f"does not provide; its maps are: {have}"
        )


class RepresentationLoss(nn.Module):
    """A head and its training objective on top of any backbone.

    A subclass implements `logits` and either `loss` (one phase) or `phases`.

    Attributes:
        training_only: names of submodules and parameters that only training needs; the
            saved model leaves them out.
    """

    training_only: tuple[str, ...] = ()

    def phases(self, backbone: Backbone) -> list[Phase]:
        """The phases of a training step; by default one, which minimises `loss`."""
        return [
            Phase(
                name="classification",
                loss=lambda batch: self.loss(batch.features(), batch.labels),
                updates=(backbone, self),
            )
        ]

    def loss(self, features: Features, labels: Tensor) -> Terms:
        """Weighted scalar terms of the objective.

        Args:
            features: of the batch.
            labels: int64 [B].
        """
        raise NotImplementedError(f"{type(self).__name__} defines neither loss nor phases")

    def logits(self, features: Features) -> Tensor:
        """Class scores at test time, float [B, K]; softmax over them gives probabilities."""
        raise NotImplementedError

    def embedding(self, features: Features) -> Tensor:
        """What the feature store keeps, float [B, E]; by default the backbone's vector."""
        return features.vector

    def landmarks(self) -> Landmarks | None:
        """Points that the method keeps in the embedding's space, for pictures; None without."""
        return None

    def learned_scalars(self) -> dict[str, float]:
        """Single numbers that are learned and tell something by themselves, such as a margin."""
        # `learnt` is the old name of this method; a loss that has it keeps working.
        old: Callable[[], dict[str, float]] | None = getattr(self, "learnt", None)
        return {} if old is None else old()

    def open_space(self, features: Features) -> Tensor:
        """How much a sample lies outside the open space, float [B]; a generator lowers it.

        By default the negative entropy of the class probabilities: least for a sample
        that every class finds equally likely.
        """
        log_probabilities = F.log_softmax(self.logits(features).float(), dim=1)
        return (log_probabilities.exp() * log_probabilities).sum(dim=1)


# --- sample generator -----------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class GeneratorContext:
    """What a sample generator's factory is told about its partners.

    Attributes:
        num_classes: K, number of known classes.
        channels: channels of the images.
        image_size: height and width of the images in pixels.
        pixel_mean: mean that preprocessing subtracts, for each channel; images are in
            [0, 1] before it.
        pixel_std: deviation that preprocessing divides by, for each channel.
    """

    num_classes: int
    channels: int
    image_size: int
    pixel_mean: tuple[float, ...]
    pixel_std: tuple[float, ...]


class SampleGenerator(nn.Module):
    """Makes samples of the open space while the classifier trains; left out of the model."""

    def sample(self, count: int) -> Tensor:
        """Generated images in the model's input space, float [count, C, H, W]."""
        raise NotImplementedError

    def phases(
        self, backbone: Backbone, loss: RepresentationLoss, phases: list[Phase]
    ) -> list[Phase]:
        """The phases of a step with this generator.

        Args:
            backbone: the network that is trained.
            loss: the representation loss.
            phases: the loss's own phases, to be kept, wrapped, preceded or followed.
        """
        raise NotImplementedError


# --- the whole ------------------------------------------------------------------------------


class OpenSetModel(nn.Module):
    """Backbone and representation loss, and a generator while training."""

    def __init__(
        self,
        backbone: Backbone,
        loss: RepresentationLoss,
        generator: SampleGenerator | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.loss = loss
        self.generator = generator

    def phases(self) -> list[Phase]:
        """The phases of a training step, in order.

        Raises:
            CompositionError: two phases share a name.
        """
        phases = self.loss.phases(self.backbone)
        if self.generator is not None:
            phases = self.generator.phases(self.backbone, self.loss, phases)
        names = [phase.name for phase in phases]
        if len(set(names)) < len(names):
            raise CompositionError(f"phases must have different names, not {', '.join(names)}")
        return phases

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Embedding [B, E] and logits [B, K] of preprocessed images [B, C, H, W]."""
        features = self.backbone(images)
        return self.loss.embedding(features), self.loss.logits(features)

    def for_inference(self) -> OpenSetModel:
        """Drop what only training needs, switch to evaluation, and return the model."""
        self.generator = None
        for name in self.loss.training_only:
            owner, _, attribute = name.rpartition(".")
            delattr(self.loss.get_submodule(owner), attribute)
        without_auxiliary_batchnorm(self)
        return self.eval()

    def parameter_count(self) -> int:
        """Number of trainable and frozen parameters, buffers excluded."""
        return sum(parameter.numel() for parameter in self.parameters())
