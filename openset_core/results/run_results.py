"""Results: every metric of every scorer, the published figure beside it where there is one."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
import numpy as np

from openset_core import metrics
from openset_core.data.preparation import LATER_PREFIX, UNKNOWN_PREFIX
from openset_core.errors import RunFolderError
from openset_core.experiment import config
from openset_core.experiment.experiment import Experiment
from openset_core.experiment.protocol import Published
from openset_core.features.store import FeatureStore
from openset_core.files import write_text
from openset_core.metrics import IncrementalResults, add_classes_one_by_one
from openset_core.results.tables import EMPTY, Column, Number, Table, cell_text, many, text
from openset_core.scoring.fitting import ScoredRun

FORMAT = 1
Metrics = dict[str, float]
RULES = {
    "exact": "exact",
    "arpl": "arpl evaluation",
    "fixed": "fixed threshold",
}
"""Evaluation rules and what a table calls them."""

PUBLISHED = "published"  # what a table calls figures from papers
AT_THRESHOLD = ("macro_f1", "known_accepted", "unknown_rejected")  # depend on the threshold


@attrs.frozen(kw_only=True)
class PublishedFigure:
    """A figure from a paper, beside ours."""

    value: float  # a fraction in [0, 1]
    source: str  # paper and table
    deviation: float | None = None  # over trials
    compat: str | None = None  # the evaluation rule that made it; None for the exact one

    @classmethod
    def from_protocol(cls, figure: Published) -> PublishedFigure:
        return cls(
            value=figure.value,
            source=figure.source,
            deviation=figure.deviation,
            compat=figure.compat,
        )


@attrs.frozen(kw_only=True)
class ScorerResults:
    """All results of one scorer: over all unknown sets together, and against each alone."""

    threshold: float  # a score above it means unknown; set on validation data
    metrics: Metrics  # exact
    arpl: Metrics = attrs.field(factory=dict)  # by the released ARPL evaluation
    fixed: Metrics = attrs.field(factory=dict)  # exact, at a threshold that a paper fixed
    unknown: dict[str, Metrics] = attrs.field(factory=dict)  # exact, by unknown set
    unknown_rules: dict[str, dict[str, Metrics]] = attrs.field(factory=dict)  # by rule and set
    published: dict[str, PublishedFigure] = attrs.field(factory=dict)  # by metric
    unknown_published: dict[str, dict[str, PublishedFigure]] = attrs.field(factory=dict)

    def by_rule(self, rule: str, unknown: str | None = None) -> Metrics:
        """Metrics by one of `RULES`, against one unknown set or all; empty where there are none."""
        if unknown is None:
            return {"exact": self.metrics, "arpl": self.arpl, "fixed": self.fixed}[rule]
        sets = self.unknown if rule == "exact" else self.unknown_rules.get(rule, {})
        return sets.get(unknown, {})

    def published_against(self, unknown: str | None) -> dict[str, PublishedFigure]:
        """Published figures against one unknown set, or against all of them together."""
        return self.published if unknown is None else self.unknown_published.get(unknown, {})


@attrs.frozen(kw_only=True)
class Results:
    """What results.json holds."""

    format: int = FORMAT
    method: str  # loss, and generator after a plus sign
    backbone: str
    protocol: str
    trial: int
    seed: int
    epochs: int
    experiment: str  # digest of the experiment
    samples: dict[str, int]  # number of samples of each split
    scorers: dict[str, ScorerResults]
    shown: tuple[str, ...]  # metrics of the protocol's table, in order
    per_unknown: bool = False  # whether the table has a row for each unknown set
    group: str = ""  # trials of different groups are not averaged, see `KnownSection.group`
    recipe: str = ""  # the training recipe over the protocol's, if any
    incremental: IncrementalResults | None = None  # as classes are added after training

    @property
    def rows(self) -> tuple[str | None, ...]:
        """What each row of a table is measured against: unknown sets, or None for all."""
        first = next(iter(self.scorers.values()), None)
        return tuple(first.unknown) if first and self.per_unknown and first.unknown else (None,)

    def table(self) -> str:
        """The results as a text table: a row a scorer, published figures beneath."""
        return TrialsResults((self,)).table()

    def save(self, path: Path) -> None:
        write_text(path, json.dumps(config.unstructure(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Results:
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
    options = {name: config.unstructure(values) for name, values in experiment.options.items()}

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

    def published(scorer: str, unknown: str | None) -> dict[str, PublishedFigure]:
        figures = {
            metric: experiment.protocol.published_for(
                experiment.method,
                metric,
                scorer,
                experiment.default_scorer,
                unknown,
                group,
                options,
            )
            for metric in metrics.METRICS
        }
        return {
            metric: PublishedFigure.from_protocol(figure)
            for metric, figure in figures.items()
            if figure is not None
        }

    def scorer_results(name: str, run: ScoredRun) -> ScorerResults:
        rules: dict[str, tuple[float, str | None]] = {"exact": (run.threshold, None)}
        if unknown_splits:
            rules["arpl"] = (run.threshold, "arpl")
        if name in content.threshold.fixed:
            rules["fixed"] = (content.threshold.fixed[name], None)
        single = {split.removeprefix(UNKNOWN_PREFIX): [split] for split in unknown_splits}
        pooled = {rule: evaluate(run, unknown_splits, *how) for rule, how in rules.items()}
        against = {
            rule: {unknown: evaluate(run, split, *how) for unknown, split in single.items()}
            for rule, how in rules.items()
        }
        return ScorerResults(
            threshold=run.threshold,
            metrics=pooled["exact"],
            arpl=pooled.get("arpl", {}),
            fixed=pooled.get("fixed", {}),
            unknown=against.pop("exact"),
            unknown_rules=against,
            published=published(name, None),
            unknown_published={
                unknown: figures for unknown in single if (figures := published(name, unknown))
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
    logits, labels = (
        [
            np.concatenate([store.array(split, column) for split in splits])
            for splits in (["train", later[0]], ["known", later[1]])
        ]
        for column in ("logits", "label")
    )
    return add_classes_one_by_one(
        logits[0], labels[0], logits[1], labels[1], base_classes=store.num_classes
    )


Summary = Mapping[str, Mapping[str, tuple[float, float | None]]]
"""(mean, deviation or None) by scorer and metric."""


@attrs.frozen(kw_only=True)
class TableLine:
    """One line of a table of results."""

    name: str  # the scorer, with what it is measured against where that differs
    rule: str  # one of `RULES`, or `PUBLISHED` for figures from papers
    cells: Mapping[str, tuple[float, float | None]]  # (fraction, deviation or None) by metric


@attrs.frozen(kw_only=True)
class ResultsTable:
    """A table of results before it is written as text or otherwise."""

    columns: tuple[str, ...]  # metrics, in order
    lines: tuple[TableLine, ...]  # of a scorer: exact, then by other rules, then published figures
    sources: tuple[str, ...]  # where the published figures are from, one sentence each

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
    """Put exact results and published figures together, like beside like.

    Our values by the other `rules` stand above published figures that were made by the same rule.
    What a fixed threshold changes is shown in any case.
    """
    columns = [m for m in shown if any(m in values for values in rows.values())]
    lines: list[TableLine] = []
    sources: dict[str, dict[str, list[str]]] = {}  # the rows by source and metric
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
        theirs = {m: figures[m] for m in columns if m in figures}
        if theirs:
            cells = {m: (figure.value, figure.deviation) for m, figure in theirs.items()}
            lines.append(TableLine(name=scorer, rule=PUBLISHED, cells=cells))
        for metric, figure in theirs.items():
            source = figure.source + (f", {RULES[figure.compat]}" if figure.compat else "")
            by_metric = sources.setdefault(source, {})
            by_metric.setdefault(metrics.METRICS[metric].title, []).append(scorer)
    # Rows are named where the figures of one metric come from several sources.
    count = Counter(title for by_metric in sources.values() for title in by_metric)
    notes = []
    for source, by_metric in sources.items():
        titles = [
            f"{title} of {', '.join(names)}" if count[title] > 1 else title
            for title, names in by_metric.items()
        ]
        notes.append(f"published {', '.join(titles)}: {source}")
    return ResultsTable(columns=tuple(columns), lines=tuple(lines), sources=tuple(notes))


def table_cell(value: float, deviation: float | None = None) -> str:
    """A fraction in percent, with its deviation where there is one."""
    return EMPTY if math.isnan(value) else cell_text(Number(value=value, deviation=deviation))


@attrs.frozen
class TrialsResults:
    """Results of several trials of one experiment."""

    results: tuple[Results, ...]

    def summary(
        self, rule: str = "exact", unknown: str | None = None
    ) -> dict[str, dict[str, tuple[float, float | None]]]:
        """Mean and standard deviation (n - 1) over trials, by scorer and metric.

        By one of `RULES`, against one unknown set or all. Only what every trial has is compared:
        a run folder may hold scorers of earlier calls. One trial has no deviation.
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
        if len(groups) == 1:
            return self.lines().text()
        return "\n\n".join(
            f"{group}, {many(len(trials.results), 'trial')}\n{trials.table()}"
            for group, trials in groups.items()
        )

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
        """The lines against one unknown set, or against all of them together."""
        first = self.results[0]
        exact = self.summary("exact", unknown)
        published = {scorer: first.scorers[scorer].published_against(unknown) for scorer in exact}
        rules = {rule: self.summary(rule, unknown) for rule in RULES if rule != "exact"}
        return results_table(exact, published, first.shown, rules)
