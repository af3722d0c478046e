"""The rejection threshold: a share of held-out known images to accept, or a score.

A score above the threshold means unknown. By default the protocol's share of the validation
images, which are held out of the known training images, is accepted; test images never count.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
from attrs.validators import gt, le, optional

from openset_core import metrics
from openset_core.errors import ConfigError, did_you_mean

FORM = "acceptance=0.95, or 0.95 for short, or score=VALUE"


def _finite(_instance: Any, attribute: Any, value: float) -> None:
    if not math.isfinite(value):
        raise ValueError(f"{attribute.name} must be a finite number, not {value}")


@attrs.frozen(kw_only=True)
class ThresholdChoice:
    """How one scorer's threshold is set: exactly one of the two."""

    # share of validation samples
    acceptance: float | None = attrs.field(default=None, validator=optional([gt(0.0), le(1.0)]))
    score: float | None = attrs.field(default=None, validator=optional(_finite))

    def __attrs_post_init__(self) -> None:
        if (self.acceptance is None) == (self.score is None):
            raise ValueError("a threshold is set by acceptance or by score, one of the two")

    def value(self, validation_scores: npt.NDArray[np.float64]) -> float:
        """The threshold, given the scores of the validation samples, [n]."""
        if self.score is not None:
            return self.score
        assert self.acceptance is not None
        return metrics.threshold_at_acceptance(validation_scores, self.acceptance)


@attrs.frozen(kw_only=True)
class Thresholds:
    """What a user chose for the scorers of a run."""

    # for every scorer; the protocol's when None
    acceptance: float | None = attrs.field(default=None, validator=optional([gt(0.0), le(1.0)]))
    scorers: dict[str, ThresholdChoice] = attrs.field(factory=dict)

    def choice(self, scorer: str, default: float) -> ThresholdChoice:
        """What counts for a scorer.

        >>> Thresholds(acceptance=0.99).choice("my-scorer", default=0.95)
        ThresholdChoice(acceptance=0.99, score=None)
        """
        if scorer in self.scorers:
            return self.scorers[scorer]
        return ThresholdChoice(acceptance=default if self.acceptance is None else self.acceptance)

    def changed(self, rules: Iterable[tuple[str, ThresholdChoice]]) -> Thresholds:
        """These choices and later ones by scorer; one for "" (all) replaces all before it."""
        thresholds = self
        for scorer, choice in rules:
            if scorer:
                thresholds = attrs.evolve(
                    thresholds, scorers={**thresholds.scorers, scorer: choice}
                )
            else:
                thresholds = Thresholds(acceptance=choice.acceptance)
        return thresholds

    def joined(self, later: Thresholds) -> Thresholds:
        """These choices where a later call made none; its choice for all scorers replaces all."""
        if later.acceptance is not None:
            return later
        return attrs.evolve(self, scorers={**self.scorers, **later.scorers})

    def __bool__(self) -> bool:
        return self.acceptance is not None or bool(self.scorers)


def parse_rule(text: str) -> tuple[str, ThresholdChoice]:
    """Read `[SCORER:]acceptance=SHARE`, `[SCORER:]SHARE` or `[SCORER:]score=VALUE`.

    >>> parse_rule("0.99")
    ('', ThresholdChoice(acceptance=0.99, score=None))
    >>> parse_rule("my-scorer:score=1.5")
    ('my-scorer', ThresholdChoice(acceptance=None, score=1.5))
    """
    scorer, _, rule = text.rpartition(":")
    key, equals, number = rule.partition("=")
    if not equals:
        key, number = "acceptance", rule
    try:
        if key.strip() not in ("acceptance", "score"):
            raise ConfigError(f"--threshold {text!r} is not of the form {FORM}")
        values: Mapping[str, float] = {key.strip(): float(number)}
        return scorer.strip(), ThresholdChoice(**values)
    except ValueError:
        if key.strip() == "score":
            problem = "VALUE is a finite number"
        else:
            problem = "a share to accept lies above 0 and up to 1; score=VALUE sets a score"
        raise ConfigError(
            f"--threshold {text!r} is not of the form {FORM}, where {problem}"
        ) from None


def rules_for(texts: Sequence[str], scorers: Sequence[str]) -> list[tuple[str, ThresholdChoice]]:
    """Read several `--threshold` texts for a run's scorers.

    >>> rules_for(["0.99", "mine:0.9"], scorers=["mine", "other"])[1]
    ('mine', ThresholdChoice(acceptance=0.9, score=None))
    """
    rules = []
    for text in texts:
        name, choice = parse_rule(text)
        if name and name not in scorers:
            raise ConfigError(
                f"--threshold {text!r} is for {name!r}, which is no scorer of this run"
                f"{did_you_mean(name, scorers)}; it has {', '.join(scorers)}"
            )
        if not name and choice.score is not None:
            if len(scorers) != 1:
                raise ConfigError(
                    f"--threshold {text!r} gives one score for {' and '.join(scorers)}, whose "
                    f"scales differ; name one, for example --threshold {scorers[0]}:{text}"
                )
            name = scorers[0]
        rules.append((name, choice))
    return rules
