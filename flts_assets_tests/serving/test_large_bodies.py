"""Bodies over the limit, sent to a real server: what a client sees that sends all before it reads."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator

import pytest

from flts_assets.stores.directory import DirectoryStore
from flts_assets_tests.serving.deployed import promote
from flts_assets_tests.serving.processes import service

pytestmark = pytest.mark.slow

LIMIT = 4_000_000


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    home = tmp_path_factory.mktemp("large")
    promote(DirectoryStore(home), "TREES")
    with service(home, FLTS_SERVING_MAX_BODY=str(LIMIT)) as one:
        yield one.port


@pytest.mark.parametrize("path", ["/predict", "/v2/models/TREES/infer"])
@pytest.mark.parametrize("chunked", [False, True], ids=["content-length", "chunked"])
def test_client_that_sends_all_and_then_reads_is_told_of_the_limit(
    port: int, path: str, chunked: bool
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    size = 3 * LIMIT
    parts = (b" " * 100_000 for _ in range(size // 100_000))
    connection.request("POST", path, parts if chunked else b" " * size, {"Connection": "close"})
    answer = connection.getresponse()
    told = json.loads(answer.read())
    connection.close()
    assert answer.status == 413
    assert str(LIMIT) in json.dumps(told)


def test_client_that_asks_first_is_refused_before_it_sends(port: int) -> None:
    head = (
        "POST /predict HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
        f"Content-Length: {2 * LIMIT}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


def test_body_that_is_far_too_large_is_not_read_to_its_end(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        connection.sendall(
            f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {100 * LIMIT}\r\n\r\n".encode()
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")
