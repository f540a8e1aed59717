from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import torch
from safetensors.torch import load

from flts_assets.errors import TrainingError
from flts_assets.forecasting.dataset import Dataset
from flts_assets.forecasting.net_kinds import net_kinds
from flts_assets.forecasting.progress import Progress
from flts_assets.forecasting.recurrent import TrainedRecurrent, train_recurrent
from flts_assets.forecasting.recurrent_net import RecurrentNet
from flts_assets.forecasting.split import FitAndValidation, Split, least_windows
from flts_assets.recipe import Recipe
from flts_assets_tests.forecasting.datasets import (
    demo_dataset,
    demo_recipe,
    first_validation_window,
    silent,
)

every_kind = pytest.mark.parametrize("kind", ["GRU", "LSTM"])
WIDE = {"size": 6, "horizon": 3, "targets": ["down", "up"]}
RESTLESS = {"learning_rate": 0.3, "max_epochs": 12}
"""a rate at which the validation loss goes up and down"""


def trained(
    recipe: Recipe, kind: str = "GRU", data: Dataset | None = None, split: Split | None = None
) -> TrainedRecurrent:
    data = data or demo_dataset(recipe)
    data = replace(data, train=split or data.train)
    kinds = net_kinds(recipe, data.train, data.preprocessing)
    return train_recurrent(kind, data, kinds, recipe, 1, silent)


def said_by(onnx: bytes, *windows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """By all nets, given the windows of each kind: [M, K, H, T]."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    seen = {f"windows_{place}": one.copy() for place, one in enumerate(windows)}
    (forecasts,) = session.run(None, seen)
    return forecasts


def errors_of(onnx: bytes, data: Dataset, recipe: Recipe) -> npt.NDArray[np.float32]:
    """Of scaled targets on the validation windows."""
    split = data.train
    first = first_validation_window(split, recipe)
    targets = split.ahead(split.features[:, data.preprocessing.target_places])[first:]
    return said_by(onnx, split.inputs()[first:])[:, 0] - targets


def with_other_rows(split: Split, first: int) -> Split:
    """The split, but with nonsense in the features from row `first` on."""
    features = split.features.copy()
    features[first:] = 1 - features[first:]
    return replace(split, features=features)


@every_kind
def test_training_again_gives_the_same_bytes_and_another_seed_others(kind: str) -> None:
    recipe = demo_recipe()
    one, again = trained(recipe, kind), trained(recipe, kind)
    assert (again.onnx, again.weights) == (one.onnx, one.weights)
    assert [(e.train_loss, e.validation_loss) for e in again.epochs] == [
        (e.train_loss, e.validation_loss) for e in one.epochs
    ]
    other = trained(demo_recipe(seed=1), kind)
    assert other.onnx != one.onnx
    assert other.weights != one.weights


@pytest.mark.parametrize("loss", ["mse", "score"])
@every_kind
def test_what_is_kept_is_the_epoch_of_the_lowest_validation_loss(kind: str, loss: str) -> None:
    recipe = demo_recipe(window=WIDE, recurrent={**RESTLESS, "learning_rate": 1, "loss": loss})
    data = demo_dataset(recipe)
    net = trained(recipe, kind, data)
    losses = [epoch.validation_loss or np.inf for epoch in net.epochs]
    assert [epoch.epoch for epoch in net.epochs] == list(range(1, 13))
    (best,) = net.best_epochs
    assert losses[best - 1] == min(losses)
    assert best < 12, "otherwise the last epoch would do as well"
    errors = errors_of(net.onnx, data, recipe)
    squared = np.mean(errors**2)
    expected = squared if loss == "mse" else 0.5 * np.sqrt(squared) + 0.3 * np.mean(np.abs(errors))
    assert float(expected) == pytest.approx(min(losses), rel=1e-4)
    assert net.validated_onnx == net.onnx


@every_kind
def test_saved_weights_and_onnx_are_the_same_net(kind: str) -> None:
    recipe = demo_recipe(window=WIDE)
    data = demo_dataset(recipe)
    saved = trained(recipe, kind, data)
    net = RecurrentNet(kind, data.train.features.shape[1], recipe.window, recipe.recurrent)
    net.load_state_dict(load(saved.weights))
    windows = data.test.inputs()
    with torch.inference_mode():
        expected = net(torch.from_numpy(windows.copy())).numpy()
    np.testing.assert_allclose(said_by(saved.onnx, windows)[:, 0], expected, rtol=0, atol=1e-6)


@every_kind
def test_averaged_nets_are_those_of_other_seeds_each_kept_whole(kind: str) -> None:
    recipe = demo_recipe(window=WIDE, recurrent={"members": 2})
    data = demo_dataset(recipe)
    both = trained(recipe, kind, data)
    alone = [trained(demo_recipe(window=WIDE, seed=seed), kind, data) for seed in (0, 1)]
    weights = load(both.weights)
    assert len(weights) == sum(len(load(one.weights)) for one in alone)
    for place, one in enumerate(alone):
        for name, value in load(one.weights).items():
            assert torch.equal(weights[f"{place}.{name}"], value)
        np.testing.assert_array_equal(both.net_forecasts[place], one.net_forecasts[0])
    assert both.best_epochs == alone[0].best_epochs + alone[1].best_epochs
    windows = data.test.inputs()
    expected = np.concatenate([said_by(one.onnx, windows) for one in alone], axis=1)
    np.testing.assert_allclose(said_by(both.onnx, windows), expected, rtol=0, atol=1e-6)
    assert [(epoch.net, epoch.epoch) for epoch in both.epochs] == [(1, 1), (1, 2), (2, 3), (2, 4)]


def test_seeds_of_a_recipe_with_several_nets_share_none() -> None:
    one, other = (
        trained(demo_recipe(seed=seed, recurrent={"members": 2})).net_forecasts for seed in (0, 1)
    )
    assert len({net.tobytes() for net in (*one, *other)}) == 4


def test_forecasts_of_nets_of_every_kind_are_in_raw_units() -> None:
    variants = [
        {"predict": "level"},
        {"predict": "change"},
        {"predict": "change", "change_decay": 0.5, "scaling": "SqrtScaler"},
    ]
    recipe = demo_recipe(window=WIDE, recurrent={"members": 2, "variants": variants})
    data = demo_dataset(recipe)
    nets = trained(recipe, data=data)
    first = first_validation_window(data.train, recipe)
    kinds = net_kinds(recipe, data.train, data.preprocessing)
    windows = [
        replace(data.train, features=kind.features(data.train, data.preprocessing)).inputs()[first:]
        for kind in kinds
    ]
    said = said_by(nets.onnx, *windows)
    assert len(nets.net_forecasts) == said.shape[1] == 6
    units = np.array(data.preprocessing.target_ranges)
    for place, forecasts in enumerate(nets.net_forecasts):
        expected = kinds[place // 2].raw(said[:, place], windows[place // 2])
        np.testing.assert_allclose(forecasts / units, expected / units, rtol=0, atol=1e-6)
    assert [epoch.net for epoch in nets.epochs] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]


@pytest.mark.parametrize("schedule", ["constant", "one_cycle"])
@every_kind
def test_refitted_net_has_seen_the_validation_rows_and_the_validated_one_has_not(
    kind: str, schedule: str
) -> None:
    settings = {**RESTLESS, "schedule": schedule}
    recipe = demo_recipe(recurrent={**settings, "refit": True})
    data = demo_dataset(recipe)
    plain = trained(demo_recipe(recurrent=settings), kind, data)
    net = trained(recipe, kind, data)
    assert net.validated_onnx != net.onnx
    if schedule == "one_cycle":
        assert net.best_epochs == (12,), "what is validated ends where the refit will"
    else:
        assert net.validated_onnx == plain.onnx
        np.testing.assert_array_equal(net.net_forecasts, plain.net_forecasts)
        assert net.best_epochs == plain.best_epochs
    losses = [epoch.validation_loss for epoch in net.epochs]
    assert losses[:12] == [epoch.validation_loss for epoch in plain.epochs]
    whole_or_best = 12 if schedule == "one_cycle" else net.best_epochs[0]
    assert losses[12:] == [None] * whole_or_best
    first = first_validation_window(data.train, recipe)
    data.train.features[first + recipe.window.size :] += 1
    assert trained(recipe, kind, data).onnx != net.onnx


@pytest.mark.parametrize("patience", [1, 3])
def test_patience_ends_training_so_many_epochs_after_the_best(patience: int) -> None:
    recipe = demo_recipe(recurrent={**RESTLESS, "max_epochs": 60, "patience": patience})
    net = trained(recipe)
    assert len(net.epochs) == net.best_epochs[0] + patience < 60
    unhurried = trained(demo_recipe(recurrent={**RESTLESS, "max_epochs": len(net.epochs)}))
    assert unhurried.onnx == net.onnx


def test_training_learns() -> None:
    epochs = trained(demo_recipe(recurrent={"max_epochs": 8, "learning_rate": 0.01})).epochs
    assert epochs[-1].train_loss < epochs[0].train_loss / 2
    losses = [epoch.validation_loss or np.inf for epoch in epochs]
    assert losses[-1] < losses[0] / 2


@every_kind
def test_loss_that_stops_being_finite_ends_training_with_the_epoch_and_a_remedy(kind: str) -> None:
    with pytest.raises(TrainingError, match="finite in epoch 1") as caught:
        trained(demo_recipe(recurrent={"learning_rate": 1e30}), kind)
    assert caught.value.remedy == "lower recurrent.learning_rate (now 1e+30)"


def test_each_epoch_is_reported_once_as_it_is_recorded() -> None:
    recipe = demo_recipe(recurrent={"max_epochs": 3})
    data = demo_dataset(recipe)
    told: list[Progress] = []
    kinds = net_kinds(recipe, data.train, data.preprocessing)
    net = train_recurrent("GRU", data, kinds, recipe, 1, told.append)
    finished = [progress for progress in told if progress.finished is not None]
    assert tuple(progress.finished for progress in finished) == net.epochs
    assert [progress.done for progress in finished] == pytest.approx([1 / 3, 2 / 3, 1])
    assert all(progress.epochs == 3 and progress.windows_per_s > 0 for progress in told)
    assert finished[-1].remaining_s == 0
    assert [progress.done for progress in told] == sorted(progress.done for progress in told)


@pytest.mark.parametrize("horizon", [1, 3])
@every_kind
def test_rows_that_validation_forecasts_are_never_trained_on(kind: str, horizon: int) -> None:
    recipe = demo_recipe(window={"horizon": horizon}, recurrent={"max_epochs": 3})
    data = demo_dataset(recipe)
    first = first_validation_window(data.train, recipe)
    altered = with_other_rows(data.train, first + recipe.window.size)
    one = trained(recipe, kind, data).epochs
    other = trained(recipe, kind, data, altered).epochs
    assert [epoch.train_loss for epoch in other] == [epoch.train_loss for epoch in one]
    assert [epoch.validation_loss for epoch in other] != [epoch.validation_loss for epoch in one]


@pytest.mark.parametrize(
    "settings",
    [
        {"hidden_size": 4},
        {"num_layers": 1},
        {"batch_size": 8},
        {"shuffle": False},
        {"predict": "change"},
        {"schedule": "one_cycle"},
        {"gradient_clip": 0.01},
        {"validation_overlap": False},
        {"loss": "score"},
        {"refit": True},
        {"initial_weights": "published"},
    ],
    ids=str,
)
def test_every_setting_of_the_training_has_an_effect(settings: dict[str, Any]) -> None:
    assert trained(demo_recipe(recurrent=settings)).weights != trained(demo_recipe()).weights


def test_what_a_change_is_counted_from_has_an_effect() -> None:
    last, mean = (
        trained(demo_recipe(recurrent={"predict": "change", "change_decay": decay})).weights
        for decay in (0, 0.5)
    )
    assert last != mean


def test_without_overlap_no_row_of_a_validation_window_is_trained_on() -> None:
    recipe = demo_recipe(window={"horizon": 2}, recurrent={"validation_overlap": False})
    data = demo_dataset(recipe)
    parts = FitAndValidation.of(data.train.windows, recipe.window, recipe.recurrent)
    altered = with_other_rows(data.train, parts.validation_start)
    one = trained(recipe, data=data).epochs
    other = trained(recipe, data=data, split=altered).epochs
    assert [epoch.train_loss for epoch in other] == [epoch.train_loss for epoch in one]
    assert [epoch.validation_loss for epoch in other] != [epoch.validation_loss for epoch in one]


def test_fewest_windows_are_enough_to_train() -> None:
    recipe = demo_recipe(window=WIDE)
    least = least_windows(recipe.window, recipe.recurrent)
    rows = least + WIDE["size"] + WIDE["horizon"] - 1
    net = trained(recipe, data=demo_dataset(recipe, train_rows=rows, test_rows=9))
    assert len(net.epochs) == 2
