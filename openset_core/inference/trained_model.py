"""Use of a trained model: `openset_core.load("runs/x").predict(images)`.

Images go through the preprocessing that is recorded with the model, by the code that training and
extraction used. Loading reads safetensors and TOML; no code comes from a file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from openset_core.data.inference_input import inference_inputs, regrouped
from openset_core.data.loading import PixelScale
from openset_core.errors import ModelError, PluginError, did_you_mean
from openset_core.experiment.threshold import ThresholdChoice
from openset_core.features.store import as_float
from openset_core.model.artefact import (
    TOML_NAME,
    ScorerRecord,
    deciding_scorer,
    fitted_scorers,
    load_model,
    load_scorer,
    scorer_component,
)
from openset_core.model.device import pick_device
from openset_core.registry import Component, Registry, registry
from openset_core.run_folder import RunFolder
from openset_core.scorer import UnknownScorer
from openset_core.scoring.fitting import (
    attribute_errors,
    build_scorer,
    checked_scores,
    file_name,
    stored_scores,
)

UNKNOWN = "unknown"
"""The label that `predict` gives a rejected image."""

BATCH_SIZE = 64

_SUFFIXES = (".toml", ".safetensors")

Floats = npt.NDArray[np.float64]


@attrs.frozen(kw_only=True, eq=False)
class FittedScorer:
    """A scorer as it was saved with the model."""

    component: Component
    scorer: UnknownScorer
    record: ScorerRecord


@attrs.frozen(kw_only=True, eq=False)
class Predictions:
    """Predictions of n images.

    Attributes:
        classes: names of the K known classes.
        probabilities: of the known classes, float64 [n, K], rows summing to 1; not of the unknown.
        winners: the likeliest known class, int64 [n].
        scores: how unknown, float64 [n], higher = more unknown.
        threshold: a score above it means unknown.
    """

    classes: tuple[str, ...]
    probabilities: Floats
    winners: npt.NDArray[np.int64]
    scores: Floats
    threshold: float

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def unknown(self) -> npt.NDArray[np.bool_]:
        """Whether each image is rejected, bool [n]."""
        return self.scores > self.threshold

    @property
    def labels(self) -> list[str]:
        """The name of each image's class, or `"unknown"`."""
        return [
            UNKNOWN if rejected else self.classes[winner]
            for winner, rejected in zip(self.winners, self.unknown, strict=True)
        ]

    def top(self, row: int, count: int) -> list[tuple[str, float]]:
        """The likeliest known classes of one image with their probabilities, best first."""
        order = np.argsort(-self.probabilities[row], kind="stable")[:count]
        return [(self.classes[i], float(self.probabilities[row, i])) for i in order]


class TrainedModel:
    """A trained network with its fitted scorers; made by `load`.

    Attributes:
        description: what model.toml says.
        network: backbone and loss in evaluation mode.
        device: where it computes.
        pixel_scale: from uint8 pixels to the network's input.
        scorer_names: the scorers that were fitted.
    """

    def __init__(
        self,
        folder: Path,
        device: str = "auto",
        scorer: str | None = None,
        plugins: Registry | None = None,
    ) -> None:
        self.folder = folder
        self._plugins = plugins or registry()
        self.device = torch.device(pick_device(device))
        network, self.description = load_model(folder, self.device, self._plugins)
        self.network = network.to(memory_format=torch.channels_last)
        self.pixel_scale = PixelScale(self.description.image, self.device)
        self._fitted: dict[str, FittedScorer] = {}
        self._files: dict[str, bytes] | None = None
        self.scorer_names = fitted_scorers(folder)
        if scorer is not None:
            self._scorer = self._known(scorer)
        else:
            own = self.description.scorer
            if not own:  # written before models said
                defaults = self._plugins.find(self.description.loss.name, ("loss",)).spec
                own = next(iter(defaults.default_scorers), "")
            self._scorer = deciding_scorer(own, self.scorer_names) if self.scorer_names else ""

    def __repr__(self) -> str:
        network = f"{self.description.loss.name} on {self.description.backbone.name}"
        scorer = self._scorer or "-"
        return f"<TrainedModel {network}, {len(self.classes)} classes, scorer {scorer}>"

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the known classes, in label order."""
        return self.description.classes

    @property
    def scorer(self) -> str:
        """The scorer that decides."""
        if not self._scorer:
            raise ModelError(
                f"model {self.folder} has no fitted scorer; `openset score RUN` makes one"
            )
        return self._scorer

    @property
    def threshold(self) -> float:
        """The stored threshold of the scorer that decides; a score above it means unknown."""
        return self.fitted(None).record.threshold

    def threshold_by(self, choice: ThresholdChoice) -> float:
        """The threshold that a choice means for the scorer that decides."""
        if choice.score is not None:
            return choice.score
        path = RunFolder(self.folder.parent).scores
        scores = stored_scores(path, self.scorer, "validation")
        if scores is None or not len(scores):
            raise ModelError(
                f"{path} holds no validation scores of {self.scorer}, which a share to accept is "
                "measured on; give the threshold as score=VALUE"
            )
        return choice.value(scores)

    def _known(self, name: str) -> str:
        names = self.scorer_names
        if name not in names:
            raise ModelError(
                f"model {self.folder} has no fitted scorer {name!r}{did_you_mean(name, names)}; it "
                f"has {', '.join(names) or 'none'}; `openset score RUN --plugins NAME` adds others"
            )
        return name

    def fitted(self, name: str | None = None) -> FittedScorer:
        """A fitted scorer, the one that decides by default."""
        name = self.scorer if name is None else self._known(name)
        if name not in self._fitted:
            loaded = load_scorer(self.folder, file_name(name))
            if loaded is None:
                raise ModelError(
                    f"scorer {name} of model {self.folder} lacks a file; `openset score RUN` makes "
                    "it again"
                )
            record, state = loaded
            component, options = scorer_component(record, self.folder, self._plugins)
            scorer = build_scorer(component, options)
            try:
                with attribute_errors(component, "cannot take back its state"):
                    scorer.restore(state)
            except PluginError as error:
                raise ModelError(str(error)) from error
            self._fitted[name] = FittedScorer(component=component, scorer=scorer, record=record)
        return self._fitted[name]

    def predict(
        self,
        images: Any,
        *,
        scorer: str | None = None,
        threshold: float | None = None,
        batch_size: int = BATCH_SIZE,
    ) -> list[str]:
        """The class of each image, or `"unknown"`.

        Args:
            images: one image or many: paths, PIL images, uint8 arrays [H, W], [H, W, C] or
                [N, H, W, C], uint8 torch tensors [C, H, W] or [N, C, H, W], or a list of single
                ones, of different sizes if need be.
            scorer: another fitted scorer than the one that decides.
            threshold: another threshold than the stored one, a score.
            batch_size: images that the network sees at once.

        Returns:
            A name an image, in order; a list of one for a single image.

        Raises:
            DataError: something is no image, or a file cannot be read.
            ModelError: no such scorer.
        """
        return self.predictions(
            images, scorer=scorer, threshold=threshold, batch_size=batch_size
        ).labels

    def predict_proba(self, images: Any, *, batch_size: int = BATCH_SIZE) -> Floats:
        """Probabilities of the known classes, float64 [n, K] in the order of `classes`."""
        return probabilities(self.features(images, batch_size=batch_size)["logits"])

    def scores(
        self, images: Any, scorer: str | None = None, *, batch_size: int = BATCH_SIZE
    ) -> Floats:
        """How unknown each image is, float64 [n]; higher = more unknown."""
        chosen = self.fitted(scorer)
        return self._scored(chosen, self.features(images, batch_size=batch_size))

    def predictions(
        self,
        images: Any,
        *,
        scorer: str | None = None,
        threshold: float | None = None,
        batch_size: int = BATCH_SIZE,
    ) -> Predictions:
        """Everything at once; arguments as for `predict`."""
        chosen = self.fitted(scorer)
        return self._decided(chosen, self.features(images, batch_size=batch_size), threshold)

    def stream(
        self,
        pieces: Iterable[Tensor],
        *,
        scorer: str | None = None,
        threshold: float | None = None,
        batch_size: int = BATCH_SIZE,
    ) -> Iterator[Predictions]:
        """Predictions batch by batch, for more images than fit into memory.

        Pieces are uint8 [b, C, size, size] as `inference_input` makes them; the other arguments are
        as for `predict`.
        """
        chosen = self.fitted(scorer)
        for table in self._tables(pieces, batch_size):
            yield self._decided(chosen, table, threshold)

    def features(
        self, images: Any, *, batch_size: int = BATCH_SIZE
    ) -> dict[str, npt.NDArray[np.float32]]:
        """`embedding` [n, E] and `logits` [n, K], float32, as the feature store keeps them."""

        tables = list(self._tables(inference_inputs(images, self.description.image), batch_size))
        if not tables:  # no image: the widths of a made-up one, without its row
            image = self.description.image
            blank = torch.zeros((1, image.channels, image.size, image.size), dtype=torch.uint8)
            (table,) = self._tables([blank], 1)
            return {name: array[:0] for name, array in table.items()}
        return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}

    @torch.inference_mode()
    def _tables(
        self, pieces: Iterable[Tensor], batch_size: int
    ) -> Iterator[dict[str, npt.NDArray[np.float32]]]:
        for batch in regrouped(pieces, batch_size):
            embedding, logits = self.network(self.pixel_scale(batch.to(self.device)))
            yield {"embedding": as_float(embedding), "logits": as_float(logits)}

    def _scored(self, chosen: FittedScorer, table: dict[str, Any]) -> Floats:
        if not len(table["logits"]):
            return np.zeros(0)
        try:
            return checked_scores(chosen.scorer, table, chosen.component, "the images")
        except KeyError as error:
            component = chosen.component
            raise ModelError(
                f"scorer {component.name} of {component.distribution} {component.version} asks for "
                f"{error}, which new images do not have; they have {' and '.join(table)}"
            ) from error

    def _decided(
        self, chosen: FittedScorer, table: dict[str, Any], threshold: float | None
    ) -> Predictions:
        return Predictions(
            classes=self.classes,
            probabilities=probabilities(table["logits"]),
            winners=table["logits"].argmax(axis=1),
            scores=self._scored(chosen, table),
            threshold=chosen.record.threshold if threshold is None else threshold,
        )

    def artefact(self) -> dict[str, bytes]:
        """The model's files by their paths within the model folder; safetensors and TOML."""
        if self._files is not None:
            return self._files
        return {
            path.relative_to(self.folder).as_posix(): path.read_bytes()
            for path in sorted(self.folder.rglob("*"))
            if path.suffix in _SUFFIXES and not path.name.startswith(".")
        }

    @classmethod
    def from_artefact(
        cls, files: dict[str, bytes], scorer: str | None = None, device: str = "auto"
    ) -> TrainedModel:
        """The model that `artefact` gave the files of; it needs no folder any more."""
        with tempfile.TemporaryDirectory(prefix="openset-model-") as place:
            folder = Path(place)
            for name, content in files.items():
                path = folder / name
                if path.suffix not in _SUFFIXES or not path.resolve().is_relative_to(
                    folder.resolve()
                ):
                    raise ModelError(f"{name!r} is no file of a model")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            model = cls(folder, device, scorer)
            for name in model.scorer_names:
                model.fitted(name)
        model._files = dict(files)
        return model

    def __reduce__(self) -> Any:
        """Pickled as its files; unpickling checks them as loading does."""
        return TrainedModel.from_artefact, (self.artefact(), self._scorer or None)


def probabilities(logits: npt.NDArray[Any]) -> Floats:
    """Softmax over the known classes, float64 [n, K]."""
    exponents = logits.astype(np.float64)
    exponents -= exponents.max(axis=1, keepdims=True)
    np.exp(exponents, out=exponents)
    exponents /= exponents.sum(axis=1, keepdims=True)
    return exponents


def model_folder(path: str | Path) -> Path:
    """The model folder of a run folder, or the folder itself when it is one."""
    path = Path(path)
    for folder in (path / "model", path):
        if (folder / TOML_NAME).exists():
            return folder
    if (path / "experiment.toml").exists():
        raise ModelError(f"{path} has no trained model yet; go on with: openset run {path}")
    what = "does not exist" if not path.exists() else f"holds no model ({TOML_NAME})"
    raise ModelError(f"{path} {what}; name a run folder or its model/ folder")


def load(path: str | Path, *, device: str = "auto", scorer: str | None = None) -> TrainedModel:
    """Load a trained model.

    >>> model = openset_core.load("runs/x")          # doctest: +SKIP
    >>> model.predict(["cat.jpg", "stone.jpg"])      # doctest: +SKIP
    ['cat', 'unknown']

    Args:
        path: a run folder or its `model/` folder.
        device: `"auto"`, or `"cpu"` to leave a GPU alone.
        scorer: the fitted scorer that decides; by default the method's own.

    Raises:
        ModelError: missing, damaged, altered, or of a plugin that is not installed.
    """
    return TrainedModel(model_folder(path), device, scorer)
