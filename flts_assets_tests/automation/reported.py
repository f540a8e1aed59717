"""Events as the assets leave them in Dagster's log, without running the assets."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import dagster as dg
from dagster._core.events import AssetObservationData

from flts_assets.assets.promotion_event import PROMOTION, PROMOTION_RECORD
from flts_assets.stores.artifacts import Place
from flts_assets.stores.pointer import Promotion

HASH = "8999be31be63d86d0bfcd155ea74a56b6192a9dfa2490f077d019571a6deed1f"
OTHER = "6ce79cfae0029f0499e5ca7a14f996ee0fe8c7d4f2a4bbf2fe78d3ae6b155ea9"
MONDAY = datetime(2026, 11, 23, 8, tzinfo=timezone.utc)


def promotion(number: int = 0, config_hash: str = HASH, **changes: Any) -> Promotion:
    """One an hour."""
    record: dict[str, Any] = {
        "run_id": f"mlflow{number}",
        "model_type": "GRU",
        "config_hash": config_hash,
        "model_uri": f"runs:/mlflow{number}/GRU",
        "score": 0.024,
        "timestamp": MONDAY + timedelta(hours=number),
        "identifier": "global",
        "experiment": "Default",
        "rmse": 0.036,
        "mae": 0.019,
        "mse": 0.001,
        "weights": {"rmse": 0.5, "mae": 0.3, "mse": 0.2},
        "recipe": "sample50",
        "model": Place(
            bucket="models", config_hash=config_hash, stage="gru_model", fingerprint="f" * 64
        ),
        "attempt": "a1",
        "leaderboard": "none",
        "skill": 0.1,
        "reason": "best score",
        "actor": "a test",
    }
    return Promotion(**{**record, **changes})


def promoted(number: int = 0, config_hash: str = HASH, **changes: Any) -> dg.AssetMaterialization:
    record = promotion(number, config_hash, **changes).model_dump(mode="json")
    return dg.AssetMaterialization(
        PROMOTION.name,
        partition=config_hash,
        metadata={PROMOTION_RECORD: dg.MetadataValue.json(record)},
    )


def processed(attempt: str = "a1", config_hash: str = HASH) -> dg.AssetMaterialization:
    place = f"{config_hash}/processed_data/ffff/{attempt}"
    return dg.AssetMaterialization(
        "processed_data",
        partition=config_hash,
        metadata={
            "identifier": "global",
            "outputs": f"processed-data/{place}/manifest.json",
            "files": dg.MetadataValue.table(
                [
                    dg.TableRecord({"file": name, "size": size, "object": f"{place}/{name}"})
                    for name, size in (("train.parquet", 1200), ("test.parquet", 800))
                ]
            ),
        },
        tags={"dagster/data_version": "f" * 64},
    )


def trained(attempt: str = "a1", asset: str = "gru_model") -> dg.AssetMaterialization:
    return dg.AssetMaterialization(
        asset,
        partition=HASH,
        metadata={
            "identifier": "global",
            "outputs": f"models/{HASH}/{asset}/ffff/{attempt}/manifest.json",
            "mlflow_run_id": f"mlflow-{attempt}",
        },
    )


def training(
    status: str, attempt: str = "a1", asset: str = "gru_model", **more: str
) -> dg.AssetObservation:
    return dg.AssetObservation(
        asset,
        partition=HASH,
        metadata={
            "training": status,
            "model_type": "GRU",
            "attempt": attempt,
            "identifier": "global",
            "mlflow_run_id": f"mlflow-{attempt}",
            **more,
        },
    )


def report_in_run(
    instance: dg.DagsterInstance,
    run: dg.DagsterRun,
    event: dg.AssetObservation | dg.AssetMaterialization,
) -> None:
    """As a step of the run would."""
    from dagster._core.events import DagsterEvent, StepMaterializationData

    observed = isinstance(event, dg.AssetObservation)
    kind = (
        dg.DagsterEventType.ASSET_OBSERVATION
        if observed
        else dg.DagsterEventType.ASSET_MATERIALIZATION
    )
    data = AssetObservationData(event) if observed else StepMaterializationData(event)
    step = event.asset_key.to_user_string()
    told = DagsterEvent(kind.value, run.job_name, step_key=step, event_specific_data=data)
    instance.report_dagster_event(told, run.run_id)
