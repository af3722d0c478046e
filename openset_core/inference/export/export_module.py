"""An exported file's computation, as one module."""

from __future__ import annotations

import copy

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openset_core.components import OpenSetModel
from openset_core.data.loading import PixelScale
from openset_core.errors import ModelError
from openset_core.experiment.protocol import ImageOptions
from openset_core.inference.trained_model import FittedScorer, TrainedModel

OUTPUTS = ("probabilities", "score", "unknown", "label")


class Resize(nn.Module):
    """Images of any size in the model's, by what training did with its images."""

    def __init__(self, image: ImageOptions) -> None:
        super().__init__()
        self.image = image

    def forward(self, images: Tensor) -> Tensor:
        """Whole numbers from 0 to 255 as float [N, C, H, W], and the same [N, C, size, size]."""
        if self.image.fit != "stretch":
            height, width = images.shape[2:]
            side = torch.sym_min(height, width)
            # Not a slice: what is traced from one holds for images that are not square only.
            along = torch.arange(side, device=images.device)
            images = images.index_select(2, along + (height - side) // 2)
            images = images.index_select(3, along + (width - side) // 2)
        size = (self.image.size, self.image.size)
        mode = self.image.interpolation
        resized = F.interpolate(images, size=size, mode=mode, antialias=mode != "nearest")
        return resized.round().clamp(0, 255)  # as 8-bit images are


class ExportModule(nn.Module):
    """From pixels to a decision.

    The score is computed in float64, as the run computed it, so that the stored threshold cuts at
    the same place.

    """

    def __init__(
        self, network: OpenSetModel, resize: Resize, scale: PixelScale, scorer: nn.Module
    ) -> None:
        super().__init__()
        self.network = network
        self.resize = resize
        self.scorer = scorer
        self.register_buffer("factor", scale.factor)
        self.register_buffer("offset", scale.offset)
        self.factor: Tensor
        self.offset: Tensor

    def forward(self, images: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Probabilities, score, unknown and label of uint8 images [N, C, H, W] of any size.

        float32 [N, K]; float64 [N], higher = more unknown; bool [N], whether the score is above the
        float64 scalar threshold; int64 [N], -1 for unknown.
        """
        pixels = self.resize(images.float())
        embedding, logits = self.network(pixels * self.factor + self.offset)
        embedding, logits = embedding.float(), logits.float()
        score = self.scorer({"embedding": embedding, "logits": logits})
        unknown = score > threshold
        label = torch.where(unknown, -1, logits.argmax(dim=1))
        return logits.softmax(dim=1), score, unknown, label


@attrs.frozen(kw_only=True, eq=False)
class PreparedExport:
    """A model and the scorer that is to be exported with it."""

    model: TrainedModel
    fitted: FittedScorer
    module: ExportModule

    @property
    def threshold(self) -> float:
        return self.fitted.record.threshold


def prepare_export(model: TrainedModel, scorer: str | None = None) -> PreparedExport:
    """A model loaded on the CPU and one of its scorers as one module."""
    fitted = model.fitted(scorer)
    scorer_module = fitted.scorer.torch_module()
    if scorer_module is None:
        exportable = [
            name
            for name in model.scorer_names
            if model.fitted(name).scorer.torch_module() is not None
        ]
        advice = (
            f"of this run's scorers {' and '.join(exportable)} can, by --scorer {exportable[0]}"
            if exportable
            else "none of this run's scorers can; `openset score RUN --plugins NAME` adds others"
        )
        component = fitted.component
        raise ModelError(
            f"scorer {component.name} of {component.distribution} {component.version} cannot be "
            f"exported; {advice}"
        )
    resize = Resize(model.description.image)
    # A copy, whose answers carry no gradient: a .pt2 file's would not turn into NumPy arrays.
    network = copy.deepcopy(model.network).requires_grad_(False)
    module = ExportModule(network, resize, model.pixel_scale, scorer_module).eval()
    return PreparedExport(model=model, fitted=fitted, module=module)
