"""Complete sets of files with proof: written once, described by a manifest that comes last.

    <bucket>/<config_hash>/<stage>/<fingerprint>/<attempt>/…               files, never overwritten
    <bucket>/<config_hash>/<stage>/<fingerprint>/<attempt>/manifest.json   what they are, written last
    <bucket>/<config_hash>/<stage>/<fingerprint>/current.json              which attempt counts

A crash leaves files that no manifest names, which nobody sees. Of two writers of the same work the first
one counts. A forced recomputation makes a new attempt current; what an older record names stays whole.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, BinaryIO, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from flts_assets.errors import ArtifactError, ObjectChangedError, ObjectNotFoundError
from flts_assets.stores.object_store import ObjectStore

__all__ = [
    "Artifacts",
    "FileRecord",
    "Manifest",
    "Outputs",
    "Place",
    "new_attempt",
    "size_and_sha256",
]

MANIFEST: Final = "manifest.json"
_LIBRARIES: Final = (
    "flts",
    "numpy",
    "pandas",
    "pyarrow",
    "scikit-learn",
    "scipy",
    "skl2onnx",
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
    def current_key(self) -> str:
        return f"{self.prefix}/current.json"

    def file_key(self, attempt: str, name: str) -> str:
        return f"{self.prefix}/{attempt}/{name}"


class FileRecord(_Frozen):
    key: str
    size: int
    """bytes"""
    sha256: str
    describes: bool = False
    """tells of the work (times, pictures) and is no input of a later stage"""


class Manifest(_Frozen):
    """What a stage left, and what it knew while it worked."""

    format: int = 1
    place: Place
    attempt: str
    code_version: str
    inputs: dict[str, str]
    """name -> identity of what was read"""
    created_at: datetime
    python: str
    libraries: dict[str, str]
    files: dict[str, FileRecord]
    facts: dict[str, Any]
    """JSON values that describe the work: counts, scores, durations"""

    @property
    def identity(self) -> str:
        """What a later stage names as the input it read: a digest of the work and its content.

        The same work done again with the same bytes has the same identity.
        """
        content = [f"{self.place.fingerprint}\n"]
        content += [
            f"{name} {record.sha256}\n"
            for name, record in sorted(self.files.items())
            if not record.describes
        ]
        return hashlib.sha256("".join(content).encode()).hexdigest()

    @property
    def key(self) -> str:
        return self.place.file_key(self.attempt, MANIFEST)

    @property
    def total_size(self) -> int:
        return sum(record.size for record in self.files.values())


@dataclass(frozen=True)
class Outputs:
    """What a stage computed."""

    files: Mapping[str, bytes | Path]
    """what later stages read, in memory or in a file; equal work gives equal bytes"""
    facts: Mapping[str, Any]
    """JSON values"""
    descriptions: Mapping[str, bytes] = field(default_factory=dict)
    """files for people: times, pictures"""


def new_attempt() -> str:
    """A name for one try at a piece of work."""
    return uuid.uuid4().hex[:12]


class Artifacts:
    """Writes and reads complete sets of files on an object store."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def find(self, place: Place) -> Manifest | None:
        """The current attempt's manifest, if every file it names stands unaltered."""
        try:
            attempt = json.loads(self._store.get(place.bucket, place.current_key))["attempt"]
        except (ObjectNotFoundError, ValueError, LookupError, TypeError):
            return None
        return self.find_attempt(place, str(attempt))

    def find_attempt(self, place: Place, attempt: str) -> Manifest | None:
        """This very attempt's manifest, if every file it names stands unaltered."""
        key = place.file_key(attempt, MANIFEST)
        try:
            manifest = _parsed(self._store.get(place.bucket, key), f"{place.bucket}/{key}")
            for name in manifest.files:
                self.open(manifest, name).close()
        except (ObjectNotFoundError, ArtifactError):
            return None
        return manifest

    def described(self, place: Place, attempt: str | None = None) -> Manifest:
        """The manifest that stands there, its files not looked at. Raises ArtifactError."""
        try:
            if attempt is None:
                current = self._store.get(place.bucket, place.current_key)
                attempt = str(json.loads(current)["attempt"])
            key = place.file_key(attempt, MANIFEST)
            return _parsed(self._store.get(place.bucket, key), f"{place.bucket}/{key}")
        except ObjectNotFoundError as error:
            raise ArtifactError(error.what, remedy=_remedy(place)) from error
        except (ValueError, LookupError, TypeError) as error:
            raise ArtifactError(
                f"{place.bucket}/{place.current_key} does not say which attempt counts",
                remedy=_remedy(place),
            ) from error

    def get(self, place: Place, attempt: str | None = None) -> Manifest:
        """`find`, or `find_attempt`. Raises ArtifactError where nothing complete stands."""
        manifest = self.find(place) if attempt is None else self.find_attempt(place, attempt)
        if manifest is None:
            raise ArtifactError(
                f"no complete outputs of {place.stage} at"
                f" {place.bucket}/{place.prefix}/{attempt or ''}",
                remedy=_remedy(place),
            )
        return manifest

    def of_identity(
        self, bucket: str, config_hash: str, stage: str, identity: str
    ) -> Manifest | None:
        """The attempt that a later stage names so among its inputs, if its manifest still stands."""
        for head in self._store.list(bucket, f"{config_hash}/{stage}/"):
            if head.key.endswith(f"/{MANIFEST}"):
                with suppress(ArtifactError):  # one that cannot be read is not the one
                    text = self._store.get(bucket, head.key)
                    manifest = _parsed(text, f"{bucket}/{head.key}")
                    if manifest.identity == identity:
                        return manifest
        return None

    def version(self, place: Place) -> str | None:
        """Changes whenever another attempt becomes current; None before the first."""
        head = self._store.head(place.bucket, place.current_key)
        return None if head is None else head.version

    def write(
        self,
        place: Place,
        outputs: Outputs,
        inputs: Mapping[str, str],
        *,
        code_version: str,
        attempt: str,
        replacing: str | None = None,
    ) -> Manifest:
        """Store the files, then their manifest, then make this attempt current.

        `replacing` is the `version` that was seen before the work began (None: nothing stood there).
        If another attempt became current since, that one counts and is returned.
        """
        files = {
            name: self._write_file(place, place.file_key(attempt, name), data, describes)
            for group, describes in ((outputs.files, False), (outputs.descriptions, True))
            for name, data in group.items()
        }
        manifest = Manifest(
            place=place,
            attempt=attempt,
            code_version=code_version,
            inputs=dict(inputs),
            created_at=datetime.now(timezone.utc),
            python=platform.python_version(),
            libraries=_library_versions(),
            files=files,
            facts=dict(outputs.facts),
        )
        text = manifest.model_dump_json(indent=1).encode()
        self._store.create(place.bucket, manifest.key, text)
        current = json.dumps({"attempt": attempt}).encode()
        try:
            self._store.replace_if_unchanged(place.bucket, place.current_key, current, replacing)
        except ObjectChangedError:
            return self.get(place)
        return manifest

    def read(self, manifest: Manifest, name: str) -> bytes:
        """A file's bytes, checked. Raises ArtifactError: unknown, missing, truncated or altered."""
        with self.open(manifest, name) as file:
            return file.read()

    def open(self, manifest: Manifest, name: str) -> BinaryIO:
        """`read`, as a file to read and seek in: its bytes are not held in memory."""
        place = manifest.place
        record = manifest.files.get(name)
        if record is None:
            raise ArtifactError(
                f"{place.bucket}/{manifest.key} names no such file",
                received=name,
                allowed=", ".join(manifest.files),
            )
        try:
            file = self._store.open(place.bucket, record.key)
        except ObjectNotFoundError as error:
            raise ArtifactError(
                f"{place.bucket}/{record.key} is missing", remedy=_remedy(place)
            ) from error
        size, sha256 = size_and_sha256(file)
        if (size, sha256) != (record.size, record.sha256):
            file.close()
            raise ArtifactError(
                f"{place.bucket}/{record.key} is not what its manifest says",
                received=f"{size} bytes, sha256 {sha256}",
                allowed=f"{record.size} bytes, sha256 {record.sha256}",
                remedy=_remedy(place),
            )
        file.seek(0)
        return file

    def read_all(self, manifest: Manifest) -> dict[str, bytes]:
        """Every file, checked. Raises ArtifactError."""
        return {name: self.read(manifest, name) for name in manifest.files}

    def _write_file(
        self, place: Place, key: str, data: bytes | Path, describes: bool
    ) -> FileRecord:
        self._store.create(place.bucket, key, data)
        with data.open("rb") if isinstance(data, Path) else io.BytesIO(data) as file:
            size, sha256 = size_and_sha256(file)
        return FileRecord(key=key, size=size, sha256=sha256, describes=describes)


def size_and_sha256(file: BinaryIO) -> tuple[int, str]:
    """Of a file from where it stands to its end."""
    size, digest = 0, hashlib.sha256()
    while part := file.read(1 << 20):
        size += len(part)
        digest.update(part)
    return size, digest.hexdigest()


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
