from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flts_assets.errors import RawDataError
from flts_assets.forecasting.demo_cell import demo_cell
from flts_assets.forecasting.rows import FrameRows
from flts_assets.forecasting.sampling import Sampler, sampled_places
from flts_assets.recipe import RAW_COLUMNS
from flts_assets.recipe.model import Data

STRATEGIES = ("head", "tail", "random")


def frame_of(rows: int) -> pd.DataFrame:
    index = pd.date_range("2024-01-01", periods=rows, freq="2min", name="time")
    return pd.DataFrame({"down": np.arange(rows, dtype=float)}, index=index)


def drawn(frame: pd.DataFrame, rows: int, strategy: str, seed: int = 0) -> list[float]:
    data = Data.model_validate(
        {
            "train_file": "A.csv",
            "test_file": "A_test.csv",
            "sample_strategy": strategy,
            "sample_seed": seed,
        }
    )
    return list(frame["down"].iloc[list(sampled_places(len(frame), rows, data, "A.csv"))])


def test_head_keeps_the_first_rows_and_tail_the_last() -> None:
    assert drawn(frame_of(10), 3, "head") == [0, 1, 2]
    assert drawn(frame_of(10), 3, "tail") == [7, 8, 9]


@given(
    available=st.integers(1, 200),
    share=st.floats(0, 1),
    strategy=st.sampled_from(STRATEGIES),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=60, deadline=None)
def test_sample_has_the_rows_asked_for_each_once_and_in_time_order(
    available: int, share: float, strategy: str, seed: int
) -> None:
    rows = max(1, round(share * available))
    kept = drawn(frame_of(available), rows, strategy, seed)
    assert len(kept) == rows
    assert kept == sorted(set(kept))
    assert set(kept) <= set(range(available))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_zero_keeps_all_rows(strategy: str) -> None:
    assert drawn(frame_of(7), 0, strategy) == list(range(7))


def test_random_draws_the_same_rows_for_a_seed_and_others_for_another() -> None:
    frame = frame_of(1000)
    assert drawn(frame, 20, "random", 1) == drawn(frame, 20, "random", 1)
    assert drawn(frame, 20, "random", 1) != drawn(frame, 20, "random", 2)


def test_random_draws_from_the_whole_file() -> None:
    kept = {row for seed in range(40) for row in drawn(frame_of(20), 5, "random", seed)}
    assert kept == set(range(20))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_more_rows_than_the_file_has_is_an_error_with_both_numbers(strategy: str) -> None:
    with pytest.raises(RawDataError, match=r"A\.csv: has 10 rows") as caught:
        drawn(frame_of(10), 11, strategy)
    assert caught.value.received == 11
    assert caught.value.allowed == "0 (all rows) to 10"
    assert caught.value.remedy is not None


@pytest.mark.parametrize("places", [range(60), range(7), range(41, 60), np.array([0, 9, 10, 58])])
@pytest.mark.parametrize("drop_empty", [False, True])
def test_rows_taken_from_pieces_of_a_file_are_those_taken_from_all_of_it(
    places: range | npt.NDArray[np.int64], drop_empty: bool
) -> None:
    file = demo_cell(60, 1)[0].ffill().bfill()
    file.iloc[9, 2] = file.iloc[58, 4] = file.iloc[58, 0] = np.nan
    sampler = Sampler(places, drop_empty=drop_empty)
    rows = pd.concat([sampler.take(file.iloc[start : start + 10]) for start in range(0, 60, 10)])
    expected = file.iloc[list(places)]
    pd.testing.assert_frame_equal(rows, expected.dropna() if drop_empty else expected)
    sampled = sampler.sampled(FrameRows(rows))
    assert sampled.taken == len(places)
    assert sampled.empty_cells == expected.isna().sum().to_dict()
    first = next((row for row in (9, 58) if row in places), None)
    column = {9: RAW_COLUMNS[2], 58: RAW_COLUMNS[0]}
    assert sampled.first_empty == (None if first is None else (first + 1, column[first]))
