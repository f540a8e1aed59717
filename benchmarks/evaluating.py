"""A recipe trained and scored on the measured files through the package alone, without Dagster."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path

from flts_assets.forecasting.dataset import Dataset, prepare, split_of
from flts_assets.forecasting.ensemble import train_ensemble
from flts_assets.forecasting.forecaster import load_forecaster
from flts_assets.forecasting.leaderboard import Candidate, Leaderboard, Training, evaluate
from flts_assets.forecasting.progress import Report
from flts_assets.forecasting.raw_frame import read_raw
from flts_assets.forecasting.training import TrainedModel, train_model
from flts_assets.recipe import CandidateType, Recipe

__all__ = ["data_folder", "stations_in", "trained_and_scored"]


def data_folder() -> Path:
    """Where the measured files stand: FLTS_TEST_DATA, or shared/data beside the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("FLTS_TEST_DATA") or beside)


def stations_in(folder: Path) -> list[str]:
    """Stations with both files."""
    trained = (file.stem for file in sorted(folder.glob("*.csv")))
    return [station for station in trained if (folder / f"{station}_test.csv").is_file()]


def trained_and_scored(recipe: Recipe, report: Report) -> tuple[Leaderboard, Dataset]:
    """Every candidate of the recipe, trained with one thread, on the test file."""
    folder = data_folder()
    files = (recipe.data.train_file, recipe.data.test_file)
    train, test = (read_raw((folder / file).read_bytes(), file) for file in files)
    train_rows, test_rows, fitted = prepare(train, test, recipe)
    data = Dataset(split_of(train_rows, recipe), split_of(test_rows, recipe), fitted)
    measured = train_rows.measured
    started_at = datetime.now(timezone.utc)
    trained: dict[CandidateType, TrainedModel] = {}
    for model in recipe.models:
        trained[model] = train_model(model, data, measured, recipe, 1, report)
    if recipe.ensemble.members:
        members = {name: trained[name].files for name in recipe.ensemble.members}
        trained["ENSEMBLE"] = train_ensemble(members, data, measured, recipe, 1)
    candidates = [
        Candidate(
            model_type=name,
            forecaster=load_forecaster(one.model, 1),
            fit_s=one.fit_s,
            run_id="",
            trained=Training(fingerprint="", attempt="", started_at=started_at),
        )
        for name, one in trained.items()
    ]
    board, _ = evaluate(data, candidates, recipe)
    return board, data
