"""Auxiliary batch normalisation: separate statistics for known and for generated samples.

ARPL Sec. 4.2, after Xie et al., Adversarial Examples Improve Image Recognition, CVPR 2020. Any
network is converted in place, timm's fused norm-and-activation layers included. Evaluation, and
training outside `domain`, use the known side, which is the layer that was there before: a
converted network then computes exactly what it did.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

M = TypeVar("M", bound=nn.Module)

KNOWN = 0
GENERATED = 1
MIXED = 2


class Domain:
    """Which samples a batch holds; shared by all converted layers of a network."""

    def __init__(self) -> None:
        self.kind = KNOWN
        self.known_samples = 0


class AuxiliaryBatchNorm(nn.Module):
    """Two batch normalisations in the place of one.

    Args:
        layer: the layer that was there; it becomes the known side.
        domain: switch shared with the network's other layers.
    """

    def __init__(self, layer: nn.Module, domain: Domain) -> None:
        super().__init__()
        self.known = layer
        self.generated = copy.deepcopy(layer)
        self._domain = domain

    def forward(self, values: Tensor, *rest: Any) -> Tensor:
        """Normalise [B, C, ...] by the side or sides that the domain names."""
        domain = self._domain
        if not self.training or domain.kind == KNOWN:
            return self.known(values, *rest)  # type: ignore[no-any-return]
        if domain.kind == GENERATED:
            return self.generated(values, *rest)  # type: ignore[no-any-return]
        count = domain.known_samples
        return torch.cat([self.known(values[:count], *rest), self.generated(values[count:], *rest)])

    def __getattr__(self, name: str) -> Any:
        """Attributes that a network looks up on its norm layers are those of the known side."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("known"), name)


def has_batchnorm(module: nn.Module) -> bool:
    """Whether a network has any BatchNorm layer, converted or not."""
    return any(isinstance(layer, _BatchNorm) for layer in module.modules())


def is_converted(module: nn.Module) -> bool:
    """Whether a network has been converted."""
    return any(isinstance(layer, AuxiliaryBatchNorm) for layer in module.modules())


def with_auxiliary_batchnorm(module: M) -> M:
    """Give every BatchNorm of a network a second side for generated samples, in place.

    BatchNorm1d, 2d and 3d, SyncBatchNorm and every subclass, such as timm's BatchNormAct2d. The
    generated side starts as a copy. A network without BatchNorm, or converted already, stays as
    it is.

    Args:
        module: the network; not itself a BatchNorm layer.
    """
    if is_converted(module):
        return module
    domain = Domain()
    made: dict[nn.Module, AuxiliaryBatchNorm] = {}  # a layer may stand in several places
    for path, layer in list(module.named_modules(remove_duplicate=False)):
        if isinstance(layer, _BatchNorm):
            if layer not in made:
                made[layer] = AuxiliaryBatchNorm(layer, domain)
            _replace(module, path, made[layer])
    return module


def without_auxiliary_batchnorm(module: M) -> M:
    """Take the generated side away again, in place; what is left is the known side."""
    for path, layer in list(module.named_modules(remove_duplicate=False)):
        if isinstance(layer, AuxiliaryBatchNorm):
            _replace(module, path, layer.known)
    return module


def _replace(module: nn.Module, path: str, layer: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent), name, layer)


@contextmanager
def domain(module: nn.Module, kind: str, known_samples: int = 0) -> Iterator[None]:
    """Switch a whole network to a domain for the passes inside the block.

    Args:
        module: a converted network; nothing happens to another one.
        kind: `"known"`, `"generated"`, or `"mixed"` for batches whose first samples are known.
        known_samples: how many samples of a mixed batch are known.
    """
    switches = {
        id(layer._domain): layer._domain
        for layer in module.modules()
        if isinstance(layer, AuxiliaryBatchNorm)
    }
    before = [(switch, switch.kind, switch.known_samples) for switch in switches.values()]
    for switch in switches.values():
        switch.kind = {"known": KNOWN, "generated": GENERATED, "mixed": MIXED}[kind]
        switch.known_samples = known_samples
    try:
        yield
    finally:
        for switch, old_kind, old_count in before:
            switch.kind, switch.known_samples = old_kind, old_count
