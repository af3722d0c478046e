"""A comparison as plain records in full precision, for CSV, JSON and other programs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import attrs

from openset_core.results.comparison.analysis import Analysis
from openset_core.results.comparison.model import EvaluationSetting, Method
from openset_core.results.run_results import RULES, PublishedFigure
from openset_core.results.tables import csv_text

Record = dict[str, Any]


def _place(setting: EvaluationSetting) -> Record:
    return {
        "protocol": setting.protocol,
        "group": setting.group,
        "unknown": setting.unknown or "",
    }


def summary_records(comparison: Analysis) -> list[Record]:
    """A record for each setting, method, evaluation rule and shown metric that has a value.

    Published figures stand in the record of the rule that they were made by; those of methods
    that were not run have records of their own, without our values.
    """
    figures = {
        (entry.setting, entry.method, entry.rule, entry.metric): entry.figure
        for entry in comparison.published
    }

    def record(method: Method, rule: str, ours: Record, figure: PublishedFigure | None) -> Record:
        return {
            **_place(setting),
            "method": method.name,
            "scorer": method.scorer,
            "metric": metric,
            "rule": rule,
            **ours,
            "published": figure.value if figure else None,
            "published_deviation": figure.deviation if figure else None,
            "source": figure.source if figure else None,
        }

    records: list[Record] = []
    for setting in comparison.settings:
        for metric in comparison.shown[setting]:
            ranks = comparison.ranks(setting, metric)
            for method in comparison.methods_in(setting):
                for rule in RULES:
                    estimate = comparison.estimate(setting, method, metric, rule)
                    figure = figures.pop((setting, method, rule, metric), None)
                    if estimate is None:
                        continue
                    ours = {
                        **attrs.asdict(estimate),
                        "unit": setting.units.removesuffix("s"),
                        "rank": ranks.get(method) if rule == "exact" else None,
                    }
                    records.append(record(method, rule, ours, figure))
            records += [
                record(method, rule, {}, figure)
                for (where, method, rule, name), figure in figures.items()
                if (where, name) == (setting, metric)
            ]
    return records


def difference_records(comparison: Analysis) -> list[Record]:
    """A record for each setting, metric and method that was compared with the reference."""
    return [
        {
            **_place(setting),
            "metric": metric,
            "method": method.name,
            "scorer": method.scorer,
            "reference": comparison.reference.name,
            "reference_scorer": comparison.reference.scorer,
            **attrs.asdict(difference),
            "confidence": comparison.confidence,
            "significant": difference.significant(comparison.confidence),
        }
        for setting in comparison.settings
        for metric in comparison.shown[setting]
        for method, difference in comparison.differences(setting, metric).items()
    ]


def run_records(comparison: Analysis) -> list[Record]:
    """A record for each run, setting, scorer and evaluation rule: one column a metric."""
    return [
        {
            "folder": str(each.run.folder),
            **_place(setting),
            "method": method.name,
            "scorer": method.scorer,
            "trial": each.run.results.trial,
            "seed": each.run.results.seed,
            "epochs": each.run.results.epochs,
            "seconds": each.run.seconds,
            "rule": rule,
            **values,
        }
        for each in comparison.runs
        for setting in each.settings
        for scorer, method in each.methods.items()
        for rule in RULES
        if (values := each.run.results.scorers[scorer].by_rule(rule, setting.unknown))
    ]


def ranking_records(comparison: Analysis) -> list[Record]:
    """A record for each metric and ranked method: average rank over trials, and the tests."""
    return [
        {
            "metric": metric,
            "method": method.name,
            "scorer": method.scorer,
            "average_rank": ranking.average_ranks[position],
            "blocks": ranking.blocks,
            "friedman_chi_square": ranking.statistic,
            "friedman_p": ranking.p,
            "critical_difference": ranking.critical_difference,
            "not_told_apart": [
                number for number, group in enumerate(ranking.groups) if position in group
            ],
        }
        for metric in comparison.metrics
        for methods, ranking in filter(None, [comparison.ranking(metric)])
        for position, method in enumerate(methods)
    ]


def to_json(comparison: Analysis, **more: Any) -> str:
    """All records as JSON, `more` entries first; a metric that is not defined is null."""
    values = {
        **more,
        "confidence": comparison.confidence,
        "reference": comparison.reference.title,
        "summary": summary_records(comparison),
        "differences": difference_records(comparison),
        "ranks": ranking_records(comparison),
        "runs": run_records(comparison),
        "notes": list(comparison.notes),
    }
    return json.dumps(_without_nan(values), indent=1, allow_nan=False) + "\n"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def to_csv(records: Sequence[Record]) -> str:
    columns = list(dict.fromkeys(name for record in records for name in record))
    return csv_text(columns, ([record.get(name, "") for name in columns] for record in records))
