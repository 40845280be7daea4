"""The page in a browser: a visit, and what it has to keep to."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from live_server import Running

PROMPT = "to be or not to be, that is the question"
TIMEOUT = 20_000  # milliseconds: a machine may be busy


@dataclass
class Visit:
    """A page that is open, and what it did."""

    page: Any
    url: str
    problems: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def tokens(self) -> list[str]:
        return [each.text_content() for each in self.page.locator("#output .token").all()]

    def generate(self, prompt: str, *, seed: int, max_tokens: int) -> None:
        self.page.get_by_label("Prompt").fill(prompt)
        self.page.get_by_label("Seed").fill(str(seed))
        self.page.get_by_label("Max tokens, as a number").fill(str(max_tokens))
        self.page.get_by_role("button", name="Generate").click()
        self.wait_for_end()

    def wait_for_end(self) -> None:
        self.page.locator("#progress", has_text="—").wait_for()
        self.page.locator("#start:not([disabled])").wait_for()

    def numbers(self) -> list[tuple[str, str]]:
        """What the panel says of each token: by the model, as it is drawn."""
        before, after = (
            self.page.locator(f".bar-row .number:nth-of-type({place})").all_text_contents()
            for place in (3, 4)
        )
        return list(zip(before, after, strict=True))


@contextmanager
def visiting(browser: Any, url: str, **options: Any) -> Iterator[Visit]:
    """Open the page; at the end nothing was logged, and nobody else was asked."""
    context = browser.new_context(**options)
    context.set_default_timeout(TIMEOUT)
    visit = Visit(context.new_page(), url)
    visit.page.on("console", lambda message: visit.problems.append(message.text))
    visit.page.on("pageerror", lambda error: visit.problems.append(str(error)))
    visit.page.on("request", lambda request: visit.asked.append(request.url))
    try:
        visit.page.goto(url)
        visit.page.locator("#model:not(:empty)").wait_for()
        yield visit
        assert visit.problems == []
        assert {each for each in visit.asked if not each.startswith(f"{url}/")} == set()
    finally:
        context.close()


def percent(probability: float) -> str:
    """As the page writes it."""
    value = 100 * probability
    if value == 0:
        return "0%"
    if value < 0.01:
        return "<0.01%"
    if value < 1:
        return f"{value:.2f}%"
    return f"{value:.1f}%" if value < 99.95 else "100%"


def ask(server: Running, path: str, body: object) -> httpx.Response:
    return httpx.post(f"{server.url}/playground/{path}", json=body, timeout=30)


def answer(server: Running, path: str, body: object) -> Any:
    response = ask(server, path, body)
    assert response.status_code == 200, response.text
    return response.json()
