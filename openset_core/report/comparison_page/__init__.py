"""The page of a comparison or bench, and its figures."""

from __future__ import annotations

from openset_core.report.comparison_page.making import (
    comparison_html,
    write_comparison_figures,
    write_comparison_page,
)
from openset_core.report.comparison_page.origin import Failure, Origin

__all__ = [
    "Failure",
    "Origin",
    "comparison_html",
    "write_comparison_figures",
    "write_comparison_page",
]
