from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from starlette.testclient import TestClient

from flts_assets.recipe import RAW_COLUMNS
from flts_assets.stores.directory import DirectoryStore
from flts_assets_tests.serving.deployed import KINDS, application, columns_of, recipe_of

Body = dict[str, Any]


def tensor(name: str, data: list[Any], *shape: int, datatype: str = "FP64") -> Body:
    return {"name": name, "shape": list(shape), "datatype": datatype, "data": data}


def as_rows(rows: pd.DataFrame) -> list[Body]:
    values = rows[list(RAW_COLUMNS)].to_numpy()
    times = columns_of(rows)["time"]
    return [
        tensor("time", times, len(rows), datatype="BYTES"),
        tensor("rows", values.tolist(), *values.shape),
    ]


def as_flat_rows(rows: pd.DataFrame) -> list[Body]:
    time, nested = as_rows(rows)
    return [{**nested, "data": [one for row in nested["data"] for one in row]}, time]


def as_columns(rows: pd.DataFrame) -> list[Body]:
    data = columns_of(rows)
    return [
        tensor(name, column, len(rows), datatype="BYTES" if name == "time" else "FP64")
        for name, column in data.items()
    ]


def as_narrow_columns(rows: pd.DataFrame) -> list[Body]:
    """What a data frame's codec sends: [R, 1]."""
    return [
        {
            **one,
            "shape": [len(rows), 1],
            "datatype": one["datatype"].replace("FP64", "FP32"),
            "data": [[value] for value in one["data"]],
        }
        for one in reversed(as_columns(rows))
    ]


SHAPES: list[Callable[[pd.DataFrame], list[Body]]] = [
    as_rows,
    as_flat_rows,
    as_columns,
    as_narrow_columns,
]


def outputs_of(response: Any) -> dict[str, Body]:
    assert response.status_code == 200, response.text
    return {one["name"]: one for one in response.json()["outputs"]}


def test_server_tells_who_it_is_and_that_it_lives(client: TestClient) -> None:
    assert client.get("/v2").json()["name"] == "flts"
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}


def test_server_without_a_champion_is_live_and_not_ready(tmp_path: Path) -> None:
    with TestClient(application(DirectoryStore(tmp_path))) as client:
        assert client.get("/v2/health/live").status_code == 200
        assert client.get("/v2/health/ready").status_code == 503
        response = client.get("/v2/models/TREES")
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "1"
    assert list(response.json()) == ["error"]


@pytest.mark.parametrize("kind", KINDS)
def test_model_is_known_by_station_and_by_config_hash(client: TestClient, kind: Any) -> None:
    for name in (kind, recipe_of(kind).config_hash):
        metadata = client.get(f"/v2/models/{name}").json()
        assert metadata["name"] == name
        assert metadata["platform"] == f"flts_{kind.lower()}"
        assert [one["name"] for one in metadata["outputs"]] == ["ts", "down", "up"]
        assert client.get(f"/v2/models/{name}/ready").json() == {"name": name, "ready": True}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_tensors_are_answered_with_the_numbers_of_predict(
    client: TestClient,
    rows: pd.DataFrame,
    kind: str,
    shape: Callable[[pd.DataFrame], list[Body]],
) -> None:
    predictions = client.post(
        "/predict",
        json={
            "data": columns_of(rows),
            "station": kind,
            "inference_length": 5,
            "levels": [0.5, 0.9],
        },
    ).json()["predictions"]
    body = {
        "id": "42",
        "inputs": shape(rows),
        "parameters": {"inference_length": 5, "levels": "0.5,0.9"},
    }
    response = client.post(f"/v2/models/{kind}/infer", json=body)
    outputs = outputs_of(response)
    assert response.json()["id"] == "42"
    assert response.json()["model_name"] == kind
    assert list(outputs) == list(predictions[0])
    for name, output in outputs.items():
        assert output["datatype"] == ("BYTES" if name == "ts" else "FP64")
        assert output["shape"] == [5]
        expected = [row[name] for row in predictions]
        if name == "ts":
            assert output["data"] == expected
        else:
            np.testing.assert_array_equal(output["data"], expected)


def test_only_outputs_that_are_wanted_are_given(client: TestClient, rows: pd.DataFrame) -> None:
    body = {
        "inputs": as_rows(rows),
        "parameters": {"levels": 0.9},
        "outputs": [{"name": "up-hi-90"}, {"name": "up"}],
    }
    outputs = outputs_of(client.post("/v2/models/TREES/infer", json=body))
    assert list(outputs) == ["up-hi-90", "up"]
    assert outputs["up"]["data"][0] <= outputs["up-hi-90"]["data"][0]


def test_parameters_of_other_servers_are_passed_over(
    client: TestClient, rows: pd.DataFrame
) -> None:
    body = {"inputs": as_rows(rows), "parameters": {"binary_data_output": True, "priority": 1}}
    body["inputs"][0]["parameters"] = {"content_type": "str"}
    outputs = outputs_of(client.post("/v2/models/TREES/infer", json=body))
    assert list(outputs) == ["ts", "down", "up"]


def valid(rows: pd.DataFrame) -> Body:
    return {"inputs": as_rows(rows.iloc[:30])}


def change(*path: Any, value: Any) -> Callable[[Body], Any]:
    def changed(body: Body) -> None:
        *parents, last = path
        inner: Any = body
        for step in parents:
            inner = inner[step]
        inner[last] = value

    return changed


FAULTS: dict[str, tuple[Callable[[Body], Any], str]] = {
    "no inputs": (lambda body: body.pop("inputs"), "inputs: must be a list"),
    "no time": (lambda body: body["inputs"].pop(0), "inputs.time: column is missing"),
    "no rows": (lambda body: body["inputs"].pop(1), "inputs.down: column is missing"),
    "tensor twice": (
        lambda body: body["inputs"].append(body["inputs"][1]),
        "inputs[2].name: must name a tensor that was not given before",
    ),
    "unknown tensor": (
        lambda body: body["inputs"].append(tensor("upp", [1.0], 1)),
        "inputs.upp: unknown column",
    ),
    "wrong datatype": (change("inputs", 1, "datatype", value="INT64"), "allowed: FP64 or FP32"),
    "wrong width": (change("inputs", 1, "shape", value=[33, 10]), "inputs[1].shape"),
    "negative size": (change("inputs", 1, "shape", value=[-30, 11]), "inputs[1].shape"),
    "gigantic size": (change("inputs", 0, "shape", value=[2**63]), "inputs[0].data"),
    "other size": (change("inputs", 0, "shape", value=[31]), "received: 30; allowed: 31"),
    "uneven nesting": (change("inputs", 1, "data", 3, value=[1.0]), "inputs[1].data"),
    "data that is no list": (change("inputs", 0, "data", value="x"), "inputs[0].data"),
    "text among numbers": (change("inputs", 1, "data", 4, 1, value="x"), "inputs.up[4]"),
    "irregular time": (
        change("inputs", 0, "data", 5, value="2024-01-01T05:00:00"),
        "inputs.time[5]: times must rise in equal steps",
    ),
    "no steps": (change("parameters", value={"inference_length": 0}), "allowed: 1 to 10000"),
    "level nobody calibrated": (change("parameters", value={"levels": "0.7"}), "0.5, 0.9"),
    "levels that are no numbers": (change("parameters", value={"levels": "wide"}), "levels"),
    "unknown output": (change("outputs", value=[{"name": "rb_up"}]), "allowed: ts, down, up"),
    "output twice": (
        change("outputs", value=[{"name": "up"}, {"name": "up"}]),
        "outputs[1].name: must be a name that was not given before; received: 'up'",
    ),
    "nameless output": (change("outputs", value=[{}]), "outputs[0].name"),
    "id of another type": (change("id", value=7), "id: must be text"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_told_in_the_protocols_shape(
    client: TestClient, rows: pd.DataFrame, name: str
) -> None:
    changed, told = FAULTS[name]
    body = valid(rows)
    assert client.post("/v2/models/GRU/infer", json=body).status_code == 200
    changed(body)
    response = client.post("/v2/models/GRU/infer", json=body)
    assert response.status_code == 400
    assert list(response.json()) == ["error"]
    assert told in response.json()["error"]


@pytest.mark.parametrize("path", ["", "/ready", "/infer"])
def test_unknown_model_is_not_found_in_the_protocols_shape(client: TestClient, path: str) -> None:
    method = "POST" if path == "/infer" else "GET"
    response = client.request(method, f"/v2/models/Atlantis{path}", content=b"{}")
    assert response.status_code == 404
    assert list(response.json()) == ["error"]
    assert "Atlantis" in response.json()["error"]


def test_refused_champion_is_not_ready(store: DirectoryStore, tmp_path: Path) -> None:
    config_hash = recipe_of("TREES").config_hash
    other = DirectoryStore(tmp_path)
    key = f"global/{config_hash}/current.json"
    other.put("model-promotion", key, store.get("model-promotion", key))
    with TestClient(application(other)) as client:
        response = client.get(f"/v2/models/{config_hash}/ready")
    assert response.status_code == 503
    assert response.json() == {"name": config_hash, "ready": False}


def test_body_over_the_limit_is_refused_in_the_protocols_shape(store: DirectoryStore) -> None:
    with TestClient(application(store, max_body=10)) as client:
        response = client.post("/v2/models/TREES/infer", content=b"x" * 11)
    assert response.status_code == 413
    assert list(response.json()) == ["error"]
