"""An MLflow server as in production: PostgreSQL behind it, artifacts proxied to S3."""

from __future__ import annotations

import os
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from flts_assets_tests.servers.postgres import Postgres
from flts_assets_tests.servers.process import Process, announce, free_port
from flts_assets_tests.servers.seaweed import Seaweed

__all__ = ["MlflowServer", "mlflow_server"]


@dataclass(frozen=True)
class MlflowServer:
    process: Process
    url: str
    artifacts: str
    """s3://bucket that it writes to"""

    @classmethod
    def started(
        cls,
        folder: Path,
        seaweed: Seaweed,
        database_url: str,
        prefix: str,
        port: int | None = None,
    ) -> MlflowServer:
        """A server of one's own; whoever starts it stops it. Its first start migrates the database."""
        seaweed.store(prefix).make_buckets()
        port = port or free_port()
        artifacts = f"s3://{prefix}mlflow"
        command = [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"),
            *("--port", str(port), "--workers", "1"),
            *("--backend-store-uri", database_url),
            *("--artifacts-destination", artifacts, "--serve-artifacts"),
            *("--allowed-hosts", f"127.0.0.1:{port},localhost:{port}"),
        ]
        environ = {
            **os.environ,
            **seaweed.environment(prefix),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            # Its own waits for S3 end before its clients' do.
            "AWS_RETRY_MODE": "standard",
            "AWS_MAX_ATTEMPTS": "2",
        }
        process = Process("mlflow", command, folder, environ=environ)
        server = cls(process, f"http://127.0.0.1:{port}", artifacts)
        process.wait_until(server.is_healthy)
        return server

    def is_healthy(self) -> bool:
        with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
            return bool(answer.status == 200)

    def environment(self) -> dict[str, str]:
        return {"MLFLOW_TRACKING_URI": self.url}


@pytest.fixture(scope="session")
def mlflow_server(
    seaweed: Seaweed,
    postgres: Postgres,
    tmp_path_factory: pytest.TempPathFactory,
    pytestconfig: pytest.Config,
) -> Iterator[MlflowServer]:
    """The session's MLflow server. Nobody freezes or kills this one."""
    server = MlflowServer.started(
        tmp_path_factory.mktemp("mlflow"),
        seaweed,
        postgres.url(postgres.database()),
        f"mlflow{uuid4().hex[:8]}-",
    )
    announce(pytestconfig, f"MLflow at {server.url}, log {server.process.log}")
    yield server
    server.process.stop()
