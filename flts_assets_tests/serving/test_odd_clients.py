"""What strange clients send: answered with what is wrong, never with a 500, and nobody else waits."""

from __future__ import annotations

import asyncio
import gzip
from datetime import timedelta

import pandas as pd
import pytest
from starlette.testclient import TestClient

from flts_assets.serving import limits
from flts_assets.stores.directory import DirectoryStore
from flts_assets_tests.serving.bodiless import answer_without_a_body
from flts_assets_tests.serving.conftest import TOKEN
from flts_assets_tests.serving.deployed import application, columns_of

FORM = "multipart/form-data; boundary=b"
PART = b'--b\r\nContent-Disposition: form-data; name="f"; filename="%s"\r\n\r\ntext\r\n--b--\r\n'


@pytest.mark.parametrize("rows", ["000000099" + "9" * 5000, "000000072999", "99999999", "-2", "٣"])
def test_number_of_recent_rows_is_bounded_however_it_is_written(
    client: TestClient, rows: str
) -> None:
    response = client.get("/stations/TREES/recent", params={"rows": rows})
    assert response.status_code == 422
    assert "a whole number" in response.json()["error"]["message"]


@pytest.mark.parametrize("charset", ["undefined", "punycode", "no-such"])
def test_form_in_a_strange_charset_is_answered(client: TestClient, charset: str) -> None:
    content_type = f"{FORM}; charset={charset}"
    response = client.post(
        "/predict/file", content=PART % b"rows.csv", headers={"content-type": content_type}
    )
    assert response.status_code == 422


def test_name_that_is_half_a_surrogate_pair_is_told_back(client: TestClient) -> None:
    response = client.post(
        "/predict/file",
        content=PART % rb"\ud800",
        headers={"content-type": f"{FORM}; charset=unicode_escape"},
    )
    assert response.status_code == 422
    assert response.json()["error"]["field"] == "Content-Type"


def test_json_of_half_a_surrogate_pair_is_answered(client: TestClient) -> None:
    response = client.post("/predict", content=b'{"data": {}, "\\ud800": 1}')
    assert response.status_code == 422


def test_parquet_whose_column_has_no_name_in_utf_8_is_refused(
    client: TestClient, rows: pd.DataFrame
) -> None:
    content = rows.iloc[:30].reset_index().to_parquet(index=False)
    assert client.post("/predict/file", content=content, headers=PARQUET).status_code == 200
    broken = content.replace(b"rnti_count", b"\xff\xfeti_count")
    response = client.post("/predict/file", content=broken, headers=PARQUET)
    assert response.status_code == 422


PARQUET = {"content-type": "application/vnd.apache.parquet"}


def test_file_of_another_century_is_refused(client: TestClient, rows: pd.DataFrame) -> None:
    old = rows.iloc[:30].copy()
    old.index = pd.DatetimeIndex(old.index - timedelta(days=365 * 150), name=rows.index.name)
    content = old.reset_index().to_parquet(index=False)
    response = client.post("/predict/file", content=content, headers=PARQUET)
    assert response.status_code == 422
    assert "1900" in response.json()["error"]["allowed"]


@pytest.mark.parametrize("kind", ["json", "parquet"])
def test_first_moment_that_is_allowed_is_allowed(
    client: TestClient, rows: pd.DataFrame, kind: str
) -> None:
    old = rows.iloc[:30].copy()
    old.index = pd.date_range("1900-01-01", periods=30, freq="2min", name=rows.index.name)
    if kind == "json":
        response = client.post("/predict", json={"data": columns_of(old)})
    else:
        content = old.reset_index().to_parquet(index=False)
        response = client.post("/predict/file", content=content, headers=PARQUET)
    assert response.status_code == 200


@pytest.mark.parametrize(
    "path", ["/predict", "/predict/file", "/v2/models/TREES/infer", "/upload/dataset/New.csv"]
)
def test_packed_body_is_refused_by_name(
    own_client: TestClient, own_store: DirectoryStore, path: str
) -> None:
    headers = {"Content-Encoding": "gzip", "Content-Type": "text/csv"}
    response = own_client.post(path, content=gzip.compress(b"{}"), headers=headers)
    assert response.status_code == (400 if path.startswith("/v2") else 422)
    assert "Content-Encoding: bodies are read as they come; received: 'gzip'" in response.text
    assert own_store.head("dataset", "New.csv") is None


def test_body_that_says_it_is_not_packed_is_read(client: TestClient, rows: pd.DataFrame) -> None:
    body = {"data": columns_of(rows)}
    response = client.post("/predict", json=body, headers={"Content-Encoding": "Identity"})
    assert response.status_code == 200


def test_body_that_does_not_come_gives_its_place_back(
    own_store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BODY_S", 0.05)
    app = application(own_store)
    told = asyncio.run(answer_without_a_body(app, "/predict"))
    assert told.status == 408
    assert b"the body did not come" in told.body
    assert app.state.service.gate.in_flight == 0


def test_browsers_of_allowed_origins_may_forecast(store: DirectoryStore) -> None:
    origin = "https://here.example"
    asking = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type, authorization",
    }
    with TestClient(application(store, cors_origins=(origin,))) as client:
        allowed = client.options("/predict", headers=asking)
        assert allowed.status_code == 200
        assert allowed.headers["access-control-allow-origin"] == origin
        other = client.options("/predict", headers={**asking, "origin": "https://else.example"})
        assert other.status_code == 400
    with TestClient(application(store)) as client:
        assert (
            "access-control-allow-origin" not in client.options("/predict", headers=asking).headers
        )


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_scheme_of_the_token_is_written_in_any_case(
    own_client: TestClient, rows: pd.DataFrame, scheme: str
) -> None:
    response = own_client.post(
        "/predict",
        json={"data": columns_of(rows.iloc[:30])},
        headers={"authorization": f"{scheme} {TOKEN}"},
    )
    assert response.status_code == 200


def test_token_of_other_letters_is_compared_as_it_was_sent(
    own_store: DirectoryStore, rows: pd.DataFrame
) -> None:
    body = {"data": columns_of(rows.iloc[:30])}
    with TestClient(application(own_store, token="Zürich")) as client:
        for sent, status in (("Zürich", 200), ("Zurich", 401)):
            headers = {b"Authorization": f"Bearer {sent}".encode()}
            assert client.post("/predict", json=body, headers=headers).status_code == status


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (timedelta(minutes=2), ["2018-01-01T01:00:00.500000", "2018-01-01T01:02:00.500000"]),
        (timedelta(milliseconds=250), ["2018-01-01T00:58:00.750000", "2018-01-01T00:58:01.000000"]),
    ],
)
def test_forecasts_go_on_with_a_grid_of_parts_of_seconds(
    client: TestClient, rows: pd.DataFrame, step: timedelta, expected: list[str]
) -> None:
    shifted = rows.iloc[:30].copy()
    last = pd.Timestamp("2018-01-01T00:58:00.500")
    shifted.index = pd.DatetimeIndex(
        [last - step * (29 - row) for row in range(30)], name=rows.index.name
    )
    body = {"data": columns_of(shifted), "station": "TREES", "inference_length": 2}
    answer = client.post("/predict", json=body).json()
    assert [one["ts"] for one in answer["predictions"]] == expected


def test_disk_that_refuses_is_nobodys_request_at_fault(
    own_client: TestClient, own_store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device", str(own_store.root))

    monkeypatch.setattr(DirectoryStore, "put", full)
    monkeypatch.setattr(DirectoryStore, "replace_if_unchanged", full)
    response = own_client.post("/upload/dataset/new.csv", content=b"time\n")
    assert response.status_code == 503
    assert response.headers["retry-after"]
    assert str(own_store.root) not in response.text
