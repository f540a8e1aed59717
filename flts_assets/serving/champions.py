"""Who is served: each station's newest promotion, loaded and proven, swapped while requests go on.

A pointer that names missing, truncated or altered files, or a model that does not give its recorded
forecast, is refused, told, and tried again later; what was served before goes on being served.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from flts_assets.errors import FltsError
from flts_assets.logs import EventLog
from flts_assets.serving.champion import Champion, load_champion
from flts_assets.serving.libraries import Difference
from flts_assets.stores.object_store import MODEL_PROMOTION, ObjectStore
from flts_assets.stores.pointer import GLOBAL, Pointer, Promotion, pointers_of

__all__ = ["Champion", "Champions", "Served"]

RETRY_S: Final = 1.0
"""A refused promotion is tried again after this, then after twice as long each time …"""
MOST_RETRY_S: Final = 60.0
"""… up to this: an altered file stays altered, a store that hiccups recovers."""
HISTORY: Final = 50
"""Promotions that are told of one pointer."""
REMEMBERED: Final = 1000
"""Records of past promotions, about 2 kB each."""


@dataclass(frozen=True)
class Served:
    """What requests are answered with; never changed, only replaced as a whole."""

    by_hash: Mapping[str, Champion] = field(default_factory=lambda: MappingProxyType({}))
    refused: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """config hash of a pointer that is not served -> why"""

    @property
    def newest(self) -> Champion | None:
        """Who answers a request that names nobody."""
        return max(self.by_hash.values(), key=_promoted_at, default=None)

    def of_station(self, station: str) -> Champion | None:
        """The station's newest champion, whatever recipe it comes from."""
        own = (one for one in self.by_hash.values() if one.station == station)
        return max(own, key=_promoted_at, default=None)


@dataclass(frozen=True)
class _Refusal:
    """Why a promotion is not served, and when it is tried again."""

    version: str
    why: str
    """for clients"""
    text: str
    """for the log"""
    wait_s: float
    again_at: float
    """of time.monotonic"""


class Champions:
    """The champions of one identifier, kept up to date by `refresh`."""

    def __init__(
        self,
        store: ObjectStore,
        identifier: str | None,
        config_hash: str | None,
        threads: int,
        log: EventLog,
    ) -> None:
        """`config_hash`: serve this recipe's champion alone; None: every recipe's."""
        self.store = store
        self._identifier = identifier or GLOBAL
        self._config_hash = config_hash
        self._threads = threads
        self._log = log
        self._refusals: dict[str, _Refusal] = {}
        self._told: set[Difference] = set()
        # Records are written once: each is read once.
        self._recorded = lru_cache(REMEMBERED)(Pointer(store, "any", identifier).recorded)
        self.served = Served()

    def refresh(self) -> bool:
        """Look at the pointers, load what is new, swap. True if anything changed.

        What is refused is tried again, at first after RETRY_S, then ever more seldom.
        Raises ObjectStoreError if the store cannot be read; what is served stays.
        """
        versions = self._versions()
        now = time.monotonic()
        by_hash = {name: one for name, one in self.served.by_hash.items() if name in versions}
        refusals = {name: one for name, one in self._refusals.items() if name in versions}
        for name, version in versions.items():
            refusal = refusals.get(name)
            if name in by_hash and by_hash[name].version == version:
                refusals.pop(name, None)
            elif refusal is None or refusal.version != version or refusal.again_at <= now:
                try:
                    champion = load_champion(self.store, self._identifier, name, self._threads)
                except Exception as error:  # whatever one of them has, the others are served
                    refusals[name] = self._refuse(name, version, error)
                else:
                    refusals.pop(name, None)
                    by_hash.pop(name, None)
                    if champion is not None:
                        by_hash[name] = champion
                        self._tell_loaded(champion)
        self._refusals = refusals
        refused = {name: one.why for name, one in refusals.items()}
        before = self.served
        if by_hash == before.by_hash and refused == before.refused:
            return False
        self.served = Served(MappingProxyType(by_hash), MappingProxyType(refused))
        return True

    def history(self, champion: Champion) -> list[Promotion]:
        """The champion and those before it, newest first: HISTORY at most, as far as records stand."""
        found = [champion.promotion]
        while len(found) < HISTORY and (key := found[-1].previous):
            try:
                found.append(self._recorded(key))
            except FltsError as error:
                self._log.warning("history_ends", key=key, message=str(error))
                break
        return found

    def _refuse(self, name: str, version: str, error: Exception) -> _Refusal:
        """Told in the log unless it was already: of this promotion, for this reason."""
        text = f"{type(error).__name__}: {error}"
        wait_s, before = RETRY_S, self._refusals.get(name)
        if before is not None and before.version == version:
            wait_s = min(2 * before.wait_s, MOST_RETRY_S)
        if before is None or (before.version, before.text) != (version, text):
            self._log.error("champion_refused", config_hash=name, message=text)
        why = error.told if isinstance(error, FltsError) else type(error).__name__
        return _Refusal(version, why, text, wait_s, time.monotonic() + wait_s)

    def _tell_loaded(self, champion: Champion) -> None:
        promotion = champion.promotion
        self._log.info(
            "champion_loaded",
            config_hash=promotion.config_hash,
            model_type=promotion.model_type,
            run_id=promotion.run_id,
        )
        for one in champion.differences:
            if one not in self._told:
                self._told.add(one)
                self._log.warning("library_differs", **one.as_dict())

    def _versions(self) -> dict[str, str]:
        """Config hash -> version of its pointer."""
        if self._config_hash is not None:
            key = Pointer(self.store, self._config_hash, self._identifier).key
            head = self.store.head(MODEL_PROMOTION, key)
            return {} if head is None else {self._config_hash: head.version}
        return pointers_of(self.store, self._identifier)


def _promoted_at(champion: Champion) -> datetime:
    return champion.promotion.timestamp
