"""Deployments as in production: S3, PostgreSQL, an MLflow server; a machine's disk holds nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from flts_assets.settings import PROJECT
from flts_assets_tests.servers.mlflow_server import MlflowServer
from flts_assets_tests.servers.postgres import Postgres
from flts_assets_tests.servers.seaweed import Seaweed
from flts_assets_tests.stack.machine import Machine


@pytest.fixture(scope="session")
def production(seaweed: Seaweed, postgres: Postgres, mlflow_server: MlflowServer) -> dict[str, str]:
    """The variables by which the same code runs on the session's servers; buckets `stack-*`."""
    return {
        "DAGSTER_HOME": str(PROJECT / "docker"),
        "FLTS_STEP_CONCURRENCY": "3",
        **seaweed.environment("stack-"),
        **postgres.environment(postgres.database()),
        **mlflow_server.environment(),
    }


@pytest.fixture
def machine(tmp_path: Path, production: dict[str, str]) -> Machine:
    """One machine of that deployment, its disk empty."""
    return Machine(tmp_path / "home", production)
