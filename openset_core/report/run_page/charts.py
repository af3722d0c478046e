"""The charts of a run's page, and the same charts as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np

from openset_core.metrics import open_set_curve
from openset_core.report.charts.confusion import (
    MOST_NAMED,
    Confusion,
    confusion_chart,
    count_decisions,
)
from openset_core.report.charts.curves import NamedCurve, oscr_chart, roc_chart
from openset_core.report.charts.feature_space import Looks, class_looks, few, plane
from openset_core.report.charts.histograms import Histogram, histogram, histogram_chart
from openset_core.report.charts.output import Chart
from openset_core.report.charts.panels import image_table
from openset_core.report.charts.theme import SINGLE_COLUMN
from openset_core.report.charts.training import Measured, training_chart, training_panel
from openset_core.report.colours import UNKNOWN
from openset_core.report.data import TestSplit
from openset_core.report.embedding import PERPLEXITY, SEED, EmbeddingMap
from openset_core.report.formatting import number
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

MAP_SIDE = 440
GALLERY_COLUMNS = 8


# --- curves and scores ----------------------------------------------------------------------------


def curves_of(view: View, sets: Sequence[TestSplit]) -> list[NamedCurve]:
    """Exact curves of every scorer with scores against some unknown sets together."""
    known = view.run.known
    if not known or not any(map(len, sets)):
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
    each: dict[str, dict[str, Chart]] = {}
    if len(sets) > 1:
        alone = {split.name: curves_of(view, (split,)) for split in sets}
        points = 3000 // len(sets)
        for title, chart in (("ROC", roc_chart), ("OSCR", oscr_chart)):
            each[title] = {
                name: chart(named, side=230, against=name, points=points)
                for name, named in alone.items()
            }
    return {
        "roc": roc_chart(together, points=4000),
        "oscr": oscr_chart(together, points=4000),
        "each": each,
        "folded": not view.run.results.per_unknown,
    }


def histograms(view: View) -> list[Histogram]:
    """The histogram of each scorer; empty without known samples."""
    known, unknown = view.run.known, view.run.unknown
    if not known:
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


def confusion_of(view: View) -> Confusion | None:
    """Count the decisions of a run's test; None without scores."""
    if not view.has_scores:
        return None
    classes = sum(len(np.unique(split.label)) for split in view.run.unknown)
    each_class = classes <= MOST_UNKNOWN_ROWS and view.run.num_classes <= MOST_NAMED
    return count_decisions(view.run, view.scorer, view.threshold, each_class)


# --- embeddings -----------------------------------------------------------------------------------


def map_chart(view: View, shown: EmbeddingMap) -> Chart:
    """Unknown samples first, so that known ones lie above them."""
    splits = (*shown.unknown, shown.known)
    names = view.run.class_names
    group: list[str] = []
    hover: dict[str, list[Any]] = {"split": [], "class": [], "predicted": []}
    for each in splits:
        split = each.split
        own = [split.class_name(label) for label in split.label[each.rows]]
        group += own if each is shown.known else ["unknown"] * len(own)
        hover["split"] += [split.name] * len(own)
        hover["class"] += own
        hover["predicted"] += [names[label] for label in split.predicted[each.rows]]
    if view.has_scores:
        scores = np.concatenate([each.split.scores[view.scorer][each.rows] for each in splits])
        hover["score"] = [number(float(score)) for score in scores]
    unknown = {"unknown": (UNKNOWN.light, "cross")} if len(group) > len(shown.known.rows) else {}
    drawn = plane(
        np.concatenate([each.points for each in splits]),
        group,
        Looks(groups=class_looks(names) | unknown, legend=[*few(names), *unknown], width=MAP_SIDE),
        side=MAP_SIDE,
        titles=("z₁", "z₂") if shown.exact else ("", ""),
        landmarks=(shown.landmarks, [names[label] for label in shown.landmark_labels]),
        landmark_name=shown.landmark_name,
        numbers=shown.exact,
        hover=hover,
    )
    return drawn.properties(
        description=f"{shown.title} of {shown.count} test samples, known ones coloured by class, "
        "unknown ones in grey"
    )


def embedding(view: View) -> Values | None:
    """The map of the embeddings, with how it was made."""
    shown = view.map
    if shown is None:
        return None
    how = f"{shown.count} test samples" + ("" if shown.whole else f", drawn with seed {SEED}")
    if not shown.exact:
        how += (
            f"; {shown.dimensions} dimensions, perplexity {PERPLEXITY:.0f}, seed {SEED}. "
            "Distances between clusters mean little."
        )
    return {"chart": map_chart(view, shown), "title": shown.title, "subtitle": how}


# --- training -------------------------------------------------------------------------------------


def measured(history: Sequence[Values]) -> tuple[list[Measured], list[Measured]]:
    """Loss terms, and everything else that a run's epochs recorded; numbers alone count."""
    terms = [{"epoch": line["epoch"], **line.get("terms", {})} for line in history]
    names = list(dict.fromkeys(name for line in terms for name in line if name != "epoch"))
    several = len({name.partition("/")[0] for name in names}) > 1
    losses = []
    for name in names:
        phase, _, term = name.rpartition("/")
        detail = f"phase {phase}" if several and phase else ""
        losses.append(_over_epochs(terms, name, title=term.replace("_", " "), detail=detail))
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
        rest.append(_over_epochs(history, name, title=title, fraction=fraction))
    return losses, rest


def _over_epochs(lines: Sequence[Values], name: str, **words: Any) -> Measured:
    pairs = [(line["epoch"], line.get(name)) for line in lines]
    numbers = [(epoch, value) for epoch, value in pairs if isinstance(value, int | float)]
    array = np.array(numbers, dtype=np.float64)
    return Measured(epochs=array[:, 0], values=array[:, 1], **words)


def training(view: View) -> dict[str, list[tuple[Measured, Chart]]]:
    """Small charts by group, each with its own scale."""
    terms, rest = measured(view.run.history)
    groups = {"Loss terms": terms, "Validation, rate and speed": rest}
    return {
        title: [(each, training_panel(each)) for each in group]
        for title, group in groups.items()
        if group
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
        for each in histograms(view)
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
        pictured = gallery["pictured"]
        if pictured:
            columns = min(len(pictured), GALLERY_COLUMNS)
            made[gallery["kind"]] = image_table(
                [(*divmod(at, columns), each["pixels"]) for at, each in enumerate(pictured)],
                gallery["title"],
                rows=[""] * -(-len(pictured) // columns),
                columns=[""] * columns,
                captions=[
                    (f"{each['true']} → {each['predicted']}", each["score"]) for each in pictured
                ],
            )
    history = generated(view)
    if history:
        made["generated"] = image_table(
            [(0, at, each["pixels"]) for at, each in enumerate(history)],
            "Generated samples after some epochs",
            rows=[""],
            columns=[f"epoch {each['epoch']:,}" for each in history],
            side=130,
        )
    return made
