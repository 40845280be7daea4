"""A server's numbers for Prometheus, in a registry of their own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_SPEEDS = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000)


class Metrics:
    """What is counted; each app has its own, so that two in a process do not mix.

    >>> metrics = Metrics()
    >>> metrics.generated_tokens.inc(3)
    >>> b"toolkit_generated_tokens_total 3.0" in metrics.render()
    True
    """

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "toolkit_requests",
            "Requests for texts, by how they ended: done, refused, cancelled, timeout, failed.",
            ["outcome"],
            registry=self._registry,
        )
        for outcome in ("done", "refused", "cancelled", "timeout", "failed"):
            self.requests.labels(outcome)
        self.prompt_tokens = Counter(
            "toolkit_prompt_tokens", "Tokens of the prompts begun.", registry=self._registry
        )
        self.generated_tokens = Counter(
            "toolkit_generated_tokens", "Tokens drawn.", registry=self._registry
        )
        self.queue_length = Gauge(
            "toolkit_queue_length", "Requests that wait for free rows.", registry=self._registry
        )
        self.active_rows = Gauge(
            "toolkit_active_rows", "Texts that are being written.", registry=self._registry
        )
        self.first_token_seconds = Histogram(
            "toolkit_first_token_seconds",
            "From a request's arrival to its first token.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.request_seconds = Histogram(
            "toolkit_request_seconds",
            "From a request's arrival to its end, of those that were done.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.tokens_per_second = Histogram(
            "toolkit_tokens_per_second",
            "Tokens a second of each text, from when it was begun.",
            buckets=_SPEEDS,
            registry=self._registry,
        )

    def render(self) -> bytes:
        """All of them in Prometheus's text format."""
        return generate_latest(self._registry)
