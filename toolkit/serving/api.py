"""The requests and responses of the HTTP interface, and what they look like in OpenAPI.

Requests are OpenAI's for `/v1/completions` (platform.openai.com/docs/api-reference/completions),
with options of our own beside theirs. Types and ranges are strict, and unknown fields are refused:
an option that would be ignored is an error.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from typing_extensions import TypedDict


def _whole(value: Any) -> Any:
    """JSON has one kind of number, so that 3.0 is a whole one."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
TokenId = Annotated[int, Field(ge=0, lt=2**31), WHOLE]
Count = Annotated[int, Field(ge=0, lt=2**31), WHOLE]
Positive = Annotated[int, Field(ge=1, lt=2**31), WHOLE]
Samples = Annotated[int, Field(ge=1, le=128), WHOLE]
Seed = Annotated[int, Field(ge=0, lt=2**63), WHOLE]
Stop = Annotated[str, Field(min_length=1, max_length=1000)]
Fraction = Annotated[float, Field(gt=0, le=1)]
_OWN = "Not of OpenAI's interface. "


class StreamOptions(BaseModel):
    """What a stream has beside the texts."""

    model_config = ConfigDict(strict=True, extra="forbid")

    include_usage: bool = Field(False, description="A last chunk says how many tokens there were.")


class CompletionRequest(BaseModel):
    """Continue prompts."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    model: str | None = Field(None, description="The served model's name, as /v1/models lists it.")
    prompt: (
        str
        | Annotated[list[str], Field(min_length=1)]
        | Annotated[list[TokenId], Field(min_length=1)]
        | Annotated[list[Annotated[list[TokenId], Field(min_length=1)]], Field(min_length=1)]
    ) = Field("", description="A text, a list of texts, ids, or a list of lists of ids.")
    max_tokens: Count | None = Field(
        None, description="Tokens of each text, at most; 16 where nothing is said."
    )
    n: Samples | None = Field(1, description="Texts for each prompt.")
    best_of: Samples | None = Field(None, description="Must equal n.")
    stream: bool | None = Field(False, description="Server-sent events, as the text comes.")
    stream_options: StreamOptions | None = None
    echo: bool | None = Field(False, description="Begin each text with its prompt.")
    logprobs: Count | None = Field(
        None, description="Each token's logprob, and so many of the likeliest."
    )
    stop: Stop | Annotated[list[Stop], Field(max_length=16)] | None = Field(
        None, description="A text ends before the first of these."
    )
    seed: Seed | None = Field(None, description="Same seed, same text.")
    temperature: float | None = Field(
        None, ge=0, le=100, description="0 takes the likeliest token every time."
    )
    top_p: Fraction | None = None
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = Field(
        None, max_length=1024, description="Token id → what is added to its logit."
    )
    suffix: str | None = Field(None, description="Not supported: must be null.")
    user: str | None = Field(None, description="Ignored.")
    # -- ours --
    top_k: Positive | None = Field(None, description=_OWN + "The k likeliest tokens.")
    min_p: Fraction | None = Field(
        None, description=_OWN + "Tokens at least p times as likely as the likeliest."
    )
    typical_p: Annotated[float, Field(gt=0, lt=1)] | None = Field(None, description=_OWN)
    epsilon_cutoff: Annotated[float, Field(gt=0, lt=1)] | None = Field(None, description=_OWN)
    eta_cutoff: Annotated[float, Field(gt=0, lt=1)] | None = Field(None, description=_OWN)
    repetition_penalty: float | None = Field(
        None, ge=0.01, le=100, description=_OWN + "Above 1: what occurred is less likely."
    )
    no_repeat_ngram: Positive | None = Field(
        None, description=_OWN + "Never the same n tokens in a row twice."
    )
    ignore_eos: bool | None = Field(
        False, description=_OWN + "Go on after a token that ends a text."
    )
    regex: str | None = Field(
        None, min_length=1, max_length=10_000, description=_OWN + "The text matches this."
    )
    json_schema: dict[str, Any] | None = Field(
        None, description=_OWN + "The text is JSON of this schema."
    )


class Logprobs(TypedDict):
    """One entry for each token; of a prompt's first token the numbers are null.

    `token_ids` is ours: a token's text does not always say which one it is.
    """

    tokens: list[str]
    token_ids: list[int]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float | None] | None] | None
    text_offset: list[int]


class Choice(TypedDict):
    """A text, or in a stream its next piece."""

    index: int
    text: str
    logprobs: Logprobs | None
    finish_reason: Literal["stop", "length"] | None
    ended_by: Literal["length", "stop", "eos", "time", "complete"] | None
    seed: int


class Usage(TypedDict):
    """How many tokens there were."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class CompletionResponse(TypedDict):
    """The texts of a request, or in a stream a piece of one."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Usage | None


class ModelCard(TypedDict):
    """A model that is served."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(TypedDict):
    """The models that are served."""

    object: Literal["list"]
    data: list[ModelCard]


class Health(TypedDict):
    """How the server is."""

    status: Literal["ok"]
    model: str


class ErrorDetail(TypedDict):
    """What was wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorResponse(TypedDict):
    """An error, in OpenAI's form."""

    error: ErrorDetail
