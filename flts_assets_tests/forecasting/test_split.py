from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from flts_assets.errors import TrainingError
from flts_assets.forecasting.split import (
    FitAndValidation,
    Split,
    first_validation_window,
    least_windows,
    validation_windows,
    window_count,
)
from flts_assets.recipe.model import Recurrent, Window

FEATURES = 3


def split_of(rows: int, size: int, horizon: int) -> Split:
    """Row r has the features 10 r, 10 r + 1, 10 r + 2 and the targets -r, -r - 0.5."""
    times = pd.date_range("2024-01-01", periods=rows, freq="2min")
    numbers = np.arange(rows)
    return Split(
        times=times,
        measured=-(numbers[:, None] + np.array([0.0, 0.5])),
        features=(10 * numbers[:, None] + np.arange(FEATURES)).astype(np.float32),
        window=Window(size=size, horizon=horizon, targets=("down", "up")),
    )


@st.composite
def splits(draw: st.DrawFn) -> Split:
    size, horizon = draw(st.integers(1, 8)), draw(st.integers(1, 5))
    return split_of(size + horizon + draw(st.integers(0, 30)), size, horizon)


@given(split=splits())
@settings(max_examples=60, deadline=None)
def test_windows_and_what_follows_them_equal_naive_loops(split: Split) -> None:
    size, horizon = split.window.size, split.window.horizon
    cutoffs = [row for row in range(len(split)) if size <= row + 1 <= len(split) - horizon]
    assert split.windows == len(cutoffs) == window_count(len(split), split.window)

    inputs = [[split.features[c - size + 1 + k] for k in range(size)] for c in cutoffs]
    actuals = [[split.measured[c + step] for step in range(1, horizon + 1)] for c in cutoffs]
    features = [[split.features[c + step] for step in range(1, horizon + 1)] for c in cutoffs]
    times = [[split.times[c + step] for step in range(1, horizon + 1)] for c in cutoffs]
    known = [[split.measured[c - size + 1 + k] for k in range(size)] for c in cutoffs]
    np.testing.assert_array_equal(split.inputs(), np.array(inputs))
    np.testing.assert_array_equal(split.target_windows(), np.array(known))
    np.testing.assert_array_equal(split.actuals(), np.array(actuals))
    np.testing.assert_array_equal(split.ahead(split.features), np.array(features))
    np.testing.assert_array_equal(split.target_times(), np.array(times, dtype="datetime64[ns]"))


@given(split=splits())
@settings(max_examples=20, deadline=None)
def test_windows_are_views_and_not_copies(split: Split) -> None:
    assert np.shares_memory(split.inputs(), split.features)
    assert np.shares_memory(split.actuals(), split.measured)
    assert np.shares_memory(split.target_times(), split.times.to_numpy())


@given(split=splits(), first=st.integers(-40, 40), last=st.none() | st.integers(-40, 40))
@settings(max_examples=60, deadline=None)
def test_split_of_some_windows_holds_just_these(split: Split, first: int, last: int | None) -> None:
    places = slice(first, last)
    assume(split.inputs()[places].size)
    part = split.windows_in(places)
    for of_part, of_all in (
        (part.inputs(), split.inputs()),
        (part.actuals(), split.actuals()),
        (part.target_times(), split.target_times()),
    ):
        np.testing.assert_array_equal(of_part, of_all[places])


def test_window_of_what_was_known_fills_empty_cells_and_leaves_the_measured_ones() -> None:
    split = split_of(5, 2, 1)
    split.measured[:, 0] = [np.nan, 7, np.nan, np.nan, 9]
    assert split.target_windows()[..., 0].tolist() == [[0, 7], [7, 7], [7, 7]]
    assert np.isnan(split.measured[2, 0])


@pytest.mark.parametrize("overlap", [True, False])
def test_validation_windows_are_the_last_of_the_train_split(overlap: bool) -> None:
    split = split_of(60, 6, 2)
    recurrent = Recurrent(validation_overlap=overlap)
    first = FitAndValidation.of(split.windows, split.window, recurrent).validation_start
    held_out = validation_windows(split, recurrent)
    np.testing.assert_array_equal(held_out.inputs(), split.inputs()[first:])
    np.testing.assert_array_equal(held_out.actuals(), split.actuals()[first:])


@given(rows=st.integers(0, 30), size=st.integers(1, 12), horizon=st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_windows_are_counted_by_trying_every_start(rows: int, size: int, horizon: int) -> None:
    fitting = sum(start + size + horizon <= rows for start in range(rows))
    assert window_count(rows, Window(size=size, horizon=horizon)) == fitting


def test_known_is_the_last_measured_value_and_zero_before_the_first() -> None:
    split = split_of(5, 1, 1)
    split.measured[:] = [[np.nan, 1], [7, np.nan], [np.nan, np.nan], [8, 2], [np.nan, np.nan]]
    assert split.known().tolist() == [[0, 1], [7, 1], [7, 1], [8, 2], [8, 2]]
    assert np.isnan(split.measured[0, 0]), "the measured values stay as they are"


@given(windows=st.integers(2, 10_000), share=st.floats(0.001, 0.999))
@settings(max_examples=100, deadline=None)
def test_both_sides_of_the_validation_cut_have_a_window_and_its_share_is_met(
    windows: int, share: float
) -> None:
    first = first_validation_window(windows, share)
    assert 1 <= first <= windows - 1
    assert abs((windows - first) - windows * share) <= 1


@pytest.mark.parametrize(("windows", "share", "first"), [(100, 0.2, 80), (2, 0.9, 1), (2, 0.1, 1)])
def test_validation_begins_after_the_share_that_is_fitted(
    windows: int, share: float, first: int
) -> None:
    assert first_validation_window(windows, share) == first


def rows_of(windows: range, window: Window, skipped: int = 0) -> set[int]:
    """The rows that these windows touch, without the first `skipped` of each."""
    return {
        start + row for start in windows for row in range(skipped, window.size + window.horizon)
    }


@given(
    windows=st.integers(2, 120),
    size=st.integers(1, 12),
    horizon=st.integers(1, 6),
    share=st.floats(0.02, 0.98),
    overlap=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_rows_of_fitting_and_validation_are_apart_as_asked(
    windows: int, size: int, horizon: int, share: float, overlap: bool
) -> None:
    window = Window(size=size, horizon=horizon)
    settings = Recurrent(validation_share=share, validation_overlap=overlap)
    least = least_windows(window, settings)
    if windows < least:
        with pytest.raises(TrainingError, match=f"at least {least}"):
            FitAndValidation.of(windows, window, settings)
        return
    parts = FitAndValidation.of(windows, window, settings)
    assert 1 <= parts.fit_end <= parts.validation_start <= windows - 1
    skipped = size if overlap else 0
    fit = rows_of(range(parts.fit_end), window, skipped)
    validation = rows_of(range(parts.validation_start, windows), window, skipped)
    assert not fit & validation
    assert max(fit) + 1 == min(validation), "no row is wasted between them"


def test_published_protocol_fits_80_percent_of_the_rows_and_validates_on_the_rest() -> None:
    settings = Recurrent(validation_share=0.2, validation_overlap=False)
    parts = FitAndValidation.of(990, Window(size=10), settings)
    assert (parts.fit_end, parts.validation_start) == (790, 800)
