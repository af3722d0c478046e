"""A comparison as plain records in full precision, for CSV, JSON and other programs."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs

from openset_core.results.run_results import RULES

if TYPE_CHECKING:
    from openset_core.results.comparison.analysis import Evidence

Record = dict[str, Any]


def summary_records(comparison: Evidence) -> list[Record]:
    """A record for each setting, method, evaluation rule and shown metric that has a value.

    Published figures stand in the record of the rule that they were made by; those of methods
    that were not run have records of their own, without our values.
    """
    figures = {
        (entry.setting, entry.method, entry.rule, entry.metric): entry.figure
        for entry in comparison.published
    }
    records: list[Record] = []
    for setting in comparison.settings:
        where = {
            "protocol": setting.protocol,
            "group": setting.group,
            "unknown": setting.unknown or "",
        }
        for metric in comparison.shown[setting]:
            ranks = comparison.ranks(setting, metric)
            for method in comparison.methods_in(setting):
                for rule in RULES:
                    found = comparison.estimate(setting, method, metric, rule)
                    figure = figures.pop((setting, method, rule, metric), None)
                    if found is None:
                        continue
                    records.append(
                        {
                            **where,
                            "method": method.name,
                            "scorer": method.scorer,
                            "metric": metric,
                            "rule": rule,
                            **attrs.asdict(found),
                            "unit": "trial" if setting.over_trials else "seed",
                            "rank": ranks.get(method) if rule == "exact" else None,
                            **_published(figure),
                        }
                    )
            for (place, method, rule, name), figure in figures.items():
                if (place, name) == (setting, metric):
                    records.append(
                        {
                            **where,
                            "method": method.name,
                            "scorer": method.scorer,
                            "metric": metric,
                            "rule": rule,
                            **_published(figure),
                        }
                    )
    return records


def _published(figure: Any) -> Record:
    return {
        "published": figure.value if figure else None,
        "published_deviation": figure.deviation if figure else None,
        "source": figure.source if figure else None,
    }


def difference_records(comparison: Evidence) -> list[Record]:
    """A record for each setting, metric and method that was compared with the reference."""
    return [
        {
            "protocol": setting.protocol,
            "group": setting.group,
            "unknown": setting.unknown or "",
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


def run_records(comparison: Evidence) -> list[Record]:
    """A record for each run, setting, scorer and evaluation rule: one column a metric."""
    return [
        {
            "folder": str(place.run.folder),
            "protocol": setting.protocol,
            "group": setting.group,
            "unknown": setting.unknown or "",
            "method": method.name,
            "scorer": method.scorer,
            "trial": place.run.results.trial,
            "seed": place.run.results.seed,
            "epochs": place.run.results.epochs,
            "seconds": sum(place.run.record.get("seconds", {}).values()),
            "rule": rule,
            **values,
        }
        for place in comparison.placed
        for setting in place.settings
        for scorer, method in place.methods.items()
        for rule in RULES
        if (values := place.run.results.scorers[scorer].by_rule(rule, setting.unknown))
    ]


def ranking_records(comparison: Evidence) -> list[Record]:
    """A record for each metric and ranked method: average rank over trials, and the tests."""
    records = []
    for metric in comparison.metrics:
        ranked = comparison.ranking(metric)
        if ranked is None:
            continue
        methods, ranking = ranked
        for position, method in enumerate(methods):
            records.append(
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
            )
    return records


def to_json(comparison: Evidence, **more: Any) -> str:
    """All records as JSON; a metric that is not defined is null.

    Args:
        comparison: what to write.
        **more: further entries, put first.
    """
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
    return json.dumps(_defined(values), indent=1, allow_nan=False) + "\n"


def _defined(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _defined(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_defined(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def to_csv(records: Sequence[Record]) -> str:
    """Records as comma-separated values with a header; empty where a value is missing."""
    columns = list(dict.fromkeys(name for record in records for name in record))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(records)
    return stream.getvalue()
