"""What a comparison shows: tables of typed cells, which `formats` turns into text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import attrs

from openset_core.metrics.open_set import METRICS
from openset_core.results.comparison.model import Method, PublishedEntry, Setting
from openset_core.results.comparison.statistics import Difference, Estimate, Ranking
from openset_core.results.run_results import RULES

if TYPE_CHECKING:
    from openset_core.results.comparison.analysis import Evidence

FEW_BLOCKS = 10
"""Up to so many blocks the distribution behind Friedman's test is a rough approximation."""


@attrs.frozen(kw_only=True)
class Number:
    """A fraction, shown in percent.

    Attributes:
        value: a fraction; a difference of fractions where `signed`.
        deviation: shown after ±.
        signed: whether a plus is shown.
        mark: stands behind it, explained in a note.
        best: whether it is the best of its kind, for bold print.
        close: whether it is not clearly worse than the best.
        rank: stands behind it in parentheses.
    """

    value: float
    deviation: float | None = None
    signed: bool = False
    mark: str = ""
    best: bool = False
    close: bool = False
    rank: float | None = None


@attrs.frozen(kw_only=True)
class Interval:
    """Two fractions, shown in percent.

    Attributes:
        low: a fraction; a difference of fractions where `signed`.
        high: another.
        signed: whether a plus is shown.
        rank: stands behind it in parentheses.
    """

    low: float
    high: float
    signed: bool = False
    rank: float | None = None


Cell = str | Number | Interval | None


@attrs.frozen(kw_only=True)
class Column:
    """A column of a table; `left` for text, which is flush left."""

    title: str
    left: bool = False


@attrs.frozen(kw_only=True)
class Table:
    """A table.

    Attributes:
        title: one line.
        columns: titles, those flush left first.
        rows: as many cells in each as there are columns.
        notes: sentences that belong beneath it.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()


def comparison_tables(comparison: Evidence) -> list[Table]:
    """Everything, from the whole to its parts: values, intervals, differences, ranks."""
    return [
        *metric_tables(comparison),
        *published_tables(comparison),
        *overview_tables(comparison),
        *interval_tables(comparison),
        *difference_tables(comparison),
        *ranking_tables(comparison),
    ]


# --- methods by metrics ---------------------------------------------------------------------------


def metric_tables(comparison: Evidence, *, marks: bool = True) -> list[Table]:
    """For each protocol a row a method, a column a metric: mean and deviation.

    Args:
        comparison: what to show.
        marks: whether a star marks what differs from the reference.
    """
    return [
        _metric_table(comparison, protocol, settings, marks)
        for protocol, settings in comparison.protocols.items()
    ]


def _metric_table(c: Evidence, protocol: str, settings: Sequence[Setting], marks: bool) -> Table:
    metrics = c.metrics_in(settings)
    rows: list[tuple[Cell, ...]] = []
    for setting in settings:
        columns = {metric: _metric_column(c, setting, metric, marks) for metric in metrics}
        for method in c.methods_in(setting):
            cells = [column[method] for column in columns.values()]
            rows.append((*_condition(settings, setting), method.name, method.scorer, *cells))
    notes = list(dict.fromkeys(spread_note(c, setting) for setting in settings))
    if any(isinstance(cell, Number) and cell.mark for row in rows for cell in row):
        notes.append(
            f"* differs from {c.reference.title} (paired t test, p < {_level(c)} after Holm)"
        )
    return Table(
        title=f"{protocol}: percent",
        columns=(
            *_condition_column(settings),
            *_method_columns(),
            *(Column(title=METRICS[metric].title) for metric in metrics),
        ),
        rows=tuple(rows),
        notes=tuple(notes),
    )


def _metric_column(
    c: Evidence, setting: Setting, metric: str, marks: bool
) -> dict[Method, Number | None]:
    best, close = c.best(setting, metric), c.not_significantly_worse(setting, metric)
    compared = c.differences(setting, metric) if marks else {}

    def cell(method: Method) -> Number | None:
        difference = compared.get(c.duplicate_of(method, metric))
        mark = "*" if difference and difference.significant(c.confidence) else ""
        found = _number(c.estimate(setting, method, metric), mark=mark, best=method in best)
        return attrs.evolve(found, close=method in close) if found else None

    return {method: cell(method) for method in c.methods_in(setting)}


def spread_note(comparison: Evidence, setting: Setting) -> str:
    """How deviations in a setting are formed, in one sentence."""
    trials, seeds = set(), set()
    for (place, _method, rule, _metric), samples in comparison.samples.items():
        if place == setting and rule == "exact":
            trials |= {trial for trial, _seed in samples}
            seeds |= {seed for _trial, seed in samples}
    if setting.over_trials:
        each = f", each the mean of its {len(seeds)} seeds" if len(seeds) > 1 else ""
        return f"± standard deviation (n - 1) over {len(trials)} trials{each}"
    if len(seeds) > 1:
        return f"± standard deviation (n - 1) over {len(seeds)} seeds of a single trial"
    return "one run a method, hence no deviation"


def interval_tables(comparison: Evidence) -> list[Table]:
    """For each protocol a row a method, a column a metric: interval and rank.

    Nothing for a protocol with a single run a method, which has no intervals.
    """
    found = [
        _interval_table(comparison, protocol, settings)
        for protocol, settings in comparison.protocols.items()
    ]
    return [
        table
        for table in found
        if any(isinstance(cell, Interval) for row in table.rows for cell in row)
    ]


def _interval_table(c: Evidence, protocol: str, settings: Sequence[Setting]) -> Table:
    metrics = c.metrics_in(settings)
    rows: list[tuple[Cell, ...]] = []
    counts: list[int] = []
    for setting in settings:
        ranks = {metric: c.ranks(setting, metric) for metric in metrics}
        for method in c.methods_in(setting):
            found = {metric: c.estimate(setting, method, metric) for metric in metrics}
            cells = [
                _interval(each, rank=ranks[metric].get(method)) if each else None
                for metric, each in found.items()
            ]
            counts.append(max((each.units for each in found.values() if each), default=0))
            rows.append((*_condition(settings, setting), method.name, method.scorer, *cells))
    units = "trials" if settings[0].over_trials else "seeds"
    differ = len(set(counts)) > 1
    if differ:
        rows = [(*row, str(count)) for row, count in zip(rows, counts, strict=True)]
    over = units if differ else f"{counts[0]} {units}"
    level = _percent(c.confidence)
    return Table(
        title=f"{protocol}: {level} intervals of the means (rank), percent",
        columns=(
            *_condition_column(settings),
            *_method_columns(),
            *(Column(title=METRICS[metric].title) for metric in metrics),
            *([Column(title=units)] if differ else []),
        ),
        rows=tuple(rows),
        notes=(f"t intervals of the mean over {over}; rank 1 is the best mean",),
    )


# --- figures from papers --------------------------------------------------------------------------


def published_tables(comparison: Evidence, protocols: Sequence[str] | None = None) -> list[Table]:
    """For each protocol and evaluation rule: ours by that rule beside what papers say.

    Args:
        comparison: what to show.
        protocols: of which; all by default.
    """
    tables = []
    for protocol in comparison.protocols if protocols is None else protocols:
        settings = comparison.protocols[protocol]
        here = [entry for entry in comparison.published if entry.setting in settings]
        for rule, called in RULES.items():
            entries = [
                entry
                for entry in here
                if entry.rule == rule and entry.metric in comparison.shown[entry.setting]
            ]
            if entries:
                title = f"{protocol}: ours beside published figures, percent"
                if rule != "exact":
                    title += f"; ours by the same {called}"
                tables.append(_published_table(comparison, title, rule, settings, entries))
    return tables


def _published_table(
    c: Evidence,
    title: str,
    rule: str,
    settings: Sequence[Setting],
    entries: Sequence[PublishedEntry],
) -> Table:
    metrics = [m for m in c.metrics_in(settings) if any(e.metric == m for e in entries)]
    figures = {(e.setting, e.method, e.metric): e.figure for e in entries}
    rows: list[tuple[Cell, ...]] = []
    for setting in settings:
        ours = [e.method for e in entries if e.run and e.setting == setting]
        others = [e.method for e in entries if not e.run and e.setting == setting]
        for method in dict.fromkeys([*ours, *others]):
            cells: list[Cell] = []
            for metric in metrics:
                figure = figures.get((setting, method, metric))
                found = c.estimate(setting, method, metric, rule) if method in ours else None
                cells.append(_number(found) if found else None)
                cells.append(
                    Number(value=figure.value, deviation=figure.deviation) if figure else None
                )
            rows.append((*_condition(settings, setting), method.name, method.scorer, *cells))
    columns = [
        Column(title=title) for metric in metrics for title in (METRICS[metric].title, "published")
    ]
    sources = {
        metric: list(dict.fromkeys(e.figure.source for e in entries if e.metric == metric))
        for metric in metrics
    }
    notes = [f"published {METRICS[m].title}: {'; '.join(found)}" for m, found in sources.items()]
    return Table(
        title=title,
        columns=(*_condition_column(settings), *_method_columns(), *columns),
        rows=tuple(rows),
        notes=tuple(notes),
    )


# --- differences ----------------------------------------------------------------------------------


def difference_tables(comparison: Evidence) -> list[Table]:
    """For each protocol: every method minus the reference, with interval and p-value."""
    tables = []
    for protocol, settings in comparison.protocols.items():
        rows: list[tuple[Cell, ...]] = []
        compared: list[Difference] = []
        for metric in comparison.metrics_in(settings):
            for setting in settings:
                for method, difference in comparison.differences(setting, metric).items():
                    compared.append(difference)
                    rows.append(
                        (
                            METRICS[metric].title,
                            *_condition(settings, setting),
                            method.name,
                            method.scorer,
                            Number(value=difference.mean, signed=True),
                            _interval(difference, signed=True),
                            p_text(difference.p_adjusted),
                            verdict(difference, metric, comparison.confidence),
                        )
                    )
        if not rows:
            continue
        units = "trials" if settings[0].over_trials else "seeds"
        tables.append(
            Table(
                title=(
                    f"{protocol}: difference to {comparison.reference.title} over the same "
                    f"{units}, percentage points"
                ),
                columns=(
                    Column(title="metric", left=True),
                    *_condition_column(settings),
                    *_method_columns(),
                    Column(title="difference"),
                    Column(title=f"{_percent(comparison.confidence)} interval"),
                    Column(title="p (Holm)"),
                    Column(title="verdict"),
                ),
                rows=tuple(rows),
                notes=_difference_notes(comparison, compared, units),
            )
        )
    return tables


def _difference_notes(
    comparison: Evidence, compared: Sequence[Difference], units: str
) -> tuple[str, ...]:
    pairs = sorted({difference.pairs for difference in compared})
    if pairs == [1]:
        return (
            f"one pair each: nothing can be said about chance; run more {units}"
            + (" or seeds" if units == "trials" else " or trials"),
        )
    many = f"{pairs[0]}" if len(pairs) == 1 else f"{pairs[0]} to {pairs[-1]}"
    level = _level(comparison)
    return (
        f"paired t intervals over {many} {units}, each for its difference alone",
        "p: paired t test with Holm's correction for all methods compared by one metric; better or "
        f"worse where p < {level}, else unclear: it may be chance",
    )


def verdict(difference: Difference, metric: str, confidence: float) -> str:
    """What a difference means: better, worse, same, or unclear where it may be chance."""
    if difference.identical:
        return "same"
    if not difference.significant(confidence):
        return "unclear"
    higher = METRICS[metric].higher_is_better
    return "better" if (difference.mean > 0) == higher else "worse"


# --- methods by protocols -------------------------------------------------------------------------


def overview_tables(comparison: Evidence) -> list[Table]:
    """For each metric a row a method, a column a protocol; nothing for a single protocol."""
    tables = []
    for metric in comparison.metrics:
        settings = [s for s in comparison.settings if metric in comparison.shown[s]]
        if len({setting.protocol for setting in settings}) < 2:
            continue
        ranks = {setting: comparison.ranks(setting, metric) for setting in settings}
        best = {setting: comparison.best(setting, metric) for setting in settings}
        average = comparison.average_ranks(metric)
        rows: list[tuple[Cell, ...]] = []
        for method in comparison.methods:
            cells = [
                _number(
                    comparison.estimate(setting, method, metric),
                    best=method in best[setting],
                    rank=ranks[setting].get(method),
                )
                for setting in settings
            ]
            means = [rank_text(average[method]) if method in average else None] if average else []
            rows.append((method.name, method.scorer, *cells, *means))
        spreads = {setting.title: spread_note(comparison, setting) for setting in settings}
        notes = [
            f"{note}: {', '.join(title for title, own in spreads.items() if own == note)}"
            if len(set(spreads.values())) > 1
            else note
            for note in dict.fromkeys(spreads.values())
        ]
        tables.append(
            Table(
                title=f"{METRICS[metric].title}, percent (rank)",
                columns=(
                    *_method_columns(),
                    *(Column(title=setting.title) for setting in settings),
                    *([Column(title="average rank")] if average else []),
                ),
                rows=tuple(rows),
                notes=tuple(notes),
            )
        )
    return tables


def ranking_tables(comparison: Evidence) -> list[Table]:
    """Average ranks over all trials, a column a metric, with letters for what is not told apart.

    One table where all metrics rank the same methods over as many trials, as they mostly do.
    """
    alike: dict[tuple[tuple[Method, ...], int, str], dict[str, Ranking]] = {}
    for metric in comparison.metrics:
        ranked = comparison.ranking(metric)
        if ranked is not None:
            methods, ranking = ranked
            over = comparison.ranked_over(metric)
            alike.setdefault((methods, ranking.blocks, over), {})[metric] = ranking
    return [
        _ranking_table(comparison, methods, blocks, over, rankings)
        for (methods, blocks, over), rankings in alike.items()
    ]


def _ranking_table(
    c: Evidence,
    methods: Sequence[Method],
    blocks: int,
    over: str,
    rankings: Mapping[str, Ranking],
) -> Table:
    letters = {metric: _letters(len(methods), found.groups) for metric, found in rankings.items()}
    distance = next(iter(rankings.values())).critical_difference
    notes = [
        "1 is best; methods that share a letter by a metric are not told apart: their ranks lie "
        f"closer than Nemenyi's critical difference of {distance:.2f}"
    ]
    tested = {metric: found.p for metric, found in rankings.items() if found.p is not None}
    if tested:
        told = ", ".join(f"{METRICS[m].title} p {_p_phrase(p)}" for m, p in tested.items())
        unclear = [METRICS[m].title for m, p in tested.items() if p >= 1 - c.confidence]
        notes.append(
            f"Friedman's test: {told}"
            + (f"; by {', '.join(unclear)} no difference is shown at all" if unclear else "")
        )
    if blocks <= FEW_BLOCKS:
        notes.append(f"these tests are rough for as few as {over}")
    left_out = [
        method.title
        for method in c.methods
        if not any(c.duplicate_of(method, metric) in methods for metric in rankings)
    ]
    if left_out:
        notes.append(f"left out, with too few trials in common: {'; '.join(left_out)}")
    return Table(
        title=f"Average ranks over {over}",
        columns=(*_method_columns(), *(Column(title=METRICS[m].title) for m in rankings)),
        rows=tuple(
            (
                method.name,
                method.scorer,
                *(
                    f"{found.average_ranks[position]:.2f} {letters[metric][position]}"
                    for metric, found in rankings.items()
                ),
            )
            for position, method in enumerate(methods)
        ),
        notes=tuple(notes),
    )


def _letters(count: int, groups: Sequence[Sequence[int]]) -> list[str]:
    """For each method the letters of its groups; `a` is the group of the best."""
    names = [chr(ord("a") + number) for number in range(26)]
    return [
        "".join(
            names[number] if number < len(names) else f"({number + 1})"
            for number, group in enumerate(groups)
            if method in group
        )
        for method in range(count)
    ]


# --- pieces ---------------------------------------------------------------------------------------


def rank_text(rank: float) -> str:
    """A rank or an average of ranks, without needless zeros."""
    return f"{rank:.2f}".rstrip("0").rstrip(".")


def _method_columns() -> tuple[Column, Column]:
    return Column(title="method", left=True), Column(title="scorer", left=True)


def _condition_column(settings: Sequence[Setting]) -> tuple[Column, ...]:
    return (Column(title="setting", left=True),) if any(s.condition for s in settings) else ()


def _condition(settings: Sequence[Setting], setting: Setting) -> tuple[str, ...]:
    return (setting.condition,) if any(s.condition for s in settings) else ()


def _number(
    found: Estimate | None, mark: str = "", best: bool = False, rank: float | None = None
) -> Number | None:
    if found is None:
        return None
    return Number(value=found.mean, deviation=found.deviation, mark=mark, best=best, rank=rank)


def _interval(
    found: Estimate | Difference, signed: bool = False, rank: float | None = None
) -> Interval | None:
    if found.low is None or found.high is None:
        return None
    return Interval(low=found.low, high=found.high, signed=signed, rank=rank)


def _p_phrase(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def p_text(p: float | None) -> str | None:
    """A p-value to three decimals: `0.033`, `< 0.001`."""
    return None if p is None else _p_phrase(p).removeprefix("= ")


def _percent(level: float) -> str:
    return f"{100 * level:g} %"


def _level(comparison: Evidence) -> str:
    return f"{1 - comparison.confidence:.4g}"
