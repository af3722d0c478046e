"""M2IOSR: maximal mutual information open set recognition (Sun et al., arXiv 2108.02373)."""

from __future__ import annotations

from attrs import frozen
from attrs.validators import deep_iterable, ge, gt, optional

from openset_core import RepresentationLossSpec, hookimpl, option


@frozen(kw_only=True)
class M2IOSROptions:
    """Options of the loss `m2iosr`.

    Defaults are the paper's. Where the paper says nothing, the reason for the default is in
    the option's help.
    """

    latent_dim: int = option(32, "length of the latent vector f1(x)", equation="J", validator=ge(1))
    beta1: float = option(0.5, "weight of the global MI", equation="beta_1, Eq. 9", validator=ge(0))
    beta2: float = option(1.0, "weight of the local MI", equation="beta_2, Eq. 9", validator=ge(0))
    gamma: float = option(
        0.1, "weight of the prior on the latent", equation="gamma, Eq. 9", validator=ge(0)
    )
    a1: float = option(0.7, "weight of the pair [f16, f1]", equation="a_1, Eq. 10", validator=ge(0))
    a2: float = option(0.1, "weight of the pair [f4, f1]", equation="a_2, Eq. 10", validator=ge(0))
    a3: float = option(0.2, "weight of the pair [f4, f4]", equation="a_3, Eq. 10", validator=ge(0))
    pairs: str = option(
        "both",
        "pairs that the discriminators see; positive and negative are ablations of Sec. 5.2",
        choices=("both", "positive", "negative"),
    )
    prior: str = option(
        "kl",
        "constraint on the latent: kl (Eq. 11), adversarial (Deep InfoMax's, ablation III), none",
        choices=("kl", "adversarial", "none"),
    )
    fine_map: str = option(
        "nearest=2",
        "map that serves as f16: its name, reduction=N, or nearest=N, the one whose reduction is "
        "nearest; 16x16 is a reduction of 2 at 32x32",
        equation="f16(x)",
    )
    coarse_map: str = option(
        "nearest=8", "map that serves as f4: its name, reduction=N or nearest=N", equation="f4(x)"
    )
    hidden: int = option(512, "width of the discriminators", validator=ge(1))
    global_channels: tuple[int, int] = option(
        (64, 32),
        "channels of the two 3x3 convolutions on f16; open in the paper, here Deep InfoMax's",
        validator=deep_iterable(ge(1)),
    )
    global_padding: int | None = option(
        None,
        "zero padding of those convolutions; open in the paper. Nothing for 0 as in Deep InfoMax, "
        "or 1 where the map has less than 5x5 pixels",
        validator=optional(ge(0)),
    )
    coarse_pairing: str = option(
        "same-location",
        "how the two maps of [f4, f4] are paired; open in the paper, same-location is the "
        "direct reading of a concatenation, all-locations compares every two places",
        choices=("same-location", "all-locations"),
    )
    fine_locations: int | None = option(
        None,
        "places of f16 drawn at random in each step for the pair [f16, f1], nothing for all of "
        "them; a subset estimates the same average at less cost",
        validator=optional(ge(1)),
    )
    variance: str = option(
        "softplus",
        "how the variance is kept positive; open in the paper, softplus as in CGDL, whose prior "
        "this is",
        choices=("softplus", "exp"),
    )
    mi_latent: str = option(
        "sample",
        "latent that the discriminators see; open in the paper, sample (reparameterised) is what "
        "p(z|x) in Eq. 8 says",
        choices=("sample", "mean"),
    )
    classifier_latent: str = option(
        "sample",
        "latent that the classifier sees while training; open in the paper, sample as in CGDL; "
        "test time takes the mean",
        choices=("sample", "mean"),
    )
    schedule: str = option(
        "iteration",
        "when the two phases run: iteration (both in every step, Sec. 1), epoch (max-min in even "
        "epochs, classification in odd ones), joint (one phase with both losses, half the cost)",
        choices=("iteration", "epoch", "joint"),
    )
    gradient_penalty: float = option(
        1.0,
        "penalty on the squared gradient of the adversarial prior's discriminator; Deep InfoMax's",
        validator=ge(0.0),
    )
    discriminator_rate: float = option(
        1.0,
        "learning rate of the discriminators relative to the encoder's; open in the paper",
        validator=gt(0.0),
    )


@hookimpl
def openset_representation_losses() -> list[RepresentationLossSpec]:
    return [
        RepresentationLossSpec(
            name="m2iosr",
            summary="mutual information maximised over scales, class-conditional Gaussian latent",
            factory="openset_plugins.m2iosr.loss:M2IOSR",
            config=M2IOSROptions,
            provides=("logits", "embedding", "label smoothing"),
            needs=("feature maps",),
            default_scorers=("msp",),
            default_backbone="vgg13",
            # Sec. 5.1; the number of epochs is not given.
            recipe={
                "optimizer": "sgd",
                "lr": 0.01,
                "momentum": 0.9,
                "schedule": "step",
                "step_epochs": 50,
                "step_factor": 0.1,
                "batch_size": 64,
            },
            reference="Sun et al., M2IOSR: Maximal Mutual Information Open Set Recognition, "
            "arXiv 2108.02373",
        )
    ]
