"""SIGTERM: who already asks is answered, who comes later is refused, what takes too long is told so."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from pathlib import Path

import pandas as pd
import pytest

from flts_assets.stores.directory import DirectoryStore
from flts_assets_tests.serving.bodiless import answer_without_a_body
from flts_assets_tests.serving.deployed import application, columns_of, promote
from flts_assets_tests.serving.processes import STARTS_WITHIN_S, answers, service, until, workers_of

GRACE_S = 30.0
"""that `flts serve` gives requests"""
SLACK_S = 15.0
"""for a busy machine"""
HEAD = (
    "POST {path} HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"
    "Content-Length: {length}\r\nExpect: 100-continue\r\n\r\n"
)


@pytest.mark.slow
def test_request_that_is_under_way_when_the_service_is_stopped_is_answered(
    tmp_path: Path, rows: pd.DataFrame
) -> None:
    promote(DirectoryStore(tmp_path), "TREES")
    body = json.dumps({"data": columns_of(rows.iloc[:30]), "inference_length": 50}).encode()
    with service(tmp_path) as one, socket.create_connection(("127.0.0.1", one.port)) as client:
        client.settimeout(STARTS_WITHIN_S)
        client.sendall(HEAD.format(path="/predict", length=len(body)).encode())
        assert client.recv(1024).startswith(b"HTTP/1.1 100 "), "the service waits for the body"
        one.process.send_signal(signal.SIGTERM)
        until(lambda: not answers(one.port, "/healthz"))
        assert one.process.poll() is None
        client.sendall(body)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
        assert one.process.wait(STARTS_WITHIN_S) in (0, -signal.SIGTERM)
    head, _, content = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in head.lower()
    assert len(json.loads(content)["predictions"]) == 50


@pytest.mark.slow
def test_all_workers_end_within_their_time_although_a_client_never_sends_its_body(
    tmp_path: Path,
) -> None:
    promote(DirectoryStore(tmp_path), "TREES")
    with (
        service(tmp_path, "--workers", "2") as one,
        socket.create_connection(("127.0.0.1", one.port)) as client,
    ):
        until(lambda: len(workers_of(one.process.pid)) == 2)
        workers = workers_of(one.process.pid)
        client.settimeout(STARTS_WITHIN_S)
        client.sendall(HEAD.format(path="/predict", length=100).encode())
        assert client.recv(1024).startswith(b"HTTP/1.1 100 "), "the service waits for the body"
        one.process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        assert one.process.wait(STARTS_WITHIN_S) in (0, -signal.SIGTERM)
        assert time.monotonic() - started < GRACE_S + SLACK_S
        until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))


@pytest.mark.parametrize("path", ["/predict", "/v2/models/TREES/infer"])
def test_request_that_outlasts_the_time_to_stop_is_told_to_ask_elsewhere(
    own_store: DirectoryStore, path: str
) -> None:
    """uvicorn cancels it then."""
    app = application(own_store)
    told = asyncio.run(answer_without_a_body(app, path, asyncio.Task.cancel))
    assert told.status == 503
    assert told.headers[b"retry-after"].isdigit()
    assert b"the service is being stopped" in told.body
