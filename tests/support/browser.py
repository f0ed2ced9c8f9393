"""Headless Chromium for tests: the installed one, controlled by playwright."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Page

LIMIT = 60.0  # seconds that a page may take
BLANK = 10.0  # seconds after which a blank page is loaded again
ARGUMENTS = ("--disable-gpu", "--disable-background-networking", "--disable-component-update")
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


def _missing() -> str | None:
    if CHROMIUM is None:
        return "no Chromium is installed"
    return None if find_spec("playwright") else "the package playwright is not installed"


MISSING = _missing()
# In CI the test runs without a browser too, and fails.
needs_browser = pytest.mark.skipif(
    MISSING is not None and os.environ.get("CI") != "true", reason=str(MISSING)
)


class BrowserPage:
    """A page, and the `errors` of its console and its scripts."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on(
            "console",
            lambda message: self.errors.append(message.text) if message.type == "error" else None,
        )

    @property
    def text(self) -> str:
        """The visible text."""
        return str(self.page.evaluate("document.body?.innerText ?? ''"))

    def wait_for(self, script: str, condition: Callable[[Any], object] = bool) -> Any:
        """Wait until the condition is true for a JavaScript expression, and give its value."""
        value: Any = None
        blank_since: float | None = None

        def is_met() -> object:
            nonlocal value, blank_since
            # Streamlit's page stays blank when its server was too busy to answer in time.
            now = time.monotonic()
            blank_since = None if self.text.strip() else blank_since or now
            if blank_since is not None and now - blank_since > BLANK:
                self.page.reload()
                blank_since = None
            value = self.page.evaluate(script)
            return condition(value)

        try:
            wait_until(is_met, LIMIT)
        except AssertionError:
            raise AssertionError(
                f"{script} is {value!r} on the page {self.text!r}; errors: {self.errors}"
            ) from None
        return value

    def wait_for_text(self, text: str) -> None:
        """Wait until the text is visible."""
        self.wait_for("document.body?.innerText ?? ''", lambda shown: text in shown)

    def resize(self, width: int, height: int = 900) -> None:
        """Set the size of the window, in CSS pixels."""
        self.page.set_viewport_size({"width": width, "height": height})


@contextmanager
def open_browser(width: int = 1400, height: int = 900) -> Iterator[BrowserPage]:
    """An empty page in a browser of its own, which is closed at the end of the block."""
    if MISSING is not None:
        pytest.fail(MISSING)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=ARGUMENTS, chromium_sandbox=False
        )
        try:
            page = browser.new_page(viewport={"width": width, "height": height}, locale="en-US")
            page.set_default_timeout(LIMIT * 1000)
            yield BrowserPage(page)
        finally:
            browser.close()
