"""Many requests, one batch: who is written when.

One thread owns the model. In each round it lets requests go that are over, takes waiting ones in as
rows are free, first come first served, and asks the batch for one more token of every row
(continuous batching: Yu et al. 2022, "Orca"). Nobody overtakes: a request that needs more rows than
are free waits, and so do those behind it, until they are; thus none starves.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from toolkit.errors import ServingError, ToolkitError, UsageError
from toolkit.generation import Batch, Generator, Progress, Text, TextOptions, score_ids
from toolkit.serving.limits import Limits
from toolkit.serving.metrics import Metrics
from toolkit.serving.tickets import (
    Begun,
    ClosingError,
    Event,
    Grown,
    Job,
    LeftError,
    QueueFullError,
    Ticket,
    TooLateError,
)

logger = logging.getLogger("toolkit")

# Prompts of more tokens together are not begun between two steps, so that texts which are being
# written are not held up for long.
PROMPT_TOKENS_BETWEEN_STEPS = 2048


@dataclass(frozen=True)
class _Place:
    """Where a text belongs: its request and its number there; and when it was begun."""

    ticket: Ticket
    number: int
    began: float


class Scheduler:
    """Answers requests for texts with one model.

    `start` and `submit` are for one event loop; the work is done in a thread.
    """

    def __init__(self, generator: Generator, limits: Limits, metrics: Metrics) -> None:
        self.limits = limits
        self._generator = generator
        self._metrics = metrics
        self._batch = self._new_batch()
        # Of the scheduler's thread alone.
        self._writing: dict[Text, _Place] = {}
        self._outbox: list[tuple[Ticket, Event | ToolkitError]] = []
        # Of both threads, and guarded by the condition.
        self._changed = threading.Condition()
        self._waiting: deque[Ticket] = deque()
        self._closes_at: float | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="toolkit-scheduler", daemon=True)

    # -- for the event loop ----------------------------------------------------------------------

    def start(self) -> None:
        """Begin to work, for the event loop that is running."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    @property
    def is_open(self) -> bool:
        """Whether requests are taken."""
        return self._thread.is_alive() and self._closes_at is None

    def submit(self, jobs: Sequence[Job]) -> Ticket:
        """Put a request into the queue.

        Raises:
            UsageError: it can never be answered.
            QueueFullError, ClosingError: it cannot be answered now.
        """
        ticket = Ticket(jobs, self.limits.timeout)
        try:
            self._check(jobs)
            with self._changed:
                if self._closes_at is not None:
                    raise ClosingError("The server is shutting down.")
                if len(self._waiting) >= self.limits.max_queue:
                    raise QueueFullError(
                        f"{self.limits.max_queue} requests are waiting, and no more may: try again "
                        "in a moment."
                    )
                self._waiting.append(ticket)
                self._metrics.queue_length.set(len(self._waiting))
                self._changed.notify()
        except ToolkitError:
            self._metrics.requests.labels("refused").inc()
            raise
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """Nobody waits for this request any more; nothing happens to one that is over."""
        with self._changed:
            ticket.cancelled = True
            self._changed.notify()

    def close(self) -> None:
        """Take nothing more, refuse what waits, and give texts `limits.grace` seconds to end."""
        with self._changed:
            if self._closes_at is None:
                self._closes_at = time.monotonic() + self.limits.grace
            self._changed.notify()

    def join(self, timeout: float | None = None) -> None:
        """Wait until all is done, after `close`."""
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _check(self, jobs: Sequence[Job]) -> None:
        limits = self.limits
        if sum(job.num_samples for job in jobs) > limits.max_texts:
            raise UsageError(
                f"At most {limits.max_texts} texts in a request: prompts times n is "
                f"{sum(job.num_samples for job in jobs)}."
            )
        for job in jobs:
            if job.num_samples > limits.max_rows:
                raise UsageError(
                    f"n {job.num_samples} is more than the {limits.max_rows} texts that this "
                    "server writes side by side."
                )
            if len(job.prompt_ids) > limits.max_prompt_tokens:
                raise UsageError(
                    f"The prompt has {len(job.prompt_ids):,} tokens; this server takes "
                    f"{limits.max_prompt_tokens:,}."
                )

    # -- in the thread ---------------------------------------------------------------------------

    def _new_batch(self) -> Batch:
        return Batch(self._generator, max_rows=self.limits.max_rows)

    def _run(self) -> None:
        while self._wait_for_work():
            try:
                self._let_go()
                self._take_in()
                self._step()
            except Exception as error:
                self._start_anew(error)
            self._hand_over()

    def _wait_for_work(self) -> bool:
        """Sleep while there is nothing to do; whether there is something, and not the end."""
        with self._changed:
            while not self._waiting and not self._writing:
                if self._closes_at is not None:
                    return False
                self._changed.wait()
        return True

    def _let_go(self) -> None:
        """End the requests that were left, that are late, or that the end of the server meets."""
        now = time.monotonic()
        closes_at = self._closes_at
        with self._changed:
            waiting = list(self._waiting)
        for ticket in waiting:
            if ticket.cancelled:
                self._end(ticket, LeftError("The client left."), "cancelled")
            elif closes_at is not None:
                self._end(ticket, ClosingError("The server is shutting down."), "failed")
            elif now >= ticket.deadline:
                self._end(ticket, self._too_late(), "timeout")
        for ticket in {place.ticket: None for place in self._writing.values()}:
            if ticket.cancelled:
                self._end(ticket, LeftError("The client left."), "cancelled")
            elif closes_at is not None and now >= closes_at:
                self._end(ticket, ClosingError("The server is shutting down."), "failed")

    def _too_late(self) -> ToolkitError:
        return TooLateError(
            f"The request waited for {self.limits.timeout:g} seconds, and was given up: the server "
            "is busy."
        )

    def _take_in(self) -> None:
        """Begin the jobs that have waited longest, as far as rows are free."""
        budget = PROMPT_TOKENS_BETWEEN_STEPS
        while budget > 0:
            with self._changed:
                if not self._waiting:
                    return
                ticket = self._waiting[0]
                number, job = ticket.waiting[0]
                if job.num_samples > self._batch.free:
                    return
                ticket.waiting.popleft()
                if not ticket.waiting:
                    self._waiting.popleft()
                    self._metrics.queue_length.set(len(self._waiting))
            budget -= len(job.prompt_ids)
            try:
                self._begin(ticket, number, job)
            except Exception as error:
                self._fail(ticket, _explain(error))

    def _begin(self, ticket: Ticket, number: int, job: Job) -> None:
        now = time.monotonic()
        # At least the first token: who was let in in time is not refused for a moment.
        options: TextOptions = {**job.options, "max_time": max(ticket.deadline - now, 0.001)}
        texts = self._batch.join(job.prompt_ids, job.num_samples, **options)
        logprobs = None
        for sample, text in enumerate(texts):
            self._writing[text] = _Place(ticket, number * job.num_samples + sample, now)
        if job.prompt_logprobs is not None:
            model, tokenizer = self._generator.model, self._generator.tokenizer
            logprobs = score_ids(model, tokenizer, job.prompt_ids, job.prompt_logprobs)
        self._outbox.append((ticket, Begun(number, logprobs)))
        self._metrics.prompt_tokens.inc(len(job.prompt_ids))

    def _step(self) -> None:
        """One more token for every row."""
        if self._writing:
            for progress in self._batch.step():
                self._grow(progress)
        self._metrics.active_rows.set(self._batch.rows)

    def _grow(self, progress: Progress) -> None:
        """Tell of one step of one text."""
        text = progress.text
        place = self._writing.get(text)
        if place is None:
            return  # its request has ended in this step, by an error in another text of it
        ticket = place.ticket
        if progress.error is not None:
            self._fail(ticket, progress.error)
            return
        now, num_new_ids = time.monotonic(), text.num_new_ids
        reason = progress.finish_reason
        event = Grown(place.number, progress.piece, progress.token, reason, num_new_ids)
        self._outbox.append((ticket, event))
        if num_new_ids:
            self._metrics.generated_tokens.inc()
            if not ticket.has_token:
                ticket.has_token = True
                self._metrics.first_token_seconds.observe(now - ticket.arrived)
        if reason is None:
            return
        del self._writing[text]
        if num_new_ids and now > place.began:
            self._metrics.tokens_per_second.observe(num_new_ids / (now - place.began))
        ticket.num_unfinished -= 1
        if ticket.num_unfinished == 0:
            self._metrics.requests.labels("done").inc()
            self._metrics.request_seconds.observe(now - ticket.arrived)

    def _fail(self, ticket: Ticket, error: ToolkitError) -> None:
        """A request cannot be answered, by its own fault or by the server's."""
        self._end(ticket, error, "refused" if isinstance(error, UsageError) else "failed")

    def _end(self, ticket: Ticket, error: ToolkitError, outcome: str) -> None:
        """A request ends before its texts do."""
        with self._changed:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
                self._metrics.queue_length.set(len(self._waiting))
        for text in [text for text, place in self._writing.items() if place.ticket is ticket]:
            del self._writing[text]
            self._batch.leave(text)
        self._metrics.requests.labels(outcome).inc()
        self._outbox.append((ticket, error))

    def _start_anew(self, error: Exception) -> None:
        """Nobody knows what the batch holds after an error: its requests fail, others go on."""
        explained = _explain(error)
        self._batch = self._new_batch()
        failed = {place.ticket: None for place in self._writing.values()}
        self._writing.clear()
        for ticket in failed:
            self._fail(ticket, explained)
        self._metrics.active_rows.set(0)

    def _hand_over(self) -> None:
        """Give the events of a round to the event loop, all at once."""
        events, self._outbox = self._outbox, []
        assert self._loop is not None, "start gave it"
        if events:
            try:
                self._loop.call_soon_threadsafe(_deliver, events)
            except RuntimeError:  # the loop is closed: nobody listens
                self.close()


def _deliver(events: list[tuple[Ticket, Event | ToolkitError]]) -> None:
    for ticket, event in events:
        ticket.put(event)


def _explain(error: Exception) -> ToolkitError:
    """What a client is told; of an error that nobody has foreseen the log tells the rest."""
    if isinstance(error, ToolkitError):
        return error
    logger.error("A request failed.", exc_info=error)
    return ServingError("The server failed at this request; its log says why.")
