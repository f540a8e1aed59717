"""One `dagster dev` for all tests of this folder, and a page of it for each."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, Error, Page

from flts_assets_tests.assets.deployment import Deployment
from flts_assets_tests.automation.dagster_dev import DagsterDev, running_dev
from flts_assets_tests.browser import SHOWS_WITHIN_MS
from flts_assets_tests.ui.deployed import EVERY_KIND, add_station, running_flts

SIZE: Final = {"width": 1440, "height": 1000}
LOG_SHOWN: Final = 3000
SCREENSHOTS: Final = pytest.StashKey[Path]()


@pytest.fixture(scope="package")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    return Deployment(tmp_path_factory.mktemp("ui"))


@pytest.fixture(scope="package")
def dev(deployment: Deployment) -> Iterator[DagsterDev]:
    """Up, with one recipe that was run up to its report while it started."""
    add_station(deployment, 400, 160)
    with running_flts(deployment, "run", EVERY_KIND) as run, running_dev(deployment.home) as dev:
        run.wait_for_success()
        yield dev


@contextmanager
def opened(browser: Browser, address: str, theme: str = "light") -> Iterator[Page]:
    """A page that must ask no other host."""
    context = browser.new_context(
        base_url=address,
        viewport=SIZE,
        color_scheme="dark" if theme == "dark" else "light",
    )
    context.set_default_timeout(SHOWS_WITHIN_MS)
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("websocket", lambda socket: asked.append(socket.url.replace("ws://", "http://", 1)))
    try:
        yield page
    finally:
        context.close()
    own = (f"{address}/", f"blob:{address}/", "data:")
    assert [url for url in asked if not url.startswith(own)] == []


@pytest.fixture
def page(browser: Browser, dev: DagsterDev) -> Iterator[Page]:
    with opened(browser, dev.url) as page:
        yield page


# --- what a failure shows, and what CI keeps -----------------------------------------------------


@pytest.fixture(scope="session", autouse=True)
def screenshots(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Path:
    """The folder of the pictures: FLTS_SCREENSHOTS, or a temporary one that is told at the end."""
    named = os.environ.get("FLTS_SCREENSHOTS")
    folder = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    pytestconfig.stash[SCREENSHOTS] = folder
    return folder


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Every test leaves the page as it last stood; one that fails also shows Dagster's output."""
    report = yield
    fixtures: dict[str, Any] = getattr(item, "funcargs", {})
    if report.when != "call" or "page" not in fixtures:
        return report
    picture = item.config.stash[SCREENSHOTS] / f"{item.name}.png"
    told = str(picture)
    try:
        fixtures["page"].screenshot(path=picture)
    except Error as error:  # of a test that has ended: no reason to end the others
        told = str(error)
    if report.failed:
        report.sections.append(("picture of the page", told))
        report.sections.append(
            ("dagster dev", fixtures["dev"].log.read_text(errors="replace")[-LOG_SHOWN:])
        )
    return report


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    folder = config.stash.get(SCREENSHOTS, None)
    if folder is not None:
        terminalreporter.write_line(f"screenshots of the web UI: {folder}")
