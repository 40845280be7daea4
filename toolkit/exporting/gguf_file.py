"""A model as one GGUF file, the format of llama.cpp and what is built on it.

Architectures gpt2, llama and qwen3, with the metadata that llama.cpp's converter writes for them
and tensors under the names of the `gguf` package's own tables. Matrices are in the dtype that was
asked for, norms, biases and position embeddings always in float32, as the converter has them. A
tied head is not stored again.

Left out: other architectures, other quantisations than Q8_0, files in several parts.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from toolkit.errors import MissingExtraError, UsageError
from toolkit.exporting.gguf_tokenizer import add_tokenizer
from toolkit.exporting.source import Checked, Source
from toolkit.files import replace_file
from toolkit.models import LanguageModel, hf_config, to_hf_state_dict
from toolkit.models.config import GPTConfig

ARCHITECTURES = ("gpt2", "llama", "qwen3")
_TYPES = {
    "float32": ("F32", "ALL_F32"),
    "float16": ("F16", "MOSTLY_F16"),
    "bfloat16": ("BF16", "MOSTLY_BF16"),
    "q8_0": ("Q8_0", "MOSTLY_Q8_0"),
}
_Array = npt.NDArray[np.float32]


def write(source: Source, path: Path, dtype: str) -> Checked:
    """Write the file `path`, read it back and compare the numbers of every tensor.

    Raises:
        MissingExtraError: `gguf` is not installed.
        UsageError: the model's parts are of no architecture here, or the tokenizer has no form in
            GGUF.
    """
    try:
        import gguf
    except ImportError as error:
        raise MissingExtraError("export", "Writing GGUF") from error
    architecture = _architecture(source.model)
    quantised, file_type = _TYPES[dtype]
    logging.getLogger("gguf").setLevel(logging.WARNING)  # it tells of every key that it writes
    with replace_file(path) as temporary:
        writer = gguf.GGUFWriter(temporary, architecture)
        writer.add_type("model")
        writer.add_name(source.name)
        writer.add_file_type(gguf.LlamaFileType[file_type])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        _add_shape(writer, source.model.config, architecture)
        add_tokenizer(writer, source)
        for name, array in tensors(source.model, architecture):
            kind = _type_of(name, array, gguf.GGMLQuantizationType[quantised])
            writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        difference = _largest_difference(source.model, architecture, temporary)
    return Checked((path,), difference, "weights of the file, read back")


def tensors(model: LanguageModel, architecture: str) -> Iterator[tuple[str, _Array]]:
    """Every tensor as GGUF names and lays it out, in float32."""
    import gguf

    by_name = {name: arch for arch, name in gguf.MODEL_ARCH_NAMES.items()}
    config = model.config
    assert isinstance(config, GPTConfig)
    names = gguf.get_tensor_name_map(by_name[architecture], config.n_layer)
    for hf_name, tensor in to_hf_state_dict(model).items():
        name = names.get_name(hf_name, try_suffixes=(".weight", ".bias"))
        assert name is not None, hf_name
        array: _Array = tensor.float().numpy()
        if architecture == "gpt2" and ".c_" in hf_name and array.ndim == 2:
            array = array.T  # GPT-2's files hold these four transposed
        elif architecture == "llama" and ".q_proj." in hf_name:
            array = interleave_pairs(array, config.n_head)
        elif architecture == "llama" and ".k_proj." in hf_name:
            array = interleave_pairs(array, config.n_kv_head)
        yield name, np.ascontiguousarray(array)


def interleave_pairs(rows: _Array, n_head: int) -> _Array:
    """The rows of queries or keys in the order in which llama.cpp rotates a llama's.

    Rotary positions turn pairs of channels: (i, i + D/2) of each head in Hugging Face's files,
    neighbours (2i, 2i + 1) in GGUF's llama, as in the paper. For qwen3 both pair the halves.

    >>> interleave_pairs(np.arange(4, dtype=np.float32), n_head=1).tolist()
    [0.0, 2.0, 1.0, 3.0]
    """
    halves = rows.reshape(n_head, 2, -1, *rows.shape[1:])  # (H, 2, D/2, …)
    return halves.swapaxes(1, 2).reshape(rows.shape)


def _architecture(model: LanguageModel) -> str:
    if model.takes_source:
        raise UsageError(
            f"No GGUF architecture has the parts of an {model.name}, for llama.cpp has no Marian "
            "and no Pegasus. Use hf, onnx or torchscript."
        )
    values = hf_config(model.config) or {}
    architecture = values.get("model_type")
    if architecture not in ARCHITECTURES or values.get("use_sliding_window"):
        raise UsageError(
            f"No GGUF architecture has the parts of this {model.name} model: hf and gguf take the "
            "presets gpt2 and modern. onnx and torchscript take any model."
        )
    return str(architecture)


def _add_shape(writer: Any, config: Any, architecture: str) -> None:
    writer.add_context_length(config.block_size)
    writer.add_embedding_length(config.n_embd)
    writer.add_block_count(config.n_layer)
    writer.add_feed_forward_length(config.n_inner)
    writer.add_head_count(config.n_head)
    writer.add_vocab_size(config.vocab_size)
    if architecture == "gpt2":
        writer.add_layer_norm_eps(config.norm_eps)
        return
    writer.add_head_count_kv(config.n_kv_head)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    if architecture == "llama":
        writer.add_rope_dimension_count(config.head_dim)


def _type_of(name: str, array: _Array, wanted: Any) -> Any:
    """What a tensor is stored in: matrices as wanted, all else in float32."""
    import gguf

    kinds = gguf.GGMLQuantizationType
    if array.ndim == 1 or name.startswith("position_embd."):
        return kinds.F32
    # Blocks of quantised numbers do not cross rows.
    if wanted == kinds.Q8_0 and array.shape[1] % gguf.GGML_QUANT_SIZES[wanted][0]:
        return kinds.F16
    return wanted


def _largest_difference(model: LanguageModel, architecture: str, path: Path) -> float:
    import gguf

    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    largest = 0.0
    for name, array in tensors(model, architecture):
        read = gguf.quants.dequantize(stored[name].data, stored[name].tensor_type)
        largest = max(largest, float(np.abs(read.reshape(array.shape) - array).max()))
    return largest
