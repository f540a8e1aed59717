"""`flts gc` on a home with a real run, as processes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from flts_assets.stores.garbage import every_promotion
from flts_assets_tests.assets.deployment import Deployment
from flts_assets_tests.cli.test_cli import HASH, flts, output_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy"),  # MLflow's own
]
RUN = ("run", "recipes/sample50.yaml")


def age(home: Path, days: float) -> None:
    """Every object was last written so many days ago."""
    then = time.time() - days * 86_400
    for bucket in ("processed-data", "models"):
        for path in (home / bucket).rglob("*"):
            if path.is_file():
                os.utime(path, (then, then))


def test_gc_tells_first_removes_on_demand_and_the_same_run_computes_nothing(
    tmp_path: Path, real_data: Path
) -> None:
    for name in ("PobleSec.csv", "PobleSec_test.csv"):
        output_of(tmp_path, "data", "add", str(real_data / name))
    output_of(tmp_path, *RUN)
    output_of(tmp_path, *RUN, "--force")
    crashed = tmp_path / "models" / HASH / "gru_model" / ("f" * 16) / "crashed" / "weights"
    crashed.parent.mkdir(parents=True)
    crashed.write_bytes(b"12345")
    assert "crashed" not in output_of(tmp_path, "gc")  # a run under way may be writing it
    age(tmp_path, 2)
    told = output_of(tmp_path, "gc")
    assert "crashed (5 bytes): has no manifest" in told
    assert "flts gc --apply removes them" in told
    assert crashed.exists()
    assert "crashed (5 bytes): has no manifest" in output_of(tmp_path, "gc", "--apply")
    assert not crashed.exists()
    assert output_of(tmp_path, "gc").startswith("0 thing(s)")

    deployment = Deployment(tmp_path)
    with deployment.environment():
        promotions = list(every_promotion(deployment.platform.store))
        artifacts = deployment.platform.artifacts
        assert promotions
        assert all(artifacts.find_attempt(one.model, one.attempt) for one in promotions)
    before = sorted((tmp_path / "models").rglob("manifest.json"))
    output_of(tmp_path, *RUN)
    assert sorted((tmp_path / "models").rglob("manifest.json")) == before


def test_gc_refuses_where_a_record_cannot_be_read(tmp_path: Path) -> None:
    record = tmp_path / "model-promotion" / "global" / HASH / "history" / "x.json"
    record.parent.mkdir(parents=True)
    record.write_text("{")
    done = flts(tmp_path, "gc", "--apply")
    assert done.returncode == 1
    assert "no promotion record" in done.stderr
