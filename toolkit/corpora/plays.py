"""Plays in Markdown to plain dialogue: `NAME:`, the lines that are said, an empty line.

In the source a speech is a paragraph that opens with the speaker in bold, **HAMLET**. Stage
directions are in italics, as paragraphs or lines of their own; acts and scenes are headings. Only
what is said stays. A speech that goes on after a stage direction stays one speech.

Left out: all of Markdown that such plays do not use.
"""

from __future__ import annotations

import fnmatch
import html
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from toolkit.errors import CorpusError

_SPEAKER = re.compile(r"\*\*([^*]+)\*\*")
# _…_ or *…*, with one delimiter or more, over as many lines of the paragraph as it takes, and the
# space before it. Behind a backslash a delimiter is a plain character; ** marks a speaker.
_ITALICS = re.compile(
    r" ?(?<!\\)_+(?:[^_\\]|\\.)*_+"
    r"| ?(?<![\\*])\*(?!\*)(?:[^*\\]|\\.)*\*(?!\*)",
    re.DOTALL,
)
_BRACKETED_LINE = re.compile(r"\\?\[[^\]]*\\?\]_?")  # a direction whose opening _ was lost
_ESCAPE = re.compile(r"\\([!-/:-@\[-`{-~])")  # CommonMark: a backslash before ASCII punctuation
_LIST_ITEM = re.compile(r"\d+\\?[.)] ")


def read_plays(archive: Path, options: Mapping[str, Any]) -> str:
    """All plays in a zip archive (a wheel is one) as one text of dialogue.

    `options["members"]` is a list of patterns of file names: plays come in the order of the
    patterns, and in alphabetical order within one. `options["corrections"]` is a list of
    `{find, replace}` that mend the source's slips before it is parsed.

    Raises:
        CorpusError: no archive, or a pattern or a correction that matches nothing.
    """
    import zipfile

    try:
        with zipfile.ZipFile(archive) as opened:
            names = matching(opened.namelist(), options["members"])
            plays = [opened.read(name).decode("utf-8") for name in names]
    except (zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise CorpusError(f"{archive} is not the archive that was expected: {error}.") from error
    text = "".join(dialogue(play) for play in correct(plays, options["corrections"]))
    return text.rstrip("\n") + "\n"


def matching(names: Iterable[str], patterns: Iterable[str]) -> list[str]:
    """Those names that match the patterns, sorted within each pattern.

    >>> matching(["b.md", "a.md", "x/c.md"], ["x/*", "[ab].md"])
    ['x/c.md', 'a.md', 'b.md']

    Raises:
        CorpusError: a pattern matches nothing.
    """
    names = sorted(names)
    chosen: list[str] = []
    for pattern in patterns:
        found = fnmatch.filter(names, pattern)
        if not found:
            raise CorpusError(f"The archive holds nothing that matches '{pattern}'.")
        chosen.extend(found)
    return chosen


def correct(plays: Iterable[str], corrections: Iterable[Mapping[str, str]]) -> list[str]:
    """Replace each correction's `find` by its `replace`, wherever it occurs.

    Raises:
        CorpusError: a correction occurs nowhere, so it corrects nothing.
    """
    plays = list(plays)
    for correction in corrections:
        find = correction["find"]
        if not any(find in play for play in plays):
            raise CorpusError(f"The correction of {find!r} does not occur in the source.")
        plays = [play.replace(find, correction["replace"]) for play in plays]
    return plays


def dialogue(markdown: str) -> str:
    r"""The speeches of one play, each followed by an empty line.

    >>> print(dialogue("### SCENE I\n\n**HAMLET**  \n_\\[Aside]_  \nWho's there?"), end="")
    HAMLET:
    Who's there?
    <BLANKLINE>
    """
    return "".join(f"{name}:\n" + "\n".join(lines) + "\n\n" for name, lines in speeches(markdown))


def speeches(markdown: str) -> Iterator[tuple[str, list[str]]]:
    """The speeches of one play: who speaks, and the lines. Speeches without a line are left out.

    Text before the first speaker of a scene is no speech and is left out: it is the rest of a
    heading that the source broke in two. So is a numbered list: the order of a procession.
    """
    speaker = ""
    lines: list[str] = []
    for paragraph in re.split(r"\n[ \t]*\n", markdown):
        content = _ITALICS.sub("", paragraph.strip("\n"))
        if _LIST_ITEM.match(content):
            continue
        for line in content.split("\n"):
            line = line.strip()
            named = _SPEAKER.fullmatch(line)
            if named or line.startswith("#"):
                if speaker and lines:
                    yield speaker, lines
                speaker = _plain(named[1]) if named else ""
                lines = []
            elif speaker and line and not _BRACKETED_LINE.fullmatch(line):
                lines.append(_plain(line))
    if speaker and lines:
        yield speaker, lines


def _plain(markdown: str) -> str:
    """Resolve backslash escapes and character references."""
    return html.unescape(_ESCAPE.sub(r"\1", markdown))
