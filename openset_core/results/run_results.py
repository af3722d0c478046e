"""Results: every metric of every scorer, the published figure beside it where there is one."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from openset_core import metrics
from openset_core.data.preparation import LATER_PREFIX, UNKNOWN_PREFIX
from openset_core.errors import RunFolderError
from openset_core.experiment import config
from openset_core.experiment.experiment import Experiment
from openset_core.features.store import FeatureStore
from openset_core.files import write_text
from openset_core.metrics import IncrementalResults, add_classes_one_by_one
from openset_core.results.tables import EMPTY, Column, Number, Table, cell_text, text
from openset_core.scoring.fitting import ScoredRun

FORMAT = 1
Metrics = dict[str, float]
RULES = {
    "exact": "exact",
    "arpl": "arpl evaluation",
    "fixed": "fixed threshold",
}
"""Evaluation rules and what a table calls them."""

PUBLISHED = "published"
"""What a table calls figures from papers."""

AT_THRESHOLD = ("macro_f1", "known_accepted", "unknown_rejected")
"""Metrics that depend on the threshold."""


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
        fixed: exact metrics at a threshold that a paper fixed, where the protocol names one.
        unknown: exact metrics against each unknown set alone.
        unknown_rules: the other rules' metrics against each unknown set, by rule and set.
        published: figures from papers, by metric.
        unknown_published: figures against one unknown set, by set and metric.
    """

    threshold: float
    metrics: Metrics
    arpl: Metrics = attrs.field(factory=dict)
    fixed: Metrics = attrs.field(factory=dict)
    unknown: dict[str, Metrics] = attrs.field(factory=dict)
    unknown_rules: dict[str, dict[str, Metrics]] = attrs.field(factory=dict)
    published: dict[str, PublishedFigure] = attrs.field(factory=dict)
    unknown_published: dict[str, dict[str, PublishedFigure]] = attrs.field(factory=dict)

    def by_rule(self, rule: str, unknown: str | None = None) -> Metrics:
        """Metrics by an evaluation rule; empty where there are none.

        Args:
            rule: one of `RULES`.
            unknown: against this unknown set alone; None for all of them together.
        """
        if unknown is None:
            return {"exact": self.metrics, "arpl": self.arpl, "fixed": self.fixed}[rule]
        if rule == "exact":
            return self.unknown.get(unknown, {})
        return self.unknown_rules.get(rule, {}).get(unknown, {})

    def published_against(self, unknown: str | None) -> dict[str, PublishedFigure]:
        """Published figures against one unknown set, or against all of them together."""
        return self.published if unknown is None else self.unknown_published.get(unknown, {})


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
        samples: number of samples of each split.
        scorers: results by scorer.
        shown: metrics of the protocol's table, in order.
        per_unknown: whether the table has a row for each unknown set.
        group: trials of different groups are not averaged, see `KnownSection.group`.
        recipe: the training recipe over the protocol's, if any.
        incremental: accuracy as classes are added after training, where the protocol asks.
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
    per_unknown: bool = False
    group: str = ""
    recipe: str = ""
    incremental: IncrementalResults | None = None

    @property
    def rows(self) -> tuple[str | None, ...]:
        """What each row of a table is measured against: unknown sets, or None for all."""
        first = next(iter(self.scorers.values()), None)
        return tuple(first.unknown) if first and self.per_unknown and first.unknown else (None,)

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
        written = values.get("format") if isinstance(values, dict) else FORMAT
        if written != FORMAT:
            raise RunFolderError(
                f"{path} has format {written!r}, this openset reads {FORMAT}; `openset score RUN` "
                "makes it again"
            )
        return config.structure(values, cls, str(path), RunFolderError)


def evaluate_run(
    experiment: Experiment, store: FeatureStore, scored: Mapping[str, ScoredRun]
) -> Results:
    """Compute every metric of every scorer."""
    content = experiment.protocol.content
    predicted = {
        split: np.concatenate(
            [chunk["logits"].argmax(axis=1) for chunk in store.chunks(split, "logits")]
        )
        for split in store.splits
    }
    labels = store.array("known", "label")
    order = [UNKNOWN_PREFIX + name for name in content.unknown]
    unknown_splits = sorted(
        (split for split in store.splits if split.startswith(UNKNOWN_PREFIX)),
        key=lambda split: order.index(split) if split in order else len(order),
    )
    incremental = _incremental(store)
    group = content.known.group(experiment.trial)

    def evaluate(
        run: ScoredRun, unknown: Sequence[str], threshold: float, compat: str | None = None
    ) -> Metrics:
        """Metrics against unknown splits together; closed-set ones where there are none."""
        if unknown:
            values = metrics.evaluate(
                run.scores["known"],
                np.concatenate([run.scores[split] for split in unknown]),
                known_predicted=predicted["known"],
                known_labels=labels,
                num_classes=store.num_classes,
                threshold=threshold,
                unknown_predicted=np.concatenate([predicted[split] for split in unknown]),
                compat=compat,
            )
            # Of the test against these unknown sets, from the classes that occur in them.
            classes = sum(len(np.unique(store.array(split, "label"))) for split in unknown)
            values["openness"] = metrics.openness(store.num_classes, store.num_classes + classes)
        else:
            values = {
                "accuracy": metrics.closed_set_accuracy(predicted["known"], labels),
                "known_accepted": float(np.mean(run.scores["known"] <= threshold)),
            }
        if incremental:
            values["incremental_accuracy"] = incremental.accuracy[-1]
        return values

    def scorer_results(name: str, run: ScoredRun) -> ScorerResults:
        rules: dict[str, tuple[float, str | None]] = {}
        if unknown_splits:
            rules["arpl"] = (run.threshold, "arpl")
        if name in content.threshold.fixed:
            rules["fixed"] = (content.threshold.fixed[name], None)
        single = {split.removeprefix(UNKNOWN_PREFIX): [split] for split in unknown_splits}
        pooled = {rule: evaluate(run, unknown_splits, *how) for rule, how in rules.items()}
        return ScorerResults(
            threshold=run.threshold,
            metrics=evaluate(run, unknown_splits, run.threshold),
            arpl=pooled.get("arpl", {}),
            fixed=pooled.get("fixed", {}),
            unknown={name: evaluate(run, split, run.threshold) for name, split in single.items()},
            unknown_rules={
                rule: {name: evaluate(run, split, *how) for name, split in single.items()}
                for rule, how in rules.items()
            },
            published=_published(experiment, name, None, group),
            unknown_published={
                unknown: figures
                for unknown in single
                if (figures := _published(experiment, name, unknown, group))
            },
        )

    return Results(
        method=experiment.method,
        backbone=experiment.selection.backbone.name,
        protocol=experiment.protocol.name,
        trial=experiment.trial,
        seed=experiment.seed,
        epochs=experiment.training.epochs,
        experiment=experiment.digest,
        samples={split: store.rows(split) for split in store.splits},
        scorers={name: scorer_results(name, run) for name, run in scored.items()},
        shown=content.report.metrics,
        per_unknown=content.report.per_unknown,
        group=group,
        recipe=experiment.recipe.name if experiment.recipe else "",
        incremental=incremental,
    )


def _incremental(store: FeatureStore) -> IncrementalResults | None:
    """Class-incremental results, where the protocol added classes after training."""
    later = [f"{LATER_PREFIX}{side}" for side in ("train", "test")]
    if not set(later) <= set(store.splits):
        return None

    def joined(splits: Sequence[str]) -> tuple[Any, Any]:
        logits, labels = (
            np.concatenate([store.array(split, column) for split in splits])
            for column in ("logits", "label")
        )
        return logits, labels

    return add_classes_one_by_one(
        *joined(["train", later[0]]), *joined(["known", later[1]]), base_classes=store.num_classes
    )


def _published(
    experiment: Experiment, scorer: str, unknown: str | None, group: str
) -> dict[str, PublishedFigure]:
    options = {name: config.unstructure(values) for name, values in experiment.options.items()}
    figures = {
        metric: experiment.protocol.published_for(
            experiment.method, metric, scorer, experiment.default_scorer, unknown, group, options
        )
        for metric in metrics.METRICS
    }
    return {
        metric: PublishedFigure(
            value=figure.value,
            deviation=figure.deviation,
            source=figure.source,
            compat=figure.compat,
        )
        for metric, figure in figures.items()
        if figure is not None
    }


# --- tables -----------------------------------------------------------------------------------


Summary = Mapping[str, Mapping[str, tuple[float, float | None]]]
"""(mean, deviation or None) by scorer and metric."""


@attrs.frozen(kw_only=True)
class TableLine:
    """One line of a table of results.

    Attributes:
        name: the scorer, with what it is measured against where that differs.
        rule: the evaluation rule, one of `RULES`, or `PUBLISHED` for figures from papers.
        cells: (fraction, deviation or None) by metric.
    """

    name: str
    rule: str
    cells: Mapping[str, tuple[float, float | None]]


@attrs.frozen(kw_only=True)
class ResultsTable:
    """A table of results before it is written as text or otherwise.

    Attributes:
        columns: metrics, in order.
        lines: exact values of a scorer, then those by other rules and published figures, if any.
        sources: where the published figures are from, one sentence each.
    """

    columns: tuple[str, ...]
    lines: tuple[TableLine, ...]
    sources: tuple[str, ...]

    def text(self) -> str:
        """As text, percentages in columns."""
        rows = []
        for line in self.lines:
            cells = [table_cell(*line.cells[m]) if m in line.cells else "" for m in self.columns]
            title = line.name if line.rule == "exact" else f"  {RULES.get(line.rule, line.rule)}"
            rows.append((title, *cells))
        titles = (Column(metrics.METRICS[m].title) for m in self.columns)
        columns = (Column("scorer", left=True), *titles)
        return "\n".join([text([Table(columns=columns, rows=rows)]), *self.sources])


def results_table(
    rows: Summary,
    published: Mapping[str, Mapping[str, PublishedFigure]],
    shown: Sequence[str],
    rules: Mapping[str, Summary] | None = None,
) -> ResultsTable:
    """Put results and published figures together, like beside like.

    Args:
        rows: our exact values.
        published: published figures by scorer and metric.
        shown: metrics, in order.
        rules: our values by the rules other than the exact one; they stand above published
            figures that were made by the same rule, so that like is compared with like. What a
            fixed threshold changes is shown in any case.
    """
    columns = [m for m in shown if any(m in values for values in rows.values())]
    lines: list[TableLine] = []
    sources: dict[str, dict[str, list[str]]] = {}
    for scorer, values in rows.items():
        ours = {m: values[m] for m in columns if m in values}
        lines.append(TableLine(name=scorer, rule="exact", cells=ours))
        figures = published.get(scorer, {})
        for rule, summary in (rules or {}).items():
            by_rule = summary.get(scorer, {})
            wanted = {m for m, figure in figures.items() if figure.compat == rule}
            wanted |= set(AT_THRESHOLD) if rule == "fixed" else set()
            alike = {m: by_rule[m] for m in columns if m in by_rule and m in wanted}
            if alike:
                lines.append(TableLine(name=scorer, rule=rule, cells=alike))
        theirs = {m: (figures[m].value, figures[m].deviation) for m in columns if m in figures}
        if theirs:
            lines.append(TableLine(name=scorer, rule=PUBLISHED, cells=theirs))
        for metric in theirs:
            by_metric = sources.setdefault(_source(figures[metric]), {})
            by_metric.setdefault(metrics.METRICS[metric].title, []).append(scorer)
    return ResultsTable(columns=tuple(columns), lines=tuple(lines), sources=_notes(sources))


def table_cell(value: float, deviation: float | None = None) -> str:
    """A fraction in percent, with its deviation where there is one."""
    if math.isnan(value):
        return EMPTY
    return cell_text(Number(value=value, deviation=deviation))


def _source(figure: PublishedFigure) -> str:
    return figure.source + (f", {RULES[figure.compat]}" if figure.compat else "")


def _notes(sources: Mapping[str, Mapping[str, Sequence[str]]]) -> tuple[str, ...]:
    """Where published figures come from: by source the metrics, and the rows of each.

    Rows are named where the figures of one metric come from several sources.
    """
    count = Counter(title for by_metric in sources.values() for title in by_metric)
    notes = []
    for source, by_metric in sources.items():
        titles = [
            f"{title} of {', '.join(rows)}" if count[title] > 1 else title
            for title, rows in by_metric.items()
        ]
        notes.append(f"published {', '.join(titles)}: {source}")
    return tuple(notes)


@attrs.frozen
class TrialsResults:
    """Results of several trials of one experiment."""

    results: tuple[Results, ...]

    def summary(
        self, rule: str = "exact", unknown: str | None = None
    ) -> dict[str, dict[str, tuple[float, float | None]]]:
        """Mean and standard deviation (n - 1) over trials, by scorer and metric.

        Only what every trial has is compared: a run folder may hold scorers of earlier calls.
        One trial has no deviation.

        Args:
            rule: an evaluation rule, one of `RULES`.
            unknown: against this unknown set alone; None for all of them together.
        """
        first, *others = self.results
        summary: dict[str, dict[str, tuple[float, float | None]]] = {}
        for scorer, values in first.scorers.items():
            if not all(scorer in results.scorers for results in others):
                continue
            summary[scorer] = {}
            for metric in values.by_rule(rule, unknown):
                samples = [r.scorers[scorer].by_rule(rule, unknown)[metric] for r in self.results]
                spread = float(np.std(samples, ddof=1)) if others else None
                summary[scorer][metric] = (float(np.mean(samples)), spread)
        return summary

    def groups(self) -> dict[str, TrialsResults]:
        """The trials by group, in order; a mean over different groups would mean nothing."""
        groups: dict[str, list[Results]] = {}
        for results in self.results:
            groups.setdefault(results.group, []).append(results)
        return {group: TrialsResults(tuple(members)) for group, members in groups.items()}

    def table(self) -> str:
        """Mean and deviation over trials as text: a table for each group of trials."""
        groups = self.groups()
        if len(groups) > 1:
            return "\n\n".join(
                f"{group}, {len(trials.results)} trial{'s' if len(trials.results) > 1 else ''}\n"
                f"{trials.table()}"
                for group, trials in groups.items()
            )
        return self.lines().text()

    def lines(self) -> ResultsTable:
        """Mean and deviation over trials of one group, line by line, as the table has them."""
        tables = {unknown: self.against(unknown) for unknown in self.results[0].rows}
        named = [
            line if unknown is None else attrs.evolve(line, name=f"{line.name} against {unknown}")
            for unknown, table in tables.items()
            for line in table.lines
        ]
        columns = [m for m in self.results[0].shown if any(m in t.columns for t in tables.values())]
        sources = dict.fromkeys(source for table in tables.values() for source in table.sources)
        return ResultsTable(columns=tuple(columns), lines=tuple(named), sources=tuple(sources))

    def against(self, unknown: str | None) -> ResultsTable:
        """The lines against one unknown set, or against all of them together.

        Args:
            unknown: name of the set; None for all.
        """
        first = self.results[0]
        exact = self.summary("exact", unknown)
        published = {scorer: first.scorers[scorer].published_against(unknown) for scorer in exact}
        rules = {rule: self.summary(rule, unknown) for rule in RULES if rule != "exact"}
        return results_table(exact, published, first.shown, rules)
