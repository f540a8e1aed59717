from __future__ import annotations

import asyncio
import timeit
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from flts_assets import __version__
from flts_assets.serving.metrics import Metrics, memory_limit
from flts_assets.stores.directory import DirectoryStore
from flts_assets.stores.object_store import MODEL_PROMOTION
from flts_assets.stores.pointer import Pointer
from flts_assets_tests.serving.deployed import application, columns_of, promote, recipe_of
from flts_assets_tests.serving.processes import until

Labels = frozenset[tuple[str, str]]


def told(client: TestClient) -> dict[str, dict[Labels, float]]:
    """name -> labels -> value, as Prometheus itself would read them."""
    found: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return found


def responses(client: TestClient) -> dict[tuple[str, str], float]:
    """(route, status) -> how many; without the looks at /metrics themselves"""
    found = {}
    for labels, value in told(client)["flts_responses_total"].items():
        one = dict(labels)
        if one["route"] != "/metrics":
            found[one["route"], one["status"]] = value
    return found


@pytest.fixture
def body(rows: pd.DataFrame) -> dict[str, Any]:
    return {"index_col": "time", "data": columns_of(rows.head(40))}


@pytest.mark.parametrize("origins", [(), ("https://example.org",)], ids=["short way", "long way"])
def test_responses_are_counted_by_route_and_status(
    own_store: DirectoryStore, body: dict[str, Any], origins: tuple[str, ...]
) -> None:
    app = application(own_store, token="t", cors_origins=origins)
    with TestClient(app, headers={"Authorization": "Bearer t"}) as client:
        assert client.post("/predict", json=body).status_code == 200
        assert client.post("/predict", json=body).status_code == 200
        assert client.post("/predict", content=b"[").status_code == 422
        assert client.post("/predict", headers={"Authorization": "Bearer x"}).status_code == 401
        assert client.get("/predict").status_code == 405
        assert responses(client) == {
            ("/predict", "200"): 2,
            ("/predict", "422"): 1,
            ("/predict", "401"): 1,
            ("/predict", "405"): 1,
        }


def test_no_client_can_make_new_series_with_paths_of_its_own(own_store: DirectoryStore) -> None:
    with TestClient(application(own_store)) as client:
        for number in range(20):
            client.get(f"/{number}")
            client.get(f"/download/dataset/{number}/x.csv")
            client.get(f"/v2/models/{number}")
        assert responses(client) == {
            ("other", "404"): 20,
            ("/download/{bucket}/{object:path}", "404"): 20,
            ("/v2/models/{name}", "404"): 20,
        }


def test_an_error_that_nobody_foresaw_counts_as_500(
    own_store: DirectoryStore, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("flts_assets.serving.app.asks_in", fail)
    monkeypatch.setattr("flts_assets.serving.app.champion_for", fail)
    with TestClient(application(own_store)) as client:
        for call in (lambda: client.post("/predict", json=body), lambda: client.get("/model")):
            with pytest.raises(ZeroDivisionError):
                call()
        assert responses(client) == {("/predict", "500"): 1, ("/model", "500"): 1}


@pytest.mark.parametrize("path", ["/predict", "/predict/file"])
def test_client_that_leaves_before_it_has_sent_all_is_no_error(
    own_store: DirectoryStore, path: str
) -> None:
    app = application(own_store)

    async def leave() -> list[Any]:
        sent: list[Any] = []

        async def receive() -> dict[str, str]:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": path, "query_string": b""}
        await app({**scope, "headers": []}, receive, send)
        return sent

    with TestClient(app) as client:
        assert asyncio.run(leave())[0]["status"] == 499
        assert responses(client) == {(path, "499"): 1}


def test_overload_is_told_with_its_limit(own_store: DirectoryStore, body: dict[str, Any]) -> None:
    app = application(own_store, max_in_flight=3)
    with TestClient(app) as client, ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(app.state.service.gate)
        assert client.post("/predict", json=body).status_code == 503
        found = told(client)
        assert found["flts_overload_refusals_total"] == {frozenset(): 1}
        assert found["flts_requests_in_flight"] == {frozenset(): 3}
        assert found["flts_requests_in_flight_limit"] == {frozenset(): 3}
        stack.close()
        assert client.post("/predict", json=body).status_code == 200
        assert told(client)["flts_requests_in_flight"] == {frozenset(): 0}


def test_champions_are_told_with_the_moment_of_their_promotion(
    own_store: DirectoryStore,
) -> None:
    with TestClient(application(own_store, poll_s=0.01)) as client:
        (first,) = promoted(client)
        assert first["station"] == "TREES"
        assert first["model_type"] == "TREES"
        assert first["recipe"] == recipe_of("TREES").name
        assert first["config_hash"] == recipe_of("TREES").config_hash
        gru = promote(own_store, "GRU")
        until_promoted(client, {"TREES", "GRU"})
        at = told(client)["flts_champion_promoted_timestamp_seconds"]
        assert gru.timestamp.timestamp() in at.values()
        own_store.delete(MODEL_PROMOTION, Pointer(own_store, first["config_hash"], None).key)
        until_promoted(client, {"GRU"})  # whoever is served no more is told no more
        assert told(client)["flts_champions"] == {frozenset(): 1}


def test_last_successful_look_at_the_pointers_is_told(
    own_store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = application(own_store, poll_s=0.01)
    with TestClient(app) as client:
        (before,) = told(client)["flts_last_poll_timestamp_seconds"].values()

        def fail() -> None:
            raise OSError("no store")

        monkeypatch.setattr(app.state.service.champions, "refresh", fail)
        until(lambda: value(client, "flts_polls_failed_total") > 1)
        stands = value(client, "flts_last_poll_timestamp_seconds")
        failed = value(client, "flts_polls_failed_total")
        until(lambda: value(client, "flts_polls_failed_total") > failed)
        assert value(client, "flts_last_poll_timestamp_seconds") == stands >= before


def test_build_is_told(own_client: TestClient) -> None:
    (labels,) = told(own_client)["flts_build_info"]
    assert dict(labels)["version"] == __version__


@pytest.mark.parametrize(
    ("text", "limit"),
    [("805306368\n", 805306368), ("max\n", None), ("9223372036854771712\n", None), ("", None)],
)
def test_memory_limit_is_the_containers(tmp_path: Path, text: str, limit: int | None) -> None:
    file = tmp_path / "memory.max"
    file.write_text(text)
    assert memory_limit([tmp_path / "absent", file]) == limit
    assert memory_limit([tmp_path / "absent"]) is None


def test_counting_a_response_costs_next_to_nothing() -> None:
    metrics = Metrics()
    best = min(timeit.repeat(lambda: metrics.answered("/predict", 200), number=2_000, repeat=20))
    assert best / 2_000 < 10e-6  # seconds; 0.8 µs where it was measured


def promoted(client: TestClient) -> list[dict[str, str]]:
    return [dict(labels) for labels in told(client)["flts_champion_promoted_timestamp_seconds"]]


def until_promoted(client: TestClient, stations: set[str]) -> None:
    until(lambda: {one["station"] for one in promoted(client)} == stations)


def value(client: TestClient, name: str) -> float:
    (found,) = told(client)[name].values()
    return found
