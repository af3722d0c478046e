"""Results: every metric of every scorer, the published figure beside it where there is one."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from openset_core import config, metrics
from openset_core.data.preparation import UNKNOWN_PREFIX
from openset_core.errors import RunFolderError
from openset_core.experiment import Experiment
from openset_core.features import FeatureStore
from openset_core.files import write_text
from openset_core.scoring import ScoredRun

FORMAT = 1
Metrics = dict[str, float]


@attrs.frozen(kw_only=True)
class PublishedFigure:
    """A figure from a paper, beside ours.

    Attributes:
        value: fraction in [0, 1].
        deviation: standard deviation over trials, if given.
        source: paper and table.
        compat: evaluation rule that the figure was made with; None for the exact one.
    """

    value: float
    source: str
    deviation: float | None = None
    compat: str | None = None


@attrs.frozen(kw_only=True)
class ScorerResults:
    """All results of one scorer.

    Attributes:
        threshold: a score above it means unknown; set on validation data.
        metrics: over all unknown sets together, exact.
        arpl: the same by the released ARPL evaluation, to compare with its tables.
        unknown: exact metrics against each unknown set alone.
        published: figures from papers, by metric.
    """

    threshold: float
    metrics: Metrics
    arpl: Metrics = attrs.field(factory=dict)
    unknown: dict[str, Metrics] = attrs.field(factory=dict)
    published: dict[str, PublishedFigure] = attrs.field(factory=dict)

    def by_rule(self, rule: str) -> Metrics:
        """Metrics by an evaluation rule, `"exact"` or `"arpl"`."""
        return self.arpl if rule == "arpl" else self.metrics


@attrs.frozen(kw_only=True)
class Results:
    """What results.json holds.

    Attributes:
        method: loss, and generator after a plus sign.
        backbone: name of the backbone.
        protocol: name of the protocol.
        trial: number of the trial.
        seed: training seed.
        epochs: epochs trained.
        experiment: digest of the experiment.
        samples: number of samples of each part.
        scorers: results by scorer.
        shown: metrics of the protocol's table, in order.
    """

    format: int = FORMAT
    method: str
    backbone: str
    protocol: str
    trial: int
    seed: int
    epochs: int
    experiment: str
    samples: dict[str, int]
    scorers: dict[str, ScorerResults]
    shown: tuple[str, ...]

    def table(self) -> str:
        """The results as a text table: a row a scorer, published figures beneath."""
        return TrialsResults((self,)).table()

    def save(self, path: Path) -> None:
        """Write results.json."""
        write_text(path, json.dumps(config.unstructure(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read results.json.

        Raises:
            RunFolderError: missing, damaged, or of another format.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunFolderError(f"{path} does not exist; the run is not finished") from None
        except (OSError, ValueError) as error:
            raise RunFolderError(
                f"{path} is damaged; `openset score RUN` makes it again"
            ) from error
        found = values.get("format") if isinstance(values, dict) else FORMAT
        if found != FORMAT:
            raise RunFolderError(
                f"{path} has format {found!r}, this openset reads {FORMAT}; `openset score RUN` "
                "makes it again"
            )
        return config.structure(values, cls, str(path), RunFolderError)


def evaluate_run(
    experiment: Experiment, store: FeatureStore, scored: Mapping[str, ScoredRun]
) -> Results:
    """Compute every metric of every scorer."""
    predicted = {
        part: np.concatenate(
            [chunk["logits"].argmax(axis=1) for chunk in store.chunks(part, "logits")]
        )
        for part in store.parts
    }
    labels = store.array("known", "label")
    unknown_parts = [part for part in store.parts if part.startswith(UNKNOWN_PREFIX)]

    def judged(run: ScoredRun, parts: Sequence[str], compat: str | None) -> Metrics:
        if not parts:
            accepted = float(np.mean(run.scores["known"] <= run.threshold))
            accuracy = metrics.closed_set_accuracy(predicted["known"], labels)
            return {"accuracy": accuracy, "known_accepted": accepted}
        return metrics.evaluate(
            run.scores["known"],
            np.concatenate([run.scores[part] for part in parts]),
            known_predicted=predicted["known"],
            known_labels=labels,
            num_classes=store.num_classes,
            threshold=run.threshold,
            unknown_predicted=np.concatenate([predicted[part] for part in parts]),
            compat=compat,
        )

    def one(name: str, run: ScoredRun) -> ScorerResults:
        return ScorerResults(
            threshold=run.threshold,
            metrics=judged(run, unknown_parts, None),
            arpl=judged(run, unknown_parts, "arpl") if unknown_parts else {},
            unknown={
                part.removeprefix(UNKNOWN_PREFIX): judged(run, [part], None)
                for part in unknown_parts
            },
            published=_published(experiment, name),
        )

    return Results(
        method=experiment.method,
        backbone=experiment.selection.backbone.name,
        protocol=experiment.protocol.name,
        trial=experiment.trial,
        seed=experiment.seed,
        epochs=experiment.training.epochs,
        experiment=experiment.digest,
        samples={part: store.rows(part) for part in store.parts},
        scorers={name: one(name, run) for name, run in scored.items()},
        shown=experiment.protocol.content.report.metrics,
    )


def _published(experiment: Experiment, scorer: str) -> dict[str, PublishedFigure]:
    found = {}
    for metric in metrics.METRICS:
        figure = experiment.protocol.published_for(
            experiment.method, metric, scorer, experiment.default_scorer
        )
        if figure is not None:
            found[metric] = PublishedFigure(
                value=figure.value,
                deviation=figure.deviation,
                source=figure.source,
                compat=figure.compat,
            )
    return found


# --- tables -----------------------------------------------------------------------------------


Summary = Mapping[str, Mapping[str, tuple[float, float | None]]]
"""(mean, deviation or None) by scorer and metric."""


def render_table(
    rows: Summary,
    published: Mapping[str, Mapping[str, PublishedFigure]],
    shown: Sequence[str],
    arpl: Summary | None = None,
) -> str:
    """A text table of percentages.

    Args:
        rows: our exact values.
        published: published figures by scorer and metric.
        shown: metrics, in order.
        arpl: our values by the released ARPL evaluation; they stand above published figures
            that were made with it, so that like is compared with like.
    """
    columns = [m for m in shown if any(m in values for values in rows.values())]
    header = ["scorer", *(metrics.METRICS[m].title for m in columns)]
    lines: list[list[str]] = []
    notes: list[str] = []
    for scorer, values in rows.items():
        lines.append([scorer, *(_cell(*values[m]) if m in values else "" for m in columns)])
        figures = published.get(scorer, {})
        by_rule = (arpl or {}).get(scorer, {})
        theirs = {m for m, figure in figures.items() if figure.compat == "arpl" and m in by_rule}
        if theirs & set(columns):
            ours = [_cell(*by_rule[m]) if m in theirs else "" for m in columns]
            lines.append(["  arpl evaluation", *ours])
        cells = [
            _cell(figures[m].value, figures[m].deviation) if m in figures else "" for m in columns
        ]
        if any(cells):
            lines.append(["  published", *cells])
            notes += [_note(scorer, m, figures[m]) for m in columns if m in figures]
    widths = [max(len(line[i]) for line in [header, *lines]) for i in range(len(header))]

    def text(line: Sequence[str]) -> str:
        first, *rest = (
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        return "  ".join([first, *rest]).rstrip()

    rule = "  ".join("-" * width for width in widths)
    return "\n".join([text(header), rule, *map(text, lines), *dict.fromkeys(notes)])


def _cell(value: float, deviation: float | None = None) -> str:
    if math.isnan(value):
        return "-"
    spread = f" ± {100 * deviation:.1f}" if deviation is not None else ""
    return f"{100 * value:.1f}{spread}"


def _note(scorer: str, metric: str, figure: PublishedFigure) -> str:
    rule = f", {figure.compat} evaluation" if figure.compat else ""
    return f"published {metrics.METRICS[metric].title} of {scorer}: {figure.source}{rule}"


@attrs.frozen
class TrialsResults:
    """Results of several trials of one experiment."""

    results: tuple[Results, ...]

    def summary(self, rule: str = "exact") -> dict[str, dict[str, tuple[float, float | None]]]:
        """Mean and standard deviation (n - 1) over trials, by scorer and metric.

        Only what every trial has is compared: a run folder may hold scorers of earlier calls.
        One trial has no deviation.

        Args:
            rule: `"exact"`, or `"arpl"` for the released ARPL evaluation.
        """
        first, *others = self.results
        summary: dict[str, dict[str, tuple[float, float | None]]] = {}
        for scorer, values in first.scorers.items():
            if not all(scorer in results.scorers for results in others):
                continue
            summary[scorer] = {}
            for metric in values.by_rule(rule):
                samples = [r.scorers[scorer].by_rule(rule)[metric] for r in self.results]
                spread = float(np.std(samples, ddof=1)) if others else None
                summary[scorer][metric] = (float(np.mean(samples)), spread)
        return summary

    def table(self) -> str:
        """Mean and deviation over trials as a text table."""
        first = self.results[0]
        rows: dict[str, Any] = self.summary()
        published = {name: scorer.published for name, scorer in first.scorers.items()}
        return render_table(rows, published, first.shown, self.summary("arpl"))
