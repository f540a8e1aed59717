"""The raw data of a recipe: read where it lies, checked, pinned by its content."""

import hashlib
from typing import Any

import dagster as dg
import pandas as pd

from flts_assets.assets.metadata import table
from flts_assets.assets.partitions import CONFIG_HASH
from flts_assets.assets.platform import Platform
from flts_assets.assets.stage import RAW_DATA, stage_run
from flts_assets.errors import ObjectNotFoundError, RawDataError
from flts_assets.forecasting.raw_frame import count_empty_cells, grid_step, read_raw
from flts_assets.stores.artifacts import Outputs, Place
from flts_assets.stores.object_store import DATASET, ObjectStore

__all__ = ["raw_data", "read_dataset_file"]


def read_dataset_file(store: ObjectStore, file: str) -> bytes:
    """The bytes of a CSV in the dataset bucket. Raises RawDataError if there is none."""
    try:
        return store.get(DATASET, file)
    except ObjectNotFoundError as error:
        raise RawDataError(
            file,
            f"is not in the bucket {DATASET!r}",
            remedy=f"add it: flts data add PATH/{file}",
        ) from error


@dg.asset(
    partitions_def=CONFIG_HASH,
    group_name="data",
    owners=["team:data"],
    kinds={"csv"},
    code_version=RAW_DATA.code_version,
)
def raw_data(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult[Any]:
    """The train and test CSV of the recipe, checked: columns, numbers, a regular time grid.

    Nothing is copied. The data version is made from the SHA-256 of both files, so that lineage begins
    with the bytes that were seen, and one changed byte makes everything downstream new.
    """
    with stage_run(context, platform, RAW_DATA) as step:
        data = step.recipe.data
        contents = {
            role: (file, read_dataset_file(platform.store, file))
            for role, file in (("train", data.train_file), ("test", data.test_file))
        }
        digests = {role: _sha256(content) for role, (_, content) in contents.items()}

        def compute(_place: Place, _attempt: str) -> Outputs:
            files = {
                role: _described(read_raw(content, file), file, content)
                for role, (file, content) in contents.items()
            }
            return Outputs(files={}, facts={"files": files})

        outcome = step.outputs(digests, compute)
        facts = outcome.manifest.facts["files"]
        return step.result(
            outcome,
            {
                "files": table(facts[role] for role in ("train", "test")),
                "train_rows": facts["train"]["rows"],
                "test_rows": facts["test"]["rows"],
                "train_size": facts["train"]["size"],
                "test_size": facts["test"]["size"],
                "dagster/partition_row_count": facts["train"]["rows"] + facts["test"]["rows"],
            },
        )


def _described(frame: pd.DataFrame, file: str, content: bytes) -> dict[str, Any]:
    step = grid_step(frame)
    return {
        "file": file,
        "rows": len(frame),
        "size": len(content),
        "sha256": _sha256(content),
        "first": frame.index[0].isoformat(),
        "last": frame.index[-1].isoformat(),
        "step_s": None if step is None else step.total_seconds(),
        "empty_cells": sum(count_empty_cells(frame).values()),
    }


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
