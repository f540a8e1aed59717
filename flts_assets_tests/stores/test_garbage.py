from __future__ import annotations

import json
import random
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from flts_assets.errors import ArtifactError, PromotionError
from flts_assets.stores.artifacts import Artifacts, Manifest, Outputs, Place, new_attempt
from flts_assets.stores.directory import DirectoryStore
from flts_assets.stores.garbage import every_promotion, find_garbage, remove
from flts_assets.stores.object_store import MODEL_PROMOTION, MODELS, PROCESSED_DATA
from flts_assets.stores.pointer import Pointer, Promotion

HASH = "c" * 64
LATER = datetime.now(timezone.utc) + timedelta(days=365)
EARLIER = datetime.now(timezone.utc) - timedelta(days=365)


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path)


def write(
    store: DirectoryStore,
    stage: str,
    content: bytes,
    inputs: dict[str, str],
    name: str = "data",
    fingerprint: str = "f" * 64,
) -> Manifest:
    """A new attempt that becomes current."""
    bucket = PROCESSED_DATA if stage == "processed_data" else MODELS
    place = Place(bucket=bucket, config_hash=HASH, stage=stage, fingerprint=fingerprint)
    artifacts = Artifacts(store)
    return artifacts.write(
        place,
        Outputs({name: content}, {}),
        inputs,
        code_version="1",
        attempt=new_attempt(),
        replacing=artifacts.version(place),
    )


def board_of(store: DirectoryStore, model: Manifest) -> Manifest:
    trained = {"fingerprint": model.place.fingerprint, "attempt": model.attempt}
    board = {"entries": [{"name": "GRU", "trained": trained}, {"name": "mean", "trained": None}]}
    inputs = {"gru_model": model.identity}
    return write(store, "leaderboard", json.dumps(board).encode(), inputs, "leaderboard.json")


def promote(store: DirectoryStore, model: Manifest, board: Manifest) -> None:
    pointer = Pointer(store, HASH, None)
    champion, version = pointer.read() or (None, None)
    promotion = Promotion(
        run_id=f"run-{model.attempt}",
        model_type="GRU",
        config_hash=HASH,
        model_uri="runs:/run/GRU",
        score=0.1,
        timestamp=datetime.now(timezone.utc),
        identifier="global",
        experiment="Default",
        rmse=0.1,
        mae=0.1,
        mse=0.1,
        weights={"rmse": 1.0},
        recipe="some",
        model=model.place,
        attempt=model.attempt,
        leaderboard=board.identity,
        skill=0.1,
        reason="best score",
        actor="a test",
        previous=pointer.key_of(champion),
    )
    pointer.move(promotion, version)


def keys(store: DirectoryStore) -> set[str]:
    return {
        f"{bucket}/{head.key}" for bucket in (PROCESSED_DATA, MODELS) for head in store.list(bucket)
    }


def collect(store: DirectoryStore) -> list[str]:
    found = find_garbage(store, LATER)
    for one in found:
        remove(store, one)
    return [one.attempt for one in found]


def assert_every_named_thing_stands(store: DirectoryStore) -> None:
    artifacts = Artifacts(store)
    for promotion in every_promotion(store):
        model = artifacts.find_attempt(promotion.model, promotion.attempt)
        assert model is not None
        for stage, identity in model.inputs.items():
            source = artifacts.of_identity(PROCESSED_DATA, HASH, stage, identity)
            assert source is not None
            assert artifacts.find_attempt(source.place, source.attempt) == source
        named = artifacts.of_identity(MODELS, HASH, "leaderboard", promotion.leaderboard)
        assert named is not None
        for entry in json.loads(artifacts.read(named, "leaderboard.json"))["entries"]:
            if entry["trained"]:
                assert artifacts.find_attempt(model.place, entry["trained"]["attempt"]) is not None
    for bucket in (PROCESSED_DATA, MODELS):
        for head in store.list(bucket):
            if head.key.endswith("current.json"):
                _, stage, *_ = head.key.split("/")
                place = Place(bucket=bucket, config_hash=HASH, stage=stage, fingerprint="f" * 64)
                assert artifacts.find(place) is not None


def test_nothing_is_garbage_where_everything_is_current(store: DirectoryStore) -> None:
    data = write(store, "processed_data", b"1", {})
    model = write(store, "gru_model", b"2", {"processed_data": data.identity})
    board_of(store, model)
    assert find_garbage(store, LATER) == []


def test_superseded_attempt_is_garbage_until_something_names_it(store: DirectoryStore) -> None:
    old = write(store, "gru_model", b"1", {})
    board = board_of(store, old)
    write(store, "gru_model", b"2", {})
    assert find_garbage(store, LATER) == []  # the current leaderboard names it
    promote(store, old, board)
    newer = board_of(store, write(store, "gru_model", b"3", {}))
    assert len(find_garbage(store, LATER)) == 1  # the second model, which nobody scored
    assert collect(store) != [old.attempt]
    assert_every_named_thing_stands(store)
    assert Artifacts(store).find_attempt(newer.place, newer.attempt) == newer


def test_input_of_a_promoted_model_is_kept_when_other_data_took_its_place(
    store: DirectoryStore,
) -> None:
    data = write(store, "processed_data", b"1", {})
    model = write(store, "gru_model", b"2", {"processed_data": data.identity})
    promote(store, model, board_of(store, model))
    write(store, "processed_data", b"other", {})
    write(store, "gru_model", b"other", {})
    assert find_garbage(store, LATER) == []


def test_one_of_two_attempts_with_the_same_bytes_is_enough(store: DirectoryStore) -> None:
    first = write(store, "processed_data", b"1", {})
    second = write(store, "processed_data", b"1", {})
    assert first.identity == second.identity
    write(store, "gru_model", b"2", {"processed_data": first.identity})
    assert collect(store) == [first.attempt]
    assert Artifacts(store).find(second.place) == second


def test_whole_attempt_is_kept_where_the_current_one_with_its_bytes_is_damaged(
    store: DirectoryStore,
) -> None:
    whole = write(store, "processed_data", b"1", {})
    damaged = write(store, "processed_data", b"1", {})
    write(store, "gru_model", b"2", {"processed_data": whole.identity})
    store.delete(PROCESSED_DATA, damaged.files["data"].key)
    assert find_garbage(store, LATER) == []


def test_files_without_a_manifest_are_garbage_once_they_are_old(store: DirectoryStore) -> None:
    store.create(MODELS, f"{HASH}/gru_model/{'f' * 16}/crashed/weights", b"12345")
    assert find_garbage(store, EARLIER) == []
    (found,) = find_garbage(store, LATER)
    assert (found.attempt, found.size, found.why) == ("crashed", 5, "has no manifest")


def test_attempt_superseded_lately_is_kept_for_runs_that_have_read_it(
    store: DirectoryStore,
) -> None:
    write(store, "gru_model", b"1", {})
    before = datetime.now(timezone.utc)
    write(store, "gru_model", b"2", {})
    assert find_garbage(store, before) == []
    assert len(find_garbage(store, LATER)) == 1


@pytest.mark.parametrize("seed", range(4))
def test_every_pointer_history_and_current_attempt_resolves_afterwards(
    store: DirectoryStore, seed: int
) -> None:
    """Any history of runs, forced runs, promotions and crashes; collected with interruptions."""
    chance = random.Random(seed)
    data = write(store, "processed_data", b"0", {})
    model = write(store, "gru_model", b"0", {"processed_data": data.identity})
    board = board_of(store, model)
    for _ in range(25):
        content = bytes([chance.randrange(3)])
        match chance.randrange(6):
            case 0:
                data = write(store, "processed_data", content, {})
            case 1 | 2:
                model = write(store, "gru_model", content, {"processed_data": data.identity})
            case 3:
                board = board_of(store, model)
            case 4:
                board = board_of(store, model)
                promote(store, model, board)
            case _:
                key = f"{HASH}/gru_model/{'f' * 16}/{new_attempt()}/weights"
                store.create(MODELS, key, content)
    found = find_garbage(store, LATER)
    assert found
    for one in found:  # killed after any number of deletions
        for head in one.heads[: chance.randrange(len(one.heads) + 1)]:
            store.delete(head.bucket, head.key)
        assert_every_named_thing_stands(store)
    collect(store)
    assert find_garbage(store, LATER) == []
    assert_every_named_thing_stands(store)
    assert not any(one.attempt in key for one in found for key in keys(store))


@pytest.mark.parametrize("text", [b"{", b"{}"])
def test_nothing_is_removed_where_a_promotion_cannot_be_read(
    store: DirectoryStore, text: bytes
) -> None:
    store.create(MODEL_PROMOTION, f"global/{HASH}/history/x.json", text)
    with pytest.raises(PromotionError, match="no promotion record"):
        find_garbage(store, LATER)


def test_nothing_is_removed_where_a_manifest_cannot_be_read(store: DirectoryStore) -> None:
    store.create(MODELS, f"{HASH}/gru_model/{'f' * 16}/some/manifest.json", b"{")
    with pytest.raises(ArtifactError, match="is not a manifest"):
        find_garbage(store, LATER)


def test_what_is_no_attempt_is_left_alone(store: DirectoryStore) -> None:
    store.put(MODELS, "notes.txt", b"mine")
    store.put(MODEL_PROMOTION, "global/champions.json", b"[]")
    assert find_garbage(store, LATER) == []
