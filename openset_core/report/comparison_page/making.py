"""From a comparison to a page, and to figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import attrs

from openset_core.errors import OpensetError
from openset_core.experiment.protocol import load_protocol
from openset_core.files import write_text
from openset_core.metrics import METRICS
from openset_core.report.charts.output import Chart, save_chart
from openset_core.report.charts.ranks import LEAST_METHODS, is_informative
from openset_core.report.comparison_page import charts
from openset_core.report.comparison_page.charts import heading, scorer_label
from openset_core.report.comparison_page.origin import Origin
from openset_core.report.formatting import percent, seconds
from openset_core.report.render import render
from openset_core.results.comparison import Comparison
from openset_core.results.comparison.grouping import GroupedRun
from openset_core.results.comparison.model import EvaluationSetting
from openset_core.results.comparison.tables import (
    confidence_text,
    difference_tables,
    interval_tables,
    metric_tables,
    overview_tables,
    p_phrase,
    published_tables,
    ranking_tables,
)
from openset_core.results.tables import (
    Cell,
    Column,
    Interval,
    Number,
    Table,
    cell_text,
    many,
    rank_text,
)
from openset_core.run_folder import RunFolder

MOST_NOTES = 4  # at the head of the page; more stand further below
MOST_ROWS = 1500  # of single values on a page; files have them all
OPEN_SETTINGS = 3  # whose charts stand open on a page; those of others are folded away


def write_comparison_page(
    comparison: Comparison, path: str | Path, origin: Origin | None = None
) -> Path:
    """Write a comparison as a page for a browser: one HTML file that loads nothing.

    Args:
        comparison: what it shows.
        path: of the file.
        origin: where that comes from; links lead to run pages from the page's folder by default.
    """
    path = Path(path)
    write_text(path, comparison_html(comparison, origin or Origin(folder=path.parent)))
    return path


def write_comparison_figures(comparison: Comparison, folder: str | Path) -> tuple[Path, ...]:
    """Write the page's figures into a folder as PNG, SVG and PDF, and return their paths."""
    written: list[Path] = []
    for stem, chart in charts.figures(comparison):
        written += save_chart(chart, Path(folder) / stem)
    return tuple(sorted(written))


def comparison_html(comparison: Comparison, origin: Origin | None = None) -> str:
    """The page as HTML text."""
    c, origin = comparison, origin or Origin()
    notes = [_sentence(f"failed: {each.title}: {each.reason}") for each in origin.failures]
    notes += [_sentence(note) for note in c.notes]
    tables = zip(c.protocols, metric_tables(c, marks=False), strict=True)
    return render(
        "comparison.html",
        kind=origin.kind,
        title=_title(c),
        subtitle=_subtitle(c, origin),
        inputs=origin.inputs,
        c=c,
        origin=origin,
        has_run_pages=any(origin.link(RunFolder(each.run.folder).report) for each in c.runs),
        notes=notes,
        most_notes=MOST_NOTES,
        tiles=[tile for metric in c.metrics_in(c.settings) if (tile := _tile(c, metric))],
        tables=[(table, published_tables(c, [protocol])) for protocol, table in tables],
        single=len(c.protocols) == 1,
        legend=_legend(c),
        level=confidence_text(c),
        significance=f"{1 - c.confidence:.4g}",
        units=c.settings[0].units,
        methods=_methods(c),
        facts=list(_facts(c)),
        overview=overview_tables(c),
        means=_means(c),
        intervals=interval_tables(c),
        differences=_by_setting(c, charts.differences_chart),
        pairs=max(
            (
                difference.pairs
                for setting, metric in _shown(c)
                for difference in c.differences(setting, metric).values()
            ),
            default=0,
        ),
        difference_tables=difference_tables(c),
        ranks=_ranks(c),
        ranking_tables=ranking_tables(c),
        runs=list(_run_tables(c, origin)),
        sentence=_sentence,
        grouped=grouped,
    )


def _shown(c: Comparison) -> list[tuple[EvaluationSetting, str]]:
    """Settings with their metrics."""
    return [(setting, metric) for setting in c.settings for metric in c.metrics_in([setting])]


def _title(c: Comparison) -> str:
    names = list(dict.fromkeys(method.name for method in c.methods))
    where = ", ".join(c.protocols) if len(c.protocols) <= 3 else f"{len(c.protocols)} protocols"
    return f"{names[0] if len(names) == 1 else f'{len(names)} methods'} on {where}"


def _subtitle(c: Comparison, origin: Origin) -> str:
    results = [each.run.results for each in c.runs]
    counts = [
        many(len({result.trial for result in results}), "trial"),
        many(len({result.seed for result in results}), "seed"),
        many(len(results), "run"),
    ]
    failed = [f"{len(origin.failures)} failed"] if origin.failures else []
    return "; ".join(counts + failed)


def _tile(c: Comparison, metric: str) -> dict[str, Any] | None:
    """The best method by a metric: by its mean in the only setting, else by its average rank."""
    title = METRICS[metric].title
    if len(c.settings) == 1:
        (setting,) = c.settings
        methods = c.methods_in(setting)
        best = c.best(setting, metric)
        first = c.duplicate_of(best[0] if best else methods[0], metric)
        estimate = c.estimate(setting, first, metric)
        value = "–"
        if estimate:
            value = cell_text(Number(value=estimate.mean, deviation=estimate.deviation))
        if not best:
            beside = ["the same for all"] if len(methods) > 1 else []
            return {"title": title, "value": value, "beside": beside}
        close = {*best, *c.not_significantly_worse(setting, metric)}
        others = {c.duplicate_of(method, metric) for method in close} - {first}
        tested = [each.p for each in c.differences(setting, metric, first).values()]
        if others:
            beside = [f"{many(len(others), 'other')} not significantly worse"]
        elif all(p is None for p in tested):
            beside = ["too few runs to rule out chance"]
        else:
            beside = ["all others significantly worse"] if None not in tested else []
    else:
        ranks = c.average_ranks(metric)
        if len(set(ranks.values())) < 2:
            return None
        first = min(ranks, key=lambda method: ranks[method])
        value = f"rank {rank_text(ranks[first])}"
        over = many(len(c.protocols), "protocol") if len(c.protocols) > 1 else "settings"
        beside = [f"average over {over}"]
    name = f"{first.name} {scorer_label(c, first, metric)}".strip()
    return {"title": f"Best {title}", "value": value, "beside": [name, *beside]}


def _legend(c: Comparison) -> str:
    """What bold print and shades mean."""
    if not any(c.best(setting, metric) for setting, metric in _shown(c)):
        return ""
    legend = "Bold: the best mean."
    if any(c.not_significantly_worse(setting, metric) for setting, metric in _shown(c)):
        legend += (
            " Lightly shaded: not significantly worse; a paired t test does not tell it from the "
            f"best (p ≥ {1 - c.confidence:.4g} after Holm's correction)."
        )
    return legend


def grouped(
    table: Table, links: Mapping[int, str | None] | None = None
) -> Iterator[dict[str, Any]]:
    """Rows of a table for a template; names at the left stand once for all rows that share them.

    The last column flush left is never merged. `links` are addresses by row, for the second column.
    """
    left = sum(column.left for column in table.columns)

    def starts(number: int, column: int) -> bool:
        rows = table.rows
        return number == 0 or rows[number][: column + 1] != rows[number - 1][: column + 1]

    for number, row in enumerate(table.rows):
        names = []
        for column in range(left):
            last = column == left - 1
            if not last and not starts(number, column):
                continue
            end = number + 1
            while not last and end < len(table.rows) and not starts(end, column):
                end += 1
            link = links.get(number) if links and column == 1 else None
            kind = "scorer" if last else "" if column else "method"
            text = str(row[column] or "–")
            names.append({"text": text, "span": end - number, "kind": kind, "link": link})
        yield {
            "names": names,
            "cells": [_cell(cell) for cell in row[left:]],
            "begins": number > 0 and starts(number, 0),
        }


def _cell(cell: Cell) -> dict[str, str]:
    if not isinstance(cell, Number | Interval):
        return {"text": "–" if cell is None else cell_text(cell), "small": "", "kind": ""}
    small = f" ({rank_text(cell.rank)})" if cell.rank is not None else ""
    kind = ""
    plain: Cell = attrs.evolve(cell, rank=None)
    if isinstance(cell, Number):
        small = (f" ± {percent(cell.deviation)}" if cell.deviation is not None else "") + small
        kind = "best" if cell.best else "close" if cell.close else ""
        plain = Number(value=cell.value, signed=cell.signed)
    return {"text": cell_text(plain).replace("-", "−"), "small": small, "kind": kind}


def _methods(c: Comparison) -> tuple[list[str], list[dict[str, Any]]]:
    """Columns and rows of a table of methods: how often each was run, and what that took."""
    runs: dict[str, list[GroupedRun]] = {}
    for each in c.runs:
        for name in dict.fromkeys(method.name for method in each.methods.values()):
            runs.setdefault(name, []).append(each)
    rows = []
    for name, several in runs.items():
        results = several[0].run.results
        components = ",".join([*results.method.split("+"), results.backbone])
        own = (method for each in several for method in each.methods.values())
        taken = [each.run.seconds for each in several if each.run.seconds]
        cells = {
            "components": components if components != name else "",
            "scorers": ", ".join(dict.fromkeys(m.scorer for m in own if m.name == name)),
            "runs": f"{len(several)}",
            "epochs": _numbers(each.run.results.epochs for each in several),
            "time a run": seconds(fmean(taken)) if taken else "–",
        }
        rows.append((name, cells))
    columns = [key for key in rows[0][1] if any(cells[key] for _, cells in rows)]
    return ["method", *columns], [
        {"header": name, "cells": [cells[key] for key in columns]} for name, cells in rows
    ]


def _facts(c: Comparison) -> Iterator[tuple[str, str | list[str]]]:
    def distinct(values: Iterable[str]) -> str:
        return "; ".join(filter(None, dict.fromkeys(values))) or "not recorded"

    def entries(section: str) -> list[dict[str, Any]]:
        return [each.run.record.get(section, {}) for each in c.runs]

    for name in c.protocols:
        yield "Protocol", _protocol(c, name)
    yield "Trials", _numbers(each.run.results.trial for each in c.runs)
    yield "Seeds", _numbers(each.run.results.seed for each in c.runs)
    yield "Reference", c.reference.title
    yield "Confidence", confidence_text(c)
    yield (
        "Computed on",
        distinct(
            ", ".join(str(device[key]) for key in ("name", "precision") if key in device)
            for device in entries("device")
        ),
    )
    yield (
        "Versions",
        distinct(
            ", ".join(
                f"{name} {of}" for name, of in versions.items() if name in ("openset", "torch")
            )
            for versions in entries("versions")
        ),
    )


def _protocol(c: Comparison, name: str) -> list[str]:
    run = next(each.run for each in c.runs if each.settings[0] in c.protocols[name])
    lines = [name]
    try:
        content = load_protocol(str(run.recorded.get("protocol", ""))).content
        lines = [f"{name}: {content.summary}", *([content.source] if content.source else [])]
    except OpensetError:  # the file is gone
        pass
    samples = run.results.samples
    unknown = sum(count for split, count in samples.items() if split.startswith("unknown/"))
    counts = f"{samples.get('known', 0):,} known"
    counts += f" and {unknown:,} unknown test samples" if unknown else " test samples"
    return [*lines, f"{counts} in trial {run.results.trial}"]


def _numbers(values: Iterable[int]) -> str:
    """Whole numbers, each once, with consecutive ones shortened: `0 to 4, 7`."""
    spans: list[list[int]] = []
    for value in sorted(set(values)):
        if spans and value == spans[-1][-1] + 1:
            spans[-1].append(value)
        else:
            spans.append([value])
    return ", ".join(
        f"{span[0]} to {span[-1]}" if len(span) > 2 else ", ".join(map(str, span)) for span in spans
    )


def _by_setting(
    c: Comparison, chart: Callable[[Comparison, EvaluationSetting, str], Chart | None]
) -> list[dict[str, Any]]:
    """For each setting with charts its heading and a chart a metric."""
    settings: list[dict[str, Any]] = []
    for setting in c.settings:
        drawn = [
            {
                "title": METRICS[metric].title,
                "drawing": drawing,
                "subtitle": "" if METRICS[metric].higher_is_better else "lower is better",
            }
            for metric in c.metrics_in([setting])
            if (drawing := chart(c, setting, metric)) is not None
        ]
        if drawn:
            is_open = len(settings) < OPEN_SETTINGS
            settings.append({"heading": heading(c, setting), "charts": drawn, "open": is_open})
    return settings


def _means(c: Comparison) -> dict[str, Any] | None:
    """Charts of means; None for a single value."""
    several = any(
        estimate is not None and estimate.low is not None
        for setting, metric in _shown(c)
        for method in c.methods_in(setting)
        for estimate in [c.estimate(setting, method, metric)]
    )
    if not several and len(c.methods) == 1:
        return None
    rules = {entry.rule for entry in c.published}
    return {
        "several": several,
        "scorers": len({method.scorer for method in c.methods}) > 1,
        "published": bool(rules),
        "other_rules": bool(rules - {"exact"}),
        "settings": _by_setting(c, charts.means_chart),
    }


def _ranks(c: Comparison) -> dict[str, Any] | None:
    """Diagrams where ranks can be told apart at all, else why there is none."""
    rankings = {metric: ranked for metric in c.metrics if (ranked := c.ranking(metric))}
    if not rankings:
        return None
    drawn = []
    for metric, (methods, ranking) in rankings.items():
        if is_informative(ranking):
            tested = "" if ranking.p is None else f"; Friedman's test: p {p_phrase(ranking.p)}"
            drawn.append(
                {
                    "title": METRICS[metric].title,
                    "drawing": charts.ranks_chart(c, metric, methods, ranking),
                    "subtitle": c.ranked_over(metric) + tested,
                }
            )
    largest, (members, ranking) = max(rankings.items(), key=lambda item: len(item[1][0]))
    over, count = c.ranked_over(largest), len(members)
    if count < LEAST_METHODS:
        reason = "Two methods have no diagram of critical differences; their difference is enough."
    elif ranking.critical_difference < count - 1:
        reason = "All methods share their ranks."
    else:
        reason = (
            f"There is no diagram of critical differences: the average ranks of {count} methods "
            f"over {over} would have to lie {ranking.critical_difference:.2f} apart to be told "
            f"apart, and can lie {count - 1} apart at most. More of them help."
        )
    return {"charts": drawn, "unit": "seed" if " seeds" in over else "trial", "reason": reason}


def _run_tables(c: Comparison, origin: Origin) -> Iterator[dict[str, Any]]:
    """For each setting a table of every run, or a sentence where it is too long for a page."""
    left = MOST_ROWS
    order = {method: number for number, method in enumerate(c.methods)}

    def place(each: GroupedRun) -> tuple[int, int, int]:
        first = min(order[method] for method in each.methods.values())
        return first, each.run.results.trial, each.run.results.seed

    for setting in c.settings:
        runs = sorted((each for each in c.runs if setting in each.settings), key=place)
        count = sum(len(each.methods) for each in runs)
        title = f"Every run: {heading(c, setting)}".removesuffix(": ")
        if count > left:
            missing = f"{count:,} rows are too many for a page; CSV and JSON have them."
            yield {"title": title, "missing": f"{title}: {missing}"}
            continue
        left -= count
        metrics = c.metrics_in([setting])
        rows: list[tuple[Cell, ...]] = []
        links: dict[int, str | None] = {}
        for each in runs:
            run = each.run
            links[len(rows)] = origin.link(RunFolder(run.folder).report)
            name = f"trial {run.results.trial}, seed {run.results.seed}"
            for number, (scorer, method) in enumerate(each.methods.items()):
                values = run.results.scorers[scorer].by_rule("exact", setting.unknown)
                taken = "" if number else seconds(run.seconds) if run.seconds else "–"
                cells = [Number(value=values[m]) if m in values else None for m in metrics]
                rows.append((method.name, name, method.scorer, *cells, taken))
        titles = [*(METRICS[metric].title for metric in metrics), "time"]
        names = (Column(each, left=True) for each in ("method", "run", "scorer"))
        columns = (*names, *map(Column, titles))
        table = Table(title="Percent, exact evaluation", columns=columns, rows=rows)
        yield {"title": title, "table": table, "links": links}


def _sentence(text: str) -> str:
    """A sentence with a capital letter, unless it begins with a name or a symbol, and a stop."""
    word = text.partition(" ")[0].rstrip(":")
    if word.isalpha() and len(word) > 1:
        text = text[:1].upper() + text[1:]
    return text if text.endswith(".") else f"{text}."
