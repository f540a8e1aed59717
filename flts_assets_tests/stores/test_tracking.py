from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from socket import socket

import pytest

from flts_assets.errors import TrackingError
from flts_assets.stores.tracking import (
    ATTEMPT_TAG,
    DAGSTER_RUN_TAG,
    FINGERPRINT_TAG,
    Tracking,
    TrackingRun,
    experiment_of,
)

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")  # MLflow's own

FIRST_USES = """
import os, sys
from pathlib import Path
import alembic.command, mlflow.store.tracking.sqlalchemy_store  # as the fork server has
from flts_assets.stores.tracking import Tracking

home, number = Path(sys.argv[1]), 0
gate, held = os.pipe()
while number < 4 and os.fork():
    number += 1
os.close(held)
if number == 4:
    sys.exit(any(os.wait()[1] for _ in range(4)))
os.read(gate, 1)  # returns once nobody holds the other end
run = Tracking(f"sqlite:///{home}/mlflow.db", home / "artifacts", home).start("GRU", {}, {})
run.log_metrics({"number": number})
run.end("FINISHED")
"""

KILLED_WHILE_CREATING = """
import os, signal, sys
from pathlib import Path
from sqlalchemy import event
from sqlalchemy.engine import Engine
from flts_assets.stores.tracking import Tracking

home, survived = Path(sys.argv[1]), int(sys.argv[2])

@event.listens_for(Engine, "before_cursor_execute")
def count(_connection, _cursor, statement, *_):
    global survived
    survived -= statement.lstrip().startswith("CREATE TABLE")
    if survived < 0:
        os.kill(os.getpid(), signal.SIGKILL)

Tracking(f"sqlite:///{home}/mlflow.db", home / "artifacts", home).prepare()
"""


def tracking_in(home: Path) -> Tracking:
    return Tracking(f"sqlite:///{home}/mlflow.db", home / "artifacts", home)


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Tracking:
    return tracking_in(tmp_path_factory.mktemp("tracking"))


@contextmanager
def training(
    tracking: Tracking, model_type: str = "GRU", dagster_run: str = "d"
) -> Iterator[TrackingRun]:
    run = tracking.start(model_type, {}, {DAGSTER_RUN_TAG: dagster_run})
    try:
        yield run
    finally:
        if run.run_id in tracking.running():
            run.end("FAILED")


def test_nets_and_prophet_are_tracked_in_different_experiments() -> None:
    assert [experiment_of(model) for model in ("GRU", "LSTM", "PROPHET")] == [
        *("Default", "Default", "NonML")
    ]


@pytest.mark.parametrize("model_type", ["GRU", "PROPHET"])
def test_finished_run_holds_its_name_params_metrics_tags_and_files(
    tracking: Tracking, model_type: str
) -> None:
    run = tracking.start(model_type, {"window": 10, "patience": None}, {"flts.recipe": "mine"})
    run.log_metrics({"loss": 0.5, "other": 2.0}, step=1)
    run.log_metrics({"loss": 0.25}, step=2)
    run.log_files(model_type, {"weights": b"\x00\x01", "card.json": b"{}"})
    run.set_tags({FINGERPRINT_TAG: "f"})
    run.end("FINISHED")

    client = tracking.client
    kept = client.get_run(run.run_id)
    assert (kept.info.status, kept.info.run_name) == ("FINISHED", model_type)
    assert client.get_experiment(kept.info.experiment_id).name == experiment_of(model_type)
    assert kept.data.params == {"window": "10", "patience": "None"}
    assert kept.data.metrics == {"loss": 0.25, "other": 2.0}
    losses = [(one.step, one.value) for one in client.get_metric_history(run.run_id, "loss")]
    assert losses == [(1, 0.5), (2, 0.25)]
    assert kept.data.tags.items() >= {"flts.recipe": "mine", FINGERPRINT_TAG: "f"}.items()
    files = {one.path: one.file_size for one in client.list_artifacts(run.run_id, model_type)}
    assert files == {f"{model_type}/weights": 2, f"{model_type}/card.json": 2}


def test_files_land_under_our_artifact_root_and_nothing_in_the_working_directory(
    tracking: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = Path(tracking.uri.removeprefix("sqlite:///")).parent / "artifacts"
    for model_type in ("LSTM", "PROPHET"):
        run = tracking.start(model_type, {}, {})
        run.log_files(model_type, {"weights": b"w"})
        run.end("FINISHED")
        assert len(list(root.glob(f"{experiment_of(model_type)}/**/{run.run_id}/**/weights"))) == 1
    tracking.prepare()
    assert list(tmp_path.iterdir()) == []


def test_prepared_store_has_all_experiments_under_our_artifact_root(tracking: Tracking) -> None:
    tracking.prepare()
    tracking.prepare()
    found = {one.name: one.artifact_location for one in tracking.client.search_experiments()}
    assert set(found) == {"Default", "NonML", "Pipeline"}
    root = Path(tracking.uri.removeprefix("sqlite:///")).parent / "artifacts"
    assert all(place.startswith((root / name).as_uri()) for name, place in found.items())


def test_only_the_finished_run_of_this_very_training_is_found(tracking: Tracking) -> None:
    mine = {FINGERPRINT_TAG: "mine", ATTEMPT_TAG: "2"}
    for tags, status in (
        ({**mine, ATTEMPT_TAG: "1"}, "FINISHED"),
        ({**mine, FINGERPRINT_TAG: "other"}, "FINISHED"),
        (mine, "FAILED"),
    ):
        tracking.start("GRU", {}, tags).end(status)  # type: ignore[arg-type]
    with training(tracking) as under_way:
        under_way.set_tags(mine)
        assert tracking.find_finished("mine", "2") is None
        under_way.end("FINISHED")
    assert tracking.find_finished("mine", "2") == under_way.run_id


def test_figures_can_be_added_to_a_run_that_has_ended(tracking: Tracking) -> None:
    with training(tracking) as run:
        run.end("FINISHED")
    tracking.finished(run.run_id).log_metrics({"test_score": 0.02})
    kept = tracking.client.get_run(run.run_id)
    assert (kept.info.status, kept.data.metrics) == ("FINISHED", {"test_score": 0.02})


def test_only_runs_whose_dagster_run_has_ended_are_closed(tracking: Tracking) -> None:
    with (
        training(tracking, "GRU", "ended") as ended,
        training(tracking, "PROPHET", "ended") as ended_prophet,
        training(tracking, "GRU", "under way") as under_way,
    ):
        strangers = tracking.start("LSTM", {}, {})
        ended_runs = {ended.run_id, ended_prophet.run_id}
        assert tracking.running().keys() == {*ended_runs, under_way.run_id, strangers.run_id}
        assert set(tracking.close_abandoned(lambda run: run == "ended")) == ended_runs
        assert tracking.running() == {under_way.run_id: "under way", strangers.run_id: None}
        assert tracking.close_abandoned(lambda run: run == "ended") == []
        status = {run: tracking.client.get_run(run).info.status for run in ended_runs}
        assert set(status.values()) == {"KILLED"}
        strangers.end("FINISHED")


def test_run_that_cannot_be_described_does_not_stay_running(tracking: Tracking) -> None:
    with pytest.raises(TrackingError, match="remedy"):
        tracking.start("GRU", {"not: a/name?": 1}, {})
    assert tracking.running() == {}


@pytest.mark.slow
def test_fresh_store_is_opened_by_four_processes_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FIRST_USES, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    client = tracking_in(tmp_path).client
    runs = client.search_runs(["0"])
    assert {run.data.metrics["number"] for run in runs} == {0, 1, 2, 3}
    assert {run.info.status for run in runs} == {"FINISHED"}


@pytest.mark.slow
def test_store_whose_first_opening_was_killed_midway_is_opened_by_the_next(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED_WHILE_CREATING, str(tmp_path), "70"]
    killed = subprocess.run(command, capture_output=True, timeout=600, check=False)
    assert killed.returncode == -signal.SIGKILL
    tracking_in(tmp_path).start("GRU", {}, {}).end("FINISHED")


def refusing_uri() -> str:
    with closing(socket()) as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.mark.parametrize("first_use", ["prepare", "start", "find_finished", "running"])
def test_store_that_cannot_be_reached_is_told_with_its_uri_and_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first_use: str
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    (tmp_path / "a file").touch()
    (tmp_path / "no.db").write_text("this is no database, but long enough to be looked at" * 100)
    for uri in (
        refusing_uri(),
        f"sqlite:///{tmp_path}/a file/mlflow.db",
        f"sqlite:///{tmp_path}/no.db",
        "ftp://127.0.0.1/mlflow",
    ):
        tracking = Tracking(uri, tmp_path / "artifacts", tmp_path)
        arguments = {"start": ("GRU", {}, {}), "find_finished": ("f", "a")}.get(first_use, ())
        with pytest.raises(TrackingError) as caught:
            getattr(tracking, first_use)(*arguments)
        text = str(caught.value)
        assert uri.removeprefix("http://").replace("127.0.0.1:", "") in text
        assert "remedy: check MLFLOW_TRACKING_URI" in text


def test_run_that_the_store_no_longer_knows_is_refused_as_a_tracking_error(
    tracking: Tracking,
) -> None:
    gone = tracking.finished("f" * 32)
    with pytest.raises(TrackingError, match=r"MLflow refused.*f{32}.*remedy"):
        gone.log_metrics({"loss": 1.0})
    with pytest.raises(TrackingError):
        gone.set_tags({"a": "b"})
    with pytest.raises(TrackingError):
        gone.log_files("GRU", {"weights": b"w"})
    with pytest.raises(TrackingError):
        gone.end("FINISHED")
