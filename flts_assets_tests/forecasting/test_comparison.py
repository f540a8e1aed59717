from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from flts_assets.forecasting.comparison import DRAWS, Difference, Errors, difference
from flts_assets.recipe import Recipe
from flts_assets_tests.forecasting.datasets import demo_recipe

Floats = npt.NDArray[np.float64]
TARGETS = ("down", "up")
RANGES = (50.0, 2.0)
MEASURES = ("score", "rmse", "mae", "mse", "nrmse")
DRAWN_AT_ONCE = 200


def recipe_of(measure: str = "score", horizon: int = 2, **changes: object) -> Recipe:
    window = {"size": 4, "horizon": horizon, "targets": TARGETS}
    return demo_recipe(window=window, evaluation={"rank_by": measure}).updated(changes)


def two_models(windows: int, horizon: int = 2, seed: int = 0) -> tuple[Errors, Errors]:
    """The second one's errors are of half the size; some values were not measured."""
    draw = np.random.default_rng(seed)
    shape = (windows, horizon, 2)
    truth = draw.gamma(4.0, RANGES, shape)
    actuals = np.where(draw.random(shape) < 0.1, np.nan, truth)
    noisy, quiet = (truth + size * draw.normal(0, RANGES, shape) for size in (1.0, 0.5))
    return Errors(actuals, noisy), Errors(actuals, quiet)


def compared(worse: Errors, better: Errors, recipe: Recipe) -> Difference:
    found = difference(worse, better, TARGETS, RANGES, recipe)
    assert found is not None
    return found


def of_one_target(worse: npt.ArrayLike, better: npt.ArrayLike, **changes: Any) -> Difference:
    """Absolute errors of two models, one forecast a window, compared by MAE."""
    absolute = (np.reshape(np.asarray(e, dtype=np.float64), (-1, 1, 1)) for e in (worse, better))
    one, other = (Errors(np.zeros_like(e), e) for e in absolute)
    recipe = demo_recipe(evaluation={"rank_by": "mae"}).updated(changes)
    found = difference(one, other, ["down"], [1.0], recipe)
    assert found is not None
    return found


def naive_measures(actuals: Floats, forecasts: Floats) -> dict[str, float]:
    by_target: dict[str, list[float]] = {name: [] for name in MEASURES}
    for place, unit in enumerate(RANGES):
        pairs = [
            (y, y_hat)
            for y, y_hat in zip(
                actuals[..., place].ravel().tolist(),
                forecasts[..., place].ravel().tolist(),
                strict=True,
            )
            if math.isfinite(y)
        ]
        mse = sum((y_hat - y) ** 2 for y, y_hat in pairs) / len(pairs)
        mae = sum(abs(y_hat - y) for y, y_hat in pairs) / len(pairs)
        mean = sum(y for y, _ in pairs) / len(pairs)
        by_target["rmse"].append(mse**0.5 / unit)
        by_target["mae"].append(mae / unit)
        by_target["mse"].append(mse / unit**2)
        by_target["nrmse"].append(mse**0.5 / mean)
    means = {name: sum(values) / len(RANGES) for name, values in by_target.items() if values}
    return {**means, "score": 0.5 * means["rmse"] + 0.3 * means["mae"] + 0.2 * means["mse"]}


@pytest.mark.parametrize(
    ("windows", "horizon", "block", "length"),
    [(30, 2, None, 5), (30, 6, None, 6), (30, 2, 1, 1), (31, 2, 7, 7), (4, 2, 9, 4)],
)
def test_interval_is_that_of_a_naive_loop_over_the_same_draws(
    windows: int, horizon: int, block: int | None, length: int
) -> None:
    worse, better = two_models(windows, horizon)
    recipe = recipe_of(horizon=horizon, seed=5, promotion={"block": block, "confidence": 0.8})
    draw = np.random.default_rng(5)
    differences: dict[str, list[float]] = {name: [] for name in MEASURES}
    for _ in range(DRAWS // DRAWN_AT_ONCE):
        for starts in draw.integers(windows, size=(DRAWN_AT_ONCE, -(-windows // length))):
            rows = [(start + step) % windows for start in starts for step in range(length)]
            one, other = (
                naive_measures(errors.actuals[rows], errors.forecasts[rows])
                for errors in (worse, better)
            )
            for name in MEASURES:
                differences[name].append(one[name] - other[name])
    for name in MEASURES:
        received = compared(worse, better, recipe.updated({"evaluation": {"rank_by": name}}))
        one, other = (naive_measures(e.actuals, e.forecasts) for e in (worse, better))
        assert received.value == pytest.approx(one[name] - other[name], rel=1e-9)
        low, high = np.quantile(differences[name], [0.1, 0.9])
        assert (received.low, received.high) == pytest.approx((low, high), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("measure", MEASURES)
def test_model_does_not_differ_from_itself(measure: str) -> None:
    one, _ = two_models(40)
    itself = compared(one, one, recipe_of(measure))
    assert (itself.value, itself.low, itself.high) == (0, 0, 0)
    assert not itself.better
    assert not itself.significant


@pytest.mark.parametrize("measure", MEASURES)
def test_model_that_errs_less_in_every_window_is_better_and_the_other_is_not(measure: str) -> None:
    one, _ = two_models(40)
    less = Errors(one.actuals, one.forecasts + 0.2 * (np.nan_to_num(one.actuals) - one.forecasts))
    ahead = compared(one, less, recipe_of(measure))
    behind = compared(less, one, recipe_of(measure))
    assert 0 < ahead.low < ahead.value < ahead.high
    assert ahead.better
    assert ahead.significant
    assert (behind.value, behind.low, behind.high) == pytest.approx(
        (-ahead.value, -ahead.high, -ahead.low)
    )
    assert not behind.better
    assert behind.significant


def test_two_models_of_equal_quality_are_rarely_told_apart_and_unequal_ones_often() -> None:
    told_apart = dict.fromkeys((1.0, 1.6), 0)
    for seed in range(100):
        draw = np.random.default_rng(seed)
        one, other = draw.normal(size=(2, 80))
        for size in told_apart:
            told_apart[size] += of_one_target(one * size, other).significant
    assert told_apart[1.0] <= 12
    assert told_apart[1.6] >= 85


def test_noise_that_both_models_share_does_not_widen_the_interval() -> None:
    shared = np.random.default_rng(0).exponential(100.0, size=80)
    paired = of_one_target(shared + 1, shared)
    assert (paired.value, paired.low, paired.high) == pytest.approx((1, 1, 1), rel=1e-9)
    unpaired = of_one_target(shared + 1, np.random.default_rng(1).permutation(shared))
    assert unpaired.high - unpaired.low > 20


def test_longer_blocks_widen_the_interval_of_errors_that_resemble_their_neighbours() -> None:
    runs = np.random.default_rng(0).exponential(size=20).repeat(20)
    widths = {
        block: of_one_target(runs, np.ones(400), promotion={"block": block})
        for block in (1, 20, 400)
    }
    single, long, whole = (one.high - one.low for one in widths.values())
    assert long > 2.5 * single
    assert whole == pytest.approx(0, abs=1e-9), "every draw is all windows, rotated"


def test_higher_confidence_gives_a_wider_interval_around_the_same_value() -> None:
    pair = two_models(40)
    sure, unsure = (
        compared(*pair, recipe_of(promotion={"confidence": share})) for share in (0.99, 0.5)
    )
    assert sure.low < unsure.low < unsure.high < sure.high
    assert sure.value == unsure.value


def test_only_evaluated_targets_are_compared() -> None:
    worse, better = two_models(40)
    down = recipe_of().updated({"evaluation": {"targets": ["down"]}})
    one, other = (Errors(e.actuals[..., :1], e.forecasts[..., :1]) for e in (worse, better))
    alone = recipe_of(window={"targets": ["down"]})
    assert compared(worse, better, down) == difference(one, other, ["down"], RANGES[:1], alone)
    assert compared(worse, better, down) != compared(worse, better, recipe_of())


def test_unmeasured_values_are_not_compared() -> None:
    worse, better = two_models(40)
    unmeasured = np.isnan(worse.actuals)
    assert unmeasured.any()
    other = Errors(worse.actuals, np.where(unmeasured, 1e9, worse.forecasts))
    assert compared(other, better, recipe_of()) == compared(worse, better, recipe_of())


def test_draws_depend_on_the_recipes_seed_alone() -> None:
    pair = two_models(40)
    one = compared(*pair, recipe_of())
    np.random.default_rng().random()
    assert compared(*pair, recipe_of()) == one
    other = compared(*pair, recipe_of(seed=1))
    assert other.value == one.value
    assert (other.low, other.high) != (one.low, one.high)
    assert (other.low, other.high) == pytest.approx((one.low, one.high), rel=0.1)


def test_measure_that_is_not_defined_has_no_difference() -> None:
    worse, better = two_models(40)
    never = np.array([1.0, 0.0])
    one, other = (Errors(e.actuals * never, e.forecasts) for e in (worse, better))
    assert difference(one, other, TARGETS, RANGES, recipe_of("nrmse")) is None
    assert difference(one, other, TARGETS, RANGES, recipe_of("rmse")) is not None


def test_fewest_windows_can_be_compared() -> None:
    alone = of_one_target([3.0], [1.0])
    assert (alone.value, alone.low, alone.high) == (2, 2, 2)


def test_difference_is_written_with_its_sign_and_interval() -> None:
    assert str(Difference(value=0.0125, low=-0.001, high=0.03)) == "+0.01250 [-0.00100, +0.03000]"
