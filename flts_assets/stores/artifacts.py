"""Complete sets of files with proof: written once, described by a manifest that comes last.

    <bucket>/<config_hash>/<stage>/<fingerprint>/manifest.json      what is complete
    <bucket>/<config_hash>/<stage>/<fingerprint>/<attempt>/…        its files, never overwritten

A crash leaves files without a manifest, which nobody sees. Of two writers of the same work the first
manifest wins and both return it; a forced recomputation replaces the manifest, and the files that an
older record names stay.
"""

from __future__ import annotations

import hashlib
import platform
import uuid
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from flts_assets.errors import ArtifactError, ObjectExistsError, ObjectNotFoundError
from flts_assets.stores.object_store import ObjectStore

__all__ = ["Artifacts", "FileRecord", "Manifest", "Place", "new_attempt"]

MANIFEST: Final = "manifest.json"
_LIBRARIES: Final = (
    "flts",
    "numpy",
    "pandas",
    "pyarrow",
    "scikit-learn",
    "torch",
    "onnx",
    "onnxruntime",
    "prophet",
)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Place(_Frozen):
    """Where the outputs of one piece of work stand."""

    bucket: str
    config_hash: str
    stage: str
    fingerprint: str

    @property
    def prefix(self) -> str:
        return f"{self.config_hash}/{self.stage}/{self.fingerprint[:16]}"

    @property
    def manifest_key(self) -> str:
        return f"{self.prefix}/{MANIFEST}"

    def file_key(self, attempt: str, name: str) -> str:
        return f"{self.prefix}/{attempt}/{name}"


class FileRecord(_Frozen):
    key: str
    size: int
    """bytes"""
    sha256: str


class Manifest(_Frozen):
    """What a stage left, and what it knew while it worked."""

    format: int = 1
    place: Place
    attempt: str
    code_version: str
    created_at: datetime
    python: str
    libraries: dict[str, str]
    files: dict[str, FileRecord]
    facts: dict[str, Any]
    """JSON values that describe the work: counts, scores, durations"""

    @property
    def identity(self) -> str:
        """What a later stage names as the input it read."""
        return f"{self.place.fingerprint}/{self.attempt}"

    @property
    def total_size(self) -> int:
        return sum(record.size for record in self.files.values())


def new_attempt() -> str:
    """A name for one try at a piece of work."""
    return uuid.uuid4().hex[:12]


class Artifacts:
    """Writes and reads complete sets of files on an object store."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def find(self, place: Place) -> Manifest | None:
        """The manifest, if it stands and every file it names is there in its full size."""
        try:
            text = self._store.get(place.bucket, place.manifest_key)
        except ObjectNotFoundError:
            return None
        manifest = _parsed(text, f"{place.bucket}/{place.manifest_key}")
        whole = all(
            (head := self._store.head(place.bucket, record.key)) is not None
            and head.size == record.size
            for record in manifest.files.values()
        )
        return manifest if whole else None

    def get(self, place: Place) -> Manifest:
        """Like `find`. Raises ArtifactError where nothing complete stands."""
        manifest = self.find(place)
        if manifest is None:
            raise ArtifactError(
                f"no complete outputs of {place.stage} at {place.bucket}/{place.prefix}",
                remedy=f"run the stage {place.stage} of partition {place.config_hash} again",
            )
        return manifest

    def write(
        self,
        place: Place,
        files: Mapping[str, bytes],
        facts: Mapping[str, Any],
        *,
        code_version: str,
        attempt: str,
    ) -> Manifest:
        """Store the files, then the manifest.

        What stood there complete before the files were written is replaced (the caller has looked
        with `find` and decided to recompute); a manifest that appeared meanwhile wins, and is
        returned instead.
        """
        before = self._store.head(place.bucket, place.manifest_key)
        records = {
            name: self._write_file(place, place.file_key(attempt, name), data)
            for name, data in files.items()
        }
        manifest = Manifest(
            place=place,
            attempt=attempt,
            code_version=code_version,
            created_at=datetime.now(timezone.utc),
            python=platform.python_version(),
            libraries=_library_versions(),
            files=records,
            facts=dict(facts),
        )
        data = manifest.model_dump_json(indent=1).encode()
        if before is not None:
            self._store.put(place.bucket, place.manifest_key, data)
            return manifest
        try:
            self._store.create(place.bucket, place.manifest_key, data)
        except ObjectExistsError:
            return self.get(place)
        return manifest

    def read(self, manifest: Manifest, name: str) -> bytes:
        """A file's bytes, checked. Raises ArtifactError: unknown, missing, truncated or altered."""
        place = manifest.place
        record = manifest.files.get(name)
        if record is None:
            raise ArtifactError(
                f"{place.bucket}/{place.manifest_key} names no such file",
                received=name,
                allowed=", ".join(manifest.files),
            )
        try:
            data = self._store.get(place.bucket, record.key)
        except ObjectNotFoundError as error:
            raise ArtifactError(
                f"{place.bucket}/{record.key} is missing", remedy=_remedy(place)
            ) from error
        if len(data) != record.size or hashlib.sha256(data).hexdigest() != record.sha256:
            raise ArtifactError(
                f"{place.bucket}/{record.key} is not what its manifest says",
                received=f"{len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}",
                allowed=f"{record.size} bytes, sha256 {record.sha256}",
                remedy=_remedy(place),
            )
        return data

    def read_all(self, manifest: Manifest) -> dict[str, bytes]:
        """Every file, checked. Raises ArtifactError."""
        return {name: self.read(manifest, name) for name in manifest.files}

    def _write_file(self, place: Place, key: str, data: bytes) -> FileRecord:
        self._store.create(place.bucket, key, data)
        return FileRecord(key=key, size=len(data), sha256=hashlib.sha256(data).hexdigest())


def _parsed(text: bytes, where: str) -> Manifest:
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        raise ArtifactError(
            f"{where} is not a manifest: {error}", remedy="delete it and run the stage again"
        ) from error


def _remedy(place: Place) -> str:
    return f"recompute it: flts run <recipe> --force (partition {place.config_hash})"


def _library_versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
