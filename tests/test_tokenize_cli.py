"""`toolkit tokenize` as a user meets it: every input, every form, every misuse."""

import io
import json
import re
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import toolkit
from toolkit.cli import main
from toolkit.shown import show_token
from toolkit.token_view import ROWS_SHOWN
from toolkit.tokenizers.characters import CharacterPart, character_parts

LEARN = "the lower newest café\n" * 50
LEARN_CHARS = sorted(set(LEARN))
TEXT = "the café\r\n\tlower 😀e\u0301x\n"


class Stream(io.StringIO):
    """Standard output that is a terminal or is none."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


class Keyboard(io.TextIOWrapper):
    """Standard input at which somebody sits."""

    def isatty(self) -> bool:
        return True


@dataclass
class Done:
    """What a command printed."""

    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


Cli = Callable[..., Done]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run `toolkit tokenize` in a folder with some files and no runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # `main` sets its own
    (tmp_path / "learn.txt").write_bytes(LEARN.encode())
    (tmp_path / "a.txt").write_bytes(TEXT.encode())
    (tmp_path / "b.txt").write_bytes(b"newest\n")
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "latin.txt").write_bytes("é".encode("latin-1"))

    def run(
        *arguments: str,
        stdin: bytes | None = b"",
        terminal: bool = False,
        code: int = 0,
    ) -> Done:
        out, err = Stream(terminal), Stream(False)
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            kind = Keyboard if stdin is None else io.TextIOWrapper
            patch.setattr(sys, "stdin", kind(io.BytesIO(stdin or b"")))
            with pytest.raises(SystemExit) as left:
                main(["tokenize", *arguments])
        assert left.value.code == code, err.getvalue()
        return Done(out.getvalue(), err.getvalue())

    return run


BPE = ("-t", "bpe:275", "-c", "learn.txt", "-q")


def bpe() -> toolkit.BPETokenizer:
    tokenizer = toolkit.load_tokenizer("bpe:275", LEARN)
    assert isinstance(tokenizer, toolkit.BPETokenizer)
    return tokenizer


# -- input ------------------------------------------------------------------------------------


def test_text_file_and_stdin_give_the_same(cli: Cli) -> None:
    expected = " ".join(map(str, bpe().encode(TEXT))) + "\n"
    assert len(expected.split()) > 10
    assert cli(*BPE, "--ids", TEXT).out == expected
    assert cli(*BPE, "--ids", "-f", "a.txt").out == expected
    assert cli(*BPE, "--ids", "--file", "a.txt", stdin=b"not this").out == expected
    assert cli(*BPE, "--ids", stdin=TEXT.encode()).out == expected
    assert cli(*BPE, "--ids", "-", stdin=TEXT.encode()).out == expected
    assert cli(*BPE, "--ids", "-", stdin=TEXT.encode("utf-16"), code=2).out == ""


def test_encoding_and_errors_are_those_of_files_and_stdin(cli: Cli) -> None:
    latin = ("-t", "byte", "--ids", "--encoding", "latin-1")
    assert cli(*latin, "-f", "latin.txt").out == "195 169\n"
    assert cli(*latin, stdin=b"\xe9").out == "195 169\n"
    replaced = cli("-t", "byte", "--ids", "-f", "latin.txt", "--errors", "replace")
    assert replaced.out == "239 191 189\n"  # U+FFFD


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("x -f a.txt", 2, "TEXT and --file exclude each other"),
        ("- -f a.txt", 2, "TEXT and --file exclude each other"),
        ("-f nowhere.txt", 1, "Could not read nowhere.txt: No such file"),
        ("-f a.txt -f .", 1, "Could not read .: Is a directory"),
        ("-f latin.txt", 2, "latin.txt is not valid utf-8: byte 0xe9 at offset 0"),
        ("-f a.txt --encoding utf-0", 2, "There is no text encoding 'utf-0'"),
        ("-f a.txt --errors forgive", 2, "No error handler (--errors) 'forgive'"),
        ("\udcff", 2, "The text is not valid UTF-8 at position 0. Give it as a file"),
        ("x --ids --bytes", 2, "--ids and --bytes exclude each other"),
        ("x --count --explain", 2, "--count and --explain exclude each other"),
        ("x --ids --diff byte byte", 2, "--ids and --diff exclude each other"),
        ("x --bytes --diff byte byte", 2, "--bytes and --diff exclude each other"),
        ("x --count --diff byte byte", 2, "--count and --diff exclude each other"),
        ("x --explain --diff byte byte", 2, "--explain and --diff exclude each other"),
        ("x --run r --diff byte byte", 2, "--run and --diff exclude each other"),
        ("x -t byte --diff byte byte", 2, "--tokenizer and --diff exclude each other"),
        ("x -t byte --run r", 2, "--tokenizer and --run exclude each other"),
        ("x --diff byte", 2, "Option '--diff' requires 2 arguments"),
        ("x --diff byte bep", 2, "No tokenizer 'bep'. Did you mean 'bpe'"),
        ("x -t byte --explain", 2, "--explain shows merges"),
        ("X -q --diff byte char -c b.txt", 2, "The character 'X' (U+0058) at position 0"),
        ("X -q --diff byte char -c b.txt --unknown unk", 2, "option of the tokenizer byte"),
    ],
)
def test_misuse_is_one_clear_line(cli: Cli, arguments: str, code: int, message: str) -> None:
    named = {"-t", "--tokenizer", "--diff", "--run"} & set(arguments.split())
    tokenizer = [] if named else ["-t", "byte"]
    done = cli(*arguments.split(), *tokenizer, code=code)
    assert message in done.err
    assert done.err.count("\n") == 1
    assert done.out == ""


def test_no_text_is_misuse_in_a_terminal_only(cli: Cli) -> None:
    done = cli("-t", "byte", stdin=None, code=2)
    assert done.err.startswith("Error: No text: give it as an argument, with --file PATH, or")
    assert cli("-t", "byte", "--count", stdin=b"").out == "0\n"
    bad = cli("-t", "byte", stdin=b"a\xff", code=2)
    assert "Standard input is not valid utf-8: byte 0xff at offset 1" in bad.err


# -- forms for people -------------------------------------------------------------------------


def test_tokens_between_bars_in_a_pipe(cli: Cli) -> None:
    lines = cli("-t", "byte", "a b\n😀\n").out.splitlines()
    assert lines[0] == "a|·|b|⏎"
    assert lines[1] == r"\xf0|\x9f|\x98|\x80|⏎"
    assert lines[2].split() == ["id", "token", "bytes"]
    assert [line.split() for line in lines[3:6]] == [
        ["97", "a", "61"], ["32", "·", "20"], ["98", "b", "62"],
    ]  # fmt: skip
    assert lines[7].split(maxsplit=3) == ["240", r"\xf0", "f0", "part 1 of 😀"]
    assert lines[10].split(maxsplit=3) == ["128", r"\x80", "80", "part 4 of 😀"]
    assert lines[12:] == ["9 tokens, 9 bytes, 1.00 bytes/token"]


def test_tokens_in_turning_colours_in_a_terminal(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def backgrounds(line: str) -> list[tuple[str, bool, str]]:
        """The background, whether underlined, and the text of each coloured piece."""
        pieces = re.findall(r"\x1b\[([0-9;]+)m([^\x1b]+)\x1b\[0m", line)
        return [(s.split("48;2;")[1], s.startswith("4;"), text) for s, text in pieces]

    blue, yellow = "127;184;245", "255;224;138"
    line = cli("-t", "byte", "a\tb😀", terminal=True).out.splitlines()[0]
    assert backgrounds(line) == [
        (blue, False, "a"),
        (yellow, False, "⇥"),
        (blue, False, "b"),
        ("168;90;0", True, r"\xf0"),
        ("8;63;122", True, r"\x9f"),
        ("168;90;0", True, r"\x98"),
        ("8;63;122", True, r"\x80"),
    ]
    # Where no colour separates tokens, bars do.
    monkeypatch.setenv("NO_COLOR", "1")
    assert cli("-t", "byte", "ab", terminal=True).out.splitlines()[0] == "a|b"


def test_right_to_left_tokens_are_isolated_in_a_terminal_only(cli: Cli) -> None:
    char = ("-t", "char", "-c", "rtl.txt", "-q")
    Path("rtl.txt").write_text("אב1", "utf-8")
    shown = cli(*char, "אב1", terminal=True).out
    assert shown.count("\u2068א\u2069") == 2  # in colour and in its row
    assert "\u20681" not in shown
    assert cli(*char, "אב1").out.splitlines()[0] == "א|ב|1"


def test_many_tokens_have_rows_only_if_asked_for(cli: Cli) -> None:
    few = cli("-t", "byte", "a" * ROWS_SHOWN)
    assert few.out.count("\n") == 1 + 1 + ROWS_SHOWN + 1
    assert few.err == ""
    many = cli("-t", "byte", "a" * 1001)
    assert many.out.splitlines()[1:] == ["1,001 tokens, 1,001 bytes, 1.00 bytes/token"]
    assert "--verbose" in many.err
    assert cli("-t", "byte", "-q", "a" * 1001).err == ""
    assert cli("-t", "byte", "-v", "a" * 1001).out.count("\n") == 1 + 1 + 1001 + 1


def test_no_text_at_all(cli: Cli) -> None:
    assert cli("-t", "byte", "").out == "0 tokens, 0 bytes\n"
    assert cli("-t", "byte", "a").out.splitlines()[-1] == "1 token, 1 byte, 1.00 bytes/token"
    assert cli("-t", "byte", "--ids", "").out == "\n"
    assert cli("-t", "byte", "--bytes", "").out == ""
    assert cli("--diff", "byte", "byte", "").out.startswith("No difference")


def test_several_files_have_their_names_as_headings(cli: Cli) -> None:
    out = cli("-t", "byte", "-f", "b.txt", "-f", "empty.txt").out
    assert out.startswith("==> b.txt <==\nn|e|w|e|s|t|⏎\n")
    assert out.endswith("\n\n==> empty.txt <==\n0 tokens, 0 bytes\n")
    assert "==>" not in cli("-t", "byte", "-f", "b.txt").out
    explained = cli(*BPE, "--explain", "-f", "b.txt", "-f", "b.txt").out
    assert explained.count("==> b.txt <==") == 2


# -- forms for programs -----------------------------------------------------------------------


def test_ids_are_a_line_for_each_file(cli: Cli) -> None:
    one, other = (" ".join(map(str, bpe().encode(text))) for text in (TEXT, "newest\n"))
    assert cli(*BPE, "--ids", "-f", "a.txt", "-f", "b.txt").out == f"{one}\n{other}\n"
    assert cli(*BPE, "--ids", "--json", "newest\n").json() == {
        "tokenizer": "bpe", "ids": list(map(int, other.split())),
    }  # fmt: skip


def test_bytes_are_a_line_for_each_token(cli: Cli) -> None:
    out = cli(*BPE, "--bytes", TEXT).out.splitlines()
    ids = bpe().encode(TEXT)
    tokens = [bpe().token_bytes(token_id) for token_id in ids]
    assert [line.split()[:3] for line in out] == [
        [str(token_id), token.hex(), show_token(token)[0]]
        for token_id, token in zip(ids, tokens, strict=True)
    ]
    assert any(len(token) > 1 for token in tokens)
    assert cli("-t", "byte", "--bytes", "aé").out == (
        " 97  61  a\n195  c3  \\xc3  part 1 of é\n169  a9  \\xa9  part 2 of é\n"
    )
    reply = cli("-t", "byte", "--bytes", "--json", "-f", "b.txt").json()
    assert reply["files"] == [
        {"file": "b.txt", "bytes": ["6e", "65", "77", "65", "73", "74", "0a"]}
    ]


def test_count_is_a_number_or_a_table_as_of_wc(cli: Cli) -> None:
    num_a, num_b = (len(bpe().encode(text)) for text in (TEXT, "newest\n"))
    size = len(TEXT.encode())
    assert cli(*BPE, "--count", TEXT).out == f"{num_a}\n"
    assert cli(*BPE, "--count", "-f", "a.txt").out == f"{num_a}\n"
    done = cli(*BPE, "--count", "-f", "a.txt", "-f", "b.txt", "-f", "empty.txt")
    assert [line.split() for line in done.out.splitlines()] == [
        [str(num_a), str(size), f"{size / num_a:.2f}", "a.txt"],
        [str(num_b), "7", f"{7 / num_b:.2f}", "b.txt"],
        ["0", "0", "-", "empty.txt"],
        [str(num_a + num_b), str(size + 7), f"{(size + 7) / (num_a + num_b):.2f}", "total"],
    ]
    assert cli("-t", "byte", "--count", "--json", "-f", "b.txt", "-f", "empty.txt").json() == {
        "tokenizer": "byte",
        "files": [
            {"file": "b.txt", "count": 7, "bytes": 7, "bytes_per_token": 1.0},
            {"file": "empty.txt", "count": 0, "bytes": 0, "bytes_per_token": None},
        ],
    }


def test_json_has_the_tokens_and_the_parts_of_characters(cli: Cli) -> None:
    assert cli("-t", "byte", "--json", "aé").json() == {
        "tokenizer": "byte",
        "count": 3,
        "bytes": 3,
        "tokens": [
            {"id": 97, "token": "a", "bytes": "61"},
            {"id": 195, "token": "\\xc3", "bytes": "c3",
             "parts": [{"character": "é", "part": 1, "of": 2}]},
            {"id": 169, "token": "\\xa9", "bytes": "a9",
             "parts": [{"character": "é", "part": 2, "of": 2}]},
        ],
    }  # fmt: skip
    words = cli(*BPE, "--explain", "--json", "-f", "b.txt").json()["files"][0]["words"]
    assert [word["word"] for word in words] == ["newest", "\n"]


# -- comparing --------------------------------------------------------------------------------


def test_diff_shows_where_two_tokenizers_disagree(cli: Cli) -> None:
    done = cli("--diff", "char", "byte", "-c", "learn.txt", "the café t")
    assert done.err == "char, trained on learn.txt\n"
    lines = done.out.splitlines()
    assert lines[0].split() == ["position", "text", "char", "byte"]
    assert lines[1].split() == ["7", "é", "é", r"\xc3|\xa9"]
    assert lines[2:] == [
        "char: 10 tokens, 11 bytes, 1.10 bytes/token; byte: 11 tokens, 11 bytes, "
        "1.00 bytes/token; they agree on 81.8% of the bytes"
    ]
    assert cli("--diff", "char", "byte", "-c", "learn.txt", "--json", "fé").json() == {
        "tokenizers": ["char", "byte"],
        "bytes": 3,
        "counts": [2, 3],
        "bytes_per_token": [1.5, 1.0],
        "agreement": pytest.approx(1 / 3),
        "differences": [
            {
                "start": 1, "position": 1, "text": "é",
                "first": [{"id": LEARN_CHARS.index("é"), "token": "é", "bytes": "c3a9"}],
                "second": [
                    {"id": 195, "token": "\\xc3", "bytes": "c3"},
                    {"id": 169, "token": "\\xa9", "bytes": "a9"},
                ],
            }
        ],
    }  # fmt: skip


def test_diff_of_equals_and_of_files(cli: Cli) -> None:
    same = cli("--diff", "byte", "byte", "abc").out.splitlines()
    assert same[0] == "No difference: byte and byte cut this text alike."
    assert same[1].endswith("they agree on 100.0% of the bytes")
    files = cli("--diff", "bpe:260", "bpe:275", "-c", "learn.txt", "-f", "b.txt", "-f", "empty.txt")
    assert files.err == "bpe:260 and bpe:275, trained on learn.txt\n"
    assert files.out.startswith("==> b.txt <==\nposition")
    assert "==> empty.txt <==\nNo difference" in files.out


def test_diff_of_a_long_text_shows_the_first_differences(cli: Cli) -> None:
    Path("long.txt").write_text("é\n" * (ROWS_SHOWN + 5), "utf-8")
    long = ("--diff", "byte", "char", "-c", "learn.txt", "-f", "long.txt")
    done = cli(*long)
    assert done.out.count(r"\xc3|\xa9") == ROWS_SHOWN
    assert "5 more differences left out; --verbose shows all." in done.err
    assert cli(*long, "-v").out.count(r"\xc3|\xa9") == ROWS_SHOWN + 5


def test_diff_reads_the_corpus_once(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    import toolkit.corpora

    loads: list[str] = []
    load = toolkit.corpora.load_corpus
    monkeypatch.setattr(
        toolkit.corpora, "load_corpus", lambda spec, **o: loads.append(spec) or load(spec, **o)
    )
    cli("--diff", "char", "bpe:260", "-c", "learn.txt", "café")
    assert loads == ["learn.txt"]


def test_diff_refuses_a_tokenizer_that_changes_the_text(cli: Cli) -> None:
    done = cli("--diff", "byte", "word:3", "-c", "learn.txt", "-q", "the pale", code=2)
    assert done.err == (
        "Error: The second tokenizer ('word') changes the text: at byte 0 the text has 'the pale' "
        "and its tokens have '<unk><unk>'. Only tokenizers whose tokens joined are the text can "
        "be compared; choose another.\n"
    )


# -- tokens that are hard to see --------------------------------------------------------------


@pytest.mark.parametrize(
    ("token", "shown", "partial"),
    [
        (b" a\tb\r\n", "·a⇥b␍⏎", False),
        (b"\x00\x1b[31m\x7f", r"\u{0}\u{1b}[31m\u{7f}", False),
        ("\u00a0\u3000\u3164".encode(), r"\u{a0}\u{3000}\u{3164}", False),
        ("\u0301".encode(), "◌\u0301", False),
        ("\u0301\u0302a\u0301".encode(), "◌\u0301\u0302a\u0301", False),
        (" \u0301".encode(), "·◌\u0301", False),
        ("\u200d\u200b\u202e".encode(), r"\u{200d}\u{200b}\u{202e}", False),
        ("\ufe0f".encode(), r"\u{fe0f}", False),
        ("❤\ufe0f".encode(), "❤\ufe0f", False),
        ("\U0001f3fd".encode(), "◌\U0001f3fd", False),
        ("\u1161".encode(), "◌\u1161", False),
        (b" \xe4\xbd", r"·\xe4\xbd", True),
        (b"\xa0\xe5\xa5\xbd\xf0", r"\xa0好\xf0", True),
        (b"", "", False),
    ],
)
def test_what_a_token_looks_like(token: bytes, shown: str, partial: bool) -> None:
    assert show_token(token) == (shown, partial)


def test_which_characters_tokens_share() -> None:
    def half(number: int) -> CharacterPart:
        return CharacterPart("😀", number, 2)

    assert character_parts([b"\xf0\x9f", b"\x98\x80"]) == [[half(1)], [half(2)]]
    assert character_parts([b"\xf0\x9f", b"", b"\x98\x80", b""]) == [[half(1)], [], [half(2)], []]
    assert character_parts([b"a", "😀".encode(), b""]) == [[], [], []]
    # The end of one and the beginning of another; bytes that make no character have no parts.
    shared = character_parts([b"x\xc3", b"\xa9\xe4", b"\xbd\xa0\xff"])
    assert shared == [
        [CharacterPart("é", 1, 2)],
        [CharacterPart("é", 2, 2), CharacterPart("你", 1, 2)],
        [CharacterPart("你", 2, 2)],
    ]
    assert character_parts([b"\xf0", b"\x9f"]) == [[], []]
    assert character_parts([]) == []
