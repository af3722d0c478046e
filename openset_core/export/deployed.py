"""What an exported file computes, as one module."""

from __future__ import annotations

import attrs
import torch
from torch import Tensor, nn

from openset_core.components import OpenSetModel
from openset_core.data.loading import PixelScale
from openset_core.errors import ModelError
from openset_core.inference import FittedScorer, TrainedModel

OUTPUTS = ("probabilities", "score", "unknown", "label")


class Deployed(nn.Module):
    """From pixels to a decision.

    The score is computed in float64, as the run computed it, so that the stored threshold cuts at
    the same place.

    Args:
        network: backbone and loss in evaluation mode.
        scale: preprocessing of pixels.
        scorer: the fitted scorer's torch form.
    """

    def __init__(self, network: OpenSetModel, scale: PixelScale, scorer: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.scorer = scorer
        self.register_buffer("factor", scale.factor)
        self.register_buffer("offset", scale.offset)
        self.factor: Tensor
        self.offset: Tensor

    def forward(self, images: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Judge images.

        Args:
            images: uint8 [N, C, size, size], RGB or grey, already of the model's size.
            threshold: float64 scalar; a score above it means unknown.

        Returns:
            probabilities of the known classes, float32 [N, K]; score, float64 [N], higher = more
            unknown; unknown, bool [N]; label, int64 [N], -1 for unknown.
        """
        embedding, logits = self.network(images.float() * self.factor + self.offset)
        embedding, logits = embedding.float(), logits.float()
        score = self.scorer({"embedding": embedding, "logits": logits})
        unknown = score > threshold
        label = torch.where(unknown, -1, logits.argmax(dim=1))
        return logits.softmax(dim=1), score, unknown, label


@attrs.frozen(kw_only=True, eq=False)
class ToExport:
    """A model and the scorer that is to be exported with it."""

    model: TrainedModel
    fitted: FittedScorer
    module: Deployed

    @property
    def threshold(self) -> float:
        """The stored threshold."""
        return self.fitted.record.threshold


def deployed(model: TrainedModel, scorer: str | None = None) -> ToExport:
    """A model and one of its scorers as one module, on the CPU.

    Args:
        model: loaded on the CPU.
        scorer: a fitted scorer; the one that decides by default.

    Raises:
        ModelError: the scorer has no torch form; those of the run that have one are named.
    """
    fitted = model.fitted(scorer)
    form = fitted.scorer.torch_module()
    if form is None:
        able = [
            name
            for name in model.scorer_names
            if model.fitted(name).scorer.torch_module() is not None
        ]
        advice = (
            f"of this run's scorers {' and '.join(able)} can, by --scorer {able[0]}"
            if able
            else "none of this run's scorers can; `openset score RUN --plugins NAME` adds others"
        )
        raise ModelError(
            f"scorer {fitted.part.name} of {fitted.part.distribution} {fitted.part.version} "
            f"cannot be exported; {advice}"
        )
    module = Deployed(model.network, model.pixel_scale, form).eval()
    return ToExport(model=model, fitted=fitted, module=module)
