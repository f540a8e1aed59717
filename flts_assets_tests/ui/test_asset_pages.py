"""What an asset's page shows of one recipe: names, tables, pictures, checks."""

from __future__ import annotations

import re
from typing import Final

import pytest
from playwright.sync_api import Browser, Page, expect

from flts_assets.forecasting.baselines import BASELINES
from flts_assets_tests.automation.dagster_dev import DagsterDev
from flts_assets_tests.ui.conftest import opened
from flts_assets_tests.ui.deployed import EVERY_KIND, checks_of
from flts_assets_tests.ui.pages import (
    launch,
    metadata_value,
    open_partition,
    open_picture,
    state_of_check,
    wait_for_success,
)

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(2400)]

HASH: Final = EVERY_KIND.config_hash
GROUND: Final = """image => {
    const canvas = document.createElement("canvas");
    const drawing = canvas.getContext("2d");
    drawing.drawImage(image, 0, 0);
    return [...drawing.getImageData(1, 1, 1, 1).data];
}"""
"""red, green, blue and opacity of a picture's corner"""
BEHIND_IT: Final = "() => getComputedStyle(document.body).backgroundColor"


@pytest.mark.parametrize("asset", ["raw_data", "gru_model", "promoted_model"])
def test_recipes_name_stands_beside_its_hash(page: Page, asset: str) -> None:
    open_partition(page, asset, HASH)
    expect(metadata_value(page, "recipe")).to_have_text(EVERY_KIND.name)
    expect(metadata_value(page, "config_hash")).to_have_text(HASH)


def test_leaderboard_is_a_table_with_a_row_for_every_model_and_baseline(page: Page) -> None:
    open_partition(page, "leaderboard", HASH)
    rows = metadata_value(page, "leaderboard").get_by_role("row")
    for name in (*EVERY_KIND.models, "ENSEMBLE", *BASELINES):
        expect(rows.filter(has=page.get_by_role("cell", name=name, exact=True))).to_have_count(1)
    expect(rows.first).to_have_text(re.compile("rank.*name.*score.*skill"))


@pytest.mark.parametrize(
    ("asset", "picture"),
    [
        ("leaderboard", "scores"),
        ("leaderboard", "forecast versus actual"),
        ("gru_model", "loss curve"),
        ("trees_model", "forecast versus actual on validation rows"),
    ],
)
def test_picture_opens_in_the_assets_page(page: Page, asset: str, picture: str) -> None:
    open_partition(page, asset, HASH)
    image = open_picture(page, picture)
    assert image.evaluate("image => image.naturalWidth") > 300
    assert image.evaluate("image => image.naturalHeight") > 150


def test_picture_has_a_ground_of_its_own_in_the_dark_theme(
    browser: Browser, dev: DagsterDev
) -> None:
    with opened(browser, dev.url, "dark") as page:
        open_partition(page, "leaderboard", HASH)
        assert open_picture(page, "forecast versus actual").evaluate(GROUND) == [255] * 4
        red, green, blue = re.findall(r"\d+", page.evaluate(BEHIND_IT))
        assert int(red) + int(green) + int(blue) < 100


@pytest.mark.parametrize("asset", ["raw_data", "gru_model", "promoted_model"])
def test_every_check_of_an_asset_shows_that_it_succeeded(page: Page, asset: str) -> None:
    page.goto(f"/assets/{asset}?view=checks")
    names = checks_of(asset)
    assert names
    for name in names:
        expect(state_of_check(page, name)).to_contain_text("Succeeded")


def test_checks_are_evaluated_by_a_materialisation_from_the_assets_page(page: Page) -> None:
    page.goto("/assets/prediction_log")
    page.get_by_role("button", name="Materialize…").click()
    launch(page, HASH)
    wait_for_success(page)
    page.goto("/assets/prediction_log?view=checks")
    for name in checks_of("prediction_log"):
        expect(state_of_check(page, name)).to_contain_text("Succeeded")
    expect(page.get_by_text("no forecast logged yet")).to_be_visible()


def test_verification_report_opens_in_its_page_and_says_that_it_holds(page: Page) -> None:
    open_partition(page, "verification_report", HASH)
    verdict = re.compile(r"^all \d+ claims are borne out$")
    expect(metadata_value(page, "verdict")).to_have_text(verdict)
    metadata_value(page, "report").get_by_text("[Show Markdown]").click()
    report = page.get_by_role("dialog")
    expect(report.get_by_role("heading").first).to_contain_text(EVERY_KIND.name)
    expect(report.get_by_role("table").first).to_be_visible()
    expect(report).to_contain_text(HASH)
