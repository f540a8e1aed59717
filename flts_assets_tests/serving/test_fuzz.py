"""Whatever a client sends, the service answers: with finite numbers, or with what is at fault."""

from __future__ import annotations

import json
import math
from copy import deepcopy
from typing import Any

import pandas as pd
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.testclient import TestClient

from flts_assets.stores.directory import DirectoryStore
from flts_assets_tests.serving.conftest import TOKEN
from flts_assets_tests.serving.deployed import KINDS, application, columns_of, later_rows
from flts_assets_tests.serving.test_inference_v2 import as_columns, as_rows

INFER = "/v2/models/TREES/infer"

odd = st.sampled_from(
    [
        *(None, True, False, 0, -0.0, 1e308, -1e308, 5e-324, 2**63, 2**64, 10**40, math.nan),
        *(math.inf, 0.5, 0.9, 1e15, 1, -1, 10_000, "", "NaT", "now", "time", "rows", "down"),
        *("TREES", "2024-01-01T04:00:00", "0000-00-00", "9999-12-31", "20240101", "\ud800"),
        *("2024-01-01T00:00:00.1234567890123456789", "2024-02-30", "\0", [], {}, [[]], [{}]),
    ]
)
anything = st.recursive(
    odd | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
bounded = settings(max_examples=250, deadline=None)


@st.composite
def mutated(draw: st.DrawFn, valid: Any) -> Any:
    """A valid body with one to three places replaced, removed, repeated or added."""
    body = deepcopy(valid)
    for _ in range(draw(st.integers(1, 3))):
        inner: Any = body
        while True:
            places = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
            if not places:
                break
            place = draw(st.sampled_from(places))
            if isinstance(inner[place], (dict, list)) and inner[place] and draw(st.booleans()):
                inner = inner[place]
                continue
            match draw(st.sampled_from(["replace", "remove", "repeat", "add"])):
                case "replace":
                    inner[place] = draw(anything)
                case "remove":
                    del inner[place]
                case "repeat" if isinstance(inner, list):
                    inner.insert(place, deepcopy(inner[place]))
                case _ if isinstance(inner, dict):
                    inner[draw(st.text(max_size=8))] = draw(anything)
            break
    return body


def text_of(body: Any) -> bytes:
    return json.dumps(body).encode()


def valid_bodies() -> list[Any]:
    rows = later_rows().iloc[:12]
    data = columns_of(rows)
    records = [dict(zip(data, row, strict=True)) for row in zip(*data.values(), strict=True)]
    asked = [
        {"index_col": "time", "data": data, "station": kind, "inference_length": 4, "levels": [0.5]}
        for kind in KINDS
    ]
    return [*asked, {"data": records}, {"batch": asked[:2]}]


def valid_tensors() -> list[Any]:
    rows = later_rows().iloc[:12]
    return [
        {
            "id": "1",
            "inputs": inputs,
            "parameters": {"inference_length": 3, "levels": "0.5"},
            "outputs": [{"name": "down"}, {"name": "ts"}],
        }
        for inputs in (as_rows(rows), as_columns(rows))
    ]


def check_predict(response: Any) -> None:
    if response.status_code == 200:
        answer = response.json()
        for one in answer.get("results", [answer]):
            assert one["predictions"]
            for row in one["predictions"]:
                values = [row[name] for name in row if name != "ts"]
                assert all(isinstance(value, float) for value in values), row
    else:
        assert response.status_code in {404, 422}
        assert response.json()["error"]["message"]


def check_infer(response: Any) -> None:
    if response.status_code == 200:
        for output in response.json()["outputs"]:
            kind = str if output["datatype"] == "BYTES" else float
            assert all(isinstance(value, kind) for value in output["data"])
    else:
        assert response.status_code == 400
        assert list(response.json()) == ["error"]


@bounded
@given(content=st.binary(max_size=60) | anything.map(text_of))
def test_any_body_is_answered(client: TestClient, content: bytes) -> None:
    check_predict(client.post("/predict", content=content))
    check_infer(client.post(INFER, content=content))


@bounded
@given(data=st.data())
def test_any_change_of_a_valid_request_is_answered(client: TestClient, data: st.DataObject) -> None:
    body = data.draw(mutated(data.draw(st.sampled_from(VALID))))
    check_predict(client.post("/predict", content=text_of(body)))


@bounded
@given(data=st.data())
def test_any_change_of_valid_tensors_is_answered(client: TestClient, data: st.DataObject) -> None:
    body = data.draw(mutated(data.draw(st.sampled_from(TENSORS))))
    check_infer(client.post(INFER, content=text_of(body)))


magnitudes = st.sampled_from([0.0, 1e-300, 1e-9, 1.0, 1e9, 1e15])


@bounded
@given(
    kind=st.sampled_from(KINDS),
    values=st.lists(magnitudes, min_size=11, max_size=11),
    last=st.lists(magnitudes, min_size=11, max_size=11),
    step=st.integers(1, 400_000_000),
    steps=st.sampled_from([1, 3, 50]),
)
def test_any_numbers_that_are_allowed_give_finite_forecasts(
    client: TestClient,
    kind: str,
    values: list[float],
    last: list[float],
    step: int,
    steps: int,
) -> None:
    times = pd.date_range("1950-01-01", periods=7, freq=f"{step}s")
    rows = pd.DataFrame([values] * 6 + [last], index=times, columns=VALUE_COLUMNS)
    body = {
        "data": columns_of(rows),
        "station": kind,
        "inference_length": steps,
        "levels": [0.5, 0.9],
    }
    check_predict(client.post("/predict", content=text_of(body)))


VALID = valid_bodies()
TENSORS = valid_tensors()
VALUE_COLUMNS = [name for name in VALID[0]["data"] if name != "time"]


def test_documented_operations_never_fail(own_store: DirectoryStore) -> None:
    app = application(own_store, token=TOKEN)
    document = schemathesis.openapi.from_asgi("/openapi.json", app)
    tried = []
    for operation in document.get_all_operations():
        case = operation.ok().as_strategy()

        @settings(
            max_examples=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        )
        @given(case=case)
        def answers(case: Any) -> None:
            response = case.call(headers={"Authorization": f"Bearer {TOKEN}"})
            case.validate_response(response, checks=CHECKS)

        answers()
        tried.append(operation.ok().path)
    assert {"/predict", "/predict/file", "/v2/models/{name}/infer"} < set(tried)
