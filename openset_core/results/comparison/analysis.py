"""What can be said about methods in settings: estimates, differences, ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from statistics import fmean
from typing import Any

import attrs

from openset_core.metrics.open_set import METRICS
from openset_core.results.comparison import statistics
from openset_core.results.comparison.grouping import GroupedRun
from openset_core.results.comparison.model import Key, Method, PublishedEntry, Samples, Setting
from openset_core.results.comparison.statistics import CONFIDENCE, Difference, Estimate, Ranking


@attrs.frozen(kw_only=True)
class Evidence:
    """Methods over settings, and what can be said of them.

    Attributes:
        methods: in the order in which they were first met, the scorers of one together.
        settings: in the order in which they were first met.
        samples: values by (trial, seed) for every setting, method, rule and metric.
        shown: metrics that count, by setting.
        published: figures from papers.
        reference: the method that the others are compared with.
        confidence: level of intervals and tests.
        notes: what a reader must know before believing a difference.
        placed: the runs that were used, in their places.
    """

    methods: tuple[Method, ...]
    settings: tuple[Setting, ...]
    samples: Mapping[Key, Samples] = attrs.field(eq=False, repr=False)
    shown: Mapping[Setting, tuple[str, ...]] = attrs.field(eq=False)
    published: tuple[PublishedEntry, ...] = attrs.field(eq=False, repr=False)
    reference: Method
    confidence: float = CONFIDENCE
    notes: tuple[str, ...] = ()
    placed: tuple[GroupedRun, ...] = attrs.field(default=(), eq=False, repr=False)

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """Every metric that some setting shows."""
        return tuple(dict.fromkeys(metric for names in self.shown.values() for metric in names))

    @cached_property
    def protocols(self) -> dict[str, tuple[Setting, ...]]:
        """Settings by protocol, in order."""
        found: dict[str, list[Setting]] = {}
        for setting in self.settings:
            found.setdefault(setting.protocol, []).append(setting)
        return {name: tuple(settings) for name, settings in found.items()}

    @cached_property
    def _methods_by_setting(self) -> dict[Setting, tuple[Method, ...]]:
        there = {(setting, method) for setting, method, _rule, _metric in self.samples}
        return {
            setting: tuple(method for method in self.methods if (setting, method) in there)
            for setting in self.settings
        }

    def methods_in(self, setting: Setting) -> tuple[Method, ...]:
        """Methods with results in a setting."""
        return self._methods_by_setting[setting]

    def estimate(
        self, setting: Setting, method: Method, metric: str, rule: str = "exact"
    ) -> Estimate | None:
        """Mean and interval of a method's metric; None where there is no value.

        Args:
            setting: where.
            method: whose.
            metric: name of the metric.
            rule: evaluation rule, one of `results.RULES`.
        """
        samples = self.samples.get((setting, method, rule, metric))
        if not samples:
            return None
        return statistics.estimate(samples, setting.over_trials, self.confidence)

    @cached_property
    def _stand_ins(self) -> dict[str, dict[Method, Method]]:
        """For each metric, the row that stands for a row with the very same values.

        Accuracy without rejection, for one, is the same by every scorer; ranked or tested once a
        scorer, one network would count as several.
        """
        values: dict[str, dict[Method, dict[Setting, Samples]]] = {}
        for (setting, method, rule, metric), samples in self.samples.items():
            if rule == "exact":
                values.setdefault(metric, {}).setdefault(method, {})[setting] = samples
        found: dict[str, dict[Method, Method]] = {}
        for metric, rows in values.items():
            stand_ins = found.setdefault(metric, {})
            for method in self.methods:
                if method in rows:
                    alike = (
                        other
                        for other in stand_ins.values()
                        if other.name == method.name and rows[other] == rows[method]
                    )
                    stand_ins[method] = next(alike, method)
        return found

    def duplicate_of(self, method: Method, metric: str) -> Method:
        """The row that counts for a method by a metric: another scorer's if it says the same."""
        return self._stand_ins.get(metric, {}).get(method, method)

    def differences(
        self, setting: Setting, metric: str, reference: Method | None = None
    ) -> dict[Method, Difference]:
        """Each method minus the reference, corrected over the methods compared by this metric.

        Left out are methods that share no trial with the reference, all of them where the
        reference has no results, and all but one of those that differ in a scorer which makes no
        difference to the metric.

        Args:
            setting: where.
            metric: name of the metric.
            reference: another one than the comparison's own.
        """
        first = self.duplicate_of(reference or self.reference, metric)
        theirs = self.samples.get((setting, first, "exact", metric))
        if not theirs:
            return {}
        found: dict[Method, Difference] = {}
        for method in self.methods_in(setting):
            ours = self.samples.get((setting, method, "exact", metric))
            if method == first or method != self.duplicate_of(method, metric) or not ours:
                continue
            difference = statistics.paired_difference(
                ours, theirs, setting.over_trials, self.confidence
            )
            if difference is not None:
                found[method] = difference
        return dict(zip(found, statistics.corrected(list(found.values())), strict=True))

    def best(self, setting: Setting, metric: str) -> tuple[Method, ...]:
        """Methods with the best mean; none where there is nothing to choose from."""
        ranks = self.ranks(setting, metric)
        if len(set(ranks.values())) < 2:
            return ()
        return tuple(method for method, rank in ranks.items() if rank == min(ranks.values()))

    def not_significantly_worse(self, setting: Setting, metric: str) -> tuple[Method, ...]:
        """Methods that are not clearly worse than the best one, which is not among them.

        Not clearly worse is what a paired t test after Holm's correction does not tell from the
        best mean. What cannot be tested, as single runs, is no contender.
        """
        best = self.best(setting, metric)
        if not best:
            return ()
        compared = self.differences(setting, metric, best[0])

        def close(method: Method) -> bool:
            found = compared.get(self.duplicate_of(method, metric))
            return (
                found is not None and found.p is not None and not found.significant(self.confidence)
            )

        return tuple(m for m in self.methods_in(setting) if m not in best and close(m))

    def metrics_in(self, settings: Sequence[Setting]) -> list[str]:
        """Metrics that some settings show and that some method has there."""
        shown = dict.fromkeys(metric for setting in settings for metric in self.shown[setting])
        there = {
            metric
            for setting, _method, rule, metric in self.samples
            if rule == "exact" and setting in settings
        }
        return [metric for metric in shown if metric in there]

    def ranks(self, setting: Setting, metric: str) -> dict[Method, float]:
        """Rank of each method's mean in a setting, 1 is best; ties share their mean rank.

        A network that several scorers judge alike takes one rank.
        """
        means = {
            method: found.mean
            for method in self.methods_in(setting)
            if (found := self.estimate(setting, method, metric)) is not None
        }
        ranked = [method for method in means if self.duplicate_of(method, metric) == method]
        values = [means[method] for method in ranked]
        ranks = statistics.rank(values, METRICS[metric].higher_is_better)
        found_ranks = dict(zip(ranked, map(float, ranks), strict=True))
        return {method: found_ranks[self.duplicate_of(method, metric)] for method in means}

    def average_ranks(self, metric: str) -> dict[Method, float]:
        """Mean rank over protocols, for methods that have all of a metric's settings.

        A protocol with several settings counts once, by its mean rank over them.
        """
        protocols = [
            [self.ranks(setting, metric) for setting in settings if metric in self.shown[setting]]
            for settings in self.protocols.values()
        ]
        protocols = [ranks for ranks in protocols if ranks]
        return {
            method: fmean(fmean(found[method] for found in ranks) for ranks in protocols)
            for method in self.methods
            if protocols and all(method in found for ranks in protocols for found in ranks)
        }

    def ranking(self, metric: str) -> tuple[tuple[Method, ...], Ranking] | None:
        """Methods ranked over all trials of all protocols, with the critical difference.

        A block is a trial of a protocol: the mean over its seeds, and over its unknown sets,
        which share the trained networks. With a single trial in all, the seeds are the blocks.
        Methods with less than half of the blocks are left out, then blocks that not every method
        has. A network that several scorers judge alike is ranked once.

        Returns:
            The methods that were ranked, and how; None for fewer than two methods or blocks.
        """
        values = self._block_values(metric)
        methods, whole = _common_blocks(values)
        if len(methods) < 2 or len(whole) < 2:
            return None
        table = [[values[method][block] for method in methods] for block in whole]
        higher = METRICS[metric].higher_is_better
        return methods, statistics.rank_methods(table, higher, self.confidence)

    def ranked_over(self, metric: str) -> str:
        """What a ranking's blocks are, in words: `5 trials`, or `9 trials of 2 protocols`."""
        _, whole = _common_blocks(self._block_values(metric))
        said = f"{len(whole)} {'seeds' if self._seeds_alone else 'trials'}"
        if len(self.protocols) == 1:
            return said
        found = list(dict.fromkeys(protocol for protocol, *_ in whole))
        return f"{said} of " + (found[0] if len(found) == 1 else f"{len(found)} protocols")

    @property
    def _seeds_alone(self) -> bool:
        """Whether there is a single trial in all, so that seeds are all there is to rank over."""
        places = {(setting.protocol, setting.group) for setting in self.settings}
        return len(places) == 1 and not self.settings[0].over_trials

    def _block_values(self, metric: str) -> dict[Method, dict[tuple[Any, ...], float]]:
        found: dict[Method, dict[tuple[Any, ...], list[float]]] = {
            method: {} for method in self.methods if self.duplicate_of(method, metric) == method
        }
        for (setting, method, rule, name), samples in self.samples.items():
            if (rule, name) != ("exact", metric) or method not in found:
                continue
            for (trial, seed), value in samples.items():
                block = (setting.protocol, setting.group, seed if self._seeds_alone else trial)
                found[method].setdefault(block, []).append(value)
        return {
            method: {block: fmean(many) for block, many in blocks.items()}
            for method, blocks in found.items()
        }


def _common_blocks(
    values: Mapping[Method, Mapping[tuple[Any, ...], float]],
) -> tuple[tuple[Method, ...], list[tuple[Any, ...]]]:
    """Methods that have half of the blocks at least, and the blocks that all of them have."""
    blocks = list(dict.fromkeys(block for found in values.values() for block in found))
    methods = tuple(m for m, found in values.items() if 2 * len(found) >= len(blocks))
    return methods, [block for block in blocks if all(block in values[m] for m in methods)]
