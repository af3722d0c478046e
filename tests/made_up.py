"""A run folder of any shape, made up without training: for pages and figures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from openset_core import metrics
from openset_core.features.store import FeatureWriter, StoredLandmarks
from openset_core.results.run_results import PublishedFigure, Results, ScorerResults
from openset_core.run_folder import RunFolder
from openset_core.scoring.fitting import FORMAT, file_name


def made_up_run(
    path: Path,
    *,
    classes: int = 3,
    known: int = 60,
    sets: Mapping[str, tuple[int, int]] | None = None,
    scorers: Sequence[str] = ("msp",),
    width: int = 8,
    epochs: int = 3,
    names: Sequence[str] | None = None,
    method: str = "softmax",
    plugins: Sequence[str] = ("softmax", "classifier32"),
    protocol: str = "digits",
    terms: Sequence[str] = ("classification/cross_entropy",),
    published: Mapping[str, PublishedFigure] | None = None,
    per_unknown: bool = False,
    apart: float = 2.0,
    constant: bool = False,
    all_wrong: bool = False,
    acceptance: float = 0.95,
    landmarks: str = "",
    seed: int = 0,
) -> Path:
    """Write a finished run.

    Args:
        path: the run folder.
        classes: K.
        known: known test samples.
        sets: samples and classes of each unknown set.
        scorers: names of scorers.
        width: E, of the embedding.
        epochs: lines of metrics.jsonl.
        names: of the known classes.
        method: as results.json names it.
        plugins: loss and backbone, among others; scorers are added.
        protocol: as results.json names it.
        terms: loss terms.
        published: figures for the first scorer, by metric.
        per_unknown: whether the table has a row for each unknown set.
        apart: distance of classes in deviations.
        constant: whether all scores are equal.
        all_wrong: whether no known sample gets its class.
        acceptance: share of validation samples that the thresholds accept.
        landmarks: what the loss calls the points that it keeps, one a class.
        seed: of the made-up numbers.
    """
    sets = {"rest": (40, 2)} if sets is None else sets
    random = np.random.default_rng(seed)
    centres = random.normal(scale=apart, size=(classes, width))
    folder = RunFolder(path)
    path.mkdir(parents=True)

    def split(label: np.ndarray[Any, Any], centre: np.ndarray[Any, Any]) -> dict[str, Any]:
        embedding = (centre + random.normal(size=(len(label), width))).astype(np.float32)
        logits = (
            -np.square(embedding[:, None] - centres).mean(axis=2)
            if classes <= 100
            else (embedding @ centres.T / width)
        )
        if all_wrong:
            logits[np.arange(len(label)), label % classes] -= 1e3
        return {
            "embedding": embedding,
            "logits": logits.astype(np.float32),
            "label": label.astype(np.int64),
            "index": np.arange(len(label), dtype=np.int64),
        }

    splits = {}
    for name, count in (("train", 2 * classes), ("validation", max(40, classes)), ("known", known)):
        label = np.arange(count) % classes
        splits[name] = split(label, centres[label])
    for name, (count, kinds) in sets.items():
        label = 100 + np.arange(count) % kinds
        middle = random.normal(scale=0.7 * apart, size=(kinds, width))
        splits[f"unknown/{name}"] = split(label, middle[label - 100])
    with FeatureWriter(folder.features, {"made": "up"}, classes) as writer:
        for name, arrays in splits.items():
            writer.write_split(name, iter([arrays]))
        if landmarks:
            points = StoredLandmarks(centres.astype(np.float32), np.arange(classes), landmarks)
            writer.write_loss({}, points)

    scores: dict[str, dict[str, Any]] = {}
    for number, scorer in enumerate(scorers):
        scores[scorer] = {
            name: np.zeros(len(arrays["label"]))
            if constant
            else -arrays["logits"].max(axis=1).astype(np.float64)
            + number * 0.4 * random.normal(size=len(arrays["label"]))
            for name, arrays in splits.items()
        }
    with h5py.File(folder.scores, "w") as file:
        file.attrs["format"] = FORMAT
        for scorer, by_split in scores.items():
            for name, values in by_split.items():
                file.create_dataset(f"{file_name(scorer)}/{name}/score", data=values)

    def judged(scorer: str, names: Sequence[str], threshold: float, compat: str | None) -> Any:
        label = splits["known"]["label"]
        predicted = splits["known"]["logits"].argmax(axis=1)
        if not names:
            return {"accuracy": metrics.closed_set_accuracy(predicted, label)}
        return metrics.evaluate(
            scores[scorer]["known"],
            np.concatenate([scores[scorer][name] for name in names]),
            known_predicted=predicted,
            known_labels=label,
            num_classes=classes,
            threshold=threshold,
            unknown_predicted=np.concatenate([splits[n]["logits"].argmax(axis=1) for n in names]),
            compat=compat,
        )

    unknown = [name for name in splits if name.startswith("unknown/")]
    found = {}
    for number, scorer in enumerate(scorers):
        threshold = metrics.threshold_at_acceptance(scores[scorer]["validation"], acceptance)
        found[scorer] = ScorerResults(
            threshold=threshold,
            metrics=judged(scorer, unknown, threshold, None),
            arpl=judged(scorer, unknown, threshold, "arpl") if unknown else {},
            unknown={
                name.removeprefix("unknown/"): judged(scorer, [name], threshold, None)
                for name in unknown
            },
            published=dict(published or {}) if number == 0 else {},
        )
    Results(
        method=method,
        backbone=plugins[1],
        protocol=protocol,
        trial=0,
        seed=0,
        epochs=epochs,
        experiment="0123456789abcdef",
        samples={name: len(arrays["label"]) for name, arrays in splits.items()},
        scorers=found,
        shown=("accuracy", "auroc", "oscr", "macro_f1"),
        per_unknown=per_unknown,
    ).save(folder.results)
    lines = [
        {
            "epoch": epoch,
            "terms": {
                term: 2.0 / (epoch + at) + 0.05 * random.normal() for at, term in enumerate(terms)
            },
            "rate": 0.1 * (1 - epoch / (epochs + 1)),
            "validation_accuracy": 1 - 0.7 / epoch,
            "seconds": 1.5,
            "images_per_second": 400.0,
        }
        for epoch in range(1, epochs + 1)
    ]
    folder.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    recorded = {
        "plugins": [*plugins, *scorers],
        "protocol": protocol,
        "trial": 0,
        "seed": 0,
        "training": {"epochs": epochs},
        "record": {
            "digest": "0123456789abcdef",
            "versions": {"openset": "0.1.0", "python": "3.11.7", "torch": "2.14.1"},
            "classes": list(names or (f"class-{number}" for number in range(classes))),
            "unknown_classes": {
                name: {str(100 + kind): f"{name}-{kind}" for kind in range(kinds)}
                for name, (_, kinds) in sets.items()
            },
            "hardware": {"machine": "x86_64", "system": "Linux", "processors": 2},
            "device": {"name": "cpu", "precision": "fp32", "processes": 1, "threads": 2},
            "data": {
                name: {"samples": len(arrays["label"]), "split": "a" * 16, "data": "b" * 16}
                for name, arrays in splits.items()
            },
            "seconds": {"train": 38.67, "extract": 5.68, "score": 0.03},
        },
    }
    folder.write(recorded)
    return path


def made_up_results(
    top: Path,
    method: str = "softmax",
    auroc: float = 0.9,
    *,
    trial: int = 0,
    seed: int = 0,
    protocol: str = "p",
    scorers: Sequence[str] = ("msp",),
    training: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    record: Mapping[str, Any] | None = None,
    published: Mapping[str, PublishedFigure] | None = None,
    folder: str | None = None,
    **results: Any,
) -> Path:
    """Write the two files of a finished run that a comparison reads.

    Args:
        top: folder of runs.
        method: as results.json names it.
        auroc: of the first scorer; each further one has 0.01 less. Accuracy is 0.95.
        trial: number of the trial.
        seed: training seed.
        protocol: as results.json names it.
        scorers: names of scorers.
        training: training options beside 10 epochs and a rate of 0.1.
        options: tables of options.
        record: what is recorded.
        published: figures of every scorer, by metric.
        folder: name of the run folder.
        **results: other attributes of `Results`.
    """
    training = {"epochs": 10, "lr": 0.1} | dict(training or {})
    number = len(list(top.rglob("*")))
    path = top / (folder or f"{protocol.replace('/', '_')}-{method}-{number:04}")
    path.mkdir(parents=True)
    found = {
        scorer: ScorerResults(
            threshold=0.5,
            metrics={"accuracy": 0.95, "auroc": auroc - 0.01 * number},
            arpl={"accuracy": 0.95, "auroc": auroc - 0.05},
            published=dict(published or {}),
        )
        for number, scorer in enumerate(scorers)
    }
    values = {
        "method": method,
        "backbone": "net",
        "protocol": protocol,
        "trial": trial,
        "seed": seed,
        "epochs": training["epochs"],
        "experiment": "0" * 16,
        "samples": {"known": 5},
        "scorers": found,
        "shown": ("accuracy", "auroc"),
    }
    Results(**values | results).save(path / "results.json")
    experiment = {
        "plugins": [method, "net", *scorers],
        "protocol": protocol,
        "trial": trial,
        "seed": seed,
        "training": training,
        **{name: {} for name in (*method.split("+"), "net", *scorers)},
        **(options or {}),
        "record": {"protocol_digest": "abc", "seconds": {"train": 2.5}} | dict(record or {}),
    }
    RunFolder(path).write(experiment)
    return path
