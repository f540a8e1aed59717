"""Memory while a file of many rows goes from CSV to parquet and is checked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from flts_assets.forecasting.dataset import fit
from flts_assets.forecasting.demo_cell import demo_cell, to_csv
from flts_assets.forecasting.parquet import (
    StoredFrame,
    StoredRows,
    StoredSplit,
    write_processed,
    write_sampled,
)
from flts_assets.forecasting.raw_frame import RawFile
from flts_assets.forecasting.sampling import Sampler
from flts_assets.forecasting.verification import leakage
from flts_assets_tests.forecasting.datasets import demo_recipe

TEST_ROWS = 1000


def write_csv(path: Path, first_minute: int, rows: int) -> None:
    """DemoCell's cells again and again, on a two-minute grid."""
    header, *lines = to_csv(demo_cell(1009, 1)[0]).decode().splitlines()
    cells = [line.partition(",")[2] for line in lines]
    begin = np.datetime64("2018-01-01T00:00", "s") + np.timedelta64(first_minute, "m")
    times = np.datetime_as_string(begin + 120 * np.arange(rows))
    with path.open("w") as file:
        file.write(header + "\n")
        file.writelines(f"{time},{cells[row % len(cells)]}\n" for row, time in enumerate(times))


def process(folder: Path) -> None:
    """What raw_data, processed_data and its checks do; prints the highest resident memory."""
    recipe = demo_recipe()
    sampled = {}
    for role in ("train", "test"):
        with (folder / f"{role}.csv").open("rb") as source:
            rows = RawFile(source, role).scanned().rows
            source.seek(0)
            frames, sampler = RawFile(source, role).frames(), Sampler(range(rows))
            sampled[role] = write_sampled(folder / f"{role}_m", frames, sampler, recipe)
    fitted = fit(sampled["train"], sampled["test"], recipe)
    stored = {}
    for role, full in (("train", fitted.train), ("test", fitted.test)):
        write_processed(folder / role, full, fitted.preprocessing, recipe)
        measured = StoredRows((folder / f"{role}_m").open("rb"))
        stored[role] = StoredSplit(measured, StoredFrame((folder / role).open("rb")))
    assert leakage(stored, recipe) is None
    # ru_maxrss would tell the parent's memory too, which a child has until it begins another program.
    status = Path("/proc/self/status").read_text()
    sys.stdout.write(json.dumps(int(status.partition("VmHWM:")[2].split()[0]) / 1000))


def peak_mb(folder: Path, rows: int) -> float:
    folder.mkdir()
    write_csv(folder / "train.csv", 0, rows)
    write_csv(folder / "test.csv", 2 * rows, TEST_ROWS)
    command = [sys.executable, "-m", __name__, str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout))


@pytest.mark.integration
def test_memory_hardly_grows_with_the_rows(tmp_path: Path) -> None:
    few, many = peak_mb(tmp_path / "few", 300_000), peak_mb(tmp_path / "many", 1_200_000)
    # In memory 900,000 rows took 700 MB more. A few columns of 8 bytes are what remains of them.
    assert many - few < 120, (few, many)
    assert many < 500


if __name__ == "__main__":
    process(Path(sys.argv[1]))
