"""A run folder's recorded data as plain arrays, for pages and figures; no torch, no data sets.

with open_run(Path("runs/mine")) as run:
    known, unknown = run.known, run.unknown  # splits of the test
    curve = open_set_curve(known.scores["msp"], run.pooled("msp"), known.correct)
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from attrs import define, field, frozen

from openset_core.data.preparation import UNKNOWN_PREFIX
from openset_core.errors import RunFolderError, StoreError
from openset_core.features.store import FeatureStore
from openset_core.results.run_results import Results, ScorerResults
from openset_core.run_folder import RunFolder, read_metrics
from openset_core.scoring.fitting import stored_scores
from openset_core.training.generated_samples import read_samples

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@frozen(kw_only=True, eq=False)
class TestSplit:
    """One split of the test: the known samples, or one unknown set."""

    name: str
    part: str
    label: Integers  # int64 [n]; 0..K-1 for known samples, else numbers in the unknown data set
    index: Integers  # row of each sample in its data set, int64 [n]
    predicted: Integers  # class of the largest logit, int64 [n], 0..K-1
    confidence: Floats  # softmax probability of that class, float64 [n]
    scores: Mapping[str, Floats]  # by scorer, float64 [n], higher = more unknown
    class_names: Mapping[int, str]

    __test__ = False  # no test case, whatever pytest thinks of its name

    def __len__(self) -> int:
        return len(self.label)

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        """Whether the predicted class is the true one; for known samples."""
        right: npt.NDArray[np.bool_] = self.predicted == self.label
        return right

    def class_name(self, number: int) -> str:
        """Name of a class in `label`."""
        return self.class_names.get(int(number), f"class {number}")


@define(kw_only=True, eq=False)
class RunData:
    """Everything a run folder recorded."""

    folder: RunFolder
    recorded: Mapping[str, Any]
    results: Results
    history: list[dict[str, Any]]
    store: FeatureStore | None  # the feature store, None where it is gone or damaged
    gaps: list[str] = field(factory=list)

    @property
    def record(self) -> Mapping[str, Any]:
        """What the run wrote down about itself."""
        record: Mapping[str, Any] = self.recorded.get("record", {})
        return record

    @property
    def title(self) -> str:
        """Method and backbone."""
        return f"{self.results.method} on {self.results.backbone}"

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """Names of the known classes, in label order."""
        names = tuple(map(str, self.record.get("classes", ())))
        if self.store is not None and len(names) != self.store.num_classes:
            return tuple(f"class {number}" for number in range(self.store.num_classes))
        return names

    @property
    def scorers(self) -> Mapping[str, ScorerResults]:
        """Results by scorer, in the order of the run."""
        return self.results.scorers

    @cached_property
    def known(self) -> TestSplit | None:
        """The known test samples; None without a feature store."""
        return None if self.store is None else self._split(self.store, "known")

    @cached_property
    def unknown(self) -> tuple[TestSplit, ...]:
        """The unknown sets, in the protocol's order; empty without a feature store."""
        if self.store is None:
            return ()
        names = [split for split in self.store.splits if split.startswith(UNKNOWN_PREFIX)]
        first = next(iter(self.scorers.values()), None)
        order = [UNKNOWN_PREFIX + name for name in first.unknown] if first else []
        names.sort(key=lambda name: order.index(name) if name in order else len(order))
        return tuple(self._split(self.store, name) for name in names)

    def pooled(self, scorer: str) -> Floats:
        """Scores of all unknown sets together, in their order, float64 [m]."""
        return np.concatenate([split.scores[scorer] for split in self.unknown])

    @cached_property
    def scored(self) -> tuple[str, ...]:
        """Scorers whose scores are there for every split of the test."""
        if self.known is None:
            return ()
        splits = (self.known, *self.unknown)
        return tuple(name for name in self.scorers if all(name in s.scores for s in splits))

    @property
    def generated(self) -> npt.NDArray[np.uint8] | None:
        """Samples of its generator, uint8 [N, H, W, C]; None where none are kept."""
        return read_samples(self.folder.samples)

    def embedding(self, split: TestSplit, rows: Integers | None = None) -> npt.NDArray[np.float32]:
        """Embeddings of some rows of a split, ascending, float32 [n, E]; all without `rows`."""
        if self.store is None:
            raise StoreError(f"{self.folder.features} is not there")
        return rows_of(self.store, split.part, "embedding", rows)

    def _split(self, store: FeatureStore, name: str) -> TestSplit:
        predicted, confidence = [], []
        for chunk in store.chunks(name, "logits"):
            logits = chunk["logits"].astype(np.float64)
            shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
            predicted.append(logits.argmax(axis=1))
            confidence.append(1.0 / shifted.sum(axis=1))
        scores = {}
        for scorer in self.scorers:
            stored = stored_scores(self.folder.scores, scorer, name)
            if stored is not None and len(stored) == store.rows(name):
                scores[scorer] = stored
        known = name == "known"
        short = name.removeprefix(UNKNOWN_PREFIX)
        return TestSplit(
            name=short,
            part=name,
            label=store.array(name, "label").astype(np.int64),
            index=store.array(name, "index").astype(np.int64),
            predicted=np.concatenate(predicted).astype(np.int64),
            confidence=np.concatenate(confidence),
            scores=scores,
            class_names=dict(enumerate(self.class_names)) if known else self._unknown_names(short),
        )

    def _unknown_names(self, name: str) -> dict[int, str]:
        recorded = self.record.get("unknown_classes", {}).get(name, {})
        return {int(number): str(text) for number, text in recorded.items()}


def rows_of(
    store: FeatureStore, split: str, array: str, rows: Integers | None = None
) -> npt.NDArray[Any]:
    """Some rows of an array of a store, in ascending order; all of them without `rows`.

    Reads in chunks, so that a few rows of a large array need little memory.
    """
    if rows is None:
        return store.array(split, array)
    wanted = np.sort(rows)
    pieces, start = [], 0
    for chunk in store.chunks(split, array):
        values = chunk[array]
        inside = wanted[(wanted >= start) & (wanted < start + len(values))]
        pieces.append(values[inside - start])
        start += len(values)
    return np.concatenate(pieces)


@contextlib.contextmanager
def open_run(path: Path) -> Iterator[RunData]:
    """Read a finished run; the feature store is open while the block runs.

    Features or scores that are gone are no error: `RunData.gaps` names them.
    """
    folder = RunFolder(path)
    recorded = folder.read()
    history = read_metrics(folder)
    if not folder.results.exists():
        raise RunFolderError(_what_is_missing(folder, recorded, len(history)))
    results = Results.load(folder.results)
    with contextlib.ExitStack() as stack:
        store, gaps = None, []
        try:
            store = stack.enter_context(FeatureStore(folder.features))
        except StoreError as error:
            gaps.append(str(error))
        run = RunData(
            folder=folder,
            recorded=recorded,
            results=results,
            history=history,
            store=store,
            gaps=gaps,
        )
        if store is not None:
            missing = [name for name in results.scorers if name not in run.scored]
            if missing:
                gaps.append(
                    f"{folder.scores} does not hold the scores of {', '.join(missing)}; "
                    f"`openset score {path}` makes them"
                )
        yield run


def _what_is_missing(folder: RunFolder, recorded: Mapping[str, Any], epochs_done: int) -> str:
    path = folder.path
    if (folder.model / "model.toml").exists():
        stage = "extract" if not folder.features.exists() else "score"
        done = "the network is trained" if stage == "extract" else "the features are there"
        return (
            f"{path} is not finished: {done}, but it has no results.json; "
            f"`openset run {path}` does what is missing"
        )
    epochs = recorded.get("training", {}).get("epochs", "?")
    return (
        f"{path} is not finished: {epochs_done} of {epochs} epochs are trained and it has no "
        f"results.json; `openset run {path}` goes on with it"
    )
