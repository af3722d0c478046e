"""Methods by metrics, ours beside published figures, and methods by protocols."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from openset_core.report.comparison_page.cells import tables_markup
from openset_core.report.comparison_page.view import View
from openset_core.report.markup import element, folded, note
from openset_core.report.page import Section
from openset_core.results.comparison.tables import (
    metric_tables,
    overview_tables,
    published_tables,
)
from openset_core.results.tables import Table


def section(view: View) -> Section:
    """For each protocol the compact table, then ours beside published figures."""
    c = view.comparison
    compact = metric_tables(c, marks=False)
    published = {protocol: published_tables(c, [protocol]) for protocol in c.protocols}
    if view.several_protocols:
        body = Markup("").join(
            tables_markup([table]) + _published(published[protocol], folds=True)
            for protocol, table in zip(c.protocols, compact, strict=True)
        )
        body += _legend(view)
    else:
        body = tables_markup(compact) + _legend(view)
        body += Markup("").join(_published(found) for found in published.values())
    return Section("results", "Results", body)


def _published(tables: Sequence[Table], folds: bool = False) -> Markup:
    if not tables:
        return Markup("")
    title, made = "Beside published figures", tables_markup(tables)
    return folded(title, made) if folds else element("h3", title) + made


def _legend(view: View) -> Markup:
    """What bold print and shades mean."""
    c = view.comparison
    places = [(s, metric) for s in c.settings for metric in c.metrics_in([s])]
    if not any(c.best(setting, metric) for setting, metric in places):
        return Markup("")
    said = "Bold: the best mean."
    if any(c.not_significantly_worse(setting, metric) for setting, metric in places):
        said += (
            " Lightly shaded: not clearly worse, which is to say that a paired t test does not "
            f"tell it from the best (p ≥ {view.significance()} after Holm's correction)."
        )
    return note(said)


def across(view: View) -> Section | None:
    """Methods by protocols, with ranks; None for a single protocol."""
    tables = overview_tables(view.comparison)
    if not tables:
        return None
    return Section(
        "protocols",
        "Methods by protocols",
        tables_markup(tables),
        "In parentheses the rank within the protocol; 1 is best.",
        short="Protocols",
    )
