"""A `tokenizer.json` for an encoder–decoder, which has three ids more than its tokenizer: what ends
a text, what the decoder starts from, and padding.

Hugging Face's tokenizer ends each text with the first, as the encoder wants it, and leaves all
three out of a text that it decodes with `skip_special_tokens=True`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toolkit.tokenizers.special import added_token

END, BEGIN, PADDING = "<|end|>", "<|begin|>", "<|padding|>"

TRANSLATION_OPTIONS = {
    "eos_token": END,
    "bos_token": BEGIN,
    "pad_token": PADDING,
    "split_special_tokens": True,  # their names in a text are text
}
"""What a tokenizer_config.json says of them."""


def make_translation_json(content: Mapping[str, Any], vocab_size: int) -> dict[str, Any] | None:
    """`content`, a tokenizer.json with `vocab_size` ids, with end, begin and padding after them.

    None where there is a token of one of their names, or where the ids that come next could not be
    given to them.
    """
    ids = {name: vocab_size + place for place, name in enumerate((END, BEGIN, PADDING))}
    tokens = list(content.get("added_tokens") or [])
    vocab = content["model"]["vocab"]
    extended = vocab
    if isinstance(vocab, Mapping):
        # In the vocabulary too: alone in the list of added tokens they would be numbered anew, and
        # an id that nothing uses before them would shift theirs.
        known = set(vocab)
        extended = {**vocab, **ids}
    else:  # unigram's pieces and scores, which are numbered by their places
        known = {piece for piece, _ in vocab}
        if len(vocab) != vocab_size:
            return None
    if not known.isdisjoint(ids) or any(token["content"] in ids for token in tokens):
        return None
    text = {"Sequence": {"id": "A", "type_id": 0}}
    end = {"SpecialToken": {"id": END, "type_id": 0}}
    return {
        **content,
        "added_tokens": [*tokens, *(added_token(token_id, name) for name, token_id in ids.items())],
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [text, end],
            "pair": [text, end, {"Sequence": {"id": "B", "type_id": 0}}, end],
            "special_tokens": {END: {"id": END, "ids": [ids[END]], "tokens": [END]}},
        },
        "model": {**content["model"], "vocab": extended},
    }
