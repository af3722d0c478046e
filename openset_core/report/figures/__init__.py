"""Figures of runs: what they look like. Which figures there are, plugins say.

A shape is an attrs class of options; its factory draws it and returns a `drawing.FigureResult`. A
shape of a plugin's own derives from `FigureConfig` in the same way. `making` leads from a figure's
name to its files, `runs` finds its runs. This module imports no heavy library.
"""

from __future__ import annotations

from typing import ClassVar

from attrs import frozen
from attrs.validators import deep_iterable, ge, gt, in_, min_len

from openset_core.specs import Factory, FigureConfig, option

_HERE = "openset_core.report.figures"
_SCORER = option("own", "scorer whose scores are shown; own is the one that decides in the run")


@frozen(kw_only=True)
class FeatureSpace(FigureConfig):
    """The plane of a two-dimensional embedding, a panel a run, with the loss's landmarks."""

    factory: ClassVar[Factory] = f"{_HERE}.feature_space:draw"

    colour: str = option(
        "class",
        "what colours tell: class, the known classes, with unknown sets in greys; set, the known "
        "samples and each unknown set",
        choices=("class", "set"),
    )
    histogram: bool = option(False, "below each panel, how the largest logit is distributed")
    histogram_label: str = option("largest logit", "name of the largest logit")
    title: str = option(
        "label",
        "title of a panel: label, what the run is; classes, the number K of known classes",
        choices=("label", "classes"),
    )
    samples: int = option(
        1500, "most samples drawn of each split, chosen by a seed", validator=ge(1)
    )
    seed: int = option(0, "of the draw of samples", validator=ge(0))


@frozen(kw_only=True)
class Curves(FigureConfig):
    """ROC and OSCR curves, a column an unknown set, a curve a run."""

    factory: ClassVar[Factory] = f"{_HERE}.curves:draw"

    rows: tuple[str, ...] = option(
        ("roc", "oscr"),
        "kinds of curve",
        validator=[min_len(1), deep_iterable(in_(("roc", "oscr")))],
    )
    scale: str = option(
        "log",
        "of the false positive rate in OSCR curves, whose low end tells most",
        choices=("log", "linear"),
    )
    scorer: str = _SCORER


@frozen(kw_only=True)
class Sweep(FigureConfig):
    """Metrics against a quantity that runs differ in, a panel a metric, a curve a method."""

    factory: ClassVar[Factory] = f"{_HERE}.sweep:draw"

    x: str = option(
        "classes",
        "quantity: classes, the number K of known ones; openness, of each unknown set; or an "
        "option of the loss, the generator, the backbone or training: loss.weight",
    )
    x_label: str = option("", "name of the quantity; as it is called without")
    x_scale: str = option("linear", "of the quantity", choices=("linear", "log"))
    metrics: tuple[str, ...] = option(
        ("auroc",),
        "metrics, a panel each; learnt.NAME for a number that the loss learned",
        validator=min_len(1),
    )
    unknown: str = option("all", "unknown set: all, first, or one by its name")
    rule: str = option(
        "exact",
        "how metrics are computed; fixed and arpl where a run has them",
        choices=("exact", "arpl", "fixed"),
    )
    scorer: str = _SCORER


@frozen(kw_only=True)
class Confusion(FigureConfig):
    """Confusion matrices with the unknown as one more class, side by side, a matrix a run."""

    factory: ClassVar[Factory] = f"{_HERE}.confusion:draw"

    rule: str = option(
        "exact",
        "threshold: exact, the run's own; fixed, the one of a paper where the protocol names it",
        choices=("exact", "fixed"),
    )
    scorer: str = _SCORER


@frozen(kw_only=True)
class EmbeddingMap(FigureConfig):
    """A two-dimensional t-SNE map of the embedding, a panel a run."""

    factory: ClassVar[Factory] = f"{_HERE}.feature_space:draw_map"

    unknown: bool = option(False, "unknown samples too, in grey")
    samples: int = option(2000, "most samples drawn, chosen by a seed", validator=ge(10))
    perplexity: float = option(30.0, "of t-SNE", validator=gt(0.0))
    seed: int = option(0, "of the draw and of t-SNE", validator=ge(0))


@frozen(kw_only=True)
class ClassActivation(FigureConfig):
    """Where an image speaks for its class: activation maps over known test images, a column a
    run."""

    factory: ClassVar[Factory] = f"{_HERE}.activation:draw"

    images: int = option(6, "number of images", validator=ge(1))
    map: str = option("", "name of the feature map; the last one that keeps 4x4 pixels without")
    seed: int = option(0, "of the draw of images", validator=ge(0))


@frozen(kw_only=True)
class Timing(FigureConfig):
    """Milliseconds an image and numbers of parameters, a row a run."""

    factory: ClassVar[Factory] = f"{_HERE}.timing:draw"

    batch_size: int = option(256, "images at once", validator=ge(1))
    repeats: int = option(10, "measured batches; the median counts", validator=ge(1))
    again: bool = option(False, "measure anew what was measured before")
    scorer: str = option("all", "scorer that is timed: all of the run's, a row each, or one")
    published: tuple[tuple[str, float, int], ...] = option(
        (), "rows of a paper: method, milliseconds an image, thousands of parameters"
    )
    published_hardware: str = option("", "what these were measured on")
