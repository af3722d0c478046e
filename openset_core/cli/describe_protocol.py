"""A protocol in words, for `openset protocols show`."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from openset_core.experiment.training_options import TrainingOptions
from openset_core.registry import registry

if TYPE_CHECKING:
    from openset_core.experiment.protocol import (
        ImageOptions,
        KnownSection,
        Protocol,
        ProtocolFile,
        Published,
        UnknownSection,
    )

WIDTH = 100
INDENT = 10


def described(protocol: Protocol, data: Sequence[str]) -> Iterator[str]:
    """The lines that describe a protocol.

    Args:
        protocol: the protocol.
        data: sentences on the data it needs.
    """
    content = protocol.content
    yield f"{protocol.name}: {content.summary}"
    yield from _remark(protocol.path)
    if content.source:
        yield from _entry("source", content.source)
    yield from _entry("file", f"{protocol.path} (--toml prints it, with all remarks)")
    for sentence in data:
        yield from _entry("data", sentence)
    yield from _entry("images", _image(content.image))
    yield from _known(content.known)
    for name, part in content.unknown.items():
        yield from _entry("unknown", f"{name}: {_unknown(part)}")
    if not content.unknown:
        yield from _entry("unknown", "none: closed-set metrics only")
    if content.incremental:
        later = content.incremental.classes
        chosen = "all other classes" if later == "rest" else f"classes {_spaced(later)}"
        yield from _entry("later", f"{chosen}, added after training one by one")
    share = f"{content.validation.fraction:.0%}"
    yield from _entry(
        "held out", f"{share} of each class's training images: validation, never test images"
    )
    fixed = ", ".join(f"{name} {value:g}" for name, value in content.threshold.fixed.items())
    rule = f"accepts {content.threshold.acceptance:.0%} of the validation images"
    yield from _entry("threshold", rule + (f"; also the paper's own: {fixed}" if fixed else ""))
    defaults = content.defaults
    parts = [*(part for part in (defaults.loss, defaults.backbone) if part), *defaults.scorers]
    yield from _entry("parts", f"{', '.join(parts)}, where nothing else is chosen")
    yield from _entry("training", _options(content.training))
    for method, recipe in _recipes(content).items():
        yield from _entry("", f"with {method}: {_options(recipe)}")
    for method, options in content.options.items():
        yield from _entry("options", f"of {method}: {_options(options)}")
    from openset_core.metrics import METRICS

    titles = ", ".join(METRICS[name].title for name in content.report.metrics)
    each = ", a row for each unknown set" if content.report.per_unknown else ""
    yield from _entry("metrics", titles + each)
    if content.published:
        yield ""
        yield from published_table(content.published)


def _remark(path: Path) -> Iterator[str]:
    """The comment at the head of a protocol's file; indented lines stay as they are."""
    lines = itertools.takewhile(
        lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines()
    )
    title = "about"
    for verbatim, group in itertools.groupby(lines, lambda line: line.startswith("#  ")):
        texts = [line.removeprefix("#").removeprefix(" ") for line in group]
        if verbatim:
            yield from (" " * (INDENT + 2) + text for text in texts)
        else:
            yield from _entry(title, " ".join(texts))
        title = ""


def _recipes(content: ProtocolFile) -> dict[str, dict[str, Any]]:
    """What differs from the general recipe for a method, by its own recipe or the protocol's.

    Recipes for several parts together are given as the file has them.
    """
    general = {
        field.name: content.training.get(field.name, field.default)
        for field in attrs.fields(TrainingOptions)
    }
    parts = [part for kind in ("loss", "generator") for part in registry().of_kind(kind)]
    recipes = {part.name: dict(getattr(part.spec, "recipe", {})) for part in parts}
    for method, recipe in content.recipes.items():
        recipes[method] = {**recipes.get(method, {}), **recipe}
    found = {
        method: {key: value for key, value in recipe.items() if value != general.get(key)}
        for method, recipe in recipes.items()
    }
    return {method: recipe for method, recipe in found.items() if recipe}


def _entry(title: str, text: str) -> list[str]:
    margin = " " * (INDENT + 2)
    first = f"  {title:<{INDENT}}"
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=margin,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _options(values: Mapping[str, Any]) -> str:
    def text(value: Any) -> str:
        if isinstance(value, list | tuple):
            return f"[{','.join(map(text, value))}]"
        return str(value).lower() if isinstance(value, bool) else str(value)

    return " ".join(f"{key}={text(value)}" for key, value in values.items()) or "the defaults"


def assignments(values: Mapping[str, Any], margin: str) -> list[str]:
    """Options as `key=value` texts, in lines."""
    return textwrap.wrap(
        _options(values),
        WIDTH,
        initial_indent=margin,
        subsequent_indent=margin,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _image(image: ImageOptions) -> str:
    def numbers(values: Iterable[float]) -> str:
        return ", ".join(f"{value:g}" for value in values)

    colours = {1: "grey", 3: "colour"}[image.channels]
    size = f"{image.size}x{image.size} {colours}, resized by {image.interpolation} interpolation"
    if image.fit:
        size += {"crop": ", the middle cut out", "stretch": ", stretched"}[image.fit]
    if set(image.mean) == {0.0} and set(image.std) == {1.0}:
        return f"{size}, pixels in [0, 1]"
    return f"{size}, pixels in [0, 1], less {numbers(image.mean)}, over {numbers(image.std)}"


def _dataset(name: str, options: Mapping[str, Any] | None, part: str | None = None) -> str:
    label = f"{name} {part}" if part else name
    return f"{label} ({_options(options)})" if options else label


def _class_names(dataset: str) -> tuple[str, ...]:
    """The classes of a data set, where it lists them and their numbers do not say the same."""
    found = [part for part in registry().of_kind("dataset") if part.name == dataset]
    names = tuple(found[0].spec.classes) if found else ()
    return () if names == tuple(map(str, range(len(names)))) else names


def _listed(classes: Sequence[int | str], names: Sequence[str]) -> str:
    return ", ".join(
        names[item] if isinstance(item, int) and item < len(names) else str(item)
        for item in classes
    )


def _spaced(ranges: str) -> str:
    return ranges.strip().replace(",", ", ")


def _known(known: KnownSection) -> Iterator[str]:
    where = f"of {_dataset(known.dataset, known.options)}"
    extra = f"; about {known.samples:,} training images" if known.samples else ""
    if known.test_fraction is not None:
        extra += f"; {known.test_fraction:.0%} of each class for testing"
    if known.draw:
        draw = known.draw
        counts = ", ".join(map(str, draw.counts))
        yield from _entry(
            "known",
            f"{counts} classes {where}, drawn from {_spaced(draw.classes)} by seed {draw.seed}; "
            f"{draw.trials} trial{'s' if draw.trials > 1 else ''} each{extra}",
        )
    elif known.classes is not None:
        chosen = "all classes" if known.classes == "all" else f"classes {_spaced(known.classes)}"
        yield from _entry("known", f"{chosen} {where}{extra}")
    else:
        yield from _entry("known", f"classes {where}{extra}")
        names = _class_names(known.dataset)
        for number, classes in enumerate(known.trials):
            yield from _entry("", f"trial {number}: {_listed(classes, names)}")


def _unknown(part: UnknownSection) -> str:
    where = f"of {_dataset(part.dataset, part.options, part.part)}"
    if part.draw:
        pool = _spaced(part.draw.classes)
        text = f"{part.draw.count} classes {where}, drawn for each trial by seed {part.draw.seed} "
        text += f"from {pool}"
    elif part.trials:
        sizes = sorted({len(classes) for classes in part.trials})
        text = f"{' or '.join(map(str, sizes))} classes {where}, listed for each trial"
    else:
        listed = part.classes not in ("all", "rest")
        text = f"{f'classes {_spaced(part.classes)}' if listed else 'all classes'} {where}"
        text += " that are not known" if part.classes == "rest" else ""
    if part.samples is not None:
        wanted = "as many images as known ones" if part.samples == "known" else f"{part.samples:,}"
        text += f"; {wanted}, drawn by seed"
    return text


def published_table(figures: Sequence[Published]) -> Iterator[str]:
    """Published figures as a table, a row for each method, score rule and unknown set."""
    from openset_core.metrics import METRICS
    from openset_core.results.run_results import RULES

    metrics = [name for name in METRICS if any(figure.metric == name for figure in figures)]
    rows: dict[tuple[str, str, str], dict[str, str]] = {}
    for figure in figures:
        changed = [f"{part}.{_options(values)}" for part, values in figure.options.items()]
        key = (" ".join([figure.method, *changed]), figure.scorer or "", figure.unknown or "")
        spread = "" if figure.deviation is None else f" ± {100 * figure.deviation:.1f}"
        rows.setdefault(key, {})[figure.metric] = f"{100 * figure.value:.1f}{spread}"
    header = ["published, percent", "scorer", "against", *(METRICS[name].title for name in metrics)]
    table = [header, *([*key, *(cells.get(m, "") for m in metrics)] for key, cells in rows.items())]
    used = [column for column in range(len(header)) if any(line[column] for line in table[1:])]
    widths = {column: max(len(line[column]) for line in table) for column in used}
    for line in table:
        cells = [line[c].rjust(widths[c]) if c > 2 else line[c].ljust(widths[c]) for c in used]
        yield "  ".join(cells).rstrip()
    sources: dict[str, list[str]] = {}
    for figure in figures:
        label = figure.source + (f", {RULES[figure.compat]}" if figure.compat else "")
        titles = sources.setdefault(label, [])
        if METRICS[figure.metric].title not in titles:
            titles.append(METRICS[figure.metric].title)
    for label, titles in sources.items():
        yield f"{', '.join(titles)}: {label}"
