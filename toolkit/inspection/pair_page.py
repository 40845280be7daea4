"""report.html of a pair: an analysis to be read from top to bottom, in one file that needs nothing
else.

Attention can be explored: the weights are in the page, as a byte each, and a short script colours
the tokens that the one under the pointer reads, or those that read it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from toolkit.inspection.page import MAX_WEIGHTS, STYLE
from toolkit.reporting.page import Markup, details, join, page, paragraph, section, table, text

if TYPE_CHECKING:
    from torch import Tensor

    from toolkit.inspection.pair_figures import PairTokens
    from toolkit.inspection.pair_report import PairAnalysis

_STYLE = """<style>
.beside { display: grid; gap: 0 1.5rem; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(19rem, 100%), 1fr)); }
.beside figure { margin: .75rem 0; }
.explore h3 { margin: .75rem 0 0; }
.explore select { max-width: 100%; }
</style>"""

_SCRIPT = """
(function () {
  var data = JSON.parse(document.getElementById("attention-data").textContent);
  var bytes = atob(data.weights), kind = document.getElementById("kind");
  var layer = document.getElementById("layer"), head = document.getElementById("head");
  var reads = document.getElementById("reads"), seen, buttons = { rows: [], columns: [] };
  var side = "rows", place = 0, pinned = false;
  function weight(h, t, s) {
    var start = seen.start + ((+layer.value * seen.heads + h) * seen.rows.length + t) *
      seen.columns.length;
    return bytes.charCodeAt(start + s) / 255;
  }
  function value(t, s) {
    if (head.value !== "mean") return weight(+head.value, t, s);
    var sum = 0;
    for (var h = 0; h < seen.heads; h++) sum += weight(h, t, s);
    return sum / seen.heads;
  }
  function choices(select, values, kept) {
    select.textContent = "";
    values.forEach(function (value) {
      var option = document.createElement("option");
      option.value = value;
      option.textContent = value === "mean" ? "mean of all" : value;
      select.appendChild(option);
    });
    if (values.indexOf(kept) >= 0) select.value = kept;
  }
  function numbers(n) {
    return Array.apply(null, Array(n)).map(function (_, i) { return String(i); });
  }
  function list(which) {
    var box = document.getElementById(which);
    box.textContent = "";
    buttons[which] = seen[which].map(function (token, i) {
      var button = document.createElement("button");
      button.type = "button";
      button.textContent = token;
      button.title = "position " + i;
      function look() { if (!pinned) show(which, i); }
      button.addEventListener("mouseenter", look);
      button.addEventListener("focus", look);
      button.addEventListener("click", function () {
        pinned = !(pinned && side === which && place === i);
        show(which, i);
      });
      box.appendChild(button);
      return button;
    });
  }
  function show(which, i) {
    side = which;
    place = i;
    var reading = which === "rows", other = reading ? "columns" : "rows", found = [];
    buttons[which].forEach(function (button, j) {
      button.className = j === i ? "query" : "";
      button.style.background = "";
    });
    buttons[other].forEach(function (button, j) {
      var w = reading ? value(i, j) : value(j, i);
      button.className = w > 0.45 ? "dark" : w > 0.02 ? "light" : "";
      button.style.background = w > 0.02 ? "hsl(205 85% " + (94 - 62 * w) + "%)" : "";
      found.push([w, j]);
    });
    found.sort(function (a, b) { return b[0] - a[0]; });
    reads.textContent = "“" + seen[which][i] + "” at " + i + (reading ? " reads " :
      " is read by ") + found.slice(0, 5).filter(function (p) { return p[0] > 0; })
      .map(function (p) {
        return "“" + seen[other][p[1]] + "” at " + p[1] + " (" + (100 * p[0]).toFixed(0) + "%)";
      }).join(", ") + (pinned ? " — held; click it again to let go" : "");
  }
  function choose() {
    seen = data.kinds[kind.value];
    choices(layer, numbers(seen.layers), layer.value || String(seen.layers - 1));
    choices(head, ["mean"].concat(numbers(seen.heads)), head.value);
    document.getElementById("row-label").textContent = seen.row_label;
    document.getElementById("column-label").textContent = seen.column_label;
    list("rows");
    list("columns");
    pinned = false;
    show("rows", 0);
  }
  kind.addEventListener("change", choose);
  [layer, head].forEach(function (choice) {
    choice.addEventListener("change", function () { show(side, place); });
  });
  choose();
})();
"""

_INTRODUCTIONS = {
    "Attention": "There are three kinds. The encoder's tokens read each other, in both directions; "
    "each token that the decoder writes reads what was written before it; and it reads the source, "
    "which is called cross-attention.",
    "Heads compared": "Heads are not assigned a task; what each does is found out afterwards. A "
    "head that is far from even attention has chosen what to read.",
    "Queries, keys, values": "A query asks, a key answers, a value is what is handed over. In "
    "cross-attention the queries are the decoder's, keys and values the source's.",
    "Layers": "Every part adds something to the residual stream of its stack. What a part is worth "
    "shows when it is taken out.",
    "Gradients": "The gradient says how the loss on this target would change with each number of "
    "the model. Parameters without one do not learn from this pair; very large ones shake "
    "training.",
    "Training": "How the model came to be.",
}
_KINDS = {
    "cross": "cross-attention: the target reads the source",
    "encoder": "encoder: the source reads itself",
    "decoder": "decoder: the target reads what is written",
}


def pair_page(
    analysis: PairAnalysis,
    tokens: PairTokens,
    weights: Mapping[str, Sequence[Tensor]],
    pictures: Sequence[tuple[str, Markup]],
) -> str:
    """The whole document.

    Args:
        weights: of each kind, (H, T, S) for each layer.
        pictures: each with the section that it belongs to, as `picture_for_page` gives it.
    """
    content = [
        Markup(STYLE),
        Markup(_STYLE),
        paragraph(text(_opening(analysis)), "soft"),
        _tokens("The source", tokens.source),
        _tokens("The target", tokens.target),
    ]
    for title, introduction in _INTRODUCTIONS.items():
        own = [picture for where, picture in pictures if where == title]
        if not own:
            continue
        parts = [paragraph(text(introduction))]
        if title == "Attention":
            parts.append(_explorer(tokens, weights))
        if title == "Heads compared":
            parts.append(_heads(analysis))
        parts += _beside(own)
        content.append(section(title, parts))
    return page(f"Inside {analysis.name}", content)


def _beside(figures: Sequence[Markup]) -> list[Markup]:
    """Narrow figures that follow each other stand side by side where there is room."""
    parts: list[Markup] = []
    narrow: list[Markup] = []
    for drawn in figures:
        if 'class="wide"' not in drawn:
            narrow.append(drawn)
            continue
        parts += _grid(narrow)
        parts.append(drawn)
        narrow = []
    return parts + _grid(narrow)


def _grid(figures: Sequence[Markup]) -> list[Markup]:
    return [Markup(f'<div class="beside">\n{join(figures)}\n</div>')] if figures else []


def _opening(analysis: PairAnalysis) -> str:
    step = "" if analysis.step is None else f" after {analysis.step:,} steps of training"
    return (
        f"What the model {analysis.name}{step} computes for a source of "
        f"{len(analysis.source_tokens)} tokens and a target of {len(analysis.target_tokens)}, each "
        f"with its end. Its loss on the target is {analysis.loss:.3f} nats a token. Layers, heads "
        "and positions count from 0; 1.2 is head 2 of layer 1. All numbers are in "
        "analysis_report.json, the weights in attention.json, and all figures beside them as PNG "
        "and SVG."
    )


def _tokens(what: str, tokens: Sequence[str]) -> Markup:
    shown = " ".join(f"<code>{text(token)}</code>" for token in tokens)
    return paragraph(Markup(f"{what}, token by token: {shown}"))


def _explorer(tokens: PairTokens, weights: Mapping[str, Sequence[Tensor]]) -> Markup:
    if sum(layer.numel() for layers in weights.values() for layer in layers) > MAX_WEIGHTS:
        return paragraph(
            text("This pair is too long to be explored here; the figures show its attention.")
        )
    data, kinds = b"", {}
    for kind in _KINDS:
        axes, layers = tokens.axes(kind), weights[kind]
        kinds[kind] = {
            "rows": axes.rows,
            "columns": axes.columns,
            "row_label": axes.row_label,
            "column_label": axes.column_label,
            "layers": len(layers),
            "heads": layers[0].size(0),
            "start": len(data),
        }
        data += b"".join(
            (layer.clamp(0, 1) * 255).round().byte().contiguous().numpy().tobytes()
            for layer in layers
        )
    values = {"kinds": kinds, "weights": base64.b64encode(data).decode("ascii")}
    # A token may hold "</script>".
    content = json.dumps(values, ensure_ascii=False).replace("<", "\\u003c")
    options = "".join(f'<option value="{kind}">{text(of)}</option>' for kind, of in _KINDS.items())
    return Markup(
        '<div class="explore">\n'
        "<p>Point at a token (or reach it with the tab key): above to see what it reads, below to "
        "see who reads it; click to hold it. The darker a token, the more of it is taken.</p>\n"
        f'<label>Attention <select id="kind">{options}</select></label>\n'
        '<label>Layer <select id="layer"></select></label>\n'
        '<label>Head <select id="head"></select></label>\n'
        '<h3 id="row-label"></h3>\n<div class="tokens" id="rows"></div>\n'
        '<h3 id="column-label"></h3>\n<div class="tokens" id="columns"></div>\n'
        '<p class="reads soft" id="reads"></p>\n'
        f'<script type="application/json" id="attention-data">{content}</script>\n'
        f"<script>{_SCRIPT}</script>\n</div>"
    )


def _heads(analysis: PairAnalysis) -> Markup:
    rows = []
    for kind in _KINDS:
        for head in analysis.heads[kind]:
            order = "–" if head.order is None else f"{head.order:+.2f}".replace("-", "−")
            ablation = analysis.ablation[kind]
            lost = ablation.without_head[head.layer][head.head] - ablation.loss
            rows.append(
                [
                    text(f"{kind} {head.layer}.{head.head}"),
                    text(f"{head.focus:.2f}"),
                    text(f"{head.entropy:.2f}"),
                    text(f"{head.largest:.2f}"),
                    text(order),
                    text(f"{lost:+.3f}".replace("-", "−")),
                ]
            )
    header = [
        "head", "away from even attention", "entropy, nats", "largest weight of a row",
        "order: +1 along, −1 backwards", "nats without it",
    ]  # fmt: skip
    caption = (
        "Away from even attention: 1 less the entropy over that of even attention, 0 to 1. Order: "
        "the correlation of the place that reads with the mean place that is read."
    )
    return details("All heads in numbers", [table(caption, header, rows)])
