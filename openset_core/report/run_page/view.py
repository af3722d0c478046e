"""What the sections of a run's page look at."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen

from openset_core.model.artefact import deciding_scorer, own_scorer
from openset_core.report.data import RunData
from openset_core.report.embedding import EmbeddingMap
from openset_core.report.images import Pixels
from openset_core.results.run_results import ScorerResults


@frozen(kw_only=True, eq=False)
class View:
    """A run as its page shows it."""

    run: RunData
    scorer: str  # whose decisions are shown; empty where the run has none
    map: EmbeddingMap | None  # the embeddings in two dimensions; None where there is none
    # Of samples in the galleries, uint8 [H, W, C], by split and number within it.
    images: Mapping[str, Mapping[int, Pixels]] = field(factory=dict)
    remarks: tuple[str, ...] = ()  # what could not be shown, and why, in one sentence each

    @property
    def decided(self) -> ScorerResults:
        """Results of the scorer whose decisions are shown."""
        return self.run.scorers[self.scorer]

    @property
    def has_scores(self) -> bool:
        """Whether that scorer's scores are there for every sample, and there are known ones."""
        return bool(self.run.known) and self.scorer in self.run.scored

    @property
    def threshold(self) -> float:
        """A score above it means unknown."""
        return self.decided.threshold


def shown_scorer(run: RunData) -> str:
    """The scorer whose decisions a page shows unless another is asked for.

    The one that decides in the saved model, if its scores are there, else the first.
    """
    available = run.scored or tuple(run.scorers)
    return deciding_scorer(own_scorer(run.folder.model), available) if available else ""
