"""Training a GRU or LSTM: chronological validation, best weights kept, every seed fixed."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from flts_assets.errors import TrainingError
from flts_assets.forecasting.flat_adam import FlatAdam
from flts_assets.forecasting.progress import Epoch, Progress, Report, Ticker
from flts_assets.forecasting.recurrent_net import RecurrentNet
from flts_assets.forecasting.recurrent_onnx import to_onnx
from flts_assets.forecasting.schedules import learning_rate
from flts_assets.forecasting.split import FitAndValidation, Split
from flts_assets.recipe.model import Recipe

__all__ = ["TrainedRecurrent", "train_recurrent"]


@dataclass(frozen=True)
class TrainedRecurrent:
    """The net at its best validation loss."""

    onnx: bytes
    weights: bytes
    """safetensors"""
    epochs: tuple[Epoch, ...]
    best_epoch: int
    fit_s: float


def train_recurrent(
    kind: str, train: Split, target_places: list[int], recipe: Recipe, threads: int, report: Report
) -> TrainedRecurrent:
    """Fit a net of `kind` (GRU or LSTM) on the first windows of `train`, validate on the last.

    `threads` is this trainer's share of the cores. With equal inputs, recipe and thread count the
    result is equal to the last bit. Raises TrainingError if the loss stops being finite.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(recipe.seed)
    started = time.monotonic()
    windows = _Windows(train, target_places, recipe)
    net = RecurrentNet(kind, train.features.shape[1], recipe.window, recipe.recurrent)
    epochs = _fit(net, windows, recipe, report)
    net.eval()
    fit_s = time.monotonic() - started
    return TrainedRecurrent(
        onnx=to_onnx(
            kind,
            {name: value.numpy() for name, value in net.state_dict().items()},
            recipe.window,
            train.features.shape[1],
            recipe.recurrent,
        ),
        weights=_safetensors(net),
        epochs=tuple(epochs),
        best_epoch=_best(epochs),
        fit_s=fit_s,
    )


class _Windows:
    """Fit and validation windows as tensor views over one copy of the features."""

    def __init__(self, train: Split, target_places: list[int], recipe: Recipe) -> None:
        inputs = torch.from_numpy(train.features).unfold(0, recipe.window.size, 1).transpose(1, 2)
        targets = torch.from_numpy(train.features[recipe.window.size :, target_places])
        outputs = targets.unfold(0, recipe.window.horizon, 1).transpose(1, 2)
        if recipe.recurrent.predict == "change":
            outputs = outputs - inputs[: train.windows, -1:, target_places]
        parts = FitAndValidation.of(train.windows, recipe.window, recipe.recurrent)
        self.fit_inputs = inputs[: parts.fit_end]
        self.fit_targets = outputs[: parts.fit_end]
        self.validation_inputs = inputs[parts.validation_start : train.windows]
        self.validation_targets = outputs[parts.validation_start : train.windows]


def _fit(net: RecurrentNet, windows: _Windows, recipe: Recipe, report: Report) -> list[Epoch]:
    """Train; the net ends with the weights of its best epoch."""
    settings = recipe.recurrent
    optimizer = FlatAdam(net, settings.learning_rate)
    shuffling = torch.Generator().manual_seed(recipe.seed)
    epochs: list[Epoch] = []
    best = optimizer.weights.clone()
    best_loss = math.inf
    meter = _Meter(settings.max_epochs, len(windows.fit_inputs), report)
    batches = math.ceil(len(windows.fit_inputs) / settings.batch_size)
    for number in range(1, settings.max_epochs + 1):
        started = time.monotonic()
        order = (
            torch.randperm(len(windows.fit_inputs), generator=shuffling)
            if settings.shuffle
            else torch.arange(len(windows.fit_inputs))
        )
        net.train()
        total = torch.zeros(())
        for place, batch in enumerate(torch.split(order, settings.batch_size)):
            optimizer.lr = learning_rate(
                settings.schedule,
                settings.learning_rate,
                (number - 1) * batches + place,
                settings.max_epochs * batches,
            )
            x, y = windows.fit_inputs[batch], windows.fit_targets[batch]
            loss = _step(net, optimizer, x, y, settings.gradient_clip)
            total += loss * len(batch)
            meter.advance(number, len(batch), total)
        validation_loss = _loss(net, windows.validation_inputs, windows.validation_targets)
        epoch = Epoch(
            number, float(total) / len(order), validation_loss, time.monotonic() - started
        )
        _check_finite(epoch, recipe)
        epochs.append(epoch)
        meter.finish(epoch)
        if validation_loss < best_loss:
            best_loss = validation_loss
            best = optimizer.weights.clone()
        elif settings.patience is not None and number - _best(epochs) >= settings.patience:
            break
    optimizer.load(best)
    return epochs


def _step(
    net: RecurrentNet, optimizer: FlatAdam, x: Tensor, y: Tensor, gradient_clip: float | None
) -> Tensor:
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(net(x), y)
    loss.backward()  # type: ignore[no-untyped-call]
    if gradient_clip is not None:
        optimizer.clip_gradient(gradient_clip)
    optimizer.step()
    return loss.detach()


def _best(epochs: list[Epoch]) -> int:
    return min(epochs, key=lambda epoch: epoch.validation_loss).epoch


def _loss(net: RecurrentNet, inputs: Tensor, targets: Tensor) -> float:
    return float(nn.functional.mse_loss(_forecasts(net, inputs), targets))


def _forecasts(net: RecurrentNet, inputs: Tensor, chunk: int = 512) -> Tensor:
    net.eval()
    with torch.inference_mode():
        return torch.cat([net(part) for part in torch.split(inputs, chunk)])


def _safetensors(net: RecurrentNet) -> bytes:
    from safetensors.torch import save

    # Each a copy of its own: safetensors refuses views into one vector.
    packed: bytes = save({name: value.clone() for name, value in net.state_dict().items()})
    return packed


def _check_finite(epoch: Epoch, recipe: Recipe) -> None:
    if not (math.isfinite(epoch.train_loss) and math.isfinite(epoch.validation_loss)):
        raise TrainingError(
            f"the loss stopped being finite in epoch {epoch.epoch}",
            received=f"train {epoch.train_loss}, validation {epoch.validation_loss}",
            remedy=f"lower recurrent.learning_rate (now {recipe.recurrent.learning_rate})",
        )


class _Meter:
    """Counts windows and reports at most once a second, and at the end of each epoch."""

    def __init__(self, epochs: int, windows: int, report: Report) -> None:
        self._epochs = epochs
        self._windows = windows
        self._report = report
        self._seen = 0
        self._started = time.monotonic()
        self._ticker = Ticker()

    def advance(self, epoch: int, windows: int, total_loss: Tensor) -> None:
        self._seen += windows
        if self._ticker.due():
            in_epoch = self._seen - (epoch - 1) * self._windows
            self._report(self._progress(epoch, float(total_loss) / in_epoch))

    def finish(self, epoch: Epoch) -> None:
        self._report(self._progress(epoch.epoch, epoch.train_loss, epoch))

    def _progress(self, epoch: int, train_loss: float, finished: Epoch | None = None) -> Progress:
        elapsed = max(time.monotonic() - self._started, 1e-9)
        rate = self._seen / elapsed
        all_windows = self._epochs * self._windows
        return Progress(
            epoch=epoch,
            epochs=self._epochs,
            done=self._seen / all_windows,
            windows_per_s=rate,
            remaining_s=(all_windows - self._seen) / rate,
            train_loss=train_loss,
            finished=finished,
        )
