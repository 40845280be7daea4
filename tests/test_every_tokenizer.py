"""Every tokenizer, from the text to the run folder and back: train, resume, generate, report."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from toolkit.corpora import Corpus, load_corpus
from toolkit.generation import Generator
from toolkit.models import load_pretrained
from toolkit.pipeline import TrainingSession
from toolkit.run import Run
from toolkit.training.events import CheckpointSaved, Evaluated
from toolkit.vocabularies import measure_vocabularies

SENTENCES = [
    "To be, or not to be: that is the question.\n",
    "Whether 'tis nobler in the mind to suffer\n",
    "the slings and arrows of outrageous fortune, naïve 你好 😀\n",
]
TEXT = "".join(SENTENCES[number % 3] for number in range(60))
SPECS = [
    "char",
    "word",
    "byte",
    "bpe:300",
    "sentencepiece:unigram:320",
    "sentencepiece:bpe:320",
    "sentencepiece:char",
    "sentencepiece:word:64",
    "tiktoken:cl100k_base",
    "sentencepiece:FOLDER/theirs.model",
    "hf:FOLDER/wordpiece/tokenizer.json",
    "hf:FOLDER/bytes/tokenizer.json",
    "FOLDER/saved/",
]
OPTIONS: dict[str, Any] = {
    "model": "gpt",
    "preset": "modern",
    "n_layer": 1,
    "n_head": 2,
    "n_embd": 16,
    "block_size": 8,
    "batch_size": 4,
    "max_steps": 6,
    "eval_every": 3,
    "checkpoint_every": 3,
    "seed": 3,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tokenizers that others made, for the specs that open them."""
    from sentencepiece import SentencePieceTrainer
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    from toolkit.tokenizers import BPETokenizer, CharTokenizer

    folder = tmp_path_factory.mktemp("tokenizers")
    SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT.splitlines()),
        model_prefix=str(folder / "theirs"),
        vocab_size=80,
        hard_vocab_limit=False,
        character_coverage=1.0,
        minloglevel=2,
    )
    theirs = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    theirs.normalizer = normalizers.BertNormalizer(lowercase=True)
    theirs.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    theirs.decoder = decoders.WordPiece()
    theirs.train_from_iterator([TEXT], trainers.WordPieceTrainer(special_tokens=["[UNK]"]))
    (folder / "wordpiece").mkdir()
    theirs.save(str(folder / "wordpiece" / "tokenizer.json"))
    (folder / "bytes").mkdir()
    BPETokenizer.train([TEXT], vocab_size=280).save_huggingface(folder / "bytes" / "tokenizer.json")
    CharTokenizer.train([TEXT]).save(folder / "saved")
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    path.write_text(TEXT, "utf-8")
    return load_corpus(str(path))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))


def weights(run: Path) -> dict[str, torch.Tensor]:
    return dict(load_pretrained(run).state_dict())


@pytest.mark.parametrize("spec", SPECS)
def test_from_the_text_to_the_run_and_back(
    spec: str, folder: Path, corpus: Corpus, tmp_path: Path
) -> None:
    spec = spec.replace("FOLDER", str(folder))
    whole = TrainingSession.start(corpus, spec, out=tmp_path / "whole", **OPTIONS)
    losses = [event.val_loss for event in whole.events() if isinstance(event, Evaluated)]
    assert len(losses) == 2
    assert losses[-1] < losses[0]

    # Half of it, and the other half resumed: the same weights, bit for bit.
    half = TrainingSession.start(corpus, spec, out=tmp_path / "half", **OPTIONS)
    for event in half.events():
        if isinstance(event, CheckpointSaved):
            break  # as if it had been killed
    resumed = TrainingSession.resume(tmp_path / "half")
    assert resumed.trainer.step == 3
    for _ in resumed.events():
        pass
    first, second = weights(tmp_path / "whole"), weights(tmp_path / "half")
    assert all(torch.equal(first[name], second[name]) for name in first)

    # What is opened again is the tokenizer that trained, and it generates text.
    run = Run.open(tmp_path / "whole")
    assert run.tokenizer.fingerprint() == whole.tokenizer.fingerprint()
    generator = Generator(run.model, run.tokenizer)
    completion = generator.generate("To be", max_new_tokens=12, seed=1)
    pieces = list(generator.stream("To be", max_new_tokens=12, seed=1))
    assert "".join(pieces) == completion.text
    assert len(completion.ids) == 12

    report = measure_vocabularies([spec], [corpus], n_embd=16)
    assert report.rows[0].stats.num_tokens > 0
    assert report.rows[0].stats.unknown_rate is not None
    saved = json.loads((tmp_path / "whole" / "run.json").read_text("utf-8"))
    assert saved["tokenizer"]["spec"] == spec
    assert saved["tokenizer"]["vocab_size"] == run.tokenizer.vocab_size
