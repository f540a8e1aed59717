from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from flts_assets.errors import PromotionError
from flts_assets.stores.artifacts import Place
from flts_assets.stores.directory import DirectoryStore
from flts_assets.stores.object_store import MODEL_PROMOTION, MODELS
from flts_assets.stores.pointer import GLOBAL, Pointer, Promotion

HASH = "c" * 64
MOVERS = 8
ROUNDS = 5


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path)


@pytest.fixture
def pointer(store: DirectoryStore) -> Pointer:
    return Pointer(store, HASH, None)


def promotion(run_id: str, previous: str | None = None) -> Promotion:
    return Promotion(
        run_id=run_id,
        model_type="GRU",
        config_hash=HASH,
        model_uri=f"runs:/{run_id}/GRU",
        score=0.025,
        timestamp=datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=len(run_id)),
        identifier=GLOBAL,
        experiment="Default",
        rmse=0.036,
        mae=0.019,
        mse=0.001,
        weights={"rmse": 0.5, "mae": 0.3, "mse": 0.2},
        recipe="sample50",
        model=Place(bucket=MODELS, config_hash=HASH, stage="gru_model", fingerprint="f" * 64),
        attempt="a",
        leaderboard="f/a",
        skill=0.1,
        reason="best score",
        actor="a test",
        previous=previous,
    )


def promote(pointer: Pointer, run_id: str) -> Promotion:
    champion, version = pointer.read() or (None, None)
    new = promotion(run_id, pointer.key_of(champion))
    pointer.move(new, version)
    return new


def records(store: DirectoryStore) -> list[str]:
    return [head.key for head in store.list(MODEL_PROMOTION, f"{GLOBAL}/{HASH}/history/")]


def test_promotion_at_a_moment_without_a_zone_is_no_promotion_record(
    store: DirectoryStore, pointer: Pointer
) -> None:
    text = promote(pointer, "run").model_dump_json()
    assert text.count("03Z") == 1
    store.put(MODEL_PROMOTION, pointer.key, text.replace("03Z", "03").encode())
    with pytest.raises(PromotionError, match=r"(?s)no promotion record.*timestamp"):
        pointer.read()


def test_there_is_no_champion_before_the_first_promotion(pointer: Pointer) -> None:
    assert pointer.read() is None
    assert list(pointer.history()) == []
    assert pointer.key_of(None) is None


def test_champion_is_read_back_as_it_was_promoted(pointer: Pointer) -> None:
    new = promote(pointer, "run")
    current = pointer.read()
    assert current is not None
    assert current[0] == new
    assert pointer.key == f"global/{HASH}/current.json"


def test_pointer_object_holds_the_fields_that_the_predecessors_readers_expect(
    pointer: Pointer, store: DirectoryStore
) -> None:
    new = promote(pointer, "run")
    assert Promotion.model_validate_json(store.get(MODEL_PROMOTION, pointer.key)) == new
    assert set(new.model_dump()) >= {
        *("run_id", "model_type", "config_hash", "model_uri", "score", "timestamp"),
        *("identifier", "experiment", "rmse", "mae", "mse", "weights"),
    }


def test_each_identifier_has_a_pointer_of_its_own(store: DirectoryStore) -> None:
    mine, everybodys = Pointer(store, HASH, "alice"), Pointer(store, HASH, None)
    promote(mine, "run")
    assert mine.key == f"alice/{HASH}/current.json"
    assert mine.read() is not None
    assert everybodys.read() is None


def test_of_two_movers_the_later_is_refused_and_the_pointer_stays(pointer: Pointer) -> None:
    promote(pointer, "r")
    seen = pointer.read()
    assert seen is not None
    winner = promote(pointer, "ru")
    with pytest.raises(PromotionError, match=r"moved by somebody else.*promote again"):
        pointer.move(promotion("run", pointer.key_of(seen[0])), seen[1])
    current = pointer.read()
    assert current is not None
    assert current[0] == winner


def test_first_promotion_is_refused_where_somebody_else_was_first(pointer: Pointer) -> None:
    winner = promote(pointer, "r")
    with pytest.raises(PromotionError, match="moved by somebody else"):
        pointer.move(promotion("ru"), None)
    assert list(pointer.history()) == [winner]


def test_history_is_the_chain_from_the_champion_back_newest_first(pointer: Pointer) -> None:
    promoted = [promote(pointer, "r" * length) for length in (1, 2, 3)]
    assert list(pointer.history()) == promoted[::-1]
    assert [one.previous is None for one in promoted] == [True, False, False]


def test_record_that_never_became_champion_hangs_on_no_chain(
    pointer: Pointer, store: DirectoryStore
) -> None:
    first = promote(pointer, "r")
    with pytest.raises(PromotionError):
        pointer.move(promotion("ru", pointer.key_of(first)), "a version that never was")
    last = promote(pointer, "run")
    assert list(pointer.history()) == [last, first]
    assert len(records(store)) == 3


def test_promotion_record_is_never_overwritten(pointer: Pointer, store: DirectoryStore) -> None:
    promote(pointer, "r")
    before = {key: store.head(MODEL_PROMOTION, key) for key in records(store)}
    promote(pointer, "ru")
    assert {key: store.head(MODEL_PROMOTION, key) for key in before} == before


def test_pointer_that_holds_something_else_is_told_with_its_key(
    pointer: Pointer, store: DirectoryStore
) -> None:
    store.put(MODEL_PROMOTION, pointer.key, b'{"run_id": "r"}')
    with pytest.raises(PromotionError, match=f"{pointer.key} is no promotion record"):
        pointer.read()


def test_exactly_one_of_many_movers_wins_each_version(store: DirectoryStore) -> None:
    start = threading.Barrier(MOVERS)

    def race(mover: int, number: int) -> bool:
        pointer = Pointer(store, HASH, None)
        champion, version = pointer.read() or (None, None)
        new = promotion(f"{number}-{mover}", pointer.key_of(champion))
        start.wait(timeout=60)
        try:
            pointer.move(new, version)
        except PromotionError:
            return False
        return True

    with ThreadPoolExecutor(MOVERS) as movers:
        for number in range(ROUNDS):
            won = list(movers.map(race, range(MOVERS), [number] * MOVERS))
            assert sum(won) == 1
            current = Pointer(store, HASH, None).read()
            assert current is not None
            assert current[0].run_id == f"{number}-{won.index(True)}"
    chain = [one.run_id.split("-")[0] for one in Pointer(store, HASH, None).history()]
    assert chain == [str(number) for number in reversed(range(ROUNDS))]
    assert len(records(store)) == MOVERS * ROUNDS
