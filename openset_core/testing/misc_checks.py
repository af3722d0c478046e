"""Checks of data sets, protocols, recipes, figures and observers."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from openset_core import observers
from openset_core.data.images import DataRequest, ImageSet, data_root
from openset_core.errors import DataError, FigureError
from openset_core.experiment import config
from openset_core.experiment.experiment import resolve
from openset_core.experiment.protocol import load_protocol
from openset_core.experiment.recipe import load_recipe
from openset_core.experiment.selection import FRAMEWORK_PROVIDES
from openset_core.observers import Observer
from openset_core.registry import registry
from openset_core.results.run_results import Results, ScorerResults
from openset_core.testing.component_under_test import ComponentUnderTest, check_refusal
from openset_core.testing.report import Checks, fail, not_applicable

CHECKS = Checks()


# --- data sets ----------------------------------------------------------------------------


@CHECKS.only("dataset")
def missing_data_is_named(component: ComponentUnderTest) -> None:
    """From an empty data root, and without being allowed to download, the factory either has the
    images at hand or raises a DataError of one sentence."""
    for split in component.spec.parts:
        with tempfile.TemporaryDirectory() as empty:
            try:
                component.make(ImageSet, DataRequest(part=split, root=Path(empty), download=False))
            except DataError as error:
                check_refusal(error)


@CHECKS.only("dataset")
def splits_hold_images(component: ComponentUnderTest) -> None:
    """Every split in `parts` gives an ImageSet with images, labels that index its class names, and
    the class names that the spec announces."""
    for split in component.spec.parts:
        try:
            images = component.make(ImageSet, DataRequest(part=split, root=data_root()))
        except DataError as error:
            not_applicable(str(error))
        if not len(images):
            fail(f"split {split} is empty")
        low, high = int(images.labels.min()), int(images.labels.max())
        if low < 0 or high >= len(images.classes):
            fail(f"labels of split {split} reach from {low} to {high}, classes: {images.classes}")
        if component.spec.classes and tuple(images.classes) != tuple(component.spec.classes):
            fail(f"split {split} has classes {images.classes}, the spec {component.spec.classes}")
        again = component.make(ImageSet, DataRequest(part=split, root=data_root()))
        if not np.array_equal(images.images, again.images):
            fail(f"split {split} read twice gives different images")


# --- protocols ------------------------------------------------------------------------------


@CHECKS.only("protocol")
def protocol_is_valid(component: ComponentUnderTest) -> None:
    """The TOML file is there and is a valid protocol."""
    load_protocol(str(component.spec.path))


@CHECKS.only("protocol")
def protocol_names_what_exists(component: ComponentUnderTest) -> None:
    """The data sets and default components that the protocol names are installed, and its trials
    resolve into experiments."""
    resolve(protocol=str(component.spec.path))


# --- recipes --------------------------------------------------------------------------------


@CHECKS.only("recipe")
def recipe_is_valid(component: ComponentUnderTest) -> None:
    """The TOML file is there and is a valid recipe."""
    load_recipe(str(component.spec.path))


@CHECKS.only("recipe")
def recipe_suits_the_protocols(component: ComponentUnderTest) -> None:
    """Laid over any installed protocol it gives an experiment with that protocol's components, and
    the scorers that it names exist."""
    for protocol in registry().of_kind("protocol"):
        resolve(protocol=protocol.name, recipe=str(component.spec.path))


# --- figures ----------------------------------------------------------------------------------


@CHECKS.only("figure")
def runs_can_be_made(component: ComponentUnderTest) -> None:
    """Every run that the figure asks for is an experiment: components, protocol, options and trials
    exist."""
    from openset_core.report.figures.runs import required_runs

    for run in required_runs(component.spec):
        for trial in run.trials():
            run.experiment(trial)


@CHECKS.only("figure")
def runs_are_told_apart(component: ComponentUnderTest) -> None:
    """No two of the runs are the same experiment."""
    from openset_core.report.figures.runs import required_runs

    seen: dict[str, str] = {}
    for run in required_runs(component.spec):
        digest = run.experiment().digest
        if digest in seen:
            fail(f"{run.command} and {seen[digest]} are one experiment")
        seen[digest] = run.command


@CHECKS.only("figure")
def missing_runs_are_refused(component: ComponentUnderTest) -> None:
    """Without any run the figure is refused, with the command of each that it asks for."""
    from openset_core.report.figures.drawing import FigureRuns
    from openset_core.report.figures.making import draw
    from openset_core.report.figures.runs import required_runs

    missing = required_runs(component.spec)
    try:
        draw(component.spec, component.options, FigureRuns(groups=(), missing=missing))
    except FigureError as error:
        for run in missing:
            if run.command not in str(error):
                fail(f"the refusal does not name {run.command}")
    else:
        fail("it was drawn without a run; min_runs must be 1 or more")


# --- observers --------------------------------------------------------------------------------


SENT_WHERE_WANTED = (
    observers.ImagesSeen,
    observers.ParametersRead,
    observers.SamplesDrawn,
    observers.EpochTested,
)


def events_of_a_run(folder: Path) -> list[observers.RunEvent]:
    """One event of each class, in the order of a run."""
    values = {"accuracy": 0.9, "auroc": 0.8}
    scores = observers.EpochScores(metrics=values, unknown={"rest": values})
    scorer = ScorerResults(
        threshold=0.5, metrics=values, arpl=values, unknown={"rest": values}, published={}
    )
    results = Results(
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
    terms = {"classification/fit": 0.5}
    images = np.zeros((4, 8, 8, 3), np.uint8)
    record = {
        "epoch": 1,
        "terms": terms,
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
        observers.StepsDone(epoch=0, step=1, terms=terms, rate=0.1, seconds_left=1.0),
        observers.ImagesSeen(epoch=0, images=images),
        observers.ParametersRead(
            epoch=0, values={"backbone.first.weight": np.linspace(-1, 1, 9, dtype=np.float32)}
        ),
        observers.SamplesDrawn(epoch=0, images=images),
        observers.EpochTested(epoch=0, scorers={"my-scorer": scores}),
        observers.EpochDone(epoch=0, record=record),
        observers.StageDone(stage="train", seconds=1.0, detail="1 epoch"),
        observers.RunDone(folder=folder, results=config.unstructure(results)),
    ]


@CHECKS.only("observer")
def observer_takes_every_event(component: ComponentUnderTest) -> None:
    """The observer takes every event, events it does not know, and close, without an error; twice
    over for the same folder, as when a run goes on."""

    class EventOfALaterVersion(observers.RunEvent):
        pass

    with tempfile.TemporaryDirectory() as folder:
        for _ in range(2):
            observer = component.make(Observer, Path(folder))
            for event in [*events_of_a_run(Path(folder)), EventOfALaterVersion()]:
                if not isinstance(event, SENT_WHERE_WANTED) or type(event) in observer.wants:
                    observer.receive(event)
            observer.close()


@CHECKS.only("observer")
def observer_can_be_closed_at_once(component: ComponentUnderTest) -> None:
    """An observer that saw nothing can be closed, as when a run fails early."""
    with tempfile.TemporaryDirectory() as folder:
        component.make(Observer, Path(folder)).close()


@CHECKS.only("observer")
def observer_needs_no_other_component(component: ComponentUnderTest) -> None:
    """needs is empty: an observer watches any run."""
    needs = set(component.spec.needs) - FRAMEWORK_PROVIDES
    if needs:
        fail(f"it needs {', '.join(sorted(needs))}")
