"""The endpoints of the page: distributions and tokens by their values, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from live_server import LETTERS, Running
from page_visits import answer, ask
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from toolkit.errors import UsageError
from toolkit.generation import Generator, LogitBias, Sampler
from toolkit.run import RunInfo, create_run, new_run_folder, saved_tokenizers
from toolkit.serving.next_token import NextTokens
from toolkit.serving.tokenizer_menu import TokenizerMenu
from toolkit.tokenizers import BPETokenizer, ByteTokenizer, CharTokenizer, WordTokenizer
from toolkit.tokenizers.bpe import tiktoken_files
from toolkit.tokenizers.characters import character_spans

TEXT = "the king is dead"


def logits_after(generator: Generator, ids: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        return generator.model(torch.tensor([ids])).logits[:, -1].clone()  # (1, V)


# -- the next token ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sampling", "processors"),
    [
        ({}, []),
        ({"temperature": 0.5}, [TemperatureLogitsWarper(0.5)]),
        (
            {"temperature": 1.5, "top_k": 5},
            [TemperatureLogitsWarper(1.5), TopKLogitsWarper(5)],
        ),
        ({"top_p": 0.6}, [TopPLogitsWarper(0.6)]),
        ({"min_p": 0.3}, [MinPLogitsWarper(0.3)]),
        (
            {
                "temperature": 0.8,
                "top_k": 12,
                "top_p": 0.8,
                "min_p": 0.05,
                "repetition_penalty": 1.4,
            },
            [
                RepetitionPenaltyLogitsProcessor(1.4),
                TemperatureLogitsWarper(0.8),
                TopKLogitsWarper(12),
                TopPLogitsWarper(0.8),
                MinPLogitsWarper(0.05),
            ],
        ),
    ],
)
def test_the_distribution_is_that_of_transformers(
    server: Running, generator: Generator, sampling: dict[str, float], processors: list[Any]
) -> None:
    found = answer(server, "next", {"text": TEXT, "top": 100, "sampling": sampling})
    ids = LETTERS.encode(TEXT)
    logits = logits_after(generator, ids)
    processed = LogitsProcessorList(processors)(torch.tensor([ids]), logits.clone())
    before, after = logits.softmax(-1)[0].numpy(), processed.softmax(-1)[0].numpy()
    assert found["ids"] == ids
    assert len(found["candidates"]) == found["vocab_size"] == LETTERS.vocab_size
    for each in found["candidates"]:
        # Softmax in float32 of the same few numbers; a model with a cache may round otherwise.
        assert each["before"] == pytest.approx(float(before[each["id"]]), abs=1e-5)
        assert each["after"] == pytest.approx(float(after[each["id"]]), abs=1e-5)
        assert each["kept"] == (float(processed[0, each["id"]]) > -np.inf)
        assert bytes.fromhex(each["bytes"]) == LETTERS.token_bytes(each["id"])
    probabilities = [each["before"] for each in found["candidates"]]
    assert probabilities == sorted(probabilities, reverse=True)
    assert found["num_kept"] == int((processed > -np.inf).sum())
    for name, distribution in (("before", before), ("after", after)):
        some = distribution[distribution > 0].astype(np.float64)
        assert found[f"entropy_{name}"] == pytest.approx(
            float(-(some * np.log2(some)).sum()), abs=1e-4
        )
        assert found[f"rest_{name}"] == pytest.approx(0, abs=1e-5)


def test_whole_numbers_may_be_written_as_json_writes_numbers(server: Running) -> None:
    plain = answer(server, "next", {"ids": [1, 2], "top": 3, "sampling": {"top_k": 2}})
    other = answer(server, "next", {"ids": [1.0, 2.0], "top": 3.0, "sampling": {"top_k": 2.0}})
    assert plain == other


def test_temperature_0_keeps_the_likeliest_token_alone(
    server: Running, generator: Generator
) -> None:
    sampling = {"temperature": 0, "top_k": 7, "top_p": 0.9}
    found = answer(server, "next", {"text": TEXT, "top": 3, "sampling": sampling})
    likeliest = int(logits_after(generator, LETTERS.encode(TEXT)).argmax())
    assert [(each["id"], each["after"]) for each in found["candidates"] if each["kept"]] == [
        (likeliest, 1.0)
    ]


def test_few_tokens_are_named_and_the_rest_is_summed(server: Running, generator: Generator) -> None:
    probabilities = logits_after(generator, LETTERS.encode(TEXT)).softmax(-1)[0]
    order = probabilities.argsort(descending=True).tolist()
    unlikely = order[-1]
    found = answer(server, "next", {"text": TEXT, "top": 4, "also": [unlikely]})
    assert [each["id"] for each in found["candidates"]] == [*order[:4], unlikely]
    rest = 1 - sum(float(probabilities[each]) for each in [*order[:4], unlikely])
    assert found["rest_before"] == pytest.approx(rest, abs=1e-5)


def test_a_token_that_a_penalty_made_likely_is_named(generator: Generator) -> None:
    # By `before` alone, the token that is drawn most often would be left out.
    ids = LETTERS.encode(TEXT)
    least = int(logits_after(generator, ids).argmin())
    sampler = Sampler([LogitBias({least: 100.0})])
    found = NextTokens(generator).distribution(ids, sampler, top=1)
    assert [each.id for each in found.candidates] == [least]
    assert found.candidates[0].after == pytest.approx(1.0)


def test_the_page_sees_the_distribution_that_completions_draw_from(server: Running) -> None:
    """The model's logprob in a completion is the probability on the page, for each token."""
    completion = server.post(
        {"prompt": TEXT, "max_tokens": 8, "seed": 3, "temperature": 1.0, "logprobs": 0}
    ).json()["choices"][0]["logprobs"]
    ids = LETTERS.encode(TEXT)
    for token_id, logprob in zip(
        completion["token_ids"], completion["token_logprobs"], strict=True
    ):
        found = answer(server, "next", {"ids": ids, "top": 1, "also": [token_id]})
        named = {each["id"]: each["before"] for each in found["candidates"]}
        assert named[token_id] == pytest.approx(np.exp(logprob), abs=1e-5)
        ids = [*ids, token_id]


def test_an_empty_prompt_is_the_beginning_of_a_text(server: Running, generator: Generator) -> None:
    found = answer(server, "next", {"text": "", "top": 1})
    assert found["ids"] == generator.prompt_ids("")


def test_moving_sliders_does_not_compute_the_model_again(generator: Generator) -> None:
    calls = []
    embedding = next(m for m in generator.model.modules() if isinstance(m, torch.nn.Embedding))
    hook = embedding.register_forward_hook(lambda *_: calls.append(1))
    try:
        following = NextTokens(generator)
        for _ in range(3):
            following.distribution([1, 2, 3], Sampler(), top=1)
        assert len(calls) == 1
        following.distribution([1, 2], Sampler(), top=1)
        assert len(calls) == 2
    finally:
        hook.remove()


# -- tokens -----------------------------------------------------------------------------------


def test_tokens_are_the_tokenizers(server: Running) -> None:
    text = "ab ba\n.é😀"
    learned = {
        "char": CharTokenizer.train([text]),
        "word": WordTokenizer.train([text]),
        "bpe": BPETokenizer.train([text], vocab_size=512),
        "byte": ByteTokenizer(),
    }
    for key, tokenizer in learned.items():
        found = answer(server, "tokenize", {"tokenizer": key, "text": text})
        assert [each["id"] for each in found["tokens"]] == tokenizer.encode(text)
        shown = b"".join(bytes.fromhex(each["bytes"]) for each in found["tokens"])
        assert shown == text.encode()
        assert found["characters"] == 9
        assert found["bytes"] == 7 + 2 + 4
        assert found["vocab_size"] == tokenizer.vocab_size
        for each in found["tokens"]:
            assert (
                text[each["start"] : each["end"]].encode().find(bytes.fromhex(each["bytes"])) >= 0
            )
    of_emoji = answer(server, "tokenize", {"tokenizer": "byte", "text": "a😀"})["tokens"]
    assert [(each["start"], each["end"]) for each in of_emoji] == [(0, 1)] + [(1, 2)] * 4
    assert of_emoji[0]["parts"] == []
    assert of_emoji[2]["parts"] == [{"character": "😀", "number": 2, "parts": 4}]
    assert of_emoji[2]["text"] is None


def test_the_models_own_tokenizer_says_what_it_does_not_know(server: Running) -> None:
    found = answer(server, "tokenize", {"tokenizer": "own", "text": "a king."})
    assert [each["id"] for each in found["tokens"]] == LETTERS.encode("a king.")
    refused = ask(server, "tokenize", {"tokenizer": "own", "text": "a King"})
    assert refused.status_code == 400
    assert "'K' (U+004B) at position 2" in refused.json()["error"]["message"]


def test_no_text_has_no_tokens(server: Running) -> None:
    for key in ("own", "char", "word", "bpe", "byte"):
        found = answer(server, "tokenize", {"tokenizer": key, "text": ""})
        assert (found["tokens"], found["characters"], found["bytes"]) == ([], 0, 0)


def test_an_unknown_piece_is_marked_and_has_no_span() -> None:
    menu = TokenizerMenu(CharTokenizer("ab", unknown="unk"), "model")
    tokens = menu.split("own", "a?b").tokens
    assert [(each.id, each.special, each.span) for each in tokens] == [
        (0, False, None),
        (2, True, None),
        (1, False, None),
    ]


def test_spans_of_tokens_without_bytes() -> None:
    assert character_spans([b"", b"a", b"", "é".encode(), b""], "aé") == [
        (0, 0),
        (0, 1),
        (1, 1),
        (1, 2),
        (2, 2),
    ]


def test_saved_tokenizers_are_opened_by_their_place_in_the_list(tmp_path: Path) -> None:
    BPETokenizer.train(["low lower lowest"], vocab_size=260).save(tmp_path / "mine")
    menu = TokenizerMenu(ByteTokenizer(), "model", {"mine": tmp_path / "mine"})
    entry = menu.entries[-1]
    assert (entry.key, entry.title) == ("saved-1", "mine")
    assert [each.id for each in menu.split("saved-1", "lowest").tokens] == [257, 101, 115, 116]
    with pytest.raises(UsageError, match="No tokenizer on this page"):
        menu.split(str(tmp_path / "mine"), "lowest")


def test_the_newest_runs_lend_their_tokenizers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = {"name": "byte", "vocab_size": 256}
    info = RunInfo("finished", corpus={}, tokenizer=made, model={}, training={}, device="cpu")
    for name in ("a", "b", "c"):
        create_run(new_run_folder(name), info, ByteTokenizer(), block_size=8)
    found = saved_tokenizers(limit=2)
    assert list(found) == ["c-1: byte, 256 tokens", "b-1: byte, 256 tokens"]
    menu = TokenizerMenu(CharTokenizer("ab"), "model", found)
    assert [each.id for each in menu.split("saved-2", "hi").tokens] == [104, 105]


def test_a_tokenizer_that_is_gone_is_said_without_its_path(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    menu = TokenizerMenu(ByteTokenizer(), "model", {"gone": tmp_path / "gone"})
    with pytest.raises(UsageError, match="saved-1 cannot be opened any more") as caught:
        menu.split("saved-1", "a")
    assert str(tmp_path) not in str(caught.value)
    assert str(tmp_path) in caplog.text


def test_encodings_that_are_not_on_this_machine_are_listed_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    menu = TokenizerMenu(ByteTokenizer(), "model")
    entry = next(each for each in menu.entries if each.key == "tiktoken:gpt2")
    assert entry.missing is not None
    assert "toolkit tokenize hello -t tiktoken:gpt2" in entry.missing
    with pytest.raises(UsageError, match="not to be had"):  # and nothing is downloaded
        menu.split("tiktoken:gpt2", "a")


def test_an_encoding_in_tiktokens_cache_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    # The names are those under which tiktoken 0.14 kept these two files.
    names = ("6d1cbeee0f20b3d9449abfede4726ed8212e3aee", "6c7ea1a7e38e3a7f062df639a5b80947f075ffe6")
    for name in names:
        assert not tiktoken_files.opens_offline("gpt2")
        (tmp_path / name).write_bytes(b"")
    assert tiktoken_files.opens_offline("gpt2")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
    assert not tiktoken_files.opens_offline("gpt2")
