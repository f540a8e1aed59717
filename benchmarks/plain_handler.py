"""What one would write in an afternoon: FastAPI, pandas and the net in torch. For benchmarks/serving.py.

It does the same work as /predict for one GRU that predicts a level: parse, scale, one window, unscale.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from fastapi import FastAPI
from pydantic import BaseModel
from safetensors.torch import load_file

from flts_assets.forecasting.preprocessing import FittedPreprocessing
from flts_assets.forecasting.recurrent_net import RecurrentNet
from flts_assets.recipe.model import Recurrent, Window

FOLDER = Path(os.environ["MODEL"])
PREPROCESSING = FittedPreprocessing.model_validate_json((FOLDER / "preprocessing.json").read_text())
CARD = json.loads((FOLDER / "model.json").read_text())
WINDOW = Window.model_validate(CARD["window"])
NET = RecurrentNet(
    "GRU", len(PREPROCESSING.columns), WINDOW, Recurrent.model_validate(CARD["settings"])
)
NET.load_state_dict(load_file(FOLDER / "weights.safetensors"))
torch.set_num_threads(1)
app = FastAPI()


class Ask(BaseModel):
    index_col: str
    data: dict[str, list[Any]]


@app.get("/ready")
def ready() -> str:
    return "ok"


@app.post("/predict")
def predict(ask: Ask) -> dict[str, Any]:
    rows = pd.DataFrame(ask.data)
    rows.index = pd.DatetimeIndex(pd.to_datetime(rows.pop(ask.index_col)))
    features = torch.from_numpy(PREPROCESSING.transform(rows)[-WINDOW.size :])
    with torch.inference_mode():
        scaled = NET(features[None]).numpy()
    forecast = PREPROCESSING.inverse_targets(scaled)[0]
    following = rows.index[-1] + (rows.index[-1] - rows.index[-2])
    return {
        "status": "SUCCESS",
        "predictions": [{"ts": following.isoformat(), "down": float(forecast[0, 0])}],
    }
