"""A tokenizer for what is exported."""

import pytest
from export_models import TEXT

from toolkit.tokenizers import BPETokenizer


@pytest.fixture(scope="session")
def tokenizer() -> BPETokenizer:
    return BPETokenizer.train([TEXT], vocab_size=290, special_tokens=["<|endoftext|>"])
