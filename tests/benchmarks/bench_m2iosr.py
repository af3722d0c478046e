"""Time M2IOSR's discriminators with and without shared first layers, and the phases of a step.

    python tests/benchmarks/bench_m2iosr.py

Prints ratios within one run; single times depend on the machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from openset_core.components import Batch
from openset_core.experiment.experiment import resolve
from openset_core.model.artefact import build_model
from openset_core.training.optimisation import build_optimizers
from openset_plugins.m2iosr.discriminators import PairDiscriminator, mutual_information

BATCH = 32


def seconds(run: Callable[[], None], repeats: int = 5) -> float:
    """Median seconds of a call, after one that is not counted."""
    run()
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        run()
        times.append(time.perf_counter() - begun)
    return sorted(times)[repeats // 2]


def discriminators() -> None:
    """[f16, f1]: the naive concatenation at every place against the shared halves."""
    places = torch.randn(BATCH, 256, 64, requires_grad=True)
    latent = torch.randn(BATCH, 32, requires_grad=True)
    shared = PairDiscriminator(64, 32, 512)
    naive = nn.Sequential(nn.Linear(96, 512), *shared.rest)

    def concatenated(maps: Tensor, latents: Tensor) -> Tensor:
        spread = latents.unsqueeze(1).expand(-1, maps.shape[1], -1)
        scores: Tensor = naive(torch.cat([maps, spread], dim=2))
        return scores

    def run_naive() -> None:
        positive = concatenated(places, latent)
        mutual_information(positive, concatenated(places.roll(1, 0), latent)).backward()

    def run_shared() -> None:
        shared.information(places, latent.unsqueeze(1), "both").backward()

    slow, fast = seconds(run_naive), seconds(run_shared)
    print(
        f"discriminator [f16, f1]: naive {1e3 * slow:.0f} ms, shared {1e3 * fast:.0f} ms, "
        f"ratio {slow / fast:.2f}"
    )


def phases(title: str, **options: object) -> None:
    """Milliseconds an image of each phase of a step on VGG-13."""
    experiment = resolve("m2iosr,vgg13", overrides={"m2iosr": options})
    parts = [(part, experiment.options[part.name]) for part in experiment.selection.components]
    model = build_model(parts[1], parts[0], 6, experiment.protocol.content.image)
    images = torch.rand(BATCH, 32, 32, 1).permute(0, 3, 1, 2)
    labels = torch.randint(0, 6, (BATCH,))
    texts = []
    for item in build_optimizers(model.phases(), experiment.training):
        live = set(map(id, item.parameters))
        for parameter in model.parameters():
            parameter.requires_grad_(id(parameter) in live)

        def step(item: object = item) -> None:
            batch = Batch(images, labels, backbone=model.backbone)
            torch.stack(list(item.phase.loss(batch).values())).sum().backward()
            item.optimizer.step()
            item.optimizer.zero_grad()

        texts.append(f"{item.phase.name} {1e3 * seconds(step) / BATCH:.1f} ms/image")
    print(f"{title}: {', '.join(texts)}")


if __name__ == "__main__":
    discriminators()
    phases("both phases a step, all places", schedule="iteration")
    phases("both phases a step, 32 places", schedule="iteration", fine_locations=32)
    phases("joint, 32 places", schedule="joint", fine_locations=32)
