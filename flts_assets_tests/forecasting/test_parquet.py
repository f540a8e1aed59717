from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from flts_assets.forecasting.dataset import PreparedRows, prepare
from flts_assets.forecasting.demo_cell import demo_cell
from flts_assets.forecasting.parquet import (
    MeasuredWriter,
    StoredFrame,
    StoredRows,
    measured_parquet,
    processed_parquet,
    to_parquet,
)
from flts_assets.forecasting.raw_frame import read_raw
from flts_assets.forecasting.rows import SPAN
from flts_assets.recipe import CALENDAR_COLUMNS, RAW_COLUMNS, load_recipe
from flts_assets_tests.forecasting.datasets import demo_recipe

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


def prepared() -> PreparedRows:
    train, test = demo_cell(60, 30)
    train.iloc[3, 1] = np.nan
    return prepare(train, test, demo_recipe())[0]


def test_processed_file_of_the_verified_run_has_50_rows_17_columns_and_both_keys(
    real_data: Path,
) -> None:
    recipe = load_recipe(RECIPES / "sample50.yaml")
    files = (recipe.data.train_file, recipe.data.test_file)
    train, test = (read_raw((real_data / file).read_bytes(), file) for file in files)
    *both, _ = prepare(train, test, recipe)
    for rows in both:
        table = pq.read_table(io.BytesIO(processed_parquet(rows.processed, recipe)))
        assert table.num_rows == 50
        assert tuple(table.column_names) == RAW_COLUMNS + CALENDAR_COLUMNS
        assert {str(kind) for kind in table.schema.types} == {"float"}
        assert table.schema.metadata == {
            b"preprocess_config": recipe.canonical_json.encode(),
            b"config_hash": recipe.config_hash.encode(),
        }


def test_measured_file_has_the_time_the_raw_columns_and_both_keys() -> None:
    recipe = demo_recipe()
    table = pq.read_table(io.BytesIO(measured_parquet(prepared().measured, recipe)))
    assert tuple(table.column_names) == ("time", *RAW_COLUMNS)
    assert set(table.schema.metadata) == {b"preprocess_config", b"config_hash"}
    assert table["up"].null_count == 1
    assert table["up"][3].as_py() is None


def test_both_frames_come_back_exactly_as_they_were() -> None:
    rows, recipe = prepared(), demo_recipe()
    measured = StoredRows(io.BytesIO(measured_parquet(rows.measured, recipe)))
    processed = StoredFrame(io.BytesIO(processed_parquet(rows.processed, recipe)))
    pd.testing.assert_frame_equal(measured.frame(), rows.measured, check_exact=True)
    np.testing.assert_array_equal(processed.values(), rows.processed.to_numpy())


def test_rows_written_in_any_pieces_give_the_bytes_of_rows_written_at_once(tmp_path: Path) -> None:
    recipe = demo_recipe()
    frame = demo_cell(SPAN + 70, 1)[0]
    expected = measured_parquet(frame, recipe)
    for name, size in (("small", 3001), ("large", SPAN + 1)):
        with MeasuredWriter(tmp_path / name, recipe) as writer:
            for start in range(0, len(frame), size):
                writer.write(frame.iloc[start : start + size])
        assert (tmp_path / name).read_bytes() == expected
    metadata = pq.read_metadata(io.BytesIO(expected))
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [SPAN, 70]


def test_any_span_and_column_of_a_file_is_that_of_its_frame() -> None:
    frame = demo_cell(SPAN + 70, 1)[0]
    rows = StoredRows(io.BytesIO(measured_parquet(frame, demo_recipe())))
    assert rows.index.equals(frame.index)
    np.testing.assert_array_equal(rows.column("rb_up"), frame["rb_up"])
    for start, stop in ((0, 5), (SPAN - 2, SPAN + 3), (SPAN, len(frame) + 9)):
        pd.testing.assert_frame_equal(
            rows.span(start, stop), frame.iloc[start:stop], check_exact=True, check_freq=False
        )


def test_same_rows_give_the_same_bytes() -> None:
    rows, recipe = prepared(), demo_recipe()
    written = processed_parquet(rows.processed, recipe)
    assert written == processed_parquet(prepared().processed, recipe)
    assert written != processed_parquet(rows.processed, demo_recipe(seed=1))


def test_plain_frame_is_written_without_its_index() -> None:
    frame = pd.DataFrame({"time": pd.date_range("2024", periods=2), "GRU": [1.0, 2.0]}, [7, 8])
    read = pd.read_parquet(io.BytesIO(to_parquet(frame)))
    pd.testing.assert_frame_equal(read, frame.reset_index(drop=True))
