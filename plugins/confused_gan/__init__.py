"""The confused GAN of ARPL+CS (Chen et al., TPAMI 2021, Sec. 4), and the joint confidence loss.

Where paper and released code differ, the default is what did better on validation: Fashion-MNIST
training images, 6 known and 4 unknown classes, classifier32, five epochs, two splits, seed 0.
Mean OSCR by max-logit (and closed-set accuracy on held-out training images): entropy `paper` with
focus `iteration` 65.2 (91.7), entropy `released` with focus `iteration` 64.6 (91.4), entropy
`released` with focus `epoch` 64.3 (90.7). The differences are small beside the spread over splits.
"""

from __future__ import annotations

from attrs import frozen
from attrs.validators import ge, gt

from openset_core import SampleGeneratorSpec, hookimpl, option


@frozen(kw_only=True)
class ConfusedGANOptions:
    beta: float = option(
        0.1, "weight of the confusion term", equation="beta, Eq. 18, 19", validator=ge(0.0)
    )
    entropy: str = option(
        "paper",
        "form of the confusion term, to be minimised. paper: -H with H the mean entropy over N; "
        "released: exp(-mean entropy), whose gradient fades as the entropy rises",
        equation="H(z, P), Eq. 17",
        choices=("released", "paper"),
    )
    confusion: str = option(
        "open-space",
        "what generated samples should look like: open-space, as the loss defines it; uniform, "
        "KL from the uniform distribution to the class probabilities",
        choices=("open-space", "uniform"),
    )
    auxiliary_bn: str = option(
        "auto",
        "separate BatchNorm for generated samples: auto, where the backbone has any; on; off, the "
        "ablation of Table 3",
        choices=("auto", "on", "off"),
    )
    focus: str = option(
        "iteration",
        "focus training, a step on known samples alone: iteration, after each step (Algorithm 2); "
        "epoch, every other epoch (the released code adds a pass after each epoch); off, the "
        "ablation of Table 3",
        choices=("iteration", "epoch", "off"),
    )
    noise_dim: int = option(100, "length of the noise vector", equation="z", validator=ge(1))
    width: int = option(64, "base number of channels of both networks", validator=ge(1))
    lr: float = option(2e-4, "learning rate of both networks, constant", validator=gt(0.0))
    beta1: float = option(0.5, "first beta of Adam", validator=ge(0.0))
    squash: bool = option(
        True, "sigmoid on the discriminator's features before its last layer; in the released code"
    )


@frozen(kw_only=True)
class JointConfidenceOptions(ConfusedGANOptions):
    confusion: str = option(
        "uniform",
        "what generated samples should look like, see confused-gan",
        choices=("open-space", "uniform"),
    )
    entropy: str = option(
        "paper",
        "form of the open-space term, see confused-gan; without effect on uniform",
        choices=("released", "paper"),
    )
    auxiliary_bn: str = option("off", "see confused-gan", choices=("auto", "on", "off"))
    focus: str = option("off", "see confused-gan", choices=("iteration", "epoch", "off"))


@hookimpl
def openset_sample_generators() -> list[SampleGeneratorSpec]:
    return [
        SampleGeneratorSpec(
            name="confused-gan",
            summary="GAN whose samples confuse the classifier, with auxiliary BatchNorm (+CS)",
            factory="openset_plugins.confused_gan.generator:build",
            config=ConfusedGANOptions,
            needs=("logits",),
            provides=("generated samples",),
            reference="Chen et al., Adversarial Reciprocal Points Learning for Open Set "
            "Recognition, TPAMI 2021, Sec. 4 and Algorithm 2",
        ),
        SampleGeneratorSpec(
            name="joint-confidence",
            summary="GAN with a uniform target on generated samples: the joint confidence loss",
            factory="openset_plugins.confused_gan.generator:build",
            config=JointConfidenceOptions,
            needs=("logits",),
            provides=("generated samples",),
            reference="Lee et al., Training Confidence-calibrated Classifiers for Detecting "
            "Out-of-Distribution Samples, ICLR 2018",
        ),
    ]
