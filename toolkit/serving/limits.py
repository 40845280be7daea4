"""What a server lets one request, and all of them together, ask for."""

from __future__ import annotations

from dataclasses import dataclass, fields

from toolkit.errors import UsageError


@dataclass(frozen=True)
class Limits:
    """Numbers that bound a server's work and memory, whatever its clients do.

    Attributes:
        max_rows: texts that are written side by side.
        max_queue: requests that wait; more are refused.
        max_new_tokens: tokens of one text.
        max_prompt_tokens: tokens of one prompt.
        max_texts: texts of one request: its prompts times n.
        max_logprobs: alternatives to a token that are listed.
        max_body: bytes of a request.
        timeout: seconds from a request's arrival to its end.
        grace: seconds that texts have to end when the server stops.

    Raises:
        UsageError: a number that cannot be.
    """

    max_rows: int = 32
    max_queue: int = 64
    max_new_tokens: int = 2048
    max_prompt_tokens: int = 16384
    max_texts: int = 128
    max_logprobs: int = 20
    max_body: int = 2**22
    timeout: float = 300.0
    grace: float = 5.0

    def __post_init__(self) -> None:
        for field in fields(self):
            option, value = f"--{field.name.replace('_', '-')}", getattr(self, field.name)
            least_is_zero = field.name in ("grace", "max_logprobs")
            if not 0 <= value < float("inf") or (value == 0 and not least_is_zero):
                wanted = "not negative" if least_is_zero else "above 0"
                raise UsageError(f"{option} {value} must be {wanted}")
