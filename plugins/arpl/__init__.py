"""Reciprocal point learning: ARPL (Chen et al., TPAMI 2021) and RPL (Chen et al., ECCV 2020).

ARPL's margin differs between paper and released code; the default preset is what did better on
validation: Fashion-MNIST training images, 6 known and 4 unknown classes, classifier32, ten epochs,
three splits, seed 0. Mean AUROC by max-logit (and closed-set accuracy on held-out training images):
`released` 67.7 (91.2), `paper` 66.6 (89.3).
"""

from __future__ import annotations

from attrs import frozen
from attrs.validators import ge, gt

from openset_core import RepresentationLossSpec, hookimpl, option

_INIT_HELP = "deviation of the normal distribution that the points start from; as released"


@frozen(kw_only=True)
class ARPLOptions:
    preset: str = option(
        "released",
        "margin term where paper and released code differ. paper: max(d_e - R, 0), R starts at 1. "
        "released: max(d_e - R + 1, 0), R starts at 0, so that the margin has to grow first",
        equation="L_o, Eq. 12",
        choices=("released", "paper"),
    )
    weight: float = option(
        0.1, "weight of the margin term", equation="lambda, Eq. 14", validator=ge(0.0)
    )
    hardness: float = option(
        1.0,
        "factor on the distances in the cross entropy; the logits stay raw. The released code "
        "divides by a temperature instead",
        equation="gamma, Eq. 7",
        validator=gt(0.0),
    )
    distance: str = option(
        "both",
        "distance to the reciprocal points: both (d_e - d_d), euclidean (d_e) or dot (-d_d)",
        equation="d, Eq. 6",
        choices=("both", "euclidean", "dot"),
    )
    init_std: float = option(0.1, _INIT_HELP, validator=gt(0.0))


@frozen(kw_only=True)
class RPLOptions:
    weight: float = option(
        0.1, "weight of the open space term", equation="lambda", validator=ge(0.0)
    )
    hardness: float = option(
        1.0, "factor on the distances in the cross entropy", equation="gamma", validator=gt(0.0)
    )
    distance: str = option(
        "euclidean",
        "distance to the reciprocal points, see arpl; both is RPL+cosine of ARPL's Fig. 8",
        equation="d",
        choices=("euclidean", "both", "dot"),
    )
    init_std: float = option(0.1, _INIT_HELP, validator=gt(0.0))


# Sec. 5.1 of ARPL and its released code.
_RECIPE = {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 1e-4}


@hookimpl
def openset_representation_losses() -> list[RepresentationLossSpec]:
    return [
        RepresentationLossSpec(
            name="arpl",
            summary="reciprocal points with an adversarial margin constraint",
            factory="openset_plugins.arpl.loss:ARPL",
            config=ARPLOptions,
            provides=("logits", "embedding", "label smoothing"),
            needs=("feature vector",),
            default_scorers=("max-logit", "msp"),
            recipe=_RECIPE,
            reference="Chen et al., Adversarial Reciprocal Points Learning for Open Set "
            "Recognition, TPAMI 2021",
        ),
        RepresentationLossSpec(
            name="rpl",
            summary="reciprocal points with a bounded open space",
            factory="openset_plugins.arpl.loss:RPL",
            config=RPLOptions,
            provides=("logits", "embedding", "label smoothing"),
            needs=("feature vector",),
            default_scorers=("msp", "max-logit"),  # the released code scores probabilities here
            recipe=_RECIPE,
            reference="Chen et al., Learning Open Set Network with Discriminative Reciprocal "
            "Points, ECCV 2020; loss as in the released ARPL code",
        ),
    ]
