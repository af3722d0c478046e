"""What a comparison is about: evaluation settings, methods, and figures from papers."""

from __future__ import annotations

import attrs

from openset_core.results.run_results import PublishedFigure


@attrs.frozen(kw_only=True)
class EvaluationSetting:
    """What methods are compared in: one column of a table of methods by protocols."""

    protocol: str
    group: str = ""  # only trials of one group are averaged, see `KnownSection.group`
    unknown: str | None = None  # the unknown set that it is measured against; None for all
    over_trials: bool = True  # else the statistics are over the seeds of the only trial

    @property
    def condition(self) -> str:
        """What sets it apart within its protocol; empty where nothing does."""
        against = f"against {self.unknown}" if self.unknown is not None else ""
        return ", ".join(filter(None, (self.group, against)))

    @property
    def units(self) -> str:
        """What deviations and tests are over, `trials` or `seeds`."""
        return "trials" if self.over_trials else "seeds"

    @property
    def title(self) -> str:
        return ", ".join(filter(None, (self.protocol, self.condition)))


@attrs.frozen(kw_only=True)
class Method:
    """One row of a table: components with their options, and a scorer."""

    name: str  # components as after `--plugins`, or what a bench calls it
    scorer: str
    components: str = attrs.field(eq=False, default="")  # loss and generator, as figures name them

    @property
    def title(self) -> str:
        return f"{self.name} {self.scorer}".strip()


@attrs.frozen(kw_only=True)
class PublishedEntry:
    """A published figure in a setting.

    `method` is ours that it stands beside; for a method that was not run it has the protocol's
    name, and as scorer the score rule where that is not the method's own.
    """

    setting: EvaluationSetting
    method: Method
    run: bool  # whether we have results of the method
    metric: str
    figure: PublishedFigure

    @property
    def rule(self) -> str:
        """The evaluation rule that the figure was made by, one of `run_results.RULES`."""
        return self.figure.compat or "exact"


Key = tuple[EvaluationSetting, Method, str, str]
"""Setting, method, evaluation rule, metric."""
Samples = dict[tuple[int, int], float]
"""Values by (trial, seed)."""
