"""Export to ONNX, checked through onnxruntime."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import torch

from openset_core.errors import ModelError
from openset_core.files import atomic_write
from openset_core.inference.export.checking import Array, check_file
from openset_core.inference.export.export_module import OUTPUTS, PreparedExport
from openset_core.inference.export.program import description, quiet, torch_errors_explained, traced

PACKAGES = ("onnx", "onnxruntime", "onnxscript")
INPUTS = ("images", "threshold")


def write(exported: PreparedExport, path: Path) -> float:
    """Write an ONNX file, whole or not at all.

    Inputs: `images` uint8 [N, C, H, W] of any size, and `threshold`, a float64 scalar that may be
    left out: its default is the stored one. Outputs: see `ExportModule.forward`. Class names,
    scorer, threshold and preprocessing are in the file's metadata.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ModelError(
            f"export to ONNX needs {', '.join(missing)}; install with: pip install 'openset[onnx]'"
        )
    program = traced(exported)
    with torch_errors_explained(exported, "ONNX"), quiet():
        converted = torch.onnx.export(
            program,
            dynamo=True,
            input_names=INPUTS,
            output_names=OUTPUTS,
            external_data=False,
            verbose=False,
        )
        assert converted is not None
        proto = converted.model_proto
    _complete(proto, exported)
    with atomic_write(path) as temporary:
        import onnx

        try:
            onnx.checker.check_model(proto)
            temporary.write_bytes(proto.SerializeToString())
        except ValueError as error:  # protobuf's limit of 2 GB
            raise ModelError(f"the model is too large for one ONNX file: {error}") from error
        return _checked(exported, temporary)


def _complete(proto: Any, exported: PreparedExport) -> None:
    """Give the threshold its default, free axes their names, and the file its metadata."""
    import onnx

    threshold = np.array(exported.threshold, dtype=np.float64)
    # An initializer of an input's name is the input's default.
    proto.graph.initializer.append(onnx.numpy_helper.from_array(threshold, "threshold"))
    (images,) = (value for value in proto.graph.input if value.name == "images")
    named = {
        dim.dim_param: name
        for dim, name in zip(images.type.tensor_type.shape.dim, "NCHW", strict=True)
        if dim.dim_param
    }
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in named:
                dim.dim_param = named[dim.dim_param]
    onnx.helper.set_model_props(proto, description(exported))
    proto.doc_string = "openset: open-set classifier"


def _checked(exported: PreparedExport, path: Path) -> float:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Bytes, because a temporary file's name says nothing about its format.
    session = onnxruntime.InferenceSession(
        path.read_bytes(), options, providers=["CPUExecutionProvider"]
    )

    def run(images: Array, threshold: float) -> list[Array]:
        feed: dict[str, Array] = {"images": images}
        if threshold != exported.threshold:  # otherwise the default is tried
            feed["threshold"] = np.array(threshold, dtype=np.float64)
        outputs: list[Array] = session.run(list(OUTPUTS), feed)
        return outputs

    return check_file(exported, run, "onnxruntime")
