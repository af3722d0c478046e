"""Scorers that need nothing but the logits of one sample."""

from __future__ import annotations

from attrs import frozen
from attrs.validators import gt

from openset_core import UnknownScorerSpec, hookimpl, option


@frozen(kw_only=True)
class TemperatureOptions:
    temperature: float = option(
        1.0, "divides the logits; 1 leaves them as they are", equation="T", validator=gt(0.0)
    )


@hookimpl
def openset_unknown_scorers() -> list[UnknownScorerSpec]:
    return [
        UnknownScorerSpec(
            name="msp",
            summary="one minus the largest softmax probability",
            factory="openset_plugins.logit_scorers.scorers:MaximumSoftmaxProbability",
            config=TemperatureOptions,
            needs=("logits",),
            reference="Hendrycks and Gimpel, ICLR 2017",
        ),
        UnknownScorerSpec(
            name="entropy",
            summary="Shannon entropy of the softmax probabilities, in nats",
            factory="openset_plugins.logit_scorers.scorers:Entropy",
            config=TemperatureOptions,
            needs=("logits",),
            reference="Macedo et al., Entropic Out-of-Distribution Detection, IJCNN 2021",
        ),
        UnknownScorerSpec(
            name="max-logit",
            summary="the largest logit, negated; for distance losses the distance rule itself",
            factory="openset_plugins.logit_scorers.scorers:MaximumLogit",
            needs=("logits",),
            reference="Vaze et al., Open-Set Recognition: A Good Closed-Set Classifier Is All You "
            "Need, ICLR 2022",
        ),
        UnknownScorerSpec(
            name="energy",
            summary="free energy: minus the log of the summed exponentials of the logits",
            factory="openset_plugins.logit_scorers.scorers:Energy",
            config=TemperatureOptions,
            needs=("logits",),
            reference="Liu et al., Energy-based Out-of-distribution Detection, NeurIPS 2020, Eq. 4",
        ),
    ]
