"""The browser that tests drive: a headless Chromium of the system."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from playwright.sync_api import Browser, expect, sync_playwright

__all__ = ["BROWSERS", "SHOWS_WITHIN_MS", "chromium", "find_chromium"]

BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS: Final = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
)
SHOWS_WITHIN_MS: Final = 60_000
"""at most: where other things run too, a page that takes a second may take half a minute"""


def find_chromium() -> str | None:
    """Where it is installed, if it is."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


@contextmanager
def chromium(executable: str | Path) -> Iterator[Browser]:
    """Playwright keeps an event loop running in this thread until the context ends."""
    expect.set_options(timeout=SHOWS_WITHIN_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, args=ARGUMENTS, timeout=3 * SHOWS_WITHIN_MS
        )
        yield browser
        browser.close()
