"""The figure and the page of `toolkit ladder`: what each model added to the one before.

The page is the short form of docs/ladder.md, with the numbers of one climb.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from toolkit.errors import UsageError
from toolkit.reporting.figures import (
    legend_below,
    legend_height,
    new_figure,
    paper_style,
    plain_numbers,
    series_style,
    svg_for_page,
)
from toolkit.reporting.ladder_report import Ladder, Rung
from toolkit.reporting.page import Markup, figure, page, paragraph, section, table, text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Lesson:
    """What one learns from a model: its equation, and what it added, in two or three sentences."""

    equation: str
    added: str


LESSONS: dict[str, Lesson] = {
    "bigram": Lesson(
        "logits_t = W[i_t],   W: V × V",
        "One row of logits for each current token, and nothing else: the model knows which token "
        "follows which. No training can take it below the entropy of pairs; whatever is gained "
        "above it comes from looking further back.",
    ),
    "average-loop": Lesson(
        "x_t = E[i_t],   a_t = 1/(t+1) · Σ_{s ≤ t} relu(W x_s),   logits_t = head(x_t + a_t)",
        "Tokens become vectors of C channels, and the current one is joined by the mean of all so "
        "far. That tells which tokens have been about, not where: every one of them counts the "
        "same. Two loops compute it as the sum is written.",
    ),
    "average-matmul": Lesson(
        "a = A relu(W x),   A[t, s] = 1/(t+1) where s ≤ t, else 0",
        "The same function and the same weights as with loops, as one product with a "
        "lower-triangular matrix. Looking back has become a matrix of T × T weights whose rows "
        "sum to 1; the loss is the same, the time is not.",
    ),
    "average-softmax": Lesson(
        "A = softmax(S),   S[t, s] = 0 where s ≤ t, else −∞",
        "The same function a third time, with the matrix made by a softmax of zeros whose future "
        "is masked. Nothing is gained yet, but any scores may now stand where the zeros are, and "
        "the rows still sum to 1.",
    ),
    "single-head": Lesson(
        "x_t = E[i_t] + P[t],   A = softmax(q kᵀ / √D, masked),   logits = head(x + W_o A v)",
        "The scores are computed from the tokens: what each one looks for (q = W_q x) is compared "
        "with what the others offer (k = W_k x). Each position now takes more from some tokens "
        "than from others, and with a position embedding it can ask for the one just before. "
        "Dividing by √D keeps the scores at variance 1 whatever the width of the head.",
    ),
    "gpt": Lesson(
        "x = x + attention(norm(x));   x = x + mlp(norm(x));   and again for each layer",
        "Several heads side by side, an MLP that works on what they gathered, norms that keep it "
        "trainable, and all of it in layers, so that later heads look at what earlier ones "
        "found. Positions enter by rotating queries and keys.",
    ),
}


def ladder_figure(ladder: Ladder) -> Figure:
    """Validation loss against step, a curve for each model.

    The averages coincide, as they should: their markers take turns.

    Raises:
        UsageError: the ladder has no rungs.
        MissingExtraError: matplotlib is not installed.
    """
    if not ladder.rungs:
        raise UsageError("Nothing to draw: no model of the ladder was trained to its end.")
    labels = [rung.name for rung in ladder.rungs]
    with paper_style():
        from matplotlib.lines import Line2D

        shown = new_figure(2.5 + legend_height(labels))
        axes: Any = shown.subplots()
        handles = []
        for number, rung in enumerate(ladder.rungs):
            look = series_style(number)
            style: dict[str, Any] = {
                "color": look.color,
                "marker": look.marker,
                "linestyle": look.line,
            }
            steps, losses = zip(*rung.curve, strict=True)
            every = slice(number % 3 if len(steps) > 3 else 0, None, 3 if len(steps) > 3 else 1)
            axes.plot(steps, losses, markevery=every, zorder=3, label=rung.name, **style)
            handles.append(Line2D([], [], label=rung.name, **style))
        axes.set(xlabel="step", ylabel="validation loss, nats a token")
        axes.set_xlim(left=0)
        plain_numbers(axes.xaxis, most=5, whole=True)
        plain_numbers(axes.yaxis, most=6)
        legend_below(shown, handles)
    return shown


def ladder_page(ladder: Ladder) -> str:
    """The climb as an HTML document that needs nothing else.

    Raises:
        UsageError: the ladder has no rungs.
        MissingExtraError: matplotlib is not installed.
    """
    svg = svg_for_page(ladder_figure(ladder), "ladder", "Validation loss of each model by step")
    numbers = [paragraph(text(_summary(ladder)), "soft"), _numbers(ladder.rungs)]
    if ladder.left_out:
        numbers.append(paragraph(text(f"Left out: {', '.join(ladder.left_out)}.")))
    caption = (
        "Validation loss against optimizer step, the same batches in the same order for all. "
        "Curves of models that compute the same thing lie on each other."
    )
    sections = [
        section("Numbers", numbers),
        section("Learning", [figure(svg, caption)]),
        section("What each step added", _steps(ladder.rungs)),
        section("Samples", [_samples(ladder)]),
    ]
    return page(f"The ladder of models on {ladder.corpus}", sections)


def _summary(ladder: Ladder) -> str:
    return (
        f"{ladder.corpus}, tokenizer {ladder.tokenizer} with {ladder.vocab_size:,} tokens; each "
        f"model was trained for {ladder.budget}, with seed {ladder.seed}."
    )


def _numbers(rungs: Sequence[Rung]) -> Markup:
    best = min(range(len(rungs)), key=lambda number: rungs[number].val_loss)
    rows = [
        [
            text(rung.name),
            text(f"{rung.num_params:,}"),
            text(f"{rung.steps:,}"),
            text(f"{rung.val_loss:.4f}"),
            text(_gain(rungs, number)),
            text(f"{rung.bits_per_byte:.3f}"),
            text(f"{rung.seconds:.1f}"),
        ]
        for number, rung in enumerate(rungs)
    ]
    header = ["model", "parameters", "steps", "validation loss", "change", "bits/byte", "seconds"]
    caption = "Validation loss in nats a token, over the whole held-out text; change against above"
    return table(caption, header, rows, best=[(best, 3)])


def _gain(rungs: Sequence[Rung], number: int) -> str:
    if number == 0:
        return "–"
    change = rungs[number].val_loss - rungs[number - 1].val_loss
    # Averages differ by roundings: no news, and neither is their sign.
    return "0" if abs(change) < 5e-5 else f"{change:+.4f}".replace("-", "−")


def _steps(rungs: Sequence[Rung]) -> list[Markup]:
    parts = []
    for rung in rungs:
        lesson = LESSONS[rung.name]
        parts.append(Markup(f"<h3>{text(rung.name)}</h3>"))
        parts.append(paragraph(Markup(f"<code>{text(lesson.equation)}</code>"), "scroll"))
        numbers = f"{rung.num_params:,} parameters, validation loss {rung.val_loss:.4f}."
        parts.append(paragraph(text(f"{lesson.added} {numbers}")))
    return parts


def _samples(ladder: Ladder) -> Markup:
    """Columns that wrap: what each model wrote after the same prompt."""
    cells = [
        f'<figure class="sample"><figcaption>{text(rung.name)}, {rung.val_loss:.2f}</figcaption>'
        f"<pre>{text(ladder.prompt)}{text(rung.sample)}</pre></figure>"
        for rung in ladder.rungs
    ]
    style = (
        "display:grid;grid-template-columns:repeat(auto-fit,minmax(17rem,1fr));gap:0 1.5rem;"
        "align-items:start"
    )
    return Markup(f'<div style="{escape(style)}">\n' + "\n".join(cells) + "\n</div>")
