"""What `toolkit generate` and `toolkit perplexity` show: samples, probabilities, scores.

For each thing one function that prints it and one that gives it as JSON values.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from toolkit.console import bytes_to_json, out
from toolkit.shown import show_token

if TYPE_CHECKING:
    from toolkit.generation import Completion
    from toolkit.generation.samples import Alternative, TokenLogprob
    from toolkit.generation.scoring import Score

# From likely to unlikely, blue to orange: told apart with any kind of colour blindness. Black on
# them has a contrast of at least 9 to 1, where 4.5 is the least for small text.
_STYLES = (
    (0.5, "#000000 on #7fb8f5"),
    (0.2, "#000000 on #cfe4fb"),
    (0.05, "#000000 on #fff3c4"),
    (0.01, "#000000 on #ffd75e"),
    (0.0, "#000000 on #f2a154"),
)


def probability_style(probability: float) -> str:
    """The style of a token that had this probability."""
    return next(style for border, style in _STYLES if probability >= border)


def print_probabilities(completion: Completion) -> None:
    """Each token in the colour of its probability, then one line a token with what else was
    likely."""
    assert completion.logprobs is not None
    pairs = [(each.token, each.logprob) for each in completion.logprobs]
    table = Table("token", box=None, pad_edge=False)
    table.add_column("p", justify="right")
    table.add_column("likeliest")
    for each in completion.logprobs:
        others = "  ".join(f"{show_token(a.token)[0]} {math.exp(a.logprob):.3f}" for a in each.top)
        table.add_row(_coloured(each.token, each.logprob), _probability(each.logprob), Text(others))
    out().print(Group(_coloured_text(pairs), Text(), table))


def print_score(score: Score) -> None:
    """Three lines of numbers."""
    for name, value in (
        ("loss", f"{score.loss:.4f} nats per token"),
        ("perplexity", f"{score.perplexity:,.2f}"),
        ("bits per byte", f"{score.bits_per_byte:.4f}"),
    ):
        out().print(Text.assemble((f"{name:>13}  ", "dim"), value))


def print_scored_tokens(score: Score) -> None:
    """One line a token: its place, itself, its probability and its loss."""
    table = Table(box=None, pad_edge=False)
    table.add_column("place", justify="right")
    table.add_column("token")
    table.add_column("p", justify="right")
    table.add_column("loss", justify="right")
    for place, each in enumerate(score.tokens):
        if each.logprob is None:
            table.add_row(str(place), Text(show_token(each.token)[0]), "–", "–")
            continue
        token = _coloured(each.token, each.logprob)
        table.add_row(str(place), token, _probability(each.logprob), f"{-each.logprob:.3f}")
    out().print(table)


def completion_to_json(completion: Completion) -> dict[str, Any]:
    """What `toolkit generate --json` prints for one sample."""
    values: dict[str, Any] = {
        "prompt": completion.prompt,
        "text": completion.text,
        "ids": list(completion.ids),
        "finish_reason": completion.finish_reason,
        "seed": completion.seed,
    }
    if completion.logprobs is not None:
        values["logprobs"] = [
            {**_logprob_to_json(each), "top": [_logprob_to_json(other) for other in each.top]}
            for each in completion.logprobs
        ]
    return values


def score_to_json(score: Score, *, with_tokens: bool) -> dict[str, Any]:
    """What `toolkit perplexity --json` prints."""
    values: dict[str, Any] = {
        "loss": score.loss,
        "perplexity": score.perplexity,
        "bits_per_byte": score.bits_per_byte,
        "num_tokens": score.num_tokens,
        "num_bytes": score.num_bytes,
        "context": score.context,
        "stride": score.stride,
    }
    if with_tokens:
        values["tokens"] = [
            {"id": each.id, "token": bytes_to_json(each.token), "logprob": each.logprob}
            for each in score.tokens
        ]
    return values


def _logprob_to_json(each: Alternative | TokenLogprob) -> dict[str, Any]:
    return {"id": each.id, "token": bytes_to_json(each.token), "logprob": each.logprob}


def _coloured(token: bytes, logprob: float) -> Text:
    return Text(show_token(token)[0], style=probability_style(math.exp(logprob)))


def _coloured_text(tokens: Iterable[tuple[bytes, float]]) -> Text:
    text = Text()
    for token, logprob in tokens:
        text.append_text(_coloured(token, logprob))
        text.append("\n" * token.count(b"\n"))
    return text


def _probability(logprob: float) -> str:
    return f"{math.exp(logprob):.3f}"
