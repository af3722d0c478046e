"""The confused GAN: its networks, its terms against plain NumPy, and its phases in training.

Terms are transcribed from Chen et al., TPAMI 2021, Eq. 15-19, for given scores and logits.
Phases run through the trainer on a small backbone with BatchNorm, and what each one changes is
read from the whole state, running statistics included.
"""

from __future__ import annotations

import math
from contextlib import nullcontext

import attrs
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from openset_core import Backbone, Batch, Features, GeneratorContext, LossContext
from openset_core.auxiliary_batchnorm import AuxiliaryBatchNorm, domain, is_converted
from openset_core.components import OpenSetModel, Phase, RepresentationLoss
from openset_core.errors import CompositionError, TrainingError
from openset_core.experiment.experiment import resolve
from openset_core.experiment.training_options import TrainingOptions
from openset_core.model.artefact import build_model, load_model, save_model
from openset_core.model.building import inference_parameters
from openset_core.observers import Observers
from openset_core.registry import registry
from openset_core.training.loop import Trainer
from openset_plugins.arpl import ARPLOptions
from openset_plugins.arpl.loss import ARPL
from openset_plugins.confused_gan import ConfusedGANOptions, JointConfidenceOptions
from openset_plugins.confused_gan.generator import build
from openset_plugins.confused_gan.networks import DiscriminatorNetwork, GeneratorNetwork, InputSpace
from openset_plugins.softmax import SoftmaxOptions
from openset_plugins.softmax.loss import Softmax

CLASSES, BATCH, SIZE = 3, 4, 32
MEAN, STD = (0.3, 0.5, 0.6), (0.2, 0.3, 0.1)


@pytest.fixture(autouse=True)
def one_thread():
    """On tensors as small as these, threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Toy(Backbone):
    """Two strided convolutions, with BatchNorm or without."""

    vector_dim = 5

    def __init__(self, norm=True, channels=3):
        super().__init__()
        self.first = nn.Conv2d(channels, 4, 4, stride=4, bias=False)
        self.first_norm = nn.BatchNorm2d(4) if norm else nn.Identity()
        self.second = nn.Conv2d(4, 5, 4, stride=4, bias=False)
        self.second_norm = nn.BatchNorm2d(5) if norm else nn.Identity()

    def forward(self, images):
        low = F.leaky_relu(self.first_norm(self.first(images)), 0.2)
        high = F.leaky_relu(self.second_norm(self.second(low)), 0.2)
        return Features(high.mean(dim=(2, 3)), {"low": low})


def context(size=SIZE, channels=3, mean=MEAN, std=STD):
    return GeneratorContext(
        num_classes=CLASSES,
        channels=channels,
        image_size=size,
        pixel_mean=mean[:channels],
        pixel_std=std[:channels],
    )


def make_gan(kind=ConfusedGANOptions, seed=0, **options):
    torch.manual_seed(seed)
    return build(kind(**({"width": 2, "noise_dim": 3} | options)), context())


def make_loss(seed=0):
    torch.manual_seed(seed)
    given = LossContext(num_classes=CLASSES, vector_dim=Toy.vector_dim)
    return ARPL(ARPLOptions(init_std=1.0), given)


def make_model(norm=True, seed=0, loss=None, **options):
    gan, loss = make_gan(seed=seed, **options), loss or make_loss(seed)
    torch.manual_seed(seed)
    return OpenSetModel(Toy(norm), loss, gan)


def parameter_count(module):
    return sum(p.numel() for p in module.parameters())


def array(tensor):
    return tensor.detach().double().numpy()


# ---- networks


@pytest.mark.parametrize(("size", "count"), [(32, 3_448_576), (64, 3_576_704)])
def test_parameters_of_the_released_generators(size, count):
    assert parameter_count(GeneratorNetwork(100, 64, 3, size)) == count


def test_parameters_of_the_released_discriminator():
    assert parameter_count(DiscriminatorNetwork(64, 3, squash=True)) == 11_018_753


def test_default_options_build_the_released_networks():
    config = ConfusedGANOptions()
    assert (config.noise_dim, config.width, config.squash) == (100, 64, True)
    assert (config.beta, config.lr, config.beta1) == (0.1, 2e-4, 0.5)
    assert (config.entropy, config.confusion) == ("paper", "open-space")
    assert (config.auxiliary_bn, config.focus) == ("auto", "iteration")


@pytest.mark.parametrize("size", [32, 64, 80])
@pytest.mark.parametrize("channels", [1, 3])
def test_shapes(size, channels):
    torch.manual_seed(0)
    gan = build(ConfusedGANOptions(width=2, noise_dim=3), context(size, channels))
    pixels = gan.pixels(BATCH)
    assert pixels.shape == gan.sample(BATCH).shape == (BATCH, channels, size, size)
    scores = gan.discriminator(pixels)
    assert scores.shape == (BATCH,)
    sizes = [
        layer(torch.zeros(1, layer.in_channels, side, side)).shape[-1]
        for layer, side in zip(
            (m for m in gan.discriminator.features if isinstance(m, nn.Conv2d)),
            (size, size // 2, size // 4, size // 8),
            strict=True,
        )
    ]
    assert sizes == [
        size // 2,
        size // 4,
        size // 8,
        size // 8 - 3,
    ]


@pytest.mark.parametrize("size", [28, 72, 128])
def test_other_sizes_are_refused(size):
    with pytest.raises(CompositionError) as caught:
        build(ConfusedGANOptions(), context(size))
    message = str(caught.value)
    for piece in ("32, 40, 48,", "64, 80,", f"has {size};", "image.size"):
        assert piece in message
    assert "\n" not in message


def test_start_values():
    """Convolutions N(0, 0.02), BatchNorm scales N(1, 0.02), shifts 0, no biases; as released."""
    torch.manual_seed(0)
    for network in (GeneratorNetwork(100, 16, 3, 64), DiscriminatorNetwork(16, 3, squash=True)):
        layers = list(network.modules())
        convolutions = [m for m in layers if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
        norms = [m for m in layers if isinstance(m, nn.BatchNorm2d)]
        assert all(layer.bias is None for layer in convolutions)
        for layer in convolutions:
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.1)
        scales = torch.cat([layer.weight for layer in norms])
        assert scales.mean().item() == pytest.approx(1.0, abs=0.01)
        assert scales.std().item() == pytest.approx(0.02, rel=0.3)
        assert all(not layer.bias.any() for layer in norms)


def test_the_discriminators_layers():
    """BatchNorm after the middle convolutions only; the inner sigmoid where it is asked for."""
    kinds = {
        squash: [type(m).__name__ for m in DiscriminatorNetwork(2, 3, squash).features]
        for squash in (True, False)
    }
    middle = ["Conv2d", "BatchNorm2d", "LeakyReLU"]
    assert kinds[True] == [
        *("Conv2d", "LeakyReLU"),
        *middle,
        *middle,
        *("Conv2d", "Sigmoid", "AdaptiveAvgPool2d", "Flatten"),
    ]
    assert kinds[False] == [name for name in kinds[True] if name != "Sigmoid"]


# ---- samples


def test_samples_are_pixels_in_the_models_input_space():
    gan = make_gan()
    with torch.no_grad():
        gan.generator[-2].weight.mul_(100)  # far into both ends of the sigmoid
    torch.manual_seed(5)
    pixels = gan.pixels(8)
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    assert pixels.min() < 0.1
    assert pixels.max() > 0.9
    torch.manual_seed(5)
    gan.train()
    sample = gan.sample(8)
    expected = (array(pixels) - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))
    np.testing.assert_allclose(array(sample), expected, rtol=1e-5, atol=1e-5)
    assert sample.min() < -1
    assert sample.max() > 2


def test_the_input_space_and_back():
    torch.manual_seed(0)
    space, pixels = InputSpace(MEAN, STD), torch.rand(2, 3, 4, 4)
    torch.testing.assert_close(space.leave(space.enter(pixels)), pixels)
    inside = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(space.enter(space.leave(inside)), inside)
    assert not torch.allclose(space.enter(pixels), pixels)
    assert not space.state_dict()


class Seen:
    """Keeps what a module is given and what it makes."""

    def __init__(self, module):
        self.given, self.made = [], []
        self.handle = module.register_forward_hook(self._note)

    def _note(self, _module, arguments, output):
        self.given.append(arguments[0].detach().clone())
        made = output.vector if isinstance(output, Features) else output
        self.made.append(made.detach().clone())


def a_batch(model, seed=1):
    """Known images: pixels in [0, 1], preprocessed."""
    torch.manual_seed(seed)
    pixels = torch.rand(BATCH, 3, SIZE, SIZE)
    labels = torch.arange(BATCH) % CLASSES
    images = model.generator.space.enter(pixels)
    return Batch(images, labels, backbone=model.backbone), pixels


def phase(model, name):
    (found,) = (item for item in model.phases() if item.name == name)
    return found


def test_the_discriminator_sees_all_images_in_0_to_1():
    model = make_model()
    batch, pixels = a_batch(model)
    seen, made = Seen(model.generator.discriminator), Seen(model.generator.generator)
    phase(model, "discriminator").loss(batch)
    phase(model, "generator").loss(batch)
    real, fake, fake_again = seen.given
    torch.testing.assert_close(real, pixels)
    assert torch.equal(fake, made.made[0])
    assert torch.equal(fake_again, fake)
    assert 0 <= fake.min() < fake.max() <= 1


# ---- terms


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(rows):
    power = np.exp(rows - rows.max(axis=1, keepdims=True))
    return power / power.sum(axis=1, keepdims=True)


class Fixed(nn.Module):
    """Answers with given values, one after the other."""

    def __init__(self, *answers):
        super().__init__()
        self.answers = list(answers)

    def forward(self, _values):
        return self.answers.pop(0)


SCORES = torch.tensor([2.0, -1.0, 0.5, -3.0])
FAKE_SCORES = torch.tensor([-0.5, 1.5, -2.0, 3.0])


def test_the_discriminators_terms():
    """Minus Eq. 15."""
    model = make_model()
    batch, _ = a_batch(model)
    model.generator.discriminator = Fixed(SCORES, FAKE_SCORES)
    terms = phase(model, "discriminator").loss(batch)
    real, fake = sigmoid(array(SCORES)), sigmoid(array(FAKE_SCORES))
    assert set(terms) == {"real", "fake"}
    assert terms["real"].item() == pytest.approx(-np.log(real).mean())
    assert terms["fake"].item() == pytest.approx(-np.log(1 - fake).mean())


def test_scores_of_any_size_give_finite_terms():
    """log D written plainly would be minus infinity."""
    model = make_model()
    batch, _ = a_batch(model)
    far = torch.tensor([1e4, -1e4, 1e4, -1e4])
    model.generator.discriminator = Fixed(far, far, far)
    terms = phase(model, "discriminator").loss(batch) | phase(model, "generator").loss(batch)
    assert [terms[name].item() for name in ("real", "fake", "fool")] == [5e3, 5e3, 5e3]


def plain_entropies(distances):
    """-sum_k S log S of every sample, S = softmax(d_e)."""
    s = softmax(distances)
    return -(s * np.log(s)).sum(axis=1)


def plain_distances(loss, vector):
    difference = array(vector)[:, None] - array(loss.points)[None]
    return (difference**2).mean(axis=2)


def plain_confusion(loss, vector, config):
    if config.confusion == "uniform":
        p = softmax(array(loss.logits(Features(vector, {}))))
        uniform = 1 / CLASSES
        return config.beta * np.mean(np.sum(uniform * np.log(uniform / p), axis=1))
    entropies = plain_entropies(plain_distances(loss, vector))
    if config.entropy == "released":
        return config.beta * np.exp(-entropies.mean())
    return -config.beta * np.mean(entropies / CLASSES)  # H of Eq. 17 is over N


CONFUSIONS = pytest.mark.parametrize(
    "options",
    [
        {"entropy": "paper"},
        {"entropy": "released"},
        {"entropy": "paper", "confusion": "uniform"},
        {"entropy": "released", "confusion": "uniform"},
        {"entropy": "released", "beta": 0.7},
        {"entropy": "paper", "beta": 0.0},
    ],
    ids=lambda options: ",".join(map(str, options.values())),
)


@CONFUSIONS
def test_confusion_is_the_papers(options):
    gan, loss = make_gan(**options), make_loss()
    torch.manual_seed(3)
    vector = torch.randn(6, Toy.vector_dim)
    value = gan.confusion(loss, Features(vector, {}))
    assert value.shape == ()
    assert value.item() == pytest.approx(plain_confusion(loss, vector, gan.config), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "lowest", "highest"),
    [
        ({"entropy": "released"}, 1 / CLASSES, 1.0),
        ({"entropy": "paper"}, -math.log(CLASSES) / CLASSES, 0.0),
        ({"confusion": "uniform"}, 0.0, 2 / 3 * 56 - math.log(CLASSES)),
    ],
)
def test_confusion_is_least_where_all_points_are_equally_far(options, lowest, highest):
    gan, loss = make_gan(beta=1.0, **options), make_loss()
    loss.points.data.copy_(torch.eye(CLASSES, Toy.vector_dim))
    vector = torch.zeros(2, Toy.vector_dim)
    best = gan.confusion(loss, Features(vector, {})).item()
    assert best == pytest.approx(lowest, abs=1e-6)
    vector[:, 0] = -40.0  # logits 336.2 + 40 to one point, 320.2 to the others
    worst = gan.confusion(loss, Features(vector, {})).item()
    assert worst == pytest.approx(highest, abs=1e-3)


def test_released_entropy_fades_by_its_own_value():
    """The gradient of exp(-mean H) is exp(-mean H) times that of -mean H, which is N times H's."""
    loss = make_loss()
    torch.manual_seed(3)
    vector = torch.randn(6, Toy.vector_dim, requires_grad=True)
    gradients, values = {}, {}
    for entropy in ("paper", "released"):
        values[entropy] = make_gan(entropy=entropy, beta=1.0).confusion(loss, Features(vector, {}))
        (gradients[entropy],) = torch.autograd.grad(values[entropy], vector)
    torch.testing.assert_close(
        gradients["released"], values["released"].item() * CLASSES * gradients["paper"]
    )


@CONFUSIONS
def test_the_generators_terms(options):
    """Minus Eq. 18: the features are the generated side's."""
    model = make_model(**options)
    batch, _ = a_batch(model)
    made = Seen(model.generator.generator)
    phase(model, "discriminator").loss(batch)
    features = Seen(model.backbone)
    model.generator.discriminator = Fixed(FAKE_SCORES)
    terms = phase(model, "generator").loss(batch)
    assert set(terms) == {"fool", "confuse"}
    assert terms["fool"].item() == pytest.approx(-np.log(sigmoid(array(FAKE_SCORES))).mean())
    (given,), (vector,) = features.given, features.made
    torch.testing.assert_close(given, model.generator.space.enter(made.made[0]))
    expected = plain_confusion(model.loss, vector, model.generator.config)
    assert terms["confuse"].item() == pytest.approx(expected, rel=1e-5)


@CONFUSIONS
def test_the_classifiers_terms(options):
    """Eq. 19: L on known samples alone, confusion on generated ones alone."""
    model = make_model(**options)
    batch, _ = a_batch(model)
    classify = phase(model, "classification")
    seen = Seen(model.backbone)
    terms = classify.loss(batch)
    assert list(terms) == ["cross_entropy", "margin", "generated"]
    (vector,) = seen.made
    known, generated = vector[:BATCH], vector[BATCH:]
    expected = model.loss.loss(Features(known, {}), batch.labels)
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value.item(), rel=1e-6)
    wanted = plain_confusion(model.loss, generated, model.generator.config)
    assert terms["generated"].item() == pytest.approx(wanted, rel=1e-5)


def test_the_classifier_gets_new_noise():
    model = make_model()
    batch, _ = a_batch(model)
    seen = Seen(model.backbone)
    for name in ("discriminator", "generator", "classification"):
        phase(model, name).loss(batch)
    generator_step, both = seen.given
    assert torch.equal(both[:BATCH], batch.images)
    assert not torch.allclose(both[BATCH:], generator_step, atol=1e-2)


@pytest.mark.parametrize("norm", [True, False])
def test_terms_under_mixed_precision(norm):
    """float32, and near those in full precision."""
    terms = {}
    for enabled in (False, True):
        model = make_model(norm)
        phases = model.phases()
        batch, _ = a_batch(model)
        torch.manual_seed(2)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            terms[enabled] = [item.loss(batch) for item in phases]
    for full, mixed in zip(*terms.values(), strict=True):
        for name, value in mixed.items():
            assert value.dtype == torch.float32
            assert value.item() == pytest.approx(full[name].item(), rel=0.1, abs=0.03), name


# ---- gradients between the networks


def test_generated_images_come_without_gradient_into_the_classifiers_phase():
    model = make_model()
    batch, _ = a_batch(model)
    sum(phase(model, "classification").loss(batch).values()).backward()
    assert all(p.grad is None for p in model.generator.parameters())
    for part in (model.backbone, model.loss):
        assert all(p.grad is not None for p in part.parameters())


def test_the_discriminators_phase_leaves_the_generator_without_gradient():
    model = make_model()
    batch, _ = a_batch(model)
    sum(phase(model, "discriminator").loss(batch).values()).backward()
    assert all(p.grad is None for p in model.generator.generator.parameters())
    assert all(p.grad is not None for p in model.generator.discriminator.parameters())


@pytest.mark.parametrize("term", ["fool", "confuse"])
def test_the_generators_gradient_flows_through_frozen_networks(term):
    model = make_model(beta=1.0)
    phases = {item.name: item for item in model.phases()}
    batch, _ = a_batch(model)
    phases["discriminator"].loss(batch)
    frozen = [model.backbone, model.loss, model.generator.discriminator]
    for part in frozen:
        part.requires_grad_(False)
    phases["generator"].loss(batch)[term].backward()
    for part in frozen:
        assert all(p.grad is None for p in part.parameters())
    for name, parameter in model.generator.generator.named_parameters():
        assert parameter.grad.abs().max() > 0, name


# ---- phases


def names(phases):
    return [item.name for item in phases]


def test_order_of_phases_and_what_they_update():
    model = make_model()
    phases = model.phases()
    assert names(phases) == ["discriminator", "generator", "classification", "focus"]
    gan, classifier = model.generator, (model.backbone, model.loss)
    assert [tuple(item.updates) for item in phases] == [
        (gan.discriminator,),
        (gan.generator,),
        classifier,
        classifier,
    ]
    for item in phases[:2]:
        recipe = item.optimizer
        assert (recipe.optimizer, recipe.lr, recipe.betas) == ("adam", 2e-4, (0.5, 0.999))
        assert (recipe.weight_decay, recipe.schedule) == (0.0, "constant")
    assert phases[3].shares_optimizer == "classification"
    assert names(make_model(focus="off").phases()) == names(phases)[:3]


class Staged(RepresentationLoss):
    """Two phases, the second only from epoch 2 on."""

    def __init__(self):
        super().__init__()
        self.classifier = nn.Linear(Toy.vector_dim, CLASSES)

    def logits(self, features):
        return self.classifier(features.vector)

    def phases(self, backbone):
        def fit(batch):
            self.seen = batch.features()
            return {"fit": F.cross_entropy(self.logits(self.seen), batch.labels)}

        return [
            Phase(name="first", loss=fit, updates=(backbone,)),
            Phase(
                name="second",
                loss=fit,
                updates=(self.classifier,),
                active=lambda epoch, _epochs: epoch >= 2,
            ),
        ]


@pytest.mark.parametrize(
    ("focus", "expected"),
    [
        ("iteration", {"enhance": [0, 1, 2, 3, 4], "focus": [0, 1, 2, 3, 4]}),
        ("epoch", {"enhance": [0, 2, 4], "focus": [1, 3]}),
        ("off", {"enhance": [0, 1, 2, 3, 4]}),
    ],
)
def test_epochs_in_which_phases_run(focus, expected):
    def epochs(phase):
        return [epoch for epoch in range(5) if phase.active(epoch, 5)]

    found = {item.name: epochs(item) for item in make_model(focus=focus).phases()}
    for name in ("discriminator", "generator", "classification"):
        assert found.pop(name) == expected["enhance"]
    assert found == ({"focus": expected["focus"]} if "focus" in expected else {})

    staged = {item.name: epochs(item) for item in make_model(loss=Staged(), focus=focus).phases()}
    assert staged.pop("first") == [0, 1, 2, 3, 4]
    for name in ("discriminator", "generator", "second"):
        assert staged.pop(name) == [epoch for epoch in expected["enhance"] if epoch >= 2]
    late = [epoch for epoch in expected.get("focus", []) if epoch >= 2]
    assert staged == ({"focus": late} if "focus" in expected else {})


def test_earlier_phases_of_the_loss_stay():
    loss = Staged()
    model = make_model(loss=loss)
    phases = model.phases()
    assert names(phases) == ["first", "discriminator", "generator", "second", "focus"]
    assert phases[0].updates == (model.backbone,)
    assert phases[3].updates == phases[4].updates == (loss.classifier,)
    batch, _ = a_batch(model)
    terms = phases[3].loss(batch)
    assert list(terms) == ["fit", "generated"]
    # It sees the known images' features, maps included, as if there were no others.
    alone = model.backbone(batch.images)
    torch.testing.assert_close(loss.seen.vector, alone.vector)
    torch.testing.assert_close(loss.seen.maps, alone.maps)


# ---- through the trainer


class PlainAccelerator:
    """What the loop asks of an accelerator, for one process on a CPU."""

    device = torch.device("cpu")
    mixed_precision = "no"
    is_main_process = True

    def prepare_model(self, model):
        return model

    def backward(self, value):
        value.backward()

    def autocast(self):
        return nullcontext()

    def wait_for_everyone(self):
        pass


class Images:
    """A loader of fixed batches."""

    def __init__(self, batches=1, repeats=1):
        torch.manual_seed(11)
        pixels = torch.rand(batches * BATCH, 3, SIZE, SIZE)
        self.images = InputSpace(MEAN, STD).enter(pixels).repeat(repeats, 1, 1, 1)
        self.labels = (torch.arange(batches * BATCH) % CLASSES).repeat(repeats)
        self.batches, self.samples = batches * repeats, len(self.labels)

    def __len__(self):
        return self.batches

    def shuffled(self, _order, _augmentation):
        yield from zip(self.images.split(BATCH), self.labels.split(BATCH), strict=True)

    def in_order(self):
        for images, labels in self.shuffled(None, None):
            yield images, labels, torch.arange(len(labels))


def make_trainer(model, folder, epochs=1, batches=1, repeats=1, lr=0.05, should_stop=lambda: None):
    loader = Images(batches, repeats)
    return Trainer(
        model,
        loader,
        loader,
        TrainingOptions(epochs=epochs, lr=lr, momentum=0.9, weight_decay=1e-3),
        seed=0,
        accelerator=PlainAccelerator(),
        checkpoints=folder,
        observers=Observers(),
        should_stop=should_stop,
    )


def train(trainer, after_step=lambda name: None, before_step=lambda name: None):
    """Train, and call back around every step of every optimiser with the phase's name."""
    running = []
    phases = [item.phase.name for item in trainer.optimizers]
    trainer.plain_runner.register_forward_pre_hook(
        lambda _module, arguments: running.append(phases[arguments[0]])
    )
    for optimizer in {id(item.optimizer): item.optimizer for item in trainer.optimizers}.values():
        optimizer.register_step_pre_hook(lambda *_: before_step(running[-1]))
        optimizer.register_step_post_hook(lambda *_: after_step(running[-1]))
    records = []
    trainer.fit(records.append)
    assert all(p.requires_grad for p in trainer.model.parameters())
    return running, records


def changes_by_phase(model, folder, **options):
    """What of the whole state each phase changed, statistics included."""
    trainer = make_trainer(model, folder, **options)
    log = []

    def state():
        return {name: value.clone() for name, value in model.state_dict().items()}

    before = state()

    def note(name):
        now = state()
        log.append((name, {n for n in now if not torch.equal(now[n], before[n])}))
        before.update(now)

    _, records = train(trainer, after_step=note)
    return log, records


def members(model, *prefixes, kind="all"):
    """Names of the model's state under some prefixes: parameters, statistics or all."""
    parameters = {name for name, _ in model.named_parameters()}
    chosen = {"all": lambda n: True, "weights": parameters.__contains__}
    chosen["statistics"] = lambda n: n not in parameters
    return {n for n in model.state_dict() if n.startswith(prefixes) and chosen[kind](n)}


GENERATED_SIDE = ("backbone.first_norm.generated", "backbone.second_norm.generated")
KNOWN_SIDE = ("backbone.first_norm.known", "backbone.second_norm.known")
GENERATOR, DISCRIMINATOR = "generator.generator.", "generator.discriminator."


def test_each_phase_changes_exactly_what_it_should(tmp_path):
    """Beside the parameters it updates, a phase moves the statistics of what it runs."""
    model = make_model()
    log, records = changes_by_phase(model, tmp_path, batches=2)
    assert [name for name, _ in log] == [
        "discriminator",
        "generator",
        "classification",
        "focus",
    ] * 2
    classifier = members(model, "backbone.", "loss.", kind="weights")
    generated = members(model, *GENERATED_SIDE, kind="weights")
    generator_statistics = members(model, GENERATOR, kind="statistics")
    expected = {
        "discriminator": members(model, DISCRIMINATOR) | generator_statistics,
        "generator": members(model, GENERATOR, kind="weights")
        | members(model, DISCRIMINATOR, *GENERATED_SIDE, kind="statistics"),
        "classification": classifier
        | members(model, *KNOWN_SIDE, *GENERATED_SIDE, kind="statistics")
        | generator_statistics,
        "focus": (classifier - generated) | members(model, *KNOWN_SIDE, kind="statistics"),
    }
    assert all(expected.values())
    for name, changed in log:
        assert changed == expected[name], name
    assert list(records[0]["terms"]) == [
        "discriminator/real",
        "discriminator/fake",
        "generator/fool",
        "generator/confuse",
        "classification/cross_entropy",
        "classification/margin",
        "classification/generated",
        "focus/cross_entropy",
        "focus/margin",
    ]


def test_without_auxiliary_batchnorm_everything_moves_the_one_side(tmp_path):
    """The ablation of Table 3."""
    model = make_model(auxiliary_bn="off")
    log, _ = changes_by_phase(model, tmp_path)
    assert not is_converted(model.backbone)
    assert not model.generator.separate
    one_side = members(model, "backbone.", kind="statistics")
    assert one_side
    moved = {name: changed & one_side for name, changed in log}
    assert moved.pop("discriminator") == set()
    assert moved == dict.fromkeys(("generator", "classification", "focus"), one_side)


@pytest.mark.parametrize("focus", ["epoch", "off"])
def test_other_schedules_of_focus_training(tmp_path, focus):
    model = make_model(focus=focus)
    log, _ = changes_by_phase(model, tmp_path, epochs=4)
    enhanced = ["discriminator", "generator", "classification"]
    turns = {"epoch": [*enhanced, "focus"] * 2, "off": enhanced * 4}
    assert [name for name, _ in log] == turns[focus]


@pytest.mark.parametrize(
    ("options", "generator", "discriminator", "backbone"),
    [
        ({}, 2, 3, [BATCH, 2 * BATCH, BATCH]),
        ({"focus": "off"}, 2, 3, [BATCH, 2 * BATCH]),
        ({"auxiliary_bn": "off"}, 2, 3, [BATCH] * 4),
        ({"auxiliary_bn": "off", "focus": "off"}, 2, 3, [BATCH] * 3),
    ],
    ids=["default", "no focus", "no auxiliary", "neither"],
)
def test_passes_of_a_step(tmp_path, options, generator, discriminator, backbone):
    model = make_model(**options)
    trainer = make_trainer(model, tmp_path)
    seen = {
        "generator": Seen(model.generator.generator),
        "discriminator": Seen(model.generator.discriminator),
        "backbone": Seen(model.backbone),
    }
    trainer.accuracy = lambda: 0.0  # a pass of the backbone of its own
    train(trainer)
    assert len(seen["generator"].given) == generator
    assert len(seen["discriminator"].given) == discriminator
    assert [len(images) for images in seen["backbone"].given] == backbone


def test_running_statistics_of_both_sides(tmp_path):
    """Plain momentum arithmetic: known images twice, generated ones of two steps.

    With a rate too small to move a weight, what reaches the first BatchNorm follows from the
    images alone.
    """
    model = make_model(lr=1e-30)
    trainer = make_trainer(model, tmp_path, lr=1e-30)
    weight = model.backbone.first.weight.detach().clone()
    made = Seen(model.generator.generator)
    train(trainer)
    assert torch.equal(model.backbone.first.weight, weight)
    layer = model.backbone.first_norm
    assert isinstance(layer, AuxiliaryBatchNorm)
    known = trainer.loader.images
    first, second = (model.generator.space.enter(pixels) for pixels in made.made)
    for side, batches in ((layer.known, [known, known]), (layer.generated, [first, second])):
        mean, variance = np.zeros(4), np.ones(4)
        for images in batches:
            maps = array(F.conv2d(images, weight, stride=4)).swapaxes(0, 1).reshape(4, -1)
            mean = 0.9 * mean + 0.1 * maps.mean(axis=1)
            variance = 0.9 * variance + 0.1 * maps.var(axis=1, ddof=1)
        np.testing.assert_allclose(array(side.running_mean), mean, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(array(side.running_var), variance, rtol=1e-4)
        assert side.num_batches_tracked.item() == 2
    assert not torch.allclose(layer.known.running_mean, layer.generated.running_mean, rtol=0.01)


def test_focus_training_shares_optimiser_and_momentum(tmp_path):
    model = make_model()
    trainer = make_trainer(model, tmp_path, batches=2)
    by_name = {item.phase.name: item for item in trainer.optimizers}
    assert by_name["focus"].optimizer is by_name["classification"].optimizer
    assert len({id(item.optimizer) for item in trainer.optimizers}) == 3
    weight = model.backbone.second.weight
    steps = []

    def before(name):
        if name in ("classification", "focus"):
            steps.append([name, weight.detach().clone(), weight.grad.clone()])

    def after(name):
        if name in ("classification", "focus"):
            steps[-1].append(weight.detach().clone())

    train(trainer, after, before)
    assert [step[0] for step in steps] == ["classification", "focus"] * 2
    velocity = np.zeros(weight.shape)
    for _, start, gradient, end in steps:
        velocity = 0.9 * velocity + array(gradient) + 1e-3 * array(start)
        np.testing.assert_allclose(array(end), array(start) - 0.05 * velocity, atol=1e-6)
        assert np.abs(0.05 * velocity).max() > 1e-3


def test_training_lowers_what_it_should(tmp_path):
    """Some steps on one batch: known images are learnt, generated ones look unknown."""
    model = make_model(lr=2e-3, beta=0.5)
    _, records = train(make_trainer(model, tmp_path, epochs=4, repeats=10))
    first, last = records[0]["terms"], records[-1]["terms"]
    assert last["focus/cross_entropy"] < 0.5 * first["focus/cross_entropy"]
    assert last["classification/generated"] < first["classification/generated"]
    assert last["classification/generated"] < 0.5 * 1.05 / CLASSES  # nearly uniform


# ---- backbones without BatchNorm


def test_auxiliary_batchnorm_where_there_is_none_is_refused():
    with pytest.raises(CompositionError) as caught:
        make_model(norm=False, auxiliary_bn="on").phases()
    message = str(caught.value)
    for piece in ("auxiliary_bn=on", "no BatchNorm", "not needed", "auto"):
        assert piece in message
    assert "\n" not in message


@pytest.mark.parametrize("wish", ["auto", "off"])
def test_a_backbone_without_batchnorm(tmp_path, wish):
    model = make_model(norm=False, auxiliary_bn=wish)
    log, _ = changes_by_phase(model, tmp_path)
    assert not is_converted(model.backbone)
    classifier = members(model, "backbone.", "loss.")
    changed = dict(log)
    assert changed["classification"] & classifier == changed["focus"] == classifier


@pytest.mark.parametrize(
    ("wish", "norm", "separate"),
    [("auto", True, True), ("on", True, True), ("off", True, False), ("auto", False, False)],
)
def test_which_backbones_get_a_second_side(wish, norm, separate):
    model = make_model(norm=norm, auxiliary_bn=wish)
    for _ in range(2):  # asked again, the answer stays
        model.phases()
        assert is_converted(model.backbone) == model.generator.separate == separate
    assert parameter_count(model.backbone) == parameter_count(Toy(norm)) + 2 * (4 + 5) * separate


# ---- the joint confidence loss


def test_defaults_of_joint_confidence():
    config = JointConfidenceOptions()
    changed = {"confusion": "uniform", "entropy": "paper", "auxiliary_bn": "off", "focus": "off"}
    rest = {name: value for name, value in attrs.asdict(config).items() if name not in changed}
    assert {name: getattr(config, name) for name in changed} == changed
    plain = attrs.asdict(ConfusedGANOptions())
    assert rest == {name: plain[name] for name in rest}


def test_a_step_of_joint_confidence(tmp_path):
    torch.manual_seed(0)
    loss = Softmax(SoftmaxOptions(), LossContext(num_classes=CLASSES, vector_dim=5))
    model = OpenSetModel(Toy(), loss, make_gan(JointConfidenceOptions))
    seen = Seen(model.backbone)
    log, records = changes_by_phase(model, tmp_path)
    assert [name for name, _ in log] == ["discriminator", "generator", "classification"]
    assert not is_converted(model.backbone)
    generated_vector = seen.made[0]
    # In the generator's phase the classifier is still that of the start.
    torch.manual_seed(0)
    start = Softmax(SoftmaxOptions(), LossContext(num_classes=CLASSES, vector_dim=5))
    p = softmax(array(start.logits(Features(generated_vector, {}))))
    kl = np.mean(np.sum(np.log(1 / CLASSES / p) / CLASSES, axis=1))
    assert records[0]["terms"]["generator/confuse"] == pytest.approx(0.1 * kl, rel=1e-4)


# ---- saved models and resumed training


def test_the_finished_model_is_a_plain_one(tmp_path):
    model = make_model()
    before = set(model.state_dict())
    trainer = make_trainer(model, tmp_path)
    expected_parameters = inference_parameters(model)
    train(trainer)
    images = trainer.loader.images
    model.eval()
    with domain(model.backbone, "generated"):  # evaluation takes the known side all the same
        expected = model(images)
    state = model.for_inference().state_dict()
    plain = OpenSetModel(Toy(), make_loss(seed=9)).for_inference()
    assert set(state) == set(plain.state_dict()) == {n for n in before if "generator." not in n}
    assert model.parameter_count() == plain.parameter_count() == expected_parameters
    plain.load_state_dict(state)
    for one, other in zip(plain(images), expected, strict=True):
        assert torch.equal(one, other)


PROTOCOL = """
summary = "three digits"
[image]
size = 32
channels = 3
mean = [0.3, 0.5, 0.6]
std = [0.2, 0.3, 0.1]
[known]
dataset = "digits"
test_fraction = 0.4
trials = [[0, 1, 2]]
[unknown.rest]
dataset = "digits"
classes = "rest"
[validation]
fraction = 0.1
[options.confused-gan]
width = 2
noise_dim = 3
"""


def test_saved_and_loaded_from_files(tiny, tmp_path):
    """Parts found by name; what the generator needs reaches it from the protocol."""
    path = tmp_path / "protocol.toml"
    path.write_text(PROTOCOL)
    experiment = resolve("arpl,confused-gan,tiny", str(path))
    assert experiment.method == "arpl+confused-gan"
    chosen = experiment.selection
    torch.manual_seed(0)
    model = build_model(
        (chosen.backbone, experiment.options["tiny"]),
        (chosen.loss, experiment.options["arpl"]),
        CLASSES,
        experiment.protocol.content.image,
        (chosen.generator, experiment.options["confused-gan"]),
    )
    assert model.generator.space.mean.flatten().tolist() == pytest.approx(MEAN)
    assert model.generator.space.std.flatten().tolist() == pytest.approx(STD)
    assert model.generator.num_classes == CLASSES
    trainer = make_trainer(model, tmp_path / "checkpoints")
    train(trainer)
    model.eval()
    expected = model(trainer.loader.images)
    save_model(tmp_path / "model", model, experiment, ("0", "1", "2"))
    loaded, description = load_model(tmp_path / "model", plugins=registry())
    assert loaded.generator is None
    assert not is_converted(loaded.backbone)
    assert description.parameters == loaded.parameter_count()
    for one, other in zip(loaded(trainer.loader.images), expected, strict=True):
        assert torch.equal(one, other)


class Stopped(Exception):
    """In place of a signal."""


def test_training_resumes_to_the_bit(tmp_path):
    """A checkpoint holds both sides, the GAN, and the optimiser that two phases share."""
    torch.manual_seed(0)
    straight = make_model()
    torch.manual_seed(1)
    train(make_trainer(straight, tmp_path / "straight", epochs=3, batches=2))

    calls = []

    def stop():
        calls.append(None)
        if len(calls) == 7:  # two steps and the end of an epoch, twice, and a step
            raise Stopped

    broken = make_model()
    torch.manual_seed(1)
    trainer = make_trainer(broken, tmp_path / "broken", 3, 2, should_stop=stop)
    with pytest.raises(Stopped):
        train(trainer)
    resumed = make_model(seed=8)
    _, records = train(make_trainer(resumed, tmp_path / "broken", epochs=3, batches=2))
    assert [record["epoch"] for record in records] == [3]
    state = resumed.state_dict()
    assert any(".generated." in name for name in state)
    for name, value in straight.state_dict().items():
        assert torch.equal(state[name], value), name


def test_the_option_decides_whether_a_checkpoint_fits(tmp_path):
    """With a second side or without: one sentence, not a half-loaded model."""
    train(make_trainer(make_model(), tmp_path))
    other = make_trainer(make_model(auxiliary_bn="off"), tmp_path, epochs=2)
    with pytest.raises(TrainingError, match="does not fit this experiment"):
        train(other)
