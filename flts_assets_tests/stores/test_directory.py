from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from flts_assets.errors import (
    InvalidKeyError,
    ObjectChangedError,
    ObjectExistsError,
    ObjectNotFoundError,
    ObjectStoreError,
)
from flts_assets.stores.directory import DirectoryStore
from flts_assets.stores.object_store import BUCKETS, DATASET, MODELS
from flts_assets_tests.stores.object_store_contract import ObjectStoreContract

PROCESSES = 8
INCREMENTS = 25

COUNT = f"""
import sys
from pathlib import Path
from flts_assets.errors import ObjectChangedError
from flts_assets.stores.directory import DirectoryStore

store = DirectoryStore(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for _ in range({INCREMENTS}):
    while True:
        count, head = store.get_with_head("models", "counter")
        try:
            store.replace_if_unchanged("models", "counter", b"%d" % (int(count) + 1), head.version)
            break
        except ObjectChangedError:
            pass
"""

STOP_MIDWAY = """
import os, signal, sys
from pathlib import Path
from flts_assets.stores.directory import DirectoryStore

root, name, when, write = sys.argv[1:]
original = getattr(os, name)

def stop(*arguments, **options):
    if when == "after":
        original(*arguments, **options)
    print("midway", flush=True)
    signal.pause()

setattr(os, name, stop)
getattr(DirectoryStore(Path(root)), write)("models", "pointer", b"new" * 100_000)
"""


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path)


@contextmanager
def python(script: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Another Python at work on `script`; killed at the end if it is still there."""
    with subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def line_from(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def kill_midway(root: Path, name: str, when: str, write: str) -> None:
    """Kill -9 a writer of `pointer` just before or after it calls os.`name`."""
    with python(STOP_MIDWAY, str(root), name, when, write) as process:
        assert line_from(process) == "midway"
    assert process.returncode == -signal.SIGKILL


def listed(store: DirectoryStore, bucket: str = DATASET) -> list[str]:
    return [head.key for head in store.list(bucket)]


def files_and_directories(bucket: Path) -> list[str]:
    return sorted(path.relative_to(bucket).as_posix() for path in bucket.rglob("*"))


def fail(*_arguments: object, **_options: object) -> None:
    raise OSError(28, "No space left on device")


class TestDirectoryStore(ObjectStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> DirectoryStore:
        return DirectoryStore(tmp_path / "made" / "when needed")


def test_processes_that_increment_a_counter_lose_nothing(store: DirectoryStore) -> None:
    store.put(MODELS, "counter", b"0")
    with ExitStack() as stack:
        processes = [stack.enter_context(python(COUNT, str(store.root))) for _ in range(PROCESSES)]
        assert [line_from(process) for process in processes] == ["ready"] * PROCESSES
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        assert [process.wait(timeout=600) for process in processes] == [0] * PROCESSES
    assert int(store.get(MODELS, "counter")) == PROCESSES * INCREMENTS


@pytest.mark.parametrize("name", ["fsync", "utime", "replace"])
def test_put_that_fails_midway_leaves_the_old_object_and_nothing_else(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    old = store.put(DATASET, "a/b", b"old")
    before = files_and_directories(store.root)
    with monkeypatch.context() as broken:
        broken.setattr(os, name, fail)
        with pytest.raises(OSError, match="No space left"):
            store.put(DATASET, "a/b", b"new")
        with pytest.raises(OSError, match="No space left"):
            store.replace_if_unchanged(DATASET, "a/b", b"new", old.version)
    assert files_and_directories(store.root) == before
    assert store.get_with_head(DATASET, "a/b") == (b"old", old)


@pytest.mark.parametrize("name", ["fsync", "utime", "link"])
def test_create_that_fails_midway_leaves_neither_object_nor_directories(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    store.put(DATASET, "other", b"x")
    with monkeypatch.context() as broken:
        broken.setattr(os, name, fail)
        with pytest.raises(OSError, match="No space left"):
            store.create(DATASET, "a/b/c", b"new")
    assert files_and_directories(store.root / DATASET) == [".tmp", "other"]
    store.create(DATASET, "a", b"the key is still free")


def test_file_system_with_coarse_times_is_refused(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = os.utime

    def coarse(file: int, ns: tuple[int, int]) -> None:
        second = 10**9
        exact(file, ns=(ns[0] // second * second, ns[1] // second * second))

    monkeypatch.setattr(os, "utime", coarse)
    monkeypatch.setattr(time, "time_ns", lambda: 1_700_000_000_123_456_000)
    with pytest.raises(ObjectStoreError, match="microsecond"):
        store.put(DATASET, "a", b"x")
    assert listed(store) == []


@pytest.mark.parametrize(
    ("name", "when"), [("fsync", "before"), ("fsync", "after"), ("replace", "before")]
)
def test_writer_killed_midway_leaves_the_old_object_and_no_lock(
    store: DirectoryStore, name: str, when: str
) -> None:
    old = store.put(MODELS, "pointer", b"old")
    kill_midway(store.root, name, when, "put")
    assert store.get_with_head(MODELS, "pointer") == (b"old", old)
    assert list(store.list(MODELS)) == [old]
    store.replace_if_unchanged(MODELS, "pointer", b"newer", old.version)
    assert store.get(MODELS, "pointer") == b"newer"
    assert files_and_directories(store.root / MODELS) == [".tmp", "pointer"]


def test_object_linked_by_a_killed_creator_survives_the_next_failing_write(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_midway(store.root, "link", "after", "create")
    data, created = store.get_with_head(MODELS, "pointer")
    assert data == b"new" * 100_000
    with pytest.raises(ObjectExistsError):
        store.create(MODELS, "pointer", b"newer")
    with monkeypatch.context() as broken:
        broken.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="No space left"):
            store.put(MODELS, "pointer", b"newer")
    assert store.get_with_head(MODELS, "pointer") == (data, created)
    assert files_and_directories(store.root / MODELS) == [".tmp", "pointer"]


@pytest.mark.parametrize("other", ["put", "delete", "create"])
def test_other_writes_wait_for_a_replace_under_way(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    version = store.put(MODELS, "pointer", b"old").version

    def create() -> None:
        with pytest.raises(ObjectExistsError):
            store.create(MODELS, "pointer", b"created")

    writes: dict[str, Callable[[], object]] = {
        "put": lambda: store.put(MODELS, "pointer", b"put"),
        "delete": lambda: store.delete(MODELS, "pointer"),
        "create": create,
    }
    thread = threading.Thread(target=writes[other])
    replace = os.replace

    def replace_while_another_writes(source: Path, target: Path) -> None:
        monkeypatch.setattr(os, "replace", replace)
        thread.start()
        thread.join(timeout=0.1)
        assert thread.is_alive()
        replace(source, target)

    monkeypatch.setattr(os, "replace", replace_while_another_writes)
    store.replace_if_unchanged(MODELS, "pointer", b"replaced", version)
    thread.join(timeout=60)
    head = store.head(MODELS, "pointer")
    after = None if head is None else store.get(MODELS, "pointer")
    assert after == {"put": b"put", "delete": None, "create": b"replaced"}[other]


def test_directory_is_not_removed_while_another_object_moves_into_it(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(MODELS, "run/a", b"a")
    thread = threading.Thread(target=store.delete, args=(MODELS, "run/a"))
    replace = os.replace

    def replace_while_the_directory_empties(source: Path, target: Path) -> None:
        thread.start()
        thread.join(timeout=0.1)
        replace(source, target)

    monkeypatch.setattr(os, "replace", replace_while_the_directory_empties)
    store.put(MODELS, "run/b", b"b")
    thread.join(timeout=60)
    assert listed(store, MODELS) == ["run/b"]


def test_versions_differ_when_the_clock_stands_or_is_set_back(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([5_000_000_000] * 10 + [4_000_000_000] * 10)
    monkeypatch.setattr(time, "time_ns", lambda: next(clock))
    heads = []
    for _ in range(10):
        heads.append(store.put(DATASET, "a", b"same"))
        store.delete(DATASET, "a")
        heads.append(store.create(DATASET, "a", b"same"))
    assert len({head.version for head in heads}) == len(heads)
    assert heads == sorted(heads, key=lambda head: head.modified)
    assert heads[-1].modified.timestamp() == pytest.approx(5, abs=0.001)


def test_file_dropped_by_hand_is_an_object(store: DirectoryStore) -> None:
    dropped = store.root / DATASET / "station" / "a.csv"
    dropped.parent.mkdir(parents=True)
    dropped.write_bytes(b"t,y\n")
    data, head = store.get_with_head(DATASET, "station/a.csv")
    assert (data, head.size) == (b"t,y\n", 4)
    assert list(store.list(DATASET)) == [head]
    with pytest.raises(ObjectExistsError):
        store.create(DATASET, "station/a.csv", b"x")
    os.utime(dropped, ns=(1, 1))
    with pytest.raises(ObjectChangedError):
        store.replace_if_unchanged(DATASET, "station/a.csv", b"x", head.version)


@pytest.mark.parametrize(
    ("write", "error"), [("create", ObjectExistsError), ("replace", ObjectChangedError)]
)
def test_file_dropped_during_a_create_is_not_overwritten(
    store: DirectoryStore,
    monkeypatch: pytest.MonkeyPatch,
    write: str,
    error: type[ObjectStoreError],
) -> None:
    link = os.link

    def link_after_drop(source: Path, target: Path) -> None:
        target.write_bytes(b"dropped")
        link(source, target)

    monkeypatch.setattr(os, "link", link_after_drop)
    with pytest.raises(error):
        if write == "create":
            store.create(DATASET, "a.csv", b"x")
        else:
            store.replace_if_unchanged(DATASET, "a.csv", b"x", None)
    assert store.get(DATASET, "a.csv") == b"dropped"
    assert files_and_directories(store.root / DATASET) == [".tmp", "a.csv"]


def test_names_that_are_no_keys_and_things_that_are_no_files_are_not_listed(
    store: DirectoryStore,
) -> None:
    bucket = store.root / DATASET
    store.put(DATASET, "a.csv", b"x")
    for name in ("b c.csv", ".hidden", "-dash", "ä.csv", "a.csv~", "with space/d.csv", ".x/e.csv"):
        path = bucket / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    (bucket / "empty").mkdir()
    os.mkfifo(bucket / "pipe")
    (bucket / "dangling").symlink_to(bucket / "nowhere")
    (bucket / "itself").symlink_to(bucket / "itself")
    strays: list[str] = []
    assert [head.key for head in store.list(DATASET, stray=strays.append)] == ["a.csv"]
    assert {"b c.csv", ".hidden", "-dash", "ä.csv", "a.csv~"} <= set(strays)
    assert "a.csv" not in strays
    assert store.head(DATASET, "pipe") is None
    for link in ("dangling", "itself"):
        with pytest.raises(ObjectNotFoundError):
            store.get(DATASET, link)


def test_own_files_are_never_listed(store: DirectoryStore) -> None:
    store.put(DATASET, "a", b"x")
    (store.root / DATASET / ".tmp" / "3f").write_bytes(b"left by a killed writer")
    assert [head.key for bucket in BUCKETS for head in store.list(bucket)] == ["a"]


def test_linked_file_is_read_through_but_never_written_through(
    store: DirectoryStore, tmp_path_factory: pytest.TempPathFactory
) -> None:
    large = tmp_path_factory.mktemp("elsewhere") / "large.csv"
    large.write_bytes(b"large")
    (store.root / DATASET).mkdir()
    for name in ("a", "b"):
        (store.root / DATASET / name).symlink_to(large)
    assert store.get(DATASET, "a") == b"large"
    assert [head.size for head in store.list(DATASET)] == [5, 5]
    store.put(DATASET, "a", b"own")
    store.delete(DATASET, "b")
    assert (store.get(DATASET, "a"), listed(store)) == (b"own", ["a"])
    assert large.read_bytes() == b"large"


@pytest.mark.timeout(20)
def test_pipes_sockets_and_devices_are_no_objects(
    store: DirectoryStore, tmp_path_factory: pytest.TempPathFactory
) -> None:
    bucket = store.root / DATASET
    bucket.mkdir()
    os.mkfifo(bucket / "pipe")
    (bucket / "endless").symlink_to("/dev/zero")
    address = tmp_path_factory.mktemp("near") / "s"  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(address))
        (bucket / "socket").symlink_to(address)
        for key in ("pipe", "endless", "socket"):
            assert store.head(DATASET, key) is None
            with pytest.raises(ObjectNotFoundError):
                store.get(DATASET, key)
    assert listed(store) == []


def test_linked_directory_is_neither_listed_nor_entered(store: DirectoryStore) -> None:
    store.put(DATASET, "real/a", b"x")
    (store.root / DATASET / "loop").symlink_to(store.root / DATASET)
    assert listed(store) == ["real/a"]
    with pytest.raises(InvalidKeyError, match="symbolic link"):
        store.get(DATASET, "loop/real/a")
    with pytest.raises(InvalidKeyError):
        store.put(DATASET, "loop", b"x")
    store.delete(DATASET, "loop")
    assert (store.root / DATASET / "loop").is_symlink()


def test_bucket_may_be_a_link(
    store: DirectoryStore, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (store.root / DATASET).symlink_to(elsewhere)
    store.put(DATASET, "a/b", b"x")
    assert (elsewhere / "a" / "b").read_bytes() == b"x"
    assert listed(store) == ["a/b"]


@pytest.mark.parametrize(("first", "second"), [("a", "a/b"), ("a", "a/b/c"), ("a/b/c", "a/b")])
def test_key_that_is_a_directory_of_another_is_refused(
    store: DirectoryStore, first: str, second: str
) -> None:
    store.put(DATASET, first, b"first")
    before = files_and_directories(store.root / DATASET)
    writes: list[Callable[[], object]] = [
        lambda: store.put(DATASET, second, b"second"),
        lambda: store.create(DATASET, second, b"second"),
        lambda: store.replace_if_unchanged(DATASET, second, b"second", None),
    ]
    for write in writes:
        with pytest.raises(InvalidKeyError, match="file and directory at once") as caught:
            write()
        assert second in str(caught.value.received)
    assert files_and_directories(store.root / DATASET) == before
    assert store.get(DATASET, first) == b"first"


def test_reading_makes_no_files(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    (tmp_path / DATASET).mkdir()
    (tmp_path / DATASET / "a.csv").write_bytes(b"x")
    assert store.get(DATASET, "a.csv") == b"x"
    assert listed(store) == ["a.csv"]
    assert files_and_directories(tmp_path) == [DATASET, f"{DATASET}/a.csv"]
