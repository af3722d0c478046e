"""OpenMax's score as a torch module, for export; see `openmax.py` for what each step means."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from openset_plugins.openmax.openmax import EUCOS_DIVISOR, OpenMaxFit


class OpenMaxModule(nn.Module):
    """Unknown class's probability or log-odds after revision (Algorithm 2).

    Args:
        fit: a fitted OpenMax.
        form: `"probability"` or `"log_odds"`.
    """

    def __init__(self, fit: OpenMaxFit, form: str) -> None:
        super().__init__()
        self.form = form
        self.distance = fit.parameters.distance
        self.negative = fit.parameters.negative
        self.shift = fit.parameters.shift
        self.alpha = fit.alpha
        for name, array in (
            ("means", fit.means),
            ("shape", fit.weibull.shape),
            ("log_scale", fit.weibull.log_scale),
            ("place", fit.weibull.offset),
        ):
            self.register_buffer(name, torch.from_numpy(array.copy()))
        ranks = torch.arange(self.alpha, dtype=torch.float64)
        self.register_buffer("rank_weight", (self.alpha - ranks) / self.alpha)
        self.means: Tensor
        self.shape: Tensor
        self.log_scale: Tensor
        self.place: Tensor
        self.rank_weight: Tensor

    def forward(self, table: Mapping[str, Tensor]) -> Tensor:
        """Scores of a table with `logits` [n, K], float64 [n]."""
        v = table["logits"].double()
        # Of equal logits the lower class comes first: on a CPU torch keeps their order although
        # it is not asked to (ONNX has no operator for the asking), and ONNX's TopK promises it.
        top_v, top = torch.sort(v, dim=1, descending=True)
        top_v, top = top_v[:, : self.alpha], top[:, : self.alpha]
        w = self._cdf(self._distances(v, self.means[top]), top)
        if self.negative == "shift":
            lift = (-top_v.mean(dim=1, keepdim=True)).clamp_min(0.0)
            v, top_v = v + lift, top_v + lift
        movable = top_v if self.negative == "keep" else top_v.clamp_min(0.0)
        moved = self.rank_weight * w * movable
        known = v.scatter(1, top, top_v - moved)
        odds = moved.sum(dim=1) - known.logsumexp(dim=1)
        return odds.sigmoid() if self.form == "probability" else odds

    def _distances(self, v: Tensor, centres: Tensor) -> Tensor:
        """Distances [n, m] of rows [n, K] to centres [n, m, K]."""
        rows = v[:, None, :]
        euclidean = (centres - rows).square().sum(dim=2).sqrt()
        if self.distance == "euclidean":
            return euclidean
        lengths = centres.square().sum(dim=2).sqrt() * rows.square().sum(dim=2).sqrt()
        product = (centres * rows).sum(dim=2)
        cosine = torch.where(lengths > 0, product / torch.where(lengths > 0, lengths, 1.0), 0.0)
        apart = 1.0 - cosine.clamp(-1.0, 1.0)
        return apart if self.distance == "cosine" else apart + euclidean / EUCOS_DIVISOR

    def _cdf(self, distance: Tensor, top: Tensor) -> Tensor:
        """The fitted Weibulls' CDF, [n, m]."""
        shape = self.shape[top]
        excess = ((distance - self.place[top]) / self.shift).clamp_min(-1.0)
        log_ratio = excess.log1p() - self.log_scale[top]
        step = torch.isinf(shape)
        below = torch.where(log_ratio <= 0, float("-inf"), float("inf")).double()
        log_hazard = torch.where(step, below, torch.where(step, 1.0, shape) * log_ratio)
        return -torch.expm1(-log_hazard.exp())
