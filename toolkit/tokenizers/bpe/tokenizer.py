"""`BPETokenizer`: the parts of this folder as one tokenizer."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Mapping, Sequence, Set
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from toolkit.errors import UsageError, VocabularyError
from toolkit.files import write_json
from toolkit.tokenizers.base import DamagedStateError, TokenBatch, Tokenizer
from toolkit.tokenizers.bpe.alphabet import bytes_to_characters, characters_to_bytes
from toolkit.tokenizers.bpe.encoder import Encoder
from toolkit.tokenizers.bpe.explain import ExplainedWord, explain
from toolkit.tokenizers.bpe.huggingface_files import (
    make_tokenizer_json,
    read_huggingface,
    write_vocab_and_merges,
)
from toolkit.tokenizers.bpe.learning import (
    SMALL_TEXT,
    LearnOptions,
    OnMerge,
    OnProgress,
    can_compile,
    learn_merges,
)
from toolkit.tokenizers.bpe.patterns import (
    SplitPattern,
    split_pattern,
    well_formed,
    with_end_of_word,
)
from toolkit.tokenizers.bpe.tiktoken_files import (
    MAX_ID,
    load_tiktoken_encoding,
    read_rank_file,
    vocabulary_of_ranks,
    write_rank_file,
)
from toolkit.tokenizers.bpe.vocabulary import Pair, Vocabulary
from toolkit.tokenizers.special import check_special_names, split_at_special

if TYPE_CHECKING:
    from tiktoken import Encoding

    from toolkit.tokenizers.bpe.fast.decoding import Decoder
    from toolkit.tokenizers.bpe.fast.encoding import FastEncoder

NUM_BYTES = 256
SMALL_VOCABULARY = 1 << 14
"""Tokens for which the dicts of the plain encoder are made as fast as compiled code is loaded."""


class BPETokenizer(Tokenizer):
    """Byte-level byte pair encoding.

    >>> tokenizer = BPETokenizer.train(["low lower lowest"], vocab_size=260)
    >>> tokenizer.merges
    [(b'l', b'o'), (b'lo', b'w'), (b' ', b'low'), (b' low', b'e')]
    >>> tokenizer.encode("lowest")
    [257, 101, 115, 116]
    >>> tokenizer.decode([259, 115, 116])
    ' lowest'

    An id that nothing uses (tiktoken's encodings have some) stands for no bytes at all.
    """

    name = "bpe"

    def __init__(
        self,
        vocabulary: Vocabulary,
        pattern: str | SplitPattern = "gpt2",
        special_tokens: Mapping[str, int] | None = None,
    ) -> None:
        """A tokenizer from its parts.

        Raises:
            UsageError: a special token whose id is taken or cannot be an id, or a broken pattern.
        """
        special = dict(sorted((special_tokens or {}).items(), key=lambda item: item[1]))
        check_special_names(special)
        self._vocabulary = vocabulary
        self._pattern = split_pattern(pattern)
        self._special = special
        self._vocab_size = max([len(vocabulary.tokens), *(i + 1 for i in special.values())])
        self._bytes: dict[int, bytes] = {
            token_id: self._pattern.plain(token or b"")
            for token_id, token in enumerate(vocabulary.tokens)
        }
        self._num_chars = 0
        self._settled: Encoder | FastEncoder | None = None
        taken: dict[int, str] = {}
        for name, token_id in special.items():
            if not 0 <= token_id <= MAX_ID:
                raise UsageError(f"The special token {name!r} has the id {token_id}")
            other = taken.get(token_id) or self._bytes.get(token_id)
            if other:
                raise UsageError(f"The id {token_id} stands for both {name!r} and {other!r}")
            taken[token_id] = name
        for token_id in range(len(vocabulary.tokens), self._vocab_size):
            self._bytes[token_id] = b""
        for token_id, name in taken.items():
            self._bytes[token_id] = name.encode()

    # -- making one -----------------------------------------------------------------------------

    @classmethod
    def train(  # type: ignore[override]  # the options have names here
        cls,
        texts: Iterable[str],
        *,
        vocab_size: int = 4096,
        pattern: str | SplitPattern = "gpt2",
        min_frequency: int = 0,
        max_token_length: int | None = None,
        special_tokens: Sequence[str] = (),
        end_of_word: bool = False,
        num_threads: int | None = None,
        max_memory: int | None = None,
        on_merge: OnMerge | None = None,
        on_progress: OnProgress | None = None,
    ) -> Self:
        """Learn merges from `texts`.

        The ids are the 256 bytes in order of their value, the merges in order of their rank, the
        special tokens as given. Where the text has too few pairs, the vocabulary is smaller than
        asked for.

        Args:
            texts: documents, read once.
            vocab_size: V, bytes and special tokens included.
            pattern: how text is split before merging: "gpt2", "cl100k", "o200k", "whitespace",
                "none", or a regular expression.
            min_frequency: pairs that occur less often are not merged.
            max_token_length: no token grows longer than this, in bytes.
            special_tokens: names such as "<|endoftext|>". Where the texts hold them, they are
                plain text.
            end_of_word: with pattern "whitespace", put a mark after each word and drop whitespace,
                as Sennrich et al. did; the mark decodes to a space.
            num_threads: to count with; None: one for each core. The result is the same.
            max_memory: bytes that counting and merging should do with. The texts are never kept,
                only their distinct pre-tokens; where even those do not fit, the rarest are
                dropped (`WordTable` in `fast/counting.py` has the rule), and a
                `RareWordsDropped` warning says how many. None: no limit, nothing is dropped.
            on_merge: called after each merge, with the statistics of the corpus as it then is.
            on_progress: called with ("counting", characters read, None), then with ("merging",
                merges made, merges asked for).

        Raises:
            UsageError: an option that cannot be.
        """
        names = check_special_names(special_tokens)
        pattern = split_pattern(pattern)
        if end_of_word:
            pattern = with_end_of_word(pattern)
        smallest = NUM_BYTES + len(names)
        if vocab_size < smallest:
            raise UsageError(
                f"vocab_size {vocab_size} must be at least {smallest}: {NUM_BYTES} bytes and "
                f"{len(names)} special tokens"
            )
        options = LearnOptions(
            vocab_size - smallest,
            min_frequency=min_frequency,
            max_token_length=max_token_length,
            num_threads=num_threads,
            max_memory=max_memory,
        )
        merges = learn_merges(texts, pattern, options, on_merge=on_merge, on_progress=on_progress)
        tokens = [bytes([byte]) for byte in range(NUM_BYTES)]
        for left, right in merges:
            tokens.append(tokens[left] + tokens[right])
        special = {name: token_id for token_id, name in enumerate(names, start=len(tokens))}
        return cls(Vocabulary(tokens, merges), pattern, special)

    @classmethod
    def from_tiktoken(
        cls,
        encoding: Encoding | str | os.PathLike[str],
        *,
        pattern: str | SplitPattern | None = None,
        special_tokens: Mapping[str, int] | Sequence[str] | None = None,
    ) -> Self:
        """A tokenizer that gives the ids of a tiktoken encoding.

        Args:
            encoding: a `tiktoken.Encoding`, the name of one ("cl100k_base"), or the path of a
                `.tiktoken` rank file.
            pattern: how to split; None is the encoding's own, for a rank file "cl100k".
            special_tokens: names and ids, or names alone to be numbered after the last id; None
                are the encoding's own, for a rank file none.

        Raises:
            UnknownNameError: tiktoken has no encoding of that name.
            OfflineError: its ranks are not here and could not be downloaded.
            RunError: a rank file that is missing or damaged.
            UsageError: special tokens whose ids are taken, or a broken pattern.
        """
        if isinstance(encoding, str) and _is_path(encoding):
            encoding = Path(encoding)
        if isinstance(encoding, os.PathLike):
            vocabulary = read_rank_file(Path(encoding))
            own_pattern = "cl100k"
            own_special: Mapping[str, int] = {}
        else:
            if isinstance(encoding, str):
                encoding = load_tiktoken_encoding(encoding)
            vocabulary = vocabulary_of_ranks(encoding._mergeable_ranks)
            own_pattern = encoding._pat_str
            own_special = encoding._special_tokens
        if special_tokens is None:
            special = own_special
        elif isinstance(special_tokens, Mapping):
            special = special_tokens
        else:
            names = check_special_names(special_tokens)
            special = {name: i for i, name in enumerate(names, start=len(vocabulary.tokens))}
        return cls(vocabulary, own_pattern if pattern is None else pattern, special)

    @classmethod
    def from_file(
        cls, path: str | os.PathLike[str], *, pattern: str | SplitPattern | None = None
    ) -> Self:
        """A tokenizer that gives the ids of Hugging Face's.

        Hugging Face finds added tokens in every text; here they are special tokens, so allow them
        all for the same result.

        Args:
            path: a `tokenizer.json`, a `vocab.json` with its `merges.txt` beside it, or a folder.
            pattern: how to split, for a `vocab.json`, which does not say; None is "gpt2".

        Raises:
            RunError: a file is missing or damaged.
            UsageError: it is not a byte-level BPE, or does more than this class can.
        """
        return cls(*read_huggingface(Path(path), pattern))

    # -- what it is -----------------------------------------------------------------------------

    @property
    def vocab_size(self) -> int:
        return self._vocab_size

    @property
    def special_tokens(self) -> Mapping[str, int]:
        return dict(self._special)

    @property
    def pattern(self) -> SplitPattern:
        """How text is split."""
        return self._pattern

    @property
    def merges(self) -> list[tuple[bytes, bytes]]:
        """The merges, the first to be made first, as the bytes of left and right; a mark at the end
        of a word is `</w>`."""
        show = self._pattern.show
        return [(show(left), show(right)) for left, right in self.word_merges]

    @property
    def word_merges(self) -> list[tuple[bytes, bytes]]:
        """The merges as `merges`, but as bytes of pre-tokens as `pattern` cuts them."""
        return self._vocabulary.merges_as_bytes()

    # -- encoding and decoding ------------------------------------------------------------------

    @cached_property
    def _plain_encoder(self) -> Encoder:
        return Encoder(self._vocabulary, self._pattern)

    @cached_property
    def _fast_encoder(self) -> FastEncoder | None:
        """The compiled encoder; None where this vocabulary or pattern is not for it."""
        if not can_compile():
            return None
        from toolkit.tokenizers.bpe.fast.encoding import make_encoder

        return make_encoder(self._vocabulary, self._pattern)

    def _encoder_for(self, num_chars: int) -> Encoder | FastEncoder:
        """The encoder that suits: what is compiled has to be loaded, which takes a second, so the
        first short texts take the plain one."""
        if self._settled is not None:
            return self._settled
        self._num_chars += num_chars
        if self._num_chars > SMALL_TEXT or len(self._vocabulary.tokens) > SMALL_VOCABULARY:
            self._settled = self._fast_encoder or self._plain_encoder
            return self._settled
        return self._plain_encoder

    def encode(self, text: str, *, allowed_special: Set[str] = frozenset()) -> list[int]:
        encoder = self._encoder_for(len(text))
        if not allowed_special and isinstance(allowed_special, set | frozenset):
            return encoder.encode(text)
        ids: list[int] = []
        for part, special_id in split_at_special(well_formed(text), self._special, allowed_special):
            ids += encoder.encode(part)
            if special_id is not None:
                ids.append(special_id)
        return ids

    def encode_batch(self, texts: Sequence[str], *, num_threads: int | None = None) -> TokenBatch:
        return self._encoder_for(sum(map(len, texts))).encode_batch(texts, num_threads)

    def count(self, text: str) -> int:
        return self._encoder_for(len(text)).count(text)

    def count_batch(
        self, texts: Sequence[str], *, num_threads: int | None = None
    ) -> npt.NDArray[np.int64]:
        return self._encoder_for(sum(map(len, texts))).count_batch(texts, num_threads)

    def explain(self, text: str) -> list[ExplainedWord]:
        """The merges of each word of `text`, step by step; special tokens in it are plain text.

        >>> word = BPETokenizer.train(["low lower lowest"], vocab_size=260).explain("lower")[0]
        >>> [(merge.rank, merge.left, merge.right) for merge in word.merges], word.tokens
        ([(0, b'l', b'o'), (1, b'lo', b'w')], (b'low', b'e', b'r'))
        """
        return explain(self._vocabulary, self._pattern, text)

    def token_bytes(self, token_id: int) -> bytes:
        token = self._bytes.get(token_id)
        if token is None:
            raise VocabularyError(
                f"No token has the id {token_id}: the ids of this bpe tokenizer are "
                f"0 to {self.vocab_size - 1}."
            )
        return token

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        listed: list[int] = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
        table = self._bytes
        try:
            return b"".join([table[token_id] for token_id in listed])
        except (KeyError, TypeError):
            # An id that there is not, or numbers of a kind that is no key, such as tensors.
            return super().decode_bytes(listed)

    def decode_batch(self, documents: TokenBatch | Iterable[Iterable[int]]) -> list[str]:
        batch = documents if isinstance(documents, TokenBatch) else _as_batch(documents)
        if len(batch.ids) < SMALL_TEXT or not can_compile():
            return super().decode_batch(batch)
        return self._decoder.decode_batch(batch)

    @cached_property
    def _decoder(self) -> Decoder:
        from toolkit.tokenizers.bpe.fast.decoding import Decoder, prepare_decoding

        prepare_decoding()
        return Decoder([self._bytes[token_id] for token_id in range(self._vocab_size)])

    # -- other formats --------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        vocabulary = self._vocabulary
        marked = {"end_of_word": True} if self._pattern.end_of_word else {}
        return {
            **marked,
            "pattern": self._pattern.regex,
            "special_tokens": self._special,
            "ignore_merges": vocabulary.ignore_merges,
            "tokens": [
                None if token is None else bytes_to_characters(token) for token in vocabulary.tokens
            ],
            # None: the ids are the ranks, as in tiktoken's files.
            "merges": vocabulary.merges_as_text() if vocabulary.has_explicit_merges else None,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        tokens: list[bytes | None] = []
        for token_id, token in enumerate(state["tokens"]):
            try:
                tokens.append(None if token is None else characters_to_bytes(token))
            except (ValueError, TypeError) as error:
                raise DamagedStateError("tokens", token_id, f"the token {error}") from None
        ids = {token: token_id for token_id, token in enumerate(state["tokens"])}
        merges: list[Pair] | None = None
        if state["merges"] is not None:
            merges = []
            for rank, merge in enumerate(state["merges"]):
                parts = str(merge).split(" ")
                if len(parts) != 2 or not set(parts) <= ids.keys():
                    raise DamagedStateError("merges", rank, f"{merge!r} is no pair of its tokens")
                merges.append((ids[parts[0]], ids[parts[1]]))
        vocabulary = Vocabulary(tokens, merges, ignore_merges=state["ignore_merges"])
        pattern = split_pattern(state["pattern"])
        if state.get("end_of_word"):
            pattern = with_end_of_word(pattern)
        return cls(vocabulary, pattern, state["special_tokens"])

    def __reduce__(self) -> tuple[Any, ...]:
        # Tables and caches are made again by whoever unpickles it.
        return type(self).from_state, (self.state(),)

    def to_huggingface(self) -> dict[str, Any] | None:
        return make_tokenizer_json(self._vocabulary, self._pattern, self._special)

    def save_huggingface(self, path: str | os.PathLike[str]) -> None:
        """Write a `tokenizer.json` that gives the same ids in Hugging Face's `tokenizers`.

        Raises:
            UsageError: it cannot be expressed as one; nothing is written.
            ToolkitError: the file could not be written.
        """
        content = self.to_huggingface()
        if content is None:
            raise UsageError(
                "This tokenizer cannot be a tokenizer.json: Hugging Face's engine might read its "
                "split pattern otherwise, or a special token is spelt like an ordinary one."
            )
        write_json(Path(path), content)

    def save_vocab_and_merges(self, folder: str | os.PathLike[str]) -> None:
        """Write `vocab.json` and `merges.txt`, the older pair of files, without the split pattern.

        Raises:
            UsageError: there are tokens that no merge makes; nothing is written.
            ToolkitError: a file could not be written.
        """
        self._refuse_marks("vocab.json and merges.txt")
        write_vocab_and_merges(self._vocabulary, self._special, Path(folder))

    def save_tiktoken(self, path: str | os.PathLike[str]) -> None:
        """Write a `.tiktoken` rank file: the ordinary tokens, without pattern and special tokens.

        Raises:
            UsageError: the merges are in another order than the ids; nothing is written.
            ToolkitError: the file could not be written.
        """
        self._refuse_marks("a rank file")
        write_rank_file(self._vocabulary, Path(path))

    def _refuse_marks(self, what: str) -> None:
        if self._pattern.end_of_word:
            raise UsageError(f"{what} cannot say that words end with a mark (end_of_word).")


def _as_batch(documents: Iterable[Iterable[int]]) -> TokenBatch:
    """Lists of ids in one array, which the standard library's `array` makes fastest.

    Raises:
        VocabularyError: a number that is no id.
    """
    ids = array("I")
    offsets = [0]
    for document in documents:
        try:
            ids.fromlist(document if isinstance(document, list) else list(document))
        except OverflowError:
            raise VocabularyError("An id is negative, or greater than any vocabulary") from None
        offsets.append(len(ids))
    return TokenBatch(np.array(ids, np.uint32), np.array(offsets))


def _is_path(text: str) -> bool:
    """Whether a string is the path of a rank file: encodings' names have no slashes."""
    return text.endswith(".tiktoken") or "/" in text or os.sep in text or Path(text).is_file()
