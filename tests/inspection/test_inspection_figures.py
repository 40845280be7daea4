"""What stands at the axes and in the cells of an analysis's figures."""

from typing import Any

import pytest
import torch
from test_tracer import gpt

from toolkit.inspection import Inspector, analyse

pytest.importorskip("matplotlib")

from toolkit.inspection import figures
from toolkit.inspection.pictures import Training, pictures


def labels_of(axis: Any) -> list[str]:
    return [label.get_text() for label in axis.get_ticklabels()]


@pytest.mark.parametrize("length", [10, 100, 200])
def test_every_token_is_at_the_axes_of_a_head(length: int) -> None:
    tokens = [f"t{i}" for i in range(length)]
    drawn = figures.attention_figure(torch.eye(length), tokens, "0.0")
    axes: Any = drawn.axes[0]
    assert labels_of(axes.xaxis) == labels_of(axes.yaxis) == tokens
    # 5.5 points are 0.077 inches: no label stands in the next one.
    inches = drawn.get_size_inches()
    assert (inches - 1.2).min() / length > 0.077


def test_a_grid_of_heads_is_labelled_outside_alone() -> None:
    tokens = ["$a", "_b", "c·"]
    weights = [torch.eye(3) * (head + 1) / 3 for head in range(3)]
    drawn = figures.heads_figure(weights, tokens, ["x", "y", "z"], columns=2)
    grid: list[Any] = [axes for axes in drawn.axes if axes.images][:3]
    shown = ["\\$a", " _b", "c·"]  # what matplotlib would take for its own is escaped
    assert [labels_of(axes.yaxis) for axes in grid] == [shown, [], shown]
    assert [labels_of(axes.xaxis) for axes in grid] == [[], shown, shown]
    for axes, matrix in zip(grid, weights, strict=True):
        assert torch.equal(torch.tensor(axes.images[0].get_array()), matrix)
        assert axes.images[0].get_clim() == (0, 1)


def test_all_pictures_of_a_model() -> None:
    model = gpt(preset="gpt2")
    inspector = Inspector(model, [1, 2, 3, 4, 5, 1, 2])
    analysis = analyse(inspector, lambda i: f"t{i}", name="m", step=7)
    found = {
        picture.path: picture
        for picture in pictures(analysis, inspector, Training(), every_head=True)
    }
    assert {
        "embeddings/token", "embeddings/position", "embeddings/combined", "attention/layer_1",
        "attention/layer_1_head_1", "attention/attention_step_7", "attention/multihead_comparison",
        "qkv/layer_contributions", "qkv/gradient_flow", "qkv/logit_lens",
    } <= set(found)  # fmt: skip
    for path, picture in found.items():
        if picture.section:
            assert picture.caption.count(". ") >= 1, path  # two sentences
            assert picture.caption.endswith(".")
    lens: Any = found["qkv/logit_lens"].figure.axes[0]
    cells = [text.get_text() for text in lens.texts]
    # Rows from the last layer down to the embedding.
    expected = [f"t{token}" for row in analysis.logit_lens[::-1] for token in row.tokens]
    assert cells == expected
    ablation: Any = found["attention/head_ablation"].figure.axes[0]
    first = analysis.ablation.without_head[0][0] - analysis.ablation.loss
    assert float(ablation.texts[0].get_text().replace("−", "-")) == pytest.approx(first, abs=0.006)
