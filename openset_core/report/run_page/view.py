"""What the topics of a run's page look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from attrs import field, frozen

from openset_core.metrics import open_set as metrics
from openset_core.report.data import Floats, Integers, RunData, TestSplit
from openset_core.report.embedding import EmbeddingMap
from openset_core.report.images import Pixels
from openset_core.results.run_results import ScorerResults

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Figures: TypeAlias = "Iterator[tuple[str, Figure]]"
"""File names without suffix, and the figures; drawn one by one within `style.paper_style`."""

TOO_MANY_NAMES = 25
"""From so many classes on a page no longer names each."""


@frozen(kw_only=True, eq=False)
class View:
    """A run as its page shows it.

    Attributes:
        run: its recorded data.
        scorer: whose decisions are shown; empty where the run has none.
        map: the embeddings in two dimensions; None where there is none.
        images: of samples that the galleries show, uint8 [H, W, C], by part and number within it.
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

    def scores(self, part: TestSplit) -> Floats:
        """Scores of a part by the scorer whose decisions are shown, float64 [n]."""
        return part.scores[self.scorer]

    def decisions(self, part: TestSplit) -> Integers:
        """Predictions over K+1 classes, K = unknown, int64 [n]."""
        if not len(part):
            return np.empty(0, dtype=np.int64)
        return metrics.open_set_predictions(
            self.scores(part), part.predicted, self.threshold, self.run.num_classes
        )


def deciding_scorer(run: RunData) -> str:
    """The scorer whose decisions a page shows unless another is asked for.

    The one that decides in the saved model, if its scores are there, else the first.
    """
    from openset_core.errors import OpensetError
    from openset_core.model.artefact import read_description

    try:
        own = read_description(run.folder.model).scorer
    except OpensetError:  # the model may be gone; the page does not need it
        own = ""
    there = run.scored or tuple(run.scorers)
    return own if own in there else next(iter(there), "")
