"""Figures of ARPL (Chen et al., TPAMI 2021) and M2IOSR (Sun et al., arXiv 2108.02373).

Each names the runs that it shows on the protocol that stands for it. Given other runs, by the same
methods or others, a figure shows those.
"""

from __future__ import annotations

from typing import ClassVar

from attrs import frozen
from attrs.validators import deep_iterable, ge, min_len

from openset_core import FigureConfig, FigureSpec, RequiredRun, hookimpl, option
from openset_core.report.figures import (
    ClassActivation,
    Confusion,
    Curves,
    EmbeddingMap,
    FeatureSpace,
    Sweep,
    Timing,
)

_HERE = "openset_plugins.paper_figures"

ARPL = "Chen et al., Adversarial Reciprocal Points Learning for Open Set Recognition, TPAMI 2021"
M2IOSR = "Sun et al., M2IOSR: Maximal Mutual Information Open Set Recognition, arXiv 2108.02373"

POINT = "largest distance to a reciprocal point"
LAMBDAS = ("0.01", "0.05", "0.1", "0.5", "1.0")
TABLE_7 = (
    ("Softmax", 0.179, 9_428),
    ("OpenMax", 0.181, 9_428),
    ("CROSR", 0.184, 10_003),
    ("CGDL", 0.996, 291_352),
    ("GDFR", 0.772, 10_424),
    ("M2IOSR", 0.618, 9_444),
)


@frozen(kw_only=True)
class GeneratedFeatures(FigureConfig):
    """The features of generated samples among those of known ones, before and after training on
    them: what each network makes of the samples of the last run that has any."""

    factory: ClassVar[str] = f"{_HERE}.generated:draw_features"

    samples: int = option(1500, "most known samples drawn, chosen by a seed", validator=ge(1))
    seed: int = option(0, "of the draw of samples", validator=ge(0))


@frozen(kw_only=True)
class Retrieval(FigureConfig):
    """Test images met on the way from the centre of a class to a landmark of it."""

    factory: ClassVar[str] = f"{_HERE}.retrieval:draw"

    split: str = option(
        "first",
        "where images are searched: known; unknown, all unknown sets; first, the first of them; or "
        "one by its name",
    )
    classes: tuple[int, ...] = option(
        (), "numbers of the known classes shown; all without any", validator=deep_iterable(ge(0))
    )
    steps: int = option(8, "images on the way", validator=ge(2))


@frozen(kw_only=True)
class GeneratedBetween(FigureConfig):
    """Generated images between training images of two classes, nearest to the way in between."""

    factory: ClassVar[str] = f"{_HERE}.generated:draw_between"

    columns: int = option(10, "pairs of classes", validator=ge(1))
    steps: int = option(4, "generated images between the two", validator=ge(1))
    seed: int = option(0, "of the draw of training images", validator=ge(0))


@frozen(kw_only=True)
class ByEpoch(FigureConfig):
    """Test metrics by epoch, a panel a metric, as the observer by-epoch wrote them down."""

    factory: ClassVar[str] = f"{_HERE}.by_epoch:draw"

    metrics: tuple[str, ...] = option(
        ("accuracy", "auroc"), "metrics, a panel each", validator=min_len(1)
    )
    unknown: str = option("all", "unknown set: all, first, or one by its name")
    scorer: str = option("own", "scorer of the metrics; own is the one that decides in the run")


def _run(label: str, plugins: str, protocol: str, *options: str, trials: str = "") -> RequiredRun:
    return RequiredRun(
        label=label,
        plugins=tuple(plugins.split(",")),
        protocol=protocol,
        options=options,
        trials=trials or None,
    )


def _mnist(label: str, plugins: str, *options: str) -> RequiredRun:
    return _run(label, plugins, "mnist-unknowns", *options)


def _openness(label: str, plugins: str, *options: str) -> RequiredRun:
    return _run(label, plugins, "m2iosr-openness", *options)


def _lambdas() -> tuple[RequiredRun, ...]:
    """Fig. 8: two distances under RPL's bound and under the adversarial margin constraint."""
    return tuple(
        _run(label, loss, "ood-cifar10", *options, f"{loss}.weight={value}")
        for label, loss, options in (
            ("RPL", "rpl", ()),
            ("RPL+cosine", "rpl", ("rpl.distance=both",)),
            ("RPL+AMC", "arpl", ("arpl.distance=euclidean",)),
            ("ARPL", "arpl", ()),
        )
        for value in LAMBDAS
    )


def _ablations() -> tuple[RequiredRun, ...]:
    """Sec. 5.2: the baselines that there are plugins for, and the pairs alone."""
    return (
        _openness("I. CNN", "softmax,vgg13"),
        _openness(
            "III. DIM",
            "m2iosr,vgg13",
            "m2iosr.prior=adversarial",
            "m2iosr.a1=1.0",
            "m2iosr.a2=0.0",
            "m2iosr.a3=0.0",
        ),
        _openness("IV. DIM+KL", "m2iosr,vgg13", "m2iosr.a1=1.0", "m2iosr.a2=0.0", "m2iosr.a3=0.0"),
        _openness("V. DIM+KL+L1t4", "m2iosr,vgg13", "m2iosr.a2=0.3", "m2iosr.a3=0.0"),
        _openness("VI. DIM+KL+L4t4", "m2iosr,vgg13", "m2iosr.a2=0.0", "m2iosr.a3=0.3"),
        _openness("VII. M2IOSR", "m2iosr,vgg13"),
        _openness("Positive", "m2iosr,vgg13", "m2iosr.pairs=positive"),
        _openness("Negative", "m2iosr,vgg13", "m2iosr.pairs=negative"),
    )


def _arpl_figures() -> list[FigureSpec]:
    softmax, gcpl = _mnist("Softmax", "softmax"), _mnist("GCPL", "gcpl")
    arpl, arpl_cs = _mnist("ARPL", "arpl"), _mnist("ARPL+CS", "arpl,confused-gan")
    tracked = "arpl,confused-gan,classifier32,by-epoch"
    return [
        FigureSpec(
            name="arpl-1",
            summary="LeNet++ responses to known and unknown sets: softmax, prototypes, ARPL",
            shape=FeatureSpace(colour="set"),
            runs=(softmax, gcpl, arpl),
            reference=f"{ARPL}, Fig. 1 (b) to (d)",
            deviation="Fig. 1 (a) is a drawing, not data.",
        ),
        FigureSpec(
            name="arpl-4",
            summary="Features of the confused generator's samples, before and after",
            shape=GeneratedFeatures(),
            runs=(arpl, arpl_cs),
            min_runs=2,
            reference=f"{ARPL}, Fig. 4",
        ),
        FigureSpec(
            name="arpl-6a",
            summary="Unknown images from the centre of a class to its reciprocal point",
            shape=Retrieval(),
            runs=(arpl,),
            reference=f"{ARPL}, Fig. 6 (a)",
        ),
        FigureSpec(
            name="arpl-6b",
            summary="Generated images between training images",
            shape=GeneratedBetween(),
            runs=(arpl_cs,),
            reference=f"{ARPL}, Fig. 6 (b)",
            deviation="How the paper chose its images is not said; here they lie on the way in the "
            "embedding.",
        ),
        FigureSpec(
            name="arpl-7",
            summary="Learned feature space with reciprocal points, largest distances below",
            shape=FeatureSpace(histogram=True, histogram_label=POINT),
            runs=(
                _mnist("RPL (λ = 0)", "rpl", "rpl.weight=0.0"),
                _mnist("ARPL (λ = 0)", "arpl", "arpl.weight=0.0"),
                _mnist("ARPL (λ = 0.1)", "arpl"),
                arpl_cs,
            ),
            reference=f"{ARPL}, Fig. 7",
        ),
        FigureSpec(
            name="arpl-8",
            summary="AUROC against the weight of the margin, with and without each part of ARPL",
            shape=Sweep(x="loss.weight", x_label="λ", x_scale="log", unknown="first"),
            runs=_lambdas(),
            reference=f"{ARPL}, Fig. 8",
            deviation="The figure prints no numbers; these values of λ are this project's.",
        ),
        FigureSpec(
            name="arpl-9",
            summary="ROC curves and open set classification rate curves against each unknown set",
            shape=Curves(),
            runs=(softmax, gcpl, arpl, arpl_cs),
            reference=f"{ARPL}, Fig. 9",
        ),
        FigureSpec(
            name="arpl-10",
            summary="Accuracy and AUROC by epoch without auxiliary BN, without focus training",
            shape=ByEpoch(unknown="first"),
            runs=(
                _mnist("ARPL", "arpl,classifier32,by-epoch"),
                _mnist("ARPL+CS without ABN", tracked, "confused-gan.auxiliary_bn=off"),
                _mnist("ARPL+CS without FT", tracked, "confused-gan.focus=off"),
                _mnist("ARPL+CS", tracked),
            ),
            reference=f"{ARPL}, Fig. 10",
            deviation="The paper does not name the network; here it is classifier32, since LeNet++ "
            "has no BatchNorm.",
        ),
        FigureSpec(
            name="arpl-11",
            summary="Margin and AUROC against the number of known classes",
            shape=Sweep(metrics=("learnt.margin", "auroc")),
            runs=tuple(
                _run(label, loss, "cifar100-known-classes", trials="all")
                for label, loss in (("Softmax", "softmax"), ("GCPL", "gcpl"), ("ARPL", "arpl"))
            ),
            reference=f"{ARPL}, Fig. 11",
        ),
        FigureSpec(
            name="arpl-12",
            summary="Learned feature space for 2, 4, 6 and 8 known classes",
            shape=FeatureSpace(title="classes"),
            runs=(_run("ARPL", "arpl", "mnist-known-classes", trials="all"),),
            reference=f"{ARPL}, Fig. 12",
        ),
    ]


def _m2iosr_figures() -> list[FigureSpec]:
    animals = "m2iosr-animals-vehicles"
    return [
        FigureSpec(
            name="m2iosr-1",
            summary="Class activation maps over images",
            shape=ClassActivation(),
            runs=(_run("M2IOSR", "m2iosr,vgg13", animals),),
            reference=f"{M2IOSR}, Fig. 1",
            deviation="The paper's networks are VGG-19 on Dogs vs. Cats at 224x224 pixels, here "
            "VGG-13 on CIFAR-10; its middle column is an auto-encoder's, which stands here when "
            "such a run is named.",
        ),
        FigureSpec(
            name="m2iosr-2",
            summary="t-SNE map of the latent",
            shape=EmbeddingMap(),
            runs=(_openness("M2IOSR", "m2iosr,vgg13"),),
            reference=f"{M2IOSR}, Fig. 2, bottom left",
            deviation="The rest of Fig. 2 is a drawing, not data.",
        ),
        FigureSpec(
            name="m2iosr-3",
            summary="F1 against openness, all ablations",
            shape=Sweep(x="openness", metrics=("macro_f1",), rule="fixed"),
            runs=_ablations(),
            reference=f"{M2IOSR}, Fig. 3",
            deviation="Baseline II is an auto-encoder, which stands here when such a run is named. "
            "a_1 of III and IV is not given, here it is 1.",
        ),
        FigureSpec(
            name="m2iosr-4",
            summary="Confusion matrices, animals known and vehicles unknown",
            shape=Confusion(rule="fixed"),
            runs=(_run("M2IOSR", "m2iosr,vgg13", animals),),
            reference=f"{M2IOSR}, Fig. 4",
            deviation="The paper's left matrix is an auto-encoder's, which stands here when such a "
            "run is named.",
        ),
        FigureSpec(
            name="m2iosr-table7",
            summary="Running time and number of parameters",
            shape=Timing(published=TABLE_7, published_hardware="Tesla V100"),
            runs=(
                _openness("Softmax", "softmax,vgg13,msp,openmax"),
                _openness("M2IOSR", "m2iosr,vgg13"),
            ),
            reference=f"{M2IOSR}, Table 7",
            deviation="The paper puts M2IOSR's time down to its pairs and discriminators; here "
            "they are no part of the model at test time.",
        ),
    ]


@hookimpl
def openset_figures() -> list[FigureSpec]:
    """The papers' figures."""
    return [*_arpl_figures(), *_m2iosr_figures()]
