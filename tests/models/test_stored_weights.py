"""Matrices in bfloat16 and int8: what is stored, and how near it is."""

import pytest
import torch

from toolkit.errors import UnknownNameError, UsageError
from toolkit.models import GPTModel, WeightFormat, create_model
from toolkit.models.stored import StoredMatrix, round_rows, store_weights


def gpt(**options: object) -> GPTModel:
    model = create_model("gpt", 61, size="nano", seed=3, **options)
    assert isinstance(model, GPTModel)
    return model.eval()


def ids() -> torch.Tensor:
    return torch.randint(0, 61, (4, 40), generator=torch.Generator().manual_seed(0))


def test_int8_is_the_nearest_of_255_numbers_of_each_row() -> None:
    weight = torch.randn(50, 33, generator=torch.Generator().manual_seed(0))
    weight[7] = 0.0
    weight[9] *= 1000
    stored, scales = round_rows(weight, "int8")
    largest = weight.abs().amax(dim=1).double()
    assert stored.dtype == torch.int8
    assert stored.abs().amax(dim=1).tolist() == [127 if row != 7 else 0 for row in range(50)]
    error = (stored.double() * scales[:, None].double() - weight.double()).abs()
    # Half a step, and what float32 rounds of a number as large as the largest.
    assert bool((error <= largest[:, None] * (0.5 / 127 + 2**-23)).all())


def test_bfloat16_is_torchs() -> None:
    weight = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    stored, scales = round_rows(weight, "bfloat16")
    assert torch.equal(stored, weight.bfloat16())
    assert scales.tolist() == [1.0] * 5


@pytest.mark.parametrize("preset", ["modern", "gpt2"])
def test_a_stored_model_is_the_model_of_the_rounded_numbers(preset: str) -> None:
    formats: tuple[WeightFormat, ...] = ("bfloat16", "int8")
    for weights in formats:
        model = gpt(preset=preset, tie_embeddings=preset == "gpt2")
        stored = store_weights(model, weights)
        rounded = gpt(preset=preset, tie_embeddings=preset == "gpt2")
        with torch.no_grad():
            for name, module in rounded.named_modules():
                if isinstance(module, torch.nn.Linear) or name == "tok_emb":
                    numbers, scales = round_rows(module.weight, weights)
                    module.weight.copy_(numbers.float() * scales[:, None])
        with torch.inference_mode():
            # An int8 matrix is scaled after the product: logits of size 1, rounded elsewhere.
            tolerance = 0.0 if weights == "bfloat16" else 2e-6
            torch.testing.assert_close(
                stored(ids()).logits, rounded(ids()).logits, atol=tolerance, rtol=0
            )
            assert not torch.equal(stored(ids()).logits, model(ids()).logits)


def test_the_original_and_its_copy_share_nothing() -> None:
    model = gpt(preset="gpt2")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    stored = store_weights(model, "int8")
    expected = stored(ids()).logits
    assert stored.num_params() == model.num_params()
    with torch.no_grad():
        for parameter in stored.parameters():
            parameter.zero_()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    stored = store_weights(model, "int8")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(stored(ids()).logits, expected)


def test_bytes() -> None:
    model = gpt()
    sizes: dict[WeightFormat, int] = {"bfloat16": 2, "int8": 1}
    for weights, size in sizes.items():
        stored = store_weights(model, weights)
        matrices = [m.stored for m in stored.modules() if isinstance(m, StoredMatrix)]
        assert len(matrices) == 2 * 4 + 2
        assert {matrix.element_size() for matrix in matrices} == {size}
        # All but norms.
        assert sum(matrix.numel() for matrix in matrices) > 0.99 * model.num_params()


def test_float32_is_the_model_itself() -> None:
    model = gpt()
    assert store_weights(model, "float32") is model


def test_what_is_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"No weight format 'int9'\. Did you mean 'int8'"):
        store_weights(gpt(), "int9")  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(UsageError, match="in few bits already"):
        store_weights(store_weights(gpt(), "int8"), "bfloat16")


def test_a_trained_model_loses_less_than_a_hundredth() -> None:
    """Of text that can be learned: a token follows from the one before it, but for some noise."""
    text = [0]
    for chance in torch.rand(2399, generator=torch.Generator().manual_seed(0)).tolist():
        text.append((text[-1] * 7 + 3) % 61 if chance > 0.1 else int(chance * 610))
    ids = torch.tensor(text).view(-1, 20)  # (120, 20)
    model = gpt()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(60):
        rows = ids[step % 6 * 16 : step % 6 * 16 + 16]
        loss = model(rows[:, :-1], rows[:, 1:]).loss
        assert loss is not None
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    held_out = ids[96:]

    def loss_of(weights: WeightFormat) -> float:
        stored = store_weights(model, weights)
        found = stored(held_out[:, :-1], held_out[:, 1:]).loss
        assert found is not None
        return found.item()

    exact = loss_of("float32")
    assert exact < 2.0, "log 61 is 4.11: it has learned"
    for weights in ("bfloat16", "int8"):
        assert abs(loss_of(weights) / exact - 1) < 0.01
