"""What `toolkit tokenize` shows: tokens in colour, as ids, as bytes, counted, explained, compared.

For each form one function that prints it and one that gives it as JSON values. The forms for
programs (ids, bytes, counts) are plain text without style. Left out: choosing the tokenizer and
reading the text, which the command does.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from toolkit.console import bytes_to_json, notice, out
from toolkit.errors import UsageError
from toolkit.shown import show_token
from toolkit.tokenizers.characters import CharacterPart, character_parts

if TYPE_CHECKING:
    from toolkit.tokenizers import Tokenizer
    from toolkit.tokenizers.bpe.explain import ExplainedWord
    from toolkit.tokenizers.diff import DiffToken, TokenComparison

# Light blue and light yellow in turn. People with any kind of colour blindness tell blue from
# yellow, or else (tritanopia, no colours at all) the darker from the lighter one. Each brings its
# own text colour, so that a terminal's dark or light theme does not matter; black on them has a
# contrast of 10 and 16 to 1, where 4.5 is the least for small text.
_WHOLE_STYLES = ("#000000 on #7fb8f5", "#000000 on #ffe08a")
# Tokens with a part of a character: the same two hues dark, with white text (10 and 5 to 1), and
# underlined, which is seen without any colour. They alternate as well: parts stand side by side.
_PARTIAL_STYLES = ("underline #ffffff on #083f7a", "underline #ffffff on #a85a00")
_HEADING_STYLE = "bold"

ROWS_SHOWN = 200
"""Tables with more rows than this are for looking something up, not for reading: --verbose."""


Texts = Sequence[tuple[str, str]]
"""Names and texts; a text that was not read from a file has the name ""."""


# -- forms ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class View:
    """One form of showing texts.

    Attributes:
        head: what a JSON document says once.
        to_json: what it says of each text.
        show: prints all texts.
    """

    head: dict[str, Any]
    to_json: Callable[[str], dict[str, Any]]
    show: Callable[[Texts], None]

    def document(self, texts: Texts, *, by_file: bool) -> dict[str, Any]:
        """The JSON document, with a list of files where `by_file`, otherwise of the one text."""
        if not by_file:
            return {**self.head, **self.to_json(texts[0][1])}
        files = [{"file": name, **self.to_json(text)} for name, text in texts]
        return {**self.head, "files": files}


def view_of(form: str, tokenizer: Tokenizer, *, verbose: bool, quiet: bool) -> View:
    """The view that an option of `toolkit tokenize` names; "--tokens" is the one without option.

    Raises:
        UsageError: "--explain" with a tokenizer that merges nothing.
    """
    head = {"tokenizer": tokenizer.name}
    if form == "--ids":
        # One line a text needs no headings, and a program would trip over them.
        show_ids = partial(_print_each, partial(print_ids, tokenizer), headings=False)
        return View(head, partial(ids_to_json, tokenizer), show_ids)
    if form == "--bytes":
        show_bytes = partial(_print_each, partial(print_bytes, tokenizer))
        return View(head, partial(bytes_of_tokens_to_json, tokenizer), show_bytes)
    if form == "--count":
        return View(head, partial(count_to_json, tokenizer), partial(print_counts, tokenizer))
    if form == "--explain":
        return _explanation_view(head, tokenizer)
    print_one = partial(print_tokens, tokenizer, verbose=verbose, quiet=quiet)
    return View(head, partial(tokens_to_json, tokenizer), partial(_print_each, print_one))


def _explanation_view(head: dict[str, Any], tokenizer: Tokenizer) -> View:
    from toolkit.tokenizers import BPETokenizer

    if not isinstance(tokenizer, BPETokenizer):
        raise UsageError(
            f"--explain shows merges, and the tokenizer '{tokenizer.name}' makes none: use a bpe."
        )
    explain = tokenizer.explain
    return View(
        head,
        lambda text: {"words": explain(text)},
        partial(_print_each, lambda text: print_explanation(explain(text))),
    )


def comparison_view(
    specs: tuple[str, str], first: Tokenizer, second: Tokenizer, *, verbose: bool, quiet: bool
) -> View:
    """The view of `--diff`; it raises what `compare_tokens` does when it is used."""
    from toolkit.tokenizers.diff import compare_tokens

    def print_one(text: str) -> None:
        compared = compare_tokens(text, first, second)
        print_comparison(compared, specs, verbose=verbose, quiet=quiet)

    return View(
        {"tokenizers": list(specs)},
        lambda text: comparison_to_json(compare_tokens(text, first, second)),
        partial(_print_each, print_one),
    )


def _print_each(print_one: Callable[[str], None], texts: Texts, *, headings: bool = True) -> None:
    """Print the texts one after the other, several of them under their names."""
    for number, (name, text) in enumerate(texts):
        if headings and len(texts) > 1:
            # As `head` prints it.
            blank = "\n" if number else ""
            out().print(Text(f"{blank}==> {name} <==", style=_HEADING_STYLE))
        print_one(text)


def _describe(parts: Iterable[CharacterPart]) -> str:
    return ", ".join(
        f"part {part.number} of {show_token(part.character.encode())[0]}" for part in parts
    )


# -- for people -------------------------------------------------------------------------------


def print_tokens(tokenizer: Tokenizer, text: str, *, verbose: bool, quiet: bool) -> None:
    """The tokens side by side in colour, a row for each with its id and bytes, their count.

    More than `ROWS_SHOWN` rows are left out unless `verbose`; unless `quiet`, a notice says so.
    """
    ids = tokenizer.encode(text)
    tokens = [tokenizer.token_bytes(token_id) for token_id in ids]
    console = out()
    with_rows = verbose or len(ids) <= ROWS_SHOWN
    if ids:
        console.print(_side_by_side(tokens, console, break_lines=True))
        if with_rows:
            console.print(_token_table(ids, tokens, console))
    console.print(f"[dim]{_amount(len(ids), _num_bytes(text))}[/dim]")
    if not with_rows and not quiet:
        notice(f"Each token's id and bytes are left out above {ROWS_SHOWN} tokens; see --verbose.")


def _side_by_side(tokens: Sequence[bytes], console: Console, break_lines: bool = False) -> Text:
    """Tokens in colours, or between bars where there are none."""
    bars = not console.is_terminal or console.no_color or console.color_system is None
    line = Text()
    for number, token in enumerate(tokens):
        shown, partial = show_token(token)
        styles = _PARTIAL_STYLES if partial else _WHOLE_STYLES
        line.append(_isolate(shown, console), style=styles[number % 2])
        if number + 1 == len(tokens):
            break
        if break_lines and token.endswith(b"\n"):
            line.append("\n")
        elif bars:
            line.append("|")
    return line


def _token_table(ids: Sequence[int], tokens: Sequence[bytes], console: Console) -> Table:
    parts = character_parts(tokens)
    table = Table("id", "token", "bytes", box=None, pad_edge=False)
    if any(parts):
        table.add_column()
    for token_id, token, own_parts in zip(ids, tokens, parts, strict=True):
        shown = Text(_isolate(show_token(token)[0], console))
        cells = [Text(_isolate(_describe(own_parts), console))] if any(parts) else []
        table.add_row(str(token_id), shown, token.hex(" "), *cells)
    return table


def _isolate(shown: str, console: Console) -> str:
    """`shown` so that a terminal that writes from right to left does so inside it only."""
    if console.is_terminal and any(unicodedata.bidirectional(c) in _RIGHT_TO_LEFT for c in shown):
        return f"\u2068{shown}\u2069"  # first strong isolate, pop directional isolate
    return shown


_RIGHT_TO_LEFT = ("R", "AL", "AN")


def _amount(num_tokens: int, num_bytes: int) -> str:
    per_token = f", {num_bytes / num_tokens:.2f} bytes/token" if num_tokens else ""
    return f"{_plural(num_tokens, 'token')}, {_plural(num_bytes, 'byte')}{per_token}"


def _plural(number: int, unit: str) -> str:
    return f"{number:,} {unit}" if number == 1 else f"{number:,} {unit}s"


def _num_bytes(text: str) -> int:
    # Half a surrogate pair, from a caller's string, is three bytes: what replaces it (U+FFFD) is.
    return len(text.encode("utf-8", "surrogatepass"))


def print_explanation(words: Sequence[ExplainedWord]) -> None:
    """The merges of each word: what was merged, its rank, and the word after it."""
    table = Table(box=None, pad_edge=False)
    table.add_column("word")
    table.add_column("rank", justify="right")
    for name in ("merge", "symbols", "ids"):
        table.add_column(name)
    for number, word in enumerate(words):
        if number:
            table.add_row()
        start = " ".join(show_token(word.word[i : i + 1])[0] for i in range(len(word.word)))
        note = "is a token as a whole" if word.whole and len(word.word) > 1 else ""
        last = len(word.merges)
        ids = " ".join(map(str, word.ids))
        table.add_row(
            Text(show_token(word.word)[0]), "", note, Text(start), ids if not last else ""
        )
        for step, merge in enumerate(word.merges, start=1):
            pair = f"{show_token(merge.left)[0]} + {show_token(merge.right)[0]}"
            symbols = " ".join(show_token(symbol)[0] for symbol in merge.symbols)
            shown = ids if step == last else ""
            table.add_row("", f"{merge.rank:,}", Text(pair), Text(symbols), shown)
    out().print(table)


def print_comparison(
    comparison: TokenComparison, names: tuple[str, str], *, verbose: bool, quiet: bool
) -> None:
    """A row for each stretch that two tokenizers cut differently, then both in numbers."""
    console = out()
    differences = comparison.differences
    shown = differences if verbose else differences[:ROWS_SHOWN]
    if differences:
        table = Table(box=None, pad_edge=False)
        table.add_column("position", justify="right")
        for name in ("text", *names):
            table.add_column(Text(name))
        for difference in shown:
            table.add_row(
                str(difference.position),
                Text(_isolate(show_token(difference.text)[0], console)),
                _side_by_side([token.token for token in difference.first], console),
                _side_by_side([token.token for token in difference.second], console),
            )
        console.print(table)
    else:
        console.print(Text(f"No difference: {names[0]} and {names[1]} cut this text alike."))
    each = [
        f"{name}: {_amount(number, comparison.num_bytes)}"
        for name, number in zip(names, comparison.num_tokens, strict=True)
    ]
    agreement = f"they agree on {comparison.agreement:.1%} of the bytes"
    console.print(Text("; ".join([*each, agreement]), style="dim"))
    left_out = len(differences) - len(shown)
    if left_out and not quiet:
        notice(f"{_plural(left_out, 'more difference')} left out; --verbose shows all.")


# -- for programs -----------------------------------------------------------------------------


def print_ids(tokenizer: Tokenizer, text: str) -> None:
    """The ids in one line."""
    sys.stdout.write(" ".join(map(str, tokenizer.encode(text))) + "\n")


def print_bytes(tokenizer: Tokenizer, text: str) -> None:
    """One line a token: id, bytes in hex, the token as it can be seen, characters it has parts of.

    The columns are as wide as they have to be, and only the last ones can hold a space.
    """
    ids = tokenizer.encode(text)
    tokens = [tokenizer.token_bytes(token_id) for token_id in ids]
    id_width = max((len(str(token_id)) for token_id in ids), default=0)
    hex_width = max((2 * len(token) for token in tokens), default=0)
    for token_id, token, parts in zip(ids, tokens, character_parts(tokens), strict=True):
        shown = "  ".join([show_token(token)[0], *([_describe(parts)] if parts else [])])
        sys.stdout.write(f"{token_id:>{id_width}}  {token.hex():<{hex_width}}  {shown}\n")


def print_counts(tokenizer: Tokenizer, texts: Texts) -> None:
    """The number alone where there is one text; otherwise a line for each and the total.

    As with `wc` the name comes last: tokens, bytes, bytes per token, name.
    """
    counts = [tokenizer.count(text) for _, text in texts]
    if len(texts) == 1:
        sys.stdout.write(f"{counts[0]}\n")
        return
    sizes = [_num_bytes(text) for _, text in texts]
    names = [name for name, _ in texts]
    rows = [*zip(counts, sizes, names, strict=True), (sum(counts), sum(sizes), "total")]
    width = max(len(str(max(row[:2]))) for row in rows)
    for count, size, name in rows:
        ratio = f"{size / count:.2f}" if count else "-"
        sys.stdout.write(f"{count:>{width}} {size:>{width}} {ratio:>6} {name}\n")


# -- as JSON ----------------------------------------------------------------------------------


def tokens_to_json(tokenizer: Tokenizer, text: str) -> dict[str, Any]:
    """Every token with its id and bytes, and the characters that it has a part of."""
    ids = tokenizer.encode(text)
    tokens = [tokenizer.token_bytes(token_id) for token_id in ids]
    rows = []
    for token_id, token, parts in zip(ids, tokens, character_parts(tokens), strict=True):
        row = _token_to_json(token_id, token)
        if parts:
            row["parts"] = [
                {"character": part.character, "part": part.number, "of": part.parts}
                for part in parts
            ]
        rows.append(row)
    return {"count": len(ids), "bytes": _num_bytes(text), "tokens": rows}


def ids_to_json(tokenizer: Tokenizer, text: str) -> dict[str, Any]:
    """The ids alone."""
    return {"ids": tokenizer.encode(text)}


def count_to_json(tokenizer: Tokenizer, text: str) -> dict[str, Any]:
    """How many tokens and bytes, and bytes per token: null where there are no tokens."""
    count, size = tokenizer.count(text), _num_bytes(text)
    return {"count": count, "bytes": size, "bytes_per_token": size / count if count else None}


def bytes_of_tokens_to_json(tokenizer: Tokenizer, text: str) -> dict[str, Any]:
    """The bytes of each token alone, in hex."""
    return {"bytes": [tokenizer.token_bytes(i).hex() for i in tokenizer.encode(text)]}


def comparison_to_json(comparison: TokenComparison) -> dict[str, Any]:
    """The numbers of both tokenizers (the first one first) and each difference."""
    return {
        "bytes": comparison.num_bytes,
        "counts": list(comparison.num_tokens),
        "bytes_per_token": [
            comparison.num_bytes / number if number else None for number in comparison.num_tokens
        ],
        "agreement": comparison.agreement,
        "differences": [
            {
                "start": difference.start,
                "position": difference.position,
                "text": bytes_to_json(difference.text),
                "first": _tokens_of(difference.first),
                "second": _tokens_of(difference.second),
            }
            for difference in comparison.differences
        ],
    }


def _tokens_of(tokens: Iterable[DiffToken]) -> list[dict[str, Any]]:
    return [_token_to_json(token.id, token.token) for token in tokens]


def _token_to_json(token_id: int, token: bytes) -> dict[str, Any]:
    return {"id": token_id, "token": bytes_to_json(token), "bytes": token.hex()}
