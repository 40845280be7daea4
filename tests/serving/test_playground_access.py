"""The page in headless Chromium: for everybody who comes, and nobody else."""

import json
import re
from typing import Any

import pytest
from live_server import Running, running
from page_visits import PROMPT, Visit, visiting

from toolkit.generation import Generator
from toolkit.models import create_model
from toolkit.tokenizers import WordTokenizer

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
pytestmark = pytest.mark.slow

EVIL = ["<script>document.title='owned'</script>", "<img/src=x/onerror=document.title='owned'>"]


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
