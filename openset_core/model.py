"""The trained artefact: a folder of safetensors and TOML that loads without running code.

model/model.toml              parts, options, classes, preprocessing, hashes, versions
model/weights.safetensors     backbone and loss, without what only training needs
model/scorers/NAME.safetensors  what each scorer learnt
model/scorers/NAME.toml       its options, its threshold, the hash of its arrays

Each TOML file ends with the hash of what it says, so that damage and careless edits are noticed. It
is no signature: whoever means to deceive can compute it anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from openset_core import config
from openset_core.errors import CompositionError, ModelError, PluginError
from openset_core.files import replacing, sha256, write_text
from openset_core.plugins import Part, Registry, registry
from openset_core.protocols import ImageOptions

if TYPE_CHECKING:
    import torch

    from openset_core.components import OpenSetModel
    from openset_core.experiment import Experiment

FORMAT = 2
TOML_NAME = "model.toml"
SEAL = "sha256"
"""Key of the hash that a TOML file carries of the rest of what it says."""

WEIGHTS_NAME = "weights.safetensors"


@attrs.frozen(kw_only=True)
class PartRecord:
    """A part of a saved model.

    Attributes:
        name: the part's name.
        distribution: who offers it.
        version: version of the distribution when the model was saved.
        options: the part's options.
    """

    name: str
    distribution: str
    version: str
    options: dict[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class ModelDescription:
    """What model.toml says.

    Attributes:
        format: version of the file format.
        backbone: the backbone.
        loss: the representation loss.
        classes: names of the known classes, in label order.
        image: preprocessing.
        weights_sha256: hash of the weights file.
        parameters: number of parameters.
        experiment: digest of the experiment that made the model.
        versions: versions of the libraries that made it.
        scorer: the scorer that decides unless another is asked for.
    """

    format: int
    backbone: PartRecord
    loss: PartRecord
    classes: tuple[str, ...]
    image: ImageOptions
    weights_sha256: str
    parameters: int
    experiment: str
    versions: dict[str, str]
    scorer: str = ""


def build_model(
    backbone: tuple[Part, Any],
    loss: tuple[Part, Any],
    num_classes: int,
    image: ImageOptions,
    generator: tuple[Part, Any] | None = None,
    *,
    initial_weights: bool = True,
    label_smoothing: float = 0.0,
) -> OpenSetModel:
    """Build an untrained model from parts and their options.

    Args:
        backbone: the backbone and its options.
        loss: the representation loss and its options.
        num_classes: K.
        image: preprocessing.
        generator: the sample generator and its options, or None.
        initial_weights: false when saved weights are loaded into the model next.
        label_smoothing: of the loss's cross entropy, see `LossContext`.

    Raises:
        CompositionError: a part refuses its partners, or does not keep its contract.
    """
    from openset_core.components import (
        Backbone,
        BackboneContext,
        GeneratorContext,
        LossContext,
        OpenSetModel,
        RepresentationLoss,
        SampleGenerator,
    )

    network = _built(
        backbone,
        BackboneContext(
            channels=image.channels,
            image_size=image.size,
            pixel_mean=image.per_channel(image.mean),
            pixel_std=image.per_channel(image.std),
            initial_weights=initial_weights,
        ),
        Backbone,
    )
    context = LossContext(
        num_classes=num_classes,
        vector_dim=network.vector_dim,
        maps=tuple(network.feature_info),
        image_size=image.size,
        channels=image.channels,
        backbone=backbone[0].name,
        label_smoothing=label_smoothing,
    )
    head = _built(loss, context, RepresentationLoss)
    maker = None
    if generator is not None:
        maker = _built(
            generator,
            GeneratorContext(
                num_classes=num_classes,
                channels=image.channels,
                image_size=image.size,
                pixel_mean=image.per_channel(image.mean),
                pixel_std=image.per_channel(image.std),
            ),
            SampleGenerator,
        )
    return OpenSetModel(network, head, maker)


def _built(part: tuple[Part, Any], context: Any, expected: type) -> Any:
    found, options = part
    made = found.load()(options, context)
    if not isinstance(made, expected):
        raise CompositionError(
            f"{found.kind} {found.name} of {found.distribution} {found.version} built a "
            f"{type(made).__name__}, not a {expected.__name__}"
        )
    return made


def save_model(
    folder: Path, model: OpenSetModel, experiment: Experiment, classes: tuple[str, ...]
) -> ModelDescription:
    """Write a trained model, weights first, so that model.toml marks it complete."""
    import torch
    from safetensors.torch import save_file

    model = model.for_inference()
    tensors = {
        # Copied, because safetensors refuses layers that share one tensor, as CoaT's do.
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in model.state_dict().items()
    }
    with replacing(folder / WEIGHTS_NAME) as temporary:
        save_file(tensors, temporary)
    description = ModelDescription(
        format=FORMAT,
        backbone=_record(experiment.selection.backbone, experiment),
        loss=_record(experiment.selection.loss, experiment),
        classes=classes,
        image=experiment.protocol.content.image,
        weights_sha256=sha256(folder / WEIGHTS_NAME),
        parameters=model.parameter_count(),
        experiment=experiment.digest,
        versions=library_versions(),
        scorer=_deciding_scorer(experiment),
    )
    write_sealed(folder / TOML_NAME, config.unstructure(description))
    return description


def _deciding_scorer(experiment: Experiment) -> str:
    """The method's own score rule if it was chosen, else the first that was."""
    names = [part.name for part in experiment.selection.scorers]
    own = experiment.default_scorer
    return own if own in names or not names else names[0]


def seal(values: Mapping[str, Any]) -> str:
    """Hash of what a TOML file says, its own hash aside; comments and layout do not count."""
    content = {key: value for key, value in values.items() if key != SEAL}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def write_sealed(path: Path, values: Mapping[str, Any]) -> None:
    """Write a TOML file that carries the hash of what it says."""
    import tomli_w

    # A plain value would be part of the last table if it came after one.
    tables = {key: value for key, value in values.items() if isinstance(value, dict)}
    plain = {key: value for key, value in values.items() if key not in tables}
    write_text(path, tomli_w.dumps({**plain, SEAL: seal(values), **tables}))


def check_seal(path: Path, values: Mapping[str, Any], advice: str) -> None:
    """Refuse a TOML file that was changed after it was written."""
    if values.get(SEAL) != seal(values):
        raise ModelError(
            f"{path} is damaged or was changed by hand: what it says does not fit its {SEAL}; "
            f"{advice}"
        )


def _record(part: Part, experiment: Experiment) -> PartRecord:
    return PartRecord(
        name=part.name,
        distribution=part.distribution,
        version=part.version,
        options=config.unstructure(experiment.options[part.name]),
    )


def read_description(folder: Path) -> ModelDescription:
    """Read model.toml.

    Raises:
        ModelError: missing, damaged, or of another format.
    """
    values = config.read_toml(folder / TOML_NAME, "model", ModelError)
    found = values.get("format")
    if found != FORMAT:
        raise ModelError(f"model {folder} has format {found!r}, this openset reads {FORMAT}")
    content = {key: value for key, value in values.items() if key != SEAL}
    description = config.structure(
        content, ModelDescription, f"model {folder / TOML_NAME}", ModelError
    )
    check_seal(folder / TOML_NAME, values, "bring back the file, or train again")
    return description


def check_weights(folder: Path, description: ModelDescription) -> None:
    """Refuse weights that are missing or were changed after the model was saved."""
    path = folder / WEIGHTS_NAME
    if not path.exists():
        raise ModelError(f"model {folder} lacks {WEIGHTS_NAME}; train it again")
    if sha256(path) != description.weights_sha256:
        raise ModelError(
            f"{path} is damaged or was changed: its hash is not the one in {TOML_NAME}; train again"
        )


def load_model(
    folder: Path, device: torch.device | str = "cpu", plugins: Registry | None = None
) -> tuple[OpenSetModel, ModelDescription]:
    """Rebuild a saved model for inference.

    Raises:
        ModelError: the files are damaged, altered, or need a plugin that is not installed.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    description = read_description(folder)
    check_weights(folder, description)
    parts = [
        _find(kind, record, folder, plugins or registry())
        for kind, record in (("backbone", description.backbone), ("loss", description.loss))
    ]
    model = build_model(
        parts[0],
        parts[1],
        len(description.classes),
        description.image,
        initial_weights=False,
    )
    model = model.for_inference()
    try:
        model.load_state_dict(load_file(folder / WEIGHTS_NAME))
    except (SafetensorError, RuntimeError) as error:
        raise ModelError(
            f"model {folder} does not fit the installed plugins: {str(error).splitlines()[0]}"
        ) from error
    return model.to(device), description


def _find(kind: str, record: PartRecord, folder: Path, plugins: Registry) -> tuple[Part, Any]:
    try:
        part = plugins.find(f"{record.distribution}/{kind}:{record.name}", (kind,))
    except PluginError as error:
        raise ModelError(
            f"model {folder} needs {kind} {record.name}; install {record.distribution} "
            f"{record.version} ({error})"
        ) from error
    where = f"model {folder}: {record.name}"
    return part, config.structure(record.options, part.spec.config, where, ModelError)


def library_versions() -> dict[str, str]:
    """Versions of openset and of the libraries that decide results."""
    import importlib.metadata
    import platform

    from openset_core import __version__

    versions = {"openset": __version__, "python": platform.python_version()}
    for name in ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "timm"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


# --- scorers of a model -----------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class ScorerRecord:
    """A fitted scorer beside a model.

    Attributes:
        scorer: the part and its options.
        features: key of the features it was fitted on.
        threshold: a score above it means unknown.
        state_sha256: hash of the arrays file.
        acceptance: share of validation samples that the threshold was set to accept; None for a
            threshold that was given as a score.
    """

    scorer: PartRecord
    features: str
    threshold: float
    state_sha256: str
    acceptance: float | None = None


def save_scorer(
    folder: Path, file_name: str, state: Mapping[str, np.ndarray[Any, Any]], record: ScorerRecord
) -> None:
    """Write a fitted scorer; the TOML file marks it complete."""
    from safetensors.numpy import save_file

    path = folder / "scorers" / f"{file_name}.safetensors"
    with replacing(path) as temporary:
        save_file({name: np.ascontiguousarray(array) for name, array in state.items()}, temporary)
    save_record(folder, file_name, attrs.evolve(record, state_sha256=sha256(path)))


def save_record(folder: Path, file_name: str, record: ScorerRecord) -> None:
    """Write a fitted scorer's TOML file alone, beside arrays that stay."""
    write_sealed(folder / "scorers" / f"{file_name}.toml", config.unstructure(record))


def fitted_scorers(folder: Path) -> tuple[str, ...]:
    """Names of the scorers that were fitted for a model, in alphabetical order.

    Raises:
        ModelError: a scorer's description is damaged.
    """
    names = []
    for path in sorted((folder / "scorers").glob("*.toml")):
        if path.with_suffix(".safetensors").exists():
            scorer = config.read_toml(path, "scorer", ModelError).get("scorer")
            if not isinstance(scorer, dict) or not isinstance(scorer.get("name"), str):
                raise ModelError(f"scorer {path} is damaged; delete it to fit the scorer again")
            names.append(scorer["name"])
    return tuple(sorted(names))


def scorer_part(record: ScorerRecord, folder: Path, plugins: Registry) -> tuple[Part, Any]:
    """The part and options of a fitted scorer.

    Raises:
        ModelError: its plugin is not installed, or has other options.
    """
    return _find("scorer", record.scorer, folder, plugins)


def load_scorer(folder: Path, file_name: str) -> tuple[ScorerRecord, dict[str, Any]] | None:
    """Read a fitted scorer; None when there is none, or one from before files were sealed.

    Raises:
        ModelError: the files are damaged or altered.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    arrays, description = (
        folder / "scorers" / f"{file_name}.{suffix}" for suffix in ("safetensors", "toml")
    )
    if not (arrays.exists() and description.exists()):
        return None
    values = config.read_toml(description, "scorer", ModelError)
    content = {key: value for key, value in values.items() if key != SEAL}
    record = config.structure(content, ScorerRecord, f"scorer {description}", ModelError)
    if SEAL not in values:
        return None
    check_seal(
        description,
        values,
        "`openset score RUN --threshold` sets another threshold; delete the file to fit the "
        "scorer again",
    )
    if sha256(arrays) != record.state_sha256:
        raise ModelError(f"{arrays} is damaged or was changed; delete it to fit the scorer again")
    try:
        return record, load_file(arrays)
    except SafetensorError as error:
        raise ModelError(f"{arrays} is damaged; delete it to fit the scorer again") from error
