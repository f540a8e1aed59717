"""Which promotions are served, which are refused, and what becomes of those."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from threading import Event
from typing import Any, BinaryIO

import pandas as pd
import pytest
from starlette.testclient import TestClient

from flts_assets.errors import ObjectStoreError
from flts_assets.serving import champions as serving_champions
from flts_assets.stores.artifacts import new_attempt
from flts_assets.stores.directory import DirectoryStore
from flts_assets.stores.object_store import MODEL_PROMOTION, ObjectHead
from flts_assets.stores.pointer import Promotion
from flts_assets_tests.serving.deployed import application, columns_of, promote, recipe_of
from flts_assets_tests.serving.processes import until

TREES = recipe_of("TREES").config_hash


def key_of(config_hash: str = TREES) -> str:
    return f"global/{config_hash}/current.json"


def alter_pointer(store: DirectoryStore, **changes: Any) -> None:
    record = json.loads(store.get(MODEL_PROMOTION, key_of()))
    store.put(MODEL_PROMOTION, key_of(), json.dumps({**record, **changes}).encode())


def refused(client: TestClient) -> dict[str, str]:
    """config hash -> why"""
    return dict(client.get("/readyz").json()["refused"])


def served(client: TestClient) -> list[str]:
    return sorted(one["station"] for one in client.get("/stations").json()["champions"])


@dataclass(frozen=True)
class Watched(DirectoryStore):
    """A directory that counts what is read, and fails where it is told to."""

    opened: Counter[str] = field(default_factory=Counter)
    failing: set[str] = field(default_factory=set)
    """ends of keys"""

    def open(self, bucket: str, key: str) -> BinaryIO:
        self.opened[key] += 1
        if key.endswith(tuple(self.failing)):
            raise ObjectStoreError("the store is out of order", local="/a/place")
        return super().open(bucket, key)


@pytest.fixture
def watched(own_store: DirectoryStore) -> Watched:
    return Watched(own_store.root)


def model_key(promotion: Promotion, name: str) -> str:
    return promotion.model.file_key(promotion.attempt, name)


def test_each_file_of_a_champion_is_read_once(watched: Watched) -> None:
    with TestClient(application(watched, log_predictions=False)) as client:
        assert served(client) == ["TREES"]
    models = {key: times for key, times in watched.opened.items() if "/trees_model/" in key}
    assert {key.rpartition("/")[2] for key in models} > {"manifest.json", "model.onnx"}
    assert set(models.values()) == {1}


def test_refused_promotion_is_tried_again_and_served_when_the_store_recovers(
    watched: Watched, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving_champions, "RETRY_S", 0.05)
    watched.failing.add("model.onnx")
    with TestClient(application(watched, poll_s=0.01)) as client:
        assert client.get("/readyz").status_code == 503
        assert refused(client) == {TREES: "the store is out of order"}
        tries = watched.opened.total()
        until(lambda: watched.opened.total() > 3 * tries)
        assert caplog.text.count('"champion_refused"') == 1
        assert "/a/place" in caplog.text
        watched.failing.clear()
        until(lambda: client.get("/readyz").status_code == 200)
        assert refused(client) == {}


def test_what_stays_refused_is_tried_ever_more_seldom(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(serving_champions.time, "monotonic", lambda: now)
    watched.failing.add("model.onnx")
    champions = application(watched).state.service.champions
    tried = []
    for second in range(200):
        now = float(second)
        before = watched.opened[key_of()]
        champions.refresh()
        if watched.opened[key_of()] > before:
            tried.append(second)
    assert tried == [0, 1, 3, 7, 15, 31, 63, 123, 183]
    alter_pointer(watched, reason="another")
    now += 1  # a new promotion waits for nothing
    before = watched.opened[key_of()]
    champions.refresh()
    assert watched.opened[key_of()] == before + 1


def alter_file(name: str, content: bytes | None) -> Callable[[DirectoryStore, Promotion], None]:
    def alter(store: DirectoryStore, promotion: Promotion) -> None:
        key = model_key(promotion, name)
        whole = store.get("models", key)
        store.put("models", key, whole[:-1] if content is None else content)

    return alter


def trained_with(**libraries: str) -> Callable[[DirectoryStore, Promotion], None]:
    def alter(store: DirectoryStore, promotion: Promotion) -> None:
        key = model_key(promotion, "manifest.json")
        manifest = json.loads(store.get("models", key))
        manifest["libraries"] |= libraries
        store.put("models", key, json.dumps(manifest).encode())

    return alter


def leave_out(store: DirectoryStore, promotion: Promotion) -> None:
    """Of a manifest that is otherwise as it should be."""
    key = model_key(promotion, "manifest.json")
    manifest = json.loads(store.get("models", key))
    del manifest["files"]["example.json"]
    store.put("models", key, json.dumps(manifest).encode())


def replace_example(content: bytes) -> Callable[[DirectoryStore, Promotion], None]:
    def replace(store: DirectoryStore, promotion: Promotion) -> None:
        key = model_key(promotion, "manifest.json")
        manifest = json.loads(store.get("models", key))
        record = manifest["files"]["example.json"]
        record |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        store.put("models", key, json.dumps(manifest).encode())
        store.put("models", record["key"], content)

    return replace


def remove(store: DirectoryStore, promotion: Promotion) -> None:
    store.delete("models", model_key(promotion, "model.onnx"))


FAULTS: dict[str, tuple[Callable[[DirectoryStore, Promotion], None], str]] = {
    "truncated model": (alter_file("model.onnx", None), "is not what its manifest says"),
    "altered model": (alter_file("model.onnx", b"x"), "is not what its manifest says"),
    "missing model": (remove, "is missing"),
    "no manifest": (alter_file("manifest.json", b"{"), "is not a manifest"),
    "no example": (leave_out, "no recorded forecast"),
    "empty example": (replace_example(b""), "recorded forecast cannot be read"),
    "example of no rows": (replace_example(b'{"rows": {}}'), "recorded forecast cannot be read"),
    "example that is a list": (replace_example(b"[]"), "recorded forecast cannot be read"),
    "another numpy": (trained_with(numpy="1.26.4"), "another major version of numpy"),
    "another onnxruntime": (trained_with(onnxruntime="2.0"), "another major version of onnxr"),
    "another flts": (trained_with(flts="1.0.0"), "another major version of flts"),
    "pointer of another hash": (
        lambda store, _: alter_pointer(store, config_hash="0" * 64),
        "another config hash",
    ),
    "pointer of another identifier": (
        lambda store, _: alter_pointer(store, identifier="somebody"),
        "another identifier",
    ),
    "no pointer": (
        lambda store, _: store.put(MODEL_PROMOTION, key_of(), b"[]"),
        "no promotion record",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_champion_at_fault_is_refused_with_the_reason_and_the_others_answer(
    own_store: DirectoryStore, name: str
) -> None:
    alter, reason = FAULTS[name]
    promote(own_store, "GRU")
    alter(own_store, promote(own_store, "TREES"))
    with TestClient(application(own_store)) as client:
        assert served(client) == ["GRU"]
        assert list(refused(client)) == [TREES]
        assert reason in refused(client)[TREES]
        assert str(own_store.root) not in client.get("/readyz").text
        assert "flts_champions_refused 1.0" in client.get("/metrics").text


def test_other_minor_versions_are_served_and_told_and_logged_once(
    own_store: DirectoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    served_with = {name: version(name) for name in ("numpy", "onnxruntime")}
    major = served_with["numpy"].partition(".")[0]
    for kind in ("TREES", "GRU"):
        trained_with(numpy=f"{major}.999.0", torch="0.1", **{"scikit-learn": "99.0"})(
            own_store, promote(own_store, kind)
        )
    with TestClient(application(own_store)) as client:
        assert served(client) == ["GRU", "TREES"]
        assert client.get("/model").json()["library_differences"] == [
            {"library": "numpy", "trained": f"{major}.999.0", "served": served_with["numpy"]}
        ]
    assert caplog.text.count('"library_differs"') == 1


def test_model_of_our_own_versions_differs_in_none(client: TestClient) -> None:
    assert client.get("/model").json()["library_differences"] == []


def test_pointer_copied_under_another_hash_is_not_served_as_that_station(
    own_store: DirectoryStore,
) -> None:
    gru = promote(own_store, "GRU").config_hash
    own_store.put(MODEL_PROMOTION, key_of(), own_store.get(MODEL_PROMOTION, key_of(gru)))
    with TestClient(application(own_store)) as client:
        assert served(client) == ["GRU"]
        assert "another config hash" in refused(client)[TREES]


def test_pointer_to_the_manifest_of_another_model_is_refused(own_store: DirectoryStore) -> None:
    own, other = promote(own_store, "TREES"), promote(own_store, "GRU")
    manifest = own_store.get("models", model_key(other, "manifest.json"))
    own_store.put("models", model_key(own, "manifest.json"), manifest)
    with TestClient(application(own_store)) as client:
        assert served(client) == ["GRU"]
        assert "another place" in refused(client)[TREES]


def test_objects_beside_the_pointers_are_no_pointers(own_store: DirectoryStore) -> None:
    for key in ("current.json", "champions.json", f"{TREES}/old/current.json"):
        own_store.put(MODEL_PROMOTION, f"global/{key}", b"{}")
    with TestClient(application(own_store)) as client:
        assert (served(client), refused(client)) == (["TREES"], {})


def test_pointer_that_vanishes_before_it_is_read_is_gone(own_store: DirectoryStore) -> None:
    class Vanishing(DirectoryStore):
        def get_with_head(self, bucket: str, key: str) -> Any:
            if key == key_of():
                self.delete(bucket, key)
            return super().get_with_head(bucket, key)

    promote(own_store, "GRU")
    with TestClient(application(Vanishing(own_store.root))) as client:
        assert (served(client), refused(client)) == (["GRU"], {})


def test_look_that_fails_is_counted_and_what_was_served_goes_on(
    own_store: DirectoryStore, tmp_path: Path
) -> None:
    broken = DirectoryStore(tmp_path / "broken")
    broken.root.mkdir()
    pointers = broken.root / MODEL_PROMOTION
    pointers.symlink_to(pointers)  # to itself: no bucket that can be read
    breaks = Event()

    class Breaking(DirectoryStore):
        """From one look to the next: one that was half done would find no pointers."""

        def list(self, bucket: str, prefix: str = "") -> Iterator[ObjectHead]:
            return broken.list(bucket, prefix) if breaks.is_set() else super().list(bucket, prefix)

    with TestClient(application(Breaking(own_store.root), poll_s=0.01)) as client:
        assert "flts_polls_failed_total 0.0" in client.get("/metrics").text
        breaks.set()
        until(lambda: "flts_polls_failed_total 0.0" not in client.get("/metrics").text)
        assert served(client) == ["TREES"]


def test_promotion_refused_by_a_look_is_told_until_a_good_one_comes(
    own_store: DirectoryStore,
) -> None:
    with TestClient(application(own_store, poll_s=0.01)) as client:
        before = client.get("/model").json()["champion"]["run_id"]
        # In one write: a look between two of them would find a good promotion.
        alter_pointer(own_store, attempt=new_attempt())
        until(lambda: "flts_champions_refused 1.0" in client.get("/metrics").text)
        assert client.get("/model").json()["champion"]["run_id"] == before
        good = promote(own_store, "TREES")
        until(lambda: "flts_champions_refused 0.0" in client.get("/metrics").text)
        assert client.get("/model").json()["champion"]["run_id"] == good.run_id


def test_promotion_at_a_moment_without_a_zone_is_refused_and_the_others_answer(
    own_store: DirectoryStore, rows: pd.DataFrame
) -> None:
    promote(own_store, "GRU")
    alter_pointer(own_store, timestamp="2030-01-01T00:00:00")
    with TestClient(application(own_store)) as client:
        assert served(client) == ["GRU"]
        assert "timestamp" in refused(client)[TREES]
        answer = client.post("/predict", json={"data": columns_of(rows)})
        assert (answer.status_code, answer.json()["station"]) == (200, "GRU")


def history(client: TestClient) -> list[str]:
    answer = client.get("/model")
    assert answer.status_code == 200
    assert answer.json()["history"][0] == answer.json()["champion"]
    return [one["run_id"] for one in answer.json()["history"]]


def test_history_ends_where_a_record_is_gone_and_the_champion_is_told_all_the_same(
    own_store: DirectoryStore,
) -> None:
    second, third = promote(own_store, "TREES"), promote(own_store, "TREES")
    assert second.previous
    own_store.delete(MODEL_PROMOTION, second.previous)
    with TestClient(application(own_store)) as client:
        assert history(client) == [third.run_id, second.run_id]
        own_store.put(MODEL_PROMOTION, second.previous, b"no record")
        assert history(client) == [third.run_id, second.run_id]


def test_history_is_bounded_and_each_record_is_read_once(watched: Watched) -> None:
    (current,) = (head.key for head in watched.list(MODEL_PROMOTION, f"global/{TREES}/history/"))
    record = json.loads(watched.get(MODEL_PROMOTION, current))
    for number in range(60):
        key = f"global/{TREES}/history/{number:02}.json"
        previous = f"global/{TREES}/history/{number - 1:02}.json" if number else None
        old = {**record, "run_id": f"run-{number}", "previous": previous}
        watched.put(MODEL_PROMOTION, key, json.dumps(old).encode())
    alter_pointer(watched, previous=f"global/{TREES}/history/59.json")
    with TestClient(application(watched)) as client:
        expected = [record["run_id"], *(f"run-{number}" for number in range(59, 10, -1))]
        assert history(client) == expected
        before = watched.opened.total()
        assert history(client) == expected
        assert watched.opened.total() == before
