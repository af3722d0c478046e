"""Fit scorers on training features, apply them to every split, keep the scores.

    scores.h5: /SCORER/ attrs key; /SCORER/SPLIT/score float64 [n]

Scores are kept beside the feature store, not in it: adding a scorer then rewrites a small
file whole instead of changing a large one in place, where a kill could cost the features.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import h5py
import numpy as np
import numpy.typing as npt

from openset_core.errors import CompositionError, PluginError, StoreError
from openset_core.experiment import config
from openset_core.experiment.threshold import ThresholdChoice
from openset_core.features.store import FeatureStore, StoredSplit
from openset_core.files import atomic_write
from openset_core.model.artefact import (
    ComponentRecord,
    ScorerRecord,
    load_scorer,
    save_record,
    save_scorer,
)
from openset_core.registry import Component
from openset_core.scorer import FeatureTable, UnknownScorer

FORMAT = "openset-scores-1"
Scores = dict[str, npt.NDArray[np.float64]]


@attrs.frozen
class ScoredRun:
    """Scores by split, and the threshold above which a sample is unknown."""

    scores: Scores
    threshold: float
    reused: bool  # the scores were there already
    rethresholded: bool = False  # only the threshold was set anew


def build_scorer(component: Component, options: Any) -> UnknownScorer:
    made = component.load()(options)
    if not isinstance(made, UnknownScorer):
        raise PluginError(f"{component.title} built a {type(made).__name__}, not an UnknownScorer")
    return made


def file_name(scorer: str) -> str:
    return scorer.replace(":", "_").replace("/", "_")


def score_key(store: FeatureStore, component: Component, options: Any) -> str:
    made_by = [component.distribution, component.version, component.name]
    values = [store.key, *made_by, config.unstructure(options)]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def score_run(
    store: FeatureStore,
    model_folder: Path,
    scores_path: Path,
    component: Component,
    options: Any,
    threshold: ThresholdChoice,
) -> ScoredRun:
    """Scores of one scorer; fitted and computed only if they are not there yet."""
    _check_reads(component, store)
    key = score_key(store, component, options)
    stored = _read(scores_path, component.name, key, store)
    name = file_name(component.name)
    wanted = ComponentRecord(
        name=component.name,
        distribution=component.distribution,
        version=component.version,
        options=config.unstructure(options),
    )
    saved = load_scorer(model_folder, name) if stored else None
    if stored and saved and (saved[0].features, saved[0].scorer) == (store.key, wanted):
        record = _with_threshold(saved[0], threshold, stored)
        if record != saved[0]:
            save_record(model_folder, name, record)
        return ScoredRun(stored, record.threshold, True, rethresholded=record != saved[0])
    scorer = build_scorer(component, options)
    with attribute_errors(component, "cannot be fitted"):
        scorer.fit(StoredSplit(store, "train", scorer.reads))
    scores = {name: apply_scorer(scorer, store, name, component) for name in store.splits}
    record = ScorerRecord(scorer=wanted, features=store.key, threshold=0.0, state_sha256="")
    record = _with_threshold(record, threshold, scores)
    save_scorer(model_folder, name, scorer.state(), record)
    _write(scores_path, component.name, key, scores)
    return ScoredRun(scores, record.threshold, reused=False)


def _check_reads(scorer: Component, store: FeatureStore) -> None:
    available = store.arrays("train")
    missing = [name for name in getattr(scorer.load(), "reads", ()) if name not in available]
    if missing:
        raise CompositionError(
            f"scorer {scorer.name} reads {', '.join(missing)}, which the feature store does not "
            f"hold; it has {', '.join(available)}"
        )


def _with_threshold(record: ScorerRecord, choice: ThresholdChoice, scores: Scores) -> ScorerRecord:
    return attrs.evolve(
        record, threshold=choice.value(scores["validation"]), acceptance=choice.acceptance
    )


def stored_scores(path: Path, scorer: str, split: str) -> npt.NDArray[np.float64] | None:
    """Scores of one split that a scores file holds, whatever they were made from; None without."""
    with contextlib.suppress(OSError, KeyError, RuntimeError), h5py.File(path, "r") as file:
        if file.attrs.get("format") == FORMAT:
            return np.asarray(file[file_name(scorer)][split]["score"][:], dtype=np.float64)
    return None


@contextlib.contextmanager
def attribute_errors(component: Component, what: str) -> Iterator[None]:
    """Turn a scorer's complaint about its input into one sentence that names the scorer."""
    try:
        yield
    except ValueError as error:
        raise PluginError(f"{component.title} {what}: {error}") from error


def apply_scorer(
    scorer: UnknownScorer, store: FeatureStore, name: str, component: Component
) -> npt.NDArray[np.float64]:
    return np.concatenate(
        [
            checked_scores(scorer, chunk, component, f"split {name}")
            for chunk in store.chunks(name, *scorer.reads)
        ]
    )


def checked_scores(
    scorer: UnknownScorer, table: FeatureTable, component: Component, where: str
) -> npt.NDArray[np.float64]:
    """Scores of the rows of a table; `where` says in errors what the rows are."""
    with attribute_errors(component, f"cannot score {where}"):
        scores = np.asarray(scorer.score(table), dtype=np.float64)
    rows = len(next(iter(table.values())))
    if scores.shape != (rows,) or not np.isfinite(scores).all():
        same = scores.shape == (rows,)
        problem = "infinite or NaN scores" if same else f"scores of shape {list(scores.shape)}"
        raise PluginError(f"{component.title} returned {problem} for {rows} samples of {where}")
    return scores


def _read(path: Path, scorer: str, key: str, store: FeatureStore) -> Scores | None:
    """Stored scores under this key; None when there are none, or the file is no use."""
    if not path.exists():
        return None
    with contextlib.suppress(OSError, KeyError, RuntimeError), h5py.File(path, "r") as file:
        group = file[file_name(scorer)]
        if file.attrs.get("format") == FORMAT and group.attrs.get("key") == key:
            scores = {name: group[name]["score"][:] for name in store.splits}
            if all(len(scores[name]) == store.rows(name) for name in store.splits):
                return scores
    return None


def _write(path: Path, scorer: str, key: str, scores: Mapping[str, Any]) -> None:
    with atomic_write(path) as temporary:
        sound = path.exists() and h5py.is_hdf5(path)
        if sound:
            shutil.copyfile(path, temporary)
        try:
            _fill(temporary, "r+" if sound else "w", scorer, key, scores)
        except (OSError, KeyError, RuntimeError) as error:
            if not sound:
                raise
            try:  # the old file was damaged: its scores are computed again when asked for
                _fill(temporary, "w", scorer, key, scores)
            except KeyError:
                raise StoreError(f"{path} is damaged; delete it") from error


def _fill(path: Path, mode: str, scorer: str, key: str, scores: Mapping[str, Any]) -> None:
    with h5py.File(path, mode) as file:
        file.attrs["format"] = FORMAT
        if file_name(scorer) in file:
            del file[file_name(scorer)]
        group = file.create_group(file_name(scorer))
        group.attrs["key"] = key
        for name, values in scores.items():
            # The checksum makes changed numbers an error when they are read.
            group.create_group(name).create_dataset("score", data=values, fletcher32=True)
