"""Images on a run's page: samples that it gets wrong, and what a sample generator makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from attrs import frozen

from openset_core.report.data import Integers, RunData, TestSplit
from openset_core.report.formatting import number
from openset_core.report.images import montage, thumbnail
from openset_core.report.run_page.view import View
from openset_core.training.sample_history import read_sample_history

MOST_SAMPLES = 24
MOST_EPOCHS = 4
GENERATED = 36
"""Generated images shown for an epoch; a square."""


@frozen(kw_only=True, eq=False)
class Mistakes:
    """Wrong decisions of one kind, the worst first."""

    title: str
    kind: str  # short name, for files
    samples: Sequence[tuple[TestSplit, int]]  # split and row; at most MOST_SAMPLES
    of: int  # how many there are
    among: int  # how many there could be


def mistakes(run: RunData, scorer: str) -> tuple[Mistakes, ...]:
    """Known samples rejected with the highest scores, unknown ones accepted with the lowest."""
    if run.known is None or scorer not in run.scored:
        return ()
    threshold = run.scorers[scorer].threshold
    kinds = []
    sets = (
        ("Known, but rejected", "known-rejected", (run.known,)),
        ("Unknown, but accepted with the highest confidence", "unknown-accepted", run.unknown),
    )
    for title, kind, splits in sets:
        if not splits:
            continue
        rejected = kind == "known-rejected"
        scores = np.concatenate([split.scores[scorer] for split in splits])
        wrong = np.flatnonzero((scores > threshold) == rejected)
        badness = -scores[wrong] if rejected else scores[wrong]
        worst = wrong[np.argsort(badness, kind="stable")][:MOST_SAMPLES]
        places = [(split, row) for split in splits for row in range(len(split))]
        kinds.append(
            Mistakes(
                title=title,
                kind=kind,
                samples=[places[at] for at in worst],
                of=len(wrong),
                among=len(scores),
            )
        )
    return tuple(kinds)


def images_for(kinds: Sequence[Mistakes]) -> dict[str, Integers]:
    """Numbers of the samples that the galleries show, by split of the feature store."""
    rows: dict[str, list[int]] = {}
    for kind in kinds:
        for split, row in kind.samples:
            rows.setdefault(split.part, []).append(row)
    return {split: np.array(numbers, dtype=np.int64) for split, numbers in rows.items()}


def galleries(view: View) -> list[dict[str, Any]]:
    """A gallery for each kind of mistake: title, kind, count as a sentence, samples in order."""
    made = []
    for kind in mistakes(view.run, view.scorer):
        count = f"{kind.of:,} of {kind.among:,} samples"
        if len(kind.samples) < kind.of:
            count += f"; the first {len(kind.samples)} are shown"
        if not kind.samples:
            count = f"None of {kind.among:,} samples"
        samples = [_sample(view, split, row) for split, row in kind.samples]
        texts = {"title": kind.title, "kind": kind.kind, "count": f"{count}."}
        pictured = [sample for sample in samples if sample["pixels"] is not None]
        made.append({**texts, "samples": samples, "pictured": pictured})
    return made


def _sample(view: View, split: TestSplit, row: int) -> dict[str, Any]:
    true = split.class_name(split.label[row])
    if split.name != "known" and len(view.run.unknown) > 1:
        true = f"{split.name}: {true}"
    pixels = view.images.get(split.part, {}).get(row)
    return {
        "true": true,
        "predicted": view.run.class_names[split.predicted[row]],
        "score": number(float(split.scores[view.scorer][row])),
        "pixels": None if pixels is None else thumbnail(pixels),
    }


def generated(view: View) -> list[Mapping[str, Any]]:
    """What the generator made after the first epoch, the last, and some between them."""
    history = read_sample_history(view.run.folder.sample_history)
    if history is None:
        return []
    count = len(history.epochs)
    chosen = np.unique(np.linspace(0, count - 1, min(count, MOST_EPOCHS)).round().astype(np.int64))
    return [
        {
            "epoch": int(history.epochs[at]),
            "pixels": montage(history.images[at][:GENERATED], columns=int(np.sqrt(GENERATED))),
        }
        for at in chosen
    ]
