"""GCPL: generalised convolutional prototype learning (Yang et al., CVPR 2018)."""

from __future__ import annotations

from attrs import frozen
from attrs.validators import ge, gt

from openset_core import RepresentationLossSpec, hookimpl, option


@frozen(kw_only=True)
class GCPLOptions:
    weight: float = option(
        0.1, "weight of the prototype term", equation="lambda", validator=ge(0.0)
    )
    hardness: float = option(
        1.0, "factor on the distances in the cross entropy", equation="gamma", validator=gt(0.0)
    )
    init_std: float = option(
        0.1,
        "deviation of the normal distribution that the prototypes start from; as in ARPL's code",
        validator=gt(0.0),
    )


@hookimpl
def openset_representation_losses() -> list[RepresentationLossSpec]:
    return [
        RepresentationLossSpec(
            name="gcpl",
            summary="a prototype a class: distance cross entropy and a pull to the own prototype",
            factory="openset_plugins.gcpl.loss:GCPL",
            config=GCPLOptions,
            provides=("logits", "embedding", "label smoothing"),
            needs=("feature vector",),
            # As the released code; its prototype term is too weak to bring known samples near in
            # absolute distance, so that the nearest prototype alone tells little.
            default_scorers=("msp", "max-logit"),
            recipe={"optimizer": "sgd", "momentum": 0.9, "weight_decay": 1e-4},
            reference="Yang et al., Robust Classification with Convolutional Prototype Learning, "
            "CVPR 2018; loss as in the released ARPL code",
        )
    ]
