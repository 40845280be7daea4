"""SentencePiece's own module as the oracle: same ids for its models, and its files read right."""

import io
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import pytest
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

from toolkit.errors import RunError, UsageError, VocabularyError
from toolkit.tokenizers import SentencePieceTokenizer, load_tokenizer
from toolkit.tokenizers.sentencepiece_files import (
    BYTE,
    CONTROL,
    SCORE_STEP,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    parse_model,
    round_scores,
)

TYPES = ("unigram", "bpe", "char", "word")
AWKWARD = [
    "  two  spaces,\ttabs\r\n and ﬁ ligatures, Ａ wide A ",
    "nobody said ☃ or 你好 or 👩‍👩‍👧 here",
    "<s></s><unk> <pad>",
    "e\u0301 é \ufeff \x00 \x7f",
    "",
    " ",
]


@pytest.fixture(scope="module")
def prose() -> str:
    """Python's own help, which every installation has."""
    return "\n".join(text for _, text in sorted(topics.items()))[:150_000]


def train_theirs(prose: str, **options: Any) -> bytes:
    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(prose[:60_000].splitlines()),
        model_writer=model,
        hard_vocab_limit=False,
        minloglevel=2,
        **options,
    )
    return model.getvalue()


@pytest.fixture(scope="module", params=[*TYPES, "bytes", "lower", "user-defined"])
def theirs(request: pytest.FixtureRequest, prose: str) -> bytes:
    """A model that SentencePiece trained, most with its defaults: NFKC, a space before the text."""
    options: dict[str, dict[str, Any]] = {
        "bytes": {"model_type": "bpe", "vocab_size": 700, "byte_fallback": True},
        "lower": {"vocab_size": 500, "normalization_rule_name": "nmt_nfkc_cf", "pad_id": 3},
        "user-defined": {
            "vocab_size": 500,
            "user_defined_symbols": ["<sep>", "the"],
            "control_symbols": ["<mask>"],
            "add_dummy_prefix": False,
        },
    }
    kind = request.param
    return train_theirs(prose, **options.get(kind, {"model_type": kind, "vocab_size": 500}))


def test_an_opened_model_gives_its_ids_and_its_text(theirs: bytes, prose: str) -> None:
    oracle = SentencePieceProcessor(model_proto=theirs)
    tokenizer = SentencePieceTokenizer(theirs, unknown="unk")
    texts = [*prose[:20_000].splitlines(), *AWKWARD]
    batch = tokenizer.encode_batch(texts)
    for number, text in enumerate(texts):
        expected = oracle.encode(text)
        assert tokenizer.encode(text) == expected
        assert batch[number].tolist() == expected
        assert tokenizer.decode(expected) == oracle.decode(expected)


def test_the_file_says_what_sentencepiece_says(theirs: bytes) -> None:
    oracle = SentencePieceProcessor(model_proto=theirs)
    file = parse_model(theirs)
    assert len(file.pieces) == oracle.vocab_size()
    for token_id, piece in enumerate(file.pieces):
        assert piece.text == oracle.id_to_piece(token_id)
        assert piece.score == np.float32(oracle.get_score(token_id))
        assert (piece.kind == BYTE) == oracle.is_byte(token_id)
        assert (piece.kind == CONTROL) == oracle.is_control(token_id)
        assert (piece.kind == UNKNOWN) == oracle.is_unknown(token_id)
        assert (piece.kind == UNUSED) == oracle.is_unused(token_id)
    says_hello = oracle.normalize("  Hello  ")
    assert file.add_dummy_prefix == oracle.normalize("a").startswith("▁")
    assert file.remove_extra_whitespaces == (not says_hello.endswith("▁"))
    has_bytes = any(piece.kind == BYTE for piece in file.pieces)
    assert file.byte_fallback == has_bytes


def test_kinds_of_pieces(prose: str) -> None:
    file = parse_model(train_theirs(prose, vocab_size=300, user_defined_symbols=["<sep>"]))
    kinds = {piece.text: piece.kind for piece in file.pieces}
    assert kinds["<unk>"] == UNKNOWN
    assert kinds["<s>"] == kinds["</s>"] == CONTROL
    assert kinds["<sep>"] == USER_DEFINED
    assert file.model_type == "unigram"
    assert file.charsmap  # NFKC


@pytest.mark.parametrize("model_type", TYPES)
def test_training_here_is_training_there(model_type: str, prose: str) -> None:
    """The same ids as SentencePiece's for its own model, line by line."""
    tokenizer = SentencePieceTokenizer.train([prose], model_type=model_type, vocab_size=800)
    oracle = SentencePieceProcessor(model_proto=tokenizer._model)
    assert tokenizer.model_type == model_type
    assert tokenizer.vocab_size <= 800
    for line in prose[:20_000].split("\n"):
        assert tokenizer.encode(line) == oracle.encode(line)
    ids = tokenizer.encode(prose)
    assert tokenizer.encode_batch([prose])[0].tolist() == ids
    assert tokenizer.decode(ids) == prose or model_type == "word"
    end_of_line = tokenizer.encode("\n")
    assert len(end_of_line) == 1
    lines = [oracle.encode(line) for line in prose.split("\n")]
    assert ids == [i for line in lines for i in [*line, *end_of_line]][:-1]
    if model_type in ("bpe", "char"):
        assert ids == oracle.encode(prose)


def test_scores_that_add_up_exactly(prose: str) -> None:
    """Rounding is by a step that changes nothing else, and keeps the order of pieces' scores."""
    tokenizer = SentencePieceTokenizer.train([prose], vocab_size=800)
    pieces = tokenizer._file.pieces
    assert all((piece.score / SCORE_STEP).is_integer() for piece in pieces)
    rough = train_theirs(prose, vocab_size=500)
    before, after = parse_model(rough), parse_model(round_scores(rough))
    assert not all((piece.score / SCORE_STEP).is_integer() for piece in before.pieces)
    assert [piece.text for piece in after.pieces] == [piece.text for piece in before.pieces]
    assert [piece.kind for piece in after.pieces] == [piece.kind for piece in before.pieces]
    for old, new in zip(before.pieces, after.pieces, strict=True):
        assert abs(new.score - old.score) <= SCORE_STEP / 2
    assert round_scores(round_scores(rough)) == round_scores(rough)


def test_a_place_in_a_long_text_changes_nothing(prose: str) -> None:
    """SentencePiece alone gives other ids from about the 4,000th token on: rounding decides."""
    tokenizer = SentencePieceTokenizer.train([prose], vocab_size=800)
    once = tokenizer.encode(prose + "\n")
    assert len(once) > 20_000
    assert tokenizer.encode((prose + "\n") * 3) == once * 3
    oracle = SentencePieceProcessor(model_proto=tokenizer._model)
    assert oracle.encode((prose + "\n") * 3) != once * 3


@pytest.mark.parametrize("model_type", ["unigram", "bpe", "char"])
def test_every_text_comes_back(model_type: str, prose: str) -> None:
    tokenizer = SentencePieceTokenizer.train([prose], model_type=model_type, vocab_size=600)
    for text in [*AWKWARD, "▁", "a▁b ▁ c", "\ud83d\ude00 surrogates"]:
        expected = text.encode("utf-16", "surrogatepass").decode("utf-16")
        assert tokenizer.decode(tokenizer.encode(text)) == expected
        assert tokenizer.decode(tokenizer.encode_batch([text, text])[1]) == expected


def test_a_word_model_knows_its_words() -> None:
    text = "to be or\nnot to be"
    tokenizer = SentencePieceTokenizer.train([text], model_type="word", vocab_size=100)
    assert [tokenizer.token_bytes(i) for i in tokenizer.encode("to be\nnot be")] == [
        b"to",
        b" be",
        b"\n",
        b"not",
        b" be",
    ]
    assert tokenizer.unk_id in tokenizer.encode("to see")
    assert tokenizer.count_unknown("to see be") == (1, 3)
    strict = SentencePieceTokenizer.train(
        [text], model_type="word", vocab_size=100, unknown="error"
    )
    with pytest.raises(VocabularyError, match=r"The text ' see' at position 8 is not in the vocab"):
        strict.encode("to be\nto see")
    with pytest.raises(VocabularyError, match=r"' see' at position 2 of text 1"):
        strict.encode_batch(["to be", "to see"])


# -- mistakes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model_type": "bep"}, "No SentencePiece model type 'bep'. Did you mean 'bpe'"),
        ({"vocab_size": 200}, "vocab_size 200 must be at least 258"),
        ({"vocab_size": 259}, "vocab_size 259 must be at least 26[0-9] to hold the text's charac"),
        ({"character_coverage": 0.0}, "character_coverage 0.0 must be above 0"),
        ({"unknown": "maybe"}, "No policy for --unknown 'maybe'"),
        ({"special_tokens": ["<s>", "<s>"]}, "'<s>' is given twice"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        SentencePieceTokenizer.train(["to be or not to be"], **options)


@pytest.mark.parametrize("texts", [[], [""], ["\n\n", "\r\n"], ["▁"]])
def test_nothing_to_learn_from(texts: list[str]) -> None:
    with pytest.raises(UsageError, match="There is no text to train"):
        SentencePieceTokenizer.train(texts)


def test_texts_that_are_none_are_named_as_such() -> None:
    wrong: list[Any] = ["to be", b"or not"]
    with pytest.raises(UsageError, match="Document 1 is bytes, not str"):
        SentencePieceTokenizer.train(wrong)


def test_files_that_are_no_models(tmp_path: Path, prose: str) -> None:
    with pytest.raises(RunError, match=r"Cannot read the model .*absent.model"):
        load_tokenizer(f"sentencepiece:{tmp_path}/absent.model")
    good = SentencePieceTokenizer.train([prose[:2000]], vocab_size=400)._model
    for number, data in enumerate([b"", b"no model at all", good[:100], bytes(50)]):
        path = tmp_path / f"{number}.model"
        path.write_bytes(data)
        with pytest.raises(RunError, match=r"is not a SentencePiece model"):
            load_tokenizer(f"sentencepiece:{path}")


def test_a_saved_model_is_sentencepieces_own(tmp_path: Path, prose: str) -> None:
    tokenizer = SentencePieceTokenizer.train([prose], vocab_size=600)
    tokenizer.save_model(tmp_path / "own.model")
    oracle = SentencePieceProcessor(model_file=str(tmp_path / "own.model"))
    opened = load_tokenizer(f"sentencepiece:{tmp_path}/own.model")
    assert oracle.encode(prose) == opened.encode(prose) == tokenizer.encode(prose)
