"""The stages that fill a run folder: train, extract, score.

Each stage reads what the one before wrote and writes its own result whole; a stage whose
result is there and current is skipped.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from openset_core.data.images import data_root
from openset_core.errors import (
    CompositionError,
    DataError,
    OpensetError,
    PluginError,
    StoreError,
)
from openset_core.experiment import config
from openset_core.experiment.environment import library_versions
from openset_core.experiment.experiment import Experiment, resolve
from openset_core.model.artefact import (
    check_weights,
    load_model,
    read_description,
)
from openset_core.model.device import pick_device
from openset_core.observers import Observers, RunDone, RunStarted, StageDone
from openset_core.registry import Component
from openset_core.results.run_results import Results, evaluate_run
from openset_core.run_folder import RunFolder, Runtime, claim_folder, leave_out, read_metrics

EXTRACTION_BATCH = {"cpu": 64, "accelerator": 512}
"""Images in a batch of extraction: on a CPU few, whose maps stay in its caches (a fifth faster than
256 for classifier32 and resnet18)."""

if TYPE_CHECKING:
    from openset_core.components import Landmarks
    from openset_core.data.preparation import ExperimentData
    from openset_core.features.store import FeatureStore, StoredLandmarks
    from openset_core.scoring.fitting import ScoredRun


@attrs.frozen
class Run:
    """A finished run.

    Attributes:
        folder: where everything about it is kept.
        experiment: what was run.
        results: what came out.
    """

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

        Raises:
            OpensetError: no such scorer, or the folder cannot be written.
        """
        from openset_core.report.run_page.making import make_report

        root = Path(data_root) if data_root else None
        return make_report(self.folder, scorer=scorer, figures=figures, data_root=root).page


def execute(experiment: Experiment, folder: Path, runtime: Runtime, *, report: bool = False) -> Run:
    """Do whatever is missing of an experiment in a folder.

    Args:
        experiment: what to run.
        folder: where.
        runtime: how.
        report: whether to make the run's page in the end.
    """
    claimed = claim_folder(folder, experiment)
    # Scorers of earlier calls stay in the results, so the folder's own list counts.
    whole = resolve(file=claimed.experiment, registry_=runtime.plugins)
    stages = Stages.begin(claimed, whole, runtime)
    try:
        results = stages.everything(report)
    finally:
        stages.observers.close()
    return Run(folder, whole, results)


@attrs.define
class Stages:
    """Carries out the stages of one run.

    Attributes:
        folder: the run folder.
        experiment: what is run.
        runtime: where and how.
        observers: everybody who is told.
    """

    folder: RunFolder
    experiment: Experiment
    runtime: Runtime
    observers: Observers
    _data: ExperimentData | None = attrs.field(default=None, init=False, repr=False)
    """What training read and extraction reads again, which takes a while with image files."""
    _refused: str = attrs.field(default="", init=False, repr=False)
    """Why scorers were left out, where others gave scores."""

    @classmethod
    def begin(cls, folder: RunFolder, experiment: Experiment, runtime: Runtime) -> Stages:
        """Prepare the stages and tell the observers that a run begins."""
        members = [*runtime.observers]
        for part in experiment.selection.observers:
            members.append(part.load()(experiment.options[part.name], folder.path))
        if experiment.selection.generator:
            from openset_core.training.sample_history import SampleHistoryRecorder

            members.append(SampleHistoryRecorder(folder.sample_history))
        observers = Observers(members)
        observers.send(RunStarted(folder=folder.path, experiment=experiment.to_toml()))
        return cls(folder, experiment, runtime, observers)

    def everything(self, report: bool = False) -> Results:
        """Do whatever is missing.

        Args:
            report: whether to make the run's page, too.

        Raises:
            PluginError: a scorer gave no scores; all else is done first, without it.
        """
        self.train()
        self.extract()
        results = self._score()
        if report:
            self.report()
        self._all_done(results)
        self._complain()
        return results

    def _done(self, stage: str, begun: float, detail: str, skipped: bool = False) -> None:
        seconds = time.perf_counter() - begun
        if not skipped:
            self._note({"seconds": {stage: round(seconds, 2)}})
        self.observers.send(StageDone(stage=stage, seconds=seconds, detail=detail, skipped=skipped))

    def _note(self, values: dict[str, dict[str, Any]]) -> None:
        """Add to the record in experiment.toml."""
        recorded = self.folder.read()
        record = recorded.setdefault("record", {})
        for key, entries in values.items():
            record.setdefault(key, {}).update(entries)
        self.folder.write(recorded)

    # train

    def train(self) -> None:
        """Train the network, unless a finished model is there."""
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

    # extract

    def ingredients(self) -> dict[str, Any]:
        """What the feature store must have been made from to be current."""
        description = read_description(self.folder.model)
        versions = library_versions()
        return {
            "weights": description.weights_sha256,
            "image": config.unstructure(description.image),
            "data": self.folder.read().get("record", {}).get("data", {}),
            "openset": versions["openset"],
            "torch": versions["torch"],
        }

    def extract(self, rebuild: bool = False) -> None:
        """Build the feature store, unless a current one is there; a stale one is replaced.

        Args:
            rebuild: replace whatever is there.

        Raises:
            StoreError: a damaged or foreign file is in the way; it is left alone.
        """
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
        rows = self._extract(expected)
        self._done("extract", begun, f"{rows} samples; {reason}")

    def _extract(self, ingredients: dict[str, Any]) -> int:
        import torch

        from openset_core.data.loading import Loader, make_loader
        from openset_core.data.preparation import prepare_data
        from openset_core.features.store import FeatureWriter, as_float

        data, self._data = self._data, None
        if data is None:
            data = prepare_data(
                self.experiment.protocol,
                self.experiment.trial,
                data_root(self.runtime.data_root),
                self.runtime.download,
                self.runtime.plugins,
            )
        self._check_data(data.record(), ingredients["data"])
        device = torch.device(pick_device(self.runtime.device))
        batch_size = EXTRACTION_BATCH["cpu" if device.type == "cpu" else "accelerator"]
        model, description = load_model(self.folder.model, device)
        model = model.to(memory_format=torch.channels_last)

        @torch.inference_mode()
        def batches(loader: Loader) -> Iterator[dict[str, Any]]:
            for images, labels, index in loader.in_order():
                embedding, logits = model(images)
                yield {
                    "embedding": as_float(embedding),
                    "logits": as_float(logits),
                    "label": labels.cpu().numpy(),
                    "index": index.numpy(),
                }
                self.runtime.should_stop()

        rows = 0
        with FeatureWriter(self.folder.features, ingredients, len(description.classes)) as writer:
            for name, part in data.splits.items():
                rows += len(part)
                if not writer.has(name):
                    loader = make_loader(part, description.image, device, batch_size)
                    writer.write_split(name, batches(loader))
            writer.write_loss(model.loss.learned_scalars(), _stored(model.loss.landmarks()))
        return rows

    def _check_data(self, found: dict[str, Any], recorded: dict[str, Any]) -> None:
        """Refuse to extract from other data than the model was trained with."""
        for part, facts in recorded.items():
            if found.get(part) != facts:
                raise DataError(
                    f"the data of part {part} changed since {self.folder.path} was trained; bring "
                    "back the old data, or train again in another folder"
                )

    # score

    def score(self) -> Results:
        """Fit and apply every scorer, evaluate, and write results.json.

        Raises:
            PluginError: a scorer gave no scores; the others' results are written first.
        """
        results = self._score()
        self._all_done(results)
        self._complain()
        return results

    def _all_done(self, results: Results) -> None:
        self.observers.send(RunDone(folder=self.folder.path, results=config.unstructure(results)))

    def _score(self) -> Results:
        from openset_core.features.store import FeatureStore

        begun = time.perf_counter()
        expected = self.ingredients()
        with FeatureStore(self.folder.features) as store:
            if store.ingredients != expected:
                raise StoreError(f"{self.folder.features} is stale; run `openset extract RUN`")
            scored, refused = self._scored(store)
            if not scored:
                raise refused[0][1]
            results = evaluate_run(self.experiment, store, scored)
        results.save(self.folder.results)
        if refused:
            self._leave_out(refused)
        fresh = [name for name, run in scored.items() if not run.reused]
        moved = [name for name, run in scored.items() if run.rethresholded]
        did = [f"fitted {', '.join(fresh)}"] if fresh else []
        did += [f"set the threshold of {', '.join(moved)}"] if moved else []
        self._done("score", begun, "; ".join(did) or "all scores were there", skipped=not did)
        return results

    def _scored(
        self, store: FeatureStore
    ) -> tuple[dict[str, ScoredRun], list[tuple[Component, OpensetError]]]:
        """Scores by scorer, and why there are none: one scorer does not spoil the others' work."""
        from openset_core.scoring.fitting import score_run

        scored: dict[str, ScoredRun] = {}
        refused: list[tuple[Component, OpensetError]] = []
        for part in self.experiment.selection.scorers:
            try:
                check_reads(part, store)
                scored[part.name] = score_run(
                    store,
                    self.folder.model,
                    self.folder.scores,
                    part,
                    self.experiment.options[part.name],
                    self.experiment.threshold_for(part.name),
                )
            except (PluginError, CompositionError) as error:
                refused.append((part, error))
        return scored, refused

    def _leave_out(self, refused: Sequence[tuple[Component, OpensetError]]) -> None:
        """Strike scorers from the run, which could not go on with them."""
        parts = [part for part, _error in refused]
        leave_out(self.folder, parts)
        selection = self.experiment.selection
        kept = tuple(part for part in selection.scorers if part not in parts)
        self.experiment = attrs.evolve(
            self.experiment, selection=attrs.evolve(selection, scorers=kept)
        )
        self._refused = "; ".join(str(error) for _part, error in refused)

    def _complain(self) -> None:
        """Say in the end which scorers were left out."""
        reason, self._refused = self._refused, ""
        if reason:
            raise PluginError(
                f"{reason}; it was left out, and the results of the others are in "
                f"{self.folder.path}"
            )

    # report

    def report(self) -> None:
        """Make report.html and figures/, unless they are current.

        Results count without a page: what keeps it from being made is told, and no error.
        """
        from openset_core.report.run_page.making import is_current, make_report

        begun = time.perf_counter()
        path = self.folder.path
        skipped, detail = is_current(path), "the page is current"
        if not skipped:
            try:
                made = make_report(path, data_root=self.runtime.data_root)
                detail = f"{made.page.name} and {len(made.figures)} files of figures"
            except OpensetError as error:
                detail = f"not made: {error}"
        seconds = time.perf_counter() - begun
        self.observers.send(
            StageDone(stage="report", seconds=seconds, detail=detail, skipped=skipped)
        )


def _stored(landmarks: Landmarks | None) -> StoredLandmarks | None:
    """A loss's landmarks as arrays."""
    from openset_core.features.store import StoredLandmarks, as_float

    if landmarks is None:
        return None
    labels = landmarks.labels.detach().cpu().numpy()
    return StoredLandmarks(as_float(landmarks.points), labels, landmarks.name)


def check_reads(part: Component, store: FeatureStore) -> None:
    """A scorer must find the arrays it reads."""
    have = store.arrays("train")
    missing = [name for name in getattr(part.load(), "reads", ()) if name not in have]
    if missing:
        raise CompositionError(
            f"scorer {part.name} reads {', '.join(missing)}, which the feature store does not "
            f"hold; it has {', '.join(have)}"
        )
