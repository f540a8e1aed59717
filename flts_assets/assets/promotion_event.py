"""What Dagster's pages tell of a promotion, whoever decided it."""

from typing import Any

import dagster as dg

from flts_assets.assets.metadata import table
from flts_assets.assets.platform import Platform
from flts_assets.assets.stage import LEADERBOARD, Stage
from flts_assets.assets.succession import version_of
from flts_assets.stores.object_store import MODEL_PROMOTION
from flts_assets.stores.pointer import Promotion

__all__ = ["PROMOTION", "PROMOTION_RECORD", "materialization", "promotion_metadata"]

PROMOTION = Stage("promoted_model", "2", MODEL_PROMOTION)
PROMOTION_RECORD = "promotion"
"""metadata of every materialisation: the whole record, as the message `model-selected` tells it"""


def materialization(
    promotion: Promotion, platform: Platform, instance: dg.DagsterInstance
) -> dg.AssetMaterialization:
    """Of `promoted_model`, for a promotion that no step of the asset made.

    Its tags are those that Dagster gives to a step's own: data version and what it was made from.
    """
    upstream = dg.AssetKey(LEADERBOARD.name)
    newest = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=upstream, asset_partitions=[promotion.config_hash]), limit=1
    ).records
    tags = {
        "dagster/data_version": version_of(PROMOTION, promotion),
        "dagster/data_version_is_user_provided": "true",
        "dagster/code_version": PROMOTION.code_version,
    }
    for record in newest:
        event = record.asset_materialization
        version = (event.tags or {}).get("dagster/data_version") if event else None
        if version is not None:
            tags[f"dagster/input_data_version/{LEADERBOARD.name}"] = version
            tags[f"dagster/input_event_pointer/{LEADERBOARD.name}"] = str(record.storage_id)
    return dg.AssetMaterialization(
        asset_key=PROMOTION.name,
        partition=promotion.config_hash,
        metadata=promotion_metadata(promotion, platform),
        tags=tags,
    )


def promotion_metadata(promotion: Promotion, platform: Platform) -> dict[str, Any]:
    """Champion, why, and who was before."""
    pointer = platform.pointer(promotion.config_hash)
    return {
        "recipe": promotion.recipe,
        "config_hash": promotion.config_hash,
        "model_type": promotion.model_type,
        "mlflow_run_id": promotion.run_id,
        "model_uri": promotion.model_uri,
        "score": promotion.score,
        "skill": promotion.skill,
        "reason": promotion.reason,
        "actor": promotion.actor,
        PROMOTION_RECORD: dg.MetadataValue.json(promotion.model_dump(mode="json")),
        "pointer": f"{MODEL_PROMOTION}/{pointer.key}",
        "mlflow_model": f"models:/{promotion.registered_name}@champion",
        "history": table(
            {
                "promoted_at": one.timestamp.isoformat(timespec="seconds"),
                "model": one.model_type,
                "score": round(one.score, 6),
                "run_id": one.run_id,
                "actor": one.actor,
                "reason": one.reason,
            }
            for one in pointer.history()
        ),
    }
