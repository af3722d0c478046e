"""What can be said about methods in settings: estimates, differences, ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from statistics import fmean
from typing import Any

import attrs

from openset_core.metrics import METRICS
from openset_core.results.comparison import statistics
from openset_core.results.comparison.grouping import GroupedRun
from openset_core.results.comparison.model import (
    EvaluationSetting,
    Key,
    Method,
    PublishedEntry,
    Samples,
)
from openset_core.results.comparison.statistics import CONFIDENCE, Difference, Estimate, Ranking


@attrs.frozen(kw_only=True)
class Analysis:
    """Methods over settings, in order of appearance, and what can be said of them."""

    methods: tuple[Method, ...]  # the scorers of one together
    settings: tuple[EvaluationSetting, ...]
    samples: Mapping[Key, Samples] = attrs.field(eq=False, repr=False)
    shown: Mapping[EvaluationSetting, tuple[str, ...]] = attrs.field(eq=False)  # metrics
    published: tuple[PublishedEntry, ...] = attrs.field(eq=False, repr=False)
    reference: Method
    confidence: float = CONFIDENCE
    notes: tuple[str, ...] = ()  # what a reader must know before believing a difference
    runs: tuple[GroupedRun, ...] = attrs.field(default=(), eq=False, repr=False)

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """Every metric that some setting shows."""
        return tuple(dict.fromkeys(metric for names in self.shown.values() for metric in names))

    @cached_property
    def protocols(self) -> dict[str, tuple[EvaluationSetting, ...]]:
        names = dict.fromkeys(setting.protocol for setting in self.settings)
        return {name: tuple(s for s in self.settings if s.protocol == name) for name in names}

    @cached_property
    def _exact(self) -> dict[str, dict[Method, dict[EvaluationSetting, Samples]]]:
        """Values by the exact evaluation, by metric, method and setting."""
        exact: dict[str, dict[Method, dict[EvaluationSetting, Samples]]] = {}
        for (setting, method, rule, metric), samples in self.samples.items():
            if rule == "exact":
                exact.setdefault(metric, {}).setdefault(method, {})[setting] = samples
        return exact

    @cached_property
    def _present(self) -> set[tuple[EvaluationSetting, Method]]:
        return {(setting, method) for setting, method, _rule, _metric in self.samples}

    def methods_in(self, setting: EvaluationSetting) -> tuple[Method, ...]:
        return tuple(method for method in self.methods if (setting, method) in self._present)

    def metrics_in(self, settings: Sequence[EvaluationSetting]) -> list[str]:
        """Metrics that some of the settings show and that some method has there."""
        shown = dict.fromkeys(metric for setting in settings for metric in self.shown[setting])
        return [
            metric
            for metric in shown
            if any(s in rows for s in settings for rows in self._exact.get(metric, {}).values())
        ]

    def estimate(
        self, setting: EvaluationSetting, method: Method, metric: str, rule: str = "exact"
    ) -> Estimate | None:
        """Mean and interval of a metric by one of `run_results.RULES`; None without a value."""
        samples = self.samples.get((setting, method, rule, metric))
        if not samples:
            return None
        return statistics.estimate(samples, setting.over_trials, self.confidence)

    @cached_property
    def _duplicates(self) -> dict[str, dict[Method, Method]]:
        """For each metric and method the first of its scorers with the very same values.

        Accuracy without rejection, for one, is the same by every scorer; ranked or tested once a
        scorer, one network would count as several.
        """
        duplicates: dict[str, dict[Method, Method]] = {}
        for metric, rows in self._exact.items():
            first = duplicates.setdefault(metric, {})
            for method in self.methods:
                if method in rows:
                    alike = (
                        other
                        for other in first.values()
                        if other.name == method.name and rows[other] == rows[method]
                    )
                    first[method] = next(alike, method)
        return duplicates

    def duplicate_of(self, method: Method, metric: str) -> Method:
        """The row that counts for a method by a metric: another scorer's if it has the same."""
        return self._duplicates.get(metric, {}).get(method, method)

    def differences(
        self, setting: EvaluationSetting, metric: str, reference: Method | None = None
    ) -> dict[Method, Difference]:
        """Each method minus the reference, corrected over the methods compared by this metric.

        Left out are methods that share no trial with the reference, all of them where the
        reference has no results, and all but one of those that differ in a scorer which makes no
        difference to the metric.
        """
        rows = self._exact.get(metric, {})
        first = self.duplicate_of(reference or self.reference, metric)
        theirs = rows.get(first, {}).get(setting)
        if not theirs:
            return {}
        differences: dict[Method, Difference] = {}
        for method in self.methods_in(setting):
            ours = rows.get(method, {}).get(setting)
            if method == first or method != self.duplicate_of(method, metric) or not ours:
                continue
            difference = statistics.paired_difference(
                ours, theirs, setting.over_trials, self.confidence
            )
            if difference is not None:
                differences[method] = difference
        return dict(zip(differences, statistics.corrected(list(differences.values())), strict=True))

    def best(self, setting: EvaluationSetting, metric: str) -> tuple[Method, ...]:
        """Methods with the best mean; none where there is nothing to choose from."""
        ranks = self.ranks(setting, metric)
        if len(set(ranks.values())) < 2:
            return ()
        return tuple(method for method, rank in ranks.items() if rank == min(ranks.values()))

    def not_significantly_worse(
        self, setting: EvaluationSetting, metric: str
    ) -> tuple[Method, ...]:
        """Methods that a paired t test after Holm's correction does not tell from the best mean.

        The best itself is not among them, nor what cannot be tested, such as single runs.
        """
        best = self.best(setting, metric)
        if not best:
            return ()
        close = {
            method
            for method, difference in self.differences(setting, metric, best[0]).items()
            if difference.p is not None and not difference.significant(self.confidence)
        }
        return tuple(
            method
            for method in self.methods_in(setting)
            if method not in best and self.duplicate_of(method, metric) in close
        )

    def ranks(self, setting: EvaluationSetting, metric: str) -> dict[Method, float]:
        """Rank of each method's mean in a setting, 1 is best; ties share their mean rank.

        A network with the same values by several scorers takes one rank.
        """
        means = {
            method: estimate.mean
            for method in self.methods_in(setting)
            if (estimate := self.estimate(setting, method, metric)) is not None
        }
        ranked = [method for method in means if self.duplicate_of(method, metric) == method]
        values = [means[method] for method in ranked]
        ranks = statistics.rank(values, METRICS[metric].higher_is_better)
        by_method = dict(zip(ranked, map(float, ranks), strict=True))
        return {method: by_method[self.duplicate_of(method, metric)] for method in means}

    def average_ranks(self, metric: str) -> dict[Method, float]:
        """Mean rank over protocols, for methods that have all of a metric's settings.

        A protocol with several settings counts once, by its mean rank over them.
        """
        protocols = [
            ranks
            for settings in self.protocols.values()
            if (ranks := [self.ranks(s, metric) for s in settings if metric in self.shown[s]])
        ]
        return {
            method: fmean(fmean(ranks[method] for ranks in protocol) for protocol in protocols)
            for method in self.methods
            if protocols and all(method in ranks for protocol in protocols for ranks in protocol)
        }

    def ranking(self, metric: str) -> tuple[tuple[Method, ...], Ranking] | None:
        """Methods ranked over all trials of all protocols; None for fewer than two of either.

        A block is a trial of a protocol: the mean over its seeds, and over its unknown sets,
        which share the trained networks. With a single trial in all, the seeds are the blocks.
        Methods with less than half of the blocks are left out, then blocks that not every method
        has. A network with the same values by several scorers is ranked once.
        """
        values = self._block_values(metric)
        methods, blocks = _common_blocks(values)
        if len(methods) < 2 or len(blocks) < 2:
            return None
        table = [[values[method][block] for method in methods] for block in blocks]
        higher = METRICS[metric].higher_is_better
        return methods, statistics.rank_methods(table, higher, self.confidence)

    def ranked_over(self, metric: str) -> str:
        """What a ranking's blocks are, in words: `5 trials`, or `9 trials of 2 protocols`."""
        _, blocks = _common_blocks(self._block_values(metric))
        count = f"{len(blocks)} {'seeds' if self._seeds_alone else 'trials'}"
        if len(self.protocols) == 1:
            return count
        names = list(dict.fromkeys(protocol for protocol, *_ in blocks))
        return f"{count} of " + (names[0] if len(names) == 1 else f"{len(names)} protocols")

    @property
    def _seeds_alone(self) -> bool:
        """Whether there is a single trial in all, so that only its seeds can be ranked over."""
        trials = {(setting.protocol, setting.group) for setting in self.settings}
        return len(trials) == 1 and not self.settings[0].over_trials

    def _block_values(self, metric: str) -> dict[Method, dict[tuple[Any, ...], float]]:
        means: dict[Method, dict[tuple[Any, ...], float]] = {}
        for method in self.methods:
            if self.duplicate_of(method, metric) != method:
                continue
            blocks: dict[tuple[Any, ...], list[float]] = {}
            for setting, samples in self._exact.get(metric, {}).get(method, {}).items():
                for (trial, seed), value in samples.items():
                    block = (setting.protocol, setting.group, seed if self._seeds_alone else trial)
                    blocks.setdefault(block, []).append(value)
            means[method] = {block: fmean(values) for block, values in blocks.items()}
        return means


def _common_blocks(
    values: Mapping[Method, Mapping[tuple[Any, ...], float]],
) -> tuple[tuple[Method, ...], list[tuple[Any, ...]]]:
    """Methods that have at least half of the blocks, and the blocks that all of these have."""
    blocks = list(dict.fromkeys(block for present in values.values() for block in present))
    methods = tuple(m for m, present in values.items() if 2 * len(present) >= len(blocks))
    return methods, [block for block in blocks if all(block in values[m] for m in methods)]
