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
from flts_assets.forecasting.progress import Progress
from flts_assets.forecasting.recurrent import TrainedRecurrent, train_recurrent
from flts_assets.forecasting.recurrent_net import RecurrentNet
from flts_assets.forecasting.split import FitAndValidation, Split
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
    places = data.preprocessing.target_places
    return train_recurrent(kind, split or data.train, places, recipe, 1, silent)


def said_by(onnx: bytes, windows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    (forecasts,) = session.run(None, {"windows": windows.copy()})
    return forecasts


def loss_of(onnx: bytes, data: Dataset, recipe: Recipe) -> float:
    """Mean squared error of scaled targets on the validation windows."""
    split = data.train
    first = first_validation_window(split, recipe)
    forecasts = said_by(onnx, split.inputs()[first:])
    targets = split.ahead(split.features[:, data.preprocessing.target_places])[first:]
    return float(np.mean((forecasts - targets) ** 2))


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


@every_kind
def test_what_is_kept_is_the_epoch_of_the_lowest_validation_loss(kind: str) -> None:
    recipe = demo_recipe(window=WIDE, recurrent=RESTLESS)
    data = demo_dataset(recipe)
    net = trained(recipe, kind, data)
    losses = [epoch.validation_loss for epoch in net.epochs]
    assert [epoch.epoch for epoch in net.epochs] == list(range(1, 13))
    assert losses[net.best_epoch - 1] == min(losses)
    assert net.best_epoch < 12, "otherwise the last epoch would do as well"
    assert loss_of(net.onnx, data, recipe) == pytest.approx(min(losses), rel=1e-4)


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
    np.testing.assert_allclose(said_by(saved.onnx, windows), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("patience", [1, 3])
def test_patience_ends_training_so_many_epochs_after_the_best(patience: int) -> None:
    recipe = demo_recipe(recurrent={**RESTLESS, "max_epochs": 60, "patience": patience})
    net = trained(recipe)
    assert len(net.epochs) == net.best_epoch + patience < 60
    unhurried = trained(demo_recipe(recurrent={**RESTLESS, "max_epochs": len(net.epochs)}))
    assert unhurried.onnx == net.onnx


def test_training_learns() -> None:
    epochs = trained(demo_recipe(recurrent={"max_epochs": 8, "learning_rate": 0.01})).epochs
    assert epochs[-1].train_loss < epochs[0].train_loss / 2
    assert epochs[-1].validation_loss < epochs[0].validation_loss / 2


@every_kind
def test_loss_that_stops_being_finite_ends_training_with_the_epoch_and_a_remedy(kind: str) -> None:
    with pytest.raises(TrainingError, match="finite in epoch 1") as caught:
        trained(demo_recipe(recurrent={"learning_rate": 1e30}), kind)
    assert caught.value.remedy == "lower recurrent.learning_rate (now 1e+30)"


def test_each_epoch_is_reported_once_as_it_is_recorded() -> None:
    recipe = demo_recipe(recurrent={"max_epochs": 3})
    data = demo_dataset(recipe)
    told: list[Progress] = []
    net = train_recurrent("GRU", data.train, [0], recipe, 1, told.append)
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
    ],
    ids=str,
)
def test_every_setting_of_the_training_has_an_effect(settings: dict[str, Any]) -> None:
    assert trained(demo_recipe(recurrent=settings)).weights != trained(demo_recipe()).weights


def test_without_overlap_no_row_of_a_validation_window_is_trained_on() -> None:
    recipe = demo_recipe(window={"horizon": 2}, recurrent={"validation_overlap": False})
    data = demo_dataset(recipe)
    parts = FitAndValidation.of(data.train.windows, recipe.window, recipe.recurrent)
    altered = with_other_rows(data.train, parts.validation_start)
    one = trained(recipe, data=data).epochs
    other = trained(recipe, data=data, split=altered).epochs
    assert [epoch.train_loss for epoch in other] == [epoch.train_loss for epoch in one]
    assert [epoch.validation_loss for epoch in other] != [epoch.validation_loss for epoch in one]


def test_two_windows_are_enough_to_train() -> None:
    recipe = demo_recipe(window=WIDE)
    net = trained(recipe, data=demo_dataset(recipe, train_rows=10, test_rows=9))
    assert len(net.epochs) == 2
