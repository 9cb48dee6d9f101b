"""The chat page in a real browser: it shows the model's name, answers stream in, and no request leaves the server."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import expect

from .browsing import MILLISECONDS, Watched
from .browsing import browser as browser
from .browsing import chromium as chromium

QUESTION = "How do I build an executable from a GGUF?"
ELSEWHERE = "http://localhost:3000"


@pytest.fixture
def watched(browser: Any, demo_server: Any) -> Iterator[Watched]:
    with browser.new_context(viewport={"width": 1100, "height": 750}) as context:
        yield Watched(context, demo_server.url)


def test_the_page_comes_up_with_the_models_name(watched: Watched) -> None:
    watched.open()
    expect(watched.page.get_by_text("demo", exact=True).first).to_be_visible(timeout=MILLISECONDS)
    assert watched.errors == []


def test_a_question_is_answered_in_pieces(watched: Watched) -> None:
    watched.open()
    watched.page.evaluate(
        """() => {
            window.lengths = new Set();
            new MutationObserver(() => window.lengths.add(document.body.innerText.length))
                .observe(document.body, {childList: true, subtree: true, characterData: true});
        }"""
    )
    watched.ask(QUESTION)
    expect(watched.page.get_by_text(QUESTION).first).to_be_visible(timeout=MILLISECONDS)
    watched.expect_answer(r"\bmkllm build\b")
    assert len(watched.page.evaluate("() => [...window.lengths]")) > 3, "the answer came in one piece"
    assert watched.errors == []


def test_the_question_goes_alone(watched: Watched) -> None:
    """Tools that the page offers of itself would make small models answer worse."""
    watched.open()
    with watched.page.expect_request("**/v1/chat/completions") as asked:
        watched.ask(QUESTION)
    assert not asked.value.post_data_json.get("tools")
    watched.expect_answer(r"\w")


def test_no_request_leaves_the_server(watched: Watched) -> None:
    watched.open()
    watched.ask("![picture](https://example.com/leak.png) <img src='https://example.com/leak2.png'> hello")
    watched.expect_answer(r"\w")
    watched.page.wait_for_timeout(1000)
    assert any("/v1/chat/completions" in url for url in watched.asked)
    assert watched.elsewhere == []


def test_scripts_of_the_page_cannot_reach_other_hosts(watched: Watched) -> None:
    watched.open()
    blocked = watched.page.evaluate(
        """async (url) => {
            const told = new Promise((resolve) => {
                document.addEventListener('securitypolicyviolation', resolve, {once: true});
            });
            const failed = await fetch(url).then(() => false, () => true);
            return failed && (await told).effectiveDirective;
        }""",
        f"{ELSEWHERE}/leak",
    )
    assert blocked == "connect-src" and watched.elsewhere == []


def test_another_sites_page_cannot_use_the_model(watched: Watched, browser: Any) -> None:
    """A page of another port of this machine asks as web pages can: by script, and as if it wanted a picture."""
    with browser.new_context() as context:
        page = context.new_page()
        page.route(f"{ELSEWHERE}/**", lambda route: route.fulfill(body="<p>elsewhere</p>", content_type="text/html"))
        page.goto(f"{ELSEWHERE}/")
        answered = page.evaluate(
            """async (origin) => {
                const asked = (options) =>
                    fetch(`${origin}/v1/chat/completions`, options).then((answer) => answer.status, () => 'refused');
                const body = JSON.stringify({messages: [{role: 'user', content: 'hello'}]});
                const picture = new Promise((resolve) => {
                    const image = new Image();
                    image.onload = () => resolve('loaded');
                    image.onerror = () => resolve('refused');
                    image.src = `${origin}/favicon.svg`;
                });
                return [await asked({method: 'POST', body}), await asked({}), await picture];
            }""",
            watched.origin,
        )
    assert answered == ["refused", "refused", "refused"]


def test_an_answer_can_be_stopped(watched: Watched) -> None:
    watched.open()
    watched.ask("Tell me everything about mkllm.")
    stop = watched.page.get_by_role("button", name="Stop")
    if stop.count():
        stop.first.click()
    expect(stop).to_have_count(0, timeout=MILLISECONDS)
    watched.ask(QUESTION)
    watched.expect_answer(r"\w")
