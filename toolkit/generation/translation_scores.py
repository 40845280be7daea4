"""How good translations are: exact matches and tokens for tasks, BLEU and chrF for language.

BLEU (Papineni et al. 2002) and chrF (Popović 2015) are sacrebleu's, over all held-out pairs at
once, with its own settings; they compare with other numbers of the same pairs alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from toolkit.data import PairDataset
from toolkit.errors import MissingExtraError
from toolkit.generation.decoding import evaluation_mode
from toolkit.generation.translation import ROWS, Translator, greedy_targets


@dataclass(frozen=True)
class PairScores:
    """What a model makes of held-out pairs.

    Attributes:
        exact_match: the share of pairs whose greedy target is the right text, to the character.
        token_accuracy: the share of target tokens that are the likeliest after the right ones
            before them, ends included.
        written: the greedy targets.
    """

    exact_match: float
    token_accuracy: float
    written: tuple[str, ...]

    def as_dict(self) -> dict[str, float]:
        """The two shares by name."""
        return {"exact_match": self.exact_match, "token_accuracy": self.token_accuracy}


def pair_scores(
    translator: Translator, data: PairDataset, num_pairs: int | None = None
) -> PairScores:
    """Measure the held-out pairs of a dataset.

    Args:
        num_pairs: the first so many alone; None: all.
    """
    model = translator.translating
    encoded = data.held_out[:num_pairs]
    texts = [pair.target for pair in data.task.held_out[:num_pairs]]
    found = greedy_targets(model, [source.tolist() for source, _ in encoded])
    written = tuple(translator.tokenizer.decode(ids) for ids in found)
    right = sum(text == target for text, target in zip(written, texts, strict=True))
    return PairScores(right / len(texts), _token_accuracy(translator, data, num_pairs), written)


def prose_scores(written: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """BLEU and chrF, 0 to 100; nothing where sacrebleu is not installed."""
    try:
        return bleu_and_chrf(written, references)
    except MissingExtraError:
        return {}


def bleu_and_chrf(written: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """BLEU and chrF of texts, each with one reference, 0 to 100.

    Raises:
        MissingExtraError: sacrebleu is not installed.
    """
    try:
        import sacrebleu
    except ImportError as error:
        raise MissingExtraError("translate", "BLEU and chrF") from error
    return {
        "bleu": sacrebleu.corpus_bleu(list(written), [list(references)]).score,
        "chrf": sacrebleu.corpus_chrf(list(written), [list(references)]).score,
    }


@torch.inference_mode()
def _token_accuracy(translator: Translator, data: PairDataset, num_pairs: int | None) -> float:
    model = translator.translating
    pairs = sorted(data.held_out[:num_pairs], key=lambda pair: len(pair[0]))
    right = total = 0
    with evaluation_mode(model):
        for start in range(0, len(pairs), ROWS):
            ids, targets, sources = data.batch(pairs[start : start + ROWS], model.device)
            likeliest = model(ids, None, sources).logits.argmax(dim=-1)  # (B, T)
            counts = targets >= 0
            right += int((likeliest == targets)[counts].sum())
            total += int(counts.sum())
    return right / total
