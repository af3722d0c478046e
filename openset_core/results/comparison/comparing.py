"""Comparisons: evidence collected from runs, in the forms in which it is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from openset_core.errors import ConfigError, did_you_mean
from openset_core.metrics.open_set import METRICS
from openset_core.results.comparison import export as records
from openset_core.results.comparison import render as formats
from openset_core.results.comparison import tables
from openset_core.results.comparison.analysis import Evidence
from openset_core.results.comparison.grouping import published_figures, sort_runs
from openset_core.results.comparison.model import Method
from openset_core.results.comparison.runs import RunCollection, find_runs
from openset_core.results.comparison.statistics import CONFIDENCE
from openset_core.results.comparison.warnings import notes

if TYPE_CHECKING:
    from openset_core.report.comparison_page.view import Origin


@attrs.frozen(kw_only=True)
class Comparison(Evidence):
    """Methods over settings, what can be said of them, and the forms in which it is read."""

    def table(self, width: int | None = None) -> str:
        """Everything as text for a terminal.

        Args:
            width: columns of the terminal; wider tables are cut into pieces. None for no limit.
        """
        return formats.text(tables.comparison_tables(self), self.notes, width)

    def markdown(self) -> str:
        """Everything as Markdown."""
        return formats.markdown(tables.comparison_tables(self), self.notes)

    def latex(self) -> str:
        """Everything as LaTeX tables with booktabs."""
        return formats.latex(tables.comparison_tables(self), self.notes)

    def csv(self) -> str:
        """A line for each setting, method, evaluation rule and metric, in full precision."""
        return records.to_csv(records.summary_records(self))

    def html(self, origin: Origin | None = None) -> str:
        """Everything as a page for a browser: one HTML file that loads nothing.

        Args:
            origin: what to say of where it comes from.
        """
        from openset_core.report.comparison_page.making import comparison_page

        return comparison_page(self, origin)

    def figures(self, folder: str | Path) -> tuple[Path, ...]:
        """Write the page's figures into a folder, as PNG and SVG, and return their paths.

        Raises:
            RunFolderError: the folder cannot be written.
        """
        from openset_core.report.comparison_page.making import comparison_figures

        return comparison_figures(self, Path(folder))

    def json(self) -> str:
        """Every record: summary, differences, ranks and single runs."""
        return records.to_json(self)


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
    found: RunCollection,
    metrics: Sequence[str] = (),
    reference: str | None = None,
    confidence: float = CONFIDENCE,
) -> Comparison:
    """The same for runs that were found already.

    Raises:
        OpensetError: an unknown metric or reference.
    """
    for metric in metrics:
        if metric not in METRICS:
            raise ConfigError(
                f"there is no metric {metric!r}{did_you_mean(metric, METRICS)}; there are "
                f"{', '.join(METRICS)}"
            )
    if not 0 < confidence < 1:
        raise ConfigError(f"the confidence level must lie between 0 and 1, not at {confidence}")
    places = sort_runs(found.runs)
    return Comparison(
        methods=places.methods,
        settings=tuple(places.shown),
        samples=places.samples,
        shown={setting: tuple(metrics) or names for setting, names in places.shown.items()},
        published=tuple(published_figures(places)),
        reference=find_method(places.methods, reference),
        confidence=confidence,
        notes=tuple(notes(places, found.left_out)),
        placed=places.placed,
    )


def find_method(methods: Sequence[Method], wanted: str | None) -> Method:
    """The method that a text names; the first one for None.

    The text is a name as the tables show it, with or without the scorer, or the parts in any
    order. Where the scorer is left open the method's first one is meant.

    Raises:
        ConfigError: no method is called so.
    """
    if wanted is None:
        return methods[0]
    text = " ".join(wanted.split())
    parts = {part.strip() for part in text.split(",")}

    def fits(method: Method) -> bool:
        names = {*method.name.split(",")}
        return text in (method.name, method.title) or parts in (names, {*names, method.scorer})

    for method in methods:
        if fits(method):
            return method
    titles = [method.title for method in methods]
    raise ConfigError(
        f"no method is called {wanted!r}{did_you_mean(wanted, titles)}; there are "
        f"{'; '.join(titles)}"
    )
