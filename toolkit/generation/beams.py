"""Beam search: the likeliest sequences, found by keeping the best few at every step.

A sequence's score is the sum of its tokens' log-probabilities over its length to the power of
`length_penalty` (after Wu et al. 2016, arXiv:1609.08144, in the form of transformers, whose
sequences come out). With groups, each group after the first is turned away from the tokens that the
groups before chose at the same step: diverse beam search (Vijayakumar et al. 2018,
arXiv:1610.02424). Left out: sampling within beams.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from toolkit.errors import UsageError
from toolkit.generation.contexts import Context
from toolkit.generation.requests import Request, Rows
from toolkit.generation.samplers import require_count, require_number

EarlyStopping = bool | Literal["never"]


def parse_early_stopping(text: str) -> EarlyStopping:
    """Its value as it is typed.

    >>> parse_early_stopping("true"), parse_early_stopping("never")
    (True, 'never')

    Raises:
        UsageError: none of the three.
    """
    match text.lower():
        case "true":
            return True
        case "false":
            return False
        case "never":
            return "never"
    raise UsageError(f"--early-stopping {text} must be true, false or never.")


@dataclass(frozen=True)
class Hypothesis:
    """A sequence that beam search found.

    Attributes:
        ids: the new ids; the last one may be one that ends a text.
        score: the sum of the log-probabilities, and over the length where the search is over.
    """

    ids: tuple[int, ...]
    score: float


@dataclass(frozen=True)
class BeamSearch:
    """The likeliest sequences rather than the likeliest tokens (Wu et al. 2016, arXiv:1609.08144;
    in groups, Vijayakumar et al. 2018, arXiv:1610.02424).

    Attributes:
        num_beams: how many sequences are kept, over all groups.
        length_penalty: above 0 favours longer sequences, below 0 shorter ones; at 0 the sum alone
            counts.
        num_groups: how many groups the beams are in.
        diversity_penalty: what a group pays for a token, each time that a group before has chosen
            it at this step. It stays in the score.
        early_stopping: when a group is done that has its beams' number of finished sequences: at
            once (True); when its best running beam, if it ended here, would not be among them
            (False); or when that beam could not be even if every further token were certain
            ("never"), where a length_penalty above 0 counts max_new_tokens. As in transformers.

    Raises:
        UsageError: a value that cannot be.
    """

    num_beams: int = 4
    length_penalty: float = 1.0
    num_groups: int = 1
    diversity_penalty: float = 0.0
    early_stopping: EarlyStopping = False

    def __post_init__(self) -> None:
        require_count("--num-beams", self.num_beams)
        require_count("--num-groups", self.num_groups)
        require_number("--length-penalty", self.length_penalty)
        require_number("--diversity-penalty", self.diversity_penalty)
        if not math.isfinite(self.length_penalty):
            raise UsageError(f"--length-penalty {self.length_penalty} must be finite")
        if not 0 <= self.diversity_penalty < math.inf:
            raise UsageError(
                f"--diversity-penalty {self.diversity_penalty:g} must be at least 0 and finite"
            )
        if self.early_stopping not in (True, False, "never"):
            raise UsageError(
                f"--early-stopping {self.early_stopping} must be true, false or never."
            )
        if self.num_beams % self.num_groups:
            raise UsageError(
                f"--num-beams {self.num_beams} must be divisible by --num-groups {self.num_groups}"
            )
        if self.diversity_penalty and self.num_groups == 1:
            raise UsageError("--diversity-penalty is between groups: give --num-groups too.")

    def start(self, request: Request) -> Rows:
        """Rows of the best sequences, the best first; all is computed at the first `draw`.

        Raises:
            UsageError: more rows than beams.
        """
        if len(request.contexts) > self.num_beams:
            raise UsageError(
                f"--num-samples {len(request.contexts)} is more than --num-beams {self.num_beams}"
            )
        return _FoundRows(self, request)

    @torch.inference_mode()
    def search(self, request: Request) -> list[Hypothesis]:
        """The best `num_beams` sequences, the best first.

        Fewer where the processors leave fewer. The request's generators and contexts are not used.
        """
        width = self.num_beams // self.num_groups
        groups = [_Group(width, self, request) for _ in range(self.num_groups)]
        decoder = request.decoder
        logits = decoder.prefill(request.prompt_ids)  # (1, V)
        decoder.select([0] * len(groups))
        logits = logits.expand(len(groups), -1)  # (rows, V)
        for step in range(request.max_new_tokens):
            chosen: Counter[int] = Counter()  # by the groups before, at this step
            parents: list[int] = []  # of all groups' beams, as rows of the decoder
            row = 0
            for group in groups:
                rows = logits[row : row + len(group.running), : request.vocab_size]
                found = group.advance(rows.float(), chosen, self.diversity_penalty)
                parents += [row + parent for parent in found]
                row += len(rows)
                chosen.update(group.chosen)
            if not parents or step == request.max_new_tokens - 1:
                break
            decoder.select(parents)
            last = [beam.ids[-1] for group in groups for beam in group.running]
            logits = decoder.step(torch.tensor(last))  # (rows, V)
        finished = [each for group in groups for each in group.finished]
        return sorted(finished, key=lambda each: -each.score)


class _Group:
    """Beams that compete with each other.

    `running` go on, with the sum of their log-probabilities as score; `finished` are done, with the
    score that counts, the best first. `chosen` are the tokens of the last step, of both.
    """

    def __init__(self, width: int, search: BeamSearch, request: Request) -> None:
        self.running = [Hypothesis((), 0.0)]
        self.finished: list[Hypothesis] = []
        self.chosen: list[int] = []
        self._width = width
        self._search = search
        self._request = request

    def advance(self, logits: Tensor, chosen: Counter[int], penalty: float) -> list[int]:
        """Take one step with the logits (rows, V) of the running beams.

        Returns the row of each new running beam's parent; none where the group is done.
        """
        self.chosen = []
        if not self.running:
            return []
        request = self._request
        contexts = [Context(request.prompt_ids, list(beam.ids)) for beam in self.running]
        # Processors see log-probabilities, as in transformers.
        scores = request.sampler.process(logits.log_softmax(dim=-1), contexts)  # (rows, V)
        for token_id, count in chosen.items():
            scores[:, token_id] -= penalty * count
        sums = torch.tensor([[beam.score] for beam in self.running], device=scores.device)
        total = scores + sums  # (rows, V)
        # Some of the best may end here: enough others to go on with.
        spare = max(2, 1 + len(request.end_ids)) * self._width
        best = total.flatten().topk(min(spare, total.numel()))
        length = len(self.running[0].ids) + 1
        running: list[Hypothesis] = []
        parents: list[int] = []
        for rank, (score, place) in enumerate(
            zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ):
            if score == -math.inf:
                break
            parent, token_id = divmod(place, total.size(-1))
            ids = (*self.running[parent].ids, token_id)
            ends = (
                token_id in request.end_ids
                or length == request.max_new_tokens
                or request.sampler.is_complete(Context(request.prompt_ids, list(ids)))
            )
            if ends:
                if rank < self._width:
                    self.chosen.append(token_id)
                    self._finish(Hypothesis(ids, score / length**self._search.length_penalty))
            elif len(running) < self._width:
                self.chosen.append(token_id)
                running.append(Hypothesis(ids, score))
                parents.append(parent)
        self.running = running if running and self._can_improve(running[0], length) else []
        return parents if self.running else []

    def _finish(self, hypothesis: Hypothesis) -> None:
        self.finished.append(hypothesis)
        self.finished.sort(key=lambda each: -each.score)  # of equals the earlier one stays
        del self.finished[self._width :]

    def _can_improve(self, best: Hypothesis, length: int) -> bool:
        """Whether the best running beam may come to be among the finished ones."""
        search = self._search
        if len(self.finished) < self._width:
            return True
        if search.early_stopping is True:
            return False
        if search.early_stopping == "never" and search.length_penalty > 0:
            length = self._request.max_new_tokens
        possible: float = best.score / length**search.length_penalty
        return possible > self.finished[-1].score


class _FoundRows:
    """The found sequences, handed out token by token."""

    def __init__(self, search: BeamSearch, request: Request) -> None:
        self._search = search
        self._request = request
        self._rows = list(range(len(request.contexts)))
        self._found: list[Hypothesis] | None = None
        self._drawn = 0

    def draw(self) -> list[int]:
        if self._found is None:
            self._found = self._search.search(self._request)
            if len(self._found) < len(self._rows):
                raise UsageError(
                    f"Beam search found {len(self._found)} sequences, not {len(self._rows)}: give "
                    "a lower --num-samples, or processors that leave more tokens."
                )
        tokens = [self._found[row].ids[self._drawn] for row in self._rows]
        self._drawn += 1
        return tokens

    def keep(self, rows: Sequence[int]) -> None:
        self._rows = [self._rows[row] for row in rows]
