"""A request on its way through the scheduler: what is asked for, and what comes back.

A `Ticket` belongs to two threads. The event loop makes it, reads its events and may cancel it; the
scheduler's thread works on it, and hands its events over through the loop.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from toolkit.errors import ServingError, ToolkitError
from toolkit.generation import TextOptions, TokenLogprob
from toolkit.generation.samples import FinishReason


class QueueFullError(ServingError):
    """As many requests wait as may."""


class TooLateError(ServingError):
    """A request waited until its time was over."""


class ClosingError(ServingError):
    """The server stops."""


class LeftError(ServingError):
    """The client went away."""


@dataclass(frozen=True)
class Job:
    """One prompt of a request.

    Attributes:
        prompt_ids: at least one.
        num_samples: how many texts continue it.
        options: how; without max_time.
        prompt_logprobs: how many alternatives to note for the prompt's own tokens; None: nothing.
    """

    prompt_ids: Sequence[int]
    num_samples: int
    options: TextOptions
    prompt_logprobs: int | None = None


@dataclass(frozen=True)
class Begun:
    """The texts of a job are being written.

    Attributes:
        job: its number in the request.
        prompt_logprobs: of the prompt's tokens, where they were asked for.
    """

    job: int
    prompt_logprobs: tuple[TokenLogprob | None, ...] | None


@dataclass(frozen=True)
class Grown:
    """A text has one more token.

    Attributes:
        text: its number in the request: all texts of the first job, then those of the second.
        piece: what can be shown now; may be empty.
        token: the token's logprob, where it was asked for.
        finish_reason: why the text ended with it; None: it goes on.
        num_new_ids: how many tokens the text has.
    """

    text: int
    piece: str
    token: TokenLogprob | None
    finish_reason: FinishReason | None
    num_new_ids: int


Event = Begun | Grown


class Ticket:
    """A request that waits or is being answered.

    Attributes:
        num_texts: how many texts it asks for.
        arrived, deadline: by `time.monotonic`.
        waiting: its jobs that are not begun, with their numbers.
        num_unfinished: how many texts have not ended.
        cancelled: nobody waits for it any more.
        has_token: whether a first token was drawn.
    """

    def __init__(self, jobs: Sequence[Job], timeout: float) -> None:
        self.num_texts = self.num_unfinished = sum(job.num_samples for job in jobs)
        self.arrived = time.monotonic()
        self.deadline = self.arrived + timeout
        self.waiting = deque(enumerate(jobs))
        self.cancelled = False
        self.has_token = False
        self._events: asyncio.Queue[Event | ToolkitError] = asyncio.Queue()

    def put(self, event: Event | ToolkitError) -> None:
        """Hand an event over; called in the event loop."""
        self._events.put_nowait(event)

    async def events(self) -> AsyncIterator[Event]:
        """What happens, until every text has ended.

        Raises:
            ToolkitError: why the request cannot be answered, or not to its end.
        """
        unfinished = self.num_texts
        while unfinished:
            event = await self._events.get()
            if isinstance(event, ToolkitError):
                raise event
            if isinstance(event, Grown) and event.finish_reason is not None:
                unfinished -= 1
            yield event
