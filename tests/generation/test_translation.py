"""Translations: greedy and beams against what is computed without a cache or by trying all."""

import itertools
import math
import sys
from typing import Any

import pytest
import torch

from toolkit.data import PairDataset
from toolkit.errors import MissingExtraError, UsageError, VocabularyError
from toolkit.generation import Batch, Generator, Translator
from toolkit.generation.translation import greedy_targets
from toolkit.generation.translation_scores import bleu_and_chrf, pair_scores
from toolkit.models import EncoderDecoderConfig, EncoderDecoderModel, create_model
from toolkit.tasks import load_task
from toolkit.tokenizers import CharTokenizer

LETTERS = CharTokenizer("abcdefgh")
SHAPE: dict[str, Any] = {"n_layer": 2, "n_head": 2, "n_embd": 16, "dropout": 0.0, "block_size": 12}


def make(vocab_size: int = 11, seed: int = 0, **options: Any) -> EncoderDecoderModel:
    model = EncoderDecoderModel(EncoderDecoderConfig(vocab_size, **{**SHAPE, **options}))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.4, generator=generator)
    return model.eval()


def logprobs(model: EncoderDecoderModel, source: list[int], target: list[int]) -> torch.Tensor:
    """Of what may come after the target so far: letters and the end, without a cache."""
    ids = torch.tensor([[model.config.begin_id, *target]])
    logits = model(ids, None, torch.tensor([source])).logits[0, -1]
    return logits[: model.config.end_id + 1].log_softmax(dim=-1)


@torch.no_grad()
def greedy(model: EncoderDecoderModel, source: list[int], longest: int) -> list[int]:
    target: list[int] = []
    while len(target) < longest:
        token = int(logprobs(model, source, target).argmax())
        if token == model.config.end_id:
            break
        target.append(token)
    return target


SOURCES = ["abc", "h", "ggggaaaa", "fedcba", "bad"]


@pytest.fixture(scope="module")
def trained() -> EncoderDecoderModel:
    """A model that has begun to copy: what it writes, and how much, depends on what it reads."""
    model = EncoderDecoderModel(EncoderDecoderConfig(11, norm_order="pre", **SHAPE))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(1)
    for step in range(90):
        length = step % 8 + 1
        source = torch.randint(0, 8, (16, length + 1), generator=generator)
        source[:, length] = 8
        ids = torch.cat([torch.full((16, 1), 9), source[:, :-1]], dim=1)
        loss = model(ids, source, source).loss
        assert loss is not None
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def test_greedy_with_a_cache_is_greedy_without(trained: EncoderDecoderModel) -> None:
    model = trained
    translator = Translator(model, LETTERS)
    ids = [translator.prompt_ids(text) for text in SOURCES]
    expected = [greedy(model, source, 12) for source in ids]
    assert len({tuple(target) for target in expected}) > 2
    assert len({len(target) for target in expected}) > 2  # rows leave the batch one after another
    assert greedy_targets(model, ids) == expected  # all at once, padded
    assert [list(translator.generate(text, strategy="greedy").ids) for text in SOURCES] == expected
    assert translator.translate(SOURCES) == [LETTERS.decode(target) for target in expected]


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_beams_that_hold_everything_find_the_best(seed: int, length_penalty: float) -> None:
    """Three letters, targets of up to 3: of all 40 sequences the likeliest, by brute force."""
    model, letters = make(6, seed=seed), CharTokenizer("abc")
    source = [*letters.encode("cab"), 3]
    scored = []
    with torch.no_grad():
        for length in range(4):
            for target in itertools.product(range(3), repeat=length):
                score = sum(
                    float(logprobs(model, source, list(target[:place]))[token])
                    for place, token in enumerate(target)
                )
                ids = target
                if length < 3:  # the end is drawn too; at the limit nothing is
                    score += float(logprobs(model, source, list(target))[3])
                    ids = (*target, 3)
                scored.append((score / len(ids) ** length_penalty, target))
    scored.sort(reverse=True)
    translator = Translator(model, letters)
    found = translator.generate_samples(
        "cab", 5, strategy="beam", num_beams=40, max_new_tokens=3, length_penalty=length_penalty
    )
    # Ties would leave the order open; there are none in random numbers.
    assert [sample.ids for sample in found] == [target for _, target in scored[:5]]


def test_one_beam_is_greedy(trained: EncoderDecoderModel) -> None:
    translator = Translator(trained, LETTERS)
    for text in SOURCES:
        beam = translator.generate(text, strategy="beam", num_beams=1)
        assert beam.ids == translator.generate(text, strategy="greedy").ids


@pytest.mark.parametrize("strategy", ["greedy", "beam", "multinomial"])
def test_no_token_is_a_text_as_well(strategy: str) -> None:
    translator = Translator(make(), LETTERS)
    empty = translator.generate("abc", strategy=strategy, max_new_tokens=0)
    assert (empty.text, empty.ids, empty.prompt_ids) == ("", (), (0, 1, 2, 8))
    assert list(translator.stream("abc", strategy=strategy, max_new_tokens=0)) == []
    assert translator.translate(["abc"], max_new_tokens=0) == [""]


def test_drawing_streaming_and_scores_of_tokens() -> None:
    model = make()
    translator = Translator(model, LETTERS)
    sample = translator.generate("abc", seed=3, logprobs=9)
    assert sample == translator.generate("abc", seed=3, logprobs=9)
    assert "".join(translator.stream("abc", seed=3)) == sample.text
    assert sample.prompt_ids == (0, 1, 2, 8)
    assert sample.logprobs is not None
    for place, noted in enumerate(sample.logprobs):
        expected = logprobs(model, [0, 1, 2, 8], list(sample.ids[:place])).detach()
        assert noted.logprob == pytest.approx(float(expected[noted.id]), abs=1e-4)
        assert math.fsum(math.exp(each.logprob) for each in noted.top) == pytest.approx(1)
    assert {each.id for each in sample.logprobs[0].top} == set(range(9))  # letters and the end


def test_neither_begin_nor_padding_is_ever_written() -> None:
    model = make()
    with torch.no_grad():  # by itself it would say nothing else
        model.tok_emb.weight[9:] = 5.0
    translator = Translator(model, LETTERS)
    for seed in range(5):
        assert all(each < 8 for each in translator.generate("abc", seed=seed).ids)
    assert len(translator.generate("abc", seed=0, ignore_eos=True).ids) == 12
    with torch.no_grad():  # and this one never ends
        model.tok_emb.weight[8:] = 0.0
    assert len(translator.translate(["abc"], max_new_tokens=50)[0]) == 12  # its positions
    assert all(each < 8 for each in greedy_targets(model, [[0, 1, 8]])[0])


def test_processors_see_the_target_alone() -> None:
    """With the source before their eyes they would keep a copy from being one."""
    model = make(n_layer=1)
    translator = Translator(model, LETTERS)
    plain = translator.generate("abc", strategy="greedy", max_new_tokens=1)
    again = translator.generate(
        LETTERS.decode(plain.ids) + "abc", strategy="greedy", max_new_tokens=1,
        repetition_penalty=1e6,
    )  # fmt: skip
    free = translator.generate(
        LETTERS.decode(plain.ids) + "abc", strategy="greedy", max_new_tokens=1
    )
    assert again.ids == free.ids
    longer = translator.generate("abc", strategy="greedy", no_repeat_ngram=1, ignore_eos=True,
                                 max_new_tokens=8)  # fmt: skip
    assert sorted(longer.ids) == list(range(8))
    forced = translator.generate("abc", strategy="greedy", force=[4, 5])
    assert forced.text.startswith("ef")


def test_targets_that_match_a_pattern() -> None:
    pytest.importorskip("llguidance")
    translator = Translator(make(), LETTERS)
    for seed in range(3):
        text = translator.generate("abc", seed=seed, regex="(ab|ba){2}h?").text
        assert text.rstrip("h") in ("abab", "abba", "baab", "baba")


def test_two_vocabularies() -> None:
    model = make(6, source_vocab_size=11)
    translator = Translator(model, CharTokenizer("xyz"), LETTERS)
    assert translator.prompt_ids("hab") == [7, 0, 1, 8]
    assert set(translator.translate(["hab"])[0]) <= set("xyz")


def test_what_does_not_belong_together_is_refused() -> None:
    model = make()
    with pytest.raises(UsageError, match="target tokenizer has 3 tokens and the model knows 8"):
        Translator(model, CharTokenizer("abc"))
    with pytest.raises(UsageError, match="source tokenizer has 3 tokens and the model knows 8"):
        Translator(model, LETTERS, CharTokenizer("abc"))
    with pytest.raises(UsageError, match="A gpt continues texts: use a Generator"):
        Translator(create_model("gpt", 8, size="nano", n_layer=1), LETTERS)
    translator = Translator(model, LETTERS)
    with pytest.raises(UsageError, match="A source of 13 tokens"):
        translator.generate("abcdefghabcd")
    with pytest.raises(UsageError, match="no source to translate"):
        translator.generate("")
    with pytest.raises(VocabularyError, match="'z'"):
        translator.generate("z")
    with pytest.raises(UsageError, match="ContrastiveSearch is for models that continue texts"):
        translator.generate("abc", strategy="contrastive")
    with pytest.raises(UsageError, match="Speculation is for models that continue texts"):
        translator.generate("abc", draft=model)
    with pytest.raises(UsageError, match="give a list of texts"):
        translator.translate("abc")
    with pytest.raises(UsageError, match="-1 must not be negative"):
        translator.translate(["abc"], max_new_tokens=-1)
    with pytest.raises(UsageError, match="has no generate_ids"):
        translator.generate_ids([1, 2])
    with pytest.raises(UsageError, match="give it a source"):
        Generator(model, CharTokenizer("abcdefghijk")).generate("abc")


# -- how good they are ------------------------------------------------------------------------


def test_scores_counted_by_hand() -> None:
    data = PairDataset(load_task("reverse:3"), CharTokenizer("abcdefghijklmnopqrstuvwxyz"),
                       block_size=12)  # fmt: skip
    model = make(29)
    translator = Translator(model, data.tokenizer)
    scores = pair_scores(translator, data, 40)
    right = tokens = exact = 0
    with torch.no_grad():
        for (source, target), pair in zip(data.held_out[:40], data.task.held_out, strict=False):
            for place, token in enumerate(target.tolist()):
                ids = torch.tensor([[27, *target[:place].tolist()]])
                logits = model(ids, None, torch.tensor([source.tolist()])).logits[0, -1]
                right += int(logits.argmax()) == token
                tokens += 1
            written = greedy(model, source.tolist(), 12)
            exact += data.tokenizer.decode(written) == pair.target
    assert scores.token_accuracy == pytest.approx(right / tokens)
    assert scores.exact_match == pytest.approx(exact / 40)
    assert len(scores.written) == 40


def test_bleu_and_chrf_are_sacrebleus() -> None:
    pytest.importorskip("sacrebleu")
    references = ["the cat sat on the mat", "it is there now"]
    perfect = bleu_and_chrf(references, references)
    assert perfect == pytest.approx({"bleu": 100.0, "chrf": 100.0})
    # By hand: 4-gram precisions 9/10, 6/8, 4/6, 2/4 of "on a mat" for "on the mat"; no brevity.
    one = bleu_and_chrf(["the cat sat on a mat", "it is there now"], references)
    precisions = [9 / 10, 6 / 8, 4 / 6, 2 / 4]
    assert one["bleu"] == pytest.approx(100 * math.prod(precisions) ** 0.25)


def test_without_sacrebleu_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(MissingExtraError, match=r"toolkit\[translate\]"):
        bleu_and_chrf(["a"], ["a"])


def test_several_sources_in_turn_and_no_batch_of_them(trained: EncoderDecoderModel) -> None:
    translator = Translator(trained, LETTERS)
    sources = ["abc", "hgfe", "d"]
    found = translator.generate_many(sources, 2, temperature=1.5, seed=3)
    assert [each.ids for each in found] == [
        each.ids
        for source in sources
        for each in translator.generate_samples(source, 2, temperature=1.5, seed=3)
    ]
    with pytest.raises(UsageError, match=r"answers them: use Translator\.translate"):
        Batch(translator)
