"""docker/healthcheck.py, as a container's health check runs it, against servers that listen."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import grpc
import pytest
from grpc_health.v1 import health, health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckResponse

from flts_assets_tests.docker.containers import DOCKER
from flts_assets_tests.servers.process import free_port


def checked(url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(DOCKER / "healthcheck.py"), url],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@contextmanager
def http_server(status: int) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/healthz"
        server.shutdown()


@contextmanager
def code_server(status: HealthCheckResponse.ServingStatus) -> Iterator[str]:
    """gRPC's health service, as Dagster's code server offers it."""
    servicer = health.HealthServicer()
    servicer.set("DagsterApi", status)
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"grpc://127.0.0.1:{port}"
        server.stop(0).wait()


@pytest.mark.parametrize(("status", "code"), [(200, 0), (204, 0), (404, 1), (503, 1)])
def test_a_service_is_healthy_if_its_answer_is(status: int, code: int) -> None:
    with http_server(status) as url:
        assert checked(url).returncode == code


@pytest.mark.parametrize(
    ("status", "code"), [(HealthCheckResponse.SERVING, 0), (HealthCheckResponse.NOT_SERVING, 1)]
)
def test_a_code_server_is_healthy_if_it_serves(
    status: HealthCheckResponse.ServingStatus, code: int
) -> None:
    with code_server(status) as url:
        assert checked(url).returncode == code


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_where_nobody_listens_the_check_fails_and_says_where(scheme: str) -> None:
    url = f"{scheme}://127.0.0.1:{free_port()}"
    done = checked(url)
    assert done.returncode == 1
    assert url in done.stderr
