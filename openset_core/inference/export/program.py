"""The traced program, which both file formats start from, and the metadata of a file."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import torch

import openset_core
from openset_core.errors import ModelError
from openset_core.experiment import config
from openset_core.inference.export.checking import check_scorer
from openset_core.inference.export.export_module import PreparedExport


def traced(exported: PreparedExport) -> Any:
    """The module as a `torch.export.ExportedProgram` for any number and size of images."""
    check_scorer(exported)
    image = exported.model.description.image
    # All extents differ, so that the exporter does not take two of them for one.
    height, width = 2 * image.size + 5, 2 * image.size + 3
    images = torch.zeros((2, image.channels, height, width), dtype=torch.uint8)
    threshold = torch.tensor(exported.threshold, dtype=torch.float64)
    free = {0: torch.export.Dim("N", min=1)}
    free |= {2: torch.export.Dim("H", min=1), 3: torch.export.Dim("W", min=1)}
    shapes = {"images": free, "threshold": None}
    with torch_errors_explained(exported, "torch.export"), quiet(), torch.no_grad():
        return torch.export.export(exported.module, (images, threshold), dynamic_shapes=shapes)


@contextlib.contextmanager
def torch_errors_explained(exported: PreparedExport, target: str) -> Iterator[None]:
    """Turn an exporter's failure, of whatever kind, into one sentence."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:  # the exporters' own texts are advice to developers
            cause = cause.__cause__
        lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
        model = exported.model.description
        raise ModelError(
            f"{model.loss.name} on {model.backbone.name} with {exported.fitted.component.name} "
            f"cannot be exported to {target} by torch {torch.__version__}: {type(cause).__name__}"
            f"{': ' + lines[0] if lines else ''}"
        ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence an exporter's notes; errors are raised."""
    muted = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(muted)


def description(exported: PreparedExport) -> dict[str, str]:
    """A file's metadata; `classes` and `image` are JSON."""
    model = exported.model.description
    record = exported.fitted.record
    values = {
        "classes": json.dumps(list(model.classes)),
        "scorer": record.scorer.name,
        "threshold": repr(record.threshold),
        "image": json.dumps(config.unstructure(model.image)),
        "loss": model.loss.name,
        "backbone": model.backbone.name,
        "weights_sha256": model.weights_sha256,
        "openset": openset_core.__version__,
    }
    if record.acceptance is not None:
        values["acceptance"] = repr(record.acceptance)
    return {f"openset.{name}": text for name, text in values.items()}
