"""A model as ONNX: one graph, `input_ids` (batch, time) int64 to `logits` (batch, time, V) float32;
of an encoder-decoder a source `input_ids` (batch, source) and `decoder_input_ids` (batch, time).

Written by torch's own exporter (`torch.onnx.export` on top of `torch.export`), with all axes of
any size up to the context. The file is checked by ONNX's own checker and, where ONNX Runtime is
installed, run on shapes that were not traced. Left out: other dtypes than float32, and a cache of
keys and values.
"""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from toolkit.errors import MissingExtraError
from toolkit.exporting.source import (
    Checked,
    Logits,
    Source,
    example_inputs,
    fixed_time_error,
    inputs_of,
    largest_difference,
)
from toolkit.files import replace_file

# What the exporter writes by itself, so that nothing is converted afterwards. It has all that these
# models need, and every ONNX Runtime since 1.14 (of 2023) reads it.
OPSET = 18
# Protobuf cannot hold more than 2 GiB; larger weights go into a second file beside the graph.
MAX_ONE_FILE = 2**31 - 2**20


def write(source: Source, path: Path, dtype: str) -> Checked:
    """Write the file `path`, check it and run it. `dtype` is float32.

    Raises:
        MissingExtraError: onnx or onnxscript is not installed.
        UsageError: the model takes one length alone when it is traced.
    """
    try:
        import onnx

        importlib.import_module("onnxscript")  # torch's exporter needs it
    except ImportError as error:
        raise MissingExtraError("export", "Writing ONNX") from error
    model = source.model
    program = _trace(source)
    graph = program.model.graph
    if model.block_size > 1 and any(isinstance(each.shape[1], int) for each in graph.inputs):
        raise fixed_time_error("onnx", model)
    for node in graph.all_nodes():
        node.metadata_props.clear()  # where in our files each operation came from
    weights = sum(parameter.numel() * 4 for parameter in model.parameters())
    with replace_file(path) as temporary:
        program.save(temporary, external_data=weights > MAX_ONE_FILE)
        onnx.checker.check_model(temporary, full_check=True)
        difference, what = _run(model, temporary)
        names = [file.name for file in temporary.parent.iterdir()]
    return Checked(tuple(path.parent / name for name in sorted(names)), difference, what)


def _trace(source: Source) -> Any:
    """The model as torch's ONNXProgram."""
    model = source.model
    batch = torch.export.Dim("batch", min=1)
    axes = {}
    for name, length in inputs_of(model).items():
        axes[name] = {0: batch}
        if model.block_size > 1:
            axes[name][1] = torch.export.Dim(length, min=1, max=model.block_size)
    with _expected_warnings(), torch.no_grad():
        return torch.onnx.export(
            Logits(model).eval(),
            example_inputs(model, 2, 5),
            dynamo=True,
            dynamic_shapes=axes,
            input_names=list(axes),
            output_names=["logits"],
            opset_version=OPSET,
            verbose=False,
        )


def _run(model: Any, path: Path) -> tuple[float | None, str]:
    """How far ONNX Runtime's logits are from torch's, if it is installed."""
    try:
        import onnxruntime
    except ImportError:
        return None, "onnx.checker alone: onnxruntime is not installed"
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(*inputs: Tensor) -> Tensor:
        arrays = [tensor.numpy() for tensor in inputs]
        feed = dict(zip(inputs_of(model), arrays, strict=True))
        return torch.from_numpy(session.run(["logits"], feed)[0])

    return largest_difference(model, run), "logits of ONNX Runtime and torch"


@contextmanager
def _expected_warnings() -> Iterator[None]:
    # One warning for each operation of torchvision's that it cannot write, as if it were needed.
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registration.level
    registration.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # torch's own use of its own old name, when it copies the traced program.
            warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning)
            # A source and its target are one batch: one of the two axes lends it its name.
            warnings.filterwarnings("ignore", "# The axis name: batch will not be used")
            yield
    finally:
        registration.setLevel(level)
