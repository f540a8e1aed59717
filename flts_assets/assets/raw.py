"""The raw data of a recipe: read where it lies, checked, pinned by its content."""

from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import dagster as dg

from flts_assets.assets.checks import check_spec, checked, refused
from flts_assets.assets.metadata import table
from flts_assets.assets.partitions import CONFIG_HASH
from flts_assets.assets.platform import Platform
from flts_assets.assets.stage import RAW_DATA, fingerprint_of, stage_run
from flts_assets.assets.step_policy import AFTER_A_CRASH
from flts_assets.errors import ObjectNotFoundError, RawDataError
from flts_assets.forecasting.dataset import missing_between
from flts_assets.forecasting.raw_frame import RawFile, RawSummary
from flts_assets.recipe.columns import RAW_COLUMNS
from flts_assets.recipe.model import HandleNans
from flts_assets.stores.artifacts import Outputs, Place
from flts_assets.stores.object_store import DATASET, ObjectStore

__all__ = ["open_dataset_file", "raw_data", "raw_fingerprint"]


def open_dataset_file(store: ObjectStore, file: str) -> BinaryIO:
    """A CSV in the dataset bucket, to read and seek in. Raises RawDataError if there is none."""
    try:
        return store.open(DATASET, file)
    except ObjectNotFoundError as error:
        raise RawDataError(
            file,
            f"is not in the bucket {DATASET!r}",
            remedy=f"add it: flts data add PATH/{file}",
        ) from error


SCHEMA_AND_GRID, EMPTY_CELLS = "schema_and_grid", "empty_cells"
TRAIN_TEST_CONTINUITY = "train_test_continuity"


def raw_fingerprint(config_hash: str, train_sha256: str, test_sha256: str) -> str:
    """The data version that raw_data has once it has seen files of this content."""
    return fingerprint_of(RAW_DATA, config_hash, {"train": train_sha256, "test": test_sha256})


@dg.asset(
    partitions_def=CONFIG_HASH,
    group_name="data",
    owners=["team:data"],
    kinds={"csv"},
    code_version=RAW_DATA.code_version,
    retry_policy=AFTER_A_CRASH,
    check_specs=[
        check_spec(
            RAW_DATA.name,
            SCHEMA_AND_GRID,
            "Both files hold the time and the eleven columns, numbers that are finite and not negative,"
            " and times that are sorted, unique and regular.",
            blocking=True,
        ),
        check_spec(
            RAW_DATA.name,
            TRAIN_TEST_CONTINUITY,
            "The test rows follow the train rows on the same grid; missing rows in between warn.",
            blocking=True,
        ),
        check_spec(
            RAW_DATA.name,
            EMPTY_CELLS,
            "No column has a larger share of empty cells than the recipe allows. The files are looked"
            " at whole; processed_data refuses what it cannot fill of the sampled rows.",
        ),
    ],
)
def raw_data(
    context: dg.AssetExecutionContext, platform: Platform
) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
    """The train and test CSV of the recipe, checked: columns, numbers, a regular time grid.

    Nothing is copied. The data version is made from the SHA-256 of both files, so that lineage begins
    with the bytes that were seen, and one changed byte makes everything downstream new. A file that
    cannot be used fails its check before the step fails.
    """
    with stage_run(context, platform, RAW_DATA) as step:
        data = step.recipe.data
        named = {"train": data.train_file, "test": data.test_file}
        try:
            seen: dict[str, RawSummary] = {}
            for role, file in named.items():
                with open_dataset_file(platform.store, file) as source:
                    seen[role] = RawFile(source, file).scanned()
        except RawDataError as error:
            yield from step.of_recipe([refused(SCHEMA_AND_GRID, error)])
            raise
        try:
            missing = missing_between(seen["train"].grid, seen["test"].grid, data.test_file)
        except RawDataError as error:
            yield from step.of_recipe([refused(TRAIN_TEST_CONTINUITY, error)])
            raise

        def compute(_place: Place, _attempt: str) -> Outputs:
            files = {role: _described(seen[role], file) for role, file in named.items()}
            return Outputs(files={}, facts={"files": files})

        digests = {role: one.sha256 for role, one in seen.items()}
        outcome = step.outputs(digests, compute)
        facts = outcome.manifest.facts["files"]
        yield step.result(
            outcome,
            {
                "files": table(facts[role] for role in ("train", "test")),
                "train_rows": facts["train"]["rows"],
                "test_rows": facts["test"]["rows"],
                "train_size": facts["train"]["size"],
                "test_size": facts["test"]["size"],
                "dagster/partition_row_count": facts["train"]["rows"] + facts["test"]["rows"],
            },
            [
                _grid_check(seen),
                _continuity_check(missing, seen),
                _empty_cells_check(seen, step.recipe.handle_nans),
            ],
        )


def _grid_check(seen: Mapping[str, RawSummary]) -> dg.AssetCheckResult:
    told = ", ".join(
        f"{role}: {one.rows:,} rows of {len(RAW_COLUMNS)} columns"
        + ("" if one.step is None else f" every {one.step}")
        for role, one in seen.items()
    )
    return checked(
        SCHEMA_AND_GRID, True, told, {f"{role}_rows": one.rows for role, one in seen.items()}
    )


def _continuity_check(missing: int, seen: Mapping[str, RawSummary]) -> dg.AssetCheckResult:
    told = f"train ends at {seen['train'].last}, test begins at {seen['test'].first}"
    if missing:
        told += f"; {missing:,} rows of the grid are missing in between"
    return checked(
        TRAIN_TEST_CONTINUITY, missing == 0, told, {"missing_rows": missing}, warn=missing > 0
    )


def _empty_cells_check(seen: Mapping[str, RawSummary], rules: HandleNans) -> dg.AssetCheckResult:
    shares = {
        (role, column): count / one.rows
        for role, one in seen.items()
        for column, count in one.empty_cells.items()
    }
    (role, column), worst = max(shares.items(), key=lambda one: one[1])
    allowed = rules.threshold if rules.enabled else 0.0
    told = "no cell is empty" if not worst else f"{role} column {column}: {worst:.2%} empty"
    empty = {f"{role} {column}": share for (role, column), share in shares.items() if share}
    facts = {"allowed_share": allowed, "empty_shares": empty}
    return checked(
        EMPTY_CELLS, worst <= allowed, f"{told}, allowed {allowed:.0%}", facts, warn=True
    )


def _described(seen: RawSummary, file: str) -> dict[str, Any]:
    return {
        "file": file,
        "rows": seen.rows,
        "size": seen.size,
        "sha256": seen.sha256,
        "first": seen.first.isoformat(),
        "last": seen.last.isoformat(),
        "step_s": None if seen.step is None else seen.step.total_seconds(),
        "empty_cells": sum(seen.empty_cells.values()),
    }
