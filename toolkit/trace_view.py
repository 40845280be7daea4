"""What `toolkit trace` shows: the steps of a forward pass as a page, or as JSON values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from toolkit.console import out
from toolkit.jsonable import to_jsonable
from toolkit.shown import shown_in_pair, shown_token

if TYPE_CHECKING:
    from toolkit.inspection.walkthrough import Numbers, Step, Walk
    from toolkit.tokenizers import Tokenizer

_HEADING = "bold cyan"


def print_walk(
    walk: Walk,
    tokenizer: Tokenizer,
    *,
    source_tokenizer: Tokenizer | None = None,
    layers: Sequence[int] = (),
    quiet: bool = False,
) -> None:
    """The page: tokens, steps, and what could come next.

    Args:
        source_tokenizer: of a pair's source; None: the same.
        layers: those to show; none: all.
        quiet: without excerpts.
    """
    if walk.source_ids:
        out().print(Text("Source, which the encoder reads", style=_HEADING))
        _print_tokens(walk.source_ids, source_tokenizer or tokenizer, shown_in_pair)
        out().print(Text("\nTarget so far, which the decoder reads", style=_HEADING))
    _print_tokens(walk.ids, tokenizer, shown_in_pair if walk.source_ids else shown_token)
    for number, step in enumerate(walk.steps, start=1):
        if step.layer is None or not layers or step.layer in layers:
            _print_step(number, step, quiet=quiet)
    _print_next(walk, tokenizer)


def walk_to_json(
    walk: Walk,
    tokenizer: Tokenizer,
    layers: Sequence[int] = (),
    *,
    source_tokenizer: Tokenizer | None = None,
) -> dict[str, Any]:
    """The same as JSON values; null stands for −∞."""
    show = shown_in_pair if walk.source_ids else shown_token
    source: dict[str, Any] = {}
    if walk.source_ids:
        of = source_tokenizer or tokenizer
        source = {"source": [{"id": i, "token": show(of, i)} for i in walk.source_ids]}
    return {
        **source,
        "tokens": [{"id": i, "token": show(tokenizer, i)} for i in walk.ids],
        "steps": [
            {"number": number, **to_jsonable(step)}
            for number, step in enumerate(walk.steps, start=1)
            if step.layer is None or not layers or step.layer in layers
        ],
        "next_tokens": [
            {"id": i, "token": show(tokenizer, i), "probability": p} for i, p in walk.next_tokens
        ],
    }


def _print_step(number: int, step: Step, *, quiet: bool) -> None:
    layer = None if step.layer is None else f"layer {step.layer}"
    where = "".join(f"{part} · " for part in (step.stack, layer) if part is not None)
    out().print()
    title = Text.assemble((f"{number}. {where}{step.title}", _HEADING), f"   {step.equation}")
    out().print(title)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("", "name", "shape"):
        table.add_column(name)
    for name in ("mean", "std", "min", "max"):
        table.add_column(name, justify="right")
    for label, group in (("in", step.inputs), ("out", step.outputs)):
        for numbers in group:
            shape = f"({numbers.letters}) = {' × '.join(map(str, numbers.shape))}"
            values = (numbers.mean, numbers.std, numbers.min, numbers.max)
            table.add_row(label, numbers.name, shape, *map(_number, values))
    out().print(table)
    if not quiet:
        for numbers in step.outputs:
            _print_excerpt(numbers)


def _print_excerpt(numbers: Numbers) -> None:
    shape = numbers.shape
    of_head = " of the first head" if len(shape) == 4 else ""
    rows = [" ".join(f"{_number(value):>9}" for value in row) for row in numbers.excerpt]
    more = " …" if shape[-1] > len(numbers.excerpt[0]) else ""
    out().print(Text(f"   {numbers.name}{of_head}, its first numbers:", style="dim"))
    for row in rows:
        out().print(Text(f"   {row}{more}"))
    if shape[-2] > len(rows):
        out().print(Text("           …", style="dim"))


def _print_next(walk: Walk, tokenizer: Tokenizer) -> None:
    show = shown_in_pair if walk.source_ids else shown_token
    out().print()
    out().print(Text("What could come next", style=_HEADING))
    table = Table("token", "id", box=None, pad_edge=False)
    table.add_column("probability", justify="right")
    for token_id, probability in walk.next_tokens:
        table.add_row(Text(show(tokenizer, token_id)), str(token_id), f"{probability:.4f}")
    out().print(table)


def _print_tokens(
    ids: Sequence[int], tokenizer: Tokenizer, show: Callable[[Tokenizer, int], str]
) -> None:
    tokens = Table("position", "id", "token", box=None, pad_edge=False)
    for position, token_id in enumerate(ids):
        tokens.add_row(str(position), str(token_id), Text(show(tokenizer, token_id)))
    out().print(tokens)


def _number(value: float) -> str:
    if value == float("-inf"):
        return "−∞"
    if value != 0 and (abs(value) >= 1e5 or abs(value) < 1e-3):
        return f"{value:.2e}"
    return f"{value:.4g}"
