"""Training options: what `--set training.KEY=VALUE` and a protocol's recipe may say."""

from __future__ import annotations

from attrs import frozen
from attrs.validators import and_, deep_iterable, ge, gt, le, lt

from openset_core.specs import option


@frozen(kw_only=True)
class TrainingOptions:
    """How the network is trained, whatever the method."""

    epochs: int = option(20, "passes over the training images", validator=ge(1))
    batch_size: int = option(
        64,
        "images in a batch, over all devices; an epoch is cut into batches of nearly this size, "
        "none much smaller",
        validator=ge(2),
    )
    optimizer: str = option("sgd", "optimiser", choices=("sgd", "adam", "adamw"))
    lr: float = option(0.1, "learning rate before the schedule", validator=gt(0.0))
    momentum: float = option(0.9, "momentum of SGD", validator=[ge(0.0), le(1.0)])
    nesterov: bool = option(False, "Nesterov momentum for SGD")
    betas: tuple[float, float] = option(
        (0.9, 0.999), "betas of Adam and AdamW", validator=deep_iterable(and_(ge(0.0), lt(1.0)))
    )
    weight_decay: float = option(0.0, "weight decay", validator=ge(0.0))
    schedule: str = option(
        "constant",
        "how the rate changes: constant; step (times step_factor every step_epochs); cosine "
        "(to final_factor); one-cycle (linear up over warmup_epochs, cosine down)",
        choices=("constant", "step", "cosine", "one-cycle"),
    )
    step_epochs: int = option(30, "epochs between two steps of schedule step", validator=ge(1))
    step_factor: float = option(
        0.1, "factor on the rate at each step", validator=[gt(0.0), le(1.0)]
    )
    warmup_epochs: float = option(
        0.0, "epochs of linear warm-up from final_factor, for any schedule", validator=ge(0.0)
    )
    restarts: int = option(
        0,
        "warm restarts of schedule cosine, which then repeats in cycles of equal length "
        "(Loshchilov and Hutter, ICLR 2017; 2 in Vaze et al., ICLR 2022)",
        validator=ge(0),
    )
    final_factor: float = option(
        0.001, "the rate's last factor in schedules cosine and one-cycle", validator=[ge(0), le(1)]
    )
    crop_padding: int = option(
        0, "random crop after padding by so many pixels, 0 for none", validator=ge(0)
    )
    flip: bool = option(False, "random horizontal flip")
    resized_crop: float = option(
        0.0,
        "least share of the area in a random resized crop, for large images (0.08 in Szegedy et "
        "al., CVPR 2015); 0 for none",
        validator=[ge(0.0), le(1.0)],
    )
    randaugment_ops: int = option(
        0,
        "random operations on each image before any crop (N of RandAugment, Cubuk et al., CVPRW "
        "2020; the operations of Vaze et al., ICLR 2022); 0 for none",
        validator=[ge(0), le(16)],
    )
    randaugment_magnitude: float = option(
        6.0, "strength of these operations (M of RandAugment)", validator=[ge(0.0), le(30.0)]
    )
    randaugment_placement: bool = option(
        True,
        "rotations and shifts among these operations; Vaze et al. leave them out for MNIST and "
        "SVHN",
    )
    label_smoothing: float = option(
        0.0,
        "share of the target spread evenly over all K classes, in the cross entropy of any loss "
        "that provides label smoothing; the epsilon of Vaze et al. times K/(K-1)",
        validator=[ge(0.0), lt(1.0)],
    )
    precision: str = option(
        "auto",
        "fp32 or bf16; auto takes bf16 on a GPU, or on a CPU with bf16 instructions",
        choices=("auto", "fp32", "bf16"),
    )
    compile: bool = option(False, "compile the networks with torch.compile")
