"""What the tests' plugin builds."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openset_core import (
    Backbone,
    BackboneContext,
    Batch,
    FeatureMap,
    Features,
    LossContext,
    NoOptions,
    Observer,
    Phase,
    RepresentationLoss,
    RunEvent,
)
from openset_tiny import TinyOptions, TurnsOptions


class Tiny(Backbone):
    """Two strided convolutions with batch normalisation."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.vector_dim = 2 * width
        self.feature_info = (
            FeatureMap(name="half", channels=width, reduction=2),
            FeatureMap(name="eighth", channels=2 * width, reduction=8),
        )
        self.first = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.second = nn.Sequential(
            nn.Conv2d(width, 2 * width, 5, stride=4, padding=2),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
        )

    def forward(self, images: Tensor) -> Features:
        """Vector and two maps."""
        time.sleep(float(os.environ.get("OPENSET_TINY_SLEEP", "0")))
        _die_if_asked()
        if not self.training:
            self._trace()
        half = self.first(images)
        eighth = self.second(half)
        return Features(eighth.mean(dim=(2, 3)), {"half": half, "eighth": eighth})

    def _trace(self) -> None:
        folder = os.environ.get("OPENSET_TINY_TRACE")
        if folder:
            digest = hashlib.sha256()
            for parameter in self.parameters():
                digest.update(parameter.detach().numpy().tobytes())
            Path(folder, os.environ.get("RANK", "none")).write_text(digest.hexdigest())


def _die_if_asked() -> None:
    """As if the operating system had killed the process."""
    file = os.environ.get("OPENSET_TINY_KILL")
    if file and os.path.exists(file):
        with contextlib.suppress(FileNotFoundError):  # another process was first
            os.unlink(file)
            os.kill(os.getpid(), signal.SIGKILL)


class Turns(RepresentationLoss):
    """Cross entropy in a first phase, small weights in a second."""

    def __init__(self, config: TurnsOptions, context: LossContext) -> None:
        super().__init__()
        self.config = config
        self.classifier = nn.Linear(context.vector_dim, context.num_classes)
        self.epoch, self.step = -1, 0

    def logits(self, features: Features) -> Tensor:
        """Class scores."""
        return self.classifier(features.vector)

    def phases(self, backbone: Backbone) -> list[Phase]:
        """`first` trains everything, `second` the classifier."""
        return [
            Phase(name="first", loss=self._first, updates=(backbone, self.classifier)),
            Phase(name="second", loss=self._second, updates=(self.classifier,)),
        ]

    def _first(self, batch: Batch) -> dict[str, Tensor]:
        self.step = self.step + 1 if batch.epoch == self.epoch else 1
        self.epoch = batch.epoch
        logits = self.logits(batch.features())
        again = self.logits(batch.features())  # asked twice, computed once
        return self._spoilt({"fit": F.cross_entropy((logits + again) / 2, batch.labels)})

    def _second(self, batch: Batch) -> dict[str, Tensor]:
        weight = self.classifier.weight
        return self._spoilt(
            {
                "centre": 0.01 * self.logits(batch.features()).mean().square(),
                "small": 0.01 * weight.square().mean(),
            }
        )

    def _spoilt(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        config = self.config
        if (self.epoch + 1, self.step) == (config.nan_epoch, config.nan_step):
            terms = {
                name: term * torch.nan if name == config.nan_term else term
                for name, term in terms.items()
            }
        return terms


class EventLog(Observer):
    """Writes down every event's name."""

    def __init__(self, _config: NoOptions, folder: Path) -> None:
        self.path = folder / "events.log"

    def receive(self, event: RunEvent) -> None:
        """Add a line."""
        self._add(type(event).__name__)

    def close(self) -> None:
        """Add a last line."""
        self._add("closed")

    def _add(self, line: str) -> None:
        with self.path.open("a") as stream:
            stream.write(line + "\n")


def build_backbone(config: TinyOptions, context: BackboneContext) -> Tiny:
    """Build the backbone."""
    return Tiny(config.width, context.channels)


def build_loss(config: TurnsOptions, context: LossContext) -> Turns:
    """Build the loss."""
    return Turns(config, context)
