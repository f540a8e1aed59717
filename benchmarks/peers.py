"""One peer's training of our net on our windows; run by training.py with the peers' own interpreter.

    PEERS_PYTHON benchmarks/peers.py PEER NET FOLDER ROWS EPOCHS

PEER: neuralforecast or darts, NET: GRU or LSTM. FOLDER holds train.npy, [N, 17] scaled float32, target
first; the first ROWS of them are trained on. The window is 10 rows, the step one ahead, the net two
layers of 128 and one linear map, the batch 64, the loss MSE, Adam 1e-3, on one thread.

neuralforecast counts steps, so it gets epochs x batches of them. darts has two recurrent models:
RNNModel knows only covariates whose future is known, and learns to copy each window one row on with a
loss on every row; BlockRNNModel sees past covariates and maps a window to the row after it, which is
this task, so it is the one. Off, because they cost time for nothing here: loggers, checkpoints, progress
bars, summaries, validation (we validate every epoch, they do not), scaling (the data is scaled), and
neuralforecast's sanity pass. Timed is `fit` alone, without imports and without making frames.
"""

from __future__ import annotations

import json
import logging
import math
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

BATCH = 64
HIDDEN = 128
LAYERS = 2
WINDOW = 10
TRAINER = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def neuralforecast_fit(net: str, rows: np.ndarray[Any, Any], epochs: int) -> dict[str, Any]:
    from neuralforecast import NeuralForecast  # type: ignore[import-not-found]
    from neuralforecast.losses.pytorch import MSE  # type: ignore[import-not-found]
    from neuralforecast.models import GRU, LSTM  # type: ignore[import-not-found]

    columns = [f"x{place}" for place in range(1, rows.shape[1])]
    frame = pd.DataFrame(rows, columns=["y", *columns])
    frame.insert(0, "ds", pd.date_range("2018-02-05", periods=len(rows), freq="2min"))
    frame.insert(0, "unique_id", "station")
    steps = epochs * math.ceil((len(rows) - WINDOW) / BATCH)
    model = {"GRU": GRU, "LSTM": LSTM}[net](
        h=1,
        input_size=WINDOW,
        encoder_n_layers=LAYERS,
        encoder_hidden_size=HIDDEN,
        decoder_layers=1,
        hist_exog_list=columns,
        loss=MSE(),
        max_steps=steps,
        learning_rate=1e-3,
        batch_size=1,
        windows_batch_size=BATCH,
        scaler_type="identity",
        val_check_steps=steps,
        num_sanity_val_steps=0,
        **TRAINER,
    )
    forecast = NeuralForecast(models=[model], freq="2min")
    started = time.perf_counter()
    forecast.fit(frame)
    seconds = time.perf_counter() - started
    return _told(seconds, forecast.models[0], steps)


def darts_fit(net: str, rows: np.ndarray[Any, Any], epochs: int) -> dict[str, Any]:
    from darts import TimeSeries  # type: ignore[import-not-found]
    from darts.models import BlockRNNModel  # type: ignore[import-not-found]

    times = pd.date_range("2018-02-05", periods=len(rows), freq="2min")
    model = BlockRNNModel(
        input_chunk_length=WINDOW,
        output_chunk_length=1,
        model=net,
        hidden_dim=HIDDEN,
        n_rnn_layers=LAYERS,
        batch_size=BATCH,
        n_epochs=epochs,
        optimizer_kwargs={"lr": 1e-3},
        use_static_covariates=False,
        random_state=0,
        pl_trainer_kwargs=TRAINER,
    )
    target = TimeSeries.from_times_and_values(times, rows[:, :1])
    covariates = TimeSeries.from_times_and_values(times, rows[:, 1:])
    started = time.perf_counter()
    model.fit(target, past_covariates=covariates)
    seconds = time.perf_counter() - started
    return _told(seconds, model.model, model.trainer.global_step)


def _told(seconds: float, model: torch.nn.Module, steps: int) -> dict[str, Any]:
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {
        "seconds": seconds,
        "steps": steps,
        "parameters": parameters,
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    peer, net, folder, rows, epochs = sys.argv[1:]
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    data = np.load(Path(folder) / "train.npy")[: int(rows)]
    fit = {"neuralforecast": neuralforecast_fit, "darts": darts_fit}[peer]
    print(json.dumps(fit(net, data, int(epochs))))


if __name__ == "__main__":
    main()
