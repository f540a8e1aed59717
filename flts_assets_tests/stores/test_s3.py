"""The contract on a real S3 server, and what only a server can do: refuse, stay silent, go away."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from botocore.stub import ANY, Stubber

from flts_assets.errors import (
    EnvironmentValueError,
    ObjectChangedError,
    ObjectExistsError,
    ObjectNotFoundError,
    ObjectStoreError,
)
from flts_assets.stores.object_store import BUCKETS, DATASET, MODEL_PROMOTION, MODELS
from flts_assets.stores.s3 import S3Store
from flts_assets.stores.s3_client import open_client
from flts_assets_tests.servers.process import free_port
from flts_assets_tests.servers.seaweed import ACCESS_KEY, READER_KEY, SECRET_KEY, Seaweed
from flts_assets_tests.stores.object_store_contract import ObjectStoreContract, at_once

ROUNDS = 5
RACERS = 8

RACE = """
import os, sys
from flts_assets.errors import ObjectChangedError
from flts_assets.settings import Settings
from flts_assets.stores.opening import open_store

store = open_store(Settings.from_environment())
store.head("model-promotion", "pointer")
print("ready", flush=True)
for version in sys.stdin:
    try:
        store.replace_if_unchanged(
            "model-promotion", "pointer", os.urandom(8).hex().encode(), version.strip() or None
        )
        print("won", flush=True)
    except ObjectChangedError:
        print("lost", flush=True)
"""


@pytest.fixture
def store(seaweed: Seaweed, bucket_prefix: str) -> S3Store:
    """On buckets of the test's own, made as it writes to them."""
    return seaweed.store(bucket_prefix)


class TestS3Store(ObjectStoreContract):
    versions_tell_equal_bytes_apart = False

    @pytest.fixture
    def store(self, store: S3Store) -> S3Store:
        return store


def test_exactly_one_of_eight_processes_moves_the_pointer_each_round(
    store: S3Store, seaweed: Seaweed
) -> None:
    environ = {**os.environ, **seaweed.environment(store.prefix)}
    with ExitStack() as stack:
        racers = [stack.enter_context(_python(RACE, environ)) for _ in range(RACERS)]
        assert [_line(racer) for racer in racers] == ["ready"] * RACERS
        version = ""
        for _ in range(ROUNDS):
            for racer in racers:
                assert racer.stdin is not None
                racer.stdin.write(f"{version}\n")
                racer.stdin.flush()
            outcomes = sorted(_line(racer) for racer in racers)
            assert outcomes == ["lost"] * (RACERS - 1) + ["won"]
            head = store.head(MODEL_PROMOTION, "pointer")
            assert head is not None
            assert head.version != version
            version = head.version


def test_exactly_one_of_four_threads_replaces_a_large_object(store: S3Store) -> None:
    small_parts = S3Store(store.client, store.prefix, part_size=5 << 20)
    version = small_parts.put(MODELS, "large", b"old").version
    payloads = [bytes([65 + one]) * (6 << 20) for one in range(4)]

    def replace(data: bytes) -> Callable[[], object]:
        return lambda: small_parts.replace_if_unchanged(MODELS, "large", data, version)

    outcomes = at_once(*(replace(data) for data in payloads))
    won = [not isinstance(one, ObjectChangedError) for one in outcomes]
    assert won.count(True) == 1, outcomes
    assert small_parts.get(MODELS, "large") == payloads[won.index(True)]


@pytest.mark.parametrize("size", [(5 << 20) + 1, 10 << 20, (11 << 20) + 7])
def test_large_object_sent_in_parts_comes_back_whole(store: S3Store, size: int) -> None:
    small_parts = S3Store(store.client, store.prefix, part_size=5 << 20)
    data = (os.urandom(1 << 16) * (size // (1 << 16) + 1))[:size]
    written = small_parts.put(MODELS, "large", data)
    assert written.version.endswith(f"-{-(-size // (5 << 20))}"), "S3 tells the number of parts"
    found, head = store.get_with_head(MODELS, "large")
    assert found == data
    assert (written.version, written.size) == (head.version, size)


def test_parts_of_an_upload_that_fails_are_not_left_behind(
    store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_parts = S3Store(store.client, store.prefix, part_size=5 << 20)
    upload = store.client.upload_part

    def fail_at_the_second(**arguments: Any) -> Any:
        if arguments["PartNumber"] == 2:
            raise KeyboardInterrupt
        return upload(**arguments)

    monkeypatch.setattr(store.client, "upload_part", fail_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        small_parts.put(MODELS, "large", bytes(6 << 20))
    uploads = store.client.list_multipart_uploads(Bucket=store.name(MODELS))
    assert not uploads.get("Uploads")
    assert store.head(MODELS, "large") is None


def test_listing_of_several_pages_is_complete_and_in_order(store: S3Store) -> None:
    names = [f"{folder}{number:03}" for folder in ("a/", "a-", "a.b/c/") for number in range(350)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: store.put(DATASET, name, b""), names))
    assert [head.key for head in store.list(DATASET)] == sorted(names)


def test_names_that_are_no_keys_are_told_and_not_listed(store: S3Store) -> None:
    store.put(DATASET, "a.csv", b"x")
    for name in ("b c.csv", "ä.csv"):
        store.client.put_object(Bucket=store.name(DATASET), Key=name, Body=b"x")
    strays: list[str] = []
    assert [head.key for head in store.list(DATASET, stray=strays.append)] == ["a.csv"]
    assert sorted(strays) == ["b c.csv", "ä.csv"]


def test_buckets_are_made_where_they_are_missing(seaweed: Seaweed, bucket_prefix: str) -> None:
    store = seaweed.store(bucket_prefix)
    assert list(store.list(DATASET)) == []
    assert store.head(DATASET, "a") is None
    store.delete(DATASET, "a")
    with pytest.raises(ObjectNotFoundError, match=f"{bucket_prefix}dataset/a"):
        store.get(DATASET, "a")
    store.create(DATASET, "a", b"first")
    assert store.get(DATASET, "a") == b"first"
    assert set(store.make_buckets()) == {bucket_prefix + one for one in (*BUCKETS, "compute-logs")}
    found = {one["Name"] for one in store.client.list_buckets()["Buckets"]}
    assert set(store.make_buckets()) <= found


def test_eight_first_writers_of_a_missing_bucket_all_write(
    seaweed: Seaweed, bucket_prefix: str
) -> None:
    store = seaweed.store(bucket_prefix)
    writes = [lambda one=one: store.put(DATASET, f"{one}", b"x") for one in range(8)]
    outcomes = at_once(*writes)
    assert not [one for one in outcomes if isinstance(one, Exception)]
    assert len(list(store.list(DATASET))) == 8


def test_bucket_that_may_not_be_made_is_told_with_its_name(
    seaweed: Seaweed, bucket_prefix: str
) -> None:
    store = seaweed.store(bucket_prefix, access_key=READER_KEY)
    with pytest.raises(ObjectStoreError, match=r"AccessDenied.*credentials"):
        store.put(DATASET, "a", b"x")
    with pytest.raises(ObjectStoreError, match=f"{bucket_prefix}dataset"):
        store.make_buckets()


def test_wrong_secret_is_refused_and_never_repeated(store: S3Store, seaweed: Seaweed) -> None:
    wrong = seaweed.store(store.prefix, secret_key="a-wrong-secret")
    for use in (
        lambda: wrong.get(DATASET, "a"),
        lambda: wrong.put(DATASET, "a", b"x"),
        lambda: list(wrong.list(DATASET)),
        lambda: wrong.delete(DATASET, "a"),
    ):
        with pytest.raises(ObjectStoreError, match="AWS_SECRET_ACCESS_KEY") as caught:
            use()
        assert "a-wrong-secret" not in str(caught.value)
        assert SECRET_KEY not in str(caught.value)
        assert ACCESS_KEY not in str(caught.value)


def test_nobody_listening_is_an_error_that_names_the_setting() -> None:
    client = open_client(
        1.0,
        endpoint_url=f"http://127.0.0.1:{free_port()}",
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
    )
    with pytest.raises(ObjectStoreError, match=r"EndpointConnectionError.*AWS_ENDPOINT_URL"):
        S3Store(client).put(DATASET, "a", b"x")


def test_address_that_is_none_is_an_error_that_does_not_repeat_it() -> None:
    with pytest.raises(EnvironmentValueError, match="AWS_ENDPOINT_URL") as caught:
        open_client(1.0, endpoint_url="user:pass word@host", region_name="us-east-1")
    assert "pass word" not in str(caught.value)


def test_silent_server_is_given_up_within_the_bound() -> None:
    timeout_s = 0.5
    with socket.socket() as listener:  # accepts, reads nothing, answers nothing
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        client = open_client(
            timeout_s,
            endpoint_url=f"http://127.0.0.1:{listener.getsockname()[1]}",
            region_name="us-east-1",
            aws_access_key_id="a",
            aws_secret_access_key="b",
        )
        store = S3Store(client)
        for use in (
            lambda: store.get(DATASET, "a"),
            lambda: store.create(DATASET, "a", b"x" * (3 << 20)),
            lambda: list(store.list(DATASET)),
        ):
            started = time.monotonic()
            with pytest.raises(ObjectStoreError, match=r"Timeout|ConnectionClosed"):
                use()
            assert time.monotonic() - started < 3 * timeout_s + 10  # and its pauses between


def test_server_that_ignores_conditions_is_found_out(
    store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.check_conditions()
    assert list(store.list(MODEL_PROMOTION)) == []
    put = store.client.put_object

    def deaf(**arguments: Any) -> Any:
        return put(**{k: v for k, v in arguments.items() if not k.startswith("If")})

    monkeypatch.setattr(store.client, "put_object", deaf)
    with pytest.raises(ObjectStoreError, match="ignores the conditions"):
        store.check_conditions()


class TestAnswersThatRealServersSeldomGive:
    """Scripted: a lost answer and a conflict cannot be had on demand."""

    @pytest.fixture
    def scripted(self) -> Iterator[tuple[S3Store, Stubber]]:
        client = open_client(
            1.0, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
        )
        with Stubber(client) as stubber:
            yield S3Store(client), stubber
            stubber.assert_no_pending_responses()

    @staticmethod
    def _refuse(stubber: Stubber, code: str, status: int, retries: int = 0) -> None:
        stubber.add_client_error(
            "put_object",
            code,
            http_status_code=status,
            response_meta={"RetryAttempts": retries},
        )

    @staticmethod
    def _answer(stubber: Stubber, data: bytes) -> None:
        from io import BytesIO

        from botocore.response import StreamingBody

        body = StreamingBody(BytesIO(data), len(data))
        stubber.add_response(
            "get_object",
            {"Body": body, "ETag": '"e"', "ResponseMetadata": {"HTTPHeaders": {}}},
            {"Bucket": ANY, "Key": ANY},
        )

    def test_own_write_whose_answer_was_lost_counts(
        self, scripted: tuple[S3Store, Stubber]
    ) -> None:
        store, stubber = scripted
        self._refuse(stubber, "PreconditionFailed", 412, retries=1)
        self._answer(stubber, b"mine")
        assert store.replace_if_unchanged(DATASET, "a", b"mine", "v").version == "e"

    def test_somebody_elses_write_met_by_a_second_try_does_not_count(
        self, scripted: tuple[S3Store, Stubber]
    ) -> None:
        store, stubber = scripted
        self._refuse(stubber, "PreconditionFailed", 412, retries=1)
        self._answer(stubber, b"theirs")
        with pytest.raises(ObjectChangedError):
            store.replace_if_unchanged(DATASET, "a", b"mine", "v")

    def test_write_that_met_another_under_way_is_tried_again(
        self, scripted: tuple[S3Store, Stubber]
    ) -> None:
        store, stubber = scripted
        self._refuse(stubber, "ConditionalRequestConflict", 409)
        self._refuse(stubber, "PreconditionFailed", 412)
        with pytest.raises(ObjectExistsError):
            store.create(DATASET, "a", b"mine")

    def test_own_write_that_its_second_try_met_under_way_counts(
        self, scripted: tuple[S3Store, Stubber]
    ) -> None:
        store, stubber = scripted
        self._refuse(stubber, "ConditionalRequestConflict", 409, retries=1)
        self._refuse(stubber, "PreconditionFailed", 412)
        self._answer(stubber, b"mine")
        assert store.create(DATASET, "a", b"mine").version == "e"

    def test_conflict_that_does_not_end_is_an_error(
        self, scripted: tuple[S3Store, Stubber]
    ) -> None:
        store, stubber = scripted
        for _ in range(3):
            self._refuse(stubber, "ConditionalRequestConflict", 409)
        with pytest.raises(ObjectStoreError, match="ConditionalRequestConflict") as caught:
            store.create(DATASET, "a", b"mine")
        assert isinstance(caught.value.__cause__, ClientError)


def test_body_that_breaks_off_is_read_again() -> None:
    """A server that sends half of the first answer's body and closes."""
    answers = [b"12345", b"1234567890"]

    def serve(listener: socket.socket) -> None:
        for body in answers:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(
                    b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 10\r\nConnection: close\r\n'
                    b"Last-Modified: Wed, 01 Jan 2025 00:00:00 GMT\r\n\r\n" + body
                )

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        client = open_client(
            5.0,
            endpoint_url=f"http://127.0.0.1:{listener.getsockname()[1]}",
            region_name="us-east-1",
            aws_access_key_id="a",
            aws_secret_access_key="b",
        )
        assert S3Store(client).get(DATASET, "a") == b"1234567890"
        thread.join(timeout=10)


class _python:
    """Another Python at work on a script; killed at the end if it is still there."""

    def __init__(self, script: str, environ: dict[str, str]) -> None:
        path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), *sys.path]))
        self._process = subprocess.Popen(
            [sys.executable, "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**environ, "PYTHONPATH": path},
        )

    def __enter__(self) -> subprocess.Popen[str]:
        return self._process

    def __exit__(self, *_error: object) -> None:
        self._process.kill()
        self._process.communicate()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()
