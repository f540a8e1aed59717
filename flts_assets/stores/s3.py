"""An object store on S3, or on anything that speaks its protocol (MinIO, SeaweedFS, Ceph…).

Bucket `models` is the S3 bucket `<prefix>models`; a key is a key. The service decides every race:
create-once is a write under `If-None-Match: *`, replace-if-unchanged one under `If-Match: <ETag>`, so
both hold between machines. A server that ignores these headers is refused by `check_conditions`.

An object's version is its ETag. S3 derives it from the bytes, so **equal bytes have equal versions**: a
replace that read them may still write after somebody put other bytes and the same ones back. That
replaces exactly what was read, which is sound for all that FLTS replaces: a pointer holds the moment of
its promotion and `current.json` a random attempt, so neither ever holds the same bytes twice.

Every wait is bounded: `timeout_s` for a connection and for each silence, three attempts a request. A
conditional write that was tried again may meet the object that its own first attempt made, when only
the answer was lost; it then counts as written if the object holds the bytes that were to be written.

An object is opened as a temporary file that holds a copy of it, and sent from a file as it is read. One
above `part_size` is sent in parts, one copied at a time; readers see all or nothing. A write
under a condition is one request up to S3's limit for one, because servers differ in whether they still
hold the condition when the parts are put together (of four racing writers SeaweedFS 4.48 let two win).
"""

from __future__ import annotations

import io
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypeVar

from flts_assets.errors import (
    InvalidKeyError,
    ObjectChangedError,
    ObjectExistsError,
    ObjectNotFoundError,
    ObjectStoreError,
)
from flts_assets.stores.object_store import (
    BUCKETS,
    MODEL_PROMOTION,
    ObjectHead,
    ObjectStore,
    validate_bucket,
    validate_key,
)
from flts_assets.stores.s3_client import (
    ATTEMPTS,
    client_errors,
    code_of,
    cut_short,
    translated,
    was_retried,
)

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

__all__ = ["COMPUTE_LOGS", "S3Store"]

COMPUTE_LOGS: Final = "compute-logs"
"""the bucket of Dagster's S3ComputeLogManager; no object of FLTS stands there"""

_T = TypeVar("_T")

COPIED_AT_ONCE: Final = 1 << 20
PART_SIZE: Final = 32 << 20
LARGEST_REQUEST: Final = 5 << 30
"""bytes; S3's own limit"""

_ABSENT: Final = {"404", "NotFound", "NoSuchKey", "NoSuchBucket"}
_REFUSED: Final = {"412", "PreconditionFailed"}
_CONFLICT: Final = {"409", "ConditionalRequestConflict", "OperationAborted"}


@dataclass(frozen=True)
class S3Store(ObjectStore):
    """Objects in S3 buckets, safe between threads, processes and machines."""

    client: Any
    """a boto3 S3 client, made by `open_client`"""
    prefix: str = ""
    """put before each bucket's name"""
    part_size: int = PART_SIZE
    """bytes; S3 takes at least 5 MiB"""

    def get(self, bucket: str, key: str) -> bytes:
        """The object's bytes. Raises ObjectNotFoundError."""
        return self.get_with_head(bucket, key)[0]

    def get_with_head(self, bucket: str, key: str) -> tuple[bytes, ObjectHead]:
        """Bytes and head of one answer. Raises ObjectNotFoundError."""

        def read(body: Any) -> bytes:
            data: bytes = body.read()
            return data

        data, response = self._read(bucket, key, read)
        return data, _head(bucket, key, response, len(data))

    def open(self, bucket: str, key: str) -> BinaryIO:
        """One answer's bytes in a temporary file without a name. Raises ObjectNotFoundError."""
        file: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115  # whoever asked closes it
        try:

            def copy(body: Any) -> None:
                file.seek(0)
                file.truncate()
                for chunk in body.iter_chunks(COPIED_AT_ONCE):
                    file.write(chunk)

            self._read(bucket, key, copy)
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return file

    def _read(self, bucket: str, key: str, read: Callable[[Any], _T]) -> tuple[_T, Any]:
        """What `read` makes of the answer's body, and the answer. Raises ObjectNotFoundError."""
        place = self._place(bucket, key)
        for attempt in range(1, ATTEMPTS + 1):
            with translated("read", bucket, key):
                response = self._found(place, bucket, key)
                try:
                    with closing(response["Body"]) as body:
                        return read(body), response
                except cut_short():  # the client retries requests, not bodies
                    if attempt == ATTEMPTS:
                        raise
        raise AssertionError("the last attempt returns or raises")

    def head(self, bucket: str, key: str) -> ObjectHead | None:
        """The object's head, None where there is none."""
        from botocore.exceptions import ClientError

        place = self._place(bucket, key)
        with translated("look at", bucket, key):
            try:
                response = self.client.head_object(**place)
            except ClientError as error:
                if code_of(error) in _ABSENT:
                    return None
                raise
            return _head(bucket, key, response, response["ContentLength"])

    def put(self, bucket: str, key: str, data: bytes) -> ObjectHead:
        """Write, replacing whatever stands there."""
        head = self._write(bucket, key, data, {})
        assert head is not None
        return head

    def create(self, bucket: str, key: str, data: bytes | Path) -> ObjectHead:
        """Write only if nothing stands there; `data` may be a file. Raises ObjectExistsError."""
        head = self._write(bucket, key, data, {"IfNoneMatch": "*"})
        if head is None:
            what = f"{bucket}/{key} exists already and was left as it is"
            raise ObjectExistsError(what, remedy="read it, or choose another key")
        return head

    def replace_if_unchanged(
        self, bucket: str, key: str, data: bytes, version: str | None
    ) -> ObjectHead:
        """Write only if the version is still this (None: absent). Raises ObjectChangedError."""
        condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": f'"{version}"'}
        head = self._write(bucket, key, data, condition)
        if head is None:
            what = (
                f"{bucket}/{key} is no longer {'at the version' if version else 'absent as'} read"
            )
            raise ObjectChangedError(what, received=version, remedy="read it again and decide anew")
        return head

    def list(
        self, bucket: str, prefix: str = "", stray: Callable[[str], object] | None = None
    ) -> Iterator[ObjectHead]:
        """Heads of objects whose key begins with `prefix`, in key order.

        All are fetched before the first is given: some servers list by directory, where `a/b` comes
        before `a-`.
        """
        from botocore.exceptions import ClientError

        name = self.name(bucket)
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=name, Prefix=prefix)
        heads = []
        with translated("list", bucket, prefix):
            try:
                for page in pages:
                    for entry in page.get("Contents", ()):
                        try:
                            key = validate_key(entry["Key"])
                            heads.append(_head(bucket, key, entry, entry["Size"]))
                        except InvalidKeyError:  # somebody else's object, no key of ours
                            if stray is not None:
                                stray(entry["Key"])
            except ClientError as error:
                if code_of(error) not in _ABSENT:  # no bucket yet: nothing in it
                    raise
        yield from sorted(heads, key=attrgetter("key"))

    def delete(self, bucket: str, key: str) -> None:
        """Remove the object; nothing happens where there is none."""
        from botocore.exceptions import ClientError

        place = self._place(bucket, key)
        with translated("delete", bucket, key):
            try:
                self.client.delete_object(**place)
            except ClientError as error:
                if code_of(error) not in _ABSENT:
                    raise

    @property
    def address(self) -> str:
        return str(self.client.meta.endpoint_url)

    def name(self, bucket: str) -> str:
        """The S3 bucket's name. Raises InvalidKeyError."""
        return self.prefix + validate_bucket(bucket)

    def make_buckets(self) -> tuple[str, ...]:
        """Make every bucket that is missing, Dagster's compute logs' too; the names of all.

        Raises ObjectStoreError where one is missing and these credentials may not make it.
        """
        for bucket in (*BUCKETS, COMPUTE_LOGS):
            self._make_bucket(bucket)
        return tuple(self.prefix + bucket for bucket in (*BUCKETS, COMPUTE_LOGS))

    def check_conditions(self) -> None:
        """Raises ObjectStoreError if the server ignores conditional writes: no pointer is safe there."""
        key = f"doctor/{time.time_ns()}"
        first = self.create(MODEL_PROMOTION, key, b"first")
        try:
            self.replace_if_unchanged(MODEL_PROMOTION, key, b"second", first.version)
            for version in (None, first.version):
                with suppress(ObjectChangedError):
                    self.replace_if_unchanged(MODEL_PROMOTION, key, b"third", version)
                    raise ObjectStoreError(
                        "the S3 server ignores the conditions of a write (If-None-Match, If-Match)",
                        remedy="use one that honours them: AWS, MinIO, SeaweedFS, Ceph",
                    )
        finally:
            self.delete(MODEL_PROMOTION, key)

    def _place(self, bucket: str, key: str) -> dict[str, str]:
        return {"Bucket": self.name(bucket), "Key": validate_key(key)}

    def _found(self, place: Mapping[str, str], bucket: str, key: str) -> Any:
        from botocore.exceptions import ClientError

        try:
            return self.client.get_object(**place)
        except ClientError as error:
            if code_of(error) not in _ABSENT:
                raise
            what = f"no object stands under {bucket}/{key}"
            remedy = f"write it, or upload it to {place['Bucket']}/{key}"
            raise ObjectNotFoundError(what, remedy=remedy) from error

    def _write(
        self, bucket: str, key: str, data: bytes | Path, condition: Mapping[str, str]
    ) -> ObjectHead | None:
        """The written object's head, None if the condition did not hold."""
        from botocore.exceptions import ClientError

        place = self._place(bucket, key)
        largest = LARGEST_REQUEST if condition else self.part_size
        size = _size(data)
        send = self._send_in_parts if size > largest else self._send
        refused: ClientError | None = None
        retried = False
        with translated("write", bucket, key):
            for attempt in range(ATTEMPTS):
                try:
                    answer: Any = send(place, data, condition)
                    return _head(bucket, key, answer, size)
                except ClientError as error:
                    refused, code = error, code_of(error)
                    retried = retried or was_retried(error)
                    if code == "NoSuchBucket":
                        self._make_bucket(bucket)
                    elif code in _CONFLICT:
                        # Another write was under way: S3 decided nothing and wants to be asked again.
                        time.sleep(random.uniform(0, 0.2 * 2**attempt))
                    elif code in _REFUSED or ("IfMatch" in condition and code in _ABSENT):
                        return self._own(bucket, key, data) if retried else None
                    else:
                        raise
            assert refused is not None
            raise refused

    def _own(self, bucket: str, key: str, data: bytes | Path) -> ObjectHead | None:
        """The head, if the object holds these bytes: an earlier attempt's, whose answer was lost."""

        def same(body: Any) -> bool:
            with _opened(data) as ours:
                return _equal(body, ours)

        with suppress(ObjectNotFoundError):
            found, response = self._read(bucket, key, same)
            return _head(bucket, key, response, _size(data)) if found else None
        return None

    def _send(
        self, place: Mapping[str, str], data: bytes | Path, condition: Mapping[str, str]
    ) -> Any:
        with _opened(data) as body:
            return self.client.put_object(**place, Body=body, **condition)

    def _send_in_parts(
        self, place: Mapping[str, str], data: bytes | Path, condition: Mapping[str, str]
    ) -> Any:
        upload = self.client.create_multipart_upload(**place, ChecksumAlgorithm="CRC32")
        target = {**place, "UploadId": upload["UploadId"]}
        try:
            parts = []
            with _opened(data) as source:
                for number, body in enumerate(iter(lambda: source.read(self.part_size), b""), 1):
                    part = self.client.upload_part(**target, PartNumber=number, Body=body)
                    proof = {name: part[name] for name in ("ETag", "ChecksumCRC32") if name in part}
                    parts.append({"PartNumber": number, **proof})
            return self.client.complete_multipart_upload(
                **target, MultipartUpload={"Parts": parts}, **condition
            )
        except BaseException:
            with suppress(
                *client_errors()
            ):  # what is left of it costs room, the first error counts
                self.client.abort_multipart_upload(**target)
            raise

    def _make_bucket(self, bucket: str) -> None:
        from botocore.exceptions import ClientError

        name = self.prefix + bucket
        region = self.client.meta.region_name
        place: dict[str, Any] = {"Bucket": name}
        if region not in (None, "us-east-1", "aws-global"):  # S3 refuses to hear its default
            place["CreateBucketConfiguration"] = {"LocationConstraint": region}
        with translated("make the missing bucket", name, ""):
            try:
                self.client.head_bucket(Bucket=name)
            except ClientError as error:
                if code_of(error) not in _ABSENT:
                    raise
                try:
                    self.client.create_bucket(**place)
                except ClientError as refused:  # somebody else may have made it meanwhile
                    if code_of(refused) not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                        raise
                    self.client.head_bucket(Bucket=name)


def _opened(data: bytes | Path) -> BinaryIO:
    return data.open("rb") if isinstance(data, Path) else io.BytesIO(data)


def _size(data: bytes | Path) -> int:
    return data.stat().st_size if isinstance(data, Path) else len(data)


def _equal(one: Any, other: BinaryIO) -> bool:
    while (part := one.read(COPIED_AT_ONCE)) == other.read(COPIED_AT_ONCE):
        if not part:
            return True
    return False


def _head(bucket: str, key: str, response: Mapping[str, Any], size: int) -> ObjectHead:
    """From any answer that names an ETag. A write's answer has no time but the server's clock."""
    modified: datetime | None = response.get("LastModified")
    if modified is None:
        date = response["ResponseMetadata"]["HTTPHeaders"].get("date")
        modified = parsedate_to_datetime(date) if date else datetime.now(timezone.utc)
    # Listings tell fractions of a second, headers do not.
    modified = modified.astimezone(timezone.utc).replace(microsecond=0)
    return ObjectHead(bucket, key, size, response["ETag"].strip('"'), modified)
