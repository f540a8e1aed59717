"""Which attempts nothing names any more, and their removal.

Kept is what a `current.json`, a pointer, a promotion's record or a kept leaderboard names, and what the
manifests of all these name as their inputs, to the beginning. Kept is also what is young: a run under
way may be writing it, or may have read it and be about to name it. So an attempt goes only when its own
files *and* its place's `current.json` were last written before `before`.

What cannot be read might name anything: then an error is raised and nothing is removed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple

from pydantic import ValidationError

from flts_assets.errors import ArtifactError
from flts_assets.stores.artifacts import MANIFEST, Artifacts, Manifest
from flts_assets.stores.object_store import (
    MODELS,
    PROCESSED_DATA,
    ObjectHead,
    ObjectStore,
)
from flts_assets.stores.pointer import Promotion, told_promotions

__all__ = ["Garbage", "every_promotion", "find_garbage", "remove"]

_BUCKETS: Final = (PROCESSED_DATA, MODELS)
_LEADERBOARD: Final = "leaderboard"
_BOARD_FILE: Final = "leaderboard.json"


class _Name(NamedTuple):
    """Of an attempt: bucket/config_hash/stage/fingerprint/attempt."""

    bucket: str
    config_hash: str
    stage: str
    fingerprint: str
    """its first 16 digits"""
    attempt: str


@dataclass
class _Attempt:
    heads: list[ObjectHead] = field(default_factory=list)
    manifest: Manifest | None = None

    @property
    def complete(self) -> bool:
        """Every file that the manifest names stands in its size."""
        sizes = {head.key: head.size for head in self.heads}
        return self.manifest is not None and all(
            sizes.get(record.key) == record.size for record in self.manifest.files.values()
        )


@dataclass(frozen=True)
class Garbage:
    """One attempt that nothing names."""

    where: str
    why: str
    attempt: str
    heads: tuple[ObjectHead, ...]
    """the manifest first: without it nobody sees the rest"""

    @property
    def size(self) -> int:
        """bytes"""
        return sum(head.size for head in self.heads)


def find_garbage(store: ObjectStore, before: datetime) -> list[Garbage]:
    """Attempts that nothing names, last written before this moment (time-zone aware).

    Raises ArtifactError and PromotionError where something cannot be read.
    """
    attempts, currents = _listed(store)
    kept = _Kept(store, attempts)
    for promotion in every_promotion(store):
        place = promotion.model
        kept.name(
            _Name(
                place.bucket,
                place.config_hash,
                place.stage,
                place.fingerprint[:16],
                promotion.attempt,
            )
        )
        for identity in (promotion.leaderboard, promotion.overrides):
            if identity is not None:
                kept.identity(promotion.config_hash, _LEADERBOARD, identity)
    for head in currents.values():
        config_hash, stage, fingerprint, _ = head.key.split("/")
        kept.name(_Name(head.bucket, config_hash, stage, fingerprint, _current(store, head)))
    kept.close()
    return [
        _garbage(name, attempt)
        for name, attempt in sorted(attempts.items())
        if name not in kept.names
        and all(head.modified < before for head in [*attempt.heads, *_of_place(currents, name)])
    ]


def remove(store: ObjectStore, garbage: Garbage) -> None:
    """Can be repeated after an interruption: what is left has no manifest, and is found again."""
    for head in garbage.heads:
        store.delete(head.bucket, head.key)


def every_promotion(store: ObjectStore) -> Iterator[Promotion]:
    """Behind every pointer and in every history, of every identifier. Raises PromotionError."""
    for pointer, key in told_promotions(store):
        yield pointer.recorded(key)


class _Kept:
    """Grows by what is named, until nothing new is."""

    def __init__(self, store: ObjectStore, attempts: dict[_Name, _Attempt]) -> None:
        self._store = store
        self._attempts = attempts
        self._by_identity: dict[tuple[str, str, str], list[_Name]] = {}
        for name, attempt in attempts.items():
            if attempt.manifest is not None:
                key = (name.config_hash, name.stage, attempt.manifest.identity)
                self._by_identity.setdefault(key, []).append(name)
        self._identities: set[tuple[str, str, str]] = set()
        self._open: list[_Name] = []
        self.names: set[_Name] = set()

    def name(self, name: _Name) -> None:
        if name not in self.names:
            self.names.add(name)
            self._open.append(name)

    def identity(self, config_hash: str, stage: str, identity: str) -> None:
        self._identities.add((config_hash, stage, identity))

    def close(self) -> None:
        """Names first; then one attempt of each identity, of those that hold the same bytes."""
        while self._open or self._identities:
            while self._open:
                self._follow(self._open.pop())
            while self._identities and not self._open:
                self._choose(self._by_identity.get(self._identities.pop(), []))

    def _choose(self, same: list[_Name]) -> None:
        whole = [name for name in same if self._attempts[name].complete]
        if any(name in self.names for name in whole):
            return
        if not whole:  # damaged: a person may still mend one from another
            for name in same:
                self.name(name)
            return
        self.name(max(whole, key=self._written))

    def _written(self, name: _Name) -> datetime:
        manifest = self._attempts[name].manifest
        assert manifest is not None
        return manifest.created_at

    def _follow(self, name: _Name) -> None:
        attempt = self._attempts.get(name)
        if attempt is None or attempt.manifest is None:
            return
        for stage, identity in attempt.manifest.inputs.items():
            self.identity(name.config_hash, stage, identity)
        if name.stage == _LEADERBOARD:
            self._follow_board(name.config_hash, attempt.manifest)

    def _follow_board(self, config_hash: str, manifest: Manifest) -> None:
        """A leaderboard names the very attempts whose forecasts it scored."""
        board = json.loads(Artifacts(self._store).read(manifest, _BOARD_FILE))
        scored = {
            (config_hash, entry["trained"]["fingerprint"][:16], entry["trained"]["attempt"])
            for entry in board["entries"]
            if entry.get("trained")
        }
        for name in self._attempts:
            if (name.config_hash, name.fingerprint, name.attempt) in scored:
                self.name(name)


def _listed(
    store: ObjectStore,
) -> tuple[dict[_Name, _Attempt], dict[tuple[str, ...], ObjectHead]]:
    """Attempts, and the `current.json` of each place. What lies elsewhere is nobody's to remove."""
    attempts: dict[_Name, _Attempt] = {}
    currents: dict[tuple[str, ...], ObjectHead] = {}
    for bucket in _BUCKETS:
        for head in store.list(bucket):
            config_hash, *rest = head.key.split("/")
            if len(rest) == 3 and rest[2] == "current.json":
                currents[bucket, config_hash, rest[0], rest[1]] = head
            elif len(rest) >= 4:
                name = _Name(bucket, config_hash, rest[0], rest[1], rest[2])
                attempt = attempts.setdefault(name, _Attempt())
                attempt.heads.append(head)
                if rest[3:] == [MANIFEST]:
                    attempt.manifest = _manifest(store, head)
    return attempts, currents


def _manifest(store: ObjectStore, head: ObjectHead) -> Manifest:
    try:
        return Manifest.model_validate_json(store.get(head.bucket, head.key))
    except ValidationError as error:
        raise ArtifactError(
            f"{head.bucket}/{head.key} is not a manifest: {error}",
            remedy="delete it if nothing needs it: what it names must not be removed",
        ) from error


def _current(store: ObjectStore, head: ObjectHead) -> str:
    try:
        return str(json.loads(store.get(head.bucket, head.key))["attempt"])
    except (ValueError, LookupError, TypeError) as error:
        raise ArtifactError(
            f"{head.bucket}/{head.key} does not say which attempt counts",
            remedy="run its recipe again: flts run <recipe> --force",
        ) from error


def _of_place(currents: dict[tuple[str, ...], ObjectHead], name: _Name) -> list[ObjectHead]:
    head = currents.get(tuple(name[:4]))
    return [] if head is None else [head]


def _garbage(name: _Name, attempt: _Attempt) -> Garbage:
    bucket, *parts = name
    return Garbage(
        where=f"{bucket}/{'/'.join(parts)}",
        why="has no manifest"
        if attempt.manifest is None
        else "was superseded, and nothing names it",
        attempt=name.attempt,
        heads=tuple(sorted(attempt.heads, key=lambda head: not head.key.endswith(f"/{MANIFEST}"))),
    )
