"""The conformance kit detects violations: for each contract a broken component that its check
catches."""

from __future__ import annotations

import os
import socket
import unittest
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from attrs import define, evolve, frozen
from torch import nn

import openset_plugins.gcpl.loss
from openset_core import (
    Backbone,
    BackboneSpec,
    DatasetSpec,
    FeatureMap,
    Features,
    FigureConfig,
    FigureSpec,
    ImageSet,
    Landmarks,
    NoOptions,
    Observer,
    ObserverSpec,
    Phase,
    ProtocolSpec,
    RecipeSpec,
    RepresentationLoss,
    RepresentationLossSpec,
    RequiredRun,
    SampleGenerator,
    SampleGeneratorSpec,
    UnknownScorer,
    UnknownScorerSpec,
    option,
    testing,
)
from openset_core.errors import CompositionError, DataError
from openset_core.observers import RunEvent
from openset_core.report.figures.drawing import FigureResult
from openset_core.testing.misc_checks import events_of_a_run

# ---- sound components, which the broken ones derive from


class Net(Backbone):
    def __init__(self, context):
        super().__init__()
        self.vector_dim = 8
        self.feature_info = (
            FeatureMap(name="half", channels=4, reduction=2),
            FeatureMap(name="quarter", channels=8, reduction=4),
        )
        self.first = nn.Conv2d(context.channels, 4, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 8, 3, stride=2, padding=1)

    def forward(self, images):
        half = F.leaky_relu(self.norm(self.first(images)))
        quarter = F.leaky_relu(self.second(half))
        return Features(quarter.mean(dim=(2, 3)), {"half": half, "quarter": quarter})


class Linear(RepresentationLoss):
    def __init__(self, context):
        super().__init__()
        self.num_classes = context.num_classes
        self.classifier = nn.Linear(context.vector_dim, context.num_classes)

    def logits(self, features):
        return self.classifier(features.vector)

    def loss(self, features, labels):
        return {"fit": F.cross_entropy(self.logits(features), labels)}


class Means(UnknownScorer):
    reads = ("embedding", "label")

    def __init__(self, _config):
        pass

    def fit(self, source):
        sums, counts = 0.0, np.zeros(source.num_classes)
        for table in source.chunks("embedding", "label"):
            member = np.eye(source.num_classes)[table["label"]]
            sums = sums + member.T @ table["embedding"].astype(np.float64)
            counts += member.sum(axis=0)
        self.means = sums[counts > 0] / counts[counts > 0, None]

    def score(self, table):
        rows = table["embedding"].astype(np.float64)
        return np.linalg.norm(rows[:, None] - self.means, axis=2).min(axis=1)

    def state(self):
        return {"means": self.means}

    def restore(self, state):
        self.means = state["means"]


class Noise(SampleGenerator):
    def __init__(self, context):
        super().__init__()
        self.shape = (context.channels, context.image_size, context.image_size)
        self.register_buffer("mean", torch.tensor(context.pixel_mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(context.pixel_std).view(-1, 1, 1))
        self.bias = nn.Parameter(torch.zeros(self.shape))

    def sample(self, count):
        noise = torch.randn(count, *self.shape, device=self.mean.device)
        return ((noise + self.bias).sigmoid() - self.mean) / self.std

    def outside(self, batch, backbone, loss):
        return {"outside": loss.open_space(backbone(self.sample(len(batch.images)))).mean()}

    def phases(self, backbone, loss, phases):
        own = Phase(
            name="noise", loss=lambda batch: self.outside(batch, backbone, loss), updates=(self,)
        )
        return [own, *phases]


@frozen
class Options:
    size: int = option(3, "how many")


def spec_of(kind, made, **changes):
    """A spec whose factory calls `made` with the context, or for a scorer with the options."""
    known = {
        "backbone": (BackboneSpec, {"provides": ("feature vector", "feature maps", "batchnorm")}),
        "loss": (RepresentationLossSpec, {}),
        "scorer": (UnknownScorerSpec, {"needs": ("embedding",)}),
        "generator": (SampleGeneratorSpec, {}),
        "observer": (ObserverSpec, {}),
        "dataset": (DatasetSpec, {"parts": ("all",)}),
    }
    cls, usual = known[kind]

    def factory(options, context):
        return made(context)

    announced = {"name": "broken", "summary": "broken", "config": NoOptions, **usual, **changes}
    return cls(**{"factory": made if kind == "scorer" else factory, **announced})


def outcome(spec, check, config=None):
    """The error of one check, None where it passes."""
    (bound,) = (item for item in testing.checks(spec, config) if str(item) == check)
    try:
        bound()
    except testing.ConformanceError as error:
        return error
    except unittest.SkipTest as reason:
        pytest.fail(f"skipped: {reason}")
    return None


SOUND = {
    "backbone": spec_of("backbone", Net),
    "loss": spec_of("loss", Linear),
    "scorer": spec_of("scorer", Means),
    "generator": spec_of("generator", Noise),
}

CASES = []
NEEDS_GPU = pytest.mark.skipif(not torch.accelerator.is_available(), reason="needs a GPU")


def case(kind, check, spec, seen, label):
    marks = [pytest.mark.gpu, NEEDS_GPU] if seen == "same device" else []
    CASES.append(pytest.param(kind, check, spec, seen, id=f"{kind}:{check}{label}", marks=marks))


def violates(check, kind, seen, **changes):
    """Register a broken class for a check; `seen` is part of the message."""

    def register(made):
        label = f":{getattr(made, '__name__', 'spec')}"
        case(kind, check, spec_of(kind, made, **changes), seen, label)
        return made

    return register


def spec_violates(check, seen, kind="scorer", **changes):
    made = {"backbone": Net, "loss": Linear, "scorer": Means}[kind]
    case(kind, check, spec_of(kind, made, **changes), seen, "")


# ---- specs and options


@define
class Changeable:
    size: int = option(3, "how many")


@frozen
class Silent:
    size: int = option(3, " ")


@frozen
class Contradictory:
    size: int = option(3, "how many", choices=(1, 2))


@frozen
class NotEqualToItself:
    size: float = option(float("nan"), "how much")


@frozen
class Choices:
    way: str = option("near", "which way", choices=("near", "far"))


class Heavy(NoOptions):
    __module__ = openset_plugins.gcpl.loss.__name__  # a module that imports torch


def far_is_missing(options, *context):
    return {"near": Means}[options.way](options)


def local_options():
    @frozen
    class Local:
        size: int = option(3, "how many")

    return Local


spec_violates("spec-is-described", "summary is ' '", summary=" ")
spec_violates("spec-names-the-hook-api", "api=99, this openset has", api=99)
spec_violates("factory-is-lazy", "factory is <class")
spec_violates("factory-is-lazy", "loads torch", factory="openset_core:option", config=Heavy)
spec_violates("factory-loads", "No module named 'nowhere'", factory="nowhere:build")
spec_violates("factory-loads", "cannot be called with 1 arguments", factory=lambda: Means(None))
spec_violates("needs-can-be-met", "needs 'moonlight'", needs=("moonlight",))
spec_violates("defaults-are-installed", "no-such", kind="loss", default_scorers=("no-such",))
spec_violates("defaults-are-installed", "no option 'rate'", kind="loss", recipe={"rate": 0.1})
spec_violates("options-have-defaults", "the defaults are refused", config=Contradictory)
spec_violates("options-are-frozen", "cannot be hashed", config=Changeable)
spec_violates("options-have-help", "no help text for size", config=Silent)
spec_violates("options-can-be-written", "came back as", config=NotEqualToItself)
spec_violates("options-can-be-written", "local_options", config=local_options())
spec_violates(
    "options-hold-what-they-allow",
    "way='far' is allowed, but building fails: KeyError",
    config=Choices,
    factory=far_is_missing,
)

# ---- backbones


@violates("backbone-builds", "backbone", "built a Linear, not a Backbone")
def plain_module(context):
    return nn.Linear(2, 2)


@violates("backbone-builds", "backbone", "two maps share a name")
class TwoMapsOfOneName(Net):
    def __init__(self, context):
        super().__init__(context)
        self.feature_info = (*self.feature_info, self.feature_info[0])


@violates("vector-has-the-declared-shape", "backbone", "not [4, 16]")
class WrongDimension(Net):
    def __init__(self, context):
        super().__init__(context)
        self.vector_dim = 16


@violates("vector-has-the-declared-shape", "backbone", "torch.float64")
class DoublePrecision(Net):
    def forward(self, images):
        vector, maps = super().forward(images)
        return Features(vector.double(), maps)


@violates("maps-are-as-declared", "backbone", "map quarter (channels=8, reduction=8)")
class WrongReduction(Net):
    def __init__(self, context):
        super().__init__(context)
        self.feature_info = (
            self.feature_info[0],
            FeatureMap(name="quarter", channels=8, reduction=8),
        )


@violates("maps-are-as-declared", "backbone", "returned ['half']")
class MissingMap(Net):
    def forward(self, images):
        vector, maps = super().forward(images)
        return Features(vector, {"half": maps["half"]})


spec_violates(
    "image-size-is-taken",
    "image_size gives '64'",
    kind="backbone",
    image_size=lambda _options: "64",
)


@violates("image-size-is-taken", "backbone", "33x33, are not taken", image_size=lambda _options: 33)
class EvenSizesOnly(Net):
    def forward(self, images):
        if images.shape[-1] % 2:
            raise ValueError("odd")
        return super().forward(images)


spec_violates(
    "provides-is-true",
    "has feature maps, but provides does not say so",
    kind="backbone",
    provides=("feature vector", "batchnorm"),
)


@violates("provides-is-true", "backbone", "says 'batchnorm', but the backbone has none")
class NoBatchNorm(Net):
    def __init__(self, context):
        super().__init__(context)
        self.norm = nn.Identity()


@violates("other-images-work-or-are-refused", "backbone", "RuntimeError")
class OneSizeOnly(Net):
    def __init__(self, context):
        super().__init__(context)
        self.last = nn.Linear(8 * 8 * 8, 8)

    def forward(self, images):
        _vector, maps = super().forward(images)
        return Features(self.last(maps["quarter"].flatten(1)), maps)


@violates("other-images-work-or-are-refused", "backbone", "every size was refused")
def refuses_all(context):
    raise CompositionError("no image is good enough; give better ones")


@violates("building-leaves-the-seed-alone", "backbone", "the next random numbers are the same")
class OwnSeed(Net):
    def __init__(self, context):
        torch.manual_seed(7)
        super().__init__(context)


@violates("building-leaves-the-seed-alone", "backbone", "two builds from one seed differ in shift")
class TrulyRandom(Net):
    def __init__(self, context):
        super().__init__(context)
        self.shift = nn.Parameter(torch.tensor(float(int.from_bytes(os.urandom(3)))))


@violates("initial-weights-can-be-left-out", "backbone", "building connected to ('127.0.0.1', 9)")
class AlwaysDownloads(Net):
    def __init__(self, context):
        super().__init__(context)
        try:
            socket.create_connection(("127.0.0.1", 9))
        except OSError:
            return  # as a library that tries again later


@violates("evaluation-is-deterministic", "backbone", "of the same images twice")
class DropoutAlways(Net):
    def forward(self, images):
        return super().forward(F.dropout(images, 0.5, training=True))


@violates(
    "evaluation-is-deterministic",
    "backbone",
    "evaluation changed backbone.norm.num_batches_tracked",
)
class BatchNormAlwaysTrains(Net):
    def train(self, mode=True):
        super().train(mode)
        self.norm.train()
        return self


@violates("training-passes-change-no-parameter", "backbone", "the images were changed in place")
class ChangesImages(Net):
    def forward(self, images):
        return super().forward(images.mul_(0.5))


@violates("training-passes-change-no-parameter", "backbone", "it changed second.bias")
class ChangesItself(Net):
    def forward(self, images):
        with torch.no_grad():
            self.second.bias.add_(1.0)
        return super().forward(images)


@violates("gradients-reach-what-is-trained", "backbone", "no phase trains unused.weight")
class Unused(Net):
    def __init__(self, context):
        super().__init__(context)
        self.unused = nn.Linear(2, 2)


@violates("training-passes-change-no-parameter", "backbone", "no gradient reaches the images")
class CutsTheImagesOff(Net):
    def forward(self, images):
        return super().forward(images.detach())


@violates("extreme-images-give-finite-features", "backbone", "NaN or infinite")
class DividesByDeviation(Net):
    def forward(self, images):
        deviation = images.std(dim=(1, 2, 3), keepdim=True)
        return super().forward(images / deviation)


@violates("state-dict-round-trip", "backbone", "before saving and after loading")
class UnsavedState(Net):
    def __init__(self, context):
        super().__init__(context)
        self.shift = 0.0

    def forward(self, images):
        if self.training:
            self.shift += 1.0
        return super().forward(images + self.shift)


@violates("devices-are-not-mixed", "backbone", "same device")
class ConstantStaysBehind(Net):
    def __init__(self, context):
        super().__init__(context)
        self.constant = torch.ones(context.channels, 1, 1)

    def forward(self, images):
        return super().forward(images * self.constant)


@violates("channels-last-works", "backbone", "view size is not compatible")
class Views(Net):
    def forward(self, images):
        _vector, maps = super().forward(images)
        return Features(maps["quarter"].view(len(images), -1)[:, :8], maps)


@violates("bf16-works", "backbone", "RuntimeError")
class AssumesFloat32(Net):
    def forward(self, images):
        vector, maps = super().forward(images)
        rows = torch.arange(len(images), device=images.device)
        total = torch.zeros(len(images), 8, device=images.device)
        return Features(total.index_add(0, rows, (vector * 1).to(maps["half"].dtype)), maps)


@violates("auxiliary-batchnorm-works", "backbone", "generated samples moved norm.known")
class CallsBatchNormItself(Net):
    def forward(self, images):
        norm, hidden = self.norm, self.first(images)
        half = F.batch_norm(
            hidden, norm.running_mean, norm.running_var, norm.weight, norm.bias, norm.training
        )
        quarter = F.leaky_relu(self.second(half))
        return Features(quarter.mean(dim=(2, 3)), {"half": half, "quarter": quarter})


# ---- representation losses


@violates("loss-builds", "loss", "built a Linear, not a RepresentationLoss")
def plain_head(context):
    return nn.Linear(context.vector_dim, context.num_classes)


@violates("needs-is-true", "loss", "on a backbone that provides nothing but a vector: KeyError")
class SecretMaps(Linear):
    def logits(self, features):
        return super().logits(features) + features.maps["m2"].mean()


@violates("needs-is-true", "loss", "trains on a backbone without any", needs=("feature maps",))
class MapsForNothing(Linear):
    pass


spec_violates("provides-is-true", "lacks 'embedding'", kind="loss", provides=("logits",))


@violates("logits-have-the-right-form", "loss", "has shape [6, 3], not [6, 2]")
class OneLogitMore(Linear):
    def logits(self, features):
        return F.pad(super().logits(features), (0, 1))


@violates("what-was-learnt-has-the-right-form", "loss", "points of landmarks() has shape [3, 7]")
class LandmarksElsewhere(Linear):
    def landmarks(self):
        return Landmarks(torch.zeros(3, 7), torch.arange(3), "corner")


@violates("what-was-learnt-has-the-right-form", "loss", "classes outside 0..")
class LandmarksOfNobody(Linear):
    def landmarks(self):
        points = self.classifier.weight[:2]
        return Landmarks(points, torch.tensor([0, 30]), "corner")


@violates("what-was-learnt-has-the-right-form", "loss", "no finite float")
class LearntTensor(Linear):
    def learned_scalars(self):
        return {"scale": self.classifier.weight.norm()}


@violates("embedding-has-the-right-form", "loss", "not [6,")
class FlatEmbedding(Linear):
    def embedding(self, features):
        return features.vector.flatten()


@violates("open-space-has-the-right-form", "loss", "has shape [], not [6]")
class OneOpenSpaceForAll(Linear):
    def open_space(self, features):
        return super().open_space(features).mean()


@violates("open-space-has-the-right-form", "loss", "carries no gradient")
class OpenSpaceWithoutGradient(Linear):
    def open_space(self, features):
        return super().open_space(features).detach()


@violates("every-phase-runs", "loss", "term 'fit' of phase classification is a tensor")
class TermPerSample(Linear):
    def loss(self, features, labels):
        return {"fit": F.cross_entropy(self.logits(features), labels, reduction="none")}


@violates("every-phase-runs", "loss", "active in none of")
class NeverActive(Linear):
    def phases(self, backbone):
        return [evolve(super().phases(backbone)[0], active=lambda epoch, epochs: False)]


@violates("gradients-reach-what-is-trained", "loss", "updates backbone, but no gradient reaches")
class CutsTheBackboneOff(Linear):
    def logits(self, features):
        return self.classifier(features.vector.detach())


@violates("gradients-reach-what-is-trained", "loss", "no phase trains spare.weight")
class SpareLayer(Linear):
    def __init__(self, context):
        super().__init__(context)
        self.spare = nn.Linear(2, 1, bias=False)


@violates("nothing-else-changes", "loss", "phase classification changed loss.other")
class ChangesAnother(Linear):
    def __init__(self, context):
        super().__init__(context)
        self.other = nn.Parameter(torch.zeros(3))

    def phases(self, backbone):
        own = super().phases(backbone)[0]

        def loss(batch):
            with torch.no_grad():
                self.other.add_(1.0)
            return own.loss(batch)

        return [evolve(own, loss=loss, updates=(backbone, self.classifier))]


@violates("phases-use-the-features-given", "loss", "do not depend on the features given")
class AsksTheBackboneItself(Linear):
    def phases(self, backbone):
        return [
            Phase(
                name="own",
                loss=lambda batch: self.loss(backbone(batch.images), batch.labels),
                updates=(backbone, self),
            )
        ]


@violates("evaluation-is-deterministic", "loss", "embedding of the same images twice")
class RandomEmbedding(Linear):
    def embedding(self, features):
        return features.vector + torch.randn_like(features.vector)


@violates("evaluation-is-deterministic", "loss", "logits of an image alone and in a batch")
class CentresTheBatch(Linear):
    def logits(self, features):
        return self.classifier(features.vector - features.vector.mean(dim=0))


@violates("training-repeats-under-a-seed", "loss", "two trainings from one seed differ in")
class RandomLoss(Linear):
    def loss(self, features, labels):
        return {"fit": super().loss(features, labels)["fit"] * (1 + int.from_bytes(os.urandom(3)))}


@violates("training-repeats-under-a-seed", "loss", "the next random numbers are the same")
class SeedsTraining(Linear):
    def loss(self, features, labels):
        torch.manual_seed(0)
        return super().loss(features, labels)


@violates("state-dict-round-trip", "loss", "logits before saving and after loading")
class UnsavedScale(Linear):
    scale = 1.0

    def logits(self, features):
        return self.scale * super().logits(features)

    def loss(self, features, labels):
        self.scale += 1.0
        return super().loss(features, labels)


@violates("state-dict-round-trip", "loss", "ask for what was left out")
class NeedsWhatIsLeftOut(Linear):
    training_only = ("classifier",)


@violates(
    "state-dict-round-trip", "loss", "training_only=('discriminator',) names what is not there"
)
class LeavesOutWhatIsNotThere(Linear):
    training_only = ("discriminator",)


@violates("devices-are-not-mixed", "loss", "same device")
class ClassWeightsStayBehind(Linear):
    def loss(self, features, labels):
        weights = torch.ones(self.num_classes)
        return {"fit": F.cross_entropy(self.logits(features), labels, weight=weights)}


@violates("extreme-features-give-finite-answers", "loss", "for features that are all zero")
class DividesByLength(Linear):
    def loss(self, features, labels):
        vector = features.vector / features.vector.norm(dim=1, keepdim=True)
        return {"fit": F.cross_entropy(self.classifier(vector), labels)}


@violates("extreme-features-give-finite-answers", "loss", "logits of features times 1000")
class Exponential(Linear):
    def logits(self, features):
        return super().logits(features).exp()


@violates("bf16-works", "loss", "RuntimeError")
class FillsFloat32(Linear):
    def loss(self, features, labels):
        sums = torch.zeros(self.num_classes, features.vector.shape[1])
        centre = sums.index_add(0, labels, features.vector)
        return {**super().loss(features, labels), "centre": centre.square().mean()}


@violates("auxiliary-batchnorm-works", "loss", "no gradient of open_space goes back")
class OpenSpaceOfItsOwn(Linear):
    def open_space(self, features):
        return self.logits(Features(features.vector.detach(), {})).square().sum(dim=1)


@violates("it-learns-and-logits-say-so", "loss", "on its own training images")
class TurnedSign(Linear):
    def logits(self, features):
        return -super().logits(features)

    def loss(self, features, labels):
        return {"fit": F.cross_entropy(-self.logits(features), labels)}


@violates("logits-have-the-right-form", "loss", "already a probability distribution")
class SoftmaxTwice(Linear):
    def logits(self, features):
        return super().logits(features).softmax(dim=1)


# ---- unknown scorers


@violates("scorer-builds", "scorer", "built a object, not a UnknownScorer")
def no_scorer(_options):
    return object()


@violates("scorer-builds", "scorer", "reads is ['embedding', 'label']")
class ReadsIsAList(Means):
    reads = ["embedding", "label"]  # noqa: RUF012


spec_violates("needs-and-reads-agree", "reads says 'embedding'", needs=())
spec_violates("needs-and-reads-agree", "needs says 'logits'", needs=("embedding", "logits"))


@violates("reads-is-true", "scorer", "score asks for 'logits'")
class ReadsInSecret(Means):
    def score(self, table):
        return super().score(table) - table["logits"].max(axis=1)


@violates("reads-is-true", "scorer", "fit asks for 'label'")
class FitsInSecret(Means):
    reads = ("embedding",)


@violates("scores-have-the-right-form", "scorer", "are float32 [1]")
class SinglePrecision(Means):
    def score(self, table):
        return super().score(table).astype(np.float32)


@violates("scores-have-the-right-form", "scorer", "changed the array 'embedding' in place")
class ChangesTheTable(Means):
    def score(self, table):
        table["embedding"] *= 2
        return super().score(table)


@violates("unknown-scores-higher", "scorer", "AUROC 0.00 where 0.75 is easy; the sign is turned")
class Confidence(Means):
    def score(self, table):
        return -super().score(table)


@violates("chunks-give-what-the-whole-gives", "scorer", "scored as a whole and in chunks")
class StandardisesChunks(Means):
    def score(self, table):
        scores = super().score(table)
        return scores - scores.mean()


@violates("chunks-give-what-the-whole-gives", "scorer", "fitted on the whole and in chunks")
class LastChunkOnly(Means):
    def fit(self, source):
        for table in source.chunks("embedding", "label"):
            self.means = table["embedding"][:4].astype(np.float64)


@violates("rows-are-independent", "scorer", "in another order")
class LooksAtPlaces(Means):
    def score(self, table):
        return super().score(table) + 0.01 * np.arange(len(table["embedding"]))


@violates("fitting-is-deterministic", "scorer", "NumPy's global random state")
class GlobalDraw(Means):
    def fit(self, source):
        super().fit(source)
        self.means = self.means + np.random.rand(*self.means.shape)


@violates("fitting-is-deterministic", "scorer", "fitted twice")
class FreshDraw(Means):
    def fit(self, source):
        super().fit(source)
        self.means = self.means + np.random.default_rng().random(self.means.shape)


@violates("state-restores-what-was-fitted", "scorer", "after restore, score raised AttributeError")
class Forgets(Means):
    def state(self):
        return {}

    def restore(self, state):
        pass


@violates("state-restores-what-was-fitted", "scorer", "state() returned {'means': 'list'}")
class StateOfLists(Means):
    def state(self):
        return {"means": self.means.tolist()}


@violates("extreme-features-give-finite-scores", "scorer", "NaN or infinite", needs=("logits",))
class NaiveEnergy(UnknownScorer):
    def __init__(self, _options):
        pass

    def score(self, table):
        with np.errstate(all="ignore"):
            return -np.log(np.exp(table["logits"].astype(np.float64)).sum(axis=1))


@violates("odd-training-features-work-or-are-refused", "scorer", "fitted on one sample a class")
class TwoSamplesAClass(Means):
    def fit(self, source):
        super().fit(source)
        rows = np.concatenate([table["label"] for table in source.chunks("label")])
        for label in range(source.num_classes):
            np.flatnonzero(rows == label)[1]


@violates("odd-training-features-work-or-are-refused", "scorer", "NaN or infinite")
class EmptyClasses(Means):
    def fit(self, source):
        (table,) = source.chunks("embedding", "label")
        with np.errstate(invalid="ignore"):
            member = np.eye(source.num_classes)[table["label"]]
            sums = member.T @ table["embedding"].astype(np.float64)
            self.means = sums / member.sum(axis=0)[:, None]


@violates("any-number-of-classes-works", "scorer", "IndexError")
class ThirdClass(Means):
    def score(self, table):
        return super().score(table) + 0.0 * self.means[2, 0]


@violates("probabilities-are-probabilities", "scorer", "they are float64 [20, 4] for 4 classes")
class NoUnknownClass(Means):
    def probabilities(self, table):
        return np.full((len(table["embedding"]), 4), 0.25)


class TorchMeans(nn.Module):
    def __init__(self, means, sign=1.0):
        super().__init__()
        self.register_buffer("means", torch.from_numpy(means))
        self.sign = sign

    def forward(self, table):
        return self.sign * torch.cdist(table["embedding"].double(), self.means).amin(dim=1)


@violates("torch-module-gives-the-same-scores", "scorer", "by score and by the torch module")
class OtherScoresInTorch(Means):
    def torch_module(self):
        return TorchMeans(self.means, sign=-1.0)


@violates("torch-module-gives-the-same-scores", "scorer", "same device")
class StateStaysBehind(Means):
    def torch_module(self):
        module = TorchMeans(self.means)
        means = module.means
        del module.means
        module.means = means  # no buffer any more
        return module


# ---- sample generators


@violates("generator-builds", "generator", "built a Identity, not a SampleGenerator")
def plain_layer(context):
    return nn.Identity()


@violates("samples-have-the-right-form", "generator", "not [4, 3, 32, 32]")
class FlatSamples(Noise):
    def sample(self, count):
        return super().sample(count).flatten(1)


@violates("samples-lie-in-the-input-space", "generator", "pixels reach from")
class NotNormalised(Noise):
    def sample(self, count):
        noise = torch.randn(count, *self.shape, device=self.mean.device)
        return 3.0 * (noise + self.bias)


@violates("samples-lie-in-the-input-space", "generator", "subtract pixel_mean and divide by")
class PixelsAsTheyAre(Noise):
    def sample(self, count):
        noise = torch.randn(count, *self.shape, device=self.mean.device)
        return (noise + self.bias).sigmoid()


@violates("other-images-work-or-are-refused", "generator", "a sample for")
class AlwaysTheSameSize(Noise):
    def __init__(self, context):
        super().__init__(evolve(context, image_size=32))


@violates("samples-repeat-under-a-seed", "generator", "two calls in a row give the same samples")
class Frozen(Noise):
    def sample(self, count):
        torch.manual_seed(0)
        return super().sample(count)


@violates("samples-repeat-under-a-seed", "generator", "two draws from one seed differ")
class NumpyDraws(Noise):
    def sample(self, count):
        drawn = np.random.default_rng().random((count, *self.shape), dtype=np.float32)
        return (torch.from_numpy(drawn) + 0 * self.bias - self.mean) / self.std


@violates("devices-are-not-mixed", "generator", "same device")
class DrawsOnTheProcessor(Noise):
    def sample(self, count):
        pixels = (torch.randn(count, *self.shape) + self.bias).sigmoid()
        return (pixels - self.mean) / self.std


@violates("phases-keep-those-of-the-loss", "generator", "no phase updates what the loss's phase")
class DropsPhases(Noise):
    def phases(self, backbone, loss, phases):
        return [super().phases(backbone, loss, phases)[0], phases[-1]]


@violates("every-phase-runs", "generator", "term outside of phase noise is nan")
class TurnsNaN(Noise):
    def outside(self, batch, backbone, loss):
        return {"outside": super().outside(batch, backbone, loss)["outside"].abs().neg().log()}


@violates("gradients-reach-what-is-trained", "generator", "no gradient reaches it")
class SamplesWithoutGradient(Noise):
    def outside(self, batch, backbone, loss):
        term = super().outside(batch, backbone, loss)["outside"].detach()
        return {"outside": term * self.anchor.sum()}

    def __init__(self, context):
        super().__init__(context)
        self.anchor = nn.Parameter(torch.ones(1))
        self.inner = nn.ParameterList([self.bias])

    def phases(self, backbone, loss, phases):
        own, *rest = super().phases(backbone, loss, phases)
        return [evolve(own, updates=(self.inner, self.anchor)), *rest]


@violates("gradients-reach-what-is-trained", "generator", "no phase trains bias")
class ForgetsItself(Noise):
    def phases(self, backbone, loss, phases):
        return phases


@violates("nothing-else-changes", "generator", "phase noise changed loss.classifier.bias")
class ChangesTheLoss(Noise):
    def outside(self, batch, backbone, loss):
        with torch.no_grad():
            loss.classifier.bias.add_(1.0)
        return super().outside(batch, backbone, loss)


@violates("bf16-works", "generator", "RuntimeError")
class MixesNumberFormats(Noise):
    def outside(self, batch, backbone, loss):
        found = backbone(self.sample(len(batch.images)))
        rows = torch.arange(len(batch.images))
        copied = torch.zeros(found.vector.shape).index_add(0, rows, found.vector)
        return {"outside": loss.open_space(Features(copied, found.maps)).mean()}


@violates("state-dict-round-trip", "generator", "samples before saving and after loading")
class CountsInSecret(Noise):
    calls = 0

    def sample(self, count):
        self.calls += self.training
        shift = 0.3 * self.calls
        noise = torch.randn(count, *self.shape, device=self.mean.device)
        return ((noise + self.bias - shift).sigmoid() - self.mean) / self.std


@violates("the-finished-model-is-without-it", "generator", "differs in backbone.leftover")
class LeavesSomething(Noise):
    def phases(self, backbone, loss, phases):
        backbone.leftover = nn.Linear(2, 2)
        return super().phases(backbone, loss, phases)


# ---- data sets, protocols, observers


def digits(count=4, top=2, classes=("a", "b")):
    labels = np.arange(count, dtype=np.int64) % top
    return ImageSet(images=np.zeros((count, 8, 8, 1), np.uint8), labels=labels, classes=classes)


@violates("missing-data-is-named", "dataset", "FileNotFoundError")
def reads_blindly(request):
    return digits() if (request.root / "there.npy").read_bytes() else None


@violates("missing-data-is-named", "dataset", "is not one sentence")
def says_much(request):
    raise DataError("there is nothing\nthere really is nothing")


@violates("splits-hold-images", "dataset", "labels of split all reach from 0 to 2")
def labels_beyond(_request):
    return digits(top=3)


@violates("splits-hold-images", "dataset", "the spec ('x', 'y')", classes=("x", "y"))
def other_classes(_request):
    return digits()


class Refuses(Observer):
    def __init__(self, folder=None):
        pass

    def receive(self, event):
        if type(event).__name__ == "EventOfALaterVersion":
            raise KeyError(type(event).__name__)


class ClosesWhatItNeverOpened(Observer):
    def __init__(self, folder=None):
        self.file = None

    def receive(self, event):
        self.file = self.file or open(os.devnull)  # noqa: SIM115

    def close(self):
        self.file.close()


violates("observer-takes-every-event", "observer", "KeyError: 'EventOfALaterVersion'")(Refuses)
violates("observer-can-be-closed-at-once", "observer", "'NoneType'")(ClosesWhatItNeverOpened)
violates("observer-needs-no-other-component", "observer", "it needs logits", needs=("logits",))(
    Refuses
)


# ---- tests


@pytest.mark.parametrize(("kind", "check", "spec", "seen"), CASES)
def test_broken_component_is_caught_by_its_check(kind, check, spec, seen):
    error = outcome(spec, check)
    assert error is not None, f"{check} let it pass"
    assert error.check == check
    assert seen in error.seen
    assert error.contract
    assert str(error).startswith(f"{kind} broken fails check {check}: {error.contract} Seen: ")


@pytest.mark.parametrize("kind", SOUND)
def test_sound_component_passes_every_check_but_for_its_local_factory(kind):
    report = testing.check_plugin(SOUND[kind], raises=False)
    assert report.failed == ["factory-is-lazy"], str(report)


@pytest.mark.parametrize(
    ("text", "check"),
    [
        ("no = 'protocol'", "protocol-is-valid"),
        (None, "protocol-is-valid"),
        ("no-such-data", "protocol-names-what-exists"),
    ],
)
def test_broken_protocols(text, check, tmp_path):
    import openset_protocols

    path = tmp_path / "broken.toml"
    if text == "no-such-data":
        sound = (Path(openset_protocols.__file__).parent / "digits.toml").read_text()
        text = sound.replace('loss = "softmax"', 'loss = "no-such-loss"')
    if text is not None:
        path.write_text(text)
    error = outcome(ProtocolSpec(name="broken", path=path), check)
    assert error is not None
    assert error.check == check


def nothing_drawn(_shape, _runs):
    return FigureResult(chart=None, caption="", columns=(), rows=())


@frozen(kw_only=True)
class Plain(FigureConfig):
    factory = nothing_drawn

    size: int = option(3, "size")


def figure(*runs, min_runs=1):
    return FigureSpec(name="broken", summary="broken", shape=Plain(), runs=runs, min_runs=min_runs)


def need(**changes):
    usual = {"label": "a", "plugins": ("softmax",), "protocol": "digits"}
    return RequiredRun(**{**usual, **changes})


@pytest.mark.parametrize(
    ("spec", "check", "seen"),
    [
        (figure(need(plugins=("no-such-loss",))), "runs-can-be-made", "no component is called"),
        (figure(need(options=("softmax.bais=true",))), "runs-can-be-made", "did you mean bias"),
        (figure(need(trials="0,7")), "runs-can-be-made", "there is no trial 7"),
        (figure(need(), need(label="b")), "runs-are-told-apart", "are one experiment"),
        (figure(need(), min_runs=0), "missing-runs-are-refused", "was drawn without a run"),
    ],
)
def test_broken_figures(spec, check, seen):
    error = outcome(spec, check)
    assert error is not None
    assert error.check == check
    assert seen in error.seen


def test_a_sound_figure_passes_but_for_its_local_factory():
    report = testing.check_plugin(
        figure(need(), need(trials="1,2", plugins=("gcpl",))), {"size": 4}, raises=False
    )
    assert report.failed == ["factory-is-lazy"], str(report)


@pytest.mark.parametrize(
    ("text", "check"),
    [
        ("no = 'recipe'", "recipe-is-valid"),
        (None, "recipe-is-valid"),
        ('summary = "s"\nscorers = ["no-such-scorer"]', "recipe-suits-the-protocols"),
        ('summary = "s"\n[image]\nmean = [0.1, 0.2]', "recipe-suits-the-protocols"),
    ],
)
def test_broken_recipes(text, check, tmp_path):
    path = tmp_path / "broken.toml"
    if text is not None:
        path.write_text(text)
    error = outcome(RecipeSpec(name="broken", path=path), check)
    assert error is not None
    assert error.check == check


def test_every_check_of_the_kit_has_a_plugin_that_it_catches():
    caught = {(case.values[0], case.values[1]) for case in CASES}
    general = {check for _kind, check in caught}
    shared = {str(item) for item in testing.checks(SOUND["scorer"])} & {
        str(item) for item in testing.checks(SOUND["loss"])
    }
    for kind in ("backbone", "loss", "scorer", "generator", "observer", "dataset"):
        spec = SOUND.get(kind) or spec_of(kind, Refuses)
        for item in testing.checks(spec):
            name = str(item)
            assert (kind, name) in caught or (name in shared and name in general), (kind, name)


def test_first_failure_is_raised_and_the_list_mode_reports_all():
    spec = spec_of("scorer", Confidence, summary=" ", factory=Confidence)
    with pytest.raises(testing.ConformanceError) as raised:
        testing.check_unknown_scorer(spec)
    assert raised.value.check == "spec-is-described"
    report = testing.check_unknown_scorer(spec, raises=False)
    assert report.failed == ["spec-is-described", "factory-is-lazy", "unknown-scores-higher"]
    assert not report.passed
    assert len(report.results) == len(testing.checks(spec))
    text = str(report)
    assert "  failed   unknown-scores-higher\n" in text
    assert "the sign is turned" in text
    assert "3 failed" in text.splitlines()[-1]


def test_options_reach_the_component():
    @frozen
    class Turned:
        turned: bool = option(False, "whether the sign is turned")

    class Maybe(Means):
        def __init__(self, options):
            self.sign = -1.0 if options.turned else 1.0

        def score(self, table):
            return self.sign * super().score(table)

    spec = spec_of("scorer", Maybe, config=Turned)
    assert outcome(spec, "unknown-scores-higher") is None
    assert outcome(spec, "unknown-scores-higher", {"turned": True}) is not None
    assert outcome(spec, "unknown-scores-higher", Turned(turned=True)) is not None


def test_broken_defaults_are_the_only_thing_reported():
    report = testing.check_plugin(spec_of("scorer", Means, config=Contradictory), raises=False)
    assert [result.name for result in report.results] == report.failed == ["options-have-defaults"]


def test_a_kinds_own_function_takes_no_other_kind():
    from openset_core.errors import PluginError

    with pytest.raises(PluginError, match="broken is a loss, not a backbone; use check_plugin"):
        testing.check_backbone(SOUND["loss"])
    assert testing.check_representation_loss("softmax").passed
    assert testing.check_unknown_scorer("msp").passed


def test_checking_leaves_random_numbers_as_they_were():
    torch.manual_seed(5)
    np.random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    testing.check_plugin(SOUND["loss"], raises=False)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()


def test_observers_are_sent_every_event_there_is(tmp_path):
    sent = {type(event) for event in events_of_a_run(tmp_path)}
    own = {cls for cls in RunEvent.__subclasses__() if cls.__module__ == RunEvent.__module__}
    assert sent == own


def test_scorer_of_unknown_arrays_is_skipped_with_a_reason():
    class Reconstruction(Means):
        reads = ("reconstruction",)

    spec = spec_of("scorer", Reconstruction, needs=())
    report = testing.check_plugin(spec, raises=False)
    reasons = {result.reason for result in report.of("skipped")}
    assert "it reads reconstruction, which only some losses provide" in reasons
