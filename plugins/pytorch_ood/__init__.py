"""Detectors and losses of the library pytorch-ood: `pytorch-ood:KNN`, `pytorch-ood:CACLoss`, ...

The library is an optional extra and imports torch; it is imported when a name is asked for.
"""

from __future__ import annotations

from openset_core import FamilySpec, hookimpl

_REFERENCE = (
    "Kirchheim et al., PyTorch-OOD: A Library for Out-of-Distribution Detection based on PyTorch, "
    "CVPR Workshops 2022, https://github.com/kkirchheim/pytorch-ood"
)


@hookimpl
def openset_unknown_scorers() -> list[FamilySpec]:
    return [
        FamilySpec(
            prefix="pytorch-ood",
            of="scorer",
            summary="any detector of pytorch-ood on logits or embeddings; imports torch; extra "
            "openset[pytorch-ood]",
            resolve="openset_plugins.pytorch_ood.catalogue:resolve_scorer",
            names="openset_plugins.pytorch_ood.catalogue:scorer_names",
            reference=_REFERENCE,
        )
    ]


@hookimpl
def openset_representation_losses() -> list[FamilySpec]:
    return [
        FamilySpec(
            prefix="pytorch-ood",
            of="loss",
            summary="losses of pytorch-ood on logits or class centres; extra openset[pytorch-ood]",
            resolve="openset_plugins.pytorch_ood.catalogue:resolve_loss",
            names="openset_plugins.pytorch_ood.catalogue:loss_names",
            reference=_REFERENCE,
        )
    ]
