"""The tables of a comparison: methods by metrics and protocols, differences, ranks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from openset_core.metrics import METRICS
from openset_core.results.comparison.analysis import Analysis
from openset_core.results.comparison.model import EvaluationSetting, Method, PublishedEntry
from openset_core.results.comparison.statistics import Difference, Estimate, Ranking
from openset_core.results.run_results import RULES
from openset_core.results.tables import Cell, Column, Interval, Number, Table, rank_text

FEW_BLOCKS = 10  # the distribution behind Friedman's test is a rough approximation for these

Row = tuple[EvaluationSetting, Method, list[Cell]]
METHOD_COLUMNS = (Column("method", left=True), Column("scorer", left=True))


def comparison_tables(comparison: Analysis) -> list[Table]:
    """Everything, from the whole to its details: values, differences, ranks."""
    return [
        *metric_tables(comparison),
        *published_tables(comparison),
        *overview_tables(comparison),
        *interval_tables(comparison),
        *difference_tables(comparison),
        *ranking_tables(comparison),
    ]


def _table(
    title: str,
    settings: Sequence[EvaluationSetting],
    columns: Iterable[str],
    rows: Iterable[Row],
    notes: Iterable[str],
    first: str = "",
) -> Table:
    """A table with a row a method, and a column for the setting where there is more than one.

    `first` is the title of a column before all others, whose cell is then the first of each row.
    """
    condition = any(setting.condition for setting in settings)
    leading = int(bool(first))
    names = [Column(each, left=True) for each in [first] * leading + ["setting"] * condition]
    return Table(
        title=title,
        columns=(*names, *METHOD_COLUMNS, *map(Column, columns)),
        rows=tuple(
            (
                *cells[:leading],
                *([setting.condition] * condition),
                method.name,
                method.scorer,
                *cells[leading:],
            )
            for setting, method, cells in rows
        ),
        notes=tuple(notes),
    )


def _titles(metrics: Iterable[str]) -> list[str]:
    return [METRICS[metric].title for metric in metrics]


# --- methods by metrics ---------------------------------------------------------------------------


def metric_tables(comparison: Analysis, *, marks: bool = True) -> list[Table]:
    """For each protocol a row a method, a column a metric: mean and deviation.

    With `marks` a star marks what differs from the reference.
    """
    c = comparison
    tables = []
    for protocol, settings in c.protocols.items():
        metrics = c.metrics_in(settings)
        rows: list[Row] = []
        marked = False
        for setting in settings:
            by_method: dict[Method, list[Cell]] = {method: [] for method in c.methods_in(setting)}
            for metric in metrics:
                best, close = c.best(setting, metric), c.not_significantly_worse(setting, metric)
                compared = c.differences(setting, metric) if marks else {}
                for method, cells in by_method.items():
                    difference = compared.get(c.duplicate_of(method, metric))
                    differs = difference is not None and difference.significant(c.confidence)
                    estimate = c.estimate(setting, method, metric)
                    marked = marked or (differs and estimate is not None)
                    look = {"best": method in best, "close": method in close}
                    cells.append(_number(estimate, mark="*" if differs else "", **look))
            rows += [(setting, method, cells) for method, cells in by_method.items()]
        notes = list(dict.fromkeys(spread_note(c, setting) for setting in settings))
        if marked:
            notes.append(
                f"* differs from {c.reference.title} (paired t test, p < {_level(c)} after Holm)"
            )
        tables.append(_table(f"{protocol}: percent", settings, _titles(metrics), rows, notes))
    return tables


def spread_note(comparison: Analysis, setting: EvaluationSetting) -> str:
    """How deviations in a setting are formed, in one sentence."""
    runs = {
        run
        for (other, _method, rule, _metric), samples in comparison.samples.items()
        if other == setting and rule == "exact"
        for run in samples
    }
    seeds = len({seed for _trial, seed in runs})
    if setting.over_trials:
        each = f", each the mean of its {seeds} seeds" if seeds > 1 else ""
        trials = len({trial for trial, _seed in runs})
        return f"± standard deviation (n - 1) over {trials} trials{each}"
    if seeds > 1:
        return f"± standard deviation (n - 1) over {seeds} seeds of a single trial"
    return "one run a method, hence no deviation"


def interval_tables(comparison: Analysis) -> list[Table]:
    """For each protocol a row a method, a column a metric: interval and rank.

    Nothing for a protocol with a single run a method, which has no intervals.
    """
    c = comparison
    tables = []
    for protocol, settings in c.protocols.items():
        metrics = c.metrics_in(settings)
        rows: list[Row] = []
        counts: list[int] = []
        for setting in settings:
            ranks = {metric: c.ranks(setting, metric) for metric in metrics}
            for method in c.methods_in(setting):
                estimates = {metric: c.estimate(setting, method, metric) for metric in metrics}
                cells: list[Cell] = [
                    _interval(each, rank=ranks[metric].get(method)) if each else None
                    for metric, each in estimates.items()
                ]
                counts.append(max((each.units for each in estimates.values() if each), default=0))
                rows.append((setting, method, cells))
        if not any(isinstance(cell, Interval) for *_, cells in rows for cell in cells):
            continue
        over = units = settings[0].units
        titles = _titles(metrics)
        if len(set(counts)) > 1:
            titles.append(units)
            for (*_, cells), count in zip(rows, counts, strict=True):
                cells.append(str(count))
        else:
            over = f"{counts[0]} {units}"
        title = f"{protocol}: {confidence_text(c)} intervals of the means (rank), percent"
        note = f"t intervals of the mean over {over}; rank 1 is the best mean"
        tables.append(_table(title, settings, titles, rows, [note]))
    return tables


# --- figures from papers --------------------------------------------------------------------------


def published_tables(comparison: Analysis, protocols: Sequence[str] | None = None) -> list[Table]:
    """For each protocol and evaluation rule: ours by that rule beside what papers say."""
    tables = []
    for protocol in comparison.protocols if protocols is None else protocols:
        for rule, name in RULES.items():
            entries = [
                entry
                for entry in comparison.published
                if entry.setting.protocol == protocol
                and entry.rule == rule
                and entry.metric in comparison.shown[entry.setting]
            ]
            if entries:
                title = f"{protocol}: ours beside published figures, percent"
                if rule != "exact":
                    title += f"; ours by the same {name}"
                tables.append(_published_table(comparison, title, rule, entries))
    return tables


def _published_table(
    c: Analysis, title: str, rule: str, entries: Sequence[PublishedEntry]
) -> Table:
    settings = c.protocols[entries[0].setting.protocol]
    sources = {
        metric: names
        for metric in c.metrics_in(settings)
        if (names := dict.fromkeys(e.figure.source for e in entries if e.metric == metric))
    }
    figures = {(e.setting, e.method, e.metric): e.figure for e in entries}
    rows: list[Row] = []
    for setting in settings:
        here = [entry for entry in entries if entry.setting == setting]
        ours = [entry.method for entry in here if entry.run]
        for method in dict.fromkeys([*ours, *(entry.method for entry in here)]):
            cells: list[Cell] = []
            for metric in sources:
                estimate = c.estimate(setting, method, metric, rule) if method in ours else None
                figure = figures.get((setting, method, metric))
                theirs = Number(value=figure.value, deviation=figure.deviation) if figure else None
                cells += [_number(estimate), theirs]
            rows.append((setting, method, cells))
    columns = [each for metric_title in _titles(sources) for each in (metric_title, "published")]
    notes = [
        f"published {METRICS[metric].title}: {'; '.join(names)}"
        for metric, names in sources.items()
    ]
    return _table(title, settings, columns, rows, notes)


# --- differences ----------------------------------------------------------------------------------


def difference_tables(comparison: Analysis) -> list[Table]:
    """For each protocol: every method minus the reference, with interval and p-value."""
    c = comparison
    tables = []
    for protocol, settings in c.protocols.items():
        rows: list[Row] = []
        pairs = []
        for metric in c.metrics_in(settings):
            for setting in settings:
                for method, difference in c.differences(setting, metric).items():
                    pairs.append(difference.pairs)
                    cells: list[Cell] = [
                        METRICS[metric].title,
                        Number(value=difference.mean, signed=True),
                        _interval(difference, signed=True),
                        p_text(difference.p_adjusted),
                        verdict(difference, metric, c.confidence),
                    ]
                    rows.append((setting, method, cells))
        if not rows:
            continue
        units = settings[0].units
        title = f"{protocol}: difference to {c.reference.title} over the same {units}, "
        columns = ["difference", f"{confidence_text(c)} interval", "p (Holm)", "verdict"]
        notes = _difference_notes(c, pairs, units)
        tables.append(
            _table(f"{title}percentage points", settings, columns, rows, notes, first="metric")
        )
    return tables


def _difference_notes(c: Analysis, pairs: Sequence[int], units: str) -> list[str]:
    least, most = min(pairs), max(pairs)
    if most == 1:
        other = "seeds" if units == "trials" else "trials"
        return [f"one pair each: nothing can be said about chance; run more {units} or {other}"]
    return [
        f"paired t intervals over {least if least == most else f'{least} to {most}'} {units}, each "
        "for its difference alone",
        "p: paired t test with Holm's correction for all methods compared by one metric; better or "
        f"worse where p < {_level(c)}, else unclear: it may be chance",
    ]


def verdict(difference: Difference, metric: str, confidence: float) -> str:
    """What a difference means: better, worse, same, or unclear where it may be chance."""
    if difference.identical:
        return "same"
    if not difference.significant(confidence):
        return "unclear"
    return "better" if (difference.mean > 0) == METRICS[metric].higher_is_better else "worse"


# --- methods by protocols -------------------------------------------------------------------------


def overview_tables(comparison: Analysis) -> list[Table]:
    """For each metric a row a method, a column a protocol; nothing for a single protocol."""
    c = comparison
    tables = []
    for metric in c.metrics:
        settings = [s for s in c.settings if metric in c.shown[s]]
        if len({setting.protocol for setting in settings}) < 2:
            continue
        ranks = {setting: c.ranks(setting, metric) for setting in settings}
        best = {setting: c.best(setting, metric) for setting in settings}
        average = c.average_ranks(metric)
        rows: list[tuple[Cell, ...]] = []
        for method in c.methods:
            cells: list[Cell] = [
                _number(
                    c.estimate(setting, method, metric),
                    best=method in best[setting],
                    rank=ranks[setting].get(method),
                )
                for setting in settings
            ]
            if average:
                cells.append(rank_text(average[method]) if method in average else None)
            rows.append((method.name, method.scorer, *cells))
        spreads: dict[str, list[str]] = {}
        for setting in settings:
            spreads.setdefault(spread_note(c, setting), []).append(setting.title)
        titles = [setting.title for setting in settings] + ["average rank"] * bool(average)
        tables.append(
            Table(
                title=f"{METRICS[metric].title}, percent (rank)",
                columns=(*METHOD_COLUMNS, *map(Column, titles)),
                rows=tuple(rows),
                notes=tuple(
                    f"{note}: {', '.join(names)}" if len(spreads) > 1 else note
                    for note, names in spreads.items()
                ),
            )
        )
    return tables


def ranking_tables(comparison: Analysis) -> list[Table]:
    """Average ranks over all trials, a column a metric, with letters for what is not told apart.

    One table where all metrics rank the same methods over as many trials, as they mostly do.
    """
    alike: dict[tuple[tuple[Method, ...], str], dict[str, Ranking]] = {}
    for metric in comparison.metrics:
        if ranked := comparison.ranking(metric):
            methods, ranking = ranked
            alike.setdefault((methods, comparison.ranked_over(metric)), {})[metric] = ranking
    return [_ranking_table(comparison, *key, rankings) for key, rankings in alike.items()]


def _ranking_table(
    c: Analysis, methods: Sequence[Method], over: str, rankings: Mapping[str, Ranking]
) -> Table:
    first = next(iter(rankings.values()))
    notes = [
        "1 is best; methods that share a letter by a metric are not told apart: their ranks lie "
        f"closer than Nemenyi's critical difference of {first.critical_difference:.2f}"
    ]
    tested = {
        METRICS[m].title: ranking.p for m, ranking in rankings.items() if ranking.p is not None
    }
    if tested:
        results = ", ".join(f"{title} p {p_phrase(p)}" for title, p in tested.items())
        unclear = [title for title, p in tested.items() if p >= 1 - c.confidence]
        notes.append(
            f"Friedman's test: {results}"
            + (f"; by {', '.join(unclear)} no difference is shown at all" if unclear else "")
        )
    if first.blocks <= FEW_BLOCKS:
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
        columns=(*METHOD_COLUMNS, *map(Column, _titles(rankings))),
        rows=[
            (method.name, method.scorer, *(_lettered(each, n) for each in rankings.values()))
            for n, method in enumerate(methods)
        ],
        notes=tuple(notes),
    )


def _lettered(ranking: Ranking, method: int) -> str:
    """An average rank with the letters of the method's groups; `a` is the group of the best."""
    letters = (
        chr(ord("a") + number) if number < 26 else f"({number + 1})"
        for number, group in enumerate(ranking.groups)
        if method in group
    )
    return f"{ranking.average_ranks[method]:.2f} {''.join(letters)}"


# --- pieces ---------------------------------------------------------------------------------------


def _number(estimate: Estimate | None, **more: Any) -> Number | None:
    if estimate is None:
        return None
    return Number(value=estimate.mean, deviation=estimate.deviation, **more)


def _interval(estimate: Estimate | Difference, **more: Any) -> Interval | None:
    if estimate.low is None or estimate.high is None:
        return None
    return Interval(low=estimate.low, high=estimate.high, **more)


def p_phrase(p: float) -> str:
    """A p-value after the letter p: `= 0.033`, `< 0.001`."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def p_text(p: float | None) -> str | None:
    """A p-value alone: `0.033`, `< 0.001`."""
    return None if p is None else p_phrase(p).removeprefix("= ")


def confidence_text(comparison: Analysis) -> str:
    """The level of intervals: `95 %`."""
    return f"{100 * comparison.confidence:g} %"


def _level(comparison: Analysis) -> str:
    return f"{1 - comparison.confidence:.4g}"
