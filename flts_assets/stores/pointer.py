"""The promoted-model pointer: who is champion of a config hash, since when, and who was before.

    model-promotion/<identifier>/<config_hash>/current.json          the champion
    model-promotion/<identifier>/<config_hash>/history/<…>.json      every promotion, written once

A promotion is recorded first, then the pointer moves to it by compare-and-swap. Each promotion names
the one before it, so history is a chain from the pointer back: a record that never became champion
(its writer crashed or lost the race) hangs on no chain.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from flts_assets.errors import ObjectChangedError, ObjectNotFoundError, PromotionError
from flts_assets.stores.artifacts import Place
from flts_assets.stores.object_store import MODEL_PROMOTION, ObjectStore

__all__ = ["GLOBAL", "Pointer", "Promotion", "champions_of", "pointers_of", "told_promotions"]

GLOBAL = "global"


class Promotion(BaseModel):
    """Who was promoted and why. The first six fields are what the predecessor's readers expect."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    run_id: str
    model_type: str
    config_hash: str
    model_uri: str
    """MLflow: runs:/<run_id>/<model_type>"""
    score: float
    timestamp: AwareDatetime

    identifier: str
    experiment: str
    rmse: float
    mae: float
    mse: float
    weights: dict[str, float]
    """of rmse, mae and mse in the score"""
    recipe: str
    """its name"""
    model: Place
    """where the model's manifest and files stand"""
    attempt: str
    """which attempt of that work"""
    leaderboard: str
    """identity of the leaderboard it was chosen from"""
    skill: float
    """1 - score / persistence's score"""
    reason: str
    actor: str
    previous: str | None = None
    """key of the promotion before this one"""
    restores: str | None = None
    """a rollback: key of the promotion that it puts back"""
    overrides: str | None = None
    """a person's decision: identity of the leaderboard whose own choice it overrides"""

    @property
    def by_hand(self) -> bool:
        """A person decided it, at a terminal or through a job."""
        return self.overrides is not None

    @property
    def registered_name(self) -> str:
        """What MLflow's registry calls the champion of this pointer; its alias mirrors the pointer."""
        owner = "" if self.identifier == GLOBAL else f"{self.identifier}."
        return f"{owner}{self.recipe}-{self.config_hash[:8]}"


def told_promotions(store: ObjectStore, under: str = "") -> Iterator[tuple[Pointer, str]]:
    """Every object that tells of a promotion, in the order of their keys: whose it is, and its key.

    That is `pointer.key`, or a record of its history. Other objects of the bucket are passed over:
    tables, reports, and what somebody laid there. `under`: only keys that begin so.
    """
    for head in store.list(MODEL_PROMOTION, under):
        match head.key.split("/"):
            case [identifier, config_hash, "current.json"] | [
                identifier,
                config_hash,
                "history",
                _,
            ]:
                yield Pointer(store, config_hash, identifier), head.key


def champions_of(store: ObjectStore, identifier: str | None) -> Iterator[Promotion]:
    """The champion behind each of an identifier's pointers, in the order of their config hashes."""
    for pointer, key in told_promotions(store, f"{identifier or GLOBAL}/"):
        if key == pointer.key and (found := pointer.read()) is not None:
            yield found[0]


def pointers_of(store: ObjectStore, identifier: str | None) -> dict[str, str]:
    """Config hash -> version of each of an identifier's pointers. Other objects are no pointers."""
    found = {}
    for head in store.list(MODEL_PROMOTION, f"{identifier or GLOBAL}/"):
        _, config_hash, *rest = head.key.split("/")
        if rest == ["current.json"]:
            found[config_hash] = head.version
    return found


class Pointer:
    """The champion of one identifier and config hash."""

    def __init__(self, store: ObjectStore, config_hash: str, identifier: str | None) -> None:
        self._store = store
        self.config_hash = config_hash
        self._folder = f"{identifier or GLOBAL}/{config_hash}"

    @property
    def key(self) -> str:
        return f"{self._folder}/current.json"

    def read(self) -> tuple[Promotion, str] | None:
        """The champion and the pointer's version, None before the first promotion."""
        try:
            data, head = self._store.get_with_head(MODEL_PROMOTION, self.key)
        except ObjectNotFoundError:
            return None
        return self._parsed(data, self.key), head.version

    def move(self, promotion: Promotion, version: str | None) -> None:
        """Record the promotion and make it champion, if the pointer is still at `version`.

        Raises PromotionError if somebody else moved it since it was read.
        """
        data = promotion.model_dump_json(indent=1).encode()
        self._store.create(MODEL_PROMOTION, self._history_key(promotion), data)
        try:
            self._store.replace_if_unchanged(MODEL_PROMOTION, self.key, data, version)
        except ObjectChangedError as error:
            raise PromotionError(
                f"the pointer {MODEL_PROMOTION}/{self.key} was moved by somebody else meanwhile",
                remedy="look at who is champion now, then promote again",
            ) from error

    def history(self) -> Iterator[Promotion]:
        """The champion and all before it, newest first."""
        current = self.read()
        promotion = current[0] if current else None
        while promotion is not None:
            yield promotion
            if promotion.previous is None:
                return
            promotion = self.recorded(promotion.previous)

    def recorded(self, key: str) -> Promotion:
        """The promotion recorded under this key."""
        return self._parsed(self._store.get(MODEL_PROMOTION, key), key)

    def records(self) -> dict[str, Promotion]:
        """Every record of the history by its key, oldest first; some may never have become champion."""
        heads = self._store.list(MODEL_PROMOTION, f"{self._folder}/history/")
        return {
            head.key: self._parsed(self._store.get(MODEL_PROMOTION, head.key), head.key)
            for head in heads
        }

    def key_of(self, champion: Promotion | None) -> str | None:
        """What the next promotion names as `previous`."""
        return None if champion is None else self._history_key(champion)

    def _history_key(self, promotion: Promotion) -> str:
        moment = promotion.timestamp.strftime("%Y%m%dT%H%M%S.%fZ")
        return f"{self._folder}/history/{moment}-{promotion.run_id}.json"

    def _parsed(self, data: bytes, key: str) -> Promotion:
        try:
            return Promotion.model_validate_json(data)
        except ValidationError as error:
            raise PromotionError(
                f"{MODEL_PROMOTION}/{key} is no promotion record: {error}",
                remedy="repair it: nobody can tell what it names",
            ) from error
