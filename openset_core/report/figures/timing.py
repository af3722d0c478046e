"""Milliseconds an image and numbers of parameters, a row a run."""

from __future__ import annotations

import contextlib
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from attrs import asdict, frozen

from openset_core.errors import FigureError, RunFolderError
from openset_core.files import write_text
from openset_core.model.artefact import read_description
from openset_core.report.charts.panels import panels
from openset_core.report.charts.timing import bars
from openset_core.report.data import RunData
from openset_core.report.figures import Timing
from openset_core.report.figures.drawing import FigureResult, FigureRuns, chosen_scorer

FILE_NAME = "timing.json"
WARM_UP = 2
"""Batches before the measurement."""


@frozen(kw_only=True)
class Measurement:
    """How long a run's network and a scorer take.

    Attributes:
        device: name of the processor that computed.
        threads: threads of the processor; 0 for an accelerator.
        batch_size: images at once.
        repeats: measured batches.
        scorer: the scorer.
        network_ms: milliseconds an image from preprocessed images to embedding and logits; the
            median batch.
        scorer_ms: milliseconds an image of the scorer, on arrays.
        parameters: of the network at test time.
        weights: hash of the weights.
        torch: version.
    """

    device: str
    threads: int
    batch_size: int
    repeats: int
    scorer: str
    network_ms: float
    scorer_ms: float
    parameters: int
    weights: str
    torch: str


def draw(shape: Timing, runs: FigureRuns) -> FigureResult:
    """Draw bars for each run; a run that was not measured yet is measured."""
    measured = []
    for group, label in zip(runs.groups, runs.labels(), strict=True):
        run = group.first  # the other trials have the same network
        scorers = run.scored if shape.scorer == "all" else (chosen_scorer(run, shape.scorer),)
        for item in measurements_of(run, scorers, shape):
            name = f"{label}, {item.scorer}" if len(scorers) > 1 else label
            measured.append((name, item))
    rows: list[tuple[Any, ...]] = [
        (
            label,
            item.network_ms + item.scorer_ms,
            item.scorer_ms,
            item.parameters,
            _hardware(item),
        )
        for label, item in measured
    ]
    rows += [
        (f"{label} (published)", ms, None, 1000 * thousands, shape.published_hardware)
        for label, ms, thousands in shape.published
    ]
    names, hardware = [str(row[0]) for row in rows], [str(row[4]) for row in rows]
    used = ", ".join(sorted({item.scorer for _label, item in measured}))
    return FigureResult(
        chart=panels(
            [
                (
                    "",
                    bars(
                        names,
                        [row[column] for row in rows],
                        hardware,
                        title=title,
                        labels=column == 1,
                    ),
                )
                for column, title in ((1, "milliseconds an image"), (3, "parameters"))
            ],
            "Bars of times and parameters; their numbers stand in the table.",
            columns=2,
        ),
        caption=(
            f"Time from a preprocessed image to its score ({used}), the median of "
            f"{shape.repeats} batches of {shape.batch_size} random images, and parameters at test "
            "time. Times on different hardware do not compare."
        ),
        columns=("method", "ms an image", "of it the scorer", "parameters", "hardware"),
        rows=rows,
    )


def measurements_of(run: RunData, scorers: Sequence[str], shape: Timing) -> list[Measurement]:
    """The measurements that a run keeps for these options; what is missing is measured and kept.

    Args:
        run: the run.
        scorers: names of its scorers.
        shape: options of the figure.

    Returns:
        One for each scorer, in order; those measured together share the network's time.

    Raises:
        FigureError: the kept measurements are damaged.
    """
    path = run.folder.path / FILE_NAME
    weights = read_description(run.folder.model).weights_sha256
    asked = (weights, shape.batch_size, shape.repeats)
    there = {
        item.scorer: item
        for item in _read(path)
        if (item.weights, item.batch_size, item.repeats) == asked and not shape.again
    }
    missing = [name for name in scorers if name not in there]
    if missing:
        made = measure(run.folder.path, missing, shape.batch_size, shape.repeats)
        there |= {item.scorer: item for item in made}
        content = {"measurements": [asdict(item) for item in there.values()]}
        with contextlib.suppress(RunFolderError):  # a read-only folder can be measured, too
            write_text(path, json.dumps(content, indent=1) + "\n")
    return [there[name] for name in scorers]


def _read(path: Path) -> list[Measurement]:
    if not path.exists():
        return []
    try:
        return [Measurement(**item) for item in json.loads(path.read_text("utf-8"))["measurements"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FigureError(f"{path} is damaged; delete it to measure anew") from error


def measure(
    folder: Path, scorers: Sequence[str], batch_size: int, repeats: int
) -> list[Measurement]:
    """Time a run's network, and some of its scorers, on random images.

    Args:
        folder: the run folder.
        scorers: names of fitted scorers.
        batch_size: images at once.
        repeats: measured batches.
    """
    import torch

    from openset_core.features.store import as_float
    from openset_core.inference.trained_model import load

    trained = load(folder)
    image = trained.description.image
    pixels = torch.randint(
        0,
        256,
        (batch_size, image.channels, image.size, image.size),
        dtype=torch.uint8,
        generator=torch.Generator().manual_seed(0),
    )
    batch = trained.pixel_scale(pixels.to(trained.device))

    def forward() -> Any:
        with torch.inference_mode():
            outputs = trained.network(batch)
        if trained.device.type != "cpu":
            torch.accelerator.synchronize()
        return outputs

    embedding, logits = forward()
    table = {"embedding": as_float(embedding), "logits": as_float(logits)}
    network_ms = _median_ms(forward, repeats) / batch_size

    def one(name: str) -> Measurement:
        scorer = trained.fitted(name).scorer
        return Measurement(
            device=device_name(trained.device.type),
            threads=torch.get_num_threads() if trained.device.type == "cpu" else 0,
            batch_size=batch_size,
            repeats=repeats,
            scorer=name,
            network_ms=network_ms,
            scorer_ms=_median_ms(lambda: scorer.score(table), repeats) / batch_size,
            parameters=trained.network.parameter_count(),
            weights=trained.description.weights_sha256,
            torch=torch.__version__,
        )

    return [one(name) for name in scorers]


def _median_ms(function: Callable[[], Any], repeats: int) -> float:
    for _ in range(WARM_UP):
        function()
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        function()
        times.append(1000.0 * (time.perf_counter() - begun))
    return statistics.median(times)


def device_name(kind: str) -> str:
    """Name of the accelerator, or of the processor."""
    import torch

    if kind == "cuda":
        return torch.cuda.get_device_name()
    if kind != "cpu":
        return kind
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _hardware(item: Measurement) -> str:
    if not item.threads:
        return item.device
    return f"{item.device}, {item.threads} thread{'s' if item.threads > 1 else ''}"
