"""What every ObjectStore does, whatever keeps the bytes.

Use:
    class TestSomeStore(ObjectStoreContract):
        @pytest.fixture
        def store(self) -> SomeStore: ...   # its buckets DATASET and MODELS empty

A version tells every write from every other where the store can (a directory). Where it is made from
the bytes (an ETag of S3), `versions_tell_equal_bytes_apart = False`: it then has to differ whenever the
bytes differ, and a replace that read bytes which left and came back replaces just these bytes. What
FLTS replaces never holds the same bytes twice (a promotion's moment, a random attempt).

Keys here never begin with another key and a slash: some stores refuse that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from flts_assets.errors import (
    InvalidKeyError,
    ObjectChangedError,
    ObjectExistsError,
    ObjectNotFoundError,
)
from flts_assets.stores.object_store import DATASET, MODELS, ObjectHead, ObjectStore

__all__ = ["ObjectStoreContract", "increment"]

THREADS = 8
INCREMENTS = 25
RACES = 15
MEGABYTE = 1 << 20
LONGEST_KEY = 900

INVALID_KEYS = {
    "empty": "",
    "dot": ".",
    "parent": "..",
    "parent first": "../a",
    "parent inside": "a/../b",
    "leading slash": "/a",
    "trailing slash": "a/",
    "double slash": "a//b",
    "leading dot": ".a",
    "leading dot inside": "a/.b",
    "leading dash": "-a",
    "backslash": "a\\b",
    "NUL": "a\0b",
    "newline": "a\n",
    "space": "a b",
    "not ASCII": "ä",
    "long segment": "a" * 201,
    "long key": "/".join(["a" * 100] * 9),
}
INVALID_BUCKETS = {
    "empty": "",
    "unknown": "datasets",
    "parent": "..",
    "slash": "dataset/a",
    "hidden": ".locks",
    "NUL": "dataset\0",
}


def increment(store: ObjectStore, bucket: str, key: str) -> None:
    """Add one to the number kept under `key`, however many others do the same."""
    while True:
        head = store.head(bucket, key)
        try:
            if head is None:
                store.replace_if_unchanged(bucket, key, b"1", None)
            else:
                count, read = store.get_with_head(bucket, key)
                store.replace_if_unchanged(bucket, key, b"%d" % (int(count) + 1), read.version)
        except ObjectChangedError:
            continue
        return


def at_once(*actions: Callable[[], object]) -> list[object]:
    """Run the actions in one thread each, let go together; what each returned or raised."""
    barrier = threading.Barrier(len(actions))

    def run(action: Callable[[], object]) -> object:
        barrier.wait()
        return action()

    with ThreadPoolExecutor(len(actions)) as pool:
        futures = [pool.submit(run, action) for action in actions]
    return [future.exception() or future.result() for future in futures]


def keys(heads: Iterator[ObjectHead]) -> list[str]:
    return [head.key for head in heads]


def methods(store: ObjectStore, bucket: str, key: str) -> list[Callable[[], object]]:
    """Every method that takes a key."""
    return [
        lambda: store.get(bucket, key),
        lambda: store.get_with_head(bucket, key),
        lambda: store.head(bucket, key),
        lambda: store.put(bucket, key, b"x"),
        lambda: store.create(bucket, key, b"x"),
        lambda: store.replace_if_unchanged(bucket, key, b"x", None),
        lambda: store.replace_if_unchanged(bucket, key, b"x", "some version"),
        lambda: store.delete(bucket, key),
    ]


class ObjectStoreContract:
    """Subclass it, name the subclass Test..., and give a fixture `store`."""

    versions_tell_equal_bytes_apart = True

    def test_bytes_come_back_as_they_were_put(self, store: ObjectStore) -> None:
        data = bytes(range(256)) + b"\r\n\n\x1a"
        store.put(DATASET, "a.csv", data)
        assert store.get(DATASET, "a.csv") == data

    def test_file_is_written_and_opened_as_it_is(self, store: ObjectStore, tmp_path: Path) -> None:
        data = bytes(range(256)) * (3 * MEGABYTE // 256) + b"end"
        (tmp_path / "written").write_bytes(data)
        assert store.create(MODELS, "file", tmp_path / "written").size == len(data)
        with store.open(MODELS, "file") as file:
            assert file.read(4) == data[:4]
            store.put(MODELS, "file", b"other")
            assert file.read() == data[4:]
            file.seek(0)
            assert file.read() == data
        with pytest.raises(ObjectExistsError):
            store.create(MODELS, "file", tmp_path / "written")
        with pytest.raises(ObjectNotFoundError):
            store.open(MODELS, "none")

    def test_empty_bytes_are_an_object(self, store: ObjectStore) -> None:
        assert store.put(DATASET, "empty", b"").size == 0
        assert store.get(DATASET, "empty") == b""
        assert keys(store.list(DATASET)) == ["empty"]

    def test_eight_megabytes_come_back_whole(self, store: ObjectStore) -> None:
        data = bytes(range(256)) * (8 * MEGABYTE // 256)
        assert store.put(MODELS, "large", data).size == 8 * MEGABYTE
        assert store.get(MODELS, "large") == data

    def test_longest_key_is_accepted(self, store: ObjectStore) -> None:
        key = "/".join(["A_9.=+-" + "a" * 193] * 4 + ["b" * 96])
        assert len(key) == LONGEST_KEY
        store.put(DATASET, key, b"x")
        assert store.get(DATASET, key) == b"x"
        assert keys(store.list(DATASET)) == [key]

    def test_same_key_in_two_buckets_is_two_objects(self, store: ObjectStore) -> None:
        store.put(DATASET, "a", b"dataset")
        store.put(MODELS, "a", b"models")
        store.delete(DATASET, "a")
        assert store.get(MODELS, "a") == b"models"
        assert store.head(DATASET, "a") is None

    def test_put_replaces_longer_bytes_with_shorter(self, store: ObjectStore) -> None:
        store.put(DATASET, "a", b"a long first version")
        store.put(DATASET, "a", b"short")
        assert store.get(DATASET, "a") == b"short"

    @pytest.mark.parametrize("write", ["put", "create", "replace_if_unchanged"])
    def test_each_write_returns_the_head_that_a_reader_gets(
        self, store: ObjectStore, write: str
    ) -> None:
        written = {
            "put": lambda: store.put(DATASET, "run/a", b"12345"),
            "create": lambda: store.create(DATASET, "run/a", b"12345"),
            "replace_if_unchanged": lambda: store.replace_if_unchanged(
                DATASET, "run/a", b"12345", None
            ),
        }[write]()
        data, head = store.get_with_head(DATASET, "run/a")
        assert data == b"12345"
        assert (written.bucket, written.key, written.size) == (DATASET, "run/a", 5)
        assert written.version == head.version
        assert store.head(DATASET, "run/a") == head
        assert list(store.list(DATASET)) == [head]

    def test_time_of_modification_is_now_in_utc(self, store: ObjectStore) -> None:
        store.put(DATASET, "a", b"x")
        head = store.head(DATASET, "a")
        assert head is not None
        assert head.modified.utcoffset() == timedelta(0)
        assert abs(datetime.now(timezone.utc) - head.modified) < timedelta(minutes=5)

    def test_head_of_an_absent_object_is_none(self, store: ObjectStore) -> None:
        store.put(DATASET, "a/b", b"x")
        assert store.head(DATASET, "b") is None
        assert store.head(DATASET, "a") is None
        assert store.head(DATASET, "a/b/c") is None

    @pytest.mark.parametrize("key", ["b", "a", "a/b/c"])
    def test_reading_an_absent_object_names_bucket_key_and_remedy(
        self, store: ObjectStore, key: str
    ) -> None:
        store.put(DATASET, "a/b", b"x")
        for read in (store.get, store.get_with_head):
            with pytest.raises(ObjectNotFoundError, match=f"{DATASET}/{key}") as caught:
                read(DATASET, key)
            assert caught.value.remedy

    def test_create_refuses_an_existing_object_and_leaves_it(self, store: ObjectStore) -> None:
        first = store.create(DATASET, "once", b"first")
        with pytest.raises(ObjectExistsError, match=f"{DATASET}/once"):
            store.create(DATASET, "once", b"second")
        data, head = store.get_with_head(DATASET, "once")
        assert (data, head.version) == (b"first", first.version)

    def test_create_works_again_after_delete(self, store: ObjectStore) -> None:
        store.create(DATASET, "once", b"first")
        store.delete(DATASET, "once")
        store.create(DATASET, "once", b"second")
        assert store.get(DATASET, "once") == b"second"

    def test_replace_writes_where_the_version_is_still_the_same(self, store: ObjectStore) -> None:
        first = store.put(MODELS, "pointer", b"1")
        second = store.replace_if_unchanged(MODELS, "pointer", b"2", first.version)
        store.replace_if_unchanged(MODELS, "pointer", b"3", second.version)
        assert store.get(MODELS, "pointer") == b"3"

    def test_replace_refuses_a_version_that_was_overwritten(self, store: ObjectStore) -> None:
        first = store.put(MODELS, "pointer", b"1")
        store.put(MODELS, "pointer", b"2")
        with pytest.raises(ObjectChangedError, match=f"{MODELS}/pointer"):
            store.replace_if_unchanged(MODELS, "pointer", b"3", first.version)
        assert store.get(MODELS, "pointer") == b"2"

    def test_replace_refuses_a_version_whose_bytes_came_back(self, store: ObjectStore) -> None:
        first = store.put(MODELS, "pointer", b"1")
        store.put(MODELS, "pointer", b"2")
        again = store.put(MODELS, "pointer", b"1")
        self._is_refused_unless_the_same(store, first, again)

    def test_replace_expecting_nothing_creates(self, store: ObjectStore) -> None:
        store.replace_if_unchanged(MODELS, "pointer", b"1", None)
        assert store.get(MODELS, "pointer") == b"1"

    def test_replace_expecting_nothing_refuses_an_existing_object(self, store: ObjectStore) -> None:
        store.put(MODELS, "pointer", b"1")
        with pytest.raises(ObjectChangedError, match=f"{MODELS}/pointer"):
            store.replace_if_unchanged(MODELS, "pointer", b"2", None)
        assert store.get(MODELS, "pointer") == b"1"

    def test_replace_refuses_an_object_deleted_meanwhile(self, store: ObjectStore) -> None:
        first = store.put(MODELS, "pointer", b"1")
        store.delete(MODELS, "pointer")
        with pytest.raises(ObjectChangedError, match=f"{MODELS}/pointer"):
            store.replace_if_unchanged(MODELS, "pointer", b"2", first.version)
        assert store.head(MODELS, "pointer") is None

    def test_replace_refuses_an_object_deleted_and_created_anew(self, store: ObjectStore) -> None:
        first = store.put(MODELS, "pointer", b"1")
        store.delete(MODELS, "pointer")
        again = store.create(MODELS, "pointer", b"1")
        self._is_refused_unless_the_same(store, first, again)

    def _is_refused_unless_the_same(
        self, store: ObjectStore, first: ObjectHead, again: ObjectHead
    ) -> None:
        """A replace that read `first`, while the pointer now holds the same bytes, `again`."""
        if self.versions_tell_equal_bytes_apart:
            assert again.version != first.version
            with pytest.raises(ObjectChangedError):
                store.replace_if_unchanged(MODELS, "pointer", b"3", first.version)
        else:
            assert again.version == first.version
            store.replace_if_unchanged(MODELS, "pointer", b"3", first.version)
            assert store.get(MODELS, "pointer") == b"3"

    def test_version_changes_with_every_write_of_other_bytes(self, store: ObjectStore) -> None:
        versions = [store.put(DATASET, "a", b"%d" % turn).version for turn in range(20)]
        assert len(set(versions)) == len(versions)

    def test_version_changes_with_every_write_of_the_same_bytes(self, store: ObjectStore) -> None:
        if not self.versions_tell_equal_bytes_apart:
            pytest.skip("versions are made from the bytes")
        versions = [store.put(DATASET, "a", b"same").version for _ in range(20)]
        store.delete(DATASET, "a")
        versions.append(store.create(DATASET, "a", b"same").version)
        versions.append(store.replace_if_unchanged(DATASET, "a", b"same", versions[-1]).version)
        assert len(set(versions)) == len(versions)

    def test_version_stays_while_nothing_is_written(self, store: ObjectStore) -> None:
        version = store.put(DATASET, "a", b"x").version
        store.get(DATASET, "a")
        store.put(DATASET, "b", b"x")
        head = store.head(DATASET, "a")
        assert head is not None
        assert head.version == version

    def test_list_gives_keys_in_the_order_of_their_characters(self, store: ObjectStore) -> None:
        ordered = ["Z", "_", "a+", "a-b", "a.csv", "a/b-c", "a/b/c", "a/b0", "a0", "a=1", "b/a"]
        ordered.sort()
        for key in reversed(ordered):
            store.put(DATASET, key, key.encode())
        heads = list(store.list(DATASET))
        assert [head.key for head in heads] == ordered
        assert [head.size for head in heads] == [len(key) for key in ordered]
        assert heads == [store.head(DATASET, key) for key in ordered]

    @pytest.mark.parametrize(
        ("prefix", "expected"),
        [
            ("", ["runs.csv", "runs/1/a", "runs/1/b", "runs/10/a", "x"]),
            ("r", ["runs.csv", "runs/1/a", "runs/1/b", "runs/10/a"]),
            ("runs/", ["runs/1/a", "runs/1/b", "runs/10/a"]),
            ("runs/1", ["runs/1/a", "runs/1/b", "runs/10/a"]),
            ("runs/1/", ["runs/1/a", "runs/1/b"]),
            ("runs/1/b", ["runs/1/b"]),
            ("runs/1/b/", []),
            ("x/", []),
            ("uns", []),
            ("/", []),
            ("../", []),
        ],
    )
    def test_list_gives_the_keys_that_begin_with_the_prefix(
        self, store: ObjectStore, prefix: str, expected: list[str]
    ) -> None:
        for key in ("runs.csv", "runs/1/a", "runs/1/b", "runs/10/a", "x"):
            store.put(DATASET, key, b"x")
        assert keys(store.list(DATASET, prefix)) == expected

    def test_list_of_an_empty_bucket_is_empty(self, store: ObjectStore) -> None:
        store.put(MODELS, "a", b"x")
        assert keys(store.list(DATASET)) == []
        assert keys(store.list(DATASET, "a")) == []

    def test_objects_can_be_deleted_while_they_are_listed(self, store: ObjectStore) -> None:
        for key in ("a/1", "a/2", "b/1", "c"):
            store.put(DATASET, key, b"x")
        for head in store.list(DATASET):
            store.delete(DATASET, head.key)
        assert keys(store.list(DATASET)) == []

    def test_deleting_twice_is_the_same_as_once(self, store: ObjectStore) -> None:
        store.put(DATASET, "a/b", b"x")
        store.put(DATASET, "a/c", b"x")
        store.delete(DATASET, "a/b")
        store.delete(DATASET, "a/b")
        assert keys(store.list(DATASET)) == ["a/c"]

    @pytest.mark.parametrize("key", ["a", "b", "a/b/c"])
    def test_deleting_an_absent_object_touches_no_other(self, store: ObjectStore, key: str) -> None:
        store.put(DATASET, "a/b", b"x")
        store.delete(DATASET, key)
        assert keys(store.list(DATASET)) == ["a/b"]

    def test_deleted_nested_key_leaves_its_parent_free_to_be_a_key(
        self, store: ObjectStore
    ) -> None:
        store.put(DATASET, "a/b/c", b"x")
        store.delete(DATASET, "a/b/c")
        store.put(DATASET, "a", b"y")
        assert keys(store.list(DATASET)) == ["a"]

    @pytest.mark.parametrize("key", INVALID_KEYS.values(), ids=INVALID_KEYS)
    def test_invalid_key_is_refused_by_every_method(self, store: ObjectStore, key: str) -> None:
        for method in methods(store, DATASET, key):
            with pytest.raises(InvalidKeyError):
                method()
        assert keys(store.list(DATASET)) == []

    @pytest.mark.parametrize("bucket", INVALID_BUCKETS.values(), ids=INVALID_BUCKETS)
    def test_invalid_bucket_is_refused_by_every_method(
        self, store: ObjectStore, bucket: str
    ) -> None:
        for method in methods(store, bucket, "a"):
            with pytest.raises(InvalidKeyError):
                method()
        with pytest.raises(InvalidKeyError):
            list(store.list(bucket))

    def test_exactly_one_of_eight_threads_creates(self, store: ObjectStore) -> None:
        for race in range(3):
            payloads = [b"%d" % thread * 1000 for thread in range(THREADS)]
            creations = [partial(store.create, DATASET, f"once/{race}", data) for data in payloads]
            outcomes = at_once(*creations)
            won = [isinstance(outcome, ObjectHead) for outcome in outcomes]
            lost = [isinstance(outcome, ObjectExistsError) for outcome in outcomes]
            assert (sum(won), sum(lost)) == (1, THREADS - 1), outcomes
            assert store.get(DATASET, f"once/{race}") == payloads[won.index(True)]

    def test_threads_that_increment_a_counter_lose_nothing(self, store: ObjectStore) -> None:
        def count() -> None:
            for _ in range(INCREMENTS):
                increment(store, MODELS, "counter")

        assert at_once(*[count] * THREADS) == [None] * THREADS
        assert int(store.get(MODELS, "counter")) == THREADS * INCREMENTS

    def test_put_is_never_undone_by_a_replace_that_read_before_it(self, store: ObjectStore) -> None:
        for _ in range(RACES):
            version = store.put(MODELS, "pointer", b"old").version
            self._race_with_replace(store, version, lambda: store.put(MODELS, "pointer", b"put"))
            assert store.get(MODELS, "pointer") == b"put"

    def test_delete_is_never_undone_by_a_replace_that_read_before_it(
        self, store: ObjectStore
    ) -> None:
        for _ in range(RACES):
            version = store.put(MODELS, "pointer", b"old").version
            self._race_with_replace(store, version, lambda: store.delete(MODELS, "pointer"))
            assert store.head(MODELS, "pointer") is None

    def test_one_of_create_and_replace_expecting_nothing_wins(self, store: ObjectStore) -> None:
        for _ in range(RACES):
            store.delete(MODELS, "pointer")
            replaced, created = self._race_with_replace(
                store, None, lambda: store.create(MODELS, "pointer", b"created")
            )
            assert isinstance(replaced, ObjectHead) != isinstance(created, ObjectHead)
            expected = b"created" if isinstance(created, ObjectHead) else b"replaced"
            assert store.get(MODELS, "pointer") == expected

    @staticmethod
    def _race_with_replace(
        store: ObjectStore, version: str | None, other: Callable[[], object]
    ) -> Sequence[object]:
        outcomes = at_once(
            lambda: store.replace_if_unchanged(MODELS, "pointer", b"replaced", version), other
        )
        assert isinstance(outcomes[0], ObjectHead | ObjectChangedError), outcomes
        assert outcomes[1] is None or isinstance(outcomes[1], ObjectHead | ObjectExistsError)
        return outcomes

    def test_threads_that_put_and_delete_beside_each_other_disturb_nothing(
        self, store: ObjectStore
    ) -> None:
        def use(key: str) -> None:
            for _ in range(INCREMENTS):
                store.put(DATASET, key, key.encode())
                assert store.get(DATASET, key) == key.encode()
                store.delete(DATASET, key)

        outcomes = at_once(*(partial(use, f"deep/er/{thread}") for thread in range(THREADS)))
        assert outcomes == [None] * THREADS
        assert keys(store.list(DATASET)) == []

    def test_readers_during_a_rewrite_see_one_whole_version(self, store: ObjectStore) -> None:
        sizes = [1, 300_000, 70_000, MEGABYTE, 10]
        written = {store.put(DATASET, "a", b"\0" * sizes[0]).version: b"\0" * sizes[0]}
        finished = threading.Event()

        def write() -> None:
            try:
                for turn in range(1, 60):
                    data = bytes([turn]) * sizes[turn % len(sizes)]
                    written[store.put(DATASET, "a", data).version] = data
            finally:
                finished.set()

        def read() -> list[tuple[bytes, ObjectHead]]:
            seen: list[tuple[bytes, ObjectHead]] = []
            while not finished.is_set():
                data, head = store.get_with_head(DATASET, "a")
                listed = keys(store.list(DATASET))
                assert listed == ["a"]
                assert head.size == len(data)
                if not seen or seen[-1][1] != head:
                    seen.append((data, head))
            return seen

        nothing, *readers = at_once(write, read, read)
        assert nothing is None
        for seen in readers:
            assert isinstance(seen, list), seen
            assert seen
            for data, head in seen:
                assert data == written[head.version]

    def test_store_behaves_as_a_dictionary_would(self, store: ObjectStore) -> None:
        one_each_write = self.versions_tell_equal_bytes_apart

        class Machine(StoreBesideDictionary):
            def __init__(self) -> None:
                super().__init__(store, one_each_write)

        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=20,
                stateful_step_count=20,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )


KEYS = st.sampled_from(["a-", "a.csv", "a/b", "a/c/d", "a/c.d", "a0", "b"])
PREFIXES = ["", "a", "a/", "a/c", "a/c/", "b"]
DATA = st.binary(max_size=4)


class StoreBesideDictionary(RuleBasedStateMachine):
    """The same calls go to a store and to a dictionary {key: (bytes, version)}."""

    def __init__(self, store: ObjectStore, one_each_write: bool) -> None:
        """`one_each_write`: no version ever comes back, not even with the bytes."""
        super().__init__()
        self.store = store
        self.one_each_write = one_each_write
        self.model: dict[str, tuple[bytes, str]] = {}
        self.versions: set[str] = set()
        for head in list(store.list(DATASET)):
            store.delete(DATASET, head.key)

    def wrote(self, key: str, data: bytes, head: ObjectHead) -> None:
        if self.one_each_write:
            assert head.version not in self.versions
        self.versions.add(head.version)
        self.model[key] = (data, head.version)

    @rule(key=KEYS, data=DATA)
    def put(self, key: str, data: bytes) -> None:
        self.wrote(key, data, self.store.put(DATASET, key, data))

    @rule(key=KEYS, data=DATA)
    def create(self, key: str, data: bytes) -> None:
        if key in self.model:
            with pytest.raises(ObjectExistsError):
                self.store.create(DATASET, key, data)
        else:
            self.wrote(key, data, self.store.create(DATASET, key, data))

    @rule(key=KEYS, data=DATA, choice=st.sampled_from(["current", "absent", "old"]))
    def replace(self, key: str, data: bytes, choice: str) -> None:
        current = self.model[key][1] if key in self.model else None
        old = min(self.versions, default="never")
        version = {"current": current, "absent": None, "old": old}[choice]
        if version == current:
            head = self.store.replace_if_unchanged(DATASET, key, data, version)
            self.wrote(key, data, head)
        else:
            with pytest.raises(ObjectChangedError):
                self.store.replace_if_unchanged(DATASET, key, data, version)

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        self.store.delete(DATASET, key)
        self.model.pop(key, None)

    @rule(key=KEYS)
    def read(self, key: str) -> None:
        if key in self.model:
            data, head = self.store.get_with_head(DATASET, key)
            assert (data, head.version) == self.model[key]
            assert self.store.head(DATASET, key) == head
        else:
            assert self.store.head(DATASET, key) is None
            with pytest.raises(ObjectNotFoundError):
                self.store.get(DATASET, key)

    @rule(prefix=st.sampled_from(PREFIXES))
    def list_some(self, prefix: str) -> None:
        expected = sorted(key for key in self.model if key.startswith(prefix))
        assert keys(self.store.list(DATASET, prefix)) == expected

    @invariant()
    def list_gives_what_stands(self) -> None:
        listed = [(head.key, head.size, head.version) for head in self.store.list(DATASET)]
        assert listed == [
            (key, len(data), version) for key, (data, version) in sorted(self.model.items())
        ]
