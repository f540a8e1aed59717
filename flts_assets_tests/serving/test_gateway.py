from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

from flts_assets.stores.directory import DirectoryStore
from flts_assets.stores.object_store import BUCKETS
from flts_assets_tests.serving.conftest import TOKEN
from flts_assets_tests.serving.deployed import application, promote, recipe_of


def test_object_is_downloaded_as_it_stands(
    own_client: TestClient, own_store: DirectoryStore
) -> None:
    own_store.put("dataset", "cells/A.csv", b"time,down\n\x00\xff")
    response = own_client.get("/download/dataset/cells/A.csv")
    assert response.status_code == 200
    assert response.content == b"time,down\n\x00\xff"
    assert response.headers["Content-Type"] == "text/csv"
    assert response.headers["Content-Disposition"] == 'attachment; filename="A.csv"'


def test_head_tells_the_same_without_the_bytes(
    own_client: TestClient, own_store: DirectoryStore
) -> None:
    own_store.put("dataset", "A.parquet", b"12345")
    got, head = (
        own_client.request(method, "/download/dataset/A.parquet") for method in ("GET", "HEAD")
    )
    assert head.status_code == 200
    assert head.content == b""
    assert head.headers["Content-Length"] == "5"
    assert head.headers["Content-Type"] == "application/vnd.apache.parquet"
    assert head.headers == got.headers
    assert own_client.head("/download/dataset/B.parquet").status_code == 404


@pytest.mark.parametrize("bucket", BUCKETS)
def test_object_that_does_not_stand_is_not_found(
    own_client: TestClient, tmp_path: Path, bucket: str
) -> None:
    response = own_client.get(f"/download/{bucket}/nothing.json")
    assert response.status_code == 404
    assert f"{bucket}/nothing.json" in response.json()["error"]["message"]
    assert str(tmp_path) not in response.text, "where the store is, is nobody's business"


@pytest.mark.parametrize("bucket", ["dagster", "recipes.", "..", ".locks", "mlflow.db"])
def test_other_buckets_are_refused(own_client: TestClient, bucket: str) -> None:
    response = own_client.get(f"/download/{bucket.replace('.', '%2e')}/x")
    assert response.status_code == 422
    assert response.json()["error"]["field"] == "bucket"
    assert "dataset" in response.json()["error"]["allowed"]


@pytest.mark.parametrize(
    "key",
    [
        "%2e%2e/dagster.db",
        "a/%2e%2e/%2e%2e/x",
        ".tmp/3f".replace(".", "%2e"),
        "a%00b",
        "a//b",
        "a b",
        "",
        "%2fetc%2fpasswd",
        "a%0dX-Injected:%201",
        "x" * 901,
        "%C3%A9",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_keys_that_lead_elsewhere_are_refused(
    own_client: TestClient, method: str, key: str
) -> None:
    verb = "upload" if method == "POST" else "download"
    response = own_client.request(method, f"/{verb}/dataset/{key}")
    assert response.status_code == 422
    if method != "HEAD":
        assert response.json()["error"]["field"] == "object"


def test_processed_data_without_a_hash_are_the_champions_train_rows(
    store: DirectoryStore, client: TestClient
) -> None:
    path = "/download/processed-data/processed_data.parquet"
    newest = client.get(path)
    assert newest.status_code == 200
    assert newest.headers["Content-Disposition"] == 'attachment; filename="processed_data.parquet"'
    assert newest.headers["Content-Type"] == "application/vnd.apache.parquet"
    assert client.head(path).headers == newest.headers
    for content, kind in (
        (newest.content, "ENSEMBLE"),
        (client.get(path, params={"station": "GRU"}).content, "GRU"),
    ):
        table = pq.read_table(io.BytesIO(content))
        assert table.schema.metadata[b"config_hash"].decode() == recipe_of(kind).config_hash
        assert table.num_rows == 120
        assert table.num_columns == 17


def test_train_rows_are_those_of_the_champion_and_not_newer_ones(
    own_client: TestClient, own_store: DirectoryStore
) -> None:
    path = "/download/processed-data/processed_data.parquet"
    expected = own_client.get(path).content
    prefix = f"{recipe_of('TREES').config_hash}/processed_data/"
    (manifest,) = (
        head.key
        for head in own_store.list("processed-data", prefix)
        if head.key.endswith("/manifest.json")
    )
    other = json.loads(own_store.get("processed-data", manifest))
    other["place"]["fingerprint"] = "0" * 64
    other["files"]["train.parquet"]["key"] = "elsewhere"
    own_store.put("processed-data", f"{prefix}0/0/manifest.json", json.dumps(other).encode())
    assert own_client.get(path).content == expected


def test_train_rows_that_are_gone_are_not_found(
    own_client: TestClient, own_store: DirectoryStore
) -> None:
    for head in list(own_store.list("processed-data")):
        own_store.delete("processed-data", head.key)
    response = own_client.get("/download/processed-data/processed_data.parquet")
    assert response.status_code == 404
    assert "--force" in response.json()["error"]["message"]


def test_uploaded_raw_data_are_stored_and_may_be_replaced(
    own_client: TestClient, own_store: DirectoryStore
) -> None:
    for content in (b"first", b"second, and longer"):
        response = own_client.post("/upload/dataset/New.csv", content=content)
        assert response.status_code == 201
        assert response.json() == {
            "status": "SUCCESS",
            "bucket": "dataset",
            "object": "New.csv",
            "size": len(content),
        }
        assert own_store.get("dataset", "New.csv") == content


def test_file_of_a_form_is_stored_and_not_the_form(
    own_client: TestClient, own_store: DirectoryStore
) -> None:
    content = bytes(range(256)) * 9_000
    response = own_client.post("/upload/dataset/New.csv", files={"file": ("x.csv", content)})
    assert response.status_code == 201
    assert own_store.get("dataset", "New.csv") == content


def test_log_object_is_written_once(own_client: TestClient, own_store: DirectoryStore) -> None:
    path = "/upload/inference-logs/me/2024-01-01/a.jsonl"
    assert own_client.post(path, content=b"first").status_code == 201
    assert own_client.post(path, content=b"second").status_code == 409
    assert own_store.get("inference-logs", "me/2024-01-01/a.jsonl") == b"first"


@pytest.mark.parametrize("bucket", sorted(set(BUCKETS) - {"dataset", "inference-logs"}))
def test_records_of_the_platform_cannot_be_uploaded(
    own_client: TestClient, own_store: DirectoryStore, bucket: str
) -> None:
    before = {head.key: head.version for head in own_store.list(bucket)}
    response = own_client.post(f"/upload/{bucket}/x.json", content=b"{}")
    assert response.status_code == 403
    assert response.json()["error"]["allowed"] == "dataset, inference-logs"
    assert {head.key: head.version for head in own_store.list(bucket)} == before


def test_service_without_a_token_takes_no_uploads(
    client: TestClient, store: DirectoryStore
) -> None:
    response = client.post("/upload/dataset/x.csv", content=b"x")
    assert response.status_code == 403
    assert "FLTS_SERVING_TOKEN" in response.json()["error"]["message"]
    assert store.head("dataset", "x.csv") is None


def test_upload_without_the_token_is_unauthorized(
    own_client: TestClient, own_store: DirectoryStore
) -> None:
    del own_client.headers["Authorization"]
    assert own_client.post("/upload/dataset/x.csv", content=b"x").status_code == 401
    assert own_client.get("/download/dataset/x.csv").status_code == 401
    assert own_store.head("dataset", "x.csv") is None


def test_upload_over_the_limit_is_refused_and_nothing_is_stored(
    own_store: DirectoryStore,
) -> None:
    with TestClient(application(own_store, token=TOKEN, max_body=10)) as client:
        response = client.post(
            "/upload/dataset/x.csv",
            content=b"x" * 11,
            headers={"Authorization": f"Bearer {TOKEN}"},
        )
    assert response.status_code == 413
    assert own_store.head("dataset", "x.csv") is None


def test_key_that_goes_on_where_an_object_stands_is_refused(own_client: TestClient) -> None:
    assert own_client.post("/upload/dataset/a", content=b"x").status_code == 201
    response = own_client.post("/upload/dataset/a/b", content=b"x")
    assert response.status_code == 422
    assert response.json()["error"]["kind"] == "InvalidKeyError"
    assert own_client.get("/download/dataset/a/b").status_code == 404


def test_new_champion_brings_its_own_train_rows(
    own_client: TestClient, own_store: DirectoryStore
) -> None:
    promote(own_store, "GRU")
    own_client.app.state.service.champions.refresh()  # type: ignore[attr-defined]
    content = own_client.get("/download/processed-data/processed_data.parquet").content
    metadata = pq.read_table(io.BytesIO(content)).schema.metadata
    assert metadata[b"config_hash"].decode() == recipe_of("GRU").config_hash


def test_no_answer_names_a_place_on_this_machine(
    own_client: TestClient, own_store: DirectoryStore
) -> None:
    assert own_client.post("/upload/dataset/a.csv", content=b"x").status_code == 201
    answers = [
        own_client.post("/upload/dataset/a.csv/b.csv", content=b"x"),
        own_client.get("/download/dataset/a.csv/b.csv"),
        own_client.get("/stations/TREES/recent"),
    ]
    assert [one.status_code for one in answers] == [422, 404, 404]
    for one in answers:
        assert str(own_store.root) not in one.text
        assert one.json()["error"]["message"]
