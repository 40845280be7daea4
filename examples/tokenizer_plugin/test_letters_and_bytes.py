"""The whole contract, on this tokenizer: what every plug-in should run."""

from letters_and_bytes import LettersAndBytes

from toolkit.tokenizers.testing import check_tokenizer, check_training

TEXTS = ["To be, or not to be\n", "naïve 你好 😀"]


def test_contract():
    check_tokenizer(LettersAndBytes.train(TEXTS), TEXTS)
    check_training(LettersAndBytes, TEXTS, vocab_size=300)
