"""Dagster's pages as these tests see them: what each selector stands for (Dagster 1.13).

Its production build has no test ids; roles, texts and the names of icons are what stays.
"""

from __future__ import annotations

import re
from typing import Final

from playwright.sync_api import Locator, Page, ViewportSize, expect

__all__ = [
    "LARGE",
    "box_in_graph",
    "expect_kind",
    "launch",
    "metadata_value",
    "open_graph",
    "open_partition",
    "open_picture",
    "state_of_check",
    "upstream_assets",
    "wait_for_success",
]

LARGE: Final[ViewportSize] = {"width": 3200, "height": 2000}
"""The graph draws only what lies within; where it is scaled down, nodes are bare names."""
RUN_ENDS_WITHIN_MS: Final = 400_000  # seconds where the machine has nothing else to do


def open_graph(page: Page, size: ViewportSize = LARGE) -> None:
    """The global lineage with every group unfolded; `LARGE` is enough for what stands in each node."""
    page.set_viewport_size(size)
    page.goto("/asset-groups")
    # Buttons without a text are called like their icon; the navigation's is "settings Settings".
    page.get_by_role("button", name="settings", exact=True).click()
    page.get_by_role("menuitem", name="Expand all groups").click()
    page.keyboard.press("Escape")  # closes the menu


def box_in_graph(page: Page, name: str) -> Locator:
    """An asset's node or a group's frame: both are HTML inside an SVG."""
    return page.locator("foreignObject").filter(has=page.get_by_text(name, exact=True))


def expect_kind(node: Locator, kind: str) -> None:
    """A kind is a tag with a spelling of its own (ML Flow), or an icon alone (csv)."""
    spelled = re.compile(r"^\s*" + r"\s?".join(kind) + r"\s*$", re.IGNORECASE)
    icon = node.get_by_role("img", name=kind, exact=True)
    expect(node.get_by_text(spelled).or_(icon).first).to_be_visible()


def open_partition(page: Page, asset: str, config_hash: str) -> None:
    """What an asset holds for one recipe."""
    page.goto(f"/assets/{asset}?view=partitions&partition={config_hash}")
    expect(page.get_by_text("Materialized", exact=True)).to_be_visible()


def metadata_value(page: Page, name: str) -> Locator:
    """The cell beside this name in a table of metadata."""
    named = page.get_by_role("row").filter(has=page.get_by_role("cell", name=name, exact=True))
    return named.get_by_role("cell").nth(1)


def open_picture(page: Page, name: str) -> Locator:
    """The image that a metadata value opens, in its dialog."""
    metadata_value(page, name).get_by_text("[Show Markdown]").click()
    image = page.get_by_role("dialog").locator("img")  # icons are no <img>
    expect(image).to_be_visible()
    expect(image).to_have_js_property("complete", True)
    return image


def upstream_assets(page: Page) -> Locator:
    """The column below this heading, in the section Lineage of an asset's overview."""
    return page.get_by_text("Upstream assets", exact=True).locator("xpath=..")


def state_of_check(page: Page, name: str) -> Locator:
    """In the list on an asset's tab of checks: the name, and below it how the check ended."""
    return page.get_by_title(name, exact=True).locator("xpath=..")


def launch(page: Page, config_hash: str) -> None:
    """In the dialog that asks for partitions: choose this one, launch its run, go to the run's page."""
    dialog = page.get_by_role("dialog").filter(has_text="Partition selection")
    dialog.get_by_text("Select a partition").click()
    page.get_by_placeholder("Filter partitions").fill(config_hash)
    page.get_by_role("menuitem").filter(has_text=config_hash).click()
    page.keyboard.press("Escape")  # closes the list, not the dialog
    expect(dialog).to_contain_text("1 partition")
    dialog.get_by_role("button", name="Launch 1 run").click()
    told = page.get_by_role("listitem").filter(has_text="Launched run")
    told.get_by_text("View").click()
    expect(page).to_have_url(re.compile("/runs/[0-9a-f-]{36}"))


def wait_for_success(page: Page) -> None:
    """In a run's page: the tag beside its id tells how it ended."""
    ended = page.get_by_text(re.compile("^(Success|Failure|Canceled)$")).first
    expect(ended).to_be_visible(timeout=RUN_ENDS_WITHIN_MS)
    expect(ended).to_have_text("Success")
