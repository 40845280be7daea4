"""Text from models: streamed, stopped, repeated, past the context."""

from itertools import pairwise

import pytest
import torch

from toolkit.errors import UsageError, VocabularyError
from toolkit.generation import Generator, StreamDecoder, sample_seed
from toolkit.generation.streaming import StopScanner
from toolkit.models import LanguageModel, create_model
from toolkit.tokenizers import BPETokenizer, ByteTokenizer, CharTokenizer


def gpt(vocab_size: int = 256, seed: int = 0) -> LanguageModel:
    model = create_model(
        "gpt", vocab_size, size="nano", seed=seed, block_size=16, n_layer=1, dropout=0.1
    )
    with torch.no_grad():  # logits far enough apart that the context matters
        for parameter in model.parameters():
            parameter.mul_(8)
    return model


class Scripted(Generator):
    """A generator over bytes whose model says one text, whatever comes before."""

    def __init__(self, text: bytes, tokenizer: BPETokenizer | ByteTokenizer) -> None:
        model = create_model("bigram", tokenizer.vocab_size, size="nano", seed=0)
        super().__init__(model, tokenizer)
        with torch.no_grad():
            model.table.weight.fill_(-100.0)
            for current, following in pairwise([10, *text]):
                model.table.weight[current, following] = 100.0


def test_greedy_takes_the_argmax_at_every_step() -> None:
    model = gpt().eval()
    ids = [1, 2, 3]
    for _ in range(10):
        ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    new = Generator(model).generate_ids([1, 2, 3], max_new_tokens=10, strategy="greedy")
    assert new == ids[3:]


def test_past_the_context_the_model_sees_the_last_block() -> None:
    model = gpt().eval()
    ids = list(range(40))
    expected = []
    for _ in range(5):
        expected.append(int(model(torch.tensor([ids[-16:]])).logits[0, -1].argmax()))
        ids.append(expected[-1])
    new = Generator(model).generate_ids(range(40), max_new_tokens=5, strategy="greedy")
    assert new == expected


def test_the_same_seed_gives_the_same_text_and_another_another() -> None:
    generator = Generator(gpt(), ByteTokenizer())
    one, same = (generator.generate("hi", max_new_tokens=20, seed=5) for _ in range(2))
    assert one == same
    assert generator.generate("hi", max_new_tokens=20, seed=6).ids != one.ids
    assert list(one.ids) == generator.generate_ids(
        ByteTokenizer().encode("hi"), max_new_tokens=20, seed=5
    )
    fresh = generator.generate("hi", max_new_tokens=20)
    assert generator.generate("hi", max_new_tokens=20, seed=fresh.seed) == fresh


def test_sample_i_is_the_same_alone() -> None:
    generator = Generator(gpt(), ByteTokenizer())
    samples = generator.generate_samples("hi", 3, seed=9, max_new_tokens=8)
    for number, sample in enumerate(samples):
        assert sample == generator.generate("hi", seed=sample_seed(9, number), max_new_tokens=8)
    assert len({sample.ids for sample in samples}) == 3


def test_pieces_joined_are_the_text() -> None:
    generator = Generator(gpt(), ByteTokenizer())
    whole = generator.generate("hi", max_new_tokens=50, seed=1)
    pieces = list(generator.stream("hi", max_new_tokens=50, seed=1))
    assert "".join(pieces) == whole.text == ByteTokenizer().decode(whole.ids)
    assert len(pieces) > 5


def test_a_character_of_four_bytes_comes_in_one_piece() -> None:
    text = "é😀!"
    generator = Scripted(text.encode(), ByteTokenizer())
    pieces = list(generator.stream("\n", max_new_tokens=7, strategy="greedy"))
    assert pieces == ["é", "😀", "!"]
    # Cut inside the emoji: what is there becomes one replacement character at the end.
    cut = list(generator.stream("\n", max_new_tokens=4, strategy="greedy"))
    assert cut == ["é", "\ufffd"]


def test_stream_decoder_equals_decode_for_any_ids() -> None:
    tokenizer = ByteTokenizer()
    source = torch.Generator().manual_seed(0)
    for _ in range(200):
        ids = torch.randint(100, 256, (12,), generator=source).tolist()
        decoder = StreamDecoder(tokenizer)
        assert "".join([*map(decoder.push, ids), decoder.finish()]) == tokenizer.decode(ids)


def test_stop_strings_end_the_text_across_tokens() -> None:
    generator = Scripted(b"abcdefgh", ByteTokenizer())
    done = generator.generate("\n", max_new_tokens=8, strategy="greedy", stop=["def"])
    assert (done.text, done.finish_reason) == ("abc", "stop")
    assert bytes(done.ids) == b"abcdef"
    pieces = list(generator.stream("\n", max_new_tokens=8, strategy="greedy", stop=["def", "x"]))
    assert "".join(pieces) == "abc"
    done = generator.generate("\n", max_new_tokens=4, strategy="greedy", stop="def")
    assert (done.text, done.finish_reason) == ("abcd", "length")


@pytest.mark.parametrize("stop", [["END"], ["aab"], ["ab", "abc"], ["x" * 5], []])
def test_the_scanner_equals_looking_at_the_whole_text(stop: list[str]) -> None:
    source = torch.Generator().manual_seed(3)
    for _ in range(300):
        letters = ["a", "b", "c", "E", "N", "D", "x"]
        text = "".join(letters[i] for i in torch.randint(7, (30,), generator=source).tolist())
        text += "".join(stop[:1]) + "tail"
        scanner = StopScanner(stop)
        shown = "".join(map(scanner.push, text)) + scanner.finish()
        found = [text.find(s) for s in stop if s in text]
        # Piece by piece, the string that is complete first wins.
        ends = [text.find(s) + len(s) for s in stop if s in text]
        expected = text if not found else text[: found[ends.index(min(ends))]]
        assert shown == expected


def test_end_of_text_ends_the_text() -> None:
    tokenizer = BPETokenizer.train(["ab"], vocab_size=257, special_tokens=["<|endoftext|>"])
    generator = Scripted(b"ab", tokenizer)
    with torch.no_grad():
        generator.model.table.weight[ord("b"), 256] = 100.0
        generator.model.table.weight[256, ord("a")] = 100.0
    done = generator.generate("\n", max_new_tokens=50, strategy="greedy")
    assert (done.text, done.finish_reason) == ("ab", "eos")
    # An empty prompt starts from the end of the text before.
    assert generator.prompt_ids("") == [256]
    assert generator.generate("", max_new_tokens=50, strategy="greedy").text == "ab"


def test_an_empty_prompt_starts_somewhere() -> None:
    assert Generator(gpt(), ByteTokenizer()).prompt_ids("") == [10]
    chars = CharTokenizer.train(["abc"])
    generator = Generator(gpt(3), chars)
    assert generator.prompt_ids("") == [0]
    assert len(generator.generate("", max_new_tokens=5, seed=0).ids) == 5


def test_the_model_is_left_as_it_was() -> None:
    model = gpt().train()
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    stream = Generator(model, ByteTokenizer()).stream("x", max_new_tokens=3, seed=1)
    next(stream)
    assert model.training
    list(stream)
    assert model.training
    assert torch.equal(torch.rand(2), expected)


def test_what_cannot_be_is_refused_at_once() -> None:
    generator = Generator(gpt(), ByteTokenizer())
    with pytest.raises(UsageError, match="--max-new-tokens -1 must not be negative"):
        generator.stream("x", max_new_tokens=-1)
    with pytest.raises(UsageError, match="--top-k 0"):
        generator.stream("x", top_k=0)
    with pytest.raises(UsageError, match="--seed -5"):
        generator.stream("x", seed=-5)
    with pytest.raises(UsageError, match="--num-samples 0"):
        generator.generate_samples("x", 0)
    with pytest.raises(UsageError, match="has no tokenizer"):
        Generator(gpt()).stream("x")
    with pytest.raises(VocabularyError, match="Id 300"):
        generator.generate_ids([300])
    with pytest.raises(UsageError, match="at least one id"):
        generator.generate_ids([])
    with pytest.raises(UsageError, match="do not belong together"):
        Generator(gpt(100), ByteTokenizer())
    with pytest.raises(VocabularyError, match="'z'"):
        Generator(gpt(3), CharTokenizer.train(["abc"])).generate("abz")
    assert generator.generate("x", max_new_tokens=0).text == ""
