"""Work started in the web UI, and what it tells of runs and of what starts them."""

from __future__ import annotations

import re
from typing import Final

import pytest
from playwright.sync_api import Page, expect

from flts_assets.definitions import defs
from flts_assets_tests.assets.deployment import Deployment
from flts_assets_tests.automation.dagster_dev import DagsterDev
from flts_assets_tests.ui.deployed import EVERY_KIND, TREES_ALONE, flts
from flts_assets_tests.ui.pages import (
    launch,
    metadata_value,
    open_partition,
    wait_for_success,
)

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(2400)]

RUN: Final = """
query ($id: ID!) { runOrError(runId: $id) { ... on Run {
    status jobName tags { key value } assetMaterializations { assetKey { path } } } } }
"""
PAGES: Final = {
    "/overview": "Timeline",
    "/runs": EVERY_KIND.name,
    "/assets": "promoted_model",
    "/jobs": "monitoring",
    "/automation": "raw_data_sensor",
    "/deployment": "flts_assets",
}
"""page -> something that it shows"""


def test_recipe_added_meanwhile_is_launched_from_its_jobs_page_and_turns_green(
    page: Page, deployment: Deployment, dev: DagsterDev
) -> None:
    flts(deployment, "recipe add", TREES_ALONE)
    page.goto("/locations/flts_assets/jobs/pipeline")
    page.get_by_role("button", name="Materialize all…").click()
    launch(page, TREES_ALONE.config_hash)
    wait_for_success(page)

    run = dev.graphql(RUN, id=page.url.split("/runs/")[1][:36])["runOrError"]
    assert (run["status"], run["jobName"]) == ("SUCCESS", "pipeline")
    tags = {tag["key"]: tag["value"] for tag in run["tags"]}
    assert tags["dagster/partition"] == TREES_ALONE.config_hash
    assert tags["dagster/from_ui"] == "true"
    assert tags["flts/recipe"] == TREES_ALONE.name
    made = {"/".join(one["assetKey"]["path"]) for one in run["assetMaterializations"]}
    assert made >= {"raw_data", "trees_model", "leaderboard", "promoted_model"}

    open_partition(page, "promoted_model", TREES_ALONE.config_hash)
    expect(metadata_value(page, "recipe")).to_have_text(TREES_ALONE.name)
    expect(metadata_value(page, "model_type")).to_have_text("TREES")


def test_list_of_runs_names_the_recipe_and_filters_by_it(page: Page) -> None:
    page.goto("/runs")
    page.get_by_text(f"flts/recipe: {EVERY_KIND.name}", exact=True).first.hover()
    page.get_by_text("Add tag to filter").click()
    expect(page).to_have_url(re.compile(f"recipe.*{EVERY_KIND.name}"))


def test_automation_page_lists_every_sensor_and_schedule(page: Page) -> None:
    repository = defs.get_repository_def()
    page.goto("/automation")
    for one in (*repository.sensor_defs, *repository.schedule_defs):
        expect(page.get_by_role("link", name=one.name)).to_be_visible()


def test_no_page_asks_another_host(page: Page) -> None:
    """The fixture `page` tells whom it asked, here and in every other test."""
    for path, shown in PAGES.items():
        page.goto(path)
        expect(page.get_by_text(shown).first).to_be_visible()
