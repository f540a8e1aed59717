"""The README's pictures of the web UI, made anew: python -m flts_assets_tests.ui.screenshots docs

On a generated station, so that anybody gets the same ones: minutes, most of them training.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Final

from playwright.sync_api import FloatRect, Locator, Page, ViewportSize, expect

from flts_assets_tests.assets.deployment import Deployment
from flts_assets_tests.automation.dagster_dev import running_dev
from flts_assets_tests.browser import chromium, find_chromium
from flts_assets_tests.ui.deployed import EVERY_KIND, add_station, flts
from flts_assets_tests.ui.pages import (
    box_in_graph,
    metadata_value,
    open_graph,
    open_partition,
    open_picture,
)
from flts_assets_tests.ui.test_asset_graph import GRAPH, ancestors

TRAIN_ROWS: Final = 5040
TEST_ROWS: Final = 1260
SHOWN: Final = EVERY_KIND.updated(
    {"name": "demo", "recurrent": {"hidden_size": 32, "max_epochs": 15}, "trees": {"max_iter": 80}}
)
MARGIN: Final = 8
SHARP: Final = 2
"""pixels of the picture a pixel of the page"""
WIDE: Final[ViewportSize] = {"width": 1500, "height": 1000}
"""The whole graph as names, legible where a README shows it about 900 wide."""


def take(folder: Path) -> None:
    """lineage.png, leaderboard.png, report.png"""
    executable = find_chromium()
    if executable is None:
        sys.exit("no chromium on PATH; apt-get install chromium")
    with tempfile.TemporaryDirectory() as home:
        deployment = Deployment(Path(home))
        add_station(deployment, TRAIN_ROWS, TEST_ROWS)
        flts(deployment, "run", SHOWN)
        with running_dev(deployment.home) as dev, chromium(executable) as browser:
            look = {"base_url": dev.url, "color_scheme": "light"}
            _lineage(browser.new_page(**look, device_scale_factor=SHARP), folder / "lineage.png")
            page = browser.new_page(**look)
            _leaderboard(page, folder / "leaderboard.png")
            _report(page, folder / "report.png")


def _lineage(page: Page, file: Path) -> None:
    open_graph(page, WIDE)
    page.get_by_role("button", name="zoom_out", exact=True).click()  # clear of the buttons
    boxes = [box_in_graph(page, asset["group"]) for asset in GRAPH.values()]
    for name in ancestors("verification_report"):
        expect(box_in_graph(page, name).locator("[style*=accent-green]")).to_be_visible()
    page.screenshot(path=file, clip=_around(boxes))


def _around(boxes: list[Locator]) -> FloatRect:
    """All of them, and a margin."""
    rects = [rect for box in boxes if (rect := box.bounding_box()) is not None]
    left = min(rect["x"] for rect in rects) - MARGIN
    top = min(rect["y"] for rect in rects) - MARGIN
    right = max(rect["x"] + rect["width"] for rect in rects) + MARGIN
    bottom = max(rect["y"] + rect["height"] for rect in rects) + MARGIN
    return {"x": left, "y": top, "width": right - left, "height": bottom - top}


def _leaderboard(page: Page, file: Path) -> None:
    page.set_viewport_size({"width": 1280, "height": 800})
    open_partition(page, "leaderboard", SHOWN.config_hash)
    open_picture(page, "forecast versus actual")
    page.screenshot(path=file)


def _report(page: Page, file: Path) -> None:
    page.set_viewport_size({"width": 1280, "height": 800})
    open_partition(page, "verification_report", SHOWN.config_hash)
    metadata_value(page, "report").get_by_text("[Show Markdown]").click()
    shown = page.get_by_role("dialog").get_by_text("claims are borne out").first
    expect(shown).to_be_visible()
    page.screenshot(path=file)


if __name__ == "__main__":
    take(Path(sys.argv[1]))
