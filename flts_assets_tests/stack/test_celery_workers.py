"""Steps on two workers; one is killed while it works."""

from __future__ import annotations

import time
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from flts_assets.stores.object_store import MODEL_PROMOTION
from flts_assets_tests.servers.mlflow_server import MlflowServer
from flts_assets_tests.servers.postgres import Postgres
from flts_assets_tests.servers.process import announce
from flts_assets_tests.servers.redis import Redis
from flts_assets_tests.servers.seaweed import Seaweed
from flts_assets_tests.stack.cluster import Cluster, cluster
from flts_assets_tests.stack.progress import until

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(3000)]

RECIPES = 4
LOST_AFTER_S = 9


def test_backfill_survives_the_death_of_a_worker(
    tmp_path: Path,
    production: dict[str, str],
    seaweed: Seaweed,
    postgres: Postgres,
    mlflow_server: MlflowServer,
    redis_server: Redis,
    pytestconfig: pytest.Config,
) -> None:
    prefix = f"c{uuid4().hex[:8]}-"
    variables = {
        **production,
        **seaweed.environment(prefix),
        **postgres.environment(postgres.database()),
        "FLTS_EXECUTOR": "celery",
        "FLTS_CELERY_BROKER_URL": redis_server.url,
        "FLTS_CELERY_LOST_AFTER_S": str(LOST_AFTER_S),
    }
    with cluster(tmp_path, variables, postgres, workers=2) as found:
        found.queue(RECIPES, "spread")
        until(lambda: len({one.worker for one in found.steps()}) == 2, "both workers at work")
        lost, children = found.kill_at_work("worker-1")
        killed = time.time()
        until(lambda: not any(map(_lives, children)), "the end of its children", 60)
        until(lambda: _taken_over(found, lost[0].key, lost[0].run_id, killed), "the lost step")
        taken = max(one.began for one in found.steps() if one[:2] == lost[0][:2]) - killed
        announce(pytestconfig, f"{lost[0].key} began elsewhere {taken:.0f} s after the kill")
        until(lambda: _ended(found) == RECIPES, "every run")
        assert found.statuses() == {"SUCCESS": RECIPES}
    pointers = {head.key.split("/")[0] for head in seaweed.store(prefix).list(MODEL_PROMOTION)}
    assert len(pointers) >= RECIPES


def _ended(found: Cluster) -> int:
    return sum(found.statuses().get(one, 0) for one in ("SUCCESS", "FAILURE", "CANCELED"))


def _lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def _taken_over(found: Cluster, key: str, run_id: str, since: float) -> bool:
    return any(
        one.key == key and one.run_id == run_id and one.worker == "worker-2" and one.began > since
        for one in found.steps()
    )
