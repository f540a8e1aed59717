"""A promoted model, read, proven and loaded."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone

from flts_assets.errors import PromotionError
from flts_assets.forecasting.forecaster import (
    EXAMPLE_FILE,
    Forecaster,
    check_example,
    load_forecaster,
)
from flts_assets.recipe import Recipe
from flts_assets.serving.libraries import Difference, differences
from flts_assets.stores.artifacts import Artifacts, Manifest
from flts_assets.stores.object_store import MODEL_PROMOTION, ObjectStore
from flts_assets.stores.pointer import Pointer, Promotion
from flts_assets.stores.recipes import RecipeRegistry

__all__ = ["Champion", "load_champion"]


@dataclass(frozen=True)
class Champion:
    """A promoted model, ready to forecast."""

    promotion: Promotion
    version: str
    """of the pointer that names it"""
    recipe: Recipe
    forecaster: Forecaster
    loaded_at: datetime
    differences: tuple[Difference, ...] = ()
    """library versions that are others than in training"""

    @property
    def station(self) -> str:
        return self.recipe.station


def load_champion(
    store: ObjectStore, identifier: str, config_hash: str, threads: int
) -> Champion | None:
    """Whom this pointer names, None where it is gone. Every file is read once, and verified.

    Raises PromotionError: the pointer is no record, or another pointer's. ArtifactError: files are
    missing or altered, a library's major version is another, or the model does not give its recorded
    forecast. UnknownRecipeError.
    """
    pointer = Pointer(store, config_hash, identifier)
    current = pointer.read()
    if current is None:
        return None
    promotion, version = current
    artifacts = Artifacts(store)
    manifest = artifacts.described(promotion.model, promotion.attempt)
    _check_names(pointer, promotion, manifest, identifier, config_hash)
    differ = differences(manifest.libraries)
    files = artifacts.read_all(manifest)
    forecaster = load_forecaster(files, threads)
    check_example(forecaster, files.get(EXAMPLE_FILE))
    recipe = RecipeRegistry(store).get(config_hash)
    now = datetime.now(timezone.utc)
    return Champion(promotion, version, recipe, forecaster, now, differ)


def _check_names(
    pointer: Pointer, promotion: Promotion, manifest: Manifest, identifier: str, config_hash: str
) -> None:
    for what, received, allowed in (
        ("config hash", promotion.config_hash, config_hash),
        ("identifier", promotion.identifier, identifier),
        ("place", str(manifest.place), str(promotion.model)),
        ("attempt", manifest.attempt, promotion.attempt),
    ):
        if received != allowed:
            raise PromotionError(
                f"{MODEL_PROMOTION}/{pointer.key} promotes a model of another {what}",
                received=received,
                allowed=allowed,
                remedy="a pointer is never copied: promote the model, flts promote",
            )
