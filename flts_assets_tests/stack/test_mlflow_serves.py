"""MLflow's own server over the champion's alias answers with the numbers of `flts serve`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from flts_assets.forecasting.raw_frame import read_raw
from flts_assets.recipe import RAW_COLUMNS, load_recipe
from flts_assets.recipe.columns import TIME_COLUMN
from flts_assets_tests.servers.process import Process, free_port, program
from flts_assets_tests.serving.deployed import columns_of
from flts_assets_tests.serving.processes import service

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1800)]

RECIPE = {
    "name": "served-twice",
    "data": {"train_file": "DemoCell.csv", "test_file": "DemoCell_test.csv"},
    "models": ["GRU"],
    "recurrent": {"max_epochs": 1},
}
FLTS = Path(sys.executable).with_name("flts")


def asked(url: str, body: dict[str, Any]) -> Any:
    request = Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


def test_invocations_of_the_alias_are_the_forecasts_of_predict(tmp_path: Path) -> None:
    environ = {**os.environ, "FLTS_HOME": str(tmp_path)}
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps(RECIPE))
    for arguments in (
        ("data", "demo", "--train-rows", "2520", "--test-rows", "60"),
        ("run", str(recipe)),
    ):
        subprocess.run([FLTS, *arguments], env=environ, check=True, stdout=subprocess.DEVNULL)
    content = (tmp_path / "dataset" / "DemoCell_test.csv").read_bytes()
    rows = read_raw(content, "DemoCell_test.csv").ffill().iloc[:30]

    with service(tmp_path) as own:
        body = {"data": columns_of(rows), "inference_length": 4}
        expected = asked(f"http://127.0.0.1:{own.port}/predict", body)["predictions"]

    name = f"served-twice-{load_recipe(recipe).config_hash[:8]}"
    port = free_port()
    command = [program("mlflow"), "models", "serve", "-m", f"models:/{name}@champion"]
    variables = {
        **environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    }
    server = Process(
        "mlflow-models",
        [*command, "--env-manager", "local", "-p", str(port)],
        tmp_path,
        environ=variables,
    )
    try:
        server.wait_until(lambda: urlopen(f"http://127.0.0.1:{port}/ping", timeout=5).status == 200)
        split = {
            "columns": [TIME_COLUMN, *RAW_COLUMNS],
            "data": [
                [moment.isoformat(), *cells]
                for moment, cells in zip(rows.index, rows.to_numpy().tolist(), strict=True)
            ],
        }
        asking = {"dataframe_split": split, "params": {"inference_length": 4}}
        answer = asked(f"http://127.0.0.1:{port}/invocations", asking)["predictions"]
    finally:
        server.stop()
    assert [one["ts"] for one in answer] == [one["ts"] for one in expected]
    for one, other in zip(answer, expected, strict=True):
        assert one["down"] == pytest.approx(other["down"], rel=1e-6)
