"""`hf:PATH`: the tokenizer that suits the file, with the ids of Hugging Face's own library."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from toolkit.errors import MissingExtraError, RunError, UsageError, VocabularyError
from toolkit.tokenizers import BPETokenizer, HuggingFaceTokenizer, load_tokenizer

hf = pytest.importorskip("tokenizers")

TEXTS = [
    "The cat's out of the bag.\nDon't stop, though!",
    "the bag of the cat stops out though don't",
    "Größe 你好 😀 [CLS] <s> </s>",
]


def wordpiece(**trainer_options: Any) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    theirs = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    theirs.normalizer = normalizers.BertNormalizer(lowercase=True)
    theirs.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    theirs.decoder = decoders.WordPiece()
    names = ["[UNK]", "[CLS]", "[SEP]"]
    trainer = trainers.WordPieceTrainer(vocab_size=90, special_tokens=names, **trainer_options)
    theirs.train_from_iterator(TEXTS[:2], trainer)
    from tokenizers.processors import TemplateProcessing

    theirs.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    theirs.enable_truncation(4)
    theirs.enable_padding()
    return theirs


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tokenizer.json"
    wordpiece().save(str(path))
    return path


def test_ids_and_text_are_the_librarys(file: Path) -> None:
    oracle = hf.Tokenizer.from_file(str(file))
    oracle.no_truncation()
    oracle.no_padding()
    tokenizer = load_tokenizer(f"hf:{file}", unknown="unk")
    assert isinstance(tokenizer, HuggingFaceTokenizer)
    assert tokenizer.vocab_size == oracle.get_vocab_size()
    for text in TEXTS[:2]:
        expected = oracle.encode(text, add_special_tokens=False).ids
        assert len(expected) > 4  # nothing is cut off
        assert tokenizer.encode(text) == expected
        assert tokenizer.decode(expected) == oracle.decode(expected)
    batch = tokenizer.encode_batch(TEXTS[:2])
    assert [batch[i].tolist() for i in range(2)] == [tokenizer.encode(t) for t in TEXTS[:2]]


def test_tokens_and_spaces(file: Path) -> None:
    tokenizer = load_tokenizer(f"hf:{file}")
    ids = tokenizer.encode("The cat stops")
    assert tokenizer.decode(ids) == "the cat stops"
    assert b"".join(tokenizer.token_bytes(i) for i in ids).replace(b" ", b"") == b"thecatstops"
    assert tokenizer.token_bytes(ids[0]) == b" the"


def test_special_tokens_are_text_unless_allowed(file: Path) -> None:
    tokenizer = load_tokenizer(f"hf:{file}", unknown="unk")
    assert tokenizer.special_tokens == {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2}
    assert 1 not in tokenizer.encode("the [CLS] cat")
    allowed = tokenizer.encode("the [CLS] cat", allowed_special={"[CLS]"})
    assert allowed == [*tokenizer.encode("the "), 1, *tokenizer.encode(" cat")]


def test_unknown_text_is_named(file: Path) -> None:
    tokenizer = load_tokenizer(f"hf:{file}")
    with pytest.raises(VocabularyError, match=r"The text '你' \(U\+4F60\) at position 4 is not"):
        tokenizer.encode("cat 你")
    with pytest.raises(VocabularyError, match=r"'你'.* at position 0 of text 1 is not"):
        tokenizer.encode_batch(["cat", "你"])
    lenient = load_tokenizer(f"hf:{file}", unknown="unk")
    assert lenient.encode("cat 你")[-1] == lenient.unk_id == 0
    assert tokenizer.count_unknown("cat 你") == (1, 2)


def test_what_is_saved_opens_again(file: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(f"hf:{file}", unknown="unk")
    tokenizer.save(tmp_path / "saved")
    opened = load_tokenizer(tmp_path / "saved")
    assert opened.fingerprint() == tokenizer.fingerprint()
    assert opened.encode(TEXTS[0]) == tokenizer.encode(TEXTS[0])
    theirs = hf.Tokenizer.from_str(json.dumps(tokenizer.to_huggingface()))
    assert theirs.encode(TEXTS[0], add_special_tokens=False).ids == tokenizer.encode(TEXTS[0])


def test_a_byte_level_bpe_opens_as_our_own(tmp_path: Path) -> None:
    ours = BPETokenizer.train(TEXTS, vocab_size=300)
    ours.save_huggingface(tmp_path / "tokenizer.json")
    for path in (tmp_path, tmp_path / "tokenizer.json"):
        assert isinstance(load_tokenizer(f"hf:{path}"), BPETokenizer)
        assert isinstance(load_tokenizer(f"hf:{path}", unknown="unk"), BPETokenizer)


def test_a_file_without_a_token_for_unknown_text(tmp_path: Path) -> None:
    char = load_tokenizer("char", TEXTS[:1])
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(char.to_huggingface()), "utf-8")
    opened = load_tokenizer(f"hf:{path}")
    assert opened.encode(TEXTS[0]) == char.encode(TEXTS[0])
    with pytest.raises(VocabularyError, match=r"cannot encode the text: WordLevel error"):
        opened.encode("你")


def test_mistakes(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="No policy for --unknown 'maybe'"):
        load_tokenizer(f"hf:{file}", unknown="maybe")
    with pytest.raises(UsageError, match="the option 'pattern' cannot change it"):
        load_tokenizer(f"hf:{file}", pattern="gpt2")
    with pytest.raises(RunError, match="Cannot read"):
        load_tokenizer(f"hf:{tmp_path}/absent.json")
    broken = json.loads(file.read_text("utf-8"))
    broken["model"]["type"] = "WordHeap"
    (tmp_path / "broken.json").write_text(json.dumps(broken))
    with pytest.raises(RunError, match=r"broken.json is no tokenizer.json that tokenizers reads"):
        load_tokenizer(f"hf:{tmp_path}/broken.json")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingExtraError, match=r"WordPiece.*pip install 'toolkit\[hf\]'"):
        load_tokenizer(f"hf:{file}")
