"""The figure of a learning rate range test: the loss against the rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from toolkit.reporting.figures import GREY, PALETTE, legend_below, new_figure, paper_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def range_figure(
    learning_rates: Sequence[float],
    losses: Sequence[float],
    smoothed: Sequence[float],
    *,
    suggestion: float,
    lowest: float,
) -> Figure:
    """Losses and their mean, with the suggested rate and that of the lowest loss marked.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    with paper_style():
        shown = new_figure(2.9)
        axes: Any = shown.subplots()
        axes.plot(learning_rates, losses, color=PALETTE[0], alpha=0.35, lw=0.7)
        (mean,) = axes.plot(learning_rates, smoothed, color=PALETTE[0], label="loss, smoothed")
        steepest = axes.axvline(
            suggestion, color=PALETTE[1], lw=1.0, label=f"steepest: {suggestion:.2g}"
        )
        edge = axes.axvline(
            lowest / 10, color=GREY, lw=0.9, ls=(0, (4, 1.5)), label=f"lowest/10: {lowest / 10:.2g}"
        )
        axes.set_xscale("log")
        axes.set(xlabel="learning rate", ylabel="training loss, nats a token")
        low, high = min(smoothed), max(smoothed[0], min(smoothed))
        space = max(high - low, 1e-9)
        axes.set_ylim(low - 0.15 * space, high + 0.35 * space)
        legend_below(shown, [mean, steepest, edge])
    return shown
