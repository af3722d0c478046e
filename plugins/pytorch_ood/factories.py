"""What builds a loss: named by a value, so that specs of the same loss are equal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import frozen

if TYPE_CHECKING:
    from openset_core import LossContext, RepresentationLoss


@frozen
class LossFactory:
    """Builds the loss `pytorch-ood:NAME`."""

    name: str

    def __call__(self, config: Any, context: LossContext) -> RepresentationLoss:
        """Build the loss on a backbone."""
        from openset_plugins.pytorch_ood.heads import build

        return build(self.name, config, context)
