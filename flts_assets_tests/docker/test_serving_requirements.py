"""What docker/serving-requirements.txt lists has to be enough for the service, and not more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from packaging.utils import canonicalize_name

from flts_assets.settings import PROJECT
from flts_assets.stores.directory import DirectoryStore
from flts_assets_tests.docker.only_serving import installed_with, requirements
from flts_assets_tests.docker.test_images import pinned, required
from flts_assets_tests.servers.process import Process, free_port
from flts_assets_tests.serving.deployed import KINDS, columns_of, later_rows, promote

LAUNCHED = [sys.executable, "-m", "flts_assets_tests.docker.only_serving"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds a champion of each kind."""
    folder = tmp_path_factory.mktemp("served")
    for kind in KINDS:
        promote(DirectoryStore(folder), kind)
    return folder


@pytest.fixture(scope="module")
def address(home: Path) -> Iterator[str]:
    """Of a service with nothing else installed."""
    port = free_port()
    command = [*LAUNCHED, "uvicorn", "flts_assets.serving.server:app", "--factory"]
    process = Process(
        "serving-alone",
        [*command, "--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"],
        home,
        environ={
            **os.environ,
            "FLTS_HOME": str(home),
            "FLTS_SERVING_LOG": "off",
            "PYTHONPATH": str(PROJECT),
        },
    )
    address = f"http://127.0.0.1:{port}"
    try:
        process.wait_until(lambda: urlopen(f"{address}/readyz", timeout=5).status == 200)
        yield address
    finally:
        process.stop()


def answer(address: str, question: dict[str, object]) -> dict[str, object]:
    request = Request(
        f"{address}/predict",
        json.dumps(question).encode(),
        {"content-type": "application/json"},
    )
    with urlopen(request, timeout=20) as response:
        found: dict[str, object] = json.load(response)
        return found


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_forecasts_with_these_packages_alone(address: str, kind: str) -> None:
    data = columns_of(later_rows())
    found = answer(
        address, {"index_col": "time", "data": data, "inference_length": 3, "station": kind}
    )
    assert found["status"] == "SUCCESS"
    predictions = found["predictions"]
    assert isinstance(predictions, list)
    assert len(predictions) == 3


def test_a_package_that_is_not_listed_is_not_there() -> None:
    done = subprocess.run(
        [*LAUNCHED, "torch"], cwd=PROJECT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode != 0
    assert "No module named torch" in done.stderr.replace("'", "")


def test_the_command_line_starts_with_these_packages_alone() -> None:
    done = subprocess.run(
        [*LAUNCHED, "flts_assets.cli:main", "serve", "--help"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_they_bring_neither_a_trainer_nor_an_orchestrator() -> None:
    heavy = {"torch", "dagster", "mlflow", "prophet", "scikit-learn", "scipy", "onnx", "matplotlib"}
    assert installed_with(requirements()) & heavy == set()


def test_they_are_pinned_and_known_to_setup() -> None:
    declared = {canonicalize_name(one.name) for one in required("kafka")}
    versions = pinned()
    for one in requirements():
        name = canonicalize_name(one.name)
        assert not one.specifier, "bounds stand in setup.py"
        assert name in versions, name
        if name != "boto3":  # dagster-aws brings it
            assert name in declared, name
