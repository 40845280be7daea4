"""A folder that `AutoTokenizer` and `AutoModelForCausalLM` open (of an encoder-decoder
`AutoModelForSeq2SeqLM`).

A run is such a folder already; this one has nothing else in it, and the weights in the dtype that
was asked for. The layouts are those of `models.interop`.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch

from toolkit.errors import UsageError
from toolkit.exporting.source import Checked, Logits, Source, largest_difference
from toolkit.files import replace_folder, write_json
from toolkit.generation.translation import check_tokenizers
from toolkit.models import EncoderDecoderConfig, hf_config, load_pretrained, save_pretrained
from toolkit.models.pretrained import GENERATION_FILE
from toolkit.run import write_huggingface_tokenizer
from toolkit.tokenizers import Tokenizer


def write(source: Source, path: Path, dtype: str) -> Checked:
    """Write the folder `path`, and open it again.

    Raises:
        UsageError: no layout of Hugging Face's has the model's parts, or the tokenizer cannot be a
            tokenizer.json.
    """
    model = source.model
    if hf_config(model.config) is None:
        taken = "hf and gguf take the presets gpt2 and modern"
        if model.takes_source:
            taken = "hf takes what Marian and Pegasus have, which is one vocabulary and LayerNorm"
        raise UsageError(
            f"No Hugging Face layout has the parts of this {model.name} model: {taken}. onnx and "
            "torchscript take any model."
        )
    stored = model if dtype == "float32" else copy.deepcopy(model).to(getattr(torch, dtype))
    with replace_folder(path) as folder:
        if source.tokenizer is not None and not _write_tokenizer(source, source.tokenizer, folder):
            raise UsageError(
                f"The tokenizer {source.tokenizer.name} cannot be a tokenizer.json; write the "
                "weights alone with --no-tokenizer."
            )
        save_pretrained(stored, folder, **source.special_ids)
        if not model.takes_source:  # whose own file is there
            write_json(folder / GENERATION_FILE, source.special_ids)
    difference = largest_difference(model, Logits(load_pretrained(path)))
    files = tuple(sorted(path.iterdir()))
    return Checked(files, difference, "logits of the folder, opened again")


def _write_tokenizer(source: Source, tokenizer: Tokenizer, folder: Path) -> bool:
    config = source.model.config
    translates = False
    if isinstance(config, EncoderDecoderConfig):
        check_tokenizers(config, tokenizer)
        # One that was opened from such a folder has the model's own ids already.
        translates = tokenizer.vocab_size < config.vocab_size
    return write_huggingface_tokenizer(
        tokenizer, folder, config.block_size, source.special_ids, translates=translates
    )
