"""Discriminators of M2IOSR, arranged so that nothing is computed twice.

A discriminator scores pairs (a, b). Its first layer is linear in the concatenation, so

    W [a; b] + c = W_a a + (W_b b + c),

and each half is computed once: the same halves serve positive pairs, negative pairs and, for a
latent b, every location of a map. The mean over negative pairs (a of x', b of x) does not
change when both are renumbered, so the negatives are made by rolling the smaller half.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def mutual_information(positive: Tensor | None, negative: Tensor | None) -> Tensor:
    """Jensen-Shannon estimate from raw discriminator outputs T.

    E_pos[-softplus(-T)] - E_neg[softplus(T)], as in Deep InfoMax. (The paper writes
    log sigma(T) and log(1 - sigma(T)) with a softplus sigma, for which the second logarithm
    does not exist once T exceeds 0.54; with the logistic function it is this estimate.) `positive`
    is T of pairs from one image, `negative` of pairs from two; None leaves the term out.
    """
    terms = []
    if positive is not None:
        terms.append(-F.softplus(-positive.float()).mean())
    if negative is not None:
        terms.append(-F.softplus(negative.float()).mean())
    return torch.stack(terms).sum()


class PairDiscriminator(nn.Module):
    """Three layers (hidden, hidden, 1) on pairs; raw scores, no activation at the end.

    On maps this is the stack of 1x1 convolutions of Table 2, written as matrix products over
    locations; on vectors it is Table 1.

    """

    def __init__(self, first_dim: int, second_dim: int, hidden: int) -> None:
        super().__init__()
        # One layer, split by input: initialised as nn.Linear would initialise the whole.
        whole = nn.Linear(first_dim + second_dim, hidden)
        self.first = nn.Linear(first_dim, hidden, bias=False)
        self.second = nn.Linear(second_dim, hidden)
        with torch.no_grad():
            self.first.weight.copy_(whole.weight[:, :first_dim])
            self.second.weight.copy_(whole.weight[:, first_dim:])
            self.second.bias.copy_(whole.bias)
        self.rest = nn.Sequential(
            nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1)
        )

    def halves(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        return self.first(first), self.second(second)

    def finish(self, first_half: Tensor, second_half: Tensor) -> Tensor:
        """Raw scores of pairs from their halves, which broadcast against each other."""
        return self.rest(first_half + second_half).squeeze(-1)  # type: ignore[no-any-return]

    def information(self, first: Tensor, second: Tensor, pairs: str) -> Tensor:
        """Between a [B, ..., first_dim] and b, broadcast against it; `pairs` as in the options."""
        first_half, second_half = self.halves(first, second)
        positive = self.finish(first_half, second_half) if pairs != "negative" else None
        negative = None
        if pairs != "positive":
            # In a shuffled batch the next image is a random other one.
            negative = self.finish(first_half, second_half.roll(1, dims=0))
        return mutual_information(positive, negative)


class GlobalDiscriminator(nn.Module):
    """Two 3x3 convolutions on a map, flattened, then paired with the latent (Table 1)."""

    def __init__(
        self,
        channels: int,
        side: int,
        latent_dim: int,
        widths: tuple[int, int],
        padding: int,
        hidden: int,
    ) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels, widths[0], kernel_size=3, padding=padding),
            nn.ReLU(),
            nn.Conv2d(widths[0], widths[1], kernel_size=3, padding=padding),
            nn.Flatten(),
        )
        flat = widths[1] * (side + 4 * padding - 4) ** 2
        self.pair = PairDiscriminator(flat, latent_dim, hidden)

    def information(self, fine: Tensor, latent: Tensor, pairs: str) -> Tensor:
        """Global mutual information between maps [B, C, H, W] and latents [B, J]."""
        return self.pair.information(self.convolutions(fine), latent, pairs)


class PriorDiscriminator(nn.Sequential):
    """Tells latents from prior samples, for the adversarial prior; raw scores [B, 1]."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__(
            nn.Linear(latent_dim, 1000),
            nn.ReLU(),
            nn.Linear(1000, 200),
            nn.ReLU(),
            nn.Linear(200, 1),
        )


def locations(feature_map: Tensor) -> Tensor:
    """A map [B, C, H, W] as rows by location, [B, H*W, C]; free for channels-last maps."""
    return feature_map.permute(0, 2, 3, 1).flatten(1, 2)
