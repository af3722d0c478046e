"""The head of a run's page and its tables of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from openset_core.metrics import METRICS
from openset_core.report.formatting import percent
from openset_core.report.run_page.view import View
from openset_core.results.run_results import PUBLISHED, RULES, TrialsResults, table_cell

Values = Mapping[str, Any]


def subtitle(view: View) -> str:
    """Protocol, trial, seed and the size of the test."""
    results = view.run.results
    unknown = sum(n for split, n in results.samples.items() if split.startswith("unknown/"))
    samples = f"{results.samples.get('known', 0):,} known"
    samples += (
        f" and {unknown:,} unknown test samples" if unknown else " test samples, no unknown ones"
    )
    said = f"Protocol {results.protocol}, trial {results.trial}, seed {results.seed}; {samples}"
    return f"{said}; {results.group}" if results.group else said


def summary(view: View) -> str:
    """What the scorer's decisions come to, in a sentence."""
    run = view.run
    if run.known is None or not view.has_scores:
        return ""
    accepted = run.known.scores[view.scorer] <= view.threshold
    said = (
        f"At its threshold {view.scorer} accepts {percent(float(accepted.mean()))} % of the known "
        f"test samples; {percent(float((accepted & run.known.correct).mean()))} % of all known "
        "ones are accepted and get their right class."
    )
    if run.unknown:
        rejected = float(np.mean(run.pooled(view.scorer) > view.threshold))
        said += f" It rejects {percent(rejected)} % of the unknown ones."
    return said


def tiles(view: View) -> list[Values]:
    """The protocol's metrics of the scorer whose decisions are shown."""
    if not view.scorer:
        return []
    ours = view.decided.metrics
    return [
        {"title": METRICS[m].title, "value": percent(ours[m]), "beside": _published(view, m)}
        for m in view.run.results.shown
        if m in ours
    ]


def _published(view: View, metric: str) -> list[str]:
    figure = view.decided.published_against(None).get(metric)
    if figure is None:
        return []
    spread = "" if figure.deviation is None else f" ± {percent(figure.deviation)}"
    said = f"published {percent(figure.value)}{spread}"
    if figure.compat:
        ours = view.decided.by_rule(figure.compat, None).get(metric)
        if ours is not None:
            said += f", {RULES[figure.compat]}; ours by it {percent(ours)}"
    return [said]


def tables(view: View) -> Values:
    """The protocol's table, and every metric by every rule."""
    results = view.run.results
    trial = TrialsResults((results,))
    incremental = results.incremental
    added = []
    if incremental is not None:
        added = [
            {"header": f"{count:,}", "cells": [percent(value)]}
            for count, value in zip(incremental.classes, incremental.accuracy, strict=True)
        ]
    return {
        "main": _main_table({unknown: trial.against(unknown) for unknown in results.rows}),
        "sources": [f"{source[0].upper()}{source[1:]}." for source in trial.lines().sources],
        "all": _all_metrics(view),
        "meanings": [
            (METRICS[m].title, METRICS[m].definition)
            for m in METRICS
            if any(m in each.metrics for each in results.scorers.values())
        ],
        "added_classes": added,
    }


def _main_table(shown: Mapping[str | None, Any]) -> Values:
    """A group of rows for each unknown set; the best exact values are bold."""
    metrics = list(dict.fromkeys(metric for table in shown.values() for metric in table.columns))
    rows: list[Values] = []
    for unknown, table in shown.items():
        if unknown is not None:
            group = {"header": f"against {unknown}", "cells": [""] * len(metrics), "kind": "group"}
            rows.append(group)
        exact = [line.cells for line in table.lines if line.rule == "exact"]
        for line in table.lines:
            cells = [table_cell(*line.cells[m]) if m in line.cells else "" for m in metrics]
            if line.rule != "exact":
                title = line.rule if line.rule == PUBLISHED else RULES[line.rule]
                rows.append({"header": title, "cells": cells, "kind": "beside-row"})
                continue
            best = [
                at
                for at, m in enumerate(metrics)
                if m in line.cells and line.cells[m][0] == best_value(m, exact)
            ]
            rows.append({"header": line.name, "cells": cells, "best": best})
    return {"columns": ["scorer", *(METRICS[metric].title for metric in metrics)], "rows": rows}


def best_value(
    metric: str, lines: Sequence[Mapping[str, tuple[float, float | None]]]
) -> float | None:
    """The best value of a metric among several lines; None where there is nothing to compare."""
    values = [line[metric][0] for line in lines if metric in line]
    if len(set(values)) < 2:
        return None
    return max(values) if METRICS[metric].higher_is_better else min(values)


def _all_metrics(view: View) -> list[Values]:
    """A table a rule and unknown set: metrics as rows, scorers as columns."""
    scorers = view.run.scorers
    first = next(iter(scorers.values()), None)
    several = first is not None and len(first.unknown) > 1
    sets: list[str | None] = [None, *(first.unknown if first is not None and several else ())]
    made: list[Values] = []
    for unknown in sets:
        against = "" if unknown is None else f" against {unknown}"
        if several and unknown is None:
            against = " against all unknown sets together"
        for rule, title in RULES.items():
            columns = {name: each.by_rule(rule, unknown) for name, each in scorers.items()}
            rows = [
                {
                    "header": METRICS[m].title,
                    "cells": [percent(c[m], 2) if m in c else "" for c in columns.values()],
                }
                for m in METRICS
                if any(m in c for c in columns.values())
            ]
            if rows:
                caption = f"Percent{against}, {title}"
                made.append({"caption": caption, "columns": ["metric", *columns], "rows": rows})
    return made
