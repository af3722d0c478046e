"""The metrics of every scorer, with published figures beside ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from openset_core.metrics.open_set import METRICS
from openset_core.report.axes import percent
from openset_core.report.markup import Content, Row, element, folded, note, table
from openset_core.report.page import Section
from openset_core.report.run_page.view import View
from openset_core.results.run_results import (
    PUBLISHED,
    RULES,
    ResultsTable,
    TableLine,
    TrialsResults,
    table_cell,
)


def section(view: View) -> Section:
    """The protocol's table, and every metric by every rule folded away below."""
    results = view.run.results
    one = TrialsResults((results,))
    body = results_markup(
        {unknown: one.against(unknown) for unknown in results.rows}, "Percent, on the test samples"
    )
    for source in one.lines().sources:
        body += note(source[0].upper() + source[1:], ".")
    body += folded("All metrics, and what they mean", _all_metrics(view))
    added = results.incremental
    if added is not None:
        rows = [
            Row(header=f"{count:,}", cells=[percent(value)])
            for count, value in zip(added.classes, added.accuracy, strict=True)
        ]
        body += folded(
            "Accuracy as classes are added after training",
            table("Accuracy over all classes so far, percent", ["classes", "accuracy"], rows),
        )
    return Section("results", "Results", body)


def results_markup(tables: Mapping[str | None, ResultsTable], caption: Content) -> Markup:
    """Results in one table, a group of rows for each unknown set.

    The best exact value of each metric is bold where there are several to compare.

    Args:
        tables: by unknown set; None stands for all of them together and needs no heading.
        caption: what the table shows.
    """
    metrics = list(dict.fromkeys(m for shown in tables.values() for m in shown.columns))
    rows = []
    for unknown, shown in tables.items():
        if unknown is not None:
            rows.append(Row(header=f"against {unknown}", cells=[""] * len(metrics), kind="group"))
        exact = [line.cells for line in shown.lines if line.rule == "exact"]
        best = {metric: best_value(metric, exact) for metric in metrics}
        rows += [_row(line, metrics, best) for line in shown.lines]
    titles = [METRICS[metric].title for metric in metrics]
    return table(caption, ["scorer", *titles], rows)


def _row(line: TableLine, metrics: Sequence[str], best: Mapping[str, float | None]) -> Row:
    cells = [table_cell(*line.cells[m]) if m in line.cells else "" for m in metrics]
    if line.rule != "exact":
        title = line.rule if line.rule == PUBLISHED else RULES[line.rule]
        return Row(header=title, cells=cells, kind="beside-row")
    top = [at for at, m in enumerate(metrics) if m in line.cells and line.cells[m][0] == best[m]]
    return Row(header=line.name, cells=cells, best=frozenset(top))


def best_value(
    metric: str, lines: Sequence[Mapping[str, tuple[float, float | None]]]
) -> float | None:
    """The best value of a metric among several lines; None where there is nothing to compare."""
    values = [line[metric][0] for line in lines if metric in line]
    if len(set(values)) < 2:
        return None
    return max(values) if METRICS[metric].higher_is_better else min(values)


def _all_metrics(view: View) -> Markup:
    """A table a rule and unknown set: metrics as rows, scorers as columns."""
    scorers = view.run.scorers
    sets: list[str | None] = [None]
    first = next(iter(scorers.values()), None)
    if first is not None and len(first.unknown) > 1:
        sets += list(first.unknown)
    made = Markup("")
    for unknown in sets:
        for rule, title in RULES.items():
            columns = {name: each.by_rule(rule, unknown) for name, each in scorers.items()}
            there = [metric for metric in METRICS if any(metric in c for c in columns.values())]
            if not there:
                continue
            against = "" if unknown is None else f" against {unknown}"
            if unknown is None and len(sets) > 1:
                against = " against all unknown sets together"
            rows = [
                Row(
                    header=METRICS[metric].title,
                    cells=[
                        percent(values[metric], 2) if metric in values else ""
                        for values in columns.values()
                    ],
                )
                for metric in there
            ]
            made += table(f"Percent{against}, {title}", ["metric", *columns], rows)
    meanings = [
        [element("dt", METRICS[m].title), element("dd", METRICS[m].definition)]
        for m in METRICS
        if any(m in each.metrics for each in scorers.values())
    ]
    return made + element("dl", meanings, class_="facts")
