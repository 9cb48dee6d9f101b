"""A real browser for the tests of the chat page, and a page in it that tells what it asks of the network."""

import os
import re
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect, sync_playwright

# Without what a browser asks of the network for itself.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
MILLISECONDS = 120_000


@pytest.fixture(scope="session")
def chromium() -> str:
    """The machine's Chromium, or the one that CHROMIUM names; none is ever downloaded."""
    names = [os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome"]
    found = [path for name in names if name and (path := shutil.which(name))]
    assert found, "no Chromium is installed: install the package 'chromium', or set CHROMIUM to its program"
    return found[0]


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Any]:
    with sync_playwright() as playwright:
        with playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS) as running:
            yield running


class Watched:
    """A fresh browser profile, its page, and every address that anything in it was about to ask on the network."""

    def __init__(self, context: BrowserContext, origin: str) -> None:
        self.origin = origin
        self.asked: list[str] = []
        self.errors: list[str] = []
        context.set_default_timeout(MILLISECONDS)
        context.route("**/*", self._only_here)
        self.page: Page = context.new_page()
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _only_here(self, route: Route) -> None:
        self.asked.append(route.request.url)
        if route.request.url.startswith(f"{self.origin}/"):
            route.continue_()
        else:
            route.abort()

    @property
    def elsewhere(self) -> list[str]:
        return [url for url in self.asked if not url.startswith(f"{self.origin}/")]

    def open(self) -> None:
        self.page.goto(f"{self.origin}/")
        expect(self.box).to_be_visible(timeout=MILLISECONDS)

    @property
    def box(self) -> Any:
        return self.page.get_by_role("textbox").first

    def ask(self, question: str) -> None:
        self.box.fill(question)
        self.box.press("Enter")

    def expect_answer(self, pattern: str) -> None:
        """Wait until the last answer contains the pattern."""
        answer = self.page.get_by_label("Assistant message with actions").last.locator(".markdown-content").first
        expect(answer).to_contain_text(re.compile(pattern), timeout=MILLISECONDS)
