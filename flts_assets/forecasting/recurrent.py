"""Training GRUs or LSTMs: chronological validation, best weights kept, every seed fixed."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from flts_assets.errors import TrainingError
from flts_assets.forecasting.dataset import Dataset
from flts_assets.forecasting.flat_adam import FlatAdam
from flts_assets.forecasting.net_kinds import NetKind
from flts_assets.forecasting.progress import Epoch, Progress, Report, Ticker
from flts_assets.forecasting.recurrent_net import RecurrentNet
from flts_assets.forecasting.recurrent_onnx import to_onnx
from flts_assets.forecasting.schedules import learning_rate, momentum
from flts_assets.forecasting.split import FitAndValidation
from flts_assets.recipe.model import Recipe

__all__ = ["TrainedRecurrent", "train_recurrent"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TrainedRecurrent:
    """What is kept, and how it was validated. K nets whose forecasts are averaged."""

    onnx: bytes
    weights: bytes
    """safetensors, names prefixed with the net's place where there are several"""
    validated_onnx: bytes
    """the nets at their best validation loss; the kept ones unless they were fitted again"""
    net_forecasts: tuple[Floats, ...]
    """[V, H, T] raw units, of each validated net on the validation windows"""
    epochs: tuple[Epoch, ...]
    best_epochs: tuple[int, ...]
    """one a net"""
    fit_s: float


def train_recurrent(
    kind: str, data: Dataset, kinds: Sequence[NetKind], recipe: Recipe, threads: int, report: Report
) -> TrainedRecurrent:
    """Fit nets of `kind` (GRU or LSTM) on the first train windows, validate on the last.

    As many nets for each of `kinds` as the recipe has members.

    `threads` is this trainer's share of the cores. With equal inputs, recipe and thread count the
    result is equal to the last bit. Raises TrainingError if the loss stops being finite.
    """
    torch.set_num_threads(threads)
    started = time.monotonic()
    windows = [_Windows(data, one, recipe) for one in kinds]
    training = _Training(kind, windows, recipe, report)
    nets = range(recipe.recurrent.nets)
    validated = [training.validated(net) for net in nets]
    kept = [training.refitted(net) for net in nets] if recipe.recurrent.refit else validated
    fit_s = time.monotonic() - started

    def onnx(of: Iterable[RecurrentNet]) -> bytes:
        weights = [{name: v.numpy() for name, v in net.state_dict().items()} for net in of]
        features = data.train.features.shape[1]
        return to_onnx(kind, weights, recipe.window, features, recipe.recurrent)

    return TrainedRecurrent(
        onnx=onnx(kept),
        weights=_safetensors(kept),
        validated_onnx=onnx(validated),
        net_forecasts=tuple(
            training.windows_of(place).validation_forecasts(net)
            for place, net in enumerate(validated)
        ),
        epochs=tuple(training.epochs),
        best_epochs=tuple(training.best_epochs),
        fit_s=fit_s,
    )


class _Windows:
    """Windows of one kind of net as tensor views over one copy of its features, and what a net is to
    say after each."""

    def __init__(self, data: Dataset, kind: NetKind, recipe: Recipe) -> None:
        train = data.train
        split = replace(train, features=kind.features(train, data.preprocessing))
        windows = split.inputs()
        targets = split.features[:, kind.preprocessing.target_places]
        self._kind = kind
        self.inputs = torch.from_numpy(split.features).unfold(0, recipe.window.size, 1)
        self.inputs = self.inputs.transpose(1, 2)[: split.windows]
        self.outputs = torch.from_numpy(split.ahead(targets) - kind.base(windows))
        parts = FitAndValidation.of(split.windows, recipe.window, recipe.recurrent)
        self.fit_end = parts.fit_end
        self._validation = windows[parts.validation_start :]
        self.validation_inputs = self.inputs[parts.validation_start :]
        self.validation_outputs = self.outputs[parts.validation_start :]

    def validation_forecasts(self, net: RecurrentNet) -> Floats:
        """Raw units [V, H, T]."""
        return self._kind.raw(_outputs(net, self.validation_inputs).numpy(), self._validation)


@dataclass(frozen=True)
class _Net:
    """A net at the start of its fit."""

    net: RecurrentNet
    optimizer: FlatAdam
    shuffling: torch.Generator


class _Training:
    """All nets of one training, one after the other, counted as one run of epochs."""

    def __init__(
        self, kind: str, windows: Sequence[_Windows], recipe: Recipe, report: Report
    ) -> None:
        self._kind = kind
        self._windows = windows
        self._recipe = recipe
        self.epochs: list[Epoch] = []
        self.best_epochs: list[int] = []
        settings = recipe.recurrent
        fits = settings.nets * (2 if settings.refit else 1)
        self._meter = _Meter(fits * settings.max_epochs, report)

    def windows_of(self, place: int) -> _Windows:
        """What the net at this place among all sees: all members of one kind, then of the next."""
        return self._windows[place // self._recipe.recurrent.members]

    def validated(self, place: int) -> RecurrentNet:
        """Fitted on the fit windows; it ends with the weights of its best validation loss."""
        settings = self._recipe.recurrent
        windows = self.windows_of(place)
        new = self._new(place)
        best, best_loss, best_epoch = new.optimizer.weights.clone(), math.inf, 0
        passes = self._passes(new, windows, windows.fit_end, settings.max_epochs)
        for number, (train_loss, started) in enumerate(passes, start=1):
            outputs = _outputs(new.net, windows.validation_inputs)
            loss = float(self._loss(outputs, windows.validation_outputs))
            self._finish(place, train_loss, loss, started)
            if loss < best_loss or settings.keeps_last_epoch:
                best, best_loss, best_epoch = new.optimizer.weights.clone(), loss, number
            elif settings.patience is not None and number - best_epoch >= settings.patience:
                self._meter.skip(settings.max_epochs - number)
                break
        new.optimizer.load(best)
        self.best_epochs.append(best_epoch)
        return new.net

    def refitted(self, place: int) -> RecurrentNet:
        """Fitted on all windows: a whole cycle of rates, or as many epochs as the best one took."""
        settings = self._recipe.recurrent
        new = self._new(place)
        whole = settings.schedule == "one_cycle"
        epochs = settings.max_epochs if whole else self.best_epochs[place]
        self._meter.skip(settings.max_epochs - epochs)
        windows = self.windows_of(place)
        for train_loss, started in self._passes(new, windows, len(windows.inputs), epochs):
            self._finish(place, train_loss, None, started)
        return new.net

    def _new(self, place: int) -> _Net:
        recipe = self._recipe
        # Every seed of a recipe draws other numbers for every member.
        members = recipe.recurrent.members
        seed = recipe.seed * members + place % members
        torch.manual_seed(seed)
        features = self.windows_of(place).inputs.shape[2]
        net = RecurrentNet(self._kind, features, recipe.window, recipe.recurrent)
        optimizer = FlatAdam(net, recipe.recurrent.learning_rate)
        return _Net(net, optimizer, torch.Generator().manual_seed(seed))

    def _passes(
        self, new: _Net, windows: _Windows, count: int, epochs: int
    ) -> Iterator[tuple[float, float]]:
        """Pass over the first windows so often; after each: its mean loss, and when it began."""
        settings = self._recipe.recurrent
        batches = math.ceil(count / settings.batch_size)
        for number in range(epochs):
            started = time.monotonic()
            order = (
                torch.randperm(count, generator=new.shuffling)
                if settings.shuffle
                else torch.arange(count)
            )
            new.net.train()
            total, seen = torch.zeros(()), 0
            for place, batch in enumerate(torch.split(order, settings.batch_size)):
                step, steps = number * batches + place, epochs * batches
                new.optimizer.lr = learning_rate(
                    settings.schedule, settings.learning_rate, step, steps
                )
                new.optimizer.momentum = momentum(settings.schedule, step, steps)
                new.optimizer.zero_grad()
                loss = self._loss(new.net(windows.inputs[batch]), windows.outputs[batch])
                loss.backward()  # type: ignore[no-untyped-call]
                if settings.gradient_clip is not None:
                    new.optimizer.clip_gradient(settings.gradient_clip)
                new.optimizer.step()
                total += loss.detach() * len(batch)
                seen += len(batch)
                self._meter.advance(len(batch), seen / count, total / seen)
            yield float(total) / count, started

    def _loss(self, outputs: Tensor, wanted: Tensor) -> Tensor:
        squared = nn.functional.mse_loss(outputs, wanted)
        if self._recipe.recurrent.loss == "mse":
            return squared
        # The root has no slope at 0.
        return 0.5 * (squared + 1e-12).sqrt() + 0.3 * nn.functional.l1_loss(outputs, wanted)

    def _finish(
        self, place: int, train_loss: float, validation_loss: float | None, started: float
    ) -> None:
        epoch = Epoch(
            epoch=len(self.epochs) + 1,
            train_loss=train_loss,
            validation_loss=validation_loss,
            seconds=time.monotonic() - started,
            net=place + 1,
        )
        _check_finite(epoch, self._recipe)
        self.epochs.append(epoch)
        self._meter.finish(epoch)


def _outputs(net: RecurrentNet, inputs: Tensor, chunk: int = 512) -> Tensor:
    net.eval()
    with torch.inference_mode():
        return torch.cat([net(part) for part in torch.split(inputs, chunk)])


def _safetensors(nets: list[RecurrentNet]) -> bytes:
    from safetensors.torch import save

    # Each a copy of its own: safetensors refuses views into one vector.
    packed: bytes = save(
        {
            (name if len(nets) == 1 else f"{place}.{name}"): value.clone()
            for place, net in enumerate(nets)
            for name, value in net.state_dict().items()
        }
    )
    return packed


def _check_finite(epoch: Epoch, recipe: Recipe) -> None:
    if not (math.isfinite(epoch.train_loss) and math.isfinite(epoch.validation_loss or 0.0)):
        raise TrainingError(
            f"the loss stopped being finite in epoch {epoch.epoch}",
            received=f"train {epoch.train_loss}, validation {epoch.validation_loss}",
            remedy=f"lower recurrent.learning_rate (now {recipe.recurrent.learning_rate})",
        )


class _Meter:
    """Reports at most once a second, and at the end of each epoch."""

    def __init__(self, epochs: int, report: Report) -> None:
        self._epochs = epochs
        self._finished = 0
        self._windows = 0
        self._report = report
        self._started = time.monotonic()
        self._ticker = Ticker()

    def advance(self, windows: int, of_epoch: float, loss: Tensor) -> None:
        """So many windows more; the share of the epoch that is done, and its mean loss so far."""
        self._windows += windows
        if self._ticker.due():
            done = self._finished + of_epoch
            self._report(self._progress(self._finished + 1, done, float(loss)))

    def finish(self, epoch: Epoch) -> None:
        self._finished += 1
        self._report(self._progress(epoch.epoch, self._finished, epoch.train_loss, epoch))

    def skip(self, epochs: int) -> None:
        """So many epochs will not be run."""
        self._epochs -= epochs

    def _progress(
        self, epoch: int, done: float, train_loss: float, finished: Epoch | None = None
    ) -> Progress:
        elapsed = max(time.monotonic() - self._started, 1e-9)
        return Progress(
            epoch=epoch,
            epochs=self._epochs,
            done=done / self._epochs,
            windows_per_s=self._windows / elapsed,
            remaining_s=elapsed / done * (self._epochs - done),
            train_loss=train_loss,
            finished=finished,
        )
