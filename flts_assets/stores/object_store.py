"""The small interface through which FLTS keeps bytes, whatever keeps them.

Two conditional writes carry all the safety of the platform: *create-once* makes records that nothing
overwrites, *replace-if-unchanged* moves a pointer only if nobody moved it in between.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol

from flts_assets.errors import InvalidKeyError

__all__ = ["BUCKETS", "ObjectHead", "ObjectStore", "validate_bucket", "validate_key"]

DATASET = "dataset"
PROCESSED_DATA = "processed-data"
MODELS = "models"
MLFLOW = "mlflow"
MODEL_PROMOTION = "model-promotion"
INFERENCE_LOGS = "inference-logs"
RECIPES = "recipes"

BUCKETS = (DATASET, RECIPES, PROCESSED_DATA, MODELS, MLFLOW, MODEL_PROMOTION, INFERENCE_LOGS)

_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._=+-]{0,199}")


@dataclass(frozen=True)
class ObjectHead:
    """What a store knows of an object without reading it."""

    bucket: str
    key: str
    size: int
    """bytes"""
    version: str
    """changes with every write (an ETag); opaque, only for `replace_if_unchanged`"""
    modified: datetime
    """time-zone aware, UTC"""


class ObjectStore(Protocol):
    """Buckets of immutable-by-convention objects. Every write is atomic: readers see all or nothing."""

    def get(self, bucket: str, key: str) -> bytes:
        """The object's bytes. Raises ObjectNotFoundError."""
        ...

    def get_with_head(self, bucket: str, key: str) -> tuple[bytes, ObjectHead]:
        """Bytes and head of one and the same version. Raises ObjectNotFoundError."""
        ...

    def open(self, bucket: str, key: str) -> BinaryIO:
        """One version's bytes as a file to read and seek in, not held in memory.

        Raises ObjectNotFoundError.
        """
        ...

    def head(self, bucket: str, key: str) -> ObjectHead | None:
        """The object's head, None where there is none."""
        ...

    def put(self, bucket: str, key: str, data: bytes) -> ObjectHead:
        """Write, replacing whatever stands there."""
        ...

    def create(self, bucket: str, key: str, data: bytes | Path) -> ObjectHead:
        """Write only if nothing stands there; `data` may be a file. Raises ObjectExistsError."""
        ...

    def replace_if_unchanged(
        self, bucket: str, key: str, data: bytes, version: str | None
    ) -> ObjectHead:
        """Write only if the object's version is still `version` (None: still absent).

        Raises ObjectChangedError.
        """
        ...

    def list(
        self, bucket: str, prefix: str = "", stray: Callable[[str], object] | None = None
    ) -> Iterator[ObjectHead]:
        """Heads of all objects whose key begins with `prefix`, in the order of their keys.

        `stray` is called with each name below the prefix that somebody else put there and is no key.
        """
        ...

    def delete(self, bucket: str, key: str) -> None:
        """Remove the object; nothing happens where there is none."""
        ...


def validate_bucket(bucket: str) -> str:
    """The bucket's name, if it is one of BUCKETS. Raises InvalidKeyError."""
    if bucket not in BUCKETS:
        raise InvalidKeyError("unknown bucket", received=bucket, allowed=", ".join(BUCKETS))
    return bucket


def validate_key(key: str) -> str:
    """The key, if it is safe on every store. Raises InvalidKeyError."""
    segments = key.split("/")
    if len(key) > 900 or not all(_SEGMENT.fullmatch(segment) for segment in segments):
        raise InvalidKeyError(
            "an object key is not usable",
            received=key,
            allowed=(
                "segments of letters, digits and . _ = + - joined by single slashes, none beginning"
                " with a dot or a dash, at most 900 characters"
            ),
        )
    return key
