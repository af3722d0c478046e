"""Which classes of pytorch-ood serve here, and why the others do not.

Every class was looked at, its score's direction too: since 0.4 all detectors give higher scores
to outliers, as here. A class that a later release adds is refused until it stands in a table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

_GRADIENTS = "it takes gradients through the network, and a scorer sees stored features only"
_MAPS = "it reads activations of several layers, which the feature store does not keep"


@frozen
class Loss:
    """How a loss is served."""

    head: str  # the class in `heads` that puts it on a backbone
    scorers: tuple[str, ...] = ("max-logit", "msp")
    outliers: bool = False  # whether it learns from outliers too, which a generator then makes
    without: tuple[str, ...] = ()  # constructor arguments that have no effect here
    note: str = ""


DETECTORS: frozenset[str] = frozenset(
    {
        # on logits
        "EnergyBased",
        "Entropy",
        "GEN",
        "KLMatching",
        "MaxLogit",
        "MaxSoftmax",
        "OpenMax",
        "TemperatureScaling",
        # on embeddings
        "GMM",
        "KNN",
        "Mahalanobis",
        "RMD",
        # on embeddings and the classifier's weights
        "DICE",
        "LTS",
        "NCI",
        "NNGuide",
        "PNML",
        "SHE",
        "ViM",
        "fDBD",
        # on feature maps and the rest of the network: here the embedding as a map of one pixel
        "ASH",
        "ReAct",
        "SCALE",
        "VRA",
    }
)

# Arguments without a default in the library: ours, and the help text.
DEFAULTS: Mapping[tuple[str, str], tuple[Any, str]] = {
    ("ViM", "d"): (
        1000,
        "dimension of the principal subspace; 1000 is the paper's for 2,048 dimensions, and where "
        "the embedding is shorter than d, the library takes half its length",
    ),
    ("DICE", "p"): (
        0.9,
        "share of the weight contributions that are masked, the smallest; the paper's for CIFAR",
    ),
}

# Detectors that measure only the classes that some sample of the batch is predicted as. Up to 0.4.0
# at least, the distance to any other class counts as 0, so that a score depends on what else is in
# the batch. One sample of each class goes along, so that every distance is measured.
COMPARES_IN_BATCH = frozenset({"OpenMax"})

# Those that cannot serve, each with the reason.
NO_DETECTORS: Mapping[str, str] = {
    "GradNorm": _GRADIENTS,
    "GradUncertainty": _GRADIENTS,
    "MahalanobisODIN": _GRADIENTS,
    "NACUE": _GRADIENTS,
    "ODIN": _GRADIENTS,
    "Gram": _MAPS,
    "MultiMahalanobis": _MAPS,
    "RankFeat": "it takes apart a feature map, and the feature store keeps vectors only",
    "MCD": "it runs the network again with dropout, and a scorer sees stored features only",
    "MCM": "it compares with text embeddings of the class names, which a run does not have",
    "WeightedEBO": "it needs class weights that only training with VOS learns",
}

LOSSES: Mapping[str, Loss] = {
    "CrossEntropyLoss": Loss("OnLogits", ("msp", "max-logit")),
    "LogitNorm": Loss("OnLogits", ("msp", "max-logit")),
    "EnergyRegularizedLoss": Loss("OnLogits", ("energy", "msp"), outliers=True),
    "EntropicOpenSetLoss": Loss("OnLogits", ("msp", "max-logit"), outliers=True),
    "OutlierExposureLoss": Loss("OnLogits", ("msp", "max-logit"), outliers=True),
    "ObjectosphereLoss": Loss("OnLogitsAndVector", ("msp", "max-logit"), outliers=True),
    "CACLoss": Loss(
        "OnAnchors",
        note="up to 0.4.0 at least, the library compares with the first K-1 classes instead of "
        "the classes other than the label, so that the last class repels no sample",
    ),
    "CenterLoss": Loss("WithCrossEntropy", ("msp", "max-logit")),
    "IILoss": Loss("OnEmbedding"),
    "MCHADLoss": Loss("OnCentres", without=("margin", "weight_oe")),
}

NO_LOSSES: Mapping[str, str] = {
    "BackgroundClassLoss": "it needs outliers as a class of their own, with K+1 logits",
    "ConfidenceLoss": "its score is a confidence of its own, which the feature store does not keep",
    "DeepSADLoss": "it learns one centre for all classes and tells no class from another",
    "DeepSVDDLoss": "it learns one centre for all classes and tells no class from another",
    "EnergyMarginLoss": "it needs a trained classifier to start from and outliers in every batch",
    "VOSRegLoss": "its score needs energy weights that the feature store does not keep",
    "VirtualOutlierSynthesizingRegLoss": "it keeps a queue of features outside its saved state, "
    "so that an interrupted run could not go on as it was",
}
