"""Driving a real Chromium: offline, every request and console message watched."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = (
    os.environ.get("CHROMIUM")
    or shutil.which("chromium")
    or shutil.which("chromium-browser")
    or shutil.which("google-chrome")
)
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
TWO_FRAMES = "() => new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))"


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser with a throw-away profile."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield browser
        browser.close()


def offline(browser: Any, **options: Any) -> Any:
    """A context of that browser that has no network."""
    settings: dict[str, Any] = {"viewport": {"width": 1400, "height": 850}, "offline": True, **options}
    return browser.new_context(**settings)


class Watched:
    """A browser page with what went wrong on it: console errors, exceptions, requests to anywhere."""

    def __init__(self, context: Any) -> None:
        self.page = context.new_page()
        self.problems: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda m: self.problems.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", self._note)

    def _note(self, request: Any) -> None:
        if not request.url.startswith(("file:", "data:", "blob:", "about:")):
            self.requests.append(request.url)

    def open(self, path: Path, fragment: str = "") -> Any:
        self.page.goto(path.as_uri() + fragment)
        self.page.wait_for_function("document.body.dataset.ready === 'true'")
        self.page.evaluate(TWO_FRAMES)
        return self.page


def until(page: Any, expression: str, seconds: float = 20.0) -> None:
    """Wait for an expression to hold; Playwright's own way is eval in the page, which the page forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"{expression} did not come true within {seconds} seconds"
        page.wait_for_timeout(50)
