"""Hugging Face's files of a byte-level BPE: `tokenizer.json`, and `vocab.json` with `merges.txt`.

In both, tokens are written in the byte-level alphabet (`alphabet.py`). A `tokenizer.json` also says
how text is prepared and split. What would give other ids than Hugging Face's library does is
refused by name: normalizers, a space added in front, several splits in a row, dropout, and so on.
Left out: post-processors (they add special tokens around a text; encoding here never does).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import regex

from toolkit.errors import RunError, UsageError
from toolkit.files import write_text
from toolkit.tokenizers.bpe.alphabet import bytes_to_characters, characters_to_bytes
from toolkit.tokenizers.bpe.patterns import SplitPattern, split_pattern
from toolkit.tokenizers.bpe.tiktoken_files import MAX_ID
from toolkit.tokenizers.bpe.vocabulary import Pair, Vocabulary
from toolkit.tokenizers.json_lines import JSONPlaces
from toolkit.tokenizers.special import added_token

# Names of special tokens in a vocab.json, which does not say which ones they are.
_LOOKS_SPECIAL = regex.compile(r"<.+>|\[.+\]")


class BPEParts(NamedTuple):
    """What a file says of a tokenizer."""

    vocabulary: Vocabulary
    pattern: SplitPattern
    special_tokens: dict[str, int]


def read_huggingface(path: Path, pattern: str | SplitPattern | None = None) -> BPEParts:
    """Read a `tokenizer.json`, a `vocab.json` with the `merges.txt` beside it, or a folder of one.

    Args:
        path: the file or folder.
        pattern: for `vocab.json`, which does not name one; None is "gpt2".

    Raises:
        RunError: a file is missing or damaged.
        UsageError: another kind of tokenizer, or a pattern for a file that has its own.
    """
    if path.is_dir():
        names = ("tokenizer.json", "vocab.json")
        found = [path / name for name in names if (path / name).exists()]
        if not found:
            raise RunError(f"{path} has no {' and no '.join(names)}")
        path = found[0]
    content = _read_json(path)
    if "model" in content and isinstance(content["model"], dict):
        if pattern is not None:
            raise UsageError(f"{path} has its own split pattern: leave out pattern=")
        return _parse_tokenizer_json(path, content)
    return _read_vocab_and_merges(path, content, split_pattern(pattern or "gpt2"))


def make_tokenizer_json(
    vocabulary: Vocabulary, pattern: SplitPattern, special_tokens: Mapping[str, int]
) -> dict[str, Any] | None:
    """The content of a `tokenizer.json` with the same ids.

    None where there is none: a split pattern that Hugging Face's engine may read otherwise, or a
    special token that is spelt as an ordinary one in the byte-level alphabet.
    """
    if not pattern.portable:
        return None
    vocab = {
        bytes_to_characters(token): token_id
        for token_id, token in enumerate(vocabulary.tokens)
        if token is not None
    }
    if any(name in vocab for name in special_tokens):
        return None
    # Special tokens are in the vocabulary too: alone in the list of added tokens they would be
    # numbered anew, and an id that nothing uses before them would shift theirs.
    vocab.update(special_tokens)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            added_token(token_id, name)
            for name, token_id in sorted(special_tokens.items(), key=lambda item: item[1])
        ],
        "normalizer": None,
        "pre_tokenizer": _pre_tokenizer(pattern),
        "post_processor": None,
        "decoder": _byte_level(use_regex=True),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": vocabulary.ignore_merges,
            "vocab": dict(sorted(vocab.items(), key=lambda item: item[1])),
            "merges": vocabulary.merges_as_text(),
        },
    }


def write_vocab_and_merges(
    vocabulary: Vocabulary, special_tokens: Mapping[str, int], folder: Path
) -> None:
    """Write `vocab.json` and `merges.txt`.

    Raises:
        UsageError: there are tokens that no merge makes, which these files cannot say, or a special
            token that reading would not know for one; nothing is written.
        ToolkitError: a file could not be written.
    """
    if vocabulary.ignore_merges:
        made = {token for token in vocabulary.ids if len(token) == 1}
        made.update(left + right for left, right in vocabulary.merges_as_bytes())
        unmade = [token for token in vocabulary.ids if token not in made]
        if unmade:
            raise UsageError(
                f"No merge makes the token {unmade[0]!r} (nor {len(unmade) - 1} others), so "
                "vocab.json and merges.txt cannot express this vocabulary. Export a tokenizer.json."
            )
    vocab = {
        bytes_to_characters(token): token_id
        for token_id, token in enumerate(vocabulary.tokens)
        if token is not None
    }
    for name in special_tokens:
        if name in vocab or not _LOOKS_SPECIAL.fullmatch(name):
            raise UsageError(
                f"The special token {name!r} would be read as an ordinary one from a vocab.json, "
                "where only names such as <…> or […] are special. Export a tokenizer.json."
            )
    vocab.update(special_tokens)
    ordered = dict(sorted(vocab.items(), key=lambda item: item[1]))
    lines = ["#version: 0.2", *vocabulary.merges_as_text()]
    write_text(folder / "merges.txt", "\n".join(lines) + "\n")
    write_text(folder / "vocab.json", json.dumps(ordered, ensure_ascii=False) + "\n")


def _byte_level(*, use_regex: bool) -> dict[str, Any]:
    return {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": use_regex,
    }


def _pre_tokenizer(pattern: SplitPattern) -> dict[str, Any]:
    if pattern.name == "gpt2":
        return _byte_level(use_regex=True)
    if pattern.regex is None:
        return _byte_level(use_regex=False)
    split = {
        "type": "Split",
        "pattern": {"Regex": pattern.regex},
        "behavior": "Isolated",
        "invert": False,
    }
    return {"type": "Sequence", "pretokenizers": [split, _byte_level(use_regex=False)]}


# -- reading ----------------------------------------------------------------------------------


def _parse_tokenizer_json(path: Path, content: dict[str, Any]) -> BPEParts:
    model = content["model"]
    kind = model.get("type", "BPE" if "merges" in model else None)
    if kind != "BPE":
        _refuse(path, f"holds a {kind} model")
    for option in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"):
        if model.get(option):
            _refuse(path, f"sets {option} to {model[option]!r}")
    if content.get("normalizer"):
        _refuse(path, f"changes text with the normalizer {_type_of(content['normalizer'])}")
    pattern = _parse_pre_tokenizer(path, content.get("pre_tokenizer"))
    special = _parse_added_tokens(path, content.get("added_tokens") or [])
    places = JSONPlaces(path)
    vocab = _check_vocab(places, path, model.get("vocab"))
    for name, token_id in special.items():
        if vocab.get(name, token_id) != token_id:
            where = places.key("vocab", name)
            raise RunError(f"{where}: {name!r} has the id {token_id} and the id {vocab[name]}")
    merges = model.get("merges")
    if not isinstance(merges, list):
        raise RunError(f"{path}: model.merges is not a list")
    vocabulary = _build(
        places,
        path,
        {name: token_id for name, token_id in vocab.items() if name not in special},
        merges,
        lambda rank: f"{places.item('merges', rank)}: merge {rank}",
        ignore_merges=bool(model.get("ignore_merges")),
    )
    return BPEParts(vocabulary, pattern, special)


def _parse_pre_tokenizer(path: Path, description: Any) -> SplitPattern:
    """The split pattern of a pre-tokenizer: ByteLevel, after at most one Split."""
    if _type_of(description) == "Sequence":
        steps = description.get("pretokenizers") or []
    else:
        steps = [description]
    if not steps or _type_of(steps[-1]) != "ByteLevel":
        _refuse(path, f"is not byte-level: its pre-tokenizer is {_type_of(description)}")
    if steps[-1].get("add_prefix_space", True):
        _refuse(path, "puts a space before every text (add_prefix_space)")
    splits = [_parse_split(path, step) for step in steps[:-1]]
    if steps[-1].get("use_regex", True):
        splits.append(split_pattern("gpt2"))
    if len(splits) > 1:
        _refuse(path, f"splits text {len(splits)} times in a row")
    return splits[0] if splits else split_pattern("none")


def _parse_split(path: Path, step: Any) -> SplitPattern:
    if _type_of(step) != "Split":
        _refuse(path, f"prepares text with the pre-tokenizer {_type_of(step)}")
    pattern = step.get("pattern")
    if step.get("behavior") != "Isolated" or step.get("invert") or not isinstance(pattern, dict):
        _refuse(path, "splits text otherwise than by isolating matches")
    if "String" in pattern:
        expression = regex.escape(pattern["String"])
    else:
        expression = pattern.get("Regex")
    if not isinstance(expression, str):
        raise RunError(f"{path}: the pattern of its Split is neither a Regex nor a String")
    try:
        found = split_pattern(expression)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    # Of the expression as it stands: tiktoken's spelling of a named one means something else here.
    if not SplitPattern("custom", expression).portable:
        _refuse(path, f"splits by {expression!r}, which engines read differently")
    return found


def _parse_added_tokens(path: Path, entries: Any) -> dict[str, int]:
    special: dict[str, int] = {}
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("content"), str):
            raise RunError(f"{path}: an entry of added_tokens has no content")
        name, token_id = entry["content"], entry.get("id")
        for option in ("lstrip", "rstrip", "single_word"):
            if entry.get(option):
                _refuse(path, f"sets {option} for the added token {name!r}")
        if not isinstance(token_id, int) or not _is_id(token_id):
            raise RunError(f"{path}: the added token {name!r} has the id {token_id!r}")
        special[name] = token_id
    return special


def _read_vocab_and_merges(path: Path, content: dict[str, Any], pattern: SplitPattern) -> BPEParts:
    """The older pair of files. Which tokens are special is not written anywhere: those spelt like
    one (`<…>` or `[…]`) that no merge makes."""
    merges_path = path.with_name(path.name.replace("vocab.json", "merges.txt"))
    if merges_path == path:
        _refuse(path, "is neither a tokenizer.json nor a vocab.json")
    places = JSONPlaces(path)
    vocab = _check_vocab(places, path, content)
    try:
        lines = merges_path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise RunError(f"Cannot read {merges_path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RunError(f"{merges_path} is not UTF-8: {error.reason}") from error
    numbers = [
        number
        for number, line in enumerate(lines)
        if line.strip() and not line.startswith("#version")
    ]
    merges = [lines[number].rstrip("\r") for number in numbers]
    made = {line.replace(" ", "") for line in merges}
    special = {
        name: token_id
        for name, token_id in vocab.items()
        if _LOOKS_SPECIAL.fullmatch(name) and name not in made
    }
    ordinary = {name: token_id for name, token_id in vocab.items() if name not in special}
    vocabulary = _build(
        places,
        path,
        ordinary,
        merges,
        lambda rank: f"{merges_path}, line {numbers[rank] + 1}: the merge",
    )
    return BPEParts(vocabulary, pattern, special)


def _build(
    places: JSONPlaces,
    path: Path,
    vocab: Mapping[str, int],
    merges: Sequence[Any],
    where: Callable[[int], str],
    *,
    ignore_merges: bool = False,
) -> Vocabulary:
    """A vocabulary from names and merges; `where` names the file, the line and the merge."""
    tokens: list[bytes | None] = [None] * (max(vocab.values(), default=-1) + 1)
    for name, token_id in vocab.items():
        if tokens[token_id] is not None:
            raise RunError(
                f"{places.key('vocab', name)}: {name!r} has the id {token_id}, which another token "
                "has already"
            )
        try:
            tokens[token_id] = characters_to_bytes(name)
        except ValueError as error:
            raise UsageError(
                f"{places.key('vocab', name)}: this is no byte-level BPE: the token {error}"
            ) from None
    pairs: list[Pair] = []
    for rank, merge in enumerate(merges):
        parts = merge.split(" ") if isinstance(merge, str) else merge
        if not (isinstance(parts, list) and len(parts) == 2):
            raise RunError(f"{where(rank)} is {merge!r}, expected two tokens")
        for part in [*parts, "".join(map(str, parts))]:
            if part not in vocab:
                raise RunError(f"{where(rank)} needs {part!r}, which is not in the vocabulary")
        pairs.append((vocab[parts[0]], vocab[parts[1]]))
    try:
        return Vocabulary(tokens, pairs, ignore_merges=ignore_merges)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise RunError(f"Cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise RunError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise RunError(f"{path} is not a tokenizer: expected a JSON object")
    return content


def _check_vocab(places: JSONPlaces, path: Path, vocab: Any) -> dict[str, int]:
    if not isinstance(vocab, dict) or not vocab:
        raise RunError(f"{path}: there is no vocabulary in it")
    for name, token_id in vocab.items():
        if not _is_id(token_id):
            where = places.key("vocab", name)
            raise RunError(
                f"{where}: the token {name!r} has the id {token_id!r}, expected a number from 0 on"
            )
    return vocab


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_ID


def _type_of(description: Any) -> str:
    if not isinstance(description, dict):
        return "missing"
    return str(description.get("type"))


def _refuse(path: Path, what: str) -> NoReturn:
    raise UsageError(
        f"{path} {what}. Only byte-level BPE with one split and no other preparation of the text "
        "is read here (as in GPT-2 or Llama 3)."
    )
