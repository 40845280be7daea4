"""What the pages show is what happens."""

import ast
from pathlib import Path

import toolkit
from toolkit.tokenizers import BPETokenizer

DOCS = Path(toolkit.__file__).parents[1] / "docs"


def python_blocks(page: str) -> list[str]:
    parts = (DOCS / page).read_text("utf-8").split("```python\n")[1:]
    return [part.split("```")[0] for part in parts]


def test_the_first_lines_of_the_page_on_bpe() -> None:
    block = python_blocks("bpe.md")[0]
    names: dict[str, object] = {}
    checked = 0
    for line in block.splitlines():
        code, _, comment = line.partition("  # ")
        if comment:
            assert eval(code, names) == ast.literal_eval(comment), code
            checked += 1
        else:
            exec(code, names)
    assert checked == 6


def test_the_explanation_on_the_page_on_bpe() -> None:
    # The table of the page, taken at its word: merges with these ranks lead to these ids.
    page = (DOCS / "bpe.md").read_text("utf-8")
    rows = [line.split() for line in page.split("symbols        ids")[1].splitlines()]
    merges = [row for row in rows[: rows.index(["```"])] if len(row) > 3 and row[0].isdigit()]
    assert [row[:4] for row in merges] == [
        ["16", "e", "+", "r"],
        ["41", "o", "+", "w"],
        ["22", "e", "+", "s"],
        ["24", "·", "+", "n"],
        ["122", "es", "+", "t"],
        ["166", "·n", "+", "e"],
    ]
    shakespeare = Path(toolkit.__file__).parents[2] / "shared/corpora/tiny_shakespeare.txt"
    if not shakespeare.exists():
        return
    text = shakespeare.read_text("utf-8")
    words = BPETokenizer.train([text], vocab_size=512).explain("lower newest")
    steps = [
        [str(m.rank), m.left.decode(), "+", m.right.decode()] for word in words for m in word.merges
    ]
    assert [[part.replace(" ", "·") for part in step] for step in steps] == [
        row[:4] for row in merges
    ]
    assert [list(word.ids) for word in words] == [[108, 297, 272], [422, 119, 378]]
