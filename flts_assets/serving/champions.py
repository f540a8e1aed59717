"""Who is served: each station's newest promotion, loaded and proven, swapped while requests go on.

A pointer that names missing, truncated or altered files, or a model that does not give its recorded
forecast, is refused and told; what was served before goes on being served.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from types import MappingProxyType

from flts_assets.errors import FltsError
from flts_assets.forecasting.forecaster import (
    EXAMPLE_FILE,
    Forecaster,
    check_example,
    load_forecaster,
)
from flts_assets.logs import EventLog
from flts_assets.recipe import Recipe
from flts_assets.stores.artifacts import Artifacts
from flts_assets.stores.object_store import MODEL_PROMOTION, ObjectStore
from flts_assets.stores.pointer import GLOBAL, Pointer, Promotion
from flts_assets.stores.recipes import RecipeRegistry

__all__ = ["Champion", "Champions", "Served"]


@dataclass(frozen=True)
class Champion:
    """A promoted model, ready to forecast."""

    promotion: Promotion
    recipe: Recipe
    forecaster: Forecaster
    loaded_at: datetime

    @property
    def station(self) -> str:
        return self.recipe.station


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
        self._artifacts = Artifacts(store)
        self._registry = RecipeRegistry(store)
        self._identifier = identifier or GLOBAL
        self._config_hash = config_hash
        self._threads = threads
        self._log = log
        self._seen: dict[str, str] = {}
        self.served = Served()

    def refresh(self) -> bool:
        """Look at the pointers, load what is new, swap. True if anything changed.

        Raises ObjectStoreError if the store cannot be read; what is served stays.
        """
        versions = self._versions()
        changed = {name for name, seen in versions.items() if self._seen.get(name) != seen}
        gone = self._seen.keys() - versions.keys()
        if not changed and not gone:
            return False
        by_hash = {name: one for name, one in self.served.by_hash.items() if name not in gone}
        refused = {name: why for name, why in self.served.refused.items() if name not in gone}
        for name in sorted(changed):
            refused.pop(name, None)
            try:
                by_hash[name] = self._load(name)
            except FltsError as error:
                refused[name] = str(error)
                self._log.error("champion_refused", config_hash=name, message=str(error))
            else:
                promotion = by_hash[name].promotion
                self._log.info(
                    "champion_loaded",
                    config_hash=name,
                    model_type=promotion.model_type,
                    run_id=promotion.run_id,
                )
        self.served = Served(MappingProxyType(by_hash), MappingProxyType(refused))
        self._seen = versions
        return True

    def history(self, champion: Champion) -> list[Promotion]:
        """The champion and all before it, newest first."""
        return list(Pointer(self.store, champion.recipe.config_hash, self._identifier).history())

    def _versions(self) -> dict[str, str]:
        """Config hash -> version of its pointer."""
        if self._config_hash is not None:
            key = Pointer(self.store, self._config_hash, self._identifier).key
            head = self.store.head(MODEL_PROMOTION, key)
            return {} if head is None else {self._config_hash: head.version}
        return {
            head.key.split("/")[1]: head.version
            for head in self.store.list(MODEL_PROMOTION, f"{self._identifier}/")
            if head.key.endswith("/current.json")
        }

    def _load(self, config_hash: str) -> Champion:
        current = Pointer(self.store, config_hash, self._identifier).read()
        assert current is not None
        promotion = current[0]
        manifest = self._artifacts.get(promotion.model, promotion.attempt)
        files = self._artifacts.read_all(manifest)
        forecaster = load_forecaster(files, self._threads)
        check_example(forecaster, files[EXAMPLE_FILE])
        recipe = self._registry.get(config_hash)
        return Champion(promotion, recipe, forecaster, datetime.now(timezone.utc))


def _promoted_at(champion: Champion) -> datetime:
    return champion.promotion.timestamp
