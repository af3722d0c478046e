"""What the sections of a run's page look at."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from attrs import field, frozen

from openset_core import metrics
from openset_core.report.data import Floats, Integers, RunData, TestSplit
from openset_core.report.embedding import EmbeddingMap
from openset_core.report.images import Pixels
from openset_core.results.run_results import ScorerResults


@frozen(kw_only=True, eq=False)
class View:
    """A run as its page shows it.

    Attributes:
        run: its recorded data.
        scorer: whose decisions are shown; empty where the run has none.
        map: the embeddings in two dimensions; None where there is none.
        images: of samples in the galleries, uint8 [H, W, C], by split and number within it.
        remarks: what could not be shown, and why, in one sentence each.
    """

    run: RunData
    scorer: str
    map: EmbeddingMap | None
    images: Mapping[str, Mapping[int, Pixels]] = field(factory=dict)
    remarks: tuple[str, ...] = ()

    @property
    def decided(self) -> ScorerResults:
        """Results of the scorer whose decisions are shown."""
        return self.run.scorers[self.scorer]

    @property
    def has_scores(self) -> bool:
        """Whether the scores of that scorer are there for every sample."""
        return self.scorer in self.run.scored

    @property
    def threshold(self) -> float:
        """A score above it means unknown."""
        return self.decided.threshold

    def scores(self, split: TestSplit) -> Floats:
        """Scores of a split by the scorer whose decisions are shown, float64 [n]."""
        return split.scores[self.scorer]

    def decisions(self, split: TestSplit) -> Integers:
        """Predictions over K+1 classes, K = unknown, int64 [n]."""
        if not len(split):
            return np.empty(0, dtype=np.int64)
        return metrics.open_set_predictions(
            self.scores(split), split.predicted, self.threshold, self.run.num_classes
        )


def deciding_scorer(run: RunData) -> str:
    """The scorer whose decisions a page shows unless another is asked for.

    The one that decides in the saved model, if its scores are there, else the first.
    """
    from openset_core.model import artefact

    available = run.scored or tuple(run.scorers)
    if not available:
        return ""
    return artefact.deciding_scorer(artefact.own_scorer(run.folder.model), available)
