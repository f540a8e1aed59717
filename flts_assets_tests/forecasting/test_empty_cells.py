from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from flts_assets.errors import RawDataError
from flts_assets.forecasting.demo_cell import demo_cell
from flts_assets.forecasting.empty_cells import without_empty_cells
from flts_assets.forecasting.sampling import Sampled
from flts_assets.recipe import RAW_COLUMNS
from flts_assets.recipe.model import Data, HandleNans

DATA = Data(train_file="A.csv", test_file="A_test.csv")


def frames(empty_train: float = 0.1, empty_test: float = 0.1) -> tuple[pd.DataFrame, pd.DataFrame]:
    """DemoCell of 60 and 30 rows with a share of empty cells anywhere."""
    rng = np.random.default_rng(3)
    train, test = (
        frame.mask(rng.random(frame.shape) < share)
        for frame, share in zip(demo_cell(60, 30), (empty_train, empty_test), strict=True)
    )
    return train, test


def filled(
    train: pd.DataFrame, test: pd.DataFrame, **settings: Any
) -> tuple[pd.DataFrame, pd.DataFrame]:
    rules = HandleNans(**settings)
    sampled = (
        Sampled.of_frame(frame, range(len(frame)), drop_empty=rules.drops_rows)
        for frame in (train, test)
    )
    ours, theirs = without_empty_cells(*sampled, rules, DATA)
    return ours.span(0, len(ours)), theirs.span(0, len(theirs))


def naive(frame: pd.DataFrame, train: pd.DataFrame, neighbors: int) -> npt.NDArray[np.float64]:
    """For each empty cell the mean of the k nearest train rows that have it.

    Distance: root mean square over the columns that both rows have, each in units of its deviation.
    """
    spread = train.std(ddof=0).to_numpy()
    donors = train.to_numpy()
    result = frame.to_numpy(copy=True)
    for row, values in enumerate(frame.to_numpy()):
        for column in np.flatnonzero(np.isnan(values)):
            near = []
            for donor in donors:
                shared = ~np.isnan(values) & ~np.isnan(donor)
                if not np.isnan(donor[column]) and shared.any():
                    apart = ((values - donor) / spread)[shared]
                    near.append((float(np.mean(apart**2)), donor[column]))
            result[row, column] = np.mean([value for _, value in sorted(near)[:neighbors]])
    return result


@pytest.mark.parametrize("neighbors", [1, 2, 5])
def test_empty_cells_become_the_mean_of_the_nearest_train_rows(neighbors: int) -> None:
    train, test = frames()
    for given, result in zip(
        (train, test), filled(train, test, knn_neighbors=neighbors), strict=True
    ):
        np.testing.assert_allclose(result, naive(given, train, neighbors), rtol=1e-9)


def test_measured_cells_are_untouched_to_the_last_bit() -> None:
    for given, result in zip(frames(), filled(*frames()), strict=True):
        measured = given.notna().to_numpy()
        assert not measured.all()
        np.testing.assert_array_equal(result.to_numpy()[measured], given.to_numpy()[measured])
        assert not result.isna().to_numpy().any()
        assert result.index.equals(given.index)
        assert tuple(result.columns) == RAW_COLUMNS


def test_test_rows_are_filled_by_train_rows_and_themselves_alone() -> None:
    train, test = frames()
    full_train, full_test = filled(train, test)
    other = test.copy()
    other.iloc[15:] *= 1000
    train_beside_other, full_other = filled(train, other)
    pd.testing.assert_frame_equal(train_beside_other, full_train)
    pd.testing.assert_frame_equal(full_other.iloc[:15], full_test.iloc[:15])


def test_no_columns_unit_decides_who_is_near() -> None:
    train, test = frames()
    units = pd.Series(1.0, index=RAW_COLUMNS)
    units["rb_up_var"] = 1e15
    units["down"] = 1e-6
    _, full = filled(train, test)
    _, converted = filled(train * units, test * units)
    pd.testing.assert_frame_equal(converted / units, full, rtol=1e-9)


def test_constant_column_disturbs_no_neighbourhood() -> None:
    train, test = frames()
    train["mcs_up"] = 3.0
    _, full = filled(train, test)
    assert full["mcs_up"][test["mcs_up"].isna()].tolist() == pytest.approx(
        [3.0] * int(test["mcs_up"].isna().sum())
    )
    assert np.isfinite(full.to_numpy()).all()


def test_complete_frames_come_back_as_they_are() -> None:
    train, test = frames(0, 0)
    full_train, full_test = filled(train, test)
    pd.testing.assert_frame_equal(full_train, train)
    pd.testing.assert_frame_equal(full_test, test)


@pytest.mark.parametrize(("split", "file"), [(0, "A.csv"), (1, "A_test.csv")])
def test_with_handling_off_the_first_empty_cell_is_refused_by_place(split: int, file: str) -> None:
    both = frames(0, 0)
    for row, column in ((20, "down"), (4, "up"), (4, "rb_up")):
        both[split].iloc[row, RAW_COLUMNS.index(column)] = np.nan
    with pytest.raises(RawDataError) as caught:
        filled(*both, enabled=False)
    assert (caught.value.file, caught.value.column, caught.value.row) == (file, "up", 5)
    assert caught.value.remedy is not None


def test_with_handling_off_complete_frames_pass() -> None:
    train, _ = filled(*frames(0, 0), enabled=False)
    pd.testing.assert_frame_equal(train, frames(0, 0)[0])


def test_train_column_emptier_than_allowed_is_refused_by_name() -> None:
    train, test = frames(0, 0)
    train.iloc[:15, RAW_COLUMNS.index("mcs_up")] = np.nan
    filled(train, test, threshold=0.25)
    train.iloc[15, RAW_COLUMNS.index("mcs_up")] = np.nan
    with pytest.raises(RawDataError, match=r"27% of the sampled rows are empty") as caught:
        filled(train, test, threshold=0.25)
    assert (caught.value.file, caught.value.column) == ("A.csv", "mcs_up")
    assert caught.value.allowed is not None
    assert "25%" in caught.value.allowed


@pytest.mark.parametrize("drop_rows", [False, True])
def test_column_without_any_train_value_is_refused_at_any_threshold(drop_rows: bool) -> None:
    train, test = frames(0, 0)
    train["rb_up"] = np.nan
    with pytest.raises(RawDataError, match="column 'rb_up': 100%"):
        filled(train, test, threshold=1, drop_rows=drop_rows)


def test_test_column_may_be_empty_altogether() -> None:
    train, test = frames(0, 0)
    test["rb_up"] = np.nan
    _, full = filled(train, test)
    assert full["rb_up"].between(train["rb_up"].min(), train["rb_up"].max()).all()


def test_filling_with_zero_puts_zero_in_empty_cells_and_nowhere_else() -> None:
    train, test = frames()
    test["rb_up"] = np.nan
    for given, result in zip((train, test), filled(train, test, fill="zero"), strict=True):
        expected = [
            [0.0 if np.isnan(cell) else cell for cell in row] for row in given.to_numpy().tolist()
        ]
        assert result.to_numpy().tolist() == expected
        assert result.index.equals(given.index)


def test_filling_with_zero_still_refuses_a_train_column_that_is_too_empty() -> None:
    train, test = frames(0, 0)
    train.iloc[:30, 2] = np.nan
    with pytest.raises(RawDataError, match="50% of the sampled rows are empty"):
        filled(train, test, fill="zero")


def test_dropping_leaves_the_complete_rows() -> None:
    train, test = frames(0.02, 0.02)
    for given, result in zip((train, test), filled(train, test, drop_rows=True), strict=True):
        complete = given[given.notna().all(axis=1)]
        assert 0 < len(complete) < len(given)
        pd.testing.assert_frame_equal(result, complete)


def test_column_that_is_empty_at_a_regular_step_of_a_long_file_is_imputed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("flts_assets.forecasting.empty_cells.DONORS", 20)
    train, test = demo_cell(80, 20)
    train = train.ffill().bfill()
    train.iloc[::4, 2] = np.nan
    full, _ = filled(train, test.ffill().bfill())
    assert not full.isna().any(axis=None)
    measured = train.iloc[:, 2].dropna()
    assert full.iloc[::4, 2].between(measured.min(), measured.max()).all()
    pd.testing.assert_frame_equal(full[train.notna().all(axis=1)], train.dropna())
