"""The page in a real browser: headless Chromium, where there is one."""

import json
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import torch
from live_server import Running, running

from toolkit.generation import Generator
from toolkit.models import create_model
from toolkit.tokenizers import BPETokenizer, WordTokenizer

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine"),
]
expect = sync_api.expect

PROMPT = "to be or not to be, that is the question"
EVIL = ["<script>document.title='owned'</script>", "<img/src=x/onerror=document.title='owned'>"]


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
        expect(self.page.locator("#progress")).to_contain_text("—")
        expect(self.page.locator("#start")).to_be_enabled()

    def bars(self) -> list[dict[str, Any]]:
        """The rows of the panel: text, its numbers, whether ruled out."""
        rows = []
        for row in self.page.locator(".bar-row").all():
            name, before, after = (
                row.locator(css).text_content()
                for css in (".bar-token", ".number >> nth=0", ".number >> nth=1")
            )
            rows.append({"name": name, "before": before, "after": after})
        return rows


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def words() -> Generator:
    """A model whose tokens are words, letters and parts of characters, drawn almost at random."""
    tokenizer = BPETokenizer.train([PROMPT * 3 + "é😀"], vocab_size=300)
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": 64}
    model = create_model("gpt", tokenizer.vocab_size, seed=1, **shape)
    return Generator(model.eval(), tokenizer)


@pytest.fixture(scope="module")
def served(words: Generator) -> Iterator[Running]:
    with running(words) as found:
        yield found


@contextmanager
def visiting(browser: Any, url: str, **options: Any) -> Iterator[Visit]:
    """Open the page; at the end nothing was logged, and nobody else was asked."""
    context = browser.new_context(**options)
    context.set_default_timeout(10_000)
    visit = Visit(context.new_page(), url)
    visit.page.on("console", lambda message: visit.problems.append(message.text))
    visit.page.on("pageerror", lambda error: visit.problems.append(str(error)))
    visit.page.on("request", lambda request: visit.asked.append(request.url))
    try:
        visit.page.goto(url)
        expect(visit.page.locator("#model")).not_to_be_empty()
        yield visit
        assert visit.problems == []
        assert {each for each in visit.asked if not each.startswith(f"{url}/")} == set()
    finally:
        context.close()


@pytest.fixture
def visit(browser: Any, served: Running) -> Iterator[Visit]:
    with visiting(browser, served.url, reduced_motion="reduce") as found:
        yield found


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


def next_tokens(server: Running, body: dict[str, Any]) -> list[dict[str, Any]]:
    found = httpx.post(f"{server.url}/playground/next", json=body).json()
    candidates: list[dict[str, Any]] = found["candidates"]
    return candidates


# -- generating -------------------------------------------------------------------------------


def test_a_prompt_streams_the_text_of_the_api_with_its_probabilities(
    visit: Visit, served: Running
) -> None:
    visit.generate(PROMPT, seed=7, max_tokens=60)
    body = {"prompt": PROMPT, "seed": 7, "max_tokens": 60, "temperature": 0.7, "logprobs": 0}
    choice = served.post(body).json()["choices"][0]
    # Random bytes: many tokens are parts of characters, or none at all.
    assert any(name.startswith("bytes:") for name in choice["logprobs"]["tokens"])
    assert "".join(visit.tokens()) == choice["text"]
    assert visit.page.locator("#output").text_content() == PROMPT + choice["text"]
    labels = [
        each.get_attribute("aria-label") for each in visit.page.locator("#output .token").all()
    ]
    probabilities = [2.718281828459045**each for each in choice["logprobs"]["token_logprobs"]]
    assert [label.rpartition(", ")[2] for label in labels] == [percent(p) for p in probabilities]
    levels = [0.5, 0.2, 0.05, 0.01, 0.0]
    for each, probability in zip(
        visit.page.locator("#output .token").all(), probabilities, strict=True
    ):
        level = 1 + next(i for i, border in enumerate(levels) if probability >= border)
        assert f"p{level}" in each.get_attribute("class").split()


def test_a_token_leads_to_its_alternatives_and_one_of_them_to_a_branch(
    visit: Visit, served: Running, words: Generator
) -> None:
    visit.generate(PROMPT, seed=1, max_tokens=12)
    first = visit.tokens()
    visit.page.locator("#output .token").nth(4).click()
    expect(visit.page.locator("#next-where")).to_contain_text("token 5")
    drawn = visit.page.locator(".bar-row.drawn")
    expect(drawn).to_have_count(1)

    body = {"prompt": PROMPT, "seed": 1, "max_tokens": 12, "temperature": 0.7, "logprobs": 0}
    ids = served.post(body).json()["choices"][0]["logprobs"]["token_ids"]
    before = [*words.prompt_ids(PROMPT), *ids[:4]]
    question = {"ids": before, "top": 16, "also": [ids[4]], "sampling": {"temperature": 0.7}}
    candidates = next_tokens(served, question)
    rows = visit.bars()
    assert [row["before"] for row in rows] == [percent(each["before"]) for each in candidates]
    assert [row["after"] for row in rows] == [percent(each["after"]) for each in candidates]

    chosen = next(i for i, each in enumerate(candidates) if each["id"] != ids[4])
    with visit.page.expect_request("**/v1/completions") as request:
        visit.page.locator(".bar-row").nth(chosen).click()
    # The branch goes on from the very ids, not from a new split of the text.
    assert request.value.post_data_json["prompt"] == [*before, candidates[chosen]["id"]]
    visit.wait_for_end()
    assert len(visit.tokens()) == 5 + 12
    assert visit.tokens()[:4] == first[:4]
    expect(visit.page.locator("#output .by-hand")).to_have_count(1)

    branches = visit.page.locator("#branches button")
    expect(branches).to_have_count(2)
    expect(branches.nth(1)).to_have_attribute("aria-current", "true")
    branches.nth(0).click()
    expect(branches.nth(0)).to_have_attribute("aria-current", "true")
    assert visit.tokens() == first

    # What leaves the branch before the branch began leaves the first text.
    branches.nth(1).click()
    visit.page.locator("#output .token").nth(1).click()
    expect(visit.page.locator("#next-where")).to_contain_text("token 2")
    expect(visit.page.locator("#bars:not([aria-busy])")).to_be_visible()
    visit.page.locator(".bar-row").nth(3).click()
    expect(branches).to_have_count(3)
    expect(visit.page.locator("#branches > ol > li > ol > li")).to_have_count(2)
    visit.wait_for_end()


def test_continue_adds_to_the_text(visit: Visit) -> None:
    visit.generate(PROMPT, seed=1, max_tokens=10)
    first = visit.page.locator("#output .token").count()
    visit.page.locator("#progress").evaluate("place => { place.textContent = ''; }")
    visit.page.get_by_role("button", name="Continue").click()
    visit.wait_for_end()
    assert (first, len(visit.tokens())) == (10, 20)
    expect(visit.page.locator("#branches button")).to_have_count(1)


def test_stop_ends_the_request_on_the_server_too(browser: Any, words: Generator) -> None:
    embedding = next(m for m in words.model.modules() if isinstance(m, torch.nn.Embedding))
    hook = embedding.register_forward_hook(lambda *_: time.sleep(0.02))  # every step takes longer
    try:
        with running(words) as server, visiting(browser, server.url) as visit:
            visit.page.get_by_label("Max tokens, as a number").fill("500")
            visit.page.get_by_label("Prompt").press("Control+Enter")
            visit.page.locator("#output .token").nth(2).wait_for()
            visit.page.keyboard.press("Escape")
            expect(visit.page.locator("#progress")).to_contain_text("stopped")
            assert 0 < len(visit.tokens()) < 500
            for _ in range(50):
                if server.metric("toolkit_active_rows") == 0:
                    break
                time.sleep(0.1)
            assert server.metric("toolkit_active_rows") == 0
            assert server.metric("toolkit_requests_total", outcome="cancelled") == 1
    finally:
        hook.remove()


def test_what_the_server_refuses_is_said(browser: Any, generator: Generator) -> None:
    with running(generator) as server, visiting(browser, server.url) as visit:
        visit.page.get_by_label("Prompt").fill("Éa")
        expect(visit.page.locator("#next-summary")).to_contain_text("'É' (U+00C9) at position 0")
        visit.page.get_by_role("button", name="Generate").click()
        expect(visit.page.locator("#generate-error")).to_contain_text("'É' (U+00C9) at position 0")
        # The browser itself logs every answer that is no success.
        assert all("400 (Bad Request)" in problem for problem in visit.problems)
        visit.problems.clear()


def test_a_stream_that_breaks_off_is_said(visit: Visit) -> None:
    visit.page.route(
        "**/v1/completions",
        lambda route: route.fulfill(
            body='data: {"choices": []}\n\n', content_type="text/event-stream"
        ),
    )
    visit.page.get_by_role("button", name="Generate").click()
    expect(visit.page.locator("#generate-error")).to_contain_text("ended before the text did")
    expect(visit.page.locator("#start")).to_be_enabled()


# -- sampling options -------------------------------------------------------------------------


def test_sliders_redraw_the_distribution(visit: Visit, served: Running) -> None:
    visit.page.get_by_label("Prompt").fill(PROMPT)
    expect(visit.page.locator(".bar-row")).to_have_count(16)

    def shown(**sampling: float) -> None:
        question = {"text": PROMPT, "top": 16, "sampling": sampling}
        candidates = next_tokens(served, question)
        wanted = [percent(each["after"]) if each["kept"] else "cut" for each in candidates]
        numbers = visit.page.locator(".bar-row .number:last-child")
        expect(numbers).to_have_text(wanted)

    shown(temperature=0.7)
    slider = visit.page.get_by_label("Temperature", exact=True)
    slider.focus()
    for _ in range(4):
        slider.press("ArrowRight")
    expect(visit.page.get_by_label("Temperature, as a number")).to_have_value("0.9")
    shown(temperature=0.9)
    visit.page.get_by_label("Top-k", exact=True).fill("5")
    shown(temperature=0.9, top_k=5)
    expect(visit.page.locator(".bar-row.cut")).to_have_count(11)
    visit.page.get_by_label("Repetition penalty", exact=True).fill("1.5")
    visit.page.get_by_label("Top-p, as a number").fill("0.5")
    shown(temperature=0.9, top_k=5, repetition_penalty=1.5, top_p=0.5)
    visit.page.get_by_role("button", name="Reset").click()
    shown(temperature=0.7)
    widths = visit.page.locator(".bar.after").evaluate_all(
        "bars => bars.map((bar) => bar.getBoundingClientRect().width)"
    )
    sampling = {"temperature": 0.7}
    candidates = next_tokens(served, {"text": PROMPT, "top": 16, "sampling": sampling})
    for width, each in zip(widths, candidates, strict=True):
        # As long as the probability, and a pixel at least; lengths are rounded to parts of a pixel.
        proportional = widths[0] * each["after"] / candidates[0]["after"]
        assert width == pytest.approx(max(1, proportional), abs=0.1)


def test_a_number_that_cannot_be_changes_nothing(visit: Visit) -> None:
    number = visit.page.get_by_label("Temperature, as a number")
    for wrong in ("7", "", "-1"):
        number.fill(wrong)
        number.blur()
        expect(number).to_have_value("0.7")


# -- tokenizers -------------------------------------------------------------------------------


def test_two_tokenizers_split_the_text_while_it_is_typed(
    visit: Visit, served: Running, words: Generator
) -> None:
    page = visit.page
    page.get_by_role("tab", name="Tokenize").click()
    text = "to be\n\té😀"
    page.get_by_role("textbox", name="Text").fill(text)
    second = page.locator("#tokenizer-2")
    second.select_option("byte")
    panes = page.locator(".pane")
    expect(panes.nth(0).locator(".counts")).to_contain_text(
        f"{words.tokenizer.count(text)} tokens · 9 characters"
    )
    expect(panes.nth(1).locator(".counts")).to_contain_text("13 tokens · 9 characters · 1.00 bytes")
    own = panes.nth(0).locator(".token")
    expect(own).to_have_count(words.tokenizer.count(text))
    expect(panes.nth(1).locator(".token").nth(5)).to_have_text("↵\n")
    expect(panes.nth(1).locator(".token").nth(6)).to_have_text("→")
    expect(panes.nth(1).locator(".token").nth(2)).to_have_text("·")
    expect(panes.nth(1).locator(".token").nth(9)).to_have_text("\\xf0")

    tooltip = page.get_by_role("tooltip")
    first_id = words.tokenizer.encode(text)[0]
    own.nth(0).hover()
    expect(tooltip).to_contain_text(f"id {first_id}")
    # The same characters are marked in the other pane: "to" is two bytes.
    expect(panes.nth(1).locator(".linked")).to_have_count(
        len(words.tokenizer.token_bytes(first_id))
    )
    panes.nth(1).locator(".token").nth(10).hover()
    expect(tooltip).to_contain_text("part 2 of 4 of “😀”")
    # What has no look of its own is shown by a sign.
    page.get_by_role("textbox", name="Text").fill("a\u200b\u0301")
    second.select_option("char")
    expect(panes.nth(1).locator(".token")).to_have_text(["a", "U+200B", "◌\u0301"])
    page.get_by_role("textbox", name="Text").fill(text)
    for key in ("char", "word", "bpe"):
        second.select_option(key)
        count = len(
            httpx.post(
                f"{served.url}/playground/tokenize", json={"tokenizer": key, "text": text}
            ).json()["tokens"]
        )
        expect(panes.nth(1).locator(".token")).to_have_count(count)
    page.get_by_role("textbox", name="Text").fill("")
    expect(panes.nth(1).locator(".token")).to_have_count(0)
    listed = httpx.get(f"{served.url}/playground/tokenizers").json()
    for entry in listed:
        option = second.locator(f'option[value="{entry["key"]}"]')
        assert option.is_disabled() == (entry["missing"] is not None)


# -- for everybody ----------------------------------------------------------------------------


def test_everything_can_be_done_with_the_keyboard(visit: Visit) -> None:
    page = visit.page
    page.keyboard.press("Tab")
    expect(page.get_by_role("tab", name="Generate")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Tokenize")).to_be_focused()
    expect(page.locator("#tokenize")).to_be_visible()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Tab")  # the theme
    page.keyboard.press("Tab")
    expect(page.get_by_label("Prompt")).to_be_focused()
    page.keyboard.type("to be")
    page.get_by_label("Seed").fill("3")
    page.get_by_label("Max tokens, as a number").fill("12")
    page.get_by_label("Prompt").focus()
    page.keyboard.press("Control+Enter")
    visit.wait_for_end()

    for _ in range(4):  # Generate, Continue (Stop cannot be pressed), the tokens
        page.keyboard.press("Tab")
        if page.locator("#output .token:focus").count():
            break
    expect(page.locator("#output .token").nth(0)).to_be_focused()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#output .token").nth(2)).to_be_focused()
    expect(page.get_by_role("tooltip")).to_be_visible()
    page.keyboard.press("End")
    expect(page.locator("#output .token").nth(11)).to_be_focused()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.locator(".bar-row.drawn")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#output .token").nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".bar-row.drawn")).to_be_focused()
    page.keyboard.press("Home")
    expect(page.locator(".bar-row").nth(0)).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(page.locator(".bar-row").nth(1)).to_be_focused()
    page.locator("#progress").evaluate("place => { place.textContent = ''; }")
    page.keyboard.press("Enter")
    visit.wait_for_end()
    expect(page.locator("#branches button")).to_have_count(2)
    expect(page.locator("#output .token").nth(1)).to_be_focused()
    assert len(visit.tokens()) == 2 + 12


def test_every_control_has_a_name(visit: Visit) -> None:
    visit.generate("to be", seed=1, max_tokens=5)
    nameless = visit.page.locator("button, input, select, textarea, [role=button]").evaluate_all(
        "all => all.filter((each) => !(each.labels?.length || each.ariaLabel || each.textContent"
        ".trim() || each.type === 'hidden')).map((each) => each.outerHTML)"
    )
    assert nameless == []
    expect(visit.page.locator("#announcer")).to_contain_text("5 tokens")


def _contrast(one: str, other: str) -> float:
    """The contrast of two colours "rgb(…)" (WCAG 2.2, relative luminance)."""

    def luminance(colour: str) -> float:
        parts = [int(each) / 255 for each in re.findall(r"\d+", colour)[:3]]
        r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_can_be_read(browser: Any, served: Running, scheme: str) -> None:
    with visiting(browser, served.url, color_scheme=scheme) as visit:
        page = visit.page

        def style(css: str, name: str) -> str:
            value = page.locator(css).first.evaluate(
                "(element, name) => getComputedStyle(element)[name]", name
            )
            return str(value)

        page.locator(".bar-row").first.wait_for()
        back = style("body", "backgroundColor")
        assert (_contrast(back, "rgb(0, 0, 0)") < 2) == (scheme == "dark")
        surface = style(".card", "backgroundColor")
        text = style("body", "color")
        # 4.5 is the least for small text (WCAG 2.2, 1.4.3).
        for step in range(1, 6):
            assert _contrast(text, style(f"#scale .p{step}", "backgroundColor")) > 4.5
        assert _contrast(text, surface) > 4.5
        assert _contrast(style("#model", "color"), back) > 4.5
        assert _contrast(style("#next-summary", "color"), surface) > 4.5
        assert _contrast(style("#start", "color"), style("#start", "backgroundColor")) > 4.5
        page.get_by_role("tab", name="Tokenize").click()
        page.locator(".sign").first.wait_for()
        for tint in ("tint0", "tint1"):
            colour = style(f".split .{tint}", "backgroundColor")
            assert _contrast(text, colour) > 4.5
            assert _contrast(style(".sign", "color"), colour) > 3  # signs, beside what they mean
        # By hand: system, light, dark; and it is remembered.
        page.get_by_role("button", name="Theme: system").click()
        assert _contrast(style("body", "backgroundColor"), "rgb(255, 255, 255)") < 2
        page.get_by_role("button", name="Theme: light").click()
        page.reload()
        expect(page.get_by_role("button", name="Theme: dark")).to_be_visible()
        assert _contrast(style("body", "backgroundColor"), "rgb(0, 0, 0)") < 2


def test_a_phone_is_wide_enough(browser: Any, served: Running) -> None:
    size = {"width": 390, "height": 844}
    with visiting(browser, served.url, viewport=size, reduced_motion="reduce") as visit:
        visit.generate(PROMPT + " " + "x" * 200, seed=2, max_tokens=20)

        def width() -> int:
            return int(visit.page.evaluate("() => document.documentElement.scrollWidth"))

        assert width() == 390
        bar = visit.page.locator(".bar.after").first
        assert bar.evaluate("bar => getComputedStyle(bar).transitionDuration") == "0s"
        visit.page.locator("#output .token").nth(3).click()
        expect(visit.page.locator("#next-where")).to_be_in_viewport()
        visit.page.get_by_role("tab", name="Tokenize").click()
        visit.page.get_by_role("textbox", name="Text").fill("y" * 300)
        expect(visit.page.locator(".pane .token").first).to_be_visible()
        assert width() == 390


# -- safety -----------------------------------------------------------------------------------


def test_markup_in_prompts_and_in_what_a_model_writes_stays_text(browser: Any) -> None:
    tokenizer = WordTokenizer([*EVIL, " "], rule="whitespace")
    generator = Generator(create_model("bigram", tokenizer.vocab_size, seed=1), tokenizer)
    with running(generator) as server, visiting(browser, server.url) as visit:
        page = visit.page
        title = page.title()
        visit.generate(f"{EVIL[0]} {EVIL[1]}", seed=1, max_tokens=30)
        assert set(EVIL) <= set(visit.tokens())
        page.locator("#output .token").first.hover()
        expect(page.get_by_role("tooltip")).to_be_visible()
        page.locator("#output .token").first.click()
        expect(page.locator(".bar-row.drawn")).to_have_count(1)
        page.locator(".bar-row").first.click()
        visit.wait_for_end()
        page.get_by_role("tab", name="Tokenize").click()
        page.get_by_role("textbox", name="Text").fill(f"{EVIL[1]} {EVIL[0]}")
        expect(page.locator(".pane").first.locator(".token")).to_have_count(3)
        assert page.locator("body script, body img").count() == 0
        assert page.title() == title


def test_a_key_is_asked_for_once_and_kept_for_the_tab(browser: Any, words: Generator) -> None:
    with running(words, api_key="secret") as server:
        context = browser.new_context()
        page = context.new_page()
        page.goto(server.url)
        key = page.get_by_role("textbox", name="API key")
        key.fill("wrong")
        key.press("Enter")
        expect(page.locator("#key-hint")).to_contain_text("refused")
        key.fill("secret")
        key.press("Enter")
        expect(page.locator("#model")).to_contain_text("tiny")
        expect(page.locator(".bar-row")).to_have_count(16)
        page.reload()
        expect(page.locator("#model")).to_contain_text("tiny")
        expect(page.get_by_role("dialog")).to_have_count(0)
        kept = page.evaluate("() => [JSON.stringify(sessionStorage), JSON.stringify(localStorage)]")
        assert "secret" in json.loads(kept[0]).values()
        assert "secret" not in kept[1]
        assert not any("secret" in cookie["value"] for cookie in context.cookies())
        context.close()


def test_two_visitors_do_not_disturb_each_other(browser: Any, served: Running) -> None:
    with visiting(browser, served.url) as one, visiting(browser, served.url) as other:
        for each, seed in ((one, 1), (other, 2)):
            each.page.get_by_label("Prompt").fill(PROMPT)
            each.page.get_by_label("Seed").fill(str(seed))
            each.page.get_by_label("Max tokens, as a number").fill("50")
            each.page.get_by_label("Prompt").press("Control+Enter")
        for each, seed in ((one, 1), (other, 2)):
            each.wait_for_end()
            body = {"prompt": PROMPT, "seed": seed, "max_tokens": 50, "temperature": 0.7}
            assert "".join(each.tokens()) == served.post(body).json()["choices"][0]["text"]
