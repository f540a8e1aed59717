from __future__ import annotations

import io
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

from flts_assets.forecasting.demo_cell import to_csv
from flts_assets.forecasting.parquet import to_parquet
from flts_assets_tests.serving.deployed import KINDS, columns_of

CSV = "text/csv"
PARQUET = "application/vnd.apache.parquet"
BANDS = ["down-lo-90", "up-lo-90", "down-hi-90", "up-hi-90"]


def as_parquet(rows: pd.DataFrame) -> bytes:
    return to_parquet(rows.reset_index())


def read(response: Any) -> pd.DataFrame:
    assert response.status_code == 200, response.text
    if response.headers["Content-Type"] == PARQUET:
        return pd.read_parquet(io.BytesIO(response.content))
    assert response.headers["Content-Type"].startswith(CSV)
    return pd.read_csv(
        io.BytesIO(response.content), parse_dates=["ts"], float_precision="round_trip"
    )


def post(client: TestClient, content: bytes, media_type: str = CSV, **params: Any) -> Any:
    headers = {"Content-Type": media_type}
    return client.post("/predict/file", content=content, headers=headers, params=params)


@pytest.mark.parametrize("kind", KINDS)
def test_file_is_answered_with_the_numbers_of_predict(
    client: TestClient, rows: pd.DataFrame, kind: str
) -> None:
    body = {
        "data": columns_of(rows),
        "station": kind,
        "inference_length": 6,
        "levels": [0.9],
    }
    expected = pd.DataFrame(client.post("/predict", json=body).json()["predictions"])
    asked = {"station": kind, "inference_length": 6, "levels": "0.9"}
    for content, media_type in ((to_csv(rows), CSV), (as_parquet(rows), PARQUET)):
        response = post(client, content, media_type, **asked)
        forecasts = read(response)
        assert response.headers["X-FLTS-Run-Id"].startswith(f"run-{kind}")
        assert list(forecasts) == list(expected)
        assert set(BANDS) < set(forecasts)
        assert (forecasts["ts"] == pd.to_datetime(expected["ts"])).all()
        np.testing.assert_array_equal(
            forecasts.drop(columns="ts").to_numpy(), expected.drop(columns="ts").to_numpy()
        )


@pytest.mark.parametrize(
    ("name", "media_type", "answered"),
    [
        ("rows.csv", "application/octet-stream", CSV),
        ("ROWS.PARQUET", "application/octet-stream", PARQUET),
        ("rows", CSV, CSV),
        ("rows", "application/x-parquet", PARQUET),
    ],
)
def test_file_of_a_form_is_known_by_name_or_content_type(
    client: TestClient, rows: pd.DataFrame, name: str, media_type: str, answered: str
) -> None:
    content = to_csv(rows) if answered == CSV else as_parquet(rows)
    response = client.post(
        "/predict/file",
        files={"file": (name, content, media_type)},
        data={"comment": "a field beside the file"},
        params={"inference_length": 3},
    )
    assert response.headers["Content-Type"].startswith(answered)
    ending = "csv" if answered == CSV else "parquet"
    assert response.headers["Content-Disposition"] == f'attachment; filename="forecast.{ending}"'
    assert len(read(response)) == 3


def test_parquet_may_hold_whole_numbers_and_times_of_another_unit(
    client: TestClient, rows: pd.DataFrame
) -> None:
    rows = rows.assign(down=rows["down"].round())
    other = rows.reset_index().astype({"time": "datetime64[s]", "down": "int64"})
    expected = read(post(client, as_parquet(rows), PARQUET))
    turned = other[other.columns[::-1]]
    pd.testing.assert_frame_equal(read(post(client, to_parquet(turned), PARQUET)), expected)


def emptied(rows: pd.DataFrame) -> pd.DataFrame:
    rows = rows.copy()
    rows.iloc[[4, 9], rows.columns.get_loc("mcs_up")] = np.nan
    return rows


def with_value(value: float) -> Any:
    def changed(rows: pd.DataFrame) -> pd.DataFrame:
        rows = rows.copy()
        rows.iloc[2, 1] = value
        return rows

    return changed


FAULTS: dict[str, tuple[Any, str, str]] = {
    # change of the rows -> field, part of the message
    "empty cell": (emptied, "mcs_up", "column 'mcs_up', data row 5: the cell is empty"),
    "negative": (with_value(-1.0), "up", "column 'up', data row 3"),
    "infinite": (with_value(np.inf), "up", "column 'up', data row 3"),
    "huge": (with_value(1e200), "up", "column 'up', data row 3"),
    "gap": (lambda rows: rows.drop(rows.index[7]), "time", "data row 8: the grid is irregular"),
    "falling": (lambda rows: rows[::-1], "time", "data row 2: the timestamp lies before"),
    "repeated": (lambda rows: pd.concat([rows, rows[-1:]]), "time", "stands in row 160 already"),
    "missing column": (lambda rows: rows.drop(columns="up"), "up", "up"),
    "extra column": (lambda rows: rows.assign(x=1.0), "x", "x"),
    "no rows": (lambda rows: rows[:0], "body", "rows"),
}


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("media_type", [CSV, PARQUET])
def test_fault_is_told_with_its_place(
    client: TestClient, rows: pd.DataFrame, media_type: str, name: str
) -> None:
    change, field, told = FAULTS[name]
    content = (to_csv if media_type == CSV else as_parquet)(change(rows))
    response = post(client, content, media_type)
    assert response.status_code == 422
    error = response.json()["error"]
    assert error["kind"] == "RawDataError"
    assert error["field"] == field
    assert told in error["message"]
    assert name != "infinite" or error["received"] == "inf"


@pytest.mark.parametrize(
    "times",
    [
        pa.array(["2024-01-01"] * 30),
        pa.array(range(30)),
        pa.array(pd.date_range("2024", periods=30, freq="2min", tz="UTC")),
        pa.array([None] * 30),
        pa.array([None, *pd.date_range("2024", periods=29, freq="2min")], pa.timestamp("ns")),
        pa.array([10**15] * 30, pa.timestamp("ms")),
    ],
    ids=["text", "numbers", "zoned", "null", "one null", "beyond nanoseconds"],
)
def test_parquet_times_of_another_kind_are_refused(
    client: TestClient, rows: pd.DataFrame, times: pa.Array
) -> None:
    table = pa.table({**{name: rows[name].iloc[:30] for name in rows}, "time": times})
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    response = post(client, buffer.getvalue(), PARQUET)
    assert response.status_code == 422
    assert "time" in response.json()["error"]["message"]


def test_parquet_of_more_rows_than_memory_holds_is_refused(client: TestClient) -> None:
    table = pa.table({"time": pa.nulls(3_000_000, pa.float64())})
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    assert len(buffer.getvalue()) < 10_000
    response = post(client, buffer.getvalue(), PARQUET)
    assert response.status_code == 422
    assert response.json()["error"]["received"] == 3_000_000


@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"PAR1xxxxPAR1", b"time,down\n", b"\xff\xfe\x00"]
)
@pytest.mark.parametrize("media_type", [CSV, PARQUET])
def test_file_that_is_none_is_refused(client: TestClient, content: bytes, media_type: str) -> None:
    assert post(client, content, media_type).status_code == 422


def test_truncated_parquet_is_refused(client: TestClient, rows: pd.DataFrame) -> None:
    content = as_parquet(rows)
    for cut in (content[:-9], content[:200], content[:200] + content[300:]):
        assert post(client, cut, PARQUET).status_code == 422


@pytest.mark.parametrize("media_type", ["", "application/json", "text/html; charset=utf-8"])
def test_other_formats_are_refused(client: TestClient, media_type: str) -> None:
    response = post(client, b"x", media_type)
    assert response.status_code == 422
    assert response.json()["error"]["field"] == "Content-Type"
    assert CSV in response.json()["error"]["allowed"]


@pytest.mark.parametrize(
    ("media_type", "content"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=b", b"x"),
        ("multipart/form-data; boundary=b", b"--b\r\n\r\nx\r\n--b--\r\n"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n--b--\r\n',
        ),
    ],
    ids=["no boundary", "no part", "nameless part", "no file"],
)
def test_form_without_a_file_is_refused(
    client: TestClient, media_type: str, content: bytes
) -> None:
    response = post(client, content, media_type)
    assert response.status_code == 422
    assert response.json()["error"]["field"] == "body"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("inference_length", "0"),
        ("inference_length", "10001"),
        ("inference_length", "1.0"),
        ("inference_length", "9" * 5000),
        ("inference_length", "٣"),
        ("levels", "0.77"),
        ("levels", "wide"),
        ("levels", "nan"),
        ("levels", ""),
        ("steps", "3"),
    ],
)
def test_option_at_fault_is_named(
    client: TestClient, rows: pd.DataFrame, name: str, value: str
) -> None:
    response = post(client, to_csv(rows), **{name: value})
    assert response.status_code == 422
    assert response.json()["error"]["field"] == name


def test_unknown_station_is_not_found(client: TestClient, rows: pd.DataFrame) -> None:
    assert post(client, to_csv(rows), station="Atlantis").status_code == 404
