"""A protocol as `openset protocols show` prints it, in the words of its file."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from openset_core.experiment import config
from openset_core.experiment.training_options import TrainingOptions
from openset_core.metrics import METRICS
from openset_core.registry import registry
from openset_core.results.run_results import RULES
from openset_core.results.tables import Column, Number, Table, text

if TYPE_CHECKING:
    from openset_core.experiment.protocol import Protocol, ProtocolFile, Published


def described(protocol: Protocol, data: Sequence[str]) -> Iterator[str]:
    """The lines that describe a protocol; `data` are sentences on the data it needs."""
    content = protocol.content
    yield f"{protocol.name}: {content.summary}"
    lines = protocol.path.read_text(encoding="utf-8").splitlines()
    for line in itertools.takewhile(lambda line: line.startswith("#"), lines):
        yield f"  {line.removeprefix('#').removeprefix(' ')}"
    for title, words in _entries(protocol, data):
        yield from wrapped(words, f"  {title:<10}")
    if content.published:
        yield from ("", text([published_table(content.published)]))


def _entries(protocol: Protocol, data: Sequence[str]) -> Iterator[tuple[str, str]]:
    content = protocol.content
    if content.source:
        yield "source", content.source
    yield "file", f"{protocol.path} (--toml prints it, with all remarks)"
    for sentence in data:
        yield "data", sentence
    yield "images", assignments(config.unstructure(content.image))
    yield "known", assignments(_section(content.known))
    datasets = registry().of_kind("dataset")
    specs = [item.spec for item in datasets if item.name == content.known.dataset]
    names = specs[0].classes if specs else ()  # empty where the data set does not list them
    for number, classes in enumerate(content.known.trials):
        listed = [
            names[item] if isinstance(item, int) and item < len(names) else str(item)
            for item in classes
        ]
        yield "", f"trial {number}: {', '.join(listed)}"
    for name, unknown in content.unknown.items():
        values = _section(unknown)
        if unknown.trials:
            values["classes"] = "listed for each trial"
        elif not unknown.draw:
            values["classes"] = unknown.classes
        yield "unknown", f"{name}: {assignments(values)}"
    if not content.unknown:
        yield "unknown", "none: closed-set metrics only"
    if content.incremental:
        yield "later", f"classes={content.incremental.classes}, added after training one by one"
    share = f"{content.validation.fraction:.0%}"
    yield "held out", f"{share} of each class's training images, for validation"
    yield "threshold", assignments(config.unstructure(content.threshold))
    yield "defaults", assignments(config.unstructure(content.defaults))
    yield "training", assignments(content.training)
    for method, recipe in _recipes(content).items():
        yield "", f"with {method}: {assignments(recipe)}"
    for component, options in content.options.items():
        yield "options", f"of {component}: {assignments(options)}"
    titles = ", ".join(METRICS[name].title for name in content.report.metrics)
    each = ", a row for each unknown set" if content.report.per_unknown else ""
    yield "metrics", titles + each


def _section(section: Any) -> dict[str, Any]:
    """What a section on a data set says, where it is not the default; listed trials aside."""
    usual = {field.name: field.default for field in attrs.fields(type(section))}
    values = config.unstructure(section)
    return {key: value for key, value in values.items() if key != "trials" and value != usual[key]}


def _recipes(content: ProtocolFile) -> dict[str, dict[str, Any]]:
    """What differs from the general training for a method, by its own recipe or the protocol's;
    recipes for several components together are given as the file has them."""
    general = {
        field.name: content.training.get(field.name, field.default)
        for field in attrs.fields(TrainingOptions)
    }
    methods = [item for kind in ("loss", "generator") for item in registry().of_kind(kind)]
    own = {item.name: getattr(item.spec, "recipe", {}) for item in methods}
    differing = {
        method: {key: value for key, value in recipe.items() if value != general.get(key)}
        for method, recipe in config.merge(own, content.recipes).items()
    }
    return {method: recipe for method, recipe in differing.items() if recipe}


def assignments(values: Mapping[str, Any]) -> str:
    """Options as `key=value` words; empty tables are left out."""

    def word(value: Any) -> str:
        if isinstance(value, Mapping):
            return "{" + ",".join(f"{key}={word(item)}" for key, item in value.items()) + "}"
        if isinstance(value, list | tuple):
            return f"[{','.join(map(word, value))}]"
        return str(value).lower() if isinstance(value, bool) else str(value)

    words = [f"{key}={word(value)}" for key, value in values.items() if value != {}]
    return " ".join(words) or "the defaults"


def wrapped(words: str, first: str) -> list[str]:
    """Lines that begin flush with the end of `first`, which stands before the first one."""
    return textwrap.wrap(
        words,
        100,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_long_words=False,
        break_on_hyphens=False,
    )


def published_table(figures: Sequence[Published]) -> Table:
    """Published figures, a row for each method, score rule and unknown set."""
    metrics = [name for name in METRICS if any(figure.metric == name for figure in figures)]
    rows: dict[tuple[str, ...], dict[str, Number]] = {}
    sources: dict[str, dict[str, None]] = {}
    for figure in figures:
        changed = [f"{name}.{assignments(values)}" for name, values in figure.options.items()]
        key = (" ".join([figure.method, *changed]), figure.scorer or "", figure.unknown or "")
        number = Number(value=figure.value, deviation=figure.deviation)
        rows.setdefault(key, {})[figure.metric] = number
        source = figure.source + (f", {RULES[figure.compat]}" if figure.compat else "")
        sources.setdefault(source, {})[METRICS[figure.metric].title] = None
    left = [
        (column, title)
        for column, title in enumerate(("published, percent", "scorer", "against"))
        if any(key[column] for key in rows)
    ]
    return Table(
        columns=(
            *(Column(title, left=True) for _column, title in left),
            *(Column(METRICS[name].title) for name in metrics),
        ),
        rows=[
            (*(key[column] for column, _title in left), *(cells.get(name, "") for name in metrics))
            for key, cells in rows.items()
        ],
        notes=tuple(f"{', '.join(titles)}: {source}" for source, titles in sources.items()),
    )
