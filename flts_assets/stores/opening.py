"""The object store that the settings name. Everything that reads or writes objects opens it here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flts_assets.settings import Settings
from flts_assets.stores.directory import DirectoryStore
from flts_assets.stores.object_store import MODEL_PROMOTION, ObjectStore

__all__ = ["check_store", "open_store", "prepare_store"]


def open_store(settings: Settings, client: Callable[[], Any] | None = None) -> ObjectStore:
    """A directory below FLTS_HOME, or S3; nothing is asked of the server yet.

    `client` makes the boto3 S3 client where there is a resource for it, as inside Dagster.
    """
    if settings.object_store == "directory":
        return DirectoryStore(settings.home)
    from flts_assets.stores.s3 import S3Store
    from flts_assets.stores.s3_client import open_client

    made = client() if client else open_client(settings.s3_timeout_s, region_name=settings.region)
    return S3Store(made, settings.bucket_prefix)


def prepare_store(store: ObjectStore) -> None:
    """Make the buckets that a first use, Dagster's compute logs and MLflow's server expect on S3.

    Raises ObjectStoreError where one is missing and may not be made.
    """
    from flts_assets.stores.s3 import S3Store

    if isinstance(store, S3Store):
        store.make_buckets()


def check_store(store: ObjectStore) -> str:
    """Where the objects stand, once writes were proven to work. Raises ObjectStoreError."""
    from flts_assets.stores.s3 import S3Store

    if isinstance(store, S3Store):
        store.check_conditions()
        return f"S3 at {store.address}, buckets {store.prefix}*"
    probe = "doctor/probe"
    store.put(MODEL_PROMOTION, probe, b"probe")
    store.delete(MODEL_PROMOTION, probe)
    return "directory"
