"""Training recipes that any loss can use: RandAugment, crops, label smoothing, warm restarts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from openset_core import Features, LossContext
from openset_core.components import FeatureMap
from openset_core.data.augmentation import Augmentation, resized_crops
from openset_core.data.randaugment import COLOUR, PLACEMENT, PLACES, SHAPE, RandAugment
from openset_core.errors import CompositionError, ConfigError
from openset_core.experiment.experiment import resolve
from openset_core.experiment.training_options import TrainingOptions
from openset_core.registry import registry
from openset_core.training.loop import build_augmentation
from openset_core.training.optimisation import rate_factor

IMAGES = torch.randint(0, 256, (6, 3, 12, 12), generator=torch.Generator().manual_seed(3)).to(
    torch.uint8
)
OPERATIONS = (*COLOUR, *SHAPE, *PLACEMENT)


def slope(value):
    return math.degrees(math.atan(value))


def affine(image, **change):
    settings = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0], **change}
    return reference.affine(image, **settings)


# Each operation on one image by torchvision's function, with the strength from Vaze et al.'s table.
REFERENCE = {
    "autocontrast": lambda x, m: reference.autocontrast(x),
    "equalize": lambda x, m: reference.equalize(x),
    "invert": lambda x, m: reference.invert(x),
    "posterize": lambda x, m: reference.posterize(x, max(1, int(4 * m / 30))),
    "solarize": lambda x, m: x if m == 30 else reference.solarize(x, int(256 * m / 30)),
    "color": lambda x, m: reference.adjust_saturation(x, 0.1 + 1.8 * m / 30),
    "contrast": lambda x, m: reference.adjust_contrast(x, 0.1 + 1.8 * m / 30),
    "brightness": lambda x, m: reference.adjust_brightness(x, 0.1 + 1.8 * m / 30),
    "sharpness": lambda x, m: reference.adjust_sharpness(x, 0.1 + 1.8 * m / 30),
    "shear-x": lambda x, m: affine(x, shear=[slope(0.3 * m / 30), 0.0], center=[0, 0]),
    "shear-y": lambda x, m: affine(x, shear=[0.0, slope(0.3 * m / 30)], center=[0, 0]),
    "rotate": lambda x, m: affine(x, angle=m),
    "translate-x": lambda x, m: affine(x, translate=[100 * m / 30, 0]),
    "translate-y": lambda x, m: affine(x, translate=[0, 100 * m / 30]),
}


def draws(name, count, sign=0, place=(0, 0)):
    number = [operation.name for operation in OPERATIONS].index(name)
    row = torch.tensor([number, sign, *place])
    return row[:, None].expand(-1, count)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("magnitude", [0, 2, 15, 30])
@pytest.mark.parametrize("name", list(REFERENCE))
def test_each_operation_is_torchvisions_on_every_image(name, magnitude, channels):
    images = IMAGES[:, :channels]
    changed = RandAugment(operations=1, magnitude=magnitude).apply(images, draws(name, len(images)))
    for image, result in zip(images, changed, strict=True):
        assert torch.equal(result, REFERENCE[name](image, magnitude))


def test_a_sign_turns_the_other_way():
    changed = RandAugment(operations=1, magnitude=20).apply(IMAGES, draws("rotate", 6, sign=1))
    assert torch.equal(changed[2], affine(IMAGES[2], angle=-20.0))


def test_solarize_add_brightens_what_is_dark():
    changed = RandAugment(operations=1, magnitude=30).apply(IMAGES, draws("solarize-add", 6))
    pixels = IMAGES.numpy().astype(int)
    expected = np.where(pixels < 128, np.minimum(pixels + 110, 255), pixels)
    assert np.array_equal(changed.numpy(), expected)


def test_cutout_is_a_grey_square_cut_off_at_the_border():
    images = torch.full((1, 3, 12, 12), 7, dtype=torch.uint8)
    place = (PLACES * 6 // 12, 0)  # row 6, column 0
    changed = RandAugment(operations=1, magnitude=3).apply(images, draws("cutout", 1, place=place))
    expected = images.clone()
    expected[0, :, 4:8, 0:2] = torch.tensor([125, 123, 114], dtype=torch.uint8)[:, None, None]
    assert torch.equal(changed, expected)


def test_images_of_a_batch_get_operations_of_their_own_twice_over():
    randaugment = RandAugment(operations=2, magnitude=8)
    drawn = randaugment.draw(6, torch.Generator().manual_seed(0))
    together = randaugment.apply(IMAGES, drawn)
    alone = [randaugment.apply(IMAGES[i : i + 1], drawn[:, i : i + 1]) for i in range(6)]
    assert torch.equal(together, torch.cat(alone))
    assert len(set(drawn[0].tolist())) > 1


def test_every_operation_is_drawn_and_digits_keep_their_place():
    generator = torch.Generator().manual_seed(0)
    everything = RandAugment(operations=1, magnitude=8)
    assert set(everything.draw(2000, generator)[0].tolist()) == set(range(16))
    digits = RandAugment(operations=1, magnitude=8, placement=False)
    assert {item.name for item in digits.choices}.isdisjoint({"rotate", "translate-x"})
    assert set(digits.draw(2000, generator)[0].tolist()) == set(range(13))


def test_resized_crop_of_the_whole_image_changes_nothing():
    fractions = torch.tensor([1.0, 0.5, 0.3, 0.8])[:, None].expand(4, 6)
    assert torch.equal(resized_crops(IMAGES, fractions, 0.25), IMAGES)


def test_resized_crop_takes_the_drawn_part():
    """Area one quarter, square, last row and first column: the lower left quarter."""
    fractions = torch.tensor([0.0, 0.5, 1.0, 0.0])[:, None]
    images = torch.zeros(1, 3, 12, 12, dtype=torch.uint8)
    images[:, :, 6:, :6] = 200
    taken = resized_crops(images, fractions, 0.25)
    # Bilinear taps reach half a pixel beyond the part, where the part has inner borders.
    assert bool((taken[:, :, 1:, :-1] == 200).all())
    mirrored = resized_crops(images.flip(3), fractions, 0.25)
    assert bool((mirrored[:, :, :, :-1] == 0).all())


def test_all_changes_together_repeat_and_are_uint8():
    augmentation = build_augmentation(
        TrainingOptions(randaugment_ops=2, resized_crop=0.3, crop_padding=2, flip=True)
    )
    first, again, other = (
        augmentation(IMAGES, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.dtype == torch.uint8
    assert first.shape == IMAGES.shape


def test_draws_of_old_recipes_are_what_they_were():
    """Row, column and mirror come from the generator in this order, so that runs repeat."""
    drawn = Augmentation(crop_padding=2, flip=True).draw(5, torch.Generator().manual_seed(4))
    generator = torch.Generator().manual_seed(4)
    crop = torch.randint(0, 5, (2, 5), generator=generator)
    mirrored = torch.rand(5, generator=generator) < 0.5
    assert torch.equal(drawn, torch.cat([crop, mirrored[None].long()]))


# ---- schedule


def vaze_factor(epoch, epochs=600, restarts=2, warmup=10, least=1e-3):
    cycle = epochs / (restarts + 1)

    def cosine(at):
        return least + (1 - least) * (1 + np.cos(np.pi * (at % cycle) / cycle)) / 2

    return least + (cosine(warmup) - least) * epoch / warmup if epoch < warmup else cosine(epoch)


@pytest.mark.parametrize("epoch", [0, 5, 9.5, 10, 100, 199.5, 200, 400, 599])
def test_cosine_restarts(epoch):
    options = TrainingOptions(epochs=600, schedule="cosine", restarts=2, warmup_epochs=10)
    assert rate_factor(options, "cosine", epoch) == pytest.approx(vaze_factor(epoch))


def test_restarts_change_no_other_schedule():
    for schedule in ("constant", "step", "one-cycle"):
        with_restarts, without = (
            rate_factor(TrainingOptions(epochs=9, restarts=n), schedule, 4.0) for n in (2, 0)
        )
        assert with_restarts == without


# ---- label smoothing


@pytest.mark.parametrize("name", ["softmax", "arpl", "rpl", "gcpl", "m2iosr"])
def test_label_smoothing_in_every_cross_entropy(name):
    part = registry().find(name, ("loss",))
    options = part.spec.config()
    maps = (
        FeatureMap(name="fine", channels=4, reduction=2),
        FeatureMap(name="coarse", channels=4, reduction=8),
    )
    generator = torch.Generator().manual_seed(0)
    features = Features(
        torch.randn(5, 6, generator=generator),
        {"fine": torch.randn(5, 4, 16, 16), "coarse": torch.randn(5, 4, 4, 4)},
    )
    labels = torch.tensor([0, 1, 2, 3, 1])
    losses = []
    for share in (0.0, 0.3):
        torch.manual_seed(1)
        context = LossContext(num_classes=4, vector_dim=6, maps=maps, label_smoothing=share)
        losses.append(part.load()(options, context))

    def cross_entropy(loss):
        torch.manual_seed(2)  # for the sampled latent
        terms = getattr(loss, "classification_terms", loss.loss)(features, labels)
        return float(terms["cross_entropy"].detach())

    if name == "m2iosr":
        torch.manual_seed(2)
        logits = losses[0].classifier(losses[0].latent(features)[2])
    else:
        logits = getattr(options, "hardness", 1.0) * losses[0].logits(features)
    values = logits.detach().numpy().astype(float)
    log_p = values - np.log(np.exp(values).sum(axis=1, keepdims=True))
    target = 0.7 * np.eye(4)[labels.numpy()] + 0.3 / 4
    assert cross_entropy(losses[1]) == pytest.approx(-(target * log_p).sum(axis=1).mean(), rel=1e-5)
    plain = -log_p[np.arange(5), labels.numpy()].mean()
    assert cross_entropy(losses[0]) == pytest.approx(plain, rel=1e-5)


def test_softmax_own_label_smoothing_goes_before_the_recipes():
    part = registry().find("softmax", ("loss",))
    context = LossContext(num_classes=3, vector_dim=4, label_smoothing=0.2)
    shares = [
        part.load()(part.spec.config(label_smoothing=own), context).label_smoothing
        for own in (None, 0.0, 0.1)
    ]
    assert shares == [0.2, 0.0, 0.1]


def test_label_smoothing_is_refused_where_it_would_do_nothing(tiny):
    settings = {"training": {"label_smoothing": 0.1}}
    with pytest.raises(CompositionError, match=r"label_smoothing=0\.1 has no effect on loss turns"):
        resolve("turns,tiny", "tiny-digits", overrides=settings)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("randaugment_ops", -1),
        ("randaugment_magnitude", 31),
        ("label_smoothing", 1.0),
        ("restarts", -1),
        ("resized_crop", 1.5),
    ],
)
def test_values_out_of_range_are_refused(key, value):
    with pytest.raises(ConfigError, match=f"training.{key}"):
        resolve("softmax,classifier32", "digits", overrides={"training": {key: value}})
