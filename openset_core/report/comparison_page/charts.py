"""A comparison's charts: means, differences and ranks, for its page and for papers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from openset_core.metrics import METRICS
from openset_core.report.charts.intervals import IntervalRow, interval_chart, interval_panels
from openset_core.report.charts.output import Chart
from openset_core.report.charts.ranks import is_informative, rank_chart
from openset_core.report.charts.theme import TEXT
from openset_core.report.colours import UNKNOWN, colour
from openset_core.report.formatting import percent
from openset_core.results.comparison import Comparison
from openset_core.results.comparison.model import EvaluationSetting, Method, PublishedEntry
from openset_core.results.comparison.statistics import Ranking, by_unit
from openset_core.results.comparison.tables import p_text, verdict
from openset_core.results.run_results import RULES
from openset_core.results.tables import percent as signed_percent

MOST_FIGURES = 12  # settings that figures are made of; more nobody would print

VERDICTS = {
    "better": (colour(0).light, False),
    "worse": (colour(1).light, False),
    "same": (UNKNOWN.light, True),
    "unclear": (UNKNOWN.light, True),
}
"""Colour, and whether the dot is hollow, of each verdict."""


def heading(c: Comparison, setting: EvaluationSetting) -> str:
    """What sets a setting apart on a page; empty where there is only one."""
    return setting.title if len(c.protocols) > 1 else setting.condition


def scorer_label(c: Comparison, method: Method, metric: str) -> str:
    """The scorer that a chart names; none where all scorers of a method have the same values."""
    others = [other for other in c.methods if other.name == method.name]
    distinct = {c.duplicate_of(other, metric) for other in others}
    return "" if len(others) > 1 and len(distinct) == 1 else method.scorer


def _signed(value: float) -> str:
    return signed_percent(value, signed=True).replace("-", "−")


def mean_rows(c: Comparison, setting: EvaluationSetting, metric: str) -> list[IntervalRow]:
    """Means with intervals, single trials or seeds, and published figures."""
    scorers = list(dict.fromkeys(method.scorer for method in c.methods))
    published: dict[Method, list[PublishedEntry]] = {}
    for entry in c.published:
        if (entry.setting, entry.metric) == (setting, metric):
            published.setdefault(entry.method, []).append(entry)
    rows = []
    for method in c.methods_in(setting):
        estimate = c.estimate(setting, method, metric)
        scorer = scorer_label(c, method, metric)
        if estimate is None or (not scorer and method != c.duplicate_of(method, metric)):
            continue
        spread = "" if estimate.deviation is None else f" ± {percent(estimate.deviation)}"
        facts = {"method": method.name, **({"scorer": scorer} if scorer else {})}
        facts["mean" if estimate.units > 1 else "value"] = f"{percent(estimate.mean)}{spread} %"
        if estimate.low is not None and estimate.high is not None:
            facts["interval"] = f"{percent(estimate.low)} to {percent(estimate.high)} %"
        singles = {}
        if estimate.units > 1:
            facts["over"] = f"{estimate.units} {setting.units}"
            values = by_unit(c.samples[setting, method, "exact", metric], setting.over_trials)
            unit = setting.units.removesuffix("s")
            singles = {f"{unit} {number}": value for number, value in values.items()}
        entries = published.get(method, [])
        rows.append(
            IntervalRow(
                method=method.name,
                scorer=scorer,
                value=estimate.mean,
                low=estimate.low,
                high=estimate.high,
                colour=colour(scorers.index(scorer)).light if scorer else TEXT,
                facts=facts,
                singles=singles,
                published=tuple(map(_figure, entries)),
                same_rule=tuple(
                    (ours.mean, f"ours by the {RULES[entry.rule]}")
                    for entry in entries
                    if entry.rule != "exact"
                    and (ours := c.estimate(setting, method, metric, entry.rule)) is not None
                ),
            )
        )
    rows += [
        IntervalRow(
            method=method.name,
            scorer=method.scorer,
            colour=UNKNOWN.light,
            published=tuple(map(_figure, entries)),
        )
        for method, entries in published.items()
        if not any(entry.run for entry in entries)
    ]
    return rows


def _figure(entry: PublishedEntry) -> tuple[float, str]:
    rule = "" if entry.rule == "exact" else f"{RULES[entry.rule]}, "
    return entry.figure.value, f"published, {rule}{entry.figure.source}"


def means_chart(c: Comparison, setting: EvaluationSetting, metric: str) -> Chart:
    """Means of the methods by one metric in one setting."""
    means = [
        f"{method.title} {percent(estimate.mean)}"
        for method in c.methods_in(setting)
        if (estimate := c.estimate(setting, method, metric)) is not None
    ]
    description = f"Mean {METRICS[metric].title} in {setting.title}, percent: {'; '.join(means)}"
    return interval_chart(mean_rows(c, setting, metric), description, legend=True)


def difference_rows(c: Comparison, setting: EvaluationSetting, metric: str) -> list[IntervalRow]:
    """Paired differences to the reference with intervals; empty where nothing is compared."""
    rows = []
    for method, difference in c.differences(setting, metric).items():
        judged = verdict(difference, metric, c.confidence)
        look, hollow = VERDICTS[judged]
        p = p_text(difference.p_adjusted)
        facts = {"method": method.title, "difference": f"{_signed(difference.mean)} points"}
        if difference.low is not None and difference.high is not None:
            facts["interval"] = f"{_signed(difference.low)} to {_signed(difference.high)}"
        facts["pairs"] = str(difference.pairs)
        facts |= {"p (Holm)": p} if p else {}
        rows.append(
            IntervalRow(
                method=method.name,
                scorer=scorer_label(c, method, metric),
                value=difference.mean,
                low=difference.low,
                high=difference.high,
                colour=look,
                hollow=hollow,
                facts={**facts, "verdict": judged},
                side_label=f"p {p}" if p else "",
            )
        )
    return rows


def differences_chart(c: Comparison, setting: EvaluationSetting, metric: str) -> Chart | None:
    """Differences to the reference by one metric in one setting; None for nothing compared."""
    rows = difference_rows(c, setting, metric)
    if not rows:
        return None
    told = [
        f"{row.method} {row.scorer} {row.facts['difference']} {row.side_label}".strip()
        for row in rows
    ]
    description = (
        f"Differences of {METRICS[metric].title} to {c.reference.title} in {setting.title}, "
        f"percentage points: {'; '.join(told)}"
    )
    return interval_chart(rows, description, zero=True)


def ranks_chart(c: Comparison, metric: str, methods: Sequence[Method], ranking: Ranking) -> Chart:
    """The diagram of critical differences by one metric."""
    ordered = sorted(zip(ranking.average_ranks, methods, strict=True), key=lambda pair: pair[0])
    told = "; ".join(f"{method.title} {rank:.2f}" for rank, method in ordered)
    description = (
        f"Average ranks by {METRICS[metric].title} over {c.ranked_over(metric)}, critical "
        f"difference {ranking.critical_difference:.2f}: {told}"
    )
    names = [f"{method.name} {scorer_label(c, method, metric)}".strip() for method in methods]
    return rank_chart(ranking, names, description)


def figures(c: Comparison) -> Iterator[tuple[str, Chart]]:
    """For papers: file names without suffix, and panels of metrics or diagrams of ranks."""
    rows_of: dict[str, Callable[..., list[IntervalRow]]] = {
        "means": mean_rows,
        "differences": difference_rows,
    }
    for kind, make_rows in rows_of.items():
        for setting in c.settings[:MOST_FIGURES]:
            panels = {
                METRICS[metric].title: rows
                for metric in c.metrics_in([setting])
                if (rows := make_rows(c, setting, metric))
            }
            if panels:
                stem = "-".join([kind, *re.findall(r"[\w.+]+", heading(c, setting))])
                description = f"{kind} in {setting.title}"
                yield stem, interval_panels(panels, description, zero=kind == "differences")
    for metric in c.metrics:
        ranked = c.ranking(metric)
        if ranked is not None and is_informative(ranked[1]):
            stem = f"critical-difference-{metric.replace('_', '-')}"
            yield stem, ranks_chart(c, metric, *ranked)
