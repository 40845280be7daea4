"""What the page asks its server, and what it is told: the bodies of its endpoints.

Bytes travel as hex, since a token may be half a character; `text` is there where they are text.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field

from toolkit.generation import Sampler, make_sampler
from toolkit.serving.api import WHOLE, Fraction, Positive, TokenId
from toolkit.serving.next_token import Candidate, Distribution
from toolkit.serving.tokenizer_menu import MenuEntry, PlacedToken, SplitText

MAX_CHARACTERS = 20_000
MAX_IDS = 16_384  # as many as a prompt of a completion may have
MAX_CANDIDATES = 100

Top = Annotated[int, Field(ge=1, le=MAX_CANDIDATES), WHOLE]


class _Body(BaseModel):
    # Strict: "5" is no number. Numbers that are none (NaN, infinity) are refused too.
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)


class SamplingSettings(_Body):
    """The options that the page has sliders for: names and bounds are those of completions.

    What is left out changes nothing.
    """

    temperature: float = Field(default=1.0, ge=0, le=100)
    top_k: Positive | None = None
    top_p: Fraction | None = None
    min_p: Fraction | None = None
    repetition_penalty: float | None = Field(default=None, ge=0.01, le=100)

    def sampler(self) -> Sampler:
        """The processors; a temperature of 0 is greedy, whatever the other options say."""
        if self.temperature == 0:
            return make_sampler("greedy", repetition_penalty=self.repetition_penalty)
        return make_sampler(
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
        )


class NextRequest(_Body):
    """What may follow a text, or ids: one of the two."""

    text: str | None = Field(default=None, max_length=MAX_CHARACTERS)
    ids: list[TokenId] | None = Field(default=None, min_length=1, max_length=MAX_IDS)
    top: Top = Field(default=20, description="How many tokens to name.")
    also: list[TokenId] = Field(
        default=[], max_length=10, description="Tokens to name in any case."
    )
    sampling: SamplingSettings = SamplingSettings()


class TokenText(_Body):
    """A token: its id, its bytes in hex, and the text that they are (null for half a character)."""

    id: int
    bytes: str
    text: str | None
    special: bool


class CandidateBody(TokenText):
    """A token that may come next, with its probability by the model and as it is drawn."""

    before: float
    after: float
    kept: bool

    @classmethod
    def of(cls, candidate: Candidate) -> Self:
        """As it is sent."""
        return cls(
            id=candidate.id,
            bytes=candidate.token.hex(),
            text=text_of(candidate.token),
            special=candidate.special,
            before=candidate.before,
            after=candidate.after,
            kept=candidate.kept,
        )


class NextResponse(_Body):
    """See `Distribution`; `ids` are those of the context."""

    ids: list[int]
    candidates: list[CandidateBody]
    rest_before: float
    rest_after: float
    num_kept: int
    vocab_size: int
    entropy_before: float
    entropy_after: float

    @classmethod
    def of(cls, ids: list[int], found: Distribution) -> Self:
        """As it is sent."""
        return cls(
            ids=ids,
            candidates=[CandidateBody.of(each) for each in found.candidates],
            rest_before=found.rest_before,
            rest_after=found.rest_after,
            num_kept=found.num_kept,
            vocab_size=found.vocab_size,
            entropy_before=found.entropy_before,
            entropy_after=found.entropy_after,
        )


class TokenizeRequest(_Body):
    """Split a text by one of the tokenizers that `GET /playground/tokenizers` lists."""

    tokenizer: str = Field(max_length=100)
    text: str = Field(max_length=MAX_CHARACTERS)


class CharacterPartBody(_Body):
    """Part `number` of the `parts` in which tokens share a character."""

    character: str
    number: int
    parts: int


class PlacedTokenBody(TokenText):
    """A token of a text; `start` and `end` count characters (Unicode code points)."""

    start: int | None
    end: int | None
    parts: list[CharacterPartBody]

    @classmethod
    def of(cls, placed: PlacedToken) -> Self:
        """As it is sent."""
        start, end = (None, None) if placed.span is None else placed.span
        return cls(
            id=placed.id,
            bytes=placed.token.hex(),
            text=text_of(placed.token),
            special=placed.special,
            start=start,
            end=end,
            parts=[
                CharacterPartBody(
                    # A byte that is no UTF-8 at all stands as half a surrogate pair here.
                    character=part.character.encode(errors="replace").decode(),
                    number=part.number,
                    parts=part.parts,
                )
                for part in placed.parts
            ],
        )


class TokenizeResponse(_Body):
    """The tokens, and what one counts."""

    tokens: list[PlacedTokenBody]
    vocab_size: int
    characters: int
    bytes: int

    @classmethod
    def of(cls, text: str, split: SplitText) -> Self:
        """As it is sent."""
        return cls(
            tokens=[PlacedTokenBody.of(each) for each in split.tokens],
            vocab_size=split.vocab_size,
            characters=len(text),
            bytes=len(text.encode()),
        )


class TokenizerBody(_Body):
    """A tokenizer to choose; `missing` says why it cannot be."""

    key: str
    title: str
    missing: str | None

    @classmethod
    def of(cls, entry: MenuEntry) -> Self:
        """As it is sent."""
        return cls(key=entry.key, title=entry.title, missing=entry.missing)


class ModelBody(_Body):
    """What the page says about the model."""

    name: str
    num_params: int
    vocab_size: int
    block_size: int
    tokenizer: str


def text_of(token: bytes) -> str | None:
    """The text that bytes are; None where they are none."""
    try:
        return token.decode()
    except UnicodeDecodeError:
        return None
