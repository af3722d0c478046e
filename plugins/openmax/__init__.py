"""OpenMax (Bendale and Boult, Towards Open Set Deep Networks, CVPR 2016)."""

from __future__ import annotations

from attrs import frozen
from attrs.validators import ge, gt

from openset_core import UnknownScorerSpec, hookimpl, option


@frozen(kw_only=True)
class OpenMaxOptions:
    """Options of the scorer `openmax`; defaults are those of the authors' release, OSDN.

    Two are not: `shift` is that of libmr from PyPI, and `negative`, see there.
    """

    tail_size: int = option(
        20, "largest distances of each class that its Weibull is fitted to", validator=ge(2)
    )
    alpha: int = option(
        10,
        "top-ranked classes that are revised; more than there are classes means all",
        equation="alpha, Algorithm 2",
        validator=ge(1),
    )
    distance: str = option(
        "eucos",
        "distance to a class's mean activation vector: euclidean; cosine; eucos, which is "
        "euclidean/200 + cosine",
        choices=("euclidean", "cosine", "eucos"),
    )
    shift: float = option(
        1.0,
        "added to the distances before the Weibull fit: 1 as libmr from PyPI, 10000 as the libmr "
        "inside OSDN; results differ",
        validator=gt(0.0),
    )
    negative: str = option(
        "shift",
        "what becomes of negative logits: keep, as published, where a sample further away counts "
        "as less unknown; clip, nothing is moved from them; shift, a row is raised until its "
        "top-alpha logits have mean 0 or more. All agree where those logits are not negative",
        choices=("shift", "clip", "keep"),
    )
    score: str = option(
        "log-odds",
        "score of a sample: probability of the unknown class, or its log-odds, the same order "
        "without ties where the probability rounds to 0 or 1",
        choices=("log-odds", "probability"),
    )


@hookimpl
def openset_unknown_scorers() -> list[UnknownScorerSpec]:
    """The scorer `openmax`."""
    return [
        UnknownScorerSpec(
            name="openmax",
            summary="class probabilities that leave room for an unknown class, by extreme values",
            factory="openset_plugins.openmax.scorer:OpenMax",
            config=OpenMaxOptions,
            needs=("logits",),
            reference="Bendale and Boult, Towards Open Set Deep Networks, CVPR 2016",
        )
    ]
