"""Softmax with cross entropy: the baseline of every table."""

from __future__ import annotations

from attrs import frozen
from attrs.validators import ge, lt, optional

from openset_core import RepresentationLossSpec, hookimpl, option


@frozen(kw_only=True)
class SoftmaxOptions:
    latent_dim: int | None = option(
        None,
        "length of a linear latent layer between backbone and classifier; nothing for none. "
        "32 gives the baseline of M2IOSR's tables",
        validator=optional(ge(1)),
    )
    bias: bool = option(True, "bias in the classifier; the released ARPL baseline has none")
    label_smoothing: float | None = option(
        None,
        "share of the target spread evenly over all K classes; nothing for what "
        "training.label_smoothing says",
        validator=optional([ge(0.0), lt(1.0)]),
    )


@hookimpl
def openset_representation_losses() -> list[RepresentationLossSpec]:
    return [
        RepresentationLossSpec(
            name="softmax",
            summary="linear classifier with cross entropy",
            factory="openset_plugins.softmax.loss:Softmax",
            config=SoftmaxOptions,
            provides=("logits", "embedding", "label smoothing"),
            default_scorers=("msp",),
            reference="Hendrycks and Gimpel, A Baseline for Detecting Misclassified and "
            "Out-of-Distribution Examples in Neural Networks, ICLR 2017",
        )
    ]
