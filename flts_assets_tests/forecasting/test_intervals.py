from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import get_args

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flts_assets.forecasting.demo_cell import demo_cell
from flts_assets.forecasting.forecaster import Forecaster, load_forecaster
from flts_assets.forecasting.intervals import (
    RECENT,
    Band,
    Intervals,
    combined,
    floors_of,
    known_scores,
    scores,
)
from flts_assets.forecasting.split import Split
from flts_assets.recipe import CandidateType
from flts_assets_tests.forecasting.datasets import demo_dataset
from flts_assets_tests.forecasting.trained import LEVELS, ROWS, demo_models, every_kind_recipe

Floats = npt.NDArray[np.float64]
ONE = np.array([[[16.0], [25.0], [16.0]]])
"""a window whose square root moves by 1 a row"""

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 5)
bounded = settings(max_examples=30, deadline=None)


def forecast_windows(
    seed: int, windows: int, size: int, horizon: int, targets: int = 2
) -> tuple[Floats, Floats, Floats]:
    """Windows [M, W, T], actuals with NaN and forecasts, some below 0, [M, H, T]."""
    draw = np.random.default_rng(seed)
    actuals = draw.gamma(2.0, 1e6, (windows, horizon, targets))
    actuals[draw.random(actuals.shape) < 0.2] = np.nan
    return (
        draw.gamma(2.0, 1e6, (windows, size, targets)),
        actuals,
        draw.normal(1e6, 1e6, (windows, horizon, targets)),
    )


def naive_unit(window: Floats, floor: float) -> float:
    """Of one target's rows [W]."""
    moves = [abs(math.sqrt(b) - math.sqrt(a)) for a, b in pairwise(window)]
    return (sum(moves) / len(moves) if moves else 0.0) + floor


def naive_quantile(values: Floats, share: Fraction) -> float:
    """The ceil((n + 1) share)-th smallest finite value."""
    ordered: list[float] = sorted(values[np.isfinite(values)].tolist())
    return ordered[min(max(math.ceil((len(ordered) + 1) * share), 1), len(ordered)) - 1]


def calibrated(scores: Floats, levels: tuple[float, ...] = LEVELS, floor: float = 1.0) -> Intervals:
    """From scores [n, H] of one target."""
    return Intervals.calibrated(levels, np.array([floor]), list(scores.T[:, :, None]))


@given(seed=seeds, windows=sizes, size=sizes, horizon=sizes)
@bounded
def test_scores_and_floors_are_those_of_a_naive_loop(
    seed: int, windows: int, size: int, horizon: int
) -> None:
    seen, actuals, forecasts = forecast_windows(seed, windows, size, horizon)
    floors = floors_of(seen)
    for target, floor in enumerate(floors):
        restless = np.median([naive_unit(window, 0.0) for window in seen[..., target]])
        assert floor == pytest.approx(0.5 * restless if size > 1 else 0.5)
    expected = np.full(actuals.shape, np.nan)
    for window, step, target in np.ndindex(actuals.shape):
        y, y_hat = actuals[window, step, target], forecasts[window, step, target]
        if not math.isnan(y):
            expected[window, step, target] = abs(
                math.sqrt(y) - math.sqrt(max(y_hat, 0.0))
            ) / naive_unit(seen[window, :, target], floors[target])
    received = scores(seen, actuals, forecasts, floors)
    np.testing.assert_allclose(received, expected, rtol=1e-12)
    own = Intervals(levels=(), floors=tuple(floors), knots=())
    np.testing.assert_array_equal(own.scores(seen, actuals, forecasts), received)


@given(seed=seeds, count=st.integers(1, 60), level=st.sampled_from([0.1, 0.9, 0.95, 0.99]))
@bounded
def test_knots_are_the_quantiles_of_the_measured_scores(
    seed: int, count: int, level: float
) -> None:
    draw = np.random.default_rng(seed)
    leads = draw.exponential(size=(3, count, 2))
    leads[:, 1:][draw.random((3, count - 1, 2)) < 0.3] = np.nan
    intervals = Intervals.calibrated((level,), np.ones(2), list(leads[:2])).with_leads([leads[2]])
    knots = 99 if level == 0.99 else 19
    assert np.shape(intervals.knots) == (3, 2, knots)
    for lead, target, knot in np.ndindex(3, 2, knots):
        share = Fraction(knot + 1, knots + 1)
        assert intervals.knots[lead][target][knot] == naive_quantile(leads[lead, :, target], share)


def test_lead_without_any_measured_score_leaves_the_others_as_they_are() -> None:
    scored = np.random.default_rng(0).exponential(size=(50, 2))
    unmeasured = scored.copy()
    unmeasured[:, 1] = np.nan
    one, other = calibrated(scored), calibrated(unmeasured)
    assert other.knots[0] == one.knots[0]
    assert np.isfinite(other.knots[1]).all()


@given(seed=seeds, windows=sizes, size=sizes, leads=sizes, known=st.integers(0, 7))
@bounded
def test_bands_are_those_of_a_naive_loop(
    seed: int, windows: int, size: int, leads: int, known: int
) -> None:
    seen, _, forecasts = forecast_windows(seed, windows, size, leads)
    draw = np.random.default_rng(seed)
    recent = draw.exponential(size=(windows, leads, known, 2))
    recent[draw.random(recent.shape) < 0.3] = np.nan
    intervals = Intervals.calibrated(
        LEVELS, np.array([300.0, 500.0]), list(draw.exponential(size=(2, 30, 2)))
    )
    bands = intervals.bands(seen, forecasts, recent)
    assert tuple(bands) == LEVELS
    for level, band in bands.items():
        for place in np.ndindex(forecasts.shape):
            window, lead, target = place
            pool = np.append(intervals.knots[min(lead, 1)][target], recent[window, lead, :, target])
            reach = naive_quantile(pool, Fraction(str(level)))
            reach *= naive_unit(seen[window, :, target], intervals.floors[target])
            centre = math.sqrt(max(forecasts[place], 0.0))
            assert band.lower[place] == pytest.approx(max(centre - reach, 0.0) ** 2)
            assert band.upper[place] == pytest.approx((centre + reach) ** 2)


@given(seed=seeds, windows=st.integers(1, 130), horizon=sizes, data=st.data())
@bounded
def test_scores_that_are_known_at_a_cutoff_are_those_of_a_naive_loop(
    seed: int, windows: int, horizon: int, data: st.DataObject
) -> None:
    recent = RECENT
    scored = np.random.default_rng(seed).exponential(size=(windows, horizon, 2))
    first = data.draw(st.integers(0, windows - 1))
    part = known_scores(scored, first, windows)
    known = known_scores(scored)
    np.testing.assert_array_equal(part, known[first:])
    assert known.shape == (windows, horizon, recent, 2)
    for window, lead, target in np.ndindex(windows, horizon, 2):
        step = lead + 1
        come_true = [
            scored[before, lead, target] for before in range(windows) if before + step <= window
        ]
        expected = ([math.nan] * recent + come_true)[-recent:]
        np.testing.assert_array_equal(known[window, lead, :, target], expected)


@given(seed=seeds, windows=st.integers(2, 12), horizon=sizes, data=st.data())
@bounded
def test_score_of_a_window_serves_only_once_its_outcome_is_measured(
    seed: int, windows: int, horizon: int, data: st.DataObject
) -> None:
    changed = data.draw(st.integers(0, windows - 2))
    scored = np.random.default_rng(seed).exponential(size=(windows, horizon, 1))
    other = scored.copy()
    other[changed:] += 1
    one, two = known_scores(scored), known_scores(other)
    for lead in range(horizon):
        first = changed + lead + 1
        assert two[:first, lead].tobytes() == one[:first, lead].tobytes()
        assert (two[first:, lead, -1] != one[first:, lead, -1]).all()


@given(
    groups=st.integers(1, 20),
    twentieths=st.sampled_from([1, 7, 10, 16, 18, 19]),
    seed=seeds,
)
@bounded
def test_split_conformal_reach_is_the_exact_order_statistic(
    groups: int, twentieths: int, seed: int
) -> None:
    count, level = 20 * groups - 1, twentieths / 20
    scored = np.random.default_rng(seed).permutation(np.arange(1.0, count + 1))[:, None]
    # Beside the window's mean move of 1 there is no floor: the reach is the score itself.
    band = calibrated(scored, (level,), floor=0.0).bands(ONE, np.full((1, 1, 1), 1e8))[level]
    rank = math.ceil((count + 1) * Fraction(twentieths, 20))
    assert band.upper.item() == pytest.approx((1e4 + rank) ** 2, rel=1e-12)
    assert band.lower.item() == pytest.approx((1e4 - rank) ** 2, rel=1e-12)


def test_coverage_of_exchangeable_scores_is_the_level_whatever_the_calibration_size() -> None:
    draw = np.random.default_rng(0)
    for count, trials in ((39, 400), (999, 40)):
        covered = []
        for _ in range(trials):
            windows = draw.gamma(2.0, 1e4, (200, 5, 1))
            forecasts = draw.uniform(1e9, 2e9, (200, 1, 1))
            floors = floors_of(windows)
            calibration = draw.exponential(size=(count, 1))
            intervals = Intervals.calibrated((0.9,), floors, [calibration])
            signed = draw.exponential(size=200) * draw.choice([-1, 1], size=200)
            units = [naive_unit(window, floors[0]) for window in windows[..., 0]]
            actuals = (np.sqrt(forecasts[:, 0, 0]) + signed * units) ** 2
            covered.append(
                intervals.bands(windows, forecasts)[0.9].coverage(actuals[:, None, None])
            )
        assert np.mean(covered) == pytest.approx(0.9, abs=0.01)


def test_recent_scores_make_bands_follow_a_change_of_volatility() -> None:
    draw = np.random.default_rng(1)
    intervals = calibrated(draw.exponential(size=(999, 1)), (0.9,))
    windows = np.repeat(ONE, 1000, axis=0)
    errors = draw.exponential(size=1000) * np.where(np.arange(1000) < 500, 0.3, 3.0)
    forecasts = np.full((1000, 1, 1), 1e8)
    actuals = (np.sqrt(forecasts) + 2 * errors[:, None, None]) ** 2
    known = known_scores(intervals.scores(windows, actuals, forecasts))
    calm, restless = slice(100, 500), slice(600, 1000)

    def coverages(recent: Floats | None) -> list[float]:
        band = intervals.bands(windows, forecasts, recent)[0.9]
        return [
            Band(band.lower[part], band.upper[part]).coverage(actuals[part])
            for part in (calm, restless)
        ]

    fixed, following = coverages(None), coverages(known)
    assert fixed[0] > 0.99
    assert fixed[1] < 0.6
    assert following == pytest.approx([0.9, 0.9], abs=0.06)


def test_later_leads_than_calibrated_are_as_wide_as_the_last() -> None:
    intervals = calibrated(np.random.default_rng(0).exponential(size=(60, 2)) * [1, 5])
    band = intervals.bands(ONE, np.full((1, 4, 1), 1e6))[0.9]
    width = (band.upper - band.lower)[0, :, 0]
    assert width[1] > 2 * width[0]
    assert width[1:].tolist() == [width[1]] * 3


def test_ensemble_is_as_wide_as_the_mean_of_its_members_where_it_has_no_own_scores() -> None:
    draw = np.random.default_rng(0)
    own, one, two = (
        Intervals.calibrated(LEVELS, np.ones(2), list(draw.exponential(size=(leads, 40, 2))))
        for leads in (2, 5, 4)
    )
    whole = combined(own, [(0.25, one), (0.75, two)])
    assert (whole.levels, whole.floors, whole.knots[:2]) == (own.levels, own.floors, own.knots)
    assert np.shape(whole.knots) == (4, 2, 19)
    for lead, target, knot in np.ndindex(2, 2, 19):
        expected = sum(
            weight * member.knots[2 + lead][target][knot]
            for weight, member in ((0.25, one), (0.75, two))
        )
        assert whole.knots[2 + lead][target][knot] == pytest.approx(expected, rel=1e-12)


def test_no_level_gives_no_band() -> None:
    assert calibrated(np.ones((30, 1)), ()).bands(ONE, np.ones((1, 1, 1))) == {}


def test_series_that_never_moves_has_a_band_of_its_floor() -> None:
    still = np.zeros((30, 6, 1))
    floors = floors_of(still)
    assert floors.tolist() == [0.5]
    scored = scores(still, np.zeros((30, 1, 1)), np.zeros((30, 1, 1)), floors)
    np.testing.assert_array_equal(scored, 0)
    band = calibrated(np.full((99, 1), 4.0), floor=0.5).bands(still, np.full((30, 1, 1), 9.0))[0.9]
    np.testing.assert_allclose(band.lower, (3 - 4 * 0.5) ** 2)
    np.testing.assert_allclose(band.upper, (3 + 4 * 0.5) ** 2)


def test_floor_of_a_target_that_mostly_stands_still_is_half_its_mean_restlessness() -> None:
    windows = np.zeros((10, 2, 1))
    windows[0, 1] = 100.0
    assert floors_of(windows).tolist() == [0.5 * (10.0 / 10)]


@given(seed=seeds, scale=st.floats(1e-6, 1e6))
@bounded
def test_bands_scale_with_the_unit_of_the_series(seed: int, scale: float) -> None:
    seen, actuals, forecasts = forecast_windows(seed, 30, 4, 2)
    actuals[0] = 1e6

    def bands(unit: float) -> dict[float, Band]:
        floors = floors_of(seen * unit)
        of_windows = scores(seen * unit, actuals * unit, forecasts * unit, floors)
        intervals = Intervals.calibrated(LEVELS, floors, list(np.moveaxis(of_windows, 1, 0)))
        return intervals.bands(seen * unit, forecasts * unit, known_scores(of_windows))

    one, other = bands(1.0), bands(scale)
    for level in LEVELS:
        atol = 1e-3 * scale
        np.testing.assert_allclose(other[level].lower, one[level].lower * scale, atol=atol)
        np.testing.assert_allclose(other[level].upper, one[level].upper * scale, atol=atol)


@given(seed=seeds, levels=st.lists(st.floats(0.01, 0.99), min_size=2, max_size=2, unique=True))
@bounded
def test_wider_level_holds_the_narrower_one_and_both_hold_the_forecast(
    seed: int, levels: list[float]
) -> None:
    low, high = sorted(levels)
    seen, actuals, forecasts = forecast_windows(seed, 20, 4, 2)
    actuals[0] = 1e6
    floors = floors_of(seen)
    of_windows = scores(seen, actuals, forecasts, floors)
    intervals = Intervals.calibrated((low, high), floors, list(np.moveaxis(of_windows, 1, 0)))
    bands = intervals.bands(seen, forecasts, known_scores(of_windows))
    shown = np.maximum(forecasts, 0.0)
    assert (bands[high].lower <= bands[low].lower).all()
    assert (bands[high].upper >= bands[low].upper).all()
    assert (bands[low].lower <= shown + 1e-6).all()
    assert (bands[low].upper >= shown - 1e-6).all()
    assert (bands[high].lower >= 0).all()


def test_coverage_is_the_share_of_the_measured_values_inside_both_ends_included() -> None:
    band = Band(lower=np.zeros(5), upper=np.ones(5))
    assert band.coverage(np.array([0.0, 1.0, 0.5, 1.1, np.nan])) == 0.75
    assert math.isnan(band.coverage(np.full(5, np.nan)))


def test_intervals_come_back_equal_from_their_json() -> None:
    intervals = calibrated(np.random.default_rng(0).exponential(size=(50, 3)))
    assert Intervals.model_validate_json(intervals.model_dump_json()) == intervals


@pytest.mark.parametrize("horizon", [1, 3])
@pytest.mark.parametrize("kind", get_args(CandidateType))
def test_bands_at_a_cutoff_are_the_same_from_its_split_and_from_its_rows(
    kind: CandidateType, horizon: int
) -> None:
    recipe = every_kind_recipe(horizon)
    data, rows = demo_dataset(recipe, *ROWS), demo_cell(*ROWS)[1]
    forecaster = load_forecaster(demo_models(recipe)[kind].files, 1)
    forecasts = forecaster.forecast(data.test)
    offline = forecaster.bands(data.test, forecasts)
    assert tuple(offline) == LEVELS
    assert data.test.windows > RECENT + horizon, "more is known than is looked back on"
    units = np.array(data.preprocessing.target_ranges)
    for window in (0, 1, 2, horizon, 60, data.test.windows - 1):
        known = rows.iloc[: window + recipe.window.size]
        online = forecaster.bands_next(known, forecaster.forecast_next(known))
        for level in LEVELS:
            for ends in ("lower", "upper"):
                expected = getattr(offline[level], ends)[window]
                received = getattr(online[level], ends)
                np.testing.assert_allclose(received / units, expected / units, rtol=1e-6, atol=1e-6)


@pytest.fixture(scope="module")
def loaded() -> tuple[Forecaster, Split]:
    recipe = every_kind_recipe()
    return load_forecaster(demo_models(recipe)["GRU"].files, 1), demo_dataset(recipe, *ROWS).test


@pytest.mark.parametrize("poison", [np.nan, 1e12])
def test_changing_later_actuals_leaves_earlier_bands_unchanged(
    loaded: tuple[Forecaster, Split], poison: float
) -> None:
    forecaster, split = loaded
    forecasts = forecaster.forecast(split)
    first = 70
    measured = split.measured.copy()
    measured[first:] = poison
    one = forecaster.bands(split, forecasts)[0.9]
    other = forecaster.bands(replace(split, measured=measured), forecasts)[0.9]
    # The window whose cutoff is row `first` - 1 is the last that sees none of it.
    unseen = first - split.window.size + 1
    for ends in ("lower", "upper"):
        before, after = getattr(one, ends), getattr(other, ends)
        assert after[:unseen].tobytes() == before[:unseen].tobytes()
        assert np.isfinite(after).all()
        assert not np.array_equal(after[unseen:], before[unseen:])


def test_unmeasured_outcomes_are_not_looked_back_on(loaded: tuple[Forecaster, Split]) -> None:
    forecaster, split = loaded
    forecasts = forecaster.forecast(split)
    measured = split.measured.copy()
    measured[split.window.size :] = np.nan
    unmeasured = replace(split, measured=measured)
    intervals = demo_models(every_kind_recipe())["GRU"].files["intervals.json"]
    alone = Intervals.model_validate_json(intervals).bands(unmeasured.target_windows(), forecasts)
    received = forecaster.bands(unmeasured, forecasts)
    np.testing.assert_array_equal(received[0.9].lower, alone[0.9].lower)
    np.testing.assert_array_equal(received[0.9].upper, alone[0.9].upper)


def test_bands_of_later_steps_leave_those_of_the_first_ones_as_they_are(
    loaded: tuple[Forecaster, Split],
) -> None:
    forecaster, _ = loaded
    rows = demo_cell(*ROWS)[1]
    steps = forecaster.forecast_next(rows, 7)
    near = forecaster.bands_next(rows, steps[:3])[0.9]
    far = forecaster.bands_next(rows, steps)[0.9]
    np.testing.assert_array_equal(far.lower[:3], near.lower)
    np.testing.assert_array_equal(far.upper[:3], near.upper)
    assert far.upper.shape == (7, 2)
    assert (far.upper > far.lower).all()


def test_hundred_outcomes_before_the_last_window_are_all_that_bands_look_back_on(
    loaded: tuple[Forecaster, Split],
) -> None:
    forecaster, _ = loaded
    rows = demo_cell(*ROWS)[1]
    steps = forecaster.forecast_next(rows)
    whole = forecaster.bands_next(rows, steps)[0.9]
    least = forecaster.rows_needed + RECENT + 2
    np.testing.assert_allclose(
        forecaster.bands_next(rows.iloc[-least:], steps)[0.9].upper, whole.upper, rtol=1e-6
    )
    fewer = forecaster.bands_next(rows.iloc[-forecaster.rows_needed :], steps)[0.9]
    assert not np.allclose(fewer.upper, whole.upper, rtol=1e-3)


def test_model_without_intervals_has_no_bands() -> None:
    recipe = every_kind_recipe()
    files = dict(demo_models(recipe)["GRU"].files)
    del files["intervals.json"]
    forecaster = load_forecaster(files, 1)
    split, rows = demo_dataset(recipe, *ROWS).test, demo_cell(*ROWS)[1]
    assert forecaster.bands(split, forecaster.forecast(split)) == {}
    assert forecaster.bands_next(rows, forecaster.forecast_next(rows)) == {}


def test_recipe_without_levels_has_models_without_bands() -> None:
    recipe = every_kind_recipe(ensemble={"members": []}, models=["GRU"], intervals={"levels": []})
    forecaster = load_forecaster(demo_models(recipe)["GRU"].files, 1)
    split, rows = demo_dataset(recipe, *ROWS).test, demo_cell(*ROWS)[1]
    assert forecaster.bands(split, forecaster.forecast(split)) == {}
    assert forecaster.bands_next(rows, forecaster.forecast_next(rows, 5)) == {}
