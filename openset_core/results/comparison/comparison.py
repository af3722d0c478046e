"""Comparisons: runs collected and analysed, and the forms in which that is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs

from openset_core.errors import ConfigError, did_you_mean
from openset_core.metrics import METRICS
from openset_core.results import tables
from openset_core.results.comparison import export
from openset_core.results.comparison.analysis import Analysis
from openset_core.results.comparison.grouping import group, published_figures
from openset_core.results.comparison.model import Method
from openset_core.results.comparison.runs import RunCollection, find_runs
from openset_core.results.comparison.statistics import CONFIDENCE
from openset_core.results.comparison.tables import comparison_tables
from openset_core.results.comparison.warnings import warnings


@attrs.frozen(kw_only=True)
class Comparison(Analysis):
    """Methods over settings, what can be said of them, and the forms in which it is read."""

    def table(self, width: int | None = None) -> str:
        """Everything as text; `width` columns of the terminal, wider tables are cut into pieces."""
        return tables.text(comparison_tables(self), self.notes, width)

    def markdown(self) -> str:
        """Everything as Markdown."""
        return tables.markdown(comparison_tables(self), self.notes)

    def latex(self) -> str:
        """Everything as LaTeX tables with booktabs."""
        return tables.latex(comparison_tables(self), self.notes)

    def csv(self) -> str:
        """A line for each setting, method, evaluation rule and metric, in full precision."""
        return export.to_csv(export.summary_records(self))

    def json(self) -> str:
        """Every record: summary, differences, ranks and single runs."""
        return export.to_json(self)


def compare(
    *paths: str | Path,
    metrics: Sequence[str] = (),
    reference: str | None = None,
    confidence: float = CONFIDENCE,
) -> Comparison:
    """Compare methods over protocols, trials and seeds.

    Args:
        *paths: run folders, benches, or folders that contain either.
        metrics: what to compare; the metrics of each protocol's table by default.
        reference: the method that the others are compared with, as the tables name it, with the
            scorer where it has several; the first method by default.
        confidence: level of intervals and tests, in (0, 1).

    Raises:
        OpensetError: no finished runs, an unknown metric or reference.
    """
    return compare_runs(find_runs([Path(path) for path in paths]), metrics, reference, confidence)


def compare_runs(
    collection: RunCollection,
    metrics: Sequence[str] = (),
    reference: str | None = None,
    confidence: float = CONFIDENCE,
) -> Comparison:
    """The same as `compare` for runs that are read already."""
    for metric in metrics:
        if metric not in METRICS:
            raise ConfigError(
                f"there is no metric {metric!r}{did_you_mean(metric, METRICS)}; there are "
                f"{', '.join(METRICS)}"
            )
    if not 0 < confidence < 1:
        raise ConfigError(f"the confidence level must lie between 0 and 1, not at {confidence}")
    grouped = group(collection.runs)
    return Comparison(
        methods=grouped.methods,
        settings=tuple(grouped.shown),
        samples=grouped.samples,
        shown={setting: tuple(metrics) or names for setting, names in grouped.shown.items()},
        published=tuple(published_figures(grouped)),
        reference=find_method(grouped.methods, reference),
        confidence=confidence,
        notes=tuple(warnings(grouped, collection.left_out)),
        runs=grouped.runs,
    )


def find_method(methods: Sequence[Method], wanted: str | None) -> Method:
    """The method that a text names; the first one for None.

    The text is a name as the tables show it, with or without the scorer, or the components in any
    order. Without a scorer it means the method's first one.
    """
    if wanted is None:
        return methods[0]
    text = " ".join(wanted.split())
    words = {word.strip() for word in text.split(",")}
    for method in methods:
        names = {*method.name.split(",")}
        if text in (method.name, method.title) or words in (names, {*names, method.scorer}):
            return method
    titles = [method.title for method in methods]
    raise ConfigError(
        f"no method is called {wanted!r}{did_you_mean(wanted, titles)}; there are "
        f"{'; '.join(titles)}"
    )
