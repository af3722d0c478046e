"""What the topics of a comparison's page look at."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import quote

from attrs import frozen

from openset_core.results.comparison.model import EvaluationSetting, Method

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from openset_core.results.comparison.comparison import Comparison

Figures: TypeAlias = "Iterator[tuple[str, Figure]]"
"""File names without suffix, and the figures; drawn one by one within `style.paper_style`."""


MOST_PICTURED = 12
"""Figures are made of so many settings; of more nobody would print them."""


@frozen(kw_only=True)
class Failure:
    """A run that failed.

    Attributes:
        title: method, protocol, trial and seed.
        reason: one sentence.
    """

    title: str
    reason: str


@frozen(kw_only=True)
class Origin:
    """Where a comparison comes from, as its page tells it.

    Attributes:
        kind: what it is, in a word.
        command: repeats it; empty where nobody knows.
        folder: where the page will lie, so that it can point to files; None for nowhere.
        failures: runs that failed.
        asked: what a bench was asked, as TOML.
        files: names of files beside the page, and what they are.
        inputs: hash of what the page is made from; written into it where given.
    """

    kind: str = "Comparison"
    command: str = ""
    folder: Path | None = None
    failures: tuple[Failure, ...] = ()
    asked: str = ""
    files: tuple[tuple[str, str], ...] = ()
    inputs: str = ""

    def link(self, path: Path) -> str | None:
        """A relative address of a file, from the page; None where there is no way to it."""
        if self.folder is None or not path.exists():
            return None
        try:
            way = os.path.relpath(path.resolve(), self.folder.resolve())
        except ValueError:  # another drive
            return None
        return quote(Path(way).as_posix())


@frozen(kw_only=True, eq=False)
class View:
    """A comparison as its page shows it.

    Attributes:
        comparison: what is shown.
        origin: where it comes from.
    """

    comparison: Comparison
    origin: Origin = Origin()

    @property
    def several_protocols(self) -> bool:
        """Whether there is more than one."""
        return len(self.comparison.protocols) > 1

    @property
    def pictured(self) -> tuple[EvaluationSetting, ...]:
        """Settings that have figures for papers."""
        return self.comparison.settings[:MOST_PICTURED]

    def heading(self, setting: EvaluationSetting) -> str:
        """What sets a setting apart on the page; empty where there is only one."""
        return setting.title if self.several_protocols else setting.condition

    def scorer(self, method: Method, metric: str) -> str:
        """The scorer that a chart names; none where all scorers of a method say the same."""
        c = self.comparison
        others = [other for other in c.methods if other.name == method.name]
        stand_ins = {c.duplicate_of(other, metric) for other in others}
        return "" if len(others) > 1 and len(stand_ins) == 1 else method.scorer

    def units(self, setting: EvaluationSetting) -> str:
        """What deviations and tests are over."""
        return "trials" if setting.over_trials else "seeds"

    def level(self) -> str:
        """The level of intervals, in percent."""
        return f"{100 * self.comparison.confidence:g} %"

    def significance(self) -> str:
        """The level of tests."""
        return f"{1 - self.comparison.confidence:.4g}"


def many(count: int, what: str) -> str:
    """A number of things: `1 trial`, `5 trials`."""
    return f"{count:,} {what}" + ("" if count == 1 else "s")
