"""What `toolkit compare` shows: a bar while it measures, then one table of both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from toolkit import console
from toolkit.comparing.result import LOSS_TOLERANCE, TOLERANCE, Comparison, Difference

OnStep = Callable[[int, float, float], None]


@contextmanager
def showing(steps: int, *, quiet: bool) -> Iterator[OnStep]:
    """Yield a listener to the steps; it shows a bar in a terminal."""
    if quiet or not console.err().is_terminal:
        yield lambda step, ours, theirs: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[now]}"))
    with Progress(*columns, console=console.err(), transient=True) as bars:
        task = bars.add_task("both, in turn", total=steps, now="")

        def show(step: int, ours: float, theirs: float) -> None:
            bars.update(task, completed=step, now=f"losses {ours:.4f} {theirs:.4f}")

        yield show


def print_comparison(found: Comparison, *, quiet: bool) -> None:
    """The table, and where the two first differ; quiet: that alone."""
    out = console.out()
    if not quiet:
        out.print(f"{_heading(found)}\n", highlight=False)
        out.print(_table(found))
        out.print()
        out.print(_differences(found))
        out.print()
    step, layer = found.first_step, found.first_layer
    out.print(
        f"Losses        {_first(step, 'step')} (tolerance {LOSS_TOLERANCE:g} nats)", highlight=False
    )
    if found.own_differences:
        out.print(f"Rounding      {_rounding(found)}", highlight=False)
    out.print(
        f"Forward pass  {_first(layer, 'point')} (tolerance {TOLERANCE:g} of the largest number)",
        highlight=False,
    )


def print_files(files: list[Path], *, quiet: bool) -> None:
    """Where the figure and the numbers are."""
    if quiet:
        return
    for path in files:
        what = "Numbers" if path.suffix == ".json" else "Figure"
        console.out().print(f"{what:12}  {path}", highlight=False)
    if len(files) == 1:
        console.notice("No figure: that needs pip install 'toolkit[plots]'")


def _heading(found: Comparison) -> str:
    """What was trained, and how."""
    size, config = found.batch_size, found.config
    parts = f"norms {config['norm_order']}" if found.of_pairs else found.preset
    batches = f"{size} pairs" if found.of_pairs else f"{size} × {config['block_size']} tokens"
    dropout = f"dropout {config['dropout']:g}" if config["dropout"] else "no dropout"
    smoothing = f"label smoothing {found.label_smoothing:g}" if found.label_smoothing else ""
    said = (
        f"{found.model}, {parts}, on {found.corpus} ({found.tokenizer})",
        f"batches of {batches}",
        dropout,
        smoothing,
        f"{found.dtype} on {found.device}",
        f"seed {found.seed}",
    )
    return ", ".join(part for part in said if part)


def _table(found: Comparison) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    ours, theirs = found.toolkit, found.huggingface
    for side in (ours, theirs):
        table.add_column(side.name, justify="right")
    table.add_column("toolkit / huggingface", justify="right")

    def add(name: str, a: float, b: float, form: Callable[[float], str]) -> None:
        table.add_row(name, form(a), form(b), f"{a / b:.3f}" if b else "")

    table.add_row("model", ours.model_class, theirs.model_class, "")
    add("parameters", ours.num_params, theirs.num_params, lambda n: f"{n:,.0f}")
    add("loss of the first step", ours.losses[0], theirs.losses[0], lambda n: f"{n:.6f}")
    add(f"loss of step {found.steps}", ours.losses[-1], theirs.losses[-1], lambda n: f"{n:.6f}")
    add("time a step", ours.median_seconds, theirs.median_seconds, lambda n: f"{1000 * n:.1f} ms")
    add("memory of a step", ours.memory.total, theirs.memory.total, console.format_size)
    for part in ("weights", "gradients", "optimizer", "activations"):
        sizes = [getattr(side.memory, part) for side in (ours, theirs)]
        add(f"  {part}", sizes[0], sizes[1], console.format_size)
    if ours.memory.peak is not None and theirs.memory.peak is not None:
        add("most allocated", ours.memory.peak, theirs.memory.peak, console.format_size)
    a, b = ours.tokens_per_second, theirs.tokens_per_second
    add("generation", a, b, lambda n: f"{n:,.0f} tokens/s")
    return table


def _differences(found: Comparison) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("largest difference")
    table.add_column("", justify="right")
    table.add_column("of the largest number", justify="right")
    worst = max(abs(difference) for difference in found.loss_differences)
    table.add_row("losses of all steps", f"{worst:.1e}", "")
    rows: list[tuple[str, Difference]] = [("logits", found.logits)]
    rows += [(f"hidden, {point.name}", point) for point in found.hidden if _is_shown(point.name)]
    rows.append((f"gradients, {found.largest_gradient.name}", found.largest_gradient))
    rows.append((f"trained weights, {found.weights.name}", found.weights))
    for name, each in rows:
        table.add_row(name, f"{each.largest:.1e}", f"{each.relative:.1e}")
    same = f"{found.same_tokens} of {found.generated}"
    table.add_row("tokens that both generate", same, "")
    return table


def _is_shown(name: str) -> bool:
    """Whether a point has a row: the stream, and what came into it from the other stack."""
    within = "blocks." in name
    return not within or name.endswith(("resid_pre", "cross.out", "resid_post"))


def _rounding(found: Comparison) -> str:
    """Whether losses differ because numbers are rounded, or for another reason."""
    worst = f"{max(map(abs, found.own_differences)):.1e}"
    if found.first_own_step is None:
        return f"is not why: with the last bits of its weights changed toolkit stays within {worst}"
    return (
        "with the last bits of its weights changed toolkit differs from itself at step "
        f"{found.first_own_step}, by {worst} at most"
    )


def _first(where: int | str | None, what: str) -> str:
    return "do not differ" if where is None else f"first differ at {what} {where}"
