"""What a comparison is about: evaluation settings, methods, and figures from papers."""

from __future__ import annotations

import attrs

from openset_core.results.run_results import PublishedFigure


@attrs.frozen(kw_only=True)
class EvaluationSetting:
    """What methods are compared in: one column of a table of methods by protocols.

    Attributes:
        protocol: name of the protocol; of a person's own file its stem.
        group: group of trials that may be averaged, see `KnownSection.group`.
        unknown: the unknown set it is measured against; None for all of them together.
        over_trials: whether trials are the units of its statistics; else the seeds of the only
            trial.
    """

    protocol: str
    group: str = ""
    unknown: str | None = None
    over_trials: bool = True

    @property
    def condition(self) -> str:
        """What sets it apart within its protocol; empty where nothing does."""
        against = f"against {self.unknown}" if self.unknown is not None else ""
        return ", ".join(words for words in (self.group, against) if words)

    @property
    def units(self) -> str:
        """What deviations and tests are over, `trials` or `seeds`."""
        return "trials" if self.over_trials else "seeds"

    @property
    def title(self) -> str:
        """Protocol and condition."""
        return ", ".join(words for words in (self.protocol, self.condition) if words)


@attrs.frozen(kw_only=True)
class Method:
    """One row of a table: components with their options, and a scorer.

    Attributes:
        name: as shown; components as after `--plugins`, or what a bench calls it.
        scorer: name of the scorer.
        components: loss and generator, as published figures name them.
    """

    name: str
    scorer: str
    components: str = attrs.field(eq=False, default="")

    @property
    def title(self) -> str:
        """Name and scorer."""
        return f"{self.name} {self.scorer}".strip()


@attrs.frozen(kw_only=True)
class PublishedEntry:
    """A published figure in a setting.

    Attributes:
        setting: where it belongs.
        method: ours that it stands beside; for a method that was not run its name in the
            protocol, and the score rule where that is not the method's own.
        run: whether we have results of the method.
        metric: name of the metric.
        figure: value, source and evaluation rule.
    """

    setting: EvaluationSetting
    method: Method
    run: bool
    metric: str
    figure: PublishedFigure

    @property
    def rule(self) -> str:
        """The evaluation rule that the figure was made by, one of `results.RULES`."""
        return self.figure.compat or "exact"


Key = tuple[EvaluationSetting, Method, str, str]
"""EvaluationSetting, method, evaluation rule, metric."""
Samples = dict[tuple[int, int], float]
"""Values by (trial, seed)."""
