"""Models in the files of other programs: Hugging Face folders, GGUF, ONNX, TorchScript.

    exported = export("runs/first", "onnx", "model.onnx")

A format is one file of this folder and one entry in `formats.FORMATS`.
"""

from __future__ import annotations

from toolkit.exporting.formats import FORMATS as FORMATS
from toolkit.exporting.formats import Exported as Exported
from toolkit.exporting.formats import export as export

__all__ = ["FORMATS", "Exported", "export"]
