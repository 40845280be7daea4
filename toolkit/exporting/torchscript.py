"""A traced model as one `.pt` file, which `torch.jit.load` opens without any code of toolkit's.

A trace records the operations that one input takes; sizes stay symbols, so it takes any (B, T) up
to the model's `block_size` (of an encoder-decoder a source (B, S) before them). It checks no ids.
torch has called TorchScript deprecated since 2.9 and points to torch.export: this is for programs
that still load it, such as those in C++.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.jit import TracerWarning  # type: ignore[attr-defined]  # torch does not list it

from toolkit.exporting.source import (
    Checked,
    Logits,
    Source,
    example_inputs,
    fixed_time_error,
    largest_difference,
)
from toolkit.files import replace_file


def write(source: Source, path: Path, dtype: str) -> Checked:
    """Write the file `path`, load it and compare. `dtype` is float32.

    Raises:
        UsageError: the model takes one length alone when it is traced.
    """
    model = source.model
    with _expected_warnings(), torch.no_grad(), replace_file(path) as temporary:
        # What torch would compare the trace with is the input it was made of; other shapes are
        # compared below.
        example = example_inputs(model, 2, 5)
        traced = torch.jit.trace(Logits(model).eval(), example, check_trace=False)  # type: ignore[no-untyped-call]  # of torch
        torch.jit.save(traced, temporary)
        loaded = torch.jit.load(temporary)  # type: ignore[no-untyped-call]  # of torch
        try:
            difference = largest_difference(model, loaded)
        except RuntimeError as error:
            raise fixed_time_error("torchscript", model) from error
    return Checked((path,), difference, "logits of the file, loaded again")


@contextmanager
def _expected_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        # The user asked for this format; the page on exporting says that it is deprecated.
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", DeprecationWarning)
        # That checks of arguments become constants: they hold for every shape, and other shapes
        # than the traced one are compared.
        warnings.filterwarnings("ignore", category=TracerWarning)
        yield
