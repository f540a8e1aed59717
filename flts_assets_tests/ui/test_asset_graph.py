"""The lineage: every asset, where it belongs, and the way back to the raw data."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import pytest
from playwright.sync_api import Locator, Page, expect

from flts_assets_tests.automation.dagster_dev import wait_until
from flts_assets_tests.test_definitions import SNAPSHOT
from flts_assets_tests.ui.deployed import checks_of
from flts_assets_tests.ui.pages import LARGE, box_in_graph, expect_kind, open_graph, upstream_assets

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(2400)]

GRAPH: Final[dict[str, dict[str, Any]]] = json.loads(SNAPSHOT.read_text())


def ancestors(asset: str) -> set[str]:
    parents = set(GRAPH[asset]["deps"])
    return parents.union(*map(ancestors, parents))


def is_inside(inner: Locator, outer: Locator) -> bool:
    one, other = inner.bounding_box(), outer.bounding_box()
    assert one is not None
    assert other is not None
    return all(
        other[start] <= one[start] and one[start] + one[size] <= other[start] + other[size]
        for start, size in (("x", "width"), ("y", "height"))
    )


def test_every_asset_stands_in_its_group_with_its_kinds(page: Page) -> None:
    open_graph(page)
    for name, asset in GRAPH.items():
        node = box_in_graph(page, name)
        expect(node).to_be_visible()
        for kind in asset["kinds"]:
            expect_kind(node, kind)
        group = box_in_graph(page, asset["group"])
        # The graph is laid out anew while its data come.
        wait_until(lambda node=node, group=group: is_inside(node, group), 60, name)  # type: ignore[misc]


def test_what_was_run_is_green_in_the_graph_and_has_its_checks_passed(page: Page) -> None:
    open_graph(page)
    for name in ancestors("verification_report"):
        node = box_in_graph(page, name)
        filled = node.get_by_text(re.compile(r"^\d+ partitions?$"))
        expect(filled).to_have_attribute("style", re.compile("color-text-green"))
        if count := len(checks_of(name)):
            expect(node).to_contain_text(f"{count} / {count} Passed")


def test_way_from_the_promoted_model_back_to_the_raw_data_can_be_clicked(page: Page) -> None:
    page.goto("/assets/promoted_model")
    for name in ("leaderboard", "trees_model", "processed_data", "raw_data"):
        upstream_assets(page).get_by_title(name, exact=True).click()
        expect(page).to_have_url(re.compile(f"/assets/{name}$"))
        expect(page.get_by_text("Latest materialization")).to_be_visible()
    expect(upstream_assets(page)).to_have_text("Upstream assets–")


def test_lineage_of_the_promoted_model_draws_all_that_it_was_made_from(page: Page) -> None:
    page.set_viewport_size(LARGE)
    page.goto("/assets/promoted_model?view=lineage")
    page.get_by_role("button", name=re.compile("Upstream$")).click()
    page.get_by_role("button", name="All", exact=True).click()
    for _ in range(4):  # steps of five percent, until all of it lies within the window
        page.get_by_role("button", name="zoom_out", exact=True).click()
    for name in GRAPH:
        shown = name in ancestors("promoted_model") | {"promoted_model"}
        expect(box_in_graph(page, name)).to_be_visible(visible=shown)
