"""tiktoken's and Hugging Face's files: what is written can be read, what is broken is explained.

That the peers' own libraries read and write the same is in tests/oracles.
"""

import base64
import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from toolkit.errors import RunError, ToolkitError, UnknownNameError, UsageError
from toolkit.tokenizers import BPETokenizer
from toolkit.tokenizers.bpe import Vocabulary, split_pattern
from toolkit.tokenizers.bpe.alphabet import (
    BYTE_CHARACTERS,
    CHARACTER_ORDER,
    bytes_to_characters,
    characters_to_bytes,
)

TEXTS = ["the cat sat on the mat\n" * 3, "that is the thing — naïve 你好 你好", "x = x + 1\n"]
SPECIAL = ["<|endoftext|>", "two words"]


@pytest.fixture(scope="module")
def tokenizer() -> BPETokenizer:
    return BPETokenizer.train(TEXTS, vocab_size=290, pattern="cl100k", special_tokens=SPECIAL)


@pytest.fixture
def rank_file(tokenizer: BPETokenizer, tmp_path: Path) -> Path:
    path = tmp_path / "own.tiktoken"
    tokenizer.save_tiktoken(path)
    return path


def test_the_byte_level_alphabet() -> None:
    assert len(set(BYTE_CHARACTERS)) == 256
    assert all(character.isprintable() and character != " " for character in BYTE_CHARACTERS)
    # Facts about GPT-2's vocabulary: a space is Ġ, a newline Ċ, a tab ĉ, U+00AD's byte Ń.
    assert bytes_to_characters(b" \n\t\xad!~\xa1\xff") == "ĠĊĉŃ!~¡ÿ"
    every = bytes(range(256))
    assert characters_to_bytes(bytes_to_characters(every)) == every
    assert CHARACTER_ORDER[0] == ord("!")
    assert CHARACTER_ORDER[-1] == 0xAD
    with pytest.raises(ValueError, match="' ' stands for no byte"):
        characters_to_bytes("a b")


# -- rank files -------------------------------------------------------------------------------


def test_rank_files_hold_tokens_and_ranks(tokenizer: BPETokenizer, rank_file: Path) -> None:
    lines = rank_file.read_bytes().splitlines()
    assert lines[0] == b"AA== 0"  # the byte 0
    assert lines[ord("a")] == b"YQ== 97"
    assert len(lines) == tokenizer.vocab_size - len(SPECIAL)
    token, rank = lines[-1].split()
    assert base64.b64decode(token) == tokenizer.token_bytes(int(rank))


def test_a_rank_file_gives_the_tokenizer_back(tokenizer: BPETokenizer, rank_file: Path) -> None:
    for source in (rank_file, str(rank_file)):
        opened = BPETokenizer.from_tiktoken(source, special_tokens=SPECIAL)
        assert opened.merges == tokenizer.merges
        assert opened.pattern == split_pattern("cl100k")
        assert opened.special_tokens == tokenizer.special_tokens
        for text in TEXTS:
            assert opened.encode(text) == tokenizer.encode(text)
    other = BPETokenizer.from_tiktoken(rank_file, pattern="gpt2", special_tokens={"<s>": 1000})
    assert other.pattern.name == "gpt2"
    assert other.vocab_size == 1001
    assert BPETokenizer.from_tiktoken(rank_file).special_tokens == {}


def test_a_loaded_rank_file_is_saved_again_alike(rank_file: Path, tmp_path: Path) -> None:
    opened = BPETokenizer.from_tiktoken(rank_file)
    opened.save_tiktoken(tmp_path / "again.tiktoken")
    assert (tmp_path / "again.tiktoken").read_bytes() == rank_file.read_bytes()
    opened.save(tmp_path / "saved")
    loaded = BPETokenizer.load(tmp_path / "saved")
    assert loaded.fingerprint() == opened.fingerprint()
    assert loaded.merges == opened.merges


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"YQ=", "line 98: 'YQ=' is not base64"),
        (b"Y*Q= 97", "line 98: 'Y*Q=' is not base64"),
        (b"YQ==", "line 98: expected a token in base64 and its rank, got 'YQ=='"),
        (b"YQ== 97 1", "line 98: expected a token in base64 and its rank"),
        (b"YQ== x", "line 98: 'x' is not a rank from 0 to"),
        (b"YQ== -1", "line 98: '-1' is not a rank"),
        (b"YQ== 99999999999999", "line 98: '99999999999999' is not a rank"),
        (b"YA== 97", "line 98: the token b'`' has the rank 96 already"),
        (b"YQ== 96", "line 98: the rank 96 is in line 97 already"),
        (b"\xff\xfe 97", "line 98: 'ÿþ' is not base64"),
        (b"", "No token stands for the byte 0x61"),
    ],
)
def test_damaged_rank_files_name_the_line(rank_file: Path, line: bytes, message: str) -> None:
    lines = rank_file.read_bytes().splitlines()
    lines[97] = line + (b" 97" if line == b"YQ=" else b"")
    rank_file.write_bytes(b"\n".join(lines))
    with pytest.raises(RunError) as caught:
        BPETokenizer.from_tiktoken(rank_file)
    assert message in str(caught.value)
    assert str(rank_file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_rank_file(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"Cannot read the rank file .*none\.tiktoken: No such"):
        BPETokenizer.from_tiktoken(tmp_path / "none.tiktoken")
    with pytest.raises(RunError, match=r"none\.tiktoken"):
        BPETokenizer.from_tiktoken("none.tiktoken")
    (tmp_path / "empty.tiktoken").write_bytes(b"")
    with pytest.raises(RunError, match="no byte-level BPE: No token stands for the byte 0x00"):
        BPETokenizer.from_tiktoken(tmp_path / "empty.tiktoken")


def test_an_unknown_encoding_is_named() -> None:
    with pytest.raises(UnknownNameError, match=r"No tiktoken encoding 'cl100k'\. Did you mean"):
        BPETokenizer.from_tiktoken("cl100k")


BYTES: list[bytes | None] = [bytes([byte]) for byte in range(256)]


@pytest.mark.parametrize(
    ("tokens", "merges", "message"),
    [
        # Merged later than the token of a higher id.
        ([*BYTES, b"ab", b"cd"], [(99, 100), (97, 98)], r"b'cd' \(id 257\) is merged before"),
        # By ranks "bc" would be merged in it first.
        (
            [*BYTES, b"ab", b"bc", b"abc"],
            [(97, 257), (98, 99), (97, 98)],
            r"b'bc' \(id 257\)|b'abc' \(id 258\) is merged from other parts|before",
        ),
        ([*BYTES, b"ab"], [], r"b'ab' \(id 256\) is merged from other parts"),
        ([*BYTES, b"abc"], [], r"b'abc' \(id 256\) is made by no merges"),
    ],
)
def test_merges_that_ranks_cannot_say_are_not_written(
    tokens: list[bytes | None], merges: list[tuple[int, int]], message: str, tmp_path: Path
) -> None:
    tokenizer = BPETokenizer(Vocabulary(tokens, merges), "none")
    with pytest.raises(UsageError, match=message):
        tokenizer.save_tiktoken(tmp_path / "x.tiktoken")
    assert not (tmp_path / "x.tiktoken").exists()


def test_a_full_disk_is_explained(tokenizer: BPETokenizer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ToolkitError, match="Could not write"):
        tokenizer.save_tiktoken(tmp_path / "file" / "x.tiktoken")


# -- tokenizer.json ---------------------------------------------------------------------------


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content, ensure_ascii=False), "utf-8")
    return path


@pytest.mark.parametrize("pattern", ["gpt2", "cl100k", "o200k", "none", r"[a-z]+|\s"])
def test_a_tokenizer_json_gives_the_tokenizer_back(pattern: str, tmp_path: Path) -> None:
    tokenizer = BPETokenizer.train(TEXTS, vocab_size=300, pattern=pattern, special_tokens=SPECIAL)
    write(tmp_path / "tokenizer.json", tokenizer.to_huggingface())
    for source in (tmp_path, tmp_path / "tokenizer.json", str(tmp_path)):
        opened = BPETokenizer.from_file(source)
        assert opened.fingerprint() == tokenizer.fingerprint()
        assert opened.pattern == tokenizer.pattern
        assert opened.encode(TEXTS[1]) == tokenizer.encode(TEXTS[1])


def test_what_cannot_be_a_tokenizer_json_is_none() -> None:
    assert BPETokenizer.train(TEXTS, pattern=r"\w+|.", vocab_size=260).to_huggingface() is None
    # "Ġ" is how an ordinary token, the space, is spelt.
    assert BPETokenizer.train(TEXTS, special_tokens=["Ġ"]).to_huggingface() is None


def set_model(key: str, value: Any) -> Callable[[Any], None]:
    return lambda content: content["model"].__setitem__(key, value)


def set_pre(value: Any) -> Callable[[Any], None]:
    return lambda content: content.__setitem__("pre_tokenizer", value)


def set_split(**fields: Any) -> Callable[[Any], None]:
    return lambda content: content["pre_tokenizer"]["pretokenizers"][0].update(fields)


BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_model("type", "WordPiece"), "holds a WordPiece model"),
        (set_model("type", "Unigram"), "holds a Unigram model"),
        (set_model("dropout", 0.1), "sets dropout to 0.1"),
        (set_model("byte_fallback", True), "sets byte_fallback to True"),
        (set_model("continuing_subword_prefix", "##"), "sets continuing_subword_prefix to '##'"),
        (lambda c: c.update(normalizer={"type": "NFC"}), "with the normalizer NFC"),
        (set_pre(None), "its pre-tokenizer is missing"),
        (set_pre({"type": "Whitespace"}), "its pre-tokenizer is Whitespace"),
        (set_pre({**BYTE_LEVEL, "add_prefix_space": True}), "puts a space before every text"),
        (
            set_pre({"type": "Sequence", "pretokenizers": [{"type": "Digits"}, BYTE_LEVEL]}),
            "with the pre-tokenizer Digits",
        ),
        (
            lambda c: c["pre_tokenizer"]["pretokenizers"][1].update(use_regex=True),
            "splits text 2 times in a row",
        ),
        (set_split(behavior="Removed"), "otherwise than by isolating matches"),
        (set_split(invert=True), "otherwise than by isolating matches"),
        (set_split(pattern={"Regex": r"\p{N}{1,3}+|."}), "engines read differently"),
        (set_split(pattern={"Regex": "("}), "not a regular expression"),
        (lambda c: c["added_tokens"][0].update(lstrip=True), "sets lstrip for the added token"),
        (lambda c: c["model"]["vocab"].update({"a b": 900}), "the token 'a b' is not in the"),
        (lambda c: c["model"]["vocab"].pop("a"), "is not in the vocabulary|the byte 0x61"),
        (lambda c: c["model"]["vocab"].pop("\u0143"), "the byte 0xAD"),
    ],
)
def test_other_kinds_of_tokenizer_are_refused_by_what_they_do(
    tokenizer: BPETokenizer, tmp_path: Path, change: Callable[[Any], None], message: str
) -> None:
    content = copy.deepcopy(tokenizer.to_huggingface())
    change(content)
    path = write(tmp_path / "tokenizer.json", content)
    with pytest.raises(ToolkitError, match=message) as caught:
        BPETokenizer.from_file(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_model("merges", None), "model.merges is not a list"),
        (set_model("vocab", []), "there is no vocabulary"),
        (set_model("merges", ["a"]), "line 1: merge 0 is 'a', expected two tokens"),
        (set_model("merges", ["a b c"]), "merge 0 is 'a b c', expected two tokens"),
        (set_model("merges", [["a", 3]]), "merge 0 needs 3, which is not in the vocabulary"),
        (set_model("merges", ["q q"]), "merge 0 needs 'qq', which is not in the vocabulary"),
        (lambda c: c["model"]["vocab"].update({"zz": -1}), "the token 'zz' has the id -1"),
        (lambda c: c["model"]["vocab"].update({"zz": 10**15}), "the token 'zz' has the id 10000"),
        (lambda c: c["model"]["vocab"].update({"zz": True}), "the token 'zz' has the id True"),
        (
            lambda c: c["model"]["vocab"].update({"zz": 97}),
            "'zz' has the id 97, which another token has",
        ),
        (lambda c: c["added_tokens"].append({"id": 3}), "an entry of added_tokens has no content"),
        (lambda c: c["added_tokens"][0].pop("id"), "has the id None"),
        (lambda c: c["added_tokens"][0].update(id=5), "has the id 5 and the id 288"),
    ],
)
def test_damaged_tokenizer_json_names_the_fault(
    tokenizer: BPETokenizer, tmp_path: Path, change: Callable[[Any], None], message: str
) -> None:
    content = copy.deepcopy(tokenizer.to_huggingface())
    change(content)
    path = write(tmp_path / "tokenizer.json", content)
    with pytest.raises(RunError, match=message) as caught:
        BPETokenizer.from_file(path)
    assert str(path) in str(caught.value)


def test_not_even_json(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    with pytest.raises(RunError, match=r"Cannot read .*: No such file"):
        BPETokenizer.from_file(path)
    with pytest.raises(RunError, match=r"has no tokenizer\.json and no vocab\.json"):
        BPETokenizer.from_file(tmp_path)
    path.write_text('{"model": ', "utf-8")
    with pytest.raises(RunError, match="is not JSON: Expecting value: line 1 column 11"):
        BPETokenizer.from_file(path)
    path.write_text("[]", "utf-8")
    with pytest.raises(RunError, match="expected a JSON object"):
        BPETokenizer.from_file(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RunError, match="is not JSON"):
        BPETokenizer.from_file(path)
    path.write_text('{"a": 1}', "utf-8")
    with pytest.raises(UsageError, match=r"neither a tokenizer\.json nor a vocab\.json"):
        BPETokenizer.from_file(path)


def test_merges_as_pairs_and_a_split_at_a_string(tmp_path: Path) -> None:
    tokenizer = BPETokenizer.train(TEXTS, vocab_size=280, pattern="none")
    content = tokenizer.to_huggingface()
    assert content is not None
    content["model"]["merges"] = [merge.split(" ") for merge in content["model"]["merges"]]
    assert BPETokenizer.from_file(write(tmp_path / "t.json", content)).merges == tokenizer.merges
    content["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [
            {
                "type": "Split",
                "pattern": {"String": "a."},
                "behavior": "Isolated",
                "invert": False,
            },
            {**BYTE_LEVEL, "use_regex": False},
        ],
    }
    opened = BPETokenizer.from_file(write(tmp_path / "t.json", content))
    assert opened.pattern.split("ba.cab") == ["b", "a.", "cab"]


# -- vocab.json and merges.txt ----------------------------------------------------------------


@pytest.fixture
def vocab_json(tmp_path: Path) -> Path:
    """GPT-2's layout in small: bytes in the order of their characters, merges, <|endoftext|>."""
    names = [BYTE_CHARACTERS[byte] for byte in CHARACTER_ORDER]
    names += ["Ġt", "Ġth", "he", "<|endoftext|>"]
    write(tmp_path / "vocab.json", {name: i for i, name in enumerate(names)})
    merges = "#version: 0.2\nĠ t\nĠt h\nh e\n"
    (tmp_path / "merges.txt").write_text(merges, "utf-8")
    return tmp_path / "vocab.json"


def test_vocab_json_and_merges_txt(vocab_json: Path) -> None:
    for source in (vocab_json, vocab_json.parent):
        tokenizer = BPETokenizer.from_file(source)
        assert tokenizer.merges == [(b" ", b"t"), (b" t", b"h"), (b"h", b"e")]
        assert tokenizer.special_tokens == {"<|endoftext|>": 259}
        assert tokenizer.pattern.name == "gpt2"
        # "!" is the first of the characters; "Ġth" wins "h" from "he".
        assert tokenizer.encode("! the he") == [
            0,
            257,
            ord("e") - 33,
            CHARACTER_ORDER.index(32),
            258,
        ]
        assert tokenizer.decode([257, 258, 259]) == " thhe<|endoftext|>"
    other = BPETokenizer.from_file(vocab_json, pattern="none")
    assert other.pattern.name == "none"


def test_broken_merges_txt_names_the_line(vocab_json: Path) -> None:
    merges = vocab_json.with_name("merges.txt")
    merges.write_text("#version: 0.2\nĠ t\nĠt\n", "utf-8")
    with pytest.raises(
        RunError, match=r"merges\.txt, line 3: the merge is 'Ġt', expected two tokens"
    ):
        BPETokenizer.from_file(vocab_json)
    merges.write_text("Ġ t\nx y\n", "utf-8")
    with pytest.raises(RunError, match=r"merges\.txt, line 2: the merge needs 'xy', which is not"):
        BPETokenizer.from_file(vocab_json)
    merges.write_bytes(b"\xff\xff")
    with pytest.raises(RunError, match=r"merges\.txt is not UTF-8"):
        BPETokenizer.from_file(vocab_json)
    merges.unlink()
    with pytest.raises(RunError, match=r"Cannot read .*merges\.txt: No such file"):
        BPETokenizer.from_file(vocab_json)


def test_a_pattern_is_for_files_that_have_none(tokenizer: BPETokenizer, tmp_path: Path) -> None:
    path = write(tmp_path / "tokenizer.json", tokenizer.to_huggingface())
    with pytest.raises(UsageError, match="has its own split pattern"):
        BPETokenizer.from_file(path, pattern="gpt2")


def test_faults_in_json_are_found_in_their_line(tmp_path: Path) -> None:
    trained = BPETokenizer.train(["low lower lowest Ünder"], vocab_size=262)
    path = tmp_path / "tokenizer.json"

    def write(content: Any, **options: Any) -> None:
        path.write_text(json.dumps(content, indent=1, **options), "utf-8")

    def line_of(part: str) -> int:
        lines = path.read_text("utf-8").splitlines()
        (number,) = (number for number, line in enumerate(lines, start=1) if part in line)
        return number

    for ascii_only in (False, True):
        content = trained.to_huggingface()
        assert content is not None
        content["model"]["merges"][4] = "low zz"
        write(content, ensure_ascii=ascii_only)
        with pytest.raises(RunError, match=f", line {line_of('low zz')}: merge 4 needs 'zz'"):
            BPETokenizer.from_file(path)
        content = trained.to_huggingface()
        assert content is not None
        name = "Ġlow"  # written in two ways
        content["model"]["vocab"][name] = 5
        write(content, ensure_ascii=ascii_only)
        line = line_of(json.dumps(name, ensure_ascii=ascii_only) + ": 5")
        with pytest.raises(RunError, match=f", line {line}: 'Ġlow' has the id 5, which another"):
            BPETokenizer.from_file(path)
        content["model"]["vocab"][name] = "x"
        write(content, ensure_ascii=ascii_only)
        with pytest.raises(RunError, match=f", line {line}: the token 'Ġlow' has the id 'x'"):
            BPETokenizer.from_file(path)


def test_faults_in_our_own_file_are_found_in_their_line(tmp_path: Path) -> None:
    BPETokenizer.train(["low lower lowest"], vocab_size=260).save(tmp_path)
    path = tmp_path / "toolkit.json"
    content = json.loads(path.read_text("utf-8"))
    content["state"]["merges"][2] = "low e r"
    path.write_text(json.dumps(content, indent=1), "utf-8")
    number = path.read_text("utf-8").splitlines().index('   "low e r",') + 1
    with pytest.raises(
        RunError, match=f"line {number} is damaged: in merges, 'low e r' is no pair"
    ):
        BPETokenizer.load(tmp_path)
    content["state"]["tokens"][97] = "日"
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False), "utf-8")
    number = path.read_text("utf-8").splitlines().index('   "日",') + 1
    with pytest.raises(RunError, match=f"line {number} is damaged: in tokens, the token '日'"):
        BPETokenizer.load(tmp_path)


def test_tokens_that_nothing_makes_are_no_merges_txt(tmp_path: Path) -> None:
    tokens = [*(bytes([byte]) for byte in range(256)), b"ab", b"abc"]
    tokenizer = BPETokenizer(Vocabulary(tokens, [(97, 98)], ignore_merges=True))
    with pytest.raises(UsageError, match="No merge makes the token b'abc'"):
        tokenizer.save_vocab_and_merges(tmp_path / "pair")
    assert not (tmp_path / "pair").exists()
    tokenizer = BPETokenizer(Vocabulary(tokens[:-1], [(97, 98)], ignore_merges=True))
    tokenizer.save_vocab_and_merges(tmp_path / "pair")
    lines = (tmp_path / "pair" / "merges.txt").read_text("utf-8").splitlines()
    assert lines == ["#version: 0.2", "a b"]
    assert BPETokenizer.from_file(tmp_path / "pair").encode("cab") == [99, 256]


# -- tiktoken's plug-ins ----------------------------------------------------------------------

PLUGIN = """
RANKS = {bytes([byte]): byte for byte in range(256)} | {b"lo": 256, b"low": 257}

def lo():
    return {
        "name": "lo",
        "pat_str": r"\\w+|\\W+",
        "mergeable_ranks": RANKS,
        "special_tokens": {"<|stop|>": 258},
    }

ENCODING_CONSTRUCTORS = {"lo": lo}
"""


def test_an_encoding_of_a_plug_in_of_tiktokens(tmp_path: Path) -> None:
    """A module in the namespace `tiktoken_ext`, found by tiktoken itself, in a fresh process."""
    (tmp_path / "tiktoken_ext").mkdir()
    (tmp_path / "tiktoken_ext" / "lo.py").write_text(PLUGIN)
    program = (
        "import tiktoken\n"
        "from toolkit.tokenizers import load_tokenizer\n"
        "tokenizer = load_tokenizer('tiktoken:lo')\n"
        "text = 'low lower <|stop|>'\n"
        "assert tokenizer.encode(text) == tiktoken.get_encoding('lo').encode_ordinary(text)\n"
        "print(tokenizer.encode(text, allowed_special={'<|stop|>'}))\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[257, 32, 257, 101, 114, 32, 258]\n"
