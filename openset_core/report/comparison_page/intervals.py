"""Means with their intervals, single trials and published figures."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from openset_core.metrics.open_set import METRICS
from openset_core.report.axes import percent
from openset_core.report.colours import PALETTE, UNKNOWN, colour
from openset_core.report.comparison_page.cells import tables_markup
from openset_core.report.comparison_page.forest import Extra, Line, forest
from openset_core.report.comparison_page.paper import panels, place_name
from openset_core.report.comparison_page.view import Figures, View, many
from openset_core.report.markup import Content, cards, element, figure, folded
from openset_core.report.page import Section
from openset_core.report.svg import dot_key, toggles
from openset_core.results.comparison.model import EvaluationSetting, Method, PublishedEntry
from openset_core.results.comparison.statistics import Estimate, by_unit
from openset_core.results.comparison.tables import interval_tables
from openset_core.results.run_results import RULES

INK = "#303030"
EVERY_SCORER = "ink-colour"
"""Class of colour of what all scorers of a method say alike."""

OPEN_SETTINGS = 3
"""Charts of so many settings stand open on a page; those of others are folded away."""


def section(view: View) -> Section | None:
    """A chart for each metric, in each setting; None for a single value."""
    c = view.comparison
    several = any(_has_intervals(view, setting) for setting in c.settings)
    if not several and len(c.methods) == 1:
        return None
    body = Markup("")
    scorers = scorer_colours(c.methods)
    if len(scorers) > 1:
        keys = [(dot_key(look), scorer) for scorer, look in scorers.items()]
        body += toggles("Scorers:", keys)
    for number, setting in enumerate(c.settings):
        charts = cards(
            figure(
                f"{METRICS[metric].title}, %",
                forest(_lines(view, setting, metric), _in_words(view, setting, metric)),
                direction(metric),
            )
            for metric in c.metrics_in([setting])
        )
        body += under(view.heading(setting), charts, number < OPEN_SETTINGS)
    tables = interval_tables(c)
    if tables:
        body += folded("Intervals and ranks in numbers", tables_markup(tables))
    title = "Means and intervals" if several else "Values"
    return Section("means", title, body, _intro(view, several), short=title.partition(" ")[0])


def direction(metric: str) -> str | None:
    """What a reader must know of a metric that is better the lower it is."""
    return None if METRICS[metric].higher_is_better else "lower is better"


def under(heading: str, content: Content, unfolded: bool = True) -> Markup:
    """Content under a heading, which folds it away where it is not to stand open."""
    if not heading:
        return element("div", content)
    return (
        element("h3", heading) + element("div", content) if unfolded else folded(heading, content)
    )


def _intro(view: View, several: bool) -> str:
    c = view.comparison
    said = "A dot is a single run. "
    if several:
        units = view.units(c.settings[0])
        said = (
            f"A dot is the mean over {units}, its line the {view.level()} interval of that mean; "
            f"the small dots beneath are the single {units}. "
        )
    rules = {entry.rule for entry in c.published}
    if rules:
        said += "A hollow diamond is a published figure"
        if rules != {"exact"}:
            said += "; where that was made by another evaluation rule, a stroke marks ours by it"
        said += ". "
    return said + "Point at a mark, or walk along with the arrow keys, for its numbers."


def _has_intervals(view: View, setting: EvaluationSetting) -> bool:
    c = view.comparison
    estimates = [
        c.estimate(setting, method, metric)
        for method in c.methods_in(setting)
        for metric in c.metrics_in([setting])
    ]
    return any(found is not None and found.low is not None for found in estimates)


def scorer_colours(methods: Sequence[Method]) -> dict[str, str]:
    """A class of colour for each scorer."""
    scorers = dict.fromkeys(method.scorer for method in methods)
    return {scorer: f"c{number % len(PALETTE)}" for number, scorer in enumerate(scorers)}


def _lines(view: View, setting: EvaluationSetting, metric: str) -> list[Line]:
    c = view.comparison
    colours = scorer_colours(c.methods)
    published = _published(view, setting, metric)
    lines = []
    for method in c.methods_in(setting):
        found = c.estimate(setting, method, metric)
        scorer = view.scorer(method, metric)
        if found is None or (not scorer and method != c.duplicate_of(method, metric)):
            continue
        samples = c.samples[setting, method, "exact", metric]
        values = by_unit(samples, setting.over_trials) if found.units > 1 else {}
        unit = view.units(setting).removesuffix("s")
        extras: list[Extra] = []
        for entry in published.get(method, ()):
            extras += _beside(view, entry)
        lines.append(
            Line(
                name=method.name,
                label=scorer,
                value=found.mean,
                low=found.low,
                high=found.high,
                said=estimate_text(found, view, unit),
                colour=colours[scorer] if scorer else EVERY_SCORER,
                dots=tuple((v, f"{unit} {number}: {percent(v)} %") for number, v in values.items()),
                extras=tuple(extras),
            )
        )
    for method, entries in published.items():
        if not any(entry.run for entry in entries):
            label = method.scorer or "published"
            extras = [extra for entry in entries for extra in _beside(view, entry)]
            lines.append(Line(name=method.name, label=label, value=None, extras=tuple(extras)))
    return lines


def estimate_text(found: Estimate, view: View, unit: str) -> str:
    """A mean with all that is known of it, in percent."""
    said = f"{percent(found.mean)}"
    if found.deviation is None:
        return f"{said} %, a single run" if found.runs == 1 else f"{said} %"
    said += f" ± {percent(found.deviation)} %"
    if found.low is not None and found.high is not None:
        said += f"\n{view.level()} interval {percent(found.low)} to {percent(found.high)} %"
    return (
        said
        + f"\nover {many(found.units, unit)}"
        + (f", {found.runs} runs" if found.runs != found.units else "")
    )


def _published(
    view: View, setting: EvaluationSetting, metric: str
) -> dict[Method, list[PublishedEntry]]:
    found: dict[Method, list[PublishedEntry]] = {}
    for entry in view.comparison.published:
        if (entry.setting, entry.metric) == (setting, metric):
            found.setdefault(entry.method, []).append(entry)
    return found


def _beside(view: View, entry: PublishedEntry) -> list[Extra]:
    """A published figure, and ours by its rule where that is not the exact one."""
    figure_ = entry.figure
    spread = "" if figure_.deviation is None else f" ± {percent(figure_.deviation)}"
    rule = "" if entry.rule == "exact" else f", {RULES[entry.rule]}"
    said = f"published {percent(figure_.value)}{spread} %{rule}\n{figure_.source}"
    made = [Extra(value=figure_.value, said=said, kind="published")]
    ours = (
        view.comparison.estimate(entry.setting, entry.method, entry.metric, entry.rule)
        if entry.run and entry.rule != "exact"
        else None
    )
    if ours is not None:
        said = f"ours by the {RULES[entry.rule]}: {percent(ours.mean)} %"
        made.append(Extra(value=ours.mean, said=said, kind="alike"))
    return made


def _in_words(view: View, setting: EvaluationSetting, metric: str) -> str:
    c = view.comparison
    said = [
        f"{method.title} {percent(found.mean)}"
        for method in c.methods_in(setting)
        if (found := c.estimate(setting, method, metric)) is not None
    ]
    return f"Mean {METRICS[metric].title} in {setting.title}, percent: {'; '.join(said)}"


def figures(view: View) -> Figures:
    """A figure for each setting: a panel a metric."""
    c = view.comparison
    colours = {
        scorer: colour(number).light for number, scorer in enumerate(scorer_colours(c.methods))
    } | {"": INK}
    for setting in view.pictured:
        metrics = c.metrics_in([setting])
        lines = {metric: _lines(view, setting, metric) for metric in metrics}
        drawn = {METRICS[metric].title: found for metric, found in lines.items() if found}
        if drawn:
            yield (
                place_name("means", view, setting),
                panels(drawn, lambda line: colours.get(line.label, UNKNOWN.light)),
            )
