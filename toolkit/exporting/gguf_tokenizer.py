"""A byte-level BPE as GGUF's "gpt2" vocabulary: tokens, their types, merges, and a split pattern.

GGUF names split patterns rather than holding them (`tokenizer.ggml.pre`), and readers such as
llama.cpp know these names alone. So a tokenizer whose pattern has no name there is refused: its
ids would differ silently. Likewise one without merges (byte, char): such readers take no
BPE without any, and an empty list has no form in GGUF.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from toolkit.errors import UsageError
from toolkit.exporting.source import Source
from toolkit.tokenizers.bpe.patterns import PATTERNS

NORMAL, CONTROL, UNUSED = 1, 3, 5  # GGUF's types of tokens

_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PRE_TOKENIZERS: dict[str | None, str] = {
    PATTERNS["gpt2"]: "gpt-2",
    PATTERNS["o200k"]: "gpt-4o",
    # That of a model with cl100k's tokenizer; it cuts whitespace at the end of a text otherwise.
    PATTERNS["cl100k"]: "dbrx",
    _LLAMA3: "llama-bpe",
    _LLAMA3.replace("{1,3}", ""): "qwen2",
}
"""What the converter of llama.cpp calls each split pattern."""


def add_tokenizer(writer: Any, source: Source) -> None:
    """Put the tokenizer of `source` into a GGUFWriter, or the word that there is none.

    Raises:
        UsageError: it has no form in GGUF.
    """
    if source.tokenizer is None:
        writer.add_tokenizer_model("none")
        return
    content = source.tokenizer.to_huggingface()
    if content is None or content["model"].get("type") != "BPE":
        _refuse(source, "is no byte-level BPE that can be a tokenizer.json")
    merges = content["model"]["merges"]
    if not merges:
        _refuse(source, "has no merges, and a BPE without any cannot be read from a GGUF")
    pre = _pre_tokenizer(source, content)
    special = {token["content"] for token in content["added_tokens"]}
    size = source.model.config.vocab_size
    tokens, types = [f"[PAD{token_id}]" for token_id in range(size)], [UNUSED] * size
    ids = content["model"]["vocab"] | {t["content"]: t["id"] for t in content["added_tokens"]}
    for token, token_id in ids.items():
        tokens[token_id] = token
        types[token_id] = CONTROL if token in special else NORMAL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    writer.add_add_bos_token(False)  # as encoding here: nothing is put in front of a text
    for kind, add in (
        ("bos", writer.add_bos_token_id),
        ("eos", writer.add_eos_token_id),
        ("pad", writer.add_pad_token_id),
    ):
        value = source.special_ids.get(f"{kind}_token_id")
        first = value[0] if isinstance(value, list) else value
        if first is not None and 0 <= first < size:
            add(first)


def _pre_tokenizer(source: Source, content: Mapping[str, Any]) -> str:
    """GGUF's name of how a tokenizer.json splits text."""
    description = content.get("pre_tokenizer") or {}
    steps = description.get("pretokenizers") or [description]
    if steps[-1].get("type") != "ByteLevel" or content.get("normalizer"):
        _refuse(source, "is no byte-level BPE")
    pattern = PATTERNS["gpt2"] if steps[-1].get("use_regex") else None
    if len(steps) == 2:
        pattern = steps[0].get("pattern", {}).get("Regex")
    if pattern not in PRE_TOKENIZERS or len(steps) > 2:
        _refuse(source, "splits text by a pattern that GGUF has no name for")
    return PRE_TOKENIZERS[pattern]


def _refuse(source: Source, why: str) -> NoReturn:
    name = source.tokenizer.name if source.tokenizer is not None else "none"
    raise UsageError(
        f"The tokenizer {name} {why}: write the weights alone with --no-tokenizer, or choose the "
        "format hf."
    )
