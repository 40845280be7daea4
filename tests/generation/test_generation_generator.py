"""Generation with real models and tokenizers: what comes out, how it ends, what is refused."""

import dataclasses
import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from toolkit.errors import ModelError, UnknownNameError, UsageError, VocabularyError
from toolkit.generation import (
    Completion,
    Generator,
    Sampler,
    Temperature,
    TopK,
    make_sampler,
    sample_seed,
)
from toolkit.generation import generator as generator_module
from toolkit.models import (
    PRESETS,
    BigramConfig,
    BigramModel,
    GPTConfig,
    GPTModel,
    LanguageModel,
    create_model,
    store_weights,
)
from toolkit.tokenizers import ByteTokenizer, CharTokenizer, Tokenizer

END = "<|endoftext|>"
LETTERS = CharTokenizer("abcdefgh")
BYTES = ByteTokenizer()
BYTES_WITH_END = ByteTokenizer(special_tokens=[END])


def gpt(vocab_size: int = 8, *, preset: str = "modern", **options: Any) -> GPTModel:
    """A small GPT whose weights are large enough for every token before to matter."""
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 8}
    config = GPTConfig(vocab_size=vocab_size, **shape, **{**PRESETS[preset], **options})
    model = GPTModel(config, torch.Generator().manual_seed(2))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(20)
    return model.eval()


def chain(*ids: int, vocab_size: int) -> BigramModel:
    """A model that is sure of the way through `ids`; after the last one all tokens are equal."""
    model = BigramModel(BigramConfig(vocab_size, block_size=4))
    with torch.no_grad():
        model.table.weight.zero_()
        for current, following in pairwise(ids):
            model.table.weight[current, following] = 1000.0
    return model


def spelling(text: str, tokenizer: Tokenizer = BYTES) -> Generator:
    """A generator that continues the first byte of `text` with the others, each seen once."""
    ids = tokenizer.encode(text, allowed_special=set(tokenizer.special_tokens))
    assert len(set(ids)) == len(ids), "each token has one successor"
    return Generator(chain(*ids, vocab_size=tokenizer.vocab_size), tokenizer)


@pytest.fixture(scope="module")
def letters() -> Generator:
    return Generator(gpt(), LETTERS)


# -- what is drawn -----------------------------------------------------------------------------


PROMPTS = [[2], [0, 1, 2, 3, 4, 5, 6, 7], list(range(8)) * 3]
SLIDING: list[dict[str, Any]] = [
    {"preset": "modern"},
    {"position": "alibi"},
    {"position": "none"},
    {"position": "alibi", "window": 3},
    {"window": 5},
]


def greedy(model: LanguageModel, prompt: list[int], crop: int) -> list[int]:
    """Twenty tokens by computing the last `crop` ones anew each time."""
    ids = list(prompt)
    for _ in range(20):  # 8 positions: most of it past the block size
        ids.append(int(model(torch.tensor([ids[-crop:]])).logits[0, -1].argmax()))
    new = ids[len(prompt) :]
    assert len(set(new)) > 2  # one token for ever would pass with a wrong window
    return new


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize(
    "options",
    [
        {"preset": "gpt2"},
        {"preset": "gpt2", "window": 3},
        {"position": "sinusoidal", "norm_order": "post", "tie_embeddings": True},
    ],
)
def test_positions_that_end_with_the_context_count_from_the_start_of_the_window(
    options: dict[str, Any], prompt: list[int], cache: bool
) -> None:
    model = gpt(**options)
    generator = Generator(model, cache=cache)
    expected = greedy(model, prompt, crop=8)
    assert generator.generate_ids(prompt, max_new_tokens=20, strategy="greedy") == expected


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("options", SLIDING)
def test_a_window_slides_as_if_the_context_were_long_and_attention_narrow(
    options: dict[str, Any], prompt: list[int], cache: bool
) -> None:
    model = gpt(**options)
    narrow = dataclasses.replace(model.config, block_size=64, window=model.config.window or 8)
    oracle = GPTModel(narrow, init=False).eval()
    oracle.load_state_dict(model.state_dict())
    generator = Generator(model, cache=cache)
    expected = greedy(oracle, prompt, crop=64)
    assert generator.generate_ids(prompt, max_new_tokens=20, strategy="greedy") == expected


@pytest.mark.parametrize("name", ["gpt", "single-head"])
def test_samples_past_the_block_size_are_those_of_cropping_by_hand(name: str) -> None:
    """Also of a model that keeps nothing from step to step."""
    model = gpt(preset="gpt2") if name == "gpt" else create_model(name, 8, block_size=8, n_embd=16)
    generator = Generator(model, LETTERS)
    source, sampler = torch.Generator().manual_seed(5), Sampler([Temperature(1.3), TopK(5)])
    ids = [1, 2]
    for _ in range(40):
        logits = model(torch.tensor([ids[-8:]])).logits[:, -1]
        ids.append(int(sampler.draw(logits, source)))
    options = {"temperature": 1.3, "top_k": 5}
    assert generator.generate_ids([1, 2], max_new_tokens=40, seed=5, **options) == ids[2:]
    assert generator.generate_ids([1, 2], max_new_tokens=40, seed=5, sampler=sampler) == ids[2:]
    assert generator.generate("bc", max_new_tokens=40, seed=5, **options).ids == tuple(ids[2:])


@pytest.mark.parametrize("options", [{"preset": "gpt2"}, *SLIDING])
def test_sampled_text_with_and_without_a_cache(options: dict[str, Any]) -> None:
    model = gpt(**options)
    kept, anew = Generator(model, LETTERS), Generator(model, LETTERS, cache=False)
    sampling = {"max_new_tokens": 30, "seed": 3, "temperature": 1.5}
    assert kept.generate("abc", **sampling) == anew.generate("abc", **sampling)
    samples = kept.generate_samples("abc", 5, stop=("ab", "gg"), **sampling)
    assert samples == anew.generate_samples("abc", 5, stop=("ab", "gg"), **sampling)
    assert len({len(sample.ids) for sample in samples}) > 1


def test_what_lies_before_the_window_does_not_count_with_positions_of_the_context() -> None:
    learned = Generator(gpt(preset="gpt2"))
    long = learned.generate_ids([0, 1, 2] * 9, max_new_tokens=9, seed=1)
    assert long == learned.generate_ids(([0, 1, 2] * 9)[-8:], max_new_tokens=9, seed=1)


def test_the_context_may_be_an_end() -> None:
    strict = Generator(gpt(), LETTERS, context_policy="error")
    free = Generator(gpt(), LETTERS)
    # The last of 7 tokens is drawn from the 8 before it, and not seen itself.
    fits = strict.generate("ab", max_new_tokens=7, seed=1)
    assert fits == free.generate("ab", max_new_tokens=7, seed=1)
    assert strict.generate("abcdefghabc", max_new_tokens=0).text == ""
    message = (
        "2 tokens of the prompt and --max-new-tokens 8 do not fit into the model's --block-size 8. "
        "Ask for fewer, or let the window slide with --context-policy slide."
    )
    uses = (
        lambda: strict.generate("ab", max_new_tokens=8),
        lambda: strict.stream("ab", max_new_tokens=8),
        lambda: strict.generate_samples("ab", 2, max_new_tokens=8),
        lambda: strict.generate_ids([0, 1], max_new_tokens=8),
    )
    for use in uses:
        with pytest.raises(UsageError) as caught:
            use()
        assert str(caught.value) == message


def test_words_that_a_generator_does_not_know() -> None:
    words: list[tuple[dict[str, Any], str]] = [
        ({"context_policy": "slid"}, "No context policy 'slid'. Did you mean 'slide'"),
        ({"weights": "int4"}, "No weight format 'int4'. Did you mean 'int8'"),
        ({"engine": "numba"}, "No engine 'numba'."),
    ]
    for option, message in words:
        with pytest.raises(UnknownNameError, match=message):
            Generator(gpt(), **option)


@pytest.mark.parametrize("weights", ["bfloat16", "int8"])
def test_stored_weights_are_what_generates(weights: Any) -> None:
    model = gpt()
    generator = Generator(model, weights=weights)
    assert generator.model is not model
    new = generator.generate_ids([2], max_new_tokens=30, seed=0)
    assert new == Generator(store_weights(model, weights)).generate_ids(
        [2], max_new_tokens=30, seed=0
    )
    anew = Generator(model, weights=weights, cache=False)
    assert new == anew.generate_ids([2], max_new_tokens=30, seed=0)


def test_the_same_seed_gives_the_same_text_and_others_give_others(letters: Generator) -> None:
    texts = [letters.generate("a", max_new_tokens=30, seed=seed).text for seed in (1, 1, 2, 3)]
    assert texts[0] == texts[1]
    assert len(set(texts)) == 3


def test_without_a_seed_every_sample_is_new_and_can_be_repeated(letters: Generator) -> None:
    first, second = (letters.generate("a", max_new_tokens=60) for _ in range(2))
    assert first.text != second.text
    assert letters.generate("a", max_new_tokens=60, seed=second.seed) == second


def test_a_completion_says_all_about_itself(letters: Generator) -> None:
    completion = letters.generate("abc", max_new_tokens=7, seed=9)
    ids = letters.generate_ids([0, 1, 2], max_new_tokens=7, seed=9)
    assert completion == Completion(
        prompt="abc",
        text=LETTERS.decode(ids),
        prompt_ids=(0, 1, 2),
        ids=tuple(ids),
        finish_reason="length",
        seed=9,
    )


def test_ids_may_be_an_array_or_a_tensor(letters: Generator) -> None:
    expected = letters.generate_ids([1, 2], max_new_tokens=5, seed=0)
    for ids in (np.array([1, 2], dtype=np.uint32), torch.tensor([1, 2]), (1, 2), iter([1, 2])):
        new = letters.generate_ids(ids, max_new_tokens=5, seed=0)
        assert new == expected
        assert {type(token_id) for token_id in new} == {int}


def test_no_new_tokens(letters: Generator) -> None:
    assert letters.generate_ids([1], max_new_tokens=0) == []
    assert list(letters.stream("a", max_new_tokens=0)) == []
    completion = letters.generate("a", max_new_tokens=0, seed=1)
    assert (completion.text, completion.ids, completion.finish_reason) == ("", (), "length")


def test_ids_that_only_the_model_has_are_never_drawn() -> None:
    padded = chain(vocab_size=64)  # every token as likely; the tokenizer has 8 of the 64
    completion = Generator(padded, LETTERS).generate("a", max_new_tokens=300, seed=0)
    assert set(completion.text) == set("abcdefgh")
    ids = Generator(padded, LETTERS).generate_ids([0], max_new_tokens=300, seed=0)
    assert tuple(ids) == completion.ids
    assert max(Generator(padded).generate_ids([0], max_new_tokens=300, seed=0)) > 50


# -- several samples ---------------------------------------------------------------------------


@pytest.mark.parametrize("max_numbers", [2**28, 3 * 8 * 9, 1], ids=["together", "by 3", "alone"])
def test_samples_side_by_side_are_those_made_one_by_one(
    max_numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generator_module, "MAX_NUMBERS", max_numbers)
    generator = Generator(gpt(preset="gpt2"), LETTERS)
    options = {"max_new_tokens": 25, "temperature": 2.0, "stop": ("ab", "gg")}
    samples = generator.generate_samples("a", 8, seed=4, **options)
    seeds = [sample_seed(4, number) for number in range(8)]
    assert [sample.seed for sample in samples] == seeds
    assert samples == [generator.generate("a", seed=seed, **options) for seed in seeds]
    # Rows that ended early left the batch while others went on.
    assert len({len(sample.ids) for sample in samples}) > 2
    assert {sample.finish_reason for sample in samples} == {"length", "stop"}


def test_the_first_sample_is_the_one_of_the_seed_itself(letters: Generator) -> None:
    samples = letters.generate_samples("a", 3, max_new_tokens=20, seed=11)
    assert samples[0] == letters.generate("a", max_new_tokens=20, seed=11)
    assert len({sample.text for sample in samples}) == 3


def test_samples_without_a_seed(letters: Generator) -> None:
    samples = letters.generate_samples("a", 2, max_new_tokens=60)
    assert samples[0].text != samples[1].text
    assert samples[1] == letters.generate("a", max_new_tokens=60, seed=samples[1].seed)


# -- streams -----------------------------------------------------------------------------------


def test_a_stream_is_the_text_of_generate(letters: Generator) -> None:
    options = {"max_new_tokens": 30, "seed": 2, "strategy": "top-p"}
    pieces = list(letters.stream("a", **options))
    assert "".join(pieces) == letters.generate("a", **options).text
    assert len(pieces) == 30  # each character as it comes


def test_characters_of_several_tokens_are_streamed_whole() -> None:
    generator = spelling("a😀né")
    # 1000 in the table leaves the other tokens e^-1000 of a chance, which float32 has as 0.
    assert list(generator.stream("a", max_new_tokens=7, seed=0)) == ["😀", "n", "é"]


def test_a_character_that_is_cut_off_shows_as_decode_shows_it() -> None:
    completion = spelling("a😀né").generate("a", max_new_tokens=3, seed=0)
    assert completion.ids == tuple("😀".encode()[:3])
    assert completion.text == BYTES.decode(completion.ids) == "\ufffd"


def test_random_bytes_stream_to_what_decode_gives() -> None:
    generator = Generator(chain(vocab_size=256), BYTES)
    for seed in range(20):
        completion = generator.generate("a", max_new_tokens=40, seed=seed)
        assert completion.text == BYTES.decode(completion.ids)
        assert "".join(generator.stream("a", max_new_tokens=40, seed=seed)) == completion.text


def test_two_streams_of_one_model_do_not_disturb_each_other(letters: Generator) -> None:
    expected = [letters.generate("a", max_new_tokens=20, seed=seed).text for seed in (1, 2)]
    one, other = (letters.stream("a", max_new_tokens=20, seed=seed) for seed in (1, 2))
    pairs = list(zip(one, other, strict=True))
    assert ["".join(pieces) for pieces in zip(*pairs, strict=True)] == expected


def test_a_stream_complains_before_the_first_piece_is_taken(letters: Generator) -> None:
    with pytest.raises(VocabularyError):
        letters.stream("xyz")
    with pytest.raises(UsageError):
        letters.stream("a", max_new_tokens=-1)


# -- how it ends -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stop", "text", "num_ids"),
    [
        ("def", "bc", 5),  # three tokens
        (("e",), "bcd", 4),
        (["xyz", "fg", "cdx"], "bcde", 6),
        ("a", "bcdefgh", 7),  # the prompt is not looked at
        ("bcdefghi", "bcdefgh", 7),  # begins, and never ends
    ],
)
def test_text_ends_before_a_stop_string(
    stop: str | tuple[str, ...], text: str, num_ids: int
) -> None:
    generator = spelling("abcdefgh")
    completion = generator.generate("a", max_new_tokens=7, stop=stop, seed=0)
    assert (completion.text, len(completion.ids)) == (text, num_ids)
    assert completion.finish_reason == ("length" if text == "bcdefgh" else "stop")
    pieces = list(generator.stream("a", max_new_tokens=7, stop=stop, seed=0))
    assert "".join(pieces) == text


def test_a_stop_string_may_end_inside_a_longer_token() -> None:
    tokenizer = ByteTokenizer(special_tokens=["hello. Goodbye"])
    model = chain(ord("a"), 256, vocab_size=257)
    completion = Generator(model, tokenizer).generate("a", max_new_tokens=5, stop=".", seed=0)
    assert (completion.text, completion.ids) == ("hello", (256,))


def test_a_stop_string_of_several_bytes_and_one_of_a_broken_character() -> None:
    assert spelling("a😀né").generate("a", max_new_tokens=7, stop="😀", seed=0).text == ""
    completion = spelling("a😀né").generate("a", max_new_tokens=2, stop="\ufffd", seed=0)
    assert (completion.text, completion.finish_reason) == ("", "stop")


def test_the_end_of_text_token_ends_it() -> None:
    generator = spelling(f"abc{END}", BYTES_WITH_END)
    completion = generator.generate("a", max_new_tokens=50, seed=0)
    assert (completion.text, completion.finish_reason) == ("bc", "eos")
    assert completion.ids == tuple(b"bc")
    assert list(generator.stream("a", max_new_tokens=50, seed=0)) == ["b", "c"]


def test_the_end_of_text_token_shows_what_was_held_back() -> None:
    generator = spelling(f"abc{END}", BYTES_WITH_END)
    assert generator.generate("a", stop="cd", seed=0).text == "bc"


def test_the_end_of_text_token_can_be_ignored() -> None:
    generator = spelling(f"abc{END}", BYTES_WITH_END)
    completion = generator.generate("a", max_new_tokens=3, ignore_eos=True, seed=0)
    assert (completion.text, completion.finish_reason) == (f"bc{END}", "length")
    ids = generator.generate_ids(b"a", max_new_tokens=3, seed=0)
    assert tuple(ids) == completion.ids


def test_one_sample_may_end_where_another_goes_on() -> None:
    # Of 257 equally likely tokens one is the end: some of 8 samples meet it within 200.
    generator = Generator(chain(vocab_size=257), BYTES_WITH_END)
    samples = generator.generate_samples("a", 8, max_new_tokens=200, seed=0)
    assert {sample.finish_reason for sample in samples} == {"eos", "length"}
    assert samples == [generator.generate("a", seed=sample.seed) for sample in samples]


# -- the prompt --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokenizer", "expected"),
    [
        (BYTES_WITH_END, [256]),
        (BYTES, [10]),
        (CharTokenizer("\nab"), [0]),
        (CharTokenizer("ab\n", unknown="unk"), [2]),
        (CharTokenizer("ab"), [0]),
        (CharTokenizer("ab", unknown="unk"), [0]),
    ],
    ids=["end of text", "bytes", "line break", "line break and unk", "neither", "unk alone"],
)
def test_an_empty_prompt_starts_a_new_text(tokenizer: Tokenizer, expected: list[int]) -> None:
    generator = Generator(chain(vocab_size=tokenizer.vocab_size), tokenizer)
    completion = generator.generate("", max_new_tokens=5, seed=0, ignore_eos=True)
    assert (completion.prompt, completion.prompt_ids) == ("", tuple(expected))
    assert len(completion.ids) == 5


def test_special_tokens_in_a_prompt_are_plain_text() -> None:
    generator = Generator(chain(vocab_size=257), BYTES_WITH_END)
    assert generator.prompt_ids(END) == list(END.encode())


def test_a_character_that_the_tokenizer_does_not_know(letters: Generator) -> None:
    with pytest.raises(VocabularyError, match="'x'"):
        letters.generate("abx")


# -- the model is left as it was ---------------------------------------------------------------


def test_modes_of_all_parts_are_restored_and_dropout_is_off() -> None:
    model = gpt(dropout=0.5)
    expected = Generator(model, LETTERS).generate("abc", max_new_tokens=20, seed=1)
    model.train()
    model.blocks[0].eval()  # a part that its owner has frozen
    modes = [module.training for module in model.modules()]
    generator = Generator(model, LETTERS)
    assert generator.generate("abc", max_new_tokens=20, seed=1) == expected
    assert [module.training for module in model.modules()] == modes
    stream = generator.stream("abc", max_new_tokens=20, seed=1)
    assert next(stream) == expected.text[0]
    assert [module.training for module in model.modules()] == modes  # between two pieces too


def test_the_model_computes_without_gradients() -> None:
    model, modes = gpt(), []
    model.blocks[0].register_forward_hook(
        lambda *_: modes.append(torch.is_inference_mode_enabled())
    )
    generator = Generator(model, LETTERS)
    generator.generate_ids([1], max_new_tokens=2)
    generator.generate_samples("a", 2, max_new_tokens=2)
    list(generator.stream("a", max_new_tokens=2))
    assert modes == [True] * 6


def test_modes_are_restored_after_an_error() -> None:
    model = gpt().train()
    with torch.no_grad():
        model.norm.weight.fill_(math.nan)
    with pytest.raises(ModelError, match="not numbers"):
        Generator(model).generate_ids([1], max_new_tokens=3)
    assert all(module.training for module in model.modules())


def test_global_randomness_is_not_touched_nor_used(letters: Generator) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = letters.generate_samples("a", 3, max_new_tokens=20, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert letters.generate_samples("a", 3, max_new_tokens=20, seed=1) == first


def test_a_model_trains_on_after_it_generated() -> None:
    model = gpt().train()
    ids = torch.tensor([[0, 1, 2, 3]])
    before = model(ids, ids).loss
    for _ in Generator(model, LETTERS).stream("abc", max_new_tokens=3, seed=0):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
    after = model(ids, ids).loss
    assert before is not None
    assert after is not None
    assert after.item() == before.item()
    after.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


# -- what is refused ---------------------------------------------------------------------------


def test_a_tokenizer_with_more_tokens_than_the_model() -> None:
    with pytest.raises(UsageError) as caught:
        Generator(gpt(), CharTokenizer("abcdefghi"))
    assert str(caught.value) == (
        "The tokenizer has 9 tokens and the model knows 8: they do not belong together."
    )


def test_text_needs_a_tokenizer() -> None:
    generator = Generator(gpt())
    for use in (generator.generate, generator.stream, generator.prompt_ids):
        with pytest.raises(UsageError, match="no tokenizer: use generate_ids"):
            use("a")
    with pytest.raises(UsageError, match="no tokenizer: use generate_ids"):
        generator.generate_samples("a", 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": -1}, "--max-new-tokens -1 must not be negative"),
        ({"max_new_tokens": 1.5}, "--max-new-tokens 1.5 must be a whole number"),
        ({"seed": -1}, "--seed -1 must be a whole number of at least 0 and below 2^63"),
        ({"seed": 2**63}, f"--seed {2**63} must be a whole number of at least 0 and below 2^63"),
        ({"seed": "one"}, "--seed one must be a whole number of at least 0 and below 2^63"),
        ({"top_k": 0}, "--top-k 0 must be at least 1"),
        ({"sampler": make_sampler(), "top_k": 5}, "sampler says how to draw: leave top_k out."),
    ],
)
def test_a_wrong_option(letters: Generator, options: dict[str, object], message: str) -> None:
    for use in (letters.generate, letters.stream):
        with pytest.raises(UsageError) as caught:
            use("a", **options)
        assert str(caught.value) == message
    with pytest.raises(UsageError) as caught:
        letters.generate_ids([1], **options)
    assert str(caught.value) == message


def test_more_wrong_options(letters: Generator) -> None:
    with pytest.raises(UnknownNameError, match=r"No strategy 'greddy'\. Did you mean 'greedy'"):
        letters.generate("a", strategy="greddy")
    with pytest.raises(UsageError, match="does not take --topk"):
        letters.generate("a", topk=5)  # type: ignore[call-arg]  # wrong on purpose
    with pytest.raises(UsageError, match="sampler must be a Sampler"):
        letters.generate("a", sampler=TopK(5))  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(UsageError, match="--stop '' must be"):
        letters.generate("a", stop=["b", ""])
    with pytest.raises(UsageError, match="--num-samples 0 must be at least 1"):
        letters.generate_samples("a", 0)
    with pytest.raises(UsageError, match="A prompt must be text, not list"):
        letters.generate([1, 2])  # type: ignore[arg-type]  # wrong on purpose


def test_ids_that_cannot_be(letters: Generator) -> None:
    for ids in ([8], [0, -1], [2**70]):
        with pytest.raises(VocabularyError, match=r"Id .* is no token: this model's are 0"):
            letters.generate_ids(ids)
    with pytest.raises(UsageError, match="at least one id"):
        letters.generate_ids([])
    for wrong in ([0.5], "ab", [[1, 2]], torch.zeros(1, 3, dtype=torch.long)):
        with pytest.raises(UsageError, match="A prompt of ids needs whole numbers"):
            letters.generate_ids(wrong)  # type: ignore[arg-type]  # wrong on purpose


# -- devices -----------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["nonsense", "cuda:99", torch.device("cuda", 99)])
def test_a_device_that_is_not_there(device: str | torch.device) -> None:
    with pytest.raises(UsageError, match="cannot be used here: try cpu"):
        Generator(gpt(), device=device)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_draws_what_the_cpu_draws() -> None:
    # Equal but for float32's rounding, which with these seeds never decides.
    options = {"max_new_tokens": 30, "seed": 1, "top_k": 6, "top_p": 0.95}
    expected = Generator(gpt(), LETTERS).generate_samples("a", 4, **options)
    generator = Generator(gpt(), LETTERS, device="cuda")
    assert generator.model.device.type == "cuda"
    assert generator.generate_samples("a", 4, **options) == expected
