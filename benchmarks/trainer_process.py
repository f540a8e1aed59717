"""Our preparation and our trainers, each in a process of its own, on measured rows repeated.

    python benchmarks/trainer_process.py prepare FOLDER TIMES DATA
    python benchmarks/trainer_process.py train FOLDER MODEL EPOCHS

training.py starts these. DATA holds the two CSVs of recipes/full.yaml; `prepare` leaves in FOLDER what
`train`, the reference loop and the peers read. The last line says seconds and peak memory as JSON. Only
`prepare` and `train_model` themselves are timed, with torch, Prophet and scikit-learn imported before.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd

from flts_assets.forecasting.dataset import Dataset, prepare, split_of, stored_split
from flts_assets.forecasting.parquet import (
    StoredFrame,
    StoredRows,
    StoredSplit,
    measured_parquet,
    processed_parquet,
)
from flts_assets.forecasting.preprocessing import FittedPreprocessing
from flts_assets.forecasting.raw_frame import read_raw
from flts_assets.forecasting.split import FitAndValidation
from flts_assets.recipe import ModelType, load_recipe

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "full.yaml"
ROLES = ("train", "test")
GRID = pd.Timedelta(minutes=2)


class PeakMemory(threading.Thread):
    """The largest resident memory of this process and its children together, in MB.

    Prophet's fit runs beside Python in a child. `getrusage` cannot add the two, and counts for a
    child what its parent held when it forked.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.largest = 0.0
        self.start()

    def run(self) -> None:
        while True:
            self.largest = max(self.largest, sum(map(_resident, [os.getpid(), *_children()])))
            time.sleep(0.05)


def _children() -> list[int]:
    lists = Path("/proc/self/task").glob("*/children")
    return [int(child) for text in lists for child in text.read_text().split()]


def _resident(process: int) -> float:
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
        return 0.0
    return pages * resource.getpagesize() / 2**20


def prepare_repeated(folder: Path, times: int, data: Path) -> dict[str, float]:
    """Train rows `times` over, their times continued on the two-minute grid, test rows after them."""
    import sklearn.impute  # noqa: F401

    recipe = load_recipe(RECIPE)
    names = (recipe.data.train_file, recipe.data.test_file)
    raw = {
        role: read_raw((data / name).read_bytes(), name)
        for role, name in zip(ROLES, names, strict=True)
    }
    if times > 1:
        start = raw["train"].index[0]
        for role, copies in (("train", times), ("test", 1)):
            rows = pd.concat([raw[role]] * copies)
            rows.index = pd.date_range(
                start, periods=len(rows), freq=GRID, name=raw[role].index.name
            )
            raw[role] = rows
            start = rows.index[-1] + GRID
    started = time.perf_counter()
    *prepared, fitted = prepare(raw["train"], raw["test"], recipe)
    seconds = time.perf_counter() - started
    (folder / "preprocessing.json").write_text(fitted.model_dump_json())
    for role, rows in zip(ROLES, prepared, strict=True):
        (folder / f"{role}.parquet").write_bytes(processed_parquet(rows.processed, recipe))
        (folder / f"{role}_measured.parquet").write_bytes(measured_parquet(rows.measured, recipe))
        np.save(folder / f"{role}.npy", rows.processed.to_numpy(dtype=np.float32))
    train_split = split_of(prepared[0], recipe)
    parts = FitAndValidation.of(train_split.windows, recipe.window, recipe.recurrent)
    return {
        "rows": len(train_split),
        "fit_rows": parts.fit_end + recipe.window.size + recipe.window.horizon - 1,
        "seconds": seconds,
    }


def train(folder: Path, model_type: ModelType, epochs: int) -> dict[str, float]:
    """Train as a pipeline's step does, on one thread."""
    import prophet  # noqa: F401
    import torch  # noqa: F401

    from flts_assets.forecasting import recurrent  # noqa: F401
    from flts_assets.forecasting.training import train_model

    recipe = load_recipe(RECIPE).updated({"recurrent": {"max_epochs": epochs}})
    rows = {
        role: StoredSplit(
            StoredRows((folder / f"{role}_measured.parquet").open("rb")),
            StoredFrame((folder / f"{role}.parquet").open("rb")),
        )
        for role in ROLES
    }
    data = Dataset(
        train=stored_split(rows["train"].measured, rows["train"].processed, recipe),
        test=stored_split(rows["test"].measured, rows["test"].processed, recipe),
        preprocessing=FittedPreprocessing.model_validate_json(
            (folder / "preprocessing.json").read_text()
        ),
    )
    started = time.perf_counter()
    trained = train_model(
        model_type,
        data,
        rows["train"].measured.frame(),
        recipe,
        threads=1,
        report=lambda progress: None,
    )
    seconds = time.perf_counter() - started
    return {
        "rows": len(data.train),
        "seconds": seconds,
        "fit_s": trained.fit_s,
        "model_mb": sum(map(len, trained.files.values())) / 2**20,
    }


def main() -> None:
    memory = PeakMemory()
    logging.disable(logging.ERROR)  # Prophet announces plotly's absence as an error
    command, place, what, more = sys.argv[1:]
    if command == "prepare":
        figures = prepare_repeated(Path(place), int(what), Path(more))
    else:
        figures = train(Path(place), what, int(more))  # type: ignore[arg-type]
    figures["own_peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures["peak_mb"] = max(memory.largest, figures["own_peak_mb"])
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
