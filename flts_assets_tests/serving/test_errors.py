from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pandas as pd
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from flts_assets.serving.requests import MOST_SEARCHED
from flts_assets.stores.directory import DirectoryStore
from flts_assets_tests.serving.conftest import TOKEN
from flts_assets_tests.serving.deployed import application, columns_of, promote, recipe_of

Body = dict[str, Any]


def valid(rows: pd.DataFrame) -> Body:
    return {"data": columns_of(rows.iloc[:30]), "station": "TREES"}


def records_of(rows: pd.DataFrame) -> list[Body]:
    data = columns_of(rows.iloc[:30])
    return [dict(zip(data, row, strict=True)) for row in zip(*data.values(), strict=True)]


def put(*path: Any, value: Any) -> Callable[[Body], None]:
    """A change of one place of the body."""

    def change(body: Body) -> None:
        *parents, last = path
        inner: Any = body
        for step in parents:
            inner = inner[step]
        inner[last] = value

    return change


def drop(*path: Any) -> Callable[[Body], None]:
    def change(body: Body) -> None:
        *parents, last = path
        inner: Any = body
        for step in parents:
            inner = inner[step]
        del inner[last]

    return change


def shorten(rows: int) -> Callable[[Body], None]:
    def change(body: Body) -> None:
        body["data"] = {name: column[:rows] for name, column in body["data"].items()}

    return change


def repeat_row(body: Body) -> None:
    body["data"]["time"][7] = body["data"]["time"][6]


def step_back(body: Body) -> None:
    body["data"]["time"].reverse()


FAULTS: dict[str, tuple[Callable[[Body], None], str, Any, str]] = {
    # change of a valid request -> field, received, part of what is allowed
    "too few rows": (shorten(3), "data", 3, "at least 6"),
    "one row": (shorten(1), "data.time", 1, "2 or more"),
    "missing column": (drop("data", "up"), "data.up", None, "rb_up_var"),
    "unknown column": (put("data", "upp", value=[1.0] * 30), "data.upp", None, "rb_up_var"),
    "text in a column": (put("data", "down", 4, value="1"), "data.down[4]", "1", "0 to 1e+15"),
    "null in a column": (put("data", "down", 4, value=None), "data.down[4]", None, "0 to"),
    "bool in a column": (put("data", "down", 4, value=True), "data.down[4]", True, "0 to"),
    "negative": (put("data", "mcs_up", 0, value=-0.5), "data.mcs_up[0]", -0.5, "0 to 1e+15"),
    "huge number": (put("data", "mcs_up", 29, value=1e300), "data.mcs_up[29]", 1e300, "1e+15"),
    "huge whole number": (
        put("data", "up", 2, value=2**64 - 1),
        "data.up[2]",
        2**64 - 1,
        "1e+15",
    ),
    "column that is no list": (put("data", "down", value=3), "data.down", 3, ""),
    "lengths that differ": (put("data", "up", value=[1.0] * 29), "data.up", 29, "30"),
    "irregular times": (
        put("data", "time", 9, value="2024-01-01T04:19:00"),
        "data.time[9]",
        "2024-01-01T04:19:00 after 2024-01-01T04:16:00",
        "120 s",
    ),
    "duplicate times": (
        repeat_row,
        "data.time[7]",
        "2024-01-01T04:12:00 after 2024-01-01T04:12:00",
        "120 s",
    ),
    "falling times": (
        step_back,
        "data.time[1]",
        "2024-01-01T04:56:00 after 2024-01-01T04:58:00",
        "a later time",
    ),
    "no time": (put("data", "time", 3, value="tomorrow"), "data.time[3]", "tomorrow", "ISO 8601"),
    "now": (put("data", "time", 29, value="now"), "data.time[29]", "now", "ISO 8601"),
    "zoned time": (
        put("data", "time", 3, value="2024-01-01T04:06:00Z"),
        "data.time[3]",
        "2024-01-01T04:06:00Z",
        "without a zone",
    ),
    "month 13": (
        put("data", "time", 3, value="2024-13-01T04:06:00"),
        "data.time[3]",
        "2024-13-01T04:06:00",
        "ISO 8601",
    ),
    "time as a number": (put("data", "time", 3, value=5), "data.time[3]", 5, "ISO 8601"),
    "no data": (drop("data"), "data", None, "columns"),
    "data of another type": (put("data", value="x"), "data", "x", "{name: [value, …], …}"),
    "no steps": (put("inference_length", value=0), "inference_length", 0, "1 to 10000"),
    "too many steps": (
        put("inference_length", value=10_001),
        "inference_length",
        10_001,
        "1 to 10000",
    ),
    "steps as text": (put("inference_length", value="3"), "inference_length", "3", "1 to 10000"),
    "steps as a bool": (put("inference_length", value=True), "inference_length", True, "1 to"),
    "level above 1": (put("levels", value=[90.0]), "levels", "[90.0]", "between 0 and 1"),
    "level nobody calibrated": (put("levels", value=[0.77]), "levels", 0.77, "0.5, 0.9"),
    "unknown field": (put("steps", value=3), "steps", None, "inference_length"),
    "index that is a column": (put("index_col", value="down"), "index_col", "down", "a name"),
    "station of another type": (put("station", value=5), "station", 5, "text"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_told_with_field_received_and_allowed(
    client: TestClient, rows: pd.DataFrame, name: str
) -> None:
    change, field, received, allowed = FAULTS[name]
    body = valid(rows)
    assert client.post("/predict", json=body).status_code == 200
    change(body)
    response = client.post("/predict", json=body)
    assert response.status_code == 422
    error = response.json()["error"]
    assert error["field"] == field
    assert error["received"] == received
    assert allowed in (error["allowed"] or "")
    assert error["message"].startswith(f"{field}: ")


@pytest.mark.parametrize("name", ["missing column", "month 13", "level nobody calibrated"])
def test_fault_in_a_batch_names_the_request_in_it(
    client: TestClient, rows: pd.DataFrame, name: str
) -> None:
    change, field, _, _ = FAULTS[name]
    faulty = valid(rows)
    change(faulty)
    response = client.post("/predict", json={"batch": [valid(rows), faulty]})
    assert response.status_code == 422
    assert response.json()["error"]["field"] == f"batch[1].{field}"


def test_record_without_a_column_is_named_by_its_place(
    client: TestClient, rows: pd.DataFrame
) -> None:
    records = records_of(rows)
    del records[12]["rb_up"]
    response = client.post("/predict", json={"data": records})
    assert response.status_code == 422
    assert response.json()["error"]["field"] == "data[12].rb_up"


@pytest.mark.parametrize("body", [b"", b"{", b"nul", b"\xff\xfe", b"NaN", b"[" * 5000])
def test_body_that_is_no_json_is_refused(client: TestClient, body: bytes) -> None:
    response = client.post("/predict", content=body)
    assert response.status_code == 422
    assert response.json()["error"]["field"] == "body"


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_number_that_is_not_finite_is_told_with_its_place(
    client: TestClient, rows: pd.DataFrame, value: str
) -> None:
    faulty = valid(rows)
    faulty["data"]["mcs_up"][7] = "here"
    for body, field in (
        (faulty, "data.mcs_up[7]"),
        ({"batch": [valid(rows), faulty]}, "batch[1].data.mcs_up[7]"),
        (valid(rows) | {"levels": [0.5, "here"]}, "levels[1]"),
    ):
        content = orjson.dumps(body).replace(b'"here"', value.encode())
        response = client.post("/predict", content=content)
        assert response.status_code == 422
        error = response.json()["error"]
        assert (error["field"], error["received"]) == (field, value.replace("1e999", "Infinity"))
        assert error["allowed"]


def test_huge_body_is_not_searched_for_what_is_not_finite(client: TestClient) -> None:
    body = b'{"data": [' + b"0," * MOST_SEARCHED + b"NaN]}"
    response = client.post("/predict", content=body)
    assert response.status_code == 422
    assert response.json()["error"]["field"] == "body"


def test_deeply_nested_body_is_refused_and_not_repeated_in_full(client: TestClient) -> None:
    nested = b'{"data": ' + b"[" * 900 + b"1" + b"]" * 900 + b"}"
    response = client.post("/predict", content=nested)
    assert response.status_code == 422
    assert len(response.content) < 2_000


@pytest.mark.parametrize("change", [put("x" * 9_000, value=1), put("data", "x" * 9_000, value=[])])
def test_long_name_is_not_repeated_in_full(
    client: TestClient, rows: pd.DataFrame, change: Callable[[Body], None]
) -> None:
    body = valid(rows)
    change(body)
    response = client.post("/predict", json=body)
    assert response.status_code == 422
    assert len(response.content) < 2_000


def test_forecast_beyond_the_year_2200_is_refused(client: TestClient, rows: pd.DataFrame) -> None:
    body = valid(rows)
    days = pd.date_range("2100-01-01", periods=30, freq="D").strftime("%Y-%m-%d").tolist()
    body["data"]["time"] = days
    body["inference_length"] = 300
    assert client.post("/predict", json=body).status_code == 200
    body["data"]["time"] = (
        pd.date_range("1990-01-01", periods=30, freq="1000D").strftime("%Y-%m-%d").tolist()
    )
    response = client.post("/predict", json=body)
    assert response.status_code == 422
    assert response.json()["error"]["field"] == "inference_length"
    assert "at most" in response.json()["error"]["allowed"]


@pytest.mark.parametrize("field", ["station", "config_hash"])
def test_unknown_model_is_not_found_and_those_there_are_are_told(
    client: TestClient, rows: pd.DataFrame, field: str
) -> None:
    body = {"data": columns_of(rows), field: "Atlantis"}
    response = client.post("/predict", json=body)
    assert response.status_code == 404
    error = response.json()["error"]
    assert (error["field"], error["received"]) == (field, "Atlantis")
    assert error["allowed"]
    response = client.post("/predict", json={"batch": [valid(rows), body]})
    assert response.status_code == 404
    assert response.json()["error"]["field"] == f"batch[1].{field}"


def test_station_and_config_hash_that_disagree_are_not_found(
    client: TestClient, rows: pd.DataFrame
) -> None:
    body = {"data": columns_of(rows), "config_hash": recipe_of("LSTM").config_hash}
    assert client.post("/predict", json={**body, "station": "LSTM"}).status_code == 200
    response = client.post("/predict", json={**body, "station": "GRU"})
    assert response.status_code == 404
    error = response.json()["error"]
    assert (error["field"], error["received"], error["allowed"]) == ("station", "GRU", "LSTM")


@contextmanager
def started(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client


@pytest.mark.parametrize("declared", [True, False], ids=["content-length", "chunked"])
def test_body_over_the_limit_is_refused(
    store: DirectoryStore, rows: pd.DataFrame, declared: bool
) -> None:
    body = orjson.dumps(valid(rows))
    with started(application(store, max_body=len(body))) as client:
        assert client.post("/predict", content=body).status_code == 200
        larger = body + b" "
        response = client.post("/predict", content=larger if declared else iter([body, b" "]))
    assert response.status_code == 413
    assert response.json()["error"]["field"] == "body"
    assert response.json()["error"]["received"] == len(larger)
    assert response.json()["error"]["allowed"] == f"{len(body)} bytes"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": TOKEN},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": b"Bearer \xff\xe9"},
    ],
)
@pytest.mark.parametrize("path", ["/predict", "/predict/file", "/v2/models/TREES/infer"])
def test_request_without_the_token_is_unauthorized(
    store: DirectoryStore, path: str, headers: dict[str, str]
) -> None:
    with started(application(store, token=TOKEN)) as client:
        response = client.post(path, content=b"{}", headers=headers)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert TOKEN not in response.text


def test_request_with_the_token_is_answered(store: DirectoryStore, rows: pd.DataFrame) -> None:
    with started(application(store, token=TOKEN)) as client:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        assert client.post("/predict", json=valid(rows), headers=headers).status_code == 200


def test_more_requests_than_the_queue_holds_are_told_to_come_back(
    store: DirectoryStore, rows: pd.DataFrame
) -> None:
    app = application(store, max_in_flight=1)
    with started(app) as client:
        with app.state.service.gate:
            response = client.post("/predict", json=valid(rows))
        assert client.post("/predict", json=valid(rows)).status_code == 200
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "1"
    assert response.json()["error"]["kind"] == "OverloadedError"


def test_place_in_the_queue_is_given_back_after_a_fault(
    store: DirectoryStore, rows: pd.DataFrame
) -> None:
    with started(application(store, max_in_flight=1)) as client:
        for _ in range(3):
            assert client.post("/predict", content=b"{").status_code == 422
        assert client.post("/predict", json=valid(rows)).status_code == 200


def test_service_without_a_champion_lives_but_is_not_ready(
    tmp_path: Path, rows: pd.DataFrame
) -> None:
    with started(application(DirectoryStore(tmp_path))) as client:
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 503
        response = client.post("/predict", json=valid(rows))
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "1"
    assert response.json()["error"]["kind"] == "NoChampionError"
    assert "promote" in response.json()["error"]["message"]


def test_champion_of_altered_files_is_refused_and_the_old_one_goes_on_serving(
    own_store: DirectoryStore, rows: pd.DataFrame
) -> None:
    app = application(own_store, poll_s=3600)  # it looks when it is told to, at what is complete
    with started(app) as client:
        before = client.post("/predict", json=valid(rows)).json()
        promotion = promote(own_store, "TREES")
        place = promotion.model
        own_store.put(place.bucket, place.file_key(promotion.attempt, "model.onnx"), b"altered")
        app.state.service.champions.refresh()
        assert client.post("/predict", json=valid(rows)).json() == before
        told = client.get("/readyz").json()
    assert promotion.config_hash in told["refused"]
    assert told["champions"] == 1


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/x", 404), ("PUT", "/predict", 405)]
)
def test_place_that_is_none_is_told_in_the_shape_of_all_errors(
    client: TestClient, method: str, path: str, status: int
) -> None:
    response = client.request(method, path)
    assert response.status_code == status
    assert response.json()["status"] == "ERROR"
    assert response.json()["error"]["message"]
    protocol = client.get("/v2/x")
    assert (protocol.status_code, list(protocol.json())) == (404, ["error"])
