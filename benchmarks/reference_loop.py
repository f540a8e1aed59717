"""One of the predecessor's three trainers, as it trained: slow by design, nobody should copy it.

    python benchmarks/reference_loop.py MODEL FOLDER EPOCHS

training.py starts the three at once. Its ways, from REFERENCE.md: a dataset that hands out item by
item, windows held as Python lists, batches of 64, two layers of 128, no validation split, and each
epoch one training pass and two full evaluation passes ("train" and "test", which without a split are
the same windows); torch takes every core. Prophet fits each of the eleven raw columns with 50
changepoints (prior .1) and forecasts the test rows with uncertainty sampling.

A net stops after EPOCHS of its ten, but not before one whole epoch passed without Prophet beside it
(the file FOLDER/prophet-ended). Each epoch's seconds, and the score of the nets on the test file, are
in the last line as JSON.
"""

from __future__ import annotations

import copy
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ALL_EPOCHS = 10
BATCH = 64
HIDDEN = 128
LAYERS = 2
WINDOW = 10
PROPHET_ENDED = "prophet-ended"


def train_net(kind: str, folder: Path, least_epochs: int) -> dict[str, Any]:
    import torch
    from torch import Tensor, nn
    from torch.utils.data import DataLoader, Dataset

    class Windows(Dataset[tuple[Tensor, Tensor]]):
        def __init__(self, rows: list[list[float]]) -> None:
            self.x = [rows[start : start + WINDOW] for start in range(len(rows) - WINDOW)]
            self.y = [[row[0]] for row in rows[WINDOW:]]

        def __len__(self) -> int:
            return len(self.x)

        def __getitem__(self, item: int) -> tuple[Tensor, Tensor]:
            return torch.tensor(self.x[item]), torch.tensor(self.y[item])

    class Net(nn.Module):
        def __init__(self, features: int) -> None:
            super().__init__()
            layers = {"GRU": nn.GRU, "LSTM": nn.LSTM}[kind]
            self.recurrent = layers(features, HIDDEN, LAYERS, batch_first=True)
            self.head = nn.Linear(HIDDEN, 1)

        def forward(self, x: Tensor) -> Tensor:
            output: Tensor = self.head(self.recurrent(x)[0][:, -1])
            return output

    def errors(loader: DataLoader[tuple[Tensor, Tensor]]) -> Tensor:
        net.eval()
        with torch.no_grad():
            return torch.cat([net(x) - y for x, y in loader])

    rows = {role: np.load(folder / f"{role}.npy").tolist() for role in ("train", "test")}
    train = Windows(rows["train"])
    shuffled = DataLoader(train, batch_size=BATCH, shuffle=True)
    in_order = DataLoader(train, batch_size=BATCH)
    net = Net(len(rows["train"][0]))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    best, best_loss = net.state_dict(), float("inf")
    undisturbed: list[bool] = []
    seconds: list[float] = []
    while len(seconds) < least_epochs or (not any(undisturbed) and len(seconds) < ALL_EPOCHS):
        undisturbed.append((folder / PROPHET_ENDED).exists())
        started = time.time()
        net.train()
        for x, y in shuffled:
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(net(x), y)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        for _ in ("train", "test"):
            evaluated = float(errors(in_order).square().mean())
        if evaluated < best_loss:
            best, best_loss = copy.deepcopy(net.state_dict()), evaluated
        seconds.append(time.time() - started)
        print(f"{kind} epoch {len(seconds)}: {seconds[-1]:.1f} s", flush=True)
    ended = time.time()
    net.load_state_dict(best)
    # Min-max scaled: errors are in units of the train range already.
    error = errors(DataLoader(Windows(rows["test"]), batch_size=BATCH))
    mse, mae = float(error.square().mean()), float(error.abs().mean())
    return {
        "ended": ended,
        "epochs": seconds,
        "undisturbed": undisturbed,
        "threads": torch.get_num_threads(),
        "test_score": 0.5 * mse**0.5 + 0.3 * mae + 0.2 * mse,
    }


def train_prophet(folder: Path) -> dict[str, Any]:
    import pandas as pd
    from prophet import Prophet

    from flts_assets.recipe import RAW_COLUMNS, TIME_COLUMN

    rows = {
        role: pd.read_parquet(folder / f"{role}_measured.parquet").ffill()
        for role in ("train", "test")
    }
    for column in RAW_COLUMNS:
        history = rows["train"][[TIME_COLUMN, column]].set_axis(["ds", "y"], axis=1)
        model = Prophet(n_changepoints=50, changepoint_prior_scale=0.1)
        model.fit(history)
        model.predict(rows["test"][[TIME_COLUMN]].set_axis(["ds"], axis=1))
    (folder / PROPHET_ENDED).touch()
    return {"ended": time.time()}


def main() -> None:
    logging.disable(logging.ERROR)  # Prophet announces plotly's absence as an error
    kind, folder, epochs = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    outcome = train_prophet(folder) if kind == "PROPHET" else train_net(kind, folder, epochs)
    print(json.dumps(outcome))


if __name__ == "__main__":
    main()
