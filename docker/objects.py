"""Every object of a deployment on S3, into a folder and back: what docker/backup.sh and restore.sh run.

    python docker/objects.py save FOLDER BUCKET …
    python docker/objects.py load FOLDER BUCKET …

Objects may be written meanwhile. What names others is saved before them, and each time it is looked
anew: so whatever a copy names was there to be copied. `load` goes the other way round, into buckets that
hold nothing yet.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError

from flts_assets.errors import FltsError, ObjectStoreError
from flts_assets.settings import Settings
from flts_assets.stores.object_store import BUCKETS
from flts_assets.stores.opening import open_store
from flts_assets.stores.s3 import COMPUTE_LOGS, S3Store

NAMING = ("current.json", "manifest.json")
"""which attempt counts, which files belong to an attempt; everything else names nothing"""
AT_ONCE = 8


def save(store: S3Store, folder: Path, buckets: list[str]) -> int:
    """Copy out; how many objects."""

    def fetch(name: str, key: str) -> None:
        file = _file(folder / name.removeprefix(store.prefix), key)
        file.parent.mkdir(parents=True, exist_ok=True)
        store.client.download_file(name, key, str(file))

    total = 0
    for names in (*NAMING, None):
        found = [
            (store.prefix + bucket, key)
            for bucket in buckets
            for key in _keys(store, bucket)
            if _naming(key) == names
        ]
        total += _all(fetch, found)
    return total


def load(store: S3Store, folder: Path, buckets: list[str]) -> int:
    """Copy in; how many objects. Raises ObjectStoreError where a bucket holds something."""
    store.make_buckets()
    for bucket in buckets:
        for key in _keys(store, bucket):
            raise ObjectStoreError(
                f"the bucket {store.prefix + bucket} is not empty",
                received=key,
                remedy="restore into a new deployment: two of them cannot be mixed",
            )

    def send(name: str, key: str) -> None:
        store.client.upload_file(
            str(_file(folder / name.removeprefix(store.prefix), key)), name, key
        )

    total = 0
    for names in (None, *reversed(NAMING)):
        found = [
            (store.prefix + bucket, key)
            for bucket in buckets
            for key in _saved(folder / bucket)
            if _naming(key) == names
        ]
        total += _all(send, found)
    return total


def _all(work: Callable[[str, str], None], places: list[tuple[str, str]]) -> int:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in pool.map(lambda place: work(*place), places):
            pass
    return len(places)


def _naming(key: str) -> str | None:
    last = key.rpartition("/")[2]
    return last if last in NAMING else None


def _keys(store: S3Store, bucket: str) -> Iterator[str]:
    pages: Any = store.client.get_paginator("list_objects_v2")
    for page in pages.paginate(Bucket=store.prefix + bucket):
        for entry in page.get("Contents", ()):
            yield entry["Key"]


def _saved(folder: Path) -> Iterator[str]:
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            yield file.relative_to(folder).as_posix()


def _file(folder: Path, key: str) -> Path:
    if ".." in PurePosixPath(key).parts or key != str(PurePosixPath(key)) or key.startswith("/"):
        raise ObjectStoreError("an object's key cannot be a file's name", received=key)
    return folder / key


def main(action: str, folder: str, *buckets: str) -> int:
    if action not in ("save", "load") or not set(buckets) <= {*BUCKETS, COMPUTE_LOGS}:
        sys.stderr.write(f"{__doc__}\nBuckets: {' '.join([*BUCKETS, COMPUTE_LOGS])}\n")
        return 2
    try:
        store = open_store(Settings.from_environment())
        if not isinstance(store, S3Store):
            raise ObjectStoreError(
                "the object store is a directory", remedy="copy FLTS_HOME as it is"
            )
        count = {"save": save, "load": load}[action](store, Path(folder), list(buckets))
    except (FltsError, BotoCoreError, ClientError, Boto3Error, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{action}: {count} objects of {', '.join(buckets)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
