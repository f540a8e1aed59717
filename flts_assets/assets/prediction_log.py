"""How the champion does in service: its live error, and how far its inputs have moved."""

import hashlib
from typing import Any, Final

import dagster as dg
import numpy as np
import pandas as pd

from flts_assets.assets.metadata import picture, table
from flts_assets.assets.partitions import CONFIG_HASH
from flts_assets.assets.platform import Platform
from flts_assets.assets.processed import load_dataset
from flts_assets.assets.promotion import promoted_model
from flts_assets.assets.raw import open_dataset_file
from flts_assets.assets.stage import PROCESSED, Stage, StageRun, stage_run
from flts_assets.errors import UpstreamMissingError
from flts_assets.forecasting.dataset import Dataset
from flts_assets.forecasting.drift import Live, covers, forecast_rows, input_rows, live, psi
from flts_assets.forecasting.plots import drift_picture, forecast_picture
from flts_assets.forecasting.raw_frame import RawFile
from flts_assets.recipe import RAW_COLUMNS
from flts_assets.stores.object_store import INFERENCE_LOGS
from flts_assets.stores.pointer import Promotion
from flts_assets.stores.prediction_records import read_records, record_keys

__all__ = ["prediction_log"]

PREDICTION_LOG = Stage("prediction_log", "1", INFERENCE_LOGS)

DAYS_READ: Final = 7
"""the newest days that have records: a whole week where requests are steady"""
ERROR_FACTOR: Final = 1.5
"""Single whole days of PobleSec and ElBorn score 0.6 to 1.4 times the whole test's, for every model."""
ERROR_DAYS: Final = 1
"""six hours alone score up to 3 times"""
PSI_LIMITS: Final = (0.1, 0.25)
PSI_DAYS: Final = 4
"""Of PobleSec's ordinary stretches of 1, 2, 3 and 4 days 33, 8, 4 and 0 % have a column above 0.25."""

LIVE_ERROR, INPUT_DRIFT = "live_error", "input_drift"


@dg.asset(
    partitions_def=CONFIG_HASH,
    deps=[promoted_model],
    group_name="serving",
    owners=["team:ml"],
    kinds={"json"},
    code_version=PREDICTION_LOG.code_version,
    check_specs=[
        dg.AssetCheckSpec(
            LIVE_ERROR,
            asset="prediction_log",
            description=f"The live score is at most {ERROR_FACTOR} times the test score.",
        ),
        dg.AssetCheckSpec(
            INPUT_DRIFT,
            asset="prediction_log",
            description=f"No raw column's PSI against the train rows is above {PSI_LIMITS[-1]}.",
        ),
    ],
)
def prediction_log(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult:  # type: ignore[type-arg]  # as Dagster knows a result with checks
    """Served forecasts of the last seven logged days, joined with what was measured since.

    Live error: the champion's forecasts up to the recipe's horizon against later rows of the station's
    files, on the leaderboard's scale. Drift: the Population Stability Index of the last rows sent, column
    by column, against the train rows. Both are judged only once they span enough days to tell.
    """
    with stage_run(context, platform, PREDICTION_LOG) as step:
        current = platform.pointer(step.config_hash).read()
        if current is None:
            raise UpstreamMissingError(
                "prediction_log needs a champion, and none was promoted",
                remedy="materialise promoted_model first, or run the job pipeline",
            )
        champion = current[0]
        keys = record_keys(platform.store, champion.identifier, DAYS_READ)
        records = read_records(platform.store, keys, step.config_hash)
        processed = step.upstream(PROCESSED)
        data, stored = load_dataset(step, processed)
        train = stored.frame()
        inputs = input_rows(records, RAW_COLUMNS)
        indices = _indices(train, inputs)
        measured, digest = _measured_after(step, train)
        done = _live(step, champion, records, measured, data)
        read = {
            PROCESSED.name: processed.identity,
            "champion": champion.run_id,
            "measured": digest,
            "objects": _digest(hashlib.sha256("\n".join(keys).encode()).digest()),
        }
        return dg.MaterializeResult(
            data_version=dg.DataVersion(step.fingerprint(read)),
            metadata={
                "recipe": step.recipe.name,
                "config_hash": step.config_hash,
                "model_type": champion.model_type,
                "mlflow_run_id": champion.run_id,
                "logged_forecasts": len(records),
                "objects": len(keys),
                **_error_metadata(step, champion, done),
                **_drift_metadata(indices),
            },
            check_results=[_error_check(champion, done), _drift_check(indices, inputs)],
        )


def _indices(train: pd.DataFrame, inputs: pd.DataFrame) -> dict[str, float]:
    if inputs.empty:
        return {}
    return {name: psi(train[name].to_numpy(), inputs[name].to_numpy()) for name in RAW_COLUMNS}


def _measured_after(step: StageRun, train: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Rows of the station's files that no model was fitted on, and a digest of those files."""
    files = (step.recipe.data.train_file, step.recipe.data.test_file)
    parts, digests = [], []
    for file in files:
        with open_dataset_file(step.platform.store, file) as source:
            raw = RawFile(source, file)
            parts += [frame[frame.index > train.index[-1]] for frame in raw.frames()]
            digests.append(bytes.fromhex(raw.summary.sha256))
    rows = pd.concat(parts)
    return rows[~rows.index.duplicated(keep="last")], _digest(*digests)


def _digest(*digests: bytes) -> str:
    return hashlib.sha256(b"".join(digests)).hexdigest()


def _live(
    step: StageRun,
    champion: Promotion,
    records: pd.DataFrame,
    measured: pd.DataFrame,
    data: Dataset,
) -> Live | None:
    own = records[records["run_id"] == champion.run_id]
    fitted, recipe = data.preprocessing, step.recipe
    return live(
        forecast_rows(own, recipe.window.horizon),
        measured,
        fitted.targets,
        fitted.target_ranges,
        recipe.evaluation.targets,
        recipe.intervals.levels,
    )


def _error_metadata(step: StageRun, champion: Promotion, done: Live | None) -> dict[str, Any]:
    if done is None:
        return {}
    drawn = forecast_picture(
        done.times,
        done.actuals,
        {champion.model_type: done.forecasts},
        step.recipe.window.targets,
        f"{champion.model_type} in service",
    )
    return {
        "live_score": done.scores.score,
        "live_forecasts": done.scores.forecasts,
        "live error": table(
            {
                "measure": name,
                "live": round(getattr(done.scores, name), 6),
                "test": round(getattr(champion, name), 6),
                "unit": "train range squared" if name == "mse" else "train range",
            }
            for name in ("score", "rmse", "mae", "mse")
        ),
        "coverage": table(
            {"level": level, "inside": None if np.isnan(share) else round(share, 4)}
            for level, share in done.coverage.items()
        ),
        "live forecast versus actual": picture("live", drawn),
    }


def _drift_metadata(indices: dict[str, float]) -> dict[str, Any]:
    if not indices:
        return {}
    return {
        "input drift": table(
            {"column": name, "psi": round(value, 4), "reads": _reading(value)}
            for name, value in indices.items()
        ),
        "drift": picture("drift", drift_picture(indices, PSI_LIMITS)),
    }


def _reading(index: float) -> str:
    low, high = PSI_LIMITS
    return "stable" if index < low else "look at it" if index <= high else "moved"


def _error_check(champion: Promotion, done: Live | None) -> dg.AssetCheckResult:
    if done is None:
        return _result(LIVE_ERROR, True, "no logged forecast whose time was measured yet", {})
    numbers = {"live_score": done.scores.score, "test_score": champion.score}
    told = f"live score {done.scores.score:.4g}, test score {champion.score:.4g}"
    if not covers(done.times, ERROR_DAYS):
        return _result(LIVE_ERROR, True, f"{told}; too little to judge by", numbers)
    return _result(LIVE_ERROR, done.scores.score <= ERROR_FACTOR * champion.score, told, numbers)


def _drift_check(indices: dict[str, float], inputs: pd.DataFrame) -> dg.AssetCheckResult:
    if not indices:
        return _result(INPUT_DRIFT, True, "no forecast logged yet", {})
    column = max(indices, key=lambda name: indices[name])
    told = f"largest PSI {indices[column]:.3f}, of {column}"
    if not covers(inputs.index.to_numpy(), PSI_DAYS):
        return _result(INPUT_DRIFT, True, f"{told}; too little to judge by", indices)
    return _result(INPUT_DRIFT, indices[column] <= PSI_LIMITS[-1], told, indices)


def _result(
    name: str, passed: bool, description: str, numbers: dict[str, float]
) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name=name,
        passed=passed,
        severity=dg.AssetCheckSeverity.WARN,
        description=description,
        metadata=dict(numbers),
    )
