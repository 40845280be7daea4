"""What `toolkit inspect` prints: the few numbers to begin with, and where the rest is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from toolkit.console import notice, out

if TYPE_CHECKING:
    from toolkit.inspecting import Inspected


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
