"""Sampled, filled and scaled rows as parquet, with the numbers that were fitted on the train rows."""

import hashlib
import json
from datetime import datetime, timezone
from typing import Any

import dagster as dg
import pandas as pd

from flts_assets.assets.metadata import table
from flts_assets.assets.partitions import CONFIG_HASH
from flts_assets.assets.platform import Platform
from flts_assets.assets.raw import raw_data, read_dataset_file
from flts_assets.assets.stage import PROCESSED, RAW_DATA, StageRun, stage_run
from flts_assets.errors import RawDataError
from flts_assets.forecasting.dataset import Dataset, PreparedRows, prepare, split_of
from flts_assets.forecasting.forecaster import PREPROCESSING_FILE
from flts_assets.forecasting.parquet import measured_parquet, prepared_rows, processed_parquet
from flts_assets.forecasting.preprocessing import FittedPreprocessing
from flts_assets.forecasting.raw_frame import read_raw
from flts_assets.stores.artifacts import Manifest, Outputs, Place
from flts_assets.stores.object_store import DATASET

__all__ = ["load_dataset", "processed_data"]

ROLES = ("train", "test")


@dg.asset(
    partitions_def=CONFIG_HASH,
    deps=[raw_data],
    group_name="data",
    owners=["team:data"],
    kinds={"parquet", "pandas", "scikitlearn"},
    code_version=PROCESSED.code_version,
)
def processed_data(
    context: dg.AssetExecutionContext, platform: Platform
) -> dg.MaterializeResult[Any]:
    """What models see: train and test parquet, scaled by numbers fitted on train rows only.

    Sample -> empty cells -> clip -> add constant -> calendar -> lags -> scale. The 17 columns of the
    default recipe stand in a fixed order; each file's metadata holds the recipe and its hash. Beside
    them: the same rows as measured, side JSON, and the fitted preprocessing as plain numbers.
    """
    with stage_run(context, platform, PROCESSED) as step:
        raw = step.upstream(RAW_DATA)

        def compute(place: Place, attempt: str) -> Outputs:
            return _compute(step, raw, place, attempt)

        outcome = step.outputs({RAW_DATA.name: raw.identity}, compute)
        manifest = outcome.manifest
        facts = manifest.facts
        return step.result(
            outcome,
            {
                "sampling": table(
                    {"split": role, **facts["sampling"][role], "strategy": facts["strategy"]}
                    for role in ROLES
                ),
                **{
                    f"{role}_rows_{when}": facts["sampling"][role][f"rows_{when}"]
                    for role in ROLES
                    for when in ("before", "after")
                },
                **{f"{role}_size": manifest.files[f"{role}.parquet"].size for role in ROLES},
                "dagster/partition_row_count": sum(facts["rows"].values()),
                "dagster/column_schema": dg.TableSchema(
                    columns=[dg.TableColumn(name, "float") for name in facts["columns"]]
                ),
                "files": table(
                    {"file": name, "size": record.size, "object": record.key}
                    for name, record in manifest.files.items()
                ),
            },
        )


def load_dataset(step: StageRun, processed: Manifest) -> tuple[Dataset, pd.DataFrame]:
    """The dataset of the step's recipe, and the train rows as measured, from checked files."""
    files = step.platform.artifacts.read_all(processed)
    rows = {
        role: prepared_rows(files[f"{role}.parquet"], files[f"{role}_measured.parquet"])
        for role in ROLES
    }
    dataset = Dataset(
        train=split_of(rows["train"], step.recipe),
        test=split_of(rows["test"], step.recipe),
        preprocessing=FittedPreprocessing.model_validate_json(files[PREPROCESSING_FILE]),
    )
    step.log.info(
        "download_done", rows=len(rows["train"].processed), cols=rows["train"].processed.shape[1]
    )
    return dataset, rows["train"].measured


def _compute(step: StageRun, raw: Manifest, place: Place, attempt: str) -> Outputs:
    recipe = step.recipe
    frames = {role: _raw_frame(step, raw.facts["files"][role]) for role in ROLES}
    train, test, fitted = prepare(frames["train"], frames["test"], recipe)
    prepared = {"train": train, "test": test}
    sampling = {
        role: {"rows_before": len(frames[role]), "rows_after": prepared[role].sampled}
        for role in ROLES
    }
    step.log.info(
        "sampling_applied",
        **{
            f"{role}_rows_{when}": sampling[role][f"rows_{when}"]
            for role in ROLES
            for when in ("before", "after")
        },
        strategy=recipe.data.sample_strategy,
    )
    files = {PREPROCESSING_FILE: fitted.model_dump_json(indent=1).encode()}
    side = {}
    for role in ROLES:
        files[f"{role}.parquet"] = processed_parquet(prepared[role].processed, recipe)
        files[f"{role}_measured.parquet"] = measured_parquet(prepared[role].measured, recipe)
        output = place.file_key(attempt, f"{role}.parquet")
        side[f"{role}.meta.json"] = _side_json(step, prepared[role], fitted, output)
    return Outputs(
        files,
        {
            "sampling": sampling,
            "strategy": recipe.data.sample_strategy,
            "columns": list(fitted.columns),
            "rows": {role: len(prepared[role].processed) for role in ROLES},
        },
        side,
    )


def _raw_frame(step: StageRun, pinned: dict[str, Any]) -> pd.DataFrame:
    file = pinned["file"]
    content = read_dataset_file(step.platform.store, file)
    if hashlib.sha256(content).hexdigest() != pinned["sha256"]:
        raise RawDataError(
            file,
            "changed after raw_data was materialised",
            allowed=f"content with sha256 {pinned['sha256']}",
            remedy="materialise raw_data again, or run the whole job",
        )
    return read_raw(content, file)


def _side_json(
    step: StageRun, prepared: PreparedRows, fitted: FittedPreprocessing, output: str
) -> bytes:
    recipe = step.recipe
    return json.dumps(
        {
            "identifier": None,  # the data is the same whoever asks
            "source_bucket": DATASET,
            "train_source_object": recipe.data.train_file,
            "test_source_object": recipe.data.test_file,
            "config": json.loads(recipe.canonical_json),
            "config_hash": recipe.config_hash,
            "created_at": datetime.now(timezone.utc).isoformat(),
            "scaler_type": fitted.scaler_type,
            "output_object": f"{PROCESSED.bucket}/{output}",
            "row_count": len(prepared.processed),
            "column_names": list(fitted.columns),
        },
        indent=1,
    ).encode()
