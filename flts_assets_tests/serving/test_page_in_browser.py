"""The page as a person meets it: a real service process, a real headless Chromium."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Browser, FilePayload, Page, expect

from flts_assets.forecasting.demo_cell import to_csv
from flts_assets.stores.directory import DirectoryStore
from flts_assets_tests.browser import SHOWS_WITHIN_MS
from flts_assets_tests.servers.process import free_port
from flts_assets_tests.serving.deployed import later_rows as station_rows
from flts_assets_tests.serving.page_store import NAMES, add_rows, promote_from_board

pytestmark = pytest.mark.slow

STARTS_WITHIN_S: Final = 180

COLOUR: Final = "name => getComputedStyle(document.body)[name]"
CSV: Final = to_csv(station_rows().iloc[:60])


@contextmanager
def served(home: Path, **environment: str) -> Iterator[str]:
    """The address of a service process on this directory."""
    port = free_port()
    command = (sys.executable, "-m", "uvicorn", "flts_assets.serving.server:app", "--factory")
    process = subprocess.Popen(
        [*command, "--port", str(port), "--log-level", "warning"],
        env={**os.environ, "FLTS_HOME": str(home), "FLTS_SERVING_POLL_S": "0.2", **environment},
    )
    try:
        address = f"http://127.0.0.1:{port}/"
        _wait_until_it_answers(f"{address}healthz", process)
        yield address
    finally:
        process.terminate()
        process.wait(STARTS_WITHIN_S)


def _wait_until_it_answers(address: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + STARTS_WITHIN_S
    while True:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            assert process.poll() is None, "the service ended"
            assert time.monotonic() < deadline, "the service does not answer"
            time.sleep(0.05)  # and leaves it the core


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("page")
    store = DirectoryStore(home)
    for kind in ("GRU", "TREES"):
        promote_from_board(store, kind)
    add_rows(store, "TREES")
    with served(home) as address:
        yield address


@contextmanager
def opened(
    browser: Browser, address: str, width: int = 1280, theme: str = "light"
) -> Iterator[Page]:
    """The page, which must neither complain nor ask another host."""
    context = browser.new_context(
        viewport={"width": width, "height": 800},
        color_scheme="dark" if theme == "dark" else "light",
    )
    context.set_default_timeout(SHOWS_WITHIN_MS)
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda line: faults.append(line.text) if "Security" in line.text else None)
    page.on("request", lambda one: None if one.url.startswith(address) else faults.append(one.url))
    page.goto(address)
    yield page
    context.close()
    assert faults == []


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    with opened(browser, address) as page:
        expect(page.locator("#summary")).to_contain_text("30 steps")
        yield page


def points(page: Page, kind: str) -> int:
    """How many points a drawn line or band has."""
    path = page.locator(f".plot path.{kind}").get_attribute("d") or ""
    return len(re.findall("[ML]", path))


def test_champion_leaderboard_and_history_are_shown(page: Page) -> None:
    expect(page.locator("#status")).to_have_text("ready")
    facts = page.locator("#champion")
    for text in ("Trees", "0.02000", "+25.0 %", "of TREES"):
        expect(facts).to_contain_text(text)
    expect(page.locator("#reason")).to_contain_text("score 0.02000 on 150 test windows")
    board = page.locator("#board tbody tr")
    expect(board).to_have_count(len(NAMES))
    expect(board.first).to_contain_text("champion")
    widths = [
        page.evaluate("place => document.querySelectorAll('#board i')[place].offsetWidth", place)
        for place in range(len(NAMES))
    ]
    assert widths == sorted(widths)
    assert widths[0] * 2 < widths[-1]
    expect(page.locator("#history tbody tr")).to_have_count(2)
    expect(page.locator("#history tbody tr").last).to_contain_text("best score")


def test_share_in_the_band_is_shown_although_a_baseline_leads(
    browser: Browser, tmp_path: Path
) -> None:
    promote_from_board(DirectoryStore(tmp_path), "TREES", ("persistence", "TREES"))
    with served(tmp_path) as address, opened(browser, address) as page:
        expect(page.locator("#board thead")).to_contain_text("In its 90")
        expect(page.locator("#board tbody tr.champion")).to_contain_text("88")


def test_chart_shows_the_last_day_and_the_forecast_with_its_band(page: Page) -> None:
    assert points(page, "measured") == 160
    assert points(page, "forecast") == 30
    assert points(page, "band") == 60
    expect(page.locator("#legend")).to_have_text(re.compile("measured.*forecast.*90 % band"))
    expect(page.locator("#unit")).to_have_text(re.compile("^[kMG]bit in 2 min$"))


def test_steps_target_and_stretch_can_be_chosen(page: Page) -> None:
    page.fill("#steps", "12")
    page.keyboard.press("Enter")
    expect(page.locator("#summary")).to_contain_text("12 steps")
    assert points(page, "forecast") == 12
    unit = page.locator("#summary").inner_text()
    page.get_by_label("Target").select_option("Uplink traffic")
    expect(page.locator("#summary")).not_to_have_text(unit)
    page.get_by_text("3 h").click()
    assert points(page, "measured") == 90


def test_held_back_steps_are_compared_with_their_forecast(page: Page) -> None:
    page.get_by_label("Hold back the last steps").check()
    expect(page.locator("#summary")).to_contain_text(" of 30 measured values lie in the band")
    assert points(page, "measured") == 130
    assert points(page, "held") == 31


def test_pointer_and_arrow_keys_read_the_chart(page: Page) -> None:
    read_out = page.locator(".plot output")
    expect(read_out).to_be_hidden()
    page.locator(".plot svg").hover(position={"x": 100, "y": 100})
    expect(read_out).to_contain_text("measured")
    page.mouse.move(0, 0)
    expect(read_out).to_be_hidden()
    page.locator(".plot svg").focus()
    page.keyboard.press("End")
    expect(read_out).to_contain_text("band")
    last = read_out.inner_text()
    page.keyboard.press("ArrowLeft")
    expect(read_out).not_to_have_text(last)
    page.keyboard.press("Escape")
    expect(read_out).to_be_hidden()


def test_everything_can_be_reached_by_keyboard(page: Page) -> None:
    reached = set()
    for _ in range(30):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("() => document.activeElement.id || document.activeElement.tagName")
        )
    assert reached >= {"station", "csv", "target", "steps", "held", "svg"}


def test_station_without_rows_is_told_and_a_file_still_forecast(page: Page) -> None:
    page.get_by_label("Station").select_option("GRU")
    expect(page.locator("#fault")).to_contain_text("dataset/GRU_test.csv")
    expect(page.locator("#chart")).to_be_hidden()
    page.set_input_files("#csv", FilePayload(name="own.csv", mimeType="text/csv", buffer=CSV))
    expect(page.locator("#source")).to_have_text("your file own.csv")
    assert points(page, "measured") == 60
    expect(page.locator("#fault")).to_be_empty()


def test_dropped_file_is_forecast_and_left_again(page: Page) -> None:
    transfer = page.evaluate_handle(
        """text => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([text], "dropped.csv", { type: "text/csv" }));
            return transfer;
        }""",
        CSV.decode(),
    )
    page.dispatch_event("#forecast", "drop", {"dataTransfer": transfer})
    expect(page.locator("#source")).to_have_text("your file dropped.csv")
    page.get_by_role("button", name="Back to the station").click()
    expect(page.locator("#source")).to_have_text("the last day of TREES_test.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (CSV.replace(b",up,", b",upward,"), "data.up: column is missing"),
        (CSV.splitlines(keepends=True)[0], "two times at least tell the grid"),
        (CSV.replace(b"\n2024", b"\n<img src=x>2024", 1), "data.time[0]: must be a time"),
        (b"", "data.time: column is missing"),
    ],
)
def test_bad_file_gets_the_services_own_message_and_what_was_shown_stays(
    page: Page, content: bytes, message: str
) -> None:
    page.set_input_files("#csv", FilePayload(name="bad.csv", mimeType="text/csv", buffer=content))
    expect(page.locator("#fault")).to_contain_text("bad.csv cannot be forecast")
    expect(page.locator("#fault")).to_contain_text(message)
    expect(page.locator("#source")).to_have_text("the last day of TREES_test.csv")
    assert page.locator("#fault img").count() == 0
    assert points(page, "forecast") == 30


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1280])
def test_page_fits_its_window_and_follows_the_theme(
    browser: Browser, address: str, width: int, theme: str
) -> None:
    with opened(browser, address, width, theme) as page:
        expect(page.locator("#summary")).to_contain_text("30 steps")
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width
        ink, ground = (
            sum(map(int, re.findall(r"\d+", page.evaluate(COLOUR, name))[:3]))
            for name in ("color", "backgroundColor")
        )
        assert (ink > ground + 300) if theme == "dark" else (ground > ink + 300)


def test_forecast_that_cannot_be_given_is_not_left_standing(page: Page) -> None:
    page.get_by_label("Hold back the last steps").check()
    page.fill("#steps", "159")
    page.keyboard.press("Enter")
    expect(page.locator("#fault")).to_contain_text("two times at least tell the grid")
    expect(page.locator("#chart")).to_be_hidden()
    page.fill("#steps", "20")
    page.keyboard.press("Enter")
    expect(page.locator("#summary")).to_contain_text("20 steps")
    expect(page.locator("#chart")).to_be_visible()


def test_page_without_a_champion_names_the_command_and_sees_the_first_one(
    browser: Browser, tmp_path: Path
) -> None:
    with served(tmp_path) as address, opened(browser, address) as page:
        expect(page.locator("#empty")).to_contain_text("flts demo")
        expect(page.locator("#status")).to_have_text("no champion")
        store = DirectoryStore(tmp_path)
        add_rows(store, "TREES")
        promote_from_board(store, "TREES")
        expect(page.locator("#champion")).to_contain_text("Trees")
        expect(page.locator("#empty")).to_be_hidden()


def test_service_with_a_token_is_asked_with_it(browser: Browser, tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    add_rows(store, "TREES")
    promote_from_board(store, "TREES")
    with (
        served(tmp_path, FLTS_SERVING_TOKEN="secret") as address,
        opened(browser, address) as page,
    ):
        expect(page.locator("#fault")).to_contain_text("asks for a token")
        page.get_by_label("Token").fill("secret")
        page.get_by_role("button", name="Use this token").click()
        expect(page.locator("#summary")).to_contain_text("30 steps")


def test_docs_are_drawn_from_this_service_alone(browser: Browser, address: str) -> None:
    with opened(browser, address) as page:
        page.goto(f"{address}docs")
        expect(page.locator(".swagger-ui .title")).to_contain_text("FLTS inference")
        page.locator("#operations-forecast-predict_predict_post").click()
        expect(page.get_by_role("button", name="Try it out")).to_be_visible()
