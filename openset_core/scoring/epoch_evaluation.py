"""The test as it stands after an epoch, for curves over training; nothing is chosen by it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from attrs import frozen

from openset_core.components import OpenSetModel
from openset_core.data.loading import Loader, make_loader
from openset_core.data.preparation import UNKNOWN_PREFIX, ExperimentData
from openset_core.experiment.experiment import Experiment
from openset_core.features.extraction import feature_batches
from openset_core.metrics import evaluate
from openset_core.observers import EpochScores
from openset_core.scorer import FeatureTable, UnknownScorer
from openset_core.scoring.fitting import build_scorer, checked_scores
from openset_core.training.checkpoint import preserved_random_state

Table = dict[str, npt.NDArray[Any]]
BATCH_SIZE = 256


@frozen
class TableSource:
    table: Table
    num_classes: int

    @property
    def rows(self) -> int:
        return len(self.table["label"])

    def chunks(self, *arrays: str) -> Iterator[FeatureTable]:
        """The named arrays, all where none is named."""
        yield {name: self.table[name] for name in arrays or self.table}


class EpochEvaluation:
    """Metrics on the test by the network as it is; no statistics or random generators move."""

    def __init__(
        self,
        model: OpenSetModel,
        data: ExperimentData,
        experiment: Experiment,
        device: torch.device,
    ) -> None:
        self.model = model
        self.num_classes = len(data.class_names)
        self.scorers = [
            (component, experiment.options[component.name])
            for component in experiment.selection.scorers
        ]
        image = experiment.protocol.content.image
        names = [name for name in data.splits if name.startswith(UNKNOWN_PREFIX)]
        # Most scorers learn nothing, and then the training split need not pass the network.
        learning = any(
            type(build_scorer(*item)).fit is not UnknownScorer.fit for item in self.scorers
        )
        self.loaders: dict[str, Loader] = {
            name: make_loader(data.splits[name], image, device, BATCH_SIZE)
            for name in (*(["train"] if learning else []), "known", *names)
        }

    def __call__(self) -> dict[str, EpochScores]:
        self.model.eval()
        with preserved_random_state():
            tables = {name: self._table(loader) for name, loader in self.loaders.items()}
            return {item[0].name: self._scored(*item, tables) for item in self.scorers}

    def _table(self, loader: Loader) -> Table:
        rows = list(feature_batches(self.model, loader))
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}

    def _scored(self, component: Any, options: Any, tables: Mapping[str, Table]) -> EpochScores:
        scorer = build_scorer(component, options)
        if "train" in tables:
            scorer.fit(TableSource(tables["train"], self.num_classes))
        scores = {
            name: checked_scores(scorer, table, component, f"split {name}")
            for name, table in tables.items()
            if name != "train"
        }
        known = tables["known"]
        predicted = known["logits"].argmax(axis=1)
        sets = [name for name in scores if name != "known"]

        def against(splits: list[str]) -> dict[str, float]:
            if not splits:
                return {"accuracy": float(np.mean(predicted == known["label"]))}
            return evaluate(
                scores["known"],
                np.concatenate([scores[name] for name in splits]),
                known_predicted=predicted,
                known_labels=known["label"],
                num_classes=self.num_classes,
            )

        return EpochScores(
            metrics=against(sets),
            unknown={name.removeprefix(UNKNOWN_PREFIX): against([name]) for name in sets},
        )
