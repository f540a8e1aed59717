"""Sampled, filled and scaled rows as parquet, with the numbers that were fitted on the train rows."""

import json
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

import dagster as dg

from flts_assets.assets.checks import check_spec, checked, refused
from flts_assets.assets.metadata import table
from flts_assets.assets.partitions import CONFIG_HASH
from flts_assets.assets.platform import Platform
from flts_assets.assets.raw import open_dataset_file, raw_data
from flts_assets.assets.stage import PROCESSED, RAW_DATA, StageRun, stage_run
from flts_assets.assets.step_policy import AFTER_A_CRASH
from flts_assets.errors import RawDataError
from flts_assets.forecasting.dataset import Dataset, fit, missing_between, stored_split
from flts_assets.forecasting.forecaster import PREPROCESSING_FILE
from flts_assets.forecasting.parquet import (
    StoredFrame,
    StoredRows,
    StoredSplit,
    write_processed,
    write_sampled,
)
from flts_assets.forecasting.preprocessing import FittedPreprocessing
from flts_assets.forecasting.raw_frame import RawFile
from flts_assets.forecasting.sampling import Sampled, Sampler, sampled_places
from flts_assets.forecasting.verification import fault_of_parquet, fault_of_rows, leakage
from flts_assets.recipe import Recipe
from flts_assets.stores.artifacts import Manifest, Outputs, Place, size_and_sha256
from flts_assets.stores.object_store import DATASET

__all__ = ["dataset_in", "load_dataset", "processed_data"]

ROLES = ("train", "test")
ROW_COUNTS, PARQUET_METADATA, NO_LEAKAGE = "row_counts", "parquet_metadata", "no_leakage"


@dg.asset(
    partitions_def=CONFIG_HASH,
    deps=[raw_data],
    group_name="data",
    owners=["team:data"],
    kinds={"parquet", "pandas", "scikitlearn"},
    code_version=PROCESSED.code_version,
    retry_policy=AFTER_A_CRASH,
    check_specs=[
        check_spec(
            PROCESSED.name,
            ROW_COUNTS,
            "As many rows stand in each parquet file as the recipe samples, less what its lags and"
            " dropped rows take.",
            blocking=True,
        ),
        check_spec(
            PROCESSED.name,
            PARQUET_METADATA,
            "Each parquet file's own metadata names this partition and holds its recipe.",
            blocking=True,
        ),
        check_spec(
            PROCESSED.name,
            NO_LEAKAGE,
            "Test rows follow train rows, and both are scaled by numbers that the stored train rows"
            " alone give again.",
            blocking=True,
        ),
    ],
)
def processed_data(
    context: dg.AssetExecutionContext, platform: Platform
) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
    """What models see: train and test parquet, scaled by numbers fitted on train rows only.

    Sample -> empty cells -> clip -> add constant -> calendar -> lags -> scale. The 17 columns of the
    default recipe stand in a fixed order; each file's metadata holds the recipe and its hash. Beside
    them: the same rows as measured, side JSON, and the fitted preprocessing as plain numbers.
    """
    with stage_run(context, platform, PROCESSED) as step:
        raw = step.upstream(RAW_DATA)

        try:
            with TemporaryDirectory(prefix="flts-processed-") as folder:

                def compute(place: Place, attempt: str) -> Outputs:
                    return _compute(step, raw, place, attempt, Path(folder))

                outcome = step.outputs({RAW_DATA.name: raw.identity}, compute)
        except RawDataError as error:
            yield from step.of_recipe([refused(ROW_COUNTS, error)])
            raise
        manifest = outcome.manifest
        facts = manifest.facts
        yield step.result(
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
            _checks(partial(platform.artifacts.open, manifest), raw, step.recipe),
        )


OpenFile = Callable[[str], BinaryIO]
"""name of one of the stage's files -> the file"""


def load_dataset(step: StageRun, processed: Manifest) -> tuple[Dataset, StoredRows]:
    """The dataset of the step's recipe, and the train rows as measured, from checked files."""
    dataset, rows = dataset_in(partial(step.platform.artifacts.open, processed), step.recipe)
    train = rows["train"].processed
    step.log.info("download_done", rows=len(train), cols=len(train.columns))
    return dataset, rows["train"].measured


def dataset_in(open_file: OpenFile, recipe: Recipe) -> tuple[Dataset, dict[str, StoredSplit]]:
    """The dataset in the stage's files, and the rows of each split."""
    rows = _rows_in(open_file)
    with open_file(PREPROCESSING_FILE) as file:
        preprocessing = FittedPreprocessing.model_validate_json(file.read())
    train, test = (
        stored_split(rows[role].measured, rows[role].processed, recipe) for role in ROLES
    )
    return Dataset(train, test, preprocessing), rows


def _rows_in(open_file: OpenFile) -> dict[str, StoredSplit]:
    return {
        role: StoredSplit(
            StoredRows(open_file(f"{role}_measured.parquet")),
            StoredFrame(open_file(f"{role}.parquet")),
        )
        for role in ROLES
    }


def _checks(open_file: OpenFile, raw: Manifest, recipe: Recipe) -> Iterator[dg.AssetCheckResult]:
    """Of the files as they were read back from the store."""
    rows = _rows_in(open_file)
    counts = {role: len(rows[role].processed) for role in ROLES}
    faults = [
        fault_of_rows(role, rows[role], raw.facts["files"][role]["rows"], recipe) for role in ROLES
    ]
    told = "; ".join(filter(None, faults)) or ", ".join(
        f"{role}: {count:,} rows" for role, count in counts.items()
    )
    yield checked(ROW_COUNTS, not any(faults), told, counts)
    found = {}
    for name in (f"{role}{kind}.parquet" for role in ROLES for kind in ("", "_measured")):
        with open_file(name) as file:
            found[name] = fault_of_parquet(file, recipe)
    wrong = {name: fault for name, fault in found.items() if fault}
    told = (
        "; ".join(f"{name}: {fault}" for name, fault in wrong.items())
        or f"{len(found)} files name {recipe.config_hash}"
    )
    yield checked(PARQUET_METADATA, not wrong, told, {"files": len(found)})
    leak = leakage(rows, recipe)
    told = leak or "refitting on the stored train rows gives both splits again"
    yield checked(NO_LEAKAGE, leak is None, told)


def _compute(step: StageRun, raw: Manifest, place: Place, attempt: str, folder: Path) -> Outputs:
    """Writes the sampled rows as they are read, then reads columns of them back to fit on."""
    recipe = step.recipe
    sampled = _sampled(step, raw, folder)
    sampling = {
        role: {"rows_before": raw.facts["files"][role]["rows"], "rows_after": sampled[role].taken}
        for role in ROLES
    }
    fitted = fit(sampled["train"], sampled["test"], recipe)
    step.log.info(
        "sampling_applied",
        **{
            f"{role}_rows_{when}": sampling[role][f"rows_{when}"]
            for role in ROLES
            for when in ("before", "after")
        },
        strategy=recipe.data.sample_strategy,
    )
    columns = fitted.preprocessing.columns
    files: dict[str, bytes | Path] = {
        PREPROCESSING_FILE: fitted.preprocessing.model_dump_json(indent=1).encode()
    }
    side, counts = {}, {}
    for role, rows in (("train", fitted.train), ("test", fitted.test)):
        counts[role] = len(rows) - fitted.preprocessing.rows_lost
        write_processed(folder / f"{role}.parquet", rows, fitted.preprocessing, recipe)
        for name in (f"{role}.parquet", f"{role}_measured.parquet"):
            files[name] = folder / name
        output = place.file_key(attempt, f"{role}.parquet")
        side[f"{role}.meta.json"] = _side_json(step, counts[role], fitted.preprocessing, output)
    return Outputs(
        files,
        {
            "sampling": sampling,
            "strategy": recipe.data.sample_strategy,
            "columns": list(columns),
            "rows": counts,
        },
        side,
    )


def _sampled(step: StageRun, raw: Manifest, folder: Path) -> dict[str, Sampled]:
    """The rows that the recipe takes, by split; they stand in the folder's measured parquet files."""
    data, pinned = step.recipe.data, raw.facts["files"]
    asked = {"train": data.sample_train_rows, "test": data.sample_test_rows}
    places = {
        role: sampled_places(pinned[role]["rows"], asked[role], data, pinned[role]["file"])
        for role in ROLES
    }
    sampled, grids = {}, {}
    for role in ROLES:
        file = pinned[role]["file"]
        sampler = Sampler(places[role], drop_empty=step.recipe.handle_nans.drops_rows)
        target = folder / f"{role}_measured.parquet"
        with _pinned_file(step, pinned[role]) as source:
            raw_file = RawFile(source, file)
            sampled[role] = write_sampled(target, raw_file.frames(), sampler, step.recipe)
        grids[role] = raw_file.summary.grid
    missing_between(grids["train"], grids["test"], data.test_file)
    return sampled


def _pinned_file(step: StageRun, pinned: dict[str, Any]) -> BinaryIO:
    """The very bytes that raw_data saw. Raises RawDataError."""
    source = open_dataset_file(step.platform.store, pinned["file"])
    if size_and_sha256(source)[1] != pinned["sha256"]:
        source.close()
        raise RawDataError(
            pinned["file"],
            "changed after raw_data was materialised",
            allowed=f"content with sha256 {pinned['sha256']}",
            remedy="materialise raw_data again, or run the whole job",
        )
    source.seek(0)
    return source


def _side_json(step: StageRun, rows: int, fitted: FittedPreprocessing, output: str) -> bytes:
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
            "row_count": rows,
            "column_names": list(fitted.columns),
        },
        indent=1,
    ).encode()
