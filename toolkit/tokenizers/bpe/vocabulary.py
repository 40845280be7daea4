"""A BPE vocabulary: which bytes each id stands for, and which pairs are merged in which order.

There are two ways to say what is merged, and files of both kinds in the world:

- a list of merges (what training gives, what Hugging Face keeps): pairs of tokens by rank;
- ranks alone (tiktoken): any two tokens that together are a token may be merged, and the lower the
  id of the result, the earlier.

The second becomes the first when each token is asked for the pair that it is made of: encode its
bytes and look at the last two parts. No other pair ever makes it. For what happens inside a stretch
of bytes, as long as nothing merges across its ends, does not depend on what is around it, and the
steps that lead to the token pass through one state of two parts only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import pairwise

from toolkit.errors import UsageError
from toolkit.tokenizers.bpe.alphabet import bytes_to_characters

NO_RANK = 1 << 62
"""Of a pair that is not merged: greater than any rank."""

Pair = tuple[int, int]


class Vocabulary:
    """The tokens of a byte-level BPE and their merges.

    Attributes:
        tokens: the bytes of each id; None where an id is no ordinary token (a special token, or
            one that nothing uses).
        ignore_merges: a whole pre-token that is a token becomes it, even if the merges would not
            lead there (Hugging Face's word; tiktoken always does it).
    """

    def __init__(
        self,
        tokens: Sequence[bytes | None],
        merges: Iterable[Pair] | None,
        *,
        ignore_merges: bool = False,
    ) -> None:
        """A vocabulary.

        Args:
            tokens: the bytes of each id, or None.
            merges: pairs of ids, the first to be merged first; None: the tokens are in the order
                of their ranks, and whatever two make a third is merged.
            ignore_merges: see the class.

        Raises:
            UsageError: no token for one of the 256 bytes, a token twice, or a merge of or to
                something that is no token.
        """
        self.tokens = list(tokens)
        self.ignore_merges = ignore_merges
        self._ids: dict[bytes, int] = {}
        for token_id, token in enumerate(self.tokens):
            if token is None:
                continue
            if not token:
                raise UsageError(f"The token with the id {token_id} is empty")
            if token in self._ids:
                raise UsageError(
                    f"The ids {self._ids[token]} and {token_id} are both the token {token!r}"
                )
            self._ids[token] = token_id
        for byte in range(256):
            if bytes([byte]) not in self._ids:
                raise UsageError(
                    f"No token stands for the byte 0x{byte:02X}: a byte-level BPE needs all 256"
                )
        self._explicit_merges = (
            None if merges is None else [(left, right) for left, right in merges]
        )
        self._check_merges()

    def _check_merges(self) -> None:
        for rank, pair in enumerate(self._explicit_merges or []):
            parts = []
            for token_id in pair:
                token = self.tokens[token_id] if 0 <= token_id < len(self.tokens) else None
                if token is None:
                    raise UsageError(f"Merge {rank} is of the id {token_id}, which is no token")
                parts.append(token)
            if b"".join(parts) not in self._ids:
                raise UsageError(
                    f"Merge {rank} makes {b''.join(parts)!r} of {parts[0]!r} and {parts[1]!r}, "
                    "which is no token"
                )

    @property
    def has_explicit_merges(self) -> bool:
        """Whether there is a list of merges; otherwise the ids are the ranks."""
        return self._explicit_merges is not None

    @cached_property
    def merges(self) -> list[Pair]:
        """The merges by rank, as pairs of ids.

        Where the ids are the ranks, one for each token that encoding its own bytes leads to.
        """
        if self._explicit_merges is not None:
            return list(self._explicit_merges)
        pairs = (self.last_pair(token_id) for token_id in sorted(self._ids.values()))
        return [pair for pair in pairs if pair is not None]

    @property
    def ids(self) -> Mapping[bytes, int]:
        """The id of each token."""
        return self._ids

    @cached_property
    def byte_ids(self) -> list[int]:
        """The id of each single byte."""
        return [self._ids[bytes([byte])] for byte in range(256)]

    @cached_property
    def pair_ranks(self) -> dict[Pair, int]:
        """The rank of each pair of ids that is merged; pairs that make the same token may share
        one, and of equal ranks the leftmost pair of a word is merged first."""
        if self._explicit_merges is not None:
            return {pair: rank for rank, pair in enumerate(self._explicit_merges)}
        ids = self._ids
        ranks: dict[Pair, int] = {}
        for token, token_id in ids.items():
            for cut in range(1, len(token)):
                left, right = ids.get(token[:cut]), ids.get(token[cut:])
                if left is not None and right is not None:
                    ranks[left, right] = token_id
        return ranks

    @cached_property
    def merged_ids(self) -> Sequence[int]:
        """The id that the merge of each rank makes."""
        if self._explicit_merges is None:
            return range(len(self.tokens))
        return [self._ids[self._join(pair)] for pair in self._explicit_merges]

    def _join(self, pair: Pair) -> bytes:
        return b"".join(self.tokens[token_id] or b"" for token_id in pair)

    def last_pair(self, token_id: int) -> Pair | None:
        """The two ids that a token is merged of when its own bytes are encoded; None for a single
        byte, and for a token that its bytes do not lead to.

        Raises:
            UsageError: the id is no token.
        """
        token = self.tokens[token_id]
        if token is None:
            raise UsageError(f"The id {token_id} is no ordinary token")
        if len(token) == 1:
            return None
        ids = [self.byte_ids[byte] for byte in token]
        merge_ids(ids, self.pair_ranks, self.merged_ids, until=2)
        if len(ids) != 2:
            return None
        rank = self.pair_ranks.get((ids[0], ids[1]))
        return None if rank is None else (ids[0], ids[1])

    def merges_as_bytes(self) -> list[tuple[bytes, bytes]]:
        """The merges by rank, as the bytes of left and right."""
        tokens = self.tokens
        return [(tokens[left] or b"", tokens[right] or b"") for left, right in self.merges]

    def merges_as_text(self) -> list[str]:
        """The merges as lines of a `merges.txt`: "Ġ t"."""
        return [
            f"{bytes_to_characters(left)} {bytes_to_characters(right)}"
            for left, right in self.merges_as_bytes()
        ]


def merge_ids(
    ids: list[int], ranks: Mapping[Pair, int], merged_ids: Sequence[int], *, until: int = 1
) -> None:
    """Merge the ids of one word in place: always the lowest rank, of equal ones the leftmost.

    Each merge reads the list of ranks once, so the time is quadratic in the word's length, at the
    speed of `min`: best for words, and not for texts (see `encoder.py`).

    Args:
        ids: the word, at first one id for each byte.
        ranks: the rank of each pair.
        merged_ids: the id that each rank makes.
        until: stop when so many ids are left.
    """
    get = ranks.get
    pair_ranks = [get(pair, NO_RANK) for pair in pairwise(ids)]
    while len(ids) > until:
        rank = min(pair_ranks)
        if rank == NO_RANK:
            return
        i = pair_ranks.index(rank)
        ids[i : i + 2] = [merged_ids[rank]]
        del pair_ranks[i]
        if i > 0:
            pair_ranks[i - 1] = get((ids[i - 1], ids[i]), NO_RANK)
        if i < len(pair_ranks):
            pair_ranks[i] = get((ids[i], ids[i + 1]), NO_RANK)
