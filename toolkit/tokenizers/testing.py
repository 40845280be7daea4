"""The contract of `Tokenizer` as checks that anybody can run on a tokenizer of their own.

    from toolkit.tokenizers.testing import check_tokenizer

    def test_contract():
        check_tokenizer(MyTokenizer.train(TEXTS), TEXTS)

Every check raises `AssertionError` with a line that says what was expected and what came. They ask
for what all tokenizers promise, and for nothing that only good ones do: how long the sequences
are, or how fast they come, is left out.
"""

from __future__ import annotations

import json
import pickle
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.errors import ToolkitError, UsageError, VocabularyError
from toolkit.tokenizers.base import Tokenizer
from toolkit.tokenizers.stats import CountsUnknown

# What a tokenizer that claims to encode every text meets sooner or later.
_AWKWARD_TEXTS = (
    " ",
    "\n\n\t \r\n",
    "\x00\x7f\x85\u00a0\u2028",
    "e\u0301 \u00e9 \ufeff \ufffd",
    "नमस्ते 你好 👩‍👩‍👧 \U0010ffff",
    "<|endoftext|><unk>",
)
_NUM_THREADS = 4


def check_tokenizer(
    tokenizer: Tokenizer, sample_texts: Sequence[str], *, lossless: bool = True
) -> None:
    """Check that a tokenizer keeps the contract.

    Args:
        tokenizer: the one to check.
        sample_texts: texts that it can encode without unknowns, a few hundred characters in all.
            Their single characters are tried too, where they are in the vocabulary.
        lossless: whether decoding gives the text back. A tokenizer that changes text on purpose
            (lower case, spaces) need only decode to a text with the same ids, if to any.

    Raises:
        AssertionError: it does not, and this is how.
        ValueError: there are no sample texts.
    """
    if not any(sample_texts):
        raise ValueError("check_tokenizer needs sample texts")
    _expect(
        not tokenizer.closed_vocabulary or isinstance(tokenizer, CountsUnknown),
        "a tokenizer with a closed vocabulary must have count_unknown(text)",
    )
    texts = ["", *sample_texts]
    if not tokenizer.closed_vocabulary:
        texts += _AWKWARD_TEXTS
    for character in sorted(set("".join(sample_texts))):
        if not isinstance(tokenizer, CountsUnknown) or tokenizer.count_unknown(character)[0] == 0:
            texts.append(character)
    _check_vocabulary(tokenizer)
    _check_ids(tokenizer, texts)
    _check_unknown(tokenizer, sample_texts)
    _check_special_tokens(tokenizer, sample_texts)
    _check_round_trip(tokenizer, texts, lossless)
    _check_streams(tokenizer, texts)
    _check_batches(tokenizer, texts)
    _check_counts(tokenizer, texts)
    _check_copies(tokenizer, texts)
    _check_threads(tokenizer, texts)


def check_training(kind: type[Tokenizer], sample_texts: Sequence[str], **options: Any) -> None:
    """Check that a class of tokenizers learns as the contract says.

    Args:
        kind: the class.
        sample_texts: documents to learn from.
        options: for `kind.train`.

    Raises:
        AssertionError: it does not, and this is how.
    """
    first = kind.train(list(sample_texts), **options)
    again = kind.train(iter(sample_texts), **options)
    _expect(
        first.fingerprint() == again.fingerprint(),
        f"{kind.__name__}.train gives another tokenizer for the same texts, read from an iterator",
    )
    if not kind.closed_vocabulary:
        return
    for empty in ([], [""]):
        error = _error_of(kind.train, empty, **options)
        _expect(
            isinstance(error, UsageError),
            f"{kind.__name__}.train({empty}) has nothing to learn from: expected a UsageError, "
            f"got {_describe(error)}",
        )


# -- the checks -------------------------------------------------------------------------------


def _check_vocabulary(tokenizer: Tokenizer) -> None:
    size = tokenizer.vocab_size
    _expect(isinstance(size, int) and size > 0, f"vocab_size is {size!r}, not a positive int")
    special = tokenizer.special_tokens
    for name, token_id in special.items():
        _expect(
            0 <= token_id < size,
            f"the special token {name!r} has the id {token_id}, outside 0 … {size - 1}",
        )
    _expect(
        len(set(special.values())) == len(special),
        f"two special tokens share an id: {dict(special)}",
    )
    if tokenizer.unk_id is not None:
        _expect(
            tokenizer.unk_id in special.values(),
            f"unk_id {tokenizer.unk_id} is not the id of a special token",
        )
    for token_id in range(size):
        token = tokenizer.token_bytes(token_id)
        _expect(
            isinstance(token, bytes),
            f"token_bytes({token_id}) is {type(token).__name__}, not bytes",
        )
        text = tokenizer.decode([token_id])
        _expect(isinstance(text, str), f"decode([{token_id}]) is {type(text).__name__}, not str")
    for token_id in (-1, size):
        error = _error_of(tokenizer.token_bytes, token_id)
        _expect(
            isinstance(error, VocabularyError),
            f"token_bytes({token_id}) is outside the vocabulary of {size}: expected a "
            f"VocabularyError, got {_describe(error)}",
        )


def _check_ids(tokenizer: Tokenizer, texts: Iterable[str]) -> None:
    for text in texts:
        error = _error_of(tokenizer.encode, text)
        _expect(error is None, f"encode({_short(text)}) raises {_describe(error)}")
        ids = tokenizer.encode(text)
        _expect(
            isinstance(ids, list) and all(type(token_id) is int for token_id in ids),
            f"encode({_short(text)}) is not a list of ints",
        )
        _expect(
            all(0 <= token_id < tokenizer.vocab_size for token_id in ids),
            f"encode({_short(text)}) gives ids outside 0 … {tokenizer.vocab_size - 1}",
        )
        _expect(
            tokenizer.encode(text) == ids, f"encode({_short(text)}) gives other ids a second time"
        )
    _expect(tokenizer.encode("") == [], "encode('') is not []")
    _expect(tokenizer.decode([]) == "", "decode([]) is not ''")


def _check_round_trip(tokenizer: Tokenizer, texts: Iterable[str], lossless: bool) -> None:
    for text in texts:
        ids = tokenizer.encode(text)
        decoded = tokenizer.decode(ids)
        if lossless:
            _expect(decoded == text, f"{_short(text)} comes back as {_short(decoded)}")
        elif decoded.strip():  # a text of spaces alone may lose them all
            _expect(
                tokenizer.encode(decoded) == ids,
                f"{_short(text)} comes back as {_short(decoded)}, which has other ids",
            )
        data = tokenizer.decode_bytes(ids)
        _expect(
            data.decode("utf-8", errors="replace") == decoded,
            f"decode and decode_bytes differ on the ids of {_short(text)}",
        )
        joined = b"".join(tokenizer.token_bytes(token_id) for token_id in ids)
        if tokenizer.joins_tokens:
            _expect(
                data == joined,
                f"decode_bytes is not the token_bytes in a row, on the ids of {_short(text)}",
            )
        else:
            _expect(
                data.replace(b" ", b"") == joined.replace(b" ", b""),
                f"decode_bytes and the token_bytes in a row differ in more than spaces, on the ids "
                f"of {_short(text)}",
            )
        _expect(
            tokenizer.decode(np.asarray(ids, dtype=np.uint32)) == decoded,
            f"decode takes a list and a NumPy array of the same ids differently: {_short(text)}",
        )


def _check_streams(tokenizer: Tokenizer, texts: Iterable[str]) -> None:
    for text in texts:
        ids = tokenizer.encode(text)
        decoder = tokenizer.stream_decoder()
        pieces = [decoder.push(token_id) for token_id in ids]
        pieces.append(decoder.finish())
        decoded = tokenizer.decode(ids)
        _expect(
            "".join(pieces) == decoded,
            f"the pieces of a stream, {_short(''.join(pieces))}, are not what decode gives: "
            f"{_short(decoded)}",
        )
        halves = sum(piece.count("\ufffd") for piece in pieces[:-1])
        _expect(
            halves <= decoded.count("\ufffd"),
            f"a stream shows half a character of {_short(text)}",
        )


def _check_counts(tokenizer: Tokenizer, texts: Sequence[str]) -> None:
    lengths = [len(tokenizer.encode(text)) for text in texts]
    _expect(
        [tokenizer.count(text) for text in texts] == lengths, "count is not the length of encode"
    )
    _expect(
        tokenizer.count_batch(texts).tolist() == lengths,
        "count_batch gives other numbers than encode",
    )


def _check_batches(tokenizer: Tokenizer, texts: Sequence[str]) -> None:
    singles = [tokenizer.encode(text) for text in texts]
    for num_threads in (None, 1, 2):
        batch = tokenizer.encode_batch(texts, num_threads=num_threads)
        _expect(len(batch) == len(texts), f"a batch of {len(texts)} texts has {len(batch)}")
        _expect(
            batch.ids.dtype == np.uint32 and batch.offsets.dtype == np.int64,
            f"a batch has ids of {batch.ids.dtype} and offsets of {batch.offsets.dtype}, "
            "not uint32 and int64",
        )
        for i, (text, single) in enumerate(zip(texts, singles, strict=True)):
            _expect(
                batch[i].tolist() == single,
                f"{_short(text)} has other ids in a batch (num_threads={num_threads}) than alone",
            )
    _expect(len(tokenizer.encode_batch([])) == 0, "a batch of no texts is not empty")


def _check_special_tokens(tokenizer: Tokenizer, sample_texts: Sequence[str]) -> None:
    before, after = sample_texts[0], sample_texts[-1]
    for name, token_id in tokenizer.special_tokens.items():
        try:
            ids = tokenizer.encode(before + name + after)
        except VocabularyError:
            ids = []
        _expect(
            token_id not in ids or token_id == tokenizer.unk_id,
            f"the special token {name!r} is found in plain text though it is not allowed",
        )
        ids = tokenizer.encode(before + name + after, allowed_special={name})
        expected = [*tokenizer.encode(before), token_id, *tokenizer.encode(after)]
        _expect(
            ids == expected,
            f"the special token {name!r} is allowed and stands between two texts: expected the "
            f"ids of the first, {token_id}, the ids of the second",
        )


def _check_unknown(tokenizer: Tokenizer, sample_texts: Sequence[str]) -> None:
    known = next(filter(None, sample_texts))
    if not (tokenizer.closed_vocabulary and isinstance(tokenizer, CountsUnknown)):
        for text in _AWKWARD_TEXTS:
            _expect(
                tokenizer.unk_id not in tokenizer.encode(text),
                f"{_short(text)} has an unknown part though the vocabulary is not closed",
            )
        return
    unknown, total = tokenizer.count_unknown(known)
    _expect(
        unknown == 0 and total > 0,
        f"count_unknown says that {unknown} of {total} pieces are unknown in {_short(known)}",
    )
    stranger = _unseen_character(sample_texts)
    text = known + stranger
    unknown, _ = tokenizer.count_unknown(text)
    _expect(unknown > 0, f"count_unknown finds nothing unknown in {_short(text)}")
    if tokenizer.unk_id is not None:
        _expect(
            tokenizer.unk_id in tokenizer.encode(text),
            f"{_short(text)} has an unknown part but no unk_id among its ids",
        )
        return
    error = _error_of(tokenizer.encode, text)
    _expect(
        isinstance(error, VocabularyError),
        f"{_short(text)} has an unknown part and there is no unk_id: expected a VocabularyError, "
        f"got {_describe(error)}",
    )
    _expect(
        stranger in str(error) or f"{ord(stranger):04X}" in str(error),
        f"the error for an unknown part does not name it: {error}",
    )
    positions = [int(number) for number in re.findall(r"\b[0-9]+\b", str(error))]
    _expect(
        any(position <= len(known) for position in positions),
        f"the error for an unknown part does not say at which position it is: {error}",
    )


def _check_copies(tokenizer: Tokenizer, texts: Sequence[str]) -> None:
    """Copies of every kind are the same tokenizer: pickled, from its state, saved and opened."""
    state = tokenizer.state()
    try:
        through_json = json.loads(json.dumps(state))
    except TypeError as error:
        raise AssertionError(f"state() holds more than JSON values: {error}") from error
    _same(tokenizer, type(tokenizer).from_state(through_json), "from_state(state())", texts)
    try:
        pickled = pickle.dumps(tokenizer)
    except Exception as error:
        raise AssertionError(f"it cannot be pickled: {_describe(error)}") from error
    _same(tokenizer, pickle.loads(pickled), "the pickled copy", texts)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(Path(folder) / "saved")
        try:
            opened = Tokenizer.load(Path(folder) / "saved")
        except ToolkitError as error:
            raise AssertionError(f"Tokenizer.load cannot open what save wrote: {error}") from error
    _same(tokenizer, opened, "the saved copy", texts)


def _same(tokenizer: Tokenizer, copy: Any, what: str, texts: Sequence[str]) -> None:
    _expect(
        type(copy) is type(tokenizer),
        f"{what} is a {type(copy).__name__}, not a {type(tokenizer).__name__}",
    )
    _expect(copy.fingerprint() == tokenizer.fingerprint(), f"{what} has another fingerprint")
    for attribute in ("vocab_size", "unk_id"):
        ours, theirs = getattr(tokenizer, attribute), getattr(copy, attribute)
        _expect(theirs == ours, f"{what} has {attribute} {theirs}, not {ours}")
    _expect(
        dict(copy.special_tokens) == dict(tokenizer.special_tokens),
        f"{what} has other special tokens",
    )
    for text in texts:
        _expect(
            copy.encode(text) == tokenizer.encode(text), f"{what} gives {_short(text)} other ids"
        )
    for token_id in range(tokenizer.vocab_size):
        _expect(
            copy.token_bytes(token_id) == tokenizer.token_bytes(token_id),
            f"{what} has another token with the id {token_id}",
        )


def _check_threads(tokenizer: Tokenizer, texts: Sequence[str]) -> None:
    expected = [tokenizer.encode(text) for text in texts]

    def work(_: int) -> bool:
        return all(
            tokenizer.encode(text) == ids and tokenizer.decode(ids) == tokenizer.decode(tuple(ids))
            for text, ids in zip(texts, expected, strict=True)
        )

    # Threads take turns far more often than usual, so that state which they share shows.
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(_NUM_THREADS) as pool:
            results = list(pool.map(work, range(2 * _NUM_THREADS)))
    finally:
        sys.setswitchinterval(interval)
    _expect(all(results), "several threads that encode at once get other ids than one alone")


# -- helpers ----------------------------------------------------------------------------------


def _expect(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def _error_of(action: Callable[..., Any], *args: Any, **options: Any) -> Exception | None:
    try:
        action(*args, **options)
    except Exception as error:
        return error
    return None


def _describe(error: Exception | None) -> str:
    return "no error" if error is None else f"{type(error).__name__}: {error}"


def _unseen_character(texts: Iterable[str]) -> str:
    """A rare Chinese character (CJK extension A) that is in none of the texts. Characters without
    a meaning of their own would be dropped by tokenizers that clean text."""
    seen = set().union(*texts)
    return next(chr(code) for code in range(0x3400, 0x4DC0) if chr(code) not in seen)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "…")
