"""A folder that `AutoModelForCausalLM` and `AutoTokenizer` open.

A run is such a folder already; this one has nothing else in it, and the weights in the dtype that
was asked for. Layouts: GPT-2, Llama and Qwen3, as in `models.interop`.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch

from toolkit.errors import UsageError
from toolkit.exporting.source import Checked, Source, largest_difference
from toolkit.files import replace_folder, write_json
from toolkit.models import hf_config, load_pretrained, save_pretrained
from toolkit.models.pretrained import GENERATION_FILE
from toolkit.run import write_huggingface_tokenizer


def write(source: Source, path: Path, dtype: str) -> Checked:
    """Write the folder `path`, and open it again.

    Raises:
        UsageError: no layout of Hugging Face's has the model's parts, or the tokenizer cannot be a
            tokenizer.json.
    """
    model = source.model
    if hf_config(model.config) is None:
        raise UsageError(
            f"No Hugging Face layout has the parts of this {model.name} model: hf and gguf take "
            "the presets gpt2 and modern. onnx and torchscript take any model."
        )
    stored = model if dtype == "float32" else copy.deepcopy(model).to(getattr(torch, dtype))
    with replace_folder(path) as folder:
        if source.tokenizer is not None and not write_huggingface_tokenizer(
            source.tokenizer, folder, model.block_size, source.special_ids
        ):
            raise UsageError(
                f"The tokenizer {source.tokenizer.name} cannot be a tokenizer.json; write the "
                "weights alone with --no-tokenizer."
            )
        save_pretrained(stored, folder, **source.special_ids)
        write_json(folder / GENERATION_FILE, source.special_ids)
    again = load_pretrained(path)
    difference = largest_difference(model, lambda ids: again(ids).logits)
    files = tuple(sorted(path.iterdir()))
    return Checked(files, difference, "logits of the folder, opened again")
