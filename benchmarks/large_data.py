"""Peak memory and time of the data stages for a CSV of a million rows.

    python benchmarks/large_data.py [--rows 1000000] [--test-rows 100000]

Each part runs in a process of its own, whose highest resident memory is told, less what the same process
holds with everything imported. The station is generated: DemoCell repeated to the length asked for.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from measuring import finish

from flts_assets.forecasting.dataset import fit, stored_split
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
from flts_assets.recipe import Recipe
from flts_assets.stores.artifacts import size_and_sha256

ROLES = ("train", "test")
RECIPE = Recipe.model_validate(
    {"name": "large", "data": {"train_file": "Large.csv", "test_file": "Large_test.csv"}}
)


def generate(folder: Path, rows: int, test_rows: int) -> None:
    """DemoCell's week again and again, on one unbroken grid of two minutes."""
    week, _ = demo_cell(5040, 1)
    times = pd.date_range(week.index[0], periods=rows + test_rows, freq="2min", name="time")
    whole = week.iloc[np.arange(rows + test_rows) % len(week)].set_axis(times)
    for role, part in zip(ROLES, (whole.iloc[:rows], whole.iloc[rows:]), strict=True):
        (folder / f"{role}.csv").write_bytes(to_csv(part))


def raw(folder: Path) -> None:
    """What raw_data does with both files."""
    for role in ROLES:
        with (folder / f"{role}.csv").open("rb") as source:
            RawFile(source, f"{role}.csv").scanned()


def processed(folder: Path) -> None:
    """What processed_data does: digest, read, sample, fit, write parquet."""
    sampled = {}
    for role in ROLES:
        with (folder / f"{role}.csv").open("rb") as source:
            size_and_sha256(source)
            source.seek(0)
            frames = RawFile(source, role).frames()
            sampler = Sampler(range(sys.maxsize))
            target = folder / f"{role}_measured.parquet"
            sampled[role] = write_sampled(target, frames, sampler, RECIPE)
    fitted = fit(sampled["train"], sampled["test"], RECIPE)
    for role, rows in (("train", fitted.train), ("test", fitted.test)):
        write_processed(folder / f"{role}.parquet", rows, fitted.preprocessing, RECIPE)
    (folder / "preprocessing.json").write_text(fitted.preprocessing.model_dump_json())


def checked(folder: Path) -> None:
    """What processed_data's checks do with the files read back."""
    assert leakage(_stored(folder), RECIPE) is None


def loaded(folder: Path) -> None:
    """What a training begins with: the dataset, and the train rows as measured."""
    rows = _stored(folder)
    splits = [stored_split(rows[role].measured, rows[role].processed, RECIPE) for role in ROLES]
    assert all(split.windows for split in splits)
    assert len(rows["train"].measured.frame())


def _stored(folder: Path) -> dict[str, StoredSplit]:
    return {
        role: StoredSplit(
            StoredRows((folder / f"{role}_measured.parquet").open("rb")),
            StoredFrame((folder / f"{role}.parquet").open("rb")),
        )
        for role in ROLES
    }


PARTS: dict[str, Callable[[Path], None]] = {
    "imports": lambda _folder: None,
    "raw_data": raw,
    "processed_data": processed,
    "its checks": checked,
    "dataset": loaded,
}


def measured(part: str, folder: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--part", part, "--folder", str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def run_part(part: str, folder: Path) -> None:
    import pandera.pandas  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    import sklearn.preprocessing  # noqa: F401

    started = time.perf_counter()
    PARTS[part](folder)
    status = Path("/proc/self/status").read_text()
    peak = int(status.partition("VmHWM:")[2].split()[0]) / 1000
    print(json.dumps({"seconds": time.perf_counter() - started, "peak_mb": peak}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--test-rows", type=int, default=100_000)
    parser.add_argument("--part", choices=PARTS)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.part:
        run_part(options.part, options.folder)
        return
    with tempfile.TemporaryDirectory(prefix="flts-benchmark-") as name:
        folder = Path(name)
        generate(folder, options.rows, options.test_rows)
        csv_mb = sum((folder / f"{role}.csv").stat().st_size for role in ROLES) / 1e6
        figures = {part: measured(part, folder) for part in PARTS}
        base = figures["imports"]["peak_mb"]
        print(f"{options.rows:,} + {options.test_rows:,} rows, {csv_mb:.0f} MB of CSV\n")
        print(f"{'part':<16}{'seconds':>9}{'peak MB':>9}{'above imports':>15}")
        for part, one in figures.items():
            above = one["peak_mb"] - base
            print(f"{part:<16}{one['seconds']:>9.1f}{one['peak_mb']:>9.0f}{above:>15.0f}")
        finish("large_data", csv_mb=csv_mb, rows=options.rows, parts=figures)


if __name__ == "__main__":
    main()
