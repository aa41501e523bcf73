"""A Chromium that is on this machine, and a page in it that notes what goes wrong."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
SERIOUS = {"serious", "critical"}
PATIENCE = 120_000  # milliseconds: on a busy machine a page with plotly's script takes long to load
# A page from a file may not write to the clipboard, so what it copies is kept in the page.
KEEP_COPIES = (
    """Object.defineProperty(navigator, "clipboard", {value: {writeText: async text => { window.copied = text; }}})"""
)


@dataclass
class Visit:
    """A page, the errors on its console and the other hosts that it wanted something of."""

    page: Page
    errors: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)

    def console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def request(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme not in ("file", "data", "blob") and address.hostname != "127.0.0.1":
            self.strangers.append(request.url)

    def assert_clean(self) -> None:
        assert (self.errors, self.strangers) == ([], [])

    def serious_findings(self) -> list[str]:
        """The serious and critical findings of axe-core, one line each."""
        violations = Axe().run(self.page).response["violations"]
        return [f"{one['id']}: {one['help']}" for one in violations if one["impact"] in SERIOUS]


def program() -> str:
    """The path of a Chromium."""
    found = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None:
        pytest.fail("tests marked `browser` need Chromium: apt-get install chromium")
    return found


@contextmanager
def chromium() -> Iterator[Browser]:
    options = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium's sandbox refuses root
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=program(), args=options) as browser,
    ):
        yield browser


@contextmanager
def visit(browser: Browser, address: str, **options: Any) -> Iterator[Visit]:
    """Open an address in a fresh context; `options` are Playwright's, such as a color scheme."""
    context = browser.new_context(**{"viewport": {"width": 1400, "height": 900}, **options})
    context.set_default_timeout(PATIENCE)
    context.add_init_script(KEEP_COPIES)
    one = Visit(context.new_page())
    one.page.on("console", one.console)
    one.page.on("pageerror", lambda error: one.errors.append(str(error)))
    one.page.on("request", one.request)
    one.page.goto(address, wait_until="load")
    yield one
    context.close()
