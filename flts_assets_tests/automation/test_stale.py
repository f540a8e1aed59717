"""What is left over is ended where it is this deployment's own, and told where it may be another's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from flts_assets.automation.retention import find_removable
from flts_assets.automation.stale import find_stale
from flts_assets.stores.tracking import DAGSTER_RUN_TAG
from flts_assets_tests.assets.deployment import Deployment

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")  # MLflow's own


@pytest.fixture
def homes(tmp_path: Path) -> Iterator[tuple[Deployment, Deployment]]:
    """Two that log into one MLflow database beside them."""
    shared = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/shared.db"}
    with ExitStack() as stack:
        found = []
        for name in ("one", "other"):
            (tmp_path / name).mkdir()
            deployment = Deployment(tmp_path / name, variables=shared)
            stack.enter_context(deployment.instance)
            found.append(deployment)
        yield found[0], found[1]


def test_runs_in_a_database_that_two_homes_share_are_neither_ended_nor_removed_by_the_other(
    homes: tuple[Deployment, Deployment],
) -> None:
    one, other = homes
    with one.environment():
        alive = create_run_for_test(
            one.instance, "pipeline", status=dg.DagsterRunStatus.STARTED
        ).run_id
    tracking = one.platform.tracking
    run = tracking.start("GRU", {}, {DAGSTER_RUN_TAG: alive})
    (found,) = find_stale(other.platform, other.instance)
    assert run.run_id in found.what
    assert "unknown here" in found.why
    assert found.end is None

    run.end("FAILED")
    later = datetime.now(timezone.utc) + timedelta(minutes=1)
    removable = find_removable(other.platform, other.instance, later, 0, timedelta(0))
    assert [one.what for one in removable] == []


def test_only_a_database_below_the_home_is_its_own(tmp_path: Path) -> None:
    def is_own(uri: str | None) -> bool:
        variables = {} if uri is None else {"MLFLOW_TRACKING_URI": uri}
        return Deployment(tmp_path / "home", variables=variables).platform.tracking.is_own

    (tmp_path / "home").mkdir()
    assert is_own(None)
    assert is_own(f"sqlite:///{tmp_path}/home/deep/other.db")
    assert not is_own(f"sqlite:///{tmp_path}/home/../mlflow.db")
    assert not is_own(f"sqlite:///{tmp_path}/home-of-another/mlflow.db")
    assert not is_own("http://127.0.0.1:1")
