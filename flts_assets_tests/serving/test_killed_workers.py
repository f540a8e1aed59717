"""A service dies, or its champion changes, under load: what its clients see of it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from flts_assets.stores.directory import DirectoryStore
from flts_assets_tests.serving.deployed import columns_of, later_rows, promote
from flts_assets_tests.serving.processes import answers, proxy, service, until, workers_of

pytestmark = pytest.mark.slow

CLIENTS = 12
LOAD_S = 5.0
PROMOTIONS = 6
BODY = json.dumps({"index_col": "time", "data": columns_of(later_rows().iloc[:30])}).encode()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("killed")
    promote(DirectoryStore(home), "TREES")
    return home


@contextmanager
def load(
    port: int, told: Callable[[bytes], object] = lambda body: b"SUCCESS" in body
) -> Iterator[Counter[object]]:
    """Clients that ask one after another while the context lasts: how often they were told what."""
    seen: Counter[object] = Counter()
    stop = threading.Event()

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        while not stop.is_set():
            try:
                connection.request("POST", "/predict", BODY, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                seen[answer.status, told(answer.read())] += 1
            except (OSError, http.client.HTTPException) as error:
                seen[type(error).__name__] += 1
                connection.close()
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_no_client_of_a_proxy_sees_one_of_three_services_die(home: Path) -> None:
    with ExitStack() as stack:
        services = [stack.enter_context(service(home)) for _ in range(3)]
        front = stack.enter_context(proxy([one.port for one in services]))
        with load(front.port) as seen:
            time.sleep(LOAD_S / 2)  # this is the load, not a wait
            until(lambda: sum(seen.values()) > CLIENTS)
            before = sum(seen.values())
            services[0].process.send_signal(signal.SIGKILL)
            services[0].process.wait()
            time.sleep(LOAD_S / 2)
            until(lambda: sum(seen.values()) > before + CLIENTS)
        assert set(seen) == {(200, True)}
        assert not answers(services[0].port, "/healthz")
        assert answers(front.port, "/readyz")


def test_a_killed_worker_is_started_again_while_the_others_answer(home: Path) -> None:
    with service(home, "--workers", "2") as one:
        parent = one.process.pid
        until(lambda: len(workers_of(parent)) == 2)
        first = workers_of(parent)
        os.kill(first[0], signal.SIGKILL)
        until(lambda: len(workers_of(parent)) == 2 and first[0] not in workers_of(parent))
        assert first[1] in workers_of(parent)
        until(lambda: answers(one.port, "/readyz"))
        with load(one.port) as seen:
            until(lambda: sum(seen.values()) > 10 * CLIENTS)
        assert set(seen) == {(200, True)}


def test_no_client_sees_the_champion_change(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    champions = [promote(store, "TREES").run_id]
    with (
        service(tmp_path, FLTS_SERVING_POLL_S="0.05") as one,
        load(one.port, lambda body: json.loads(body)["run_id"]) as seen,
    ):
        for _ in range(PROMOTIONS):
            until(lambda: (200, champions[-1]) in seen)
            champions.append(promote(store, "TREES").run_id)
        until(lambda: seen[200, champions[-1]] > CLIENTS)
    assert set(seen) == {(200, run_id) for run_id in champions}
    assert len(seen) == PROMOTIONS + 1
