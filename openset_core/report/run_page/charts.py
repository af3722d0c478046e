"""The charts of a run's page, and the same charts as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np

from openset_core.metrics import confusion_matrix, open_set_curve
from openset_core.report.charts.confusion import MOST_NAMED, Confusion, confusion_chart
from openset_core.report.charts.curves import NamedCurve, oscr_chart, roc_chart
from openset_core.report.charts.embedding import embedding_chart
from openset_core.report.charts.histograms import Histogram, histogram, histogram_chart
from openset_core.report.charts.images import image_grid
from openset_core.report.charts.output import Chart
from openset_core.report.charts.theme import SINGLE_COLUMN
from openset_core.report.charts.training import Measured, training_chart, training_panel
from openset_core.report.data import TestSplit
from openset_core.report.embedding import PERPLEXITY, SEED, EmbeddingMap
from openset_core.report.formatting import number, percent
from openset_core.report.run_page.galleries import galleries, generated
from openset_core.report.run_page.view import View

Values = Mapping[str, Any]

MOST_UNKNOWN_ROWS = 20
"""Up to so many unknown classes each has a row in the confusion matrix; more are put together."""

TITLES: Mapping[str, tuple[str, bool]] = {
    "validation_accuracy": ("Validation accuracy, %", True),
    "rate": ("Learning rate", False),
    "seconds": ("Seconds an epoch", False),
    "images_per_second": ("Training images a second", False),
}
"""Titles of what an epoch's record holds beside the terms, and whether it is a fraction."""


# --- curves and scores ----------------------------------------------------------------------------


def curves_of(view: View, sets: Sequence[TestSplit]) -> list[NamedCurve]:
    """Exact curves of every scorer with scores against some unknown sets together."""
    known = view.run.known
    if known is None or not len(known) or not any(map(len, sets)):
        return []
    return [
        NamedCurve(
            name=scorer,
            curve=open_set_curve(
                known.scores[scorer],
                np.concatenate([split.scores[scorer] for split in sets]),
                known.correct,
            ),
            threshold=view.run.scorers[scorer].threshold,
        )
        for scorer in view.run.scored
    ]


def curves(view: View) -> Values | None:
    """ROC and OSCR curves against all unknown sets, and against each where there are several."""
    sets = view.run.unknown
    together = curves_of(view, sets)
    if not together:
        return None
    drawn = {
        "roc": roc_chart(together, points=4000),
        "oscr": oscr_chart(together, points=4000),
        "each": {},
    }
    if len(sets) > 1:
        alone = {split.name: curves_of(view, (split,)) for split in sets}
        points = 3000 // len(sets)
        drawn["each"] = {
            title: {
                name: chart(found, side=230, against=name, points=points)
                for name, found in alone.items()
            }
            for title, chart in (("ROC", roc_chart), ("OSCR", oscr_chart))
        }
        drawn["folded"] = not view.run.results.per_unknown
    return drawn


def histograms_of(view: View) -> list[Histogram]:
    """The histogram of each scorer; empty without known samples."""
    known, unknown = view.run.known, view.run.unknown
    if known is None or not len(known):
        return []
    return [
        histogram(
            scorer,
            view.run.scorers[scorer].threshold,
            known.scores[scorer],
            {split.name: split.scores[scorer] for split in unknown if len(split)},
        )
        for scorer in view.run.scored
    ]


def histograms(view: View) -> list[Values]:
    """A chart a scorer: known samples over each unknown set."""
    return [
        {
            "title": each.scorer,
            "subtitle": f"threshold {number(each.threshold)}",
            "chart": histogram_chart(each),
            "note": each.note,
        }
        for each in histograms_of(view)
    ]


# --- confusion matrix -----------------------------------------------------------------------------


def confusion_of(view: View) -> Confusion | None:
    """Count the decisions of a run's test; None without scores."""
    run = view.run
    if run.known is None or not view.has_scores or not len(run.known):
        return None
    size = run.num_classes
    blocks = [confusion_matrix(view.decisions(run.known), run.known.label, size)[:size]]
    rows = list(run.class_names)
    classes = sum(len(np.unique(split.label)) for split in run.unknown)
    each_class = classes <= MOST_UNKNOWN_ROWS and size <= MOST_NAMED
    for split in run.unknown:
        decisions = view.decisions(split)
        if not each_class:
            blocks.append(np.bincount(decisions, minlength=size + 1)[None])
            rows.append(split.name)
            continue
        for label in np.unique(split.label):
            blocks.append(np.bincount(decisions[split.label == label], minlength=size + 1)[None])
            name = split.class_name(label)
            rows.append(f"{split.name}: {name}" if len(run.unknown) > 1 else name)
    return Confusion(
        counts=np.concatenate(blocks).astype(np.int64),
        rows=tuple(rows),
        columns=(*run.class_names, "unknown"),
        known=size,
    )


def confusion(view: View) -> Values | None:
    """The matrix, and its largest confusions where it is too large for numbers."""
    counted = confusion_of(view)
    if counted is None:
        return None
    largest = [
        {
            "header": f"{counted.rows[row]} → {counted.columns[column]}",
            "cells": [f"{counted.counts[row, column]:,}", percent(counted.shares[row, column])],
        }
        for row, column in (counted.largest() if counted.known > MOST_NAMED else ())
    ]
    return {"chart": confusion_chart(counted), "known": counted.known, "largest": largest}


# --- embeddings -----------------------------------------------------------------------------------


def embedding(view: View) -> Values | None:
    """The map of the embeddings, with how it was made."""
    shown = view.map
    if shown is None:
        return None
    return {
        "chart": map_chart(view, shown),
        "title": _map_title(shown),
        "subtitle": _how_mapped(shown),
        "landmarks": shown.landmark_name if len(shown.landmarks) else "",
        "classes": len(view.run.class_names),
    }


def map_chart(view: View, shown: EmbeddingMap) -> Chart:
    """Unknown samples first, so that known ones lie above them."""
    splits = (*shown.unknown, shown.known)
    names = view.run.class_names
    hover: dict[str, list[Any]] = {"split": [], "class": [], "predicted": []}
    for each in splits:
        hover["split"] += [each.part.name] * len(each.rows)
        hover["class"] += [each.part.class_name(label) for label in each.part.label[each.rows]]
        hover["predicted"] += [names[label] for label in each.part.predicted[each.rows]]
    if view.has_scores:
        scores = np.concatenate([view.scores(each.part)[each.rows] for each in splits])
        hover["score"] = [number(float(score)) for score in scores]
    unknown = sum(len(each.rows) for each in shown.unknown)
    return embedding_chart(
        np.concatenate([each.points for each in splits]),
        np.concatenate([np.full(unknown, -1), shown.known.part.label[shown.known.rows]]),
        names,
        hover=hover,
        landmarks=shown.landmarks,
        landmark_classes=shown.landmark_labels,
        landmark_name=shown.landmark_name,
        axes=shown.exact,
        description=f"{_map_title(shown)} of {_map_count(shown)} test samples, known ones coloured "
        "by class, unknown ones in grey",
    )


def _map_title(shown: EmbeddingMap) -> str:
    return "The embedding itself" if shown.exact else "t-SNE"


def _map_count(shown: EmbeddingMap) -> str:
    unknown = sum(len(each.rows) for each in shown.unknown)
    return f"{len(shown.known.rows):,} known" + (f" and {unknown:,} unknown" if unknown else "")


def _how_mapped(shown: EmbeddingMap) -> str:
    which = f"{_map_count(shown)} test samples" + (
        "" if shown.whole else f", drawn with seed {SEED}"
    )
    if shown.exact:
        return which
    return (
        f"{which}; {shown.dimensions} dimensions, perplexity {PERPLEXITY:.0f}, seed {SEED}. "
        "Distances between clusters mean little."
    )


# --- training -------------------------------------------------------------------------------------


def measured(history: Sequence[Values]) -> tuple[list[Measured], list[Measured]]:
    """Loss terms, and everything else that a run's epochs recorded; numbers alone count."""
    names = list(dict.fromkeys(name for line in history for name in line.get("terms", {})))
    several = len({name.partition("/")[0] for name in names}) > 1
    terms = []
    for name in names:
        phase, _, term = name.rpartition("/")
        terms.append(
            _over_epochs(
                [(line["epoch"], line.get("terms", {}).get(name)) for line in history],
                title=term.replace("_", " "),
                detail=f"phase {phase}" if several and phase else "",
            )
        )
    others = {
        name
        for line in history
        for name, value in line.items()
        if name != "epoch" and isinstance(value, int | float) and not isinstance(value, bool)
    }
    order = list(TITLES)
    rest = []
    for name in sorted(others, key=lambda n: (order.index(n) if n in order else 1.5, n)):
        title, fraction = TITLES.get(name, (name.replace("_", " "), False))
        values = [(line["epoch"], line.get(name)) for line in history]
        rest.append(_over_epochs(values, title=title, fraction=fraction))
    return terms, rest


def _over_epochs(pairs: Sequence[tuple[int, Any]], **words: Any) -> Measured:
    numbers = [(epoch, value) for epoch, value in pairs if isinstance(value, int | float)]
    array = np.array(numbers, dtype=np.float64)
    return Measured(epochs=array[:, 0], values=array[:, 1], **words)


def training(view: View) -> Values | None:
    """Small charts, each with its own scale."""
    history = view.run.history
    if not history:
        return None
    terms, rest = measured(history)
    groups = {"Loss terms": terms, "Validation, rate and speed": rest}
    return {
        "epochs": int(history[-1]["epoch"]),
        "groups": {
            title: [
                {
                    "title": each.title,
                    "subtitle": (f"{each.detail} · " if each.detail else "")
                    + f"last {each.text(float(each.values[-1]))}",
                    "chart": training_panel(each),
                }
                for each in group
            ]
            for title, group in groups.items()
            if group
        },
    }


# --- files ----------------------------------------------------------------------------------------


def figures(view: View) -> dict[str, Chart]:
    """The charts that are written into figures/, by file name without suffix."""
    made: dict[str, Chart] = {}
    together = curves_of(view, view.run.unknown)
    if together:
        made["roc"] = roc_chart(together, side=SINGLE_COLUMN)
        made["oscr"] = oscr_chart(together, side=SINGLE_COLUMN)
    shown: list[Any] = [
        histogram_chart(each, width=SINGLE_COLUMN, height=130, titled=True)
        for each in histograms_of(view)
    ]
    if shown:
        made["scores"] = alt.concat(*shown, columns=2).properties(
            description="Histograms of the scores of known and unknown samples"
        )
    counted = confusion_of(view)
    if counted is not None:
        made["confusion"] = confusion_chart(counted)
    if view.map is not None:
        made["embedding"] = map_chart(view, view.map)
    terms, rest = measured(view.run.history)
    if terms or rest:
        made["training"] = training_chart([*terms, *rest])
    for gallery in galleries(view):
        pictured = [each for each in gallery["samples"] if each["pixels"] is not None]
        if pictured:
            made[gallery["kind"]] = image_grid(
                [each["pixels"] for each in pictured],
                [(f"{each['true']} → {each['predicted']}", each["score"]) for each in pictured],
                description=gallery["title"],
            )
    history = generated(view)
    if history:
        made["generated"] = image_grid(
            [each["pixels"] for each in history],
            [(f"epoch {each['epoch']:,}",) for each in history],
            columns=4,
            side=130,
            description="Generated samples after some epochs",
        )
    return made
