"""What all tests share: the real data, a data directory of their own, a browser."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flts_assets.settings import Settings
from flts_assets_tests.servers.environment import OWN_VARIABLES

os.environ.setdefault(
    "OMP_WAIT_POLICY", "PASSIVE"
)  # before anything loads torch: tests share the cores

pytest_plugins = [
    "flts_assets_tests.servers.kafka",
    "flts_assets_tests.servers.seaweed",
    "flts_assets_tests.servers.postgres",
    "flts_assets_tests.servers.mlflow_server",
    "flts_assets_tests.servers.redis",
]

if TYPE_CHECKING:
    from playwright.sync_api import Browser

BESIDE_THE_REPOSITORY = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with the measured CSVs; FLTS_TEST_DATA names another one.

    With FLTS_REQUIRE_TEST_DATA set, as in CI, their absence is a failure and not a skip.
    """
    folder = Path(os.environ.get("FLTS_TEST_DATA") or BESIDE_THE_REPOSITORY)
    if not (folder / "PobleSec.csv").is_file():
        reason = f"no measured files in {folder}; set FLTS_TEST_DATA to their folder"
        if os.environ.get("FLTS_REQUIRE_TEST_DATA"):
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty FLTS_HOME, set in the environment with all that follows from it."""
    for name in OWN_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FLTS_HOME", str(tmp_path))
    for name, value in Settings.from_environment().exported().items():
        monkeypatch.setenv(name, value)
    return tmp_path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium. Without one the test is skipped; with FLTS_REQUIRE_BROWSER set it fails.

    One a module: its event loop must not run in this thread when others start theirs.
    """
    from flts_assets_tests.browser import BROWSERS, chromium, find_chromium

    executable = find_chromium()
    if executable is None:
        reason = f"no {' or '.join(BROWSERS)} on PATH; apt-get install chromium"
        if os.environ.get("FLTS_REQUIRE_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)
    with chromium(executable) as browser:
        yield browser
