"""A tokenizer of your own: the letters of a text are one token each, all else is its bytes."""

from toolkit.errors import VocabularyError
from toolkit.tokenizers import Tokenizer


class LettersAndBytes(Tokenizer):
    name = "letters"
    vocab_size = 0  # is set below

    def __init__(self, letters=""):
        self.tokens = [bytes([byte]) for byte in range(256)] + [c.encode() for c in letters]
        self.ids = {c: 256 + place for place, c in enumerate(letters)}
        self.vocab_size, self.letters = len(self.tokens), letters

    @classmethod
    def train(cls, texts, *, vocab_size=512):
        letters = sorted({c for text in texts for c in text if c.isalpha()})
        return cls("".join(letters[: vocab_size - 256]))

    def encode(self, text, *, allowed_special=frozenset()):
        return [i for c in text for i in ([self.ids[c]] if c in self.ids else c.encode())]

    def token_bytes(self, token_id):
        if not 0 <= token_id < self.vocab_size:
            raise VocabularyError(f"No token has the id {token_id}.")
        return self.tokens[token_id]

    def state(self):
        return {"letters": self.letters}

    @classmethod
    def from_state(cls, state):
        return cls(state["letters"])
