"""OpenMax (Bendale and Boult, Towards Open Set Deep Networks, CVPR 2016)."""

from __future__ import annotations

import math

from attrs import frozen
from attrs.validators import ge, gt, lt

from openset_core import UnknownScorerSpec, hookimpl, option


@frozen(kw_only=True)
class OpenMaxOptions:
    """Options of the scorer `openmax`; defaults are those of the authors' release, OSDN.

    Two are not. `shift` is 1, what libmr from PyPI uses; OSDN's bundled copy of libmr uses 10000.
    `negative` is `shift`: the published rule (`keep`) moves the share a_k w_k of logit v_k to the
    unknown class, so a negative logit that is "lowered" rises and takes from the unknown class:
    the further the sample, the less unknown.

    * `shift`: a row whose top-alpha logits have a negative mean is raised, all K alike, until that
      mean is 0; softmax over the known classes does not notice. Then as `clip`. Distances so count
      also for heads whose logits are all negative, such as negative distances to prototypes (but
      need alpha >= 2 for that: a single logit is its own mean, and nothing of it is left to move).
    * `clip`: negative logits are left as they are, and nothing of them is moved. Where all are
      negative distances have no say: the unknown class's logit is 0 whatever they are.
    * `keep`: as published.

    With `shift` and `clip` revision never raises a logit, and a greater distance never makes a
    sample less unknown. All three agree wherever the top-alpha logits are 0 or more.
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
        validator=[gt(0.0), lt(math.inf)],
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
