"""What `toolkit inspect` prints: the few numbers to begin with, and where the rest is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from toolkit.console import notice, out

if TYPE_CHECKING:
    from toolkit.inspecting import Inspected
    from toolkit.inspecting_pairs import InspectedPair


def print_inspected(inspected: Inspected, *, quiet: bool) -> None:
    """A summary, and the page to open."""
    from toolkit.inspection import summary

    found = summary(inspected.analysis)
    rows = [("text", f"{found['tokens']} tokens, loss {found['loss']:.3f} nats a token")]
    if found["heads"]:
        rows.append(("heads", ", ".join(f"{n} {kind}" for kind, n in found["heads"].items())))
    if found["most_needed_head"]:
        change = f"{found['its_loss']:+.3f}".replace("-", "−")
        rows.append(("needed most", f"head {found['most_needed_head']}: {change} nats without it"))
    if found["flagged_parameters"]:
        rows.append(("gradients", f"look at {', '.join(found['flagged_parameters'])}"))
    rows.append(("written", str(inspected.folder / "report.html")))
    for name, value in rows:
        out().print(Text.assemble((f"{name:>11}  ", "dim"), value))
    if not quiet:
        notice(f"and {len(inspected.files) - 1} more files in {inspected.folder}")


def print_inspected_pair(pair: InspectedPair, *, quiet: bool) -> None:
    """The translation, the head that is surest of what to read, and the page to open."""
    heads = [
        (value, name.removesuffix(".weights"), head)
        for name, values in pair.focus.items()
        for head, value in enumerate(values)
        if ".cross." in name
    ]
    value, name, head = max(heads)
    rows = [("source", pair.source), ("target", pair.target)]
    rows.append(("loss", f"{pair.analysis.loss:.3f} nats a token of the target"))
    rows.append(("most focused", f"head {head} of {name}: {value:.0%} away from even attention"))
    rows.append(("written", str(pair.folder / "report.html")))
    for label, text in rows:
        out().print(Text.assemble((f"{label:>12}  ", "dim"), text))
    if not quiet:
        notice(f"and {len(pair.files) - 1} more files in {pair.folder}")
