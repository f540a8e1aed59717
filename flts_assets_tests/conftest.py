"""What all tests share: the real data, and a data directory of their own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flts_assets.settings import Settings

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
    for name in ("DAGSTER_HOME", "MLFLOW_TRACKING_URI", "FORCE_REPROCESS", "IDENTIFIER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FLTS_HOME", str(tmp_path))
    for name, value in Settings.from_environment().exported().items():
        monkeypatch.setenv(name, value)
    return tmp_path
