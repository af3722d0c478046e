"""Every component in the box passes the conformance kit."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from openset_core import testing
from openset_core.registry import registry

CHECKED_KINDS = (
    "backbone",
    "loss",
    "scorer",
    "generator",
    "observer",
    "dataset",
    "protocol",
    "recipe",
    "figure",
)

SMALLER = {
    "confused-gan": {"width": 4, "noise_dim": 8},
    "joint-confidence": {"width": 4, "noise_dim": 8},
    "m2iosr": {"hidden": 16, "latent_dim": 8, "global_channels": [4, 4]},
}
"""Options that keep the networks small; the contracts do not depend on them."""

VARIANTS = [
    ("loss:arpl", {"preset": "paper", "distance": "dot"}),
    ("loss:softmax", {"latent_dim": 5, "bias": False, "label_smoothing": 0.1}),
    ("loss:m2iosr", {**SMALLER["m2iosr"], "prior": "adversarial", "schedule": "epoch"}),
    ("scorer:knn", {"k": 3, "fraction": 0.5}),
    ("scorer:mahalanobis", {"covariance": "class", "regularization": "ridge", "ridge": 0.01}),
    ("scorer:openmax", {"tail_size": 5, "distance": "euclidean", "score": "probability"}),
    ("generator:confused-gan", {**SMALLER["confused-gan"], "focus": "epoch"}),
    ("backbone:timm:test_vit", {"maps": "all"}),
    ("backbone:timm:test_resnet", {}),
    ("backbone:timm:test_resnet", {"freeze": 2}),
]
"""Further options, and members of families."""

if importlib.util.find_spec("pytorch_ood"):  # an optional extra
    VARIANTS += [("loss:pytorch-ood:CenterLoss", {}), ("scorer:pytorch-ood:ViM", {})]


def first_party():
    """Every installed component of this distribution, by name, and its options; no families."""
    components = [
        (f"{component.kind}:{component.name}", SMALLER.get(component.name, {}))
        for kind in CHECKED_KINDS
        for component in registry().of_kind(kind)
        if component.distribution == "openset" and not component.name.endswith(":NAME")
    ]
    return components + VARIANTS


@pytest.fixture(autouse=True)
def no_data_and_one_thread(monkeypatch, tmp_path):
    """Data sets that are not there are checked for how they say so."""
    monkeypatch.setenv("OPENSET_DATA", str(tmp_path))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(("name", "options"), first_party(), ids=str)
def test_component_keeps_every_contract(name, options):
    report = testing.check_plugin(name, options, raises=False)
    assert report.passed, str(report)
    assert len(report.of("skipped")) <= 4, str(report)  # else the kit would have looked at nothing


def test_every_kind_is_there():
    kinds = {name.partition(":")[0] for name, _ in first_party()}
    assert kinds >= {"backbone", "loss", "scorer", "generator", "dataset", "protocol", "recipe"}
