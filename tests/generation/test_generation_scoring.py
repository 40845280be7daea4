"""Loss, perplexity and bits per byte: transformers' loss, and a sum over windows in float64."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from toolkit.errors import ModelError, UsageError, VocabularyError
from toolkit.generation import score_text, scoring
from toolkit.models import PRESETS, BigramConfig, BigramModel, GPTConfig, GPTModel, hf_config
from toolkit.models.interop import to_hf_state_dict
from toolkit.tokenizers import ByteTokenizer, CharTokenizer, Tokenizer

BYTES = ByteTokenizer()
BYTES_WITH_END = ByteTokenizer(special_tokens=["<|endoftext|>"])
TEXT = "To be, or not to be: that is the quéstion. "


def gpt(vocab_size: int = 257, block_size: int = 16, **options: Any) -> GPTModel:
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": block_size}
    config = GPTConfig(vocab_size=vocab_size, **shape, **{**PRESETS["modern"], **options})
    model = GPTModel(config, torch.Generator().manual_seed(2))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(8)
    return model.eval()


def directly(model: GPTModel, ids: list[int], context: int, stride: int) -> list[float]:
    """The logprob of each id but the first, one token and one window at a time, in float64."""
    found = []
    for target in range(1, len(ids)):
        # The first window that reaches the target: windows begin at 0, stride, 2 · stride, …
        start = max(0, math.ceil((target - context) / stride)) * stride
        logits = model(torch.tensor([ids[start:target]])).logits[0, -1]
        row = logits.detach().numpy().astype(np.float64)
        found.append(row[ids[target]] - np.log(np.exp(row - row.max()).sum()) - row.max())
    return found


@pytest.mark.parametrize("tokenizer", [BYTES, BYTES_WITH_END])
@pytest.mark.parametrize(
    ("context", "stride"), [(None, None), (None, 1), (16, 16), (10, 3), (5, 5), (1, 1)]
)
@pytest.mark.parametrize("repeat", [1, 3])
def test_a_direct_sum_over_windows(
    tokenizer: Tokenizer, context: int | None, stride: int | None, repeat: int
) -> None:
    model, text = gpt(), TEXT * repeat
    ids = tokenizer.encode(text)
    first = [256] if tokenizer is BYTES_WITH_END else []
    width = context or 16
    expected = directly(model, first + ids, width, stride or width // 2)
    score = score_text(model, tokenizer, text, context=context, stride=stride)
    assert [each.id for each in score.tokens] == ids
    found = [each.logprob for each in score.tokens]
    if not first:
        assert found.pop(0) is None
    # float32's logits of about 10, whose last digit is 1e-6.
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-5)
    assert score.loss == pytest.approx(-np.mean(expected), abs=1e-5)
    assert score.perplexity == pytest.approx(np.exp(-np.mean(expected)), rel=1e-5)
    num_bytes = len(text.encode()) - (0 if first else 1)
    assert (score.num_tokens, score.num_bytes) == (len(expected), num_bytes)
    bits = -np.sum(expected) / np.log(2) / num_bytes
    assert score.bits_per_byte == pytest.approx(bits, rel=1e-5)


def test_windows_side_by_side_are_those_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    model = gpt()
    together = score_text(model, BYTES, TEXT * 5, stride=3)
    monkeypatch.setattr(scoring, "MAX_LOGITS", 1)
    alone = score_text(model, BYTES, TEXT * 5, stride=3)
    # Sums in another order, of float32 logits of about 10.
    assert together.loss == pytest.approx(alone.loss, abs=1e-5)


@pytest.mark.parametrize("preset", ["gpt2", "modern"])
def test_the_loss_of_transformers(preset: str) -> None:
    transformers = pytest.importorskip("transformers")
    model = gpt(block_size=64, **PRESETS[preset])
    theirs = transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(**hf_config(model.config))
    ).eval()
    theirs.load_state_dict(to_hf_state_dict(model), strict=False)
    theirs.tie_weights()
    ids = torch.tensor([BYTES.encode(TEXT)])
    with torch.no_grad():
        expected = theirs(ids, labels=ids).loss.item()
    assert score_text(model, BYTES, TEXT).loss == pytest.approx(expected, rel=1e-5)


def test_a_model_that_knows_nothing_and_one_that_knows_all() -> None:
    model = BigramModel(BigramConfig(4, block_size=8))
    with torch.no_grad():
        model.table.weight.zero_()
    letters = CharTokenizer("abcd")
    score = score_text(model, letters, "abcdabcd")
    # One of four equal tokens, each a byte: 2 bits.
    assert (score.perplexity, score.bits_per_byte) == pytest.approx((4, 2))
    with torch.no_grad():
        model.table.weight.copy_(100 * torch.eye(4).roll(1, dims=1))
    assert score_text(model, letters, "abcdabcd").perplexity == pytest.approx(1)
    assert score_text(model, letters, "aa").perplexity == pytest.approx(math.exp(100), rel=1e-4)


def test_the_model_is_left_as_it_was() -> None:
    model = gpt(dropout=0.5).train()
    score = score_text(model, BYTES, TEXT)
    assert model.training
    assert score == score_text(model.eval(), BYTES, TEXT)


def test_what_is_refused() -> None:
    model = gpt()
    cases: list[tuple[Tokenizer, str, dict[str, int], str]] = [
        (BYTES, "a", {}, "There is nothing to predict: the text needs at least two tokens."),
        (BYTES_WITH_END, "", {}, "There is nothing to predict: the text needs at least one token."),
        (BYTES, TEXT, {"context": 17}, "--context 17 is longer than the model's block size 16."),
        (BYTES, TEXT, {"context": 0}, "--context 0 must be at least 1"),
        (BYTES, TEXT, {"context": 8, "stride": 9}, "--stride 9 must be at most the context 8."),
        (BYTES, TEXT, {"stride": 0}, "--stride 0 must be at least 1"),
    ]
    for tokenizer, text, options, message in cases:
        with pytest.raises(UsageError) as caught:
            score_text(model, tokenizer, text, **options)
        assert str(caught.value) == message
    with pytest.raises(VocabularyError):
        score_text(gpt(3), CharTokenizer("abc"), "abd")
    with torch.no_grad():
        model.norm.weight.fill_(math.nan)
    with pytest.raises(ModelError, match="there is no loss"):
        score_text(model, BYTES, TEXT)
