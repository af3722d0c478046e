"""Checks of data sets, protocols, recipes and observers."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from openset_core import observers
from openset_core.data.images import DataRequest, ImageSet, data_root
from openset_core.errors import DataError
from openset_core.experiment import config
from openset_core.experiment.selection import FRAMEWORK_PROVIDES
from openset_core.observers import Observer
from openset_core.results.run_results import Results, ScorerResults
from openset_core.testing.component_under_test import Subject
from openset_core.testing.report import Checks, fail, not_applicable

DATASET_CHECKS, PROTOCOL_CHECKS, RECIPE_CHECKS = Checks(), Checks(), Checks()
OBSERVER_CHECKS = Checks()


# --- data sets ----------------------------------------------------------------------------


@DATASET_CHECKS
def missing_data_is_named(subject: Subject) -> None:
    """From an empty data root, and without being allowed to download, the factory either has the
    images at hand or raises a DataError of one sentence."""
    for part in subject.spec.parts:
        with tempfile.TemporaryDirectory() as empty:
            request = DataRequest(part=part, root=Path(empty), download=False)
            try:
                subject.make(ImageSet, request)
            except DataError as error:
                if not str(error) or "\n" in str(error):
                    fail(f"part {part}: {error!r} is not one sentence")


@DATASET_CHECKS
def parts_hold_images(subject: Subject) -> None:
    """Every part in `parts` gives an ImageSet with images, labels that index its class names, and
    the class names that the spec announces."""
    for part in subject.spec.parts:
        try:
            found = subject.make(ImageSet, DataRequest(part=part, root=data_root()))
        except DataError as error:
            not_applicable(str(error))
        if not len(found):
            fail(f"part {part} is empty")
        low, high = int(found.labels.min()), int(found.labels.max())
        if low < 0 or high >= len(found.classes):
            fail(f"labels of part {part} reach from {low} to {high}, classes are {found.classes}")
        if subject.spec.classes and tuple(found.classes) != tuple(subject.spec.classes):
            fail(f"part {part} has classes {found.classes}, the spec {subject.spec.classes}")
        again = subject.make(ImageSet, DataRequest(part=part, root=data_root()))
        if not np.array_equal(found.images, again.images):
            fail(f"part {part} read twice gives different images")


# --- protocols ------------------------------------------------------------------------------


@PROTOCOL_CHECKS
def protocol_is_valid(subject: Subject) -> None:
    """The TOML file is there and is a valid protocol."""
    from openset_core.experiment.protocol import load_protocol

    load_protocol(str(subject.spec.path))


@PROTOCOL_CHECKS
def protocol_names_what_exists(subject: Subject) -> None:
    """The data sets and default parts that the protocol names are installed, and its trials
    resolve into experiments."""
    from openset_core.experiment.experiment import resolve

    resolve(protocol=str(subject.spec.path))


# --- recipes --------------------------------------------------------------------------------


@RECIPE_CHECKS
def recipe_is_valid(subject: Subject) -> None:
    """The TOML file is there and is a valid recipe."""
    from openset_core.experiment.recipe import load_recipe

    load_recipe(str(subject.spec.path))


@RECIPE_CHECKS
def recipe_suits_the_protocols(subject: Subject) -> None:
    """Laid over any installed protocol it gives an experiment with that protocol's parts, and the
    score rules that it names exist."""
    from openset_core.experiment.experiment import resolve
    from openset_core.registry import registry

    for part in registry().of_kind("protocol"):
        resolve(protocol=part.name, recipe=str(subject.spec.path))


# --- observers --------------------------------------------------------------------------------


def _results() -> Results:
    values = {"accuracy": 0.9, "auroc": 0.8}
    scorer = ScorerResults(
        threshold=0.5, metrics=values, arpl=values, unknown={"rest": values}, published={}
    )
    return Results(
        method="my-loss",
        backbone="my-backbone",
        protocol="my-protocol",
        trial=0,
        seed=0,
        epochs=1,
        experiment="0123456789abcdef",
        samples={"known": 10, "unknown/rest": 5},
        scorers={"my-scorer": scorer},
        shown=("accuracy", "auroc"),
    )


def _epoch_scores() -> observers.EpochScores:
    values = {"accuracy": 0.9, "auroc": 0.8}
    return observers.EpochScores(metrics=values, unknown={"rest": values})


COSTLY = (
    observers.ImagesSeen,
    observers.ParametersRead,
    observers.SamplesDrawn,
    observers.EpochTested,
)
"""Events that are sent only to observers that want them."""


def events_of_a_run(folder: Path) -> list[observers.RunEvent]:
    """One event of each class, in the order of a run."""
    record = {
        "epoch": 1,
        "terms": {"classification/fit": 0.5},
        "rate": 0.1,
        "validation_accuracy": 0.5,
        "seconds": 1.0,
        "images_per_second": 10.0,
    }
    experiment = {
        "plugins": ["my-loss", "my-backbone"],
        "protocol": "my-protocol",
        "trial": 0,
        "seed": 0,
        "training": {"epochs": 1, "lr": 0.1, "betas": [0.9, 0.99]},
        "my-loss": {"weight": 0.1, "way": "near"},
    }
    return [
        observers.RunStarted(folder=folder, experiment=experiment),
        observers.TrainingStarted(
            first_epoch=0,
            epochs=1,
            steps_per_epoch=2,
            parameters=10,
            training_parameters=10,
            device="cpu",
            precision="fp32",
        ),
        observers.StepsDone(
            epoch=0, step=1, terms={"classification/fit": 0.5}, rate=0.1, seconds_left=1.0
        ),
        observers.ImagesSeen(epoch=0, images=np.zeros((4, 8, 8, 3), np.uint8)),
        observers.ParametersRead(
            epoch=0, values={"backbone.first.weight": np.linspace(-1, 1, 9, dtype=np.float32)}
        ),
        observers.SamplesDrawn(epoch=0, images=np.zeros((4, 8, 8, 3), np.uint8)),
        observers.EpochTested(epoch=0, scorers={"my-scorer": _epoch_scores()}),
        observers.EpochDone(epoch=0, record=record),
        observers.StageDone(stage="train", seconds=1.0, detail="1 epoch"),
        observers.RunDone(folder=folder, results=config.unstructure(_results())),
    ]


@OBSERVER_CHECKS
def observer_takes_every_event(subject: Subject) -> None:
    """The observer takes every event, events it does not know, and close, without an error; twice
    over for the same folder, as when a run goes on."""

    class Unheard(observers.RunEvent):
        """An event that a later version may send."""

    with tempfile.TemporaryDirectory() as folder:
        for _ in range(2):
            observer = subject.make(Observer, Path(folder))
            for event in [*events_of_a_run(Path(folder)), Unheard()]:
                if not isinstance(event, COSTLY) or type(event) in observer.wants:
                    observer.receive(event)
            observer.close()


@OBSERVER_CHECKS
def observer_can_be_closed_at_once(subject: Subject) -> None:
    """An observer that saw nothing can be closed, as when a run fails early."""
    with tempfile.TemporaryDirectory() as folder:
        subject.make(Observer, Path(folder)).close()


@OBSERVER_CHECKS
def observer_needs_no_partner(subject: Subject) -> None:
    """needs is empty: an observer watches any run."""
    asked = set(subject.spec.needs) - FRAMEWORK_PROVIDES
    if asked:
        fail(f"it needs {', '.join(sorted(asked))}")
