"""The page in headless Chromium: text that streams, branches, options, tokenizers."""

import time
from typing import Any

import httpx
import pytest
import torch
from live_server import Running, running
from page_visits import PROMPT, Visit, answer, percent, visiting

from toolkit.generation import Generator

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
pytestmark = pytest.mark.slow


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
    candidates = answer(served, "next", question)["candidates"]
    shown = [(percent(each["before"]), percent(each["after"])) for each in candidates]
    assert visit.numbers() == shown

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
    visit.page.get_by_role("button", name="Continue").click()
    visit.wait_for_end()
    assert (first, len(visit.tokens())) == (10, 20)
    expect(visit.page.locator("#branches button")).to_have_count(1)


def test_a_token_that_cannot_be_seen_has_a_sign(visit: Visit) -> None:
    texts = ["\f", "\u200b", "\u200b\r", "a\u200b", " ", "\n"]
    visit.page.evaluate(
        """async (tokens) => {
            const { Output } = await import("/playground/page/output.js");
            const place = document.querySelector("#output");
            new Output(place, () => {}).show({ prompt: "To", tokens });
        }""",
        [{"text": text, "bytes": text.encode().hex(), "probability": 0.5} for text in texts],
    )
    tokens = visit.page.locator("#output .token").all()
    signs = [token.get_attribute("data-signs") for token in tokens]
    assert signs == ["U+000C", "U+200B", "U+200B␍", None, None, None]
    widths = [token.bounding_box()["width"] for token in tokens]
    assert min(widths) > 5, widths  # pixels
    # The signs are drawn, and are no part of the text that one copies.
    assert visit.page.locator("#output").text_content() == "To" + "".join(texts)


def test_stop_ends_the_request_on_the_server_too(browser: Any, words: Generator) -> None:
    embedding = next(m for m in words.model.modules() if isinstance(m, torch.nn.Embedding))
    hook = embedding.register_forward_hook(lambda *_: time.sleep(0.02))  # every step takes longer
    try:
        with running(words) as server, visiting(browser, server.url) as visit:
            visit.page.get_by_label("Seed").fill("1")
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
        candidates = answer(served, "next", question)["candidates"]
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
    candidates = answer(served, "next", {"text": PROMPT, "top": 16, "sampling": sampling})[
        "candidates"
    ]
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
