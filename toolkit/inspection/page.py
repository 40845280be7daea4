"""report.html: an analysis to be read from top to bottom, in one file that needs nothing else.

Figures are inside as SVG. Attention can be explored: the weights are in the page, as a byte each,
and a short script colours the tokens that the one under the pointer reads.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from toolkit.inspection.patterns import KINDS
from toolkit.reporting.figures import svg_in_page
from toolkit.reporting.page import Markup, details, figure, page, paragraph, section, table, text

if TYPE_CHECKING:
    from torch import Tensor

    from toolkit.inspection.pictures import Picture
    from toolkit.inspection.report import Analysis

MAX_WEIGHTS = 12_000_000
_PIXELS_PER_INCH, _FEWEST_PIXELS_PER_INCH = 110, 85
_PAGE_PIXELS = 1040
_PAGE_INCHES = 5.0  # wider figures are as wide as the page, or scroll

STYLE = """<style>
.animation { display: block; max-width: 100%; height: auto; border: 1px solid var(--line);
  border-radius: 8px; }
.wide { overflow-x: auto; } .wide svg { max-width: none; }
.explore { border: 1px solid var(--line); border-radius: 8px; padding: .75rem; margin: 1rem 0; }
.explore label { margin-right: 1rem; font-size: .9rem; }
.explore select { font: inherit; padding: .1rem .3rem; }
.tokens { display: flex; flex-wrap: wrap; gap: 3px; margin: .75rem 0 .5rem;
  font: .9rem/1.3 ui-monospace, monospace; }
.tokens button { font: inherit; color: inherit; border: 1px solid var(--line); border-radius: 4px;
  padding: .1rem .3rem; background: transparent; cursor: pointer; min-width: 1.4rem; }
.tokens button.query { outline: 3px solid #D55E00; outline-offset: -1px; }
.tokens button.dark { color: #fff; } .tokens button.light { color: #000; }
.reads { min-height: 3rem; font-size: .9rem; font-variant-numeric: tabular-nums; }
</style>"""

_SCRIPT = """
(function () {
  var data = JSON.parse(document.getElementById("attention-data").textContent);
  var bytes = atob(data.weights), n = data.tokens.length;
  var layer = document.getElementById("layer"), head = document.getElementById("head");
  var way = document.getElementById("way"), box = document.getElementById("tokens");
  var reads = document.getElementById("reads"), query = n - 1, pinned = false;
  function weight(h, t, s) {
    var start = ((+layer.value * data.heads + h) * n + t) * n;
    return bytes.charCodeAt(start + s) / 255;
  }
  function value(t, s) {
    if (head.value !== "mean") return weight(+head.value, t, s);
    var sum = 0;
    for (var h = 0; h < data.heads; h++) sum += weight(h, t, s);
    return sum / data.heads;
  }
  var buttons = data.tokens.map(function (token, i) {
    var button = document.createElement("button");
    button.type = "button";
    button.textContent = token;
    button.title = "position " + i;
    button.addEventListener("mouseenter", function () { if (!pinned) show(i); });
    button.addEventListener("focus", function () { if (!pinned) show(i); });
    button.addEventListener("click", function () {
      pinned = !(pinned && query === i);
      show(i);
    });
    box.appendChild(button);
    return button;
  });
  function show(i) {
    query = i;
    var reading = way.value === "reads", list = [];
    buttons.forEach(function (button, j) {
      var w = reading ? value(i, j) : value(j, i);
      button.className = (j === i ? "query " : "") + (w > 0.45 ? "dark" : w > 0.02 ? "light" : "");
      button.style.background = w > 0.02 ? "hsl(205 85% " + (94 - 62 * w) + "%)" : "";
      list.push([w, j]);
    });
    list.sort(function (a, b) { return b[0] - a[0]; });
    reads.textContent = (reading ? "Position " + i + " " : "Position " + i + " is read by ") +
      (reading ? "reads " : "") + list.slice(0, 5).filter(function (p) { return p[0] > 0; })
      .map(function (p) {
        return "“" + data.tokens[p[1]] + "” at " + p[1] + " (" + (100 * p[0]).toFixed(0) + "%)";
      }).join(", ") + (pinned ? " — held; click it again to let go" : "");
  }
  [layer, head, way].forEach(function (choice) {
    choice.addEventListener("change", function () { show(query); });
  });
  show(query);
})();
"""

_INTRODUCTIONS = {
    "Embeddings": "Each token becomes a vector: a row of a table that was learned. What follows "
    "only ever sees these vectors.",
    "Attention": "In each layer every head lets each token read from itself and from those before "
    "it. How much of each is decided by its query and their keys.",
    "Heads compared": "Heads are not assigned a task; what each does is found out afterwards, by "
    "scores. A class is given to a head that is far enough above what even attention would score.",
    "Queries, keys, values": "A query asks, a key answers, a value is what is handed over. Long "
    "queries and keys make sharp attention, short ones blur it.",
    "Layers": "Every part adds something to the residual stream, the sum that runs from the "
    "embedding to the head. What a part is worth shows when it is taken out.",
    "Gradients": "The gradient says how the loss on this text would change with each number of the "
    "model. Parameters without one do not learn from this text; very large ones shake training.",
    "Training": "How the model came to be.",
}


def inspection_page(
    analysis: Analysis, weights: Sequence[Tensor], pictures: Sequence[tuple[str, Markup]]
) -> str:
    """The whole document.

    Args:
        weights: (H, T, T) for each layer.
        pictures: each with the section that it belongs to, as `picture_for_page` gives it.
    """
    content = [Markup(STYLE), paragraph(text(_opening(analysis)), "soft"), _tokens(analysis)]
    for title, introduction in _INTRODUCTIONS.items():
        own = [picture for where, picture in pictures if where == title]
        if not own:
            continue
        parts = [paragraph(text(introduction))]
        if title == "Attention":
            parts.append(_explorer(analysis, weights))
        parts += own
        if title == "Embeddings":
            parts.append(_neighbours(analysis))
        if title == "Heads compared":
            parts.append(_kinds())
        content.append(section(title, parts))
    if analysis.probes:
        content.append(section("Linear probes", _probes(analysis)))
    return page(f"Inside {analysis.name}", content)


def picture_for_page(picture: Picture, svg: str) -> Markup:
    """A figure with its caption; a large one as wide as the page, or to be scrolled.

    Args:
        svg: the content of the figure's SVG file.
    """
    name = picture.path.replace("/", "-").replace("_", "-")
    shown = figure(svg_in_page(svg, name, picture.caption.split(". ")[0]), picture.caption)
    inches = picture.figure.get_size_inches()[0]
    if inches <= _PAGE_INCHES:
        return shown
    # As large as the page where its text stays readable, otherwise larger.
    pixels = max(min(inches * _PIXELS_PER_INCH, _PAGE_PIXELS), inches * _FEWEST_PIXELS_PER_INCH)
    width = round(pixels)
    # The picture alone scrolls; its caption stays as wide as the text.
    svg, rest = shown.split("\n<figcaption>", 1)
    start, svg = svg.split("\n", 1)
    box = f'<div class="wide" tabindex="0"><div style="width:{width}px">{svg}</div></div>'
    return Markup(f"{start}\n{box}\n<figcaption>{rest}")


def animation_for_page(gif: bytes) -> Markup:
    """The head that changed most, as an image that is in the page."""
    data = base64.b64encode(gif).decode("ascii")
    alt = "A head's attention weights from step to step"
    image = f'<img class="animation" alt="{alt}" src="data:image/gif;base64,{data}">'
    caption = (
        "The head whose attention changed most, forming: a frame for each of the steps at which "
        "training was looked at. Each row is a token of what was followed, dark where it reads."
    )
    return figure(image, caption)


def _opening(analysis: Analysis) -> str:
    step = "" if analysis.step is None else f" after {analysis.step:,} steps of training"
    return (
        f"What the model {analysis.name}{step} computes for a text of {len(analysis.ids)} tokens. "
        f"Its loss on the text is {analysis.ablation.loss:.3f} nats a token. Layers, heads and "
        "positions count from 0; 1.2 is head 2 of layer 1. All numbers are in "
        "analysis_report.json, and all figures beside it as PNG and SVG."
    )


def _tokens(analysis: Analysis) -> Markup:
    shown = " ".join(f"<code>{text(token)}</code>" for token in analysis.tokens)
    return paragraph(Markup(f"The text, token by token: {shown}"))


def _explorer(analysis: Analysis, weights: Sequence[Tensor]) -> Markup:
    n_heads, n = weights[0].size(0), len(analysis.tokens)
    if len(weights) * n_heads * n * n > MAX_WEIGHTS:
        return paragraph(
            text("This text is too long to be explored here; the figures show its attention.")
        )
    data = b"".join(
        (layer.clamp(0, 1) * 255).round().byte().contiguous().numpy().tobytes() for layer in weights
    )
    values = {
        "tokens": analysis.tokens,
        "heads": n_heads,
        "weights": base64.b64encode(data).decode("ascii"),
    }
    # A token may hold "</script>".
    content = json.dumps(values, ensure_ascii=False).replace("<", "\\u003c")
    layers = "".join(f"<option>{number}</option>" for number in range(len(weights)))
    heads = '<option value="mean">mean of all</option>' + "".join(
        f"<option{' selected' if number == 0 else ''}>{number}</option>"
        for number in range(n_heads)
    )
    return Markup(
        '<div class="explore">\n'
        "<p>Point at a token (or reach it with the tab key) to see what it reads; click to hold "
        "it. The darker a token, the more of it is taken.</p>\n"
        f'<label>Layer <select id="layer">{layers}</select></label>\n'
        f'<label>Head <select id="head">{heads}</select></label>\n'
        '<label>Show <select id="way"><option value="reads">what it reads</option>'
        '<option value="read">who reads it</option></select></label>\n'
        '<div class="tokens" id="tokens"></div>\n<p class="reads soft" id="reads"></p>\n'
        f'<script type="application/json" id="attention-data">{content}</script>\n'
        f"<script>{_SCRIPT}</script>\n</div>"
    )


def _kinds() -> Markup:
    rows = [
        [text(kind.name), text(kind.measure), text(f"{kind.threshold:g}"), text(kind.source)]
        for kind in KINDS
    ]
    header = ["class", "what is measured", "from", "source"]
    caption = (
        "The classes: of the first four the strongest that reaches its limit, otherwise the first "
        "of the last three; none of them is mixed. Scores are above even attention, but the "
        "last, which is as it stands."
    )
    shown = Markup('<div class="kinds">' + table(caption, header, rows, left=(1, 3)) + "</div>")
    wrap = Markup("<style>.kinds td { white-space: normal; max-width: 22rem; }</style>")
    return details("How the classes are defined", [wrap, shown])


def _neighbours(analysis: Analysis) -> Markup:
    rows = []
    for found in analysis.embedding.neighbours:
        near = ", ".join(
            f"<code>{text(analysis.vocabulary[token])}</code> {cosine:.2f}"
            for token, cosine in found.nearest
        )
        rows.append(
            [Markup(f"<code>{text(analysis.vocabulary[found.token])}</code>"), Markup(near)]
        )
    caption = "The tokens whose embeddings point most in the same direction, with their cosine"
    shown = table(caption, ["token", "nearest"], rows, left=(1,))
    return details("Nearest neighbours of the text's tokens", [shown])


def _probes(analysis: Analysis) -> list[Markup]:
    rows = [
        [
            text(probe.point),
            text(probe.asked),
            text(probe.measure),
            text(f"{probe.score:.2f}".replace("-", "−")),
            text(f"{probe.chance:.2f}".replace("-", "−")),
            text(str(probe.n_judged)),
        ]
        for probe in analysis.probes
    ]
    introduction = (
        "What a single matrix can read off the residual stream at each depth. It is fitted on "
        "three of four positions of this text and judged on the fourth: with a short text a "
        "rough answer, and one that says what is there, not what the model uses."
    )
    header = ["point", "asked for", "measure", "score", "constant answer", "positions judged"]
    caption = "Ridge regression from the stream to what is asked for"
    return [paragraph(text(introduction)), table(caption, header, rows, left=(1, 2))]
