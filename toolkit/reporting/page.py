"""The skeleton of every report page: one HTML file that needs nothing else.

Styles and figures are inside, there is no script, and it reads well in light and dark, on a phone
and on paper. Everything that is given as text is escaped here; what is already markup has the type
`Markup`, so that the two cannot be mixed up unnoticed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import NewType

Markup = NewType("Markup", str)

_CSS = """
:root { color-scheme: light dark; --text: #1c1e21; --soft: #555b63; --back: #ffffff;
  --line: #d9dce1; --head: #f3f4f6; --mark: #d8f0e4; --token: #e8eef7; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e8eb; --soft: #a7adb5; --back: #16181b;
  --line: #3a3e44; --head: #22252a; --mark: #1f4a38; --token: #2b3442; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 1.5rem 1rem 4rem; color: var(--text);
  background: var(--back); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .75rem; break-after: avoid; }
h3 { font-size: 1.05rem; margin: 1.5rem 0 .25rem; break-after: avoid; }
pre { margin: .25rem 0; font: .8rem/1.4 ui-monospace, monospace; white-space: pre-wrap;
  overflow-wrap: anywhere; }
p, figcaption { max-width: 46rem; }
.soft, figcaption, caption { color: var(--soft); }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .8125rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: .25rem 0 .5rem; }
th, td { padding: .3rem .5rem; border-bottom: 1px solid var(--line); text-align: right;
  vertical-align: bottom; white-space: nowrap; }
thead th { background: var(--head); white-space: normal; }
tbody th, thead th:first-child, .left { text-align: left; }
tbody th { font-weight: 500; }
td.best { background: var(--mark); font-weight: 700; }
code { font: .85em ui-monospace, monospace; white-space: pre; background: var(--token);
  border-radius: 3px; padding: .05rem .15rem; }
figure { margin: 1.5rem 0; break-inside: avoid; }
figure svg { display: block; width: 100%; max-width: 34rem; height: auto; background: #fff;
  border: 1px solid var(--line); border-radius: 8px; padding: .5rem; }
figcaption { margin-top: .5rem; font-size: .9rem; }
details { margin: .75rem 0; }
summary { cursor: pointer; font-weight: 500; }
@media print { :root { color-scheme: light; --text: #000; --soft: #333; --back: #fff;
  --line: #bbb; --head: #eee; --mark: #ddd; --token: #eee; }
  body { max-width: none; padding: 0; font-size: 10pt; } .scroll { overflow: visible; }
  table { font-size: 7.5pt; } th, td { padding: .15rem .3rem; } h2 { margin-top: 1rem; }
  figure { margin: .5rem 0; } figure svg { max-width: 9cm; padding: 0; border: 0; } }
"""


def text(value: str) -> Markup:
    """Any text, so that a browser shows it as it is.

    >>> text("<b> & \\"c\\"")
    '&lt;b&gt; &amp; &quot;c&quot;'
    """
    return Markup(escape(value))


def join(parts: Iterable[Markup]) -> Markup:
    """Markup one after the other, each on a line of its own."""
    return Markup("\n".join(parts))


def paragraph(content: Markup, css_class: str = "") -> Markup:
    """`<p>`."""
    return Markup(
        f'<p class="{escape(css_class)}">{content}</p>' if css_class else f"<p>{content}</p>"
    )


def section(title: str, content: Iterable[Markup]) -> Markup:
    """A heading and what belongs to it."""
    return Markup(f"<section>\n<h2>{text(title)}</h2>\n{join(content)}\n</section>")


def details(summary: str, content: Iterable[Markup]) -> Markup:
    """What is shown when somebody asks for it."""
    return Markup(f"<details>\n<summary>{text(summary)}</summary>\n{join(content)}\n</details>")


def figure(svg: str, caption: str) -> Markup:
    """A drawing (an `<svg>` element) with what it shows below it."""
    return Markup(f"<figure>\n{svg}\n<figcaption>{text(caption)}</figcaption>\n</figure>")


def table(
    caption: str,
    header: Sequence[str],
    rows: Sequence[Sequence[Markup]],
    *,
    best: Iterable[tuple[int, int]] = (),
    left: Iterable[int] = (),
) -> Markup:
    """A table whose first column names the rows.

    Args:
        best: the cells (row, column) to mark.
        left: columns of text, which are aligned at the left.
    """
    marked, texts = set(best), set(left)
    lines = [f"<caption>{text(caption)}</caption>", "<thead><tr>"]
    for column, name in enumerate(header):
        css = ' class="left"' if column in texts else ""
        lines.append(f'<th scope="col"{css}>{text(name)}</th>')
    lines.append("</tr></thead>\n<tbody>")
    for number, row in enumerate(rows):
        cells = [f'<tr><th scope="row">{row[0]}</th>']
        for column, cell in enumerate(row[1:], start=1):
            css = ' class="best"' if (number, column) in marked else ""
            css = ' class="left"' if column in texts else css
            cells.append(f"<td{css}>{cell}</td>")
        lines.append("".join(cells) + "</tr>")
    lines.append("</tbody>")
    inside = "\n".join(lines)
    return Markup(f'<div class="scroll" tabindex="0">\n<table>\n{inside}\n</table>\n</div>')


def page(title: str, content: Iterable[Markup]) -> str:
    """The whole document."""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{text(title)}</title>
<style>{_CSS}</style>
</head>
<body>
<main>
<h1>{text(title)}</h1>
{join(content)}
</main>
</body>
</html>
"""
