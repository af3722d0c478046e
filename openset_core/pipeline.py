"""The stages that fill a run folder: train, extract, score.

Each stage reads what the one before wrote and writes its own result whole; a stage whose
result is there and current is skipped.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from openset_core.errors import CompositionError, OpensetError, PluginError, StoreError
from openset_core.experiment import config
from openset_core.experiment.environment import library_versions
from openset_core.experiment.experiment import Experiment
from openset_core.model.artefact import check_weights, read_description
from openset_core.observers import Observers, RunDone, RunStarted, StageDone
from openset_core.results.run_results import Results, evaluate_run
from openset_core.run_folder import (
    RunFolder,
    Runtime,
    initialize_folder,
    read_metrics,
    remove_components,
)

if TYPE_CHECKING:
    from openset_core.data.preparation import ExperimentData
    from openset_core.scoring.fitting import ScoredRun


@attrs.frozen
class Run:
    """A finished run."""

    folder: Path
    experiment: Experiment
    results: Results

    @property
    def history(self) -> list[dict[str, Any]]:
        """The record of each epoch: loss terms, rate, validation accuracy, seconds."""
        return read_metrics(RunFolder(self.folder))

    def report(
        self,
        scorer: str | None = None,
        *,
        figures: bool = True,
        data_root: str | Path | None = None,
    ) -> Path:
        """Make the run's page, and figures/ beside it.

        Args:
            scorer: whose decisions the page shows; by default the model's own.
            figures: whether to write figures as PNG and SVG too.
            data_root: folder of data sets, for images; $OPENSET_DATA or `./data` by default.

        Returns:
            Path of report.html in the run folder.
        """
        from openset_core.report.run_page.making import make_report

        root = Path(data_root) if data_root else None
        return make_report(self.folder, scorer=scorer, figures=figures, data_root=root).page


def execute(experiment: Experiment, folder: Path, runtime: Runtime, *, report: bool = False) -> Run:
    """Do whatever is missing of an experiment in a folder."""
    stages = Stages.begin(*initialize_folder(folder, experiment, runtime.plugins), runtime)
    try:
        results = stages.run_all(report)
    finally:
        stages.close()
    return Run(folder, stages.experiment, results)


@attrs.define
class Stages:
    """The stages of one run; close them in the end."""

    folder: RunFolder
    experiment: Experiment
    runtime: Runtime
    observers: Observers
    # What training read, for extraction and report; image files take a while to read again.
    _data: ExperimentData | None = attrs.field(default=None, init=False, repr=False)
    # Of stages, not yet in experiment.toml.
    _seconds: dict[str, float] = attrs.field(factory=dict, init=False, repr=False)
    # Why scorers were left out, where others gave scores.
    _failures: list[str] = attrs.field(factory=list, init=False, repr=False)

    @classmethod
    def begin(cls, folder: RunFolder, experiment: Experiment, runtime: Runtime) -> Stages:
        members = [*runtime.observers]
        for component in experiment.selection.observers:
            members.append(component.load()(experiment.options[component.name], folder.path))
        if experiment.selection.generator:
            from openset_core.training.sample_history import SampleHistoryRecorder

            members.append(SampleHistoryRecorder(folder.sample_history))
        observers = Observers(members)
        observers.send(RunStarted(folder=folder.path, experiment=experiment.to_toml()))
        return cls(folder, experiment, runtime, observers)

    def close(self) -> None:
        """Record how long the stages took, and close the observers."""
        try:
            self._record_seconds()
        finally:
            self.observers.close()

    def run_all(self, report: bool = False) -> Results:
        self.train()
        self.extract()
        results = self._score()
        if report:
            self.report()
        return self._finish(results)

    def _finish(self, results: Results) -> Results:
        self.observers.send(RunDone(folder=self.folder.path, results=config.unstructure(results)))
        self.raise_failures()
        return results

    def raise_failures(self) -> None:
        """Raise `PluginError` for scorers that were left out; the others' results are written."""
        failures, self._failures = self._failures, []
        if failures:
            raise PluginError(
                f"{'; '.join(failures)}; it was left out, and the results of the others are in "
                f"{self.folder.path}"
            )

    def _done(self, stage: str, begun: float, detail: str, skipped: bool = False) -> None:
        seconds = time.perf_counter() - begun
        if not skipped:
            self._seconds[stage] = round(seconds, 2)
        self.observers.send(StageDone(stage=stage, seconds=seconds, detail=detail, skipped=skipped))

    def _record_seconds(self) -> None:
        if self._seconds:
            recorded = self.folder.read()
            recorded.setdefault("record", {}).setdefault("seconds", {}).update(self._seconds)
            self.folder.write(recorded)
            self._seconds.clear()

    def train(self) -> None:
        begun = time.perf_counter()
        model = self.folder.model
        if (model / "model.toml").exists():
            check_weights(model, read_description(model))
            self._done("train", begun, "the model is already trained", skipped=True)
            return
        from openset_core.scoring.epoch_evaluation import EpochEvaluation
        from openset_core.training.launch import train_in_processes
        from openset_core.training.train import train_here

        if self.runtime.devices > 1:
            train_in_processes(self.folder.path, self.runtime, self.observers, EpochEvaluation)
        else:
            self._data = train_here(
                self.folder, self.experiment, self.runtime, self.observers, EpochEvaluation
            )
        self._done("train", begun, f"{self.experiment.training.epochs} epochs")
        self._record_seconds()  # now, since a kill later must not lose the longest of them

    def ingredients(self) -> dict[str, Any]:
        """What the feature store must have been made from to be current."""
        description, versions = read_description(self.folder.model), library_versions()
        return {
            "weights": description.weights_sha256,
            "image": config.unstructure(description.image),
            "data": self.folder.read().get("record", {}).get("data", {}),
            "openset": versions["openset"],
            "torch": versions["torch"],
        }

    def extract(self, rebuild: bool = False) -> None:
        """Build the feature store, unless a current one is there; a damaged one is left alone."""
        from openset_core.features.store import FeatureStore, changed

        begun = time.perf_counter()
        expected = self.ingredients()
        reason = "there was no feature store"
        if rebuild:
            reason = "rebuilt as asked"
        elif self.folder.features.exists():
            with FeatureStore(self.folder.features) as store:
                stale = changed(expected, store.ingredients)
            if not stale:
                self._done("extract", begun, "the features are current", skipped=True)
                return
            reason = f"the feature store was stale ({', '.join(stale)} changed)"
        from openset_core.features.extraction import extract_features

        rows = extract_features(self.folder, self.experiment, self.runtime, expected, self._data)
        self._done("extract", begun, f"{rows} samples; {reason}")

    def score(self) -> Results:
        """Fit and apply every scorer, evaluate, and write results.json."""
        return self._finish(self._score())

    def _score(self) -> Results:
        from openset_core.features.store import FeatureStore
        from openset_core.scoring.fitting import score_run

        begun = time.perf_counter()
        selection = self.experiment.selection
        scored: dict[str, ScoredRun] = {}
        refused: list[OpensetError] = []  # one scorer does not spoil the others' work
        with FeatureStore(self.folder.features) as store:
            if store.ingredients != self.ingredients():
                raise StoreError(f"{self.folder.features} is stale; run `openset extract RUN`")
            for scorer in selection.scorers:
                try:
                    scored[scorer.name] = score_run(
                        store,
                        self.folder.model,
                        self.folder.scores,
                        scorer,
                        self.experiment.options[scorer.name],
                        self.experiment.threshold_for(scorer.name),
                    )
                except (PluginError, CompositionError) as error:
                    refused.append(error)
            if not scored:
                raise refused[0]
            results = evaluate_run(self.experiment, store, scored)
        results.save(self.folder.results)
        if refused:
            kept = tuple(scorer for scorer in selection.scorers if scorer.name in scored)
            remove_components(self.folder, [item for item in selection.scorers if item not in kept])
            selection = attrs.evolve(selection, scorers=kept)
            self.experiment = attrs.evolve(self.experiment, selection=selection)
            self._failures += map(str, refused)
        fitted = [name for name, run in scored.items() if not run.reused]
        moved = [name for name, run in scored.items() if run.rethresholded]
        did = [f"fitted {', '.join(fitted)}"] if fitted else []
        did += [f"set the threshold of {', '.join(moved)}"] if moved else []
        self._done("score", begun, "; ".join(did) or "all scores were there", skipped=not did)
        return results

    def report(self) -> None:
        """Make report.html and figures/; what keeps them from being made is told, and no error."""
        from openset_core.report.run_page.making import is_current, make_report

        self._record_seconds()  # the page shows them
        begun = time.perf_counter()
        path = self.folder.path
        skipped, detail = is_current(path), "the page is current"
        if not skipped:
            try:
                made = make_report(path, data_root=self.runtime.data_root, data=self._data)
                detail = f"{made.page.name} and {len(made.figures)} files of figures"
            except OpensetError as error:
                detail = f"not made: {error}"
        seconds = time.perf_counter() - begun
        self.observers.send(
            StageDone(stage="report", seconds=seconds, detail=detail, skipped=skipped)
        )
