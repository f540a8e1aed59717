"""Whatever stops, and whenever: every event arrives, in order for each key, and no run fails."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import dagster as dg
import pytest

from flts_assets.assets import models
from flts_assets.automation.relay import Relayed, owed, relay
from flts_assets.errors import TrainingError
from flts_assets.logs import event_log
from flts_assets.recipe import Recipe, load_recipe
from flts_assets.stores.events import KafkaBroker, Message
from flts_assets.stores.pointer import Promotion
from flts_assets_tests.assets.deployment import SAMPLE50, Deployment, Run
from flts_assets_tests.automation.reported import HASH, OTHER, promoted
from flts_assets_tests.servers.kafka import BEHIND, Cable, Reader, Received, StandInBroker, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore:The ``noload`` loader strategy",  # MLflow's own
        "ignore:.*Any type hint is inferred as AnyType",  # MLflow's own
        "ignore:.*is currently in beta:dagster_shared.utils.warnings.BetaWarning",  # dagster-mlflow
    ),
]

TOPICS = (
    "training-data",
    "inference-data",
    "model-training",
    "model-selected",
    "flts-dead-letters",
)
WAIT_S = 200.0
"""for what takes seconds on an idle machine"""
LOG = event_log(logging.getLogger("flts.tests"))


MIDDLE = 30
"""messages were acknowledged, most were not: a relay is interrupted here"""


class Noting(KafkaBroker):
    """Notes what was acknowledged, and does something at the MIDDLE of it."""

    acknowledged: list[str]
    interrupt: Callable[[], None]

    def publish(self, message: Message) -> None:
        super().publish(message)
        self.acknowledged.append(message.idempotency_key)
        if len(self.acknowledged) == MIDDLE:
            self.interrupt()


class Relay:
    """The relay of one deployment, tick after tick, as its sensor would run it."""

    def __init__(
        self,
        instance: dg.DagsterInstance,
        broker: StandInBroker | Cable,
        interrupt: Callable[[], None] = lambda: None,
    ) -> None:
        self.acknowledged: list[str] = []
        self.cursor = 0
        self.waits = 0
        self._instance = instance
        self._broker = broker
        self._interrupt = interrupt

    def tick(self) -> Relayed:
        broker = Noting(self._broker.settings, send_s=2)
        broker.acknowledged, broker.interrupt = self.acknowledged, self._interrupt
        done = relay(self._instance, lambda: broker, self.cursor, LOG)
        assert done.cursor >= self.cursor
        assert (done.dead_letters, done.lost) == (0, 0)
        self.cursor = done.cursor
        self.waits += done.waiting is not None
        return done

    def run_until_done(self) -> None:
        deadline = time.monotonic() + WAIT_S
        while owed(self._instance, self.cursor, 1):
            assert time.monotonic() < deadline
            self.tick()


def report_promotions(
    instance: dg.DagsterInstance, count: int, first: int = 0
) -> list[tuple[str, str]]:
    """Key and MLflow run of `count` promotions of two recipes, in turns."""
    told = []
    for number in range(first, first + count):
        config_hash = (HASH, OTHER)[number % 2]
        instance.report_runless_asset_event(promoted(number, config_hash))
        told.append((f"global/{config_hash}", f"mlflow{number}"))
    return told


def assert_in_order(received: Sequence[Received], told: Sequence[tuple[str, str]]) -> None:
    """Each message's first arrival stands in the order of its key; a second one is its equal."""
    first: dict[str, Received] = {}
    for one in received:
        assert first.setdefault(one.name, one).payload == one.payload
    by_key: dict[str, list[str]] = defaultdict(list)
    for one in first.values():
        by_key[one.key].append(one.payload["run_id"])
    expected: dict[str, list[str]] = defaultdict(list)
    for key, run_id in told:
        expected[key].append(run_id)
    assert by_key == expected


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def test_every_event_arrives_although_the_broker_answers_no_more_in_the_middle(
    instance: dg.DagsterInstance, stand_in: StandInBroker
) -> None:
    told = report_promotions(instance, 200)
    stand_in.start()
    own = Relay(instance, stand_in, stand_in.freeze)
    thread = Thread(target=own.run_until_done, daemon=True)
    with Reader(stand_in.servers, "model-selected") as reader:
        thread.start()
        until(lambda: own.waits > 0, WAIT_S, "a relay that waits")
        assert own.cursor < owed(instance, 0, 1000)[-1].storage_id
        stand_in.thaw()
        thread.join(WAIT_S)
        until(lambda: len({one.name for one in reader.received}) == 200, WAIT_S, "all messages")
    assert_in_order(reader.received, told)
    assert len(own.acknowledged) == 200


def test_every_event_arrives_although_the_broker_dies_in_the_middle_and_comes_back(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    told = report_promotions(instance, 200)
    behind = StandInBroker(tmp_path / "broker", BEHIND)
    cable = Cable(behind)
    try:
        behind.start()
        cable.mend()
        own = Relay(instance, cable, cable.cut)
        thread = Thread(target=own.run_until_done, daemon=True)
        with Reader(cable.servers, "model-selected") as reader:
            thread.start()
            until(lambda: own.waits > 0, WAIT_S, "a relay that waits")
            before = len(own.acknowledged)
            cable.mend()
            thread.join(WAIT_S)
            until(lambda: len({one.name for one in reader.received}) == 200, WAIT_S, "all messages")
    finally:
        cable.cut()
        behind.stop(signal.SIGKILL)
    assert MIDDLE <= before < 200, "it died in the middle"
    assert_in_order(reader.received, told)
    assert len(own.acknowledged) == 200


# --- the daemon ----------------------------------------------------------------------------------


@contextmanager
def daemon(home: Path, broker: StandInBroker) -> Iterator[subprocess.Popen[bytes]]:
    """Dagster's own, with our sensors, where no .env leads it elsewhere."""
    environment = {**os.environ, "FLTS_KAFKA_BOOTSTRAP_SERVERS": broker.servers}
    command = [sys.executable, "-m", "dagster._daemon", "run", "-m", "flts_assets.definitions"]
    with (home / "daemon.log").open("ab") as log:
        process = subprocess.Popen(
            command, env=environment, cwd=home, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


@pytest.mark.integration
def test_daemon_that_is_killed_goes_on_where_the_broker_had_acknowledged(
    tmp_path: Path, stand_in: StandInBroker
) -> None:
    deployment = Deployment(tmp_path / "home")
    with deployment.environment(), deployment.instance as instance:
        told = report_promotions(instance, 150)
        stand_in.start()
        with KafkaBroker(stand_in.settings, send_s=60) as broker:
            broker.publish(Message("model-selected", "nobody", b'{"run_id": "first"}', "first"))
        with Reader(stand_in.servers, "model-selected") as reader:
            reader.wait_for(1)
            with daemon(tmp_path, stand_in):
                until(lambda: len(reader.received) > 1, WAIT_S, "the first message of the relay")
                stand_in.freeze()
            stand_in.thaw()
            told += report_promotions(instance, 50, first=150)
            with daemon(tmp_path, stand_in):
                until(lambda: len({one.name for one in reader.received}) == 201, WAIT_S, "the rest")
        assert_in_order(reader.received, [("nobody", "first"), *told])


# --- the pipeline --------------------------------------------------------------------------------


@pytest.fixture
def deployment(real_data: Path, tmp_path: Path) -> Iterator[Deployment]:
    deployment = Deployment(tmp_path / "home")
    deployment.add_data(real_data, PobleSec="PobleSec", PobleSec_test="PobleSec_test")
    with deployment.instance:
        yield deployment


@pytest.fixture
def small() -> Recipe:
    small = {"hidden_size": 4, "num_layers": 1, "max_epochs": 2}
    return load_recipe(SAMPLE50).updated({"models": ["GRU"], "recurrent": small})


@pytest.mark.integration
def test_broker_that_is_down_for_a_whole_run_fails_nothing_and_is_told_afterwards(
    deployment: Deployment,
    small: Recipe,
    stand_in: StandInBroker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = Relay(deployment.instance, stand_in)
    run = deployment.run(small)
    assert run.result.success, run.failures
    assert own.tick().waiting is not None
    assert own.acknowledged == []
    stand_in.start()
    own.run_until_done()
    with Reader(stand_in.servers, *TOPICS) as reader:
        first = reader.wait_for(5)
        check_first_run(first, deployment, run, small)

        again = deployment.run(small)
        assert again.result.success
        own.run_until_done()
        repeated = reader.wait_for(9)[5:]
        assert {one.name for one in repeated} == {
            one.name for one in first if one.payload.get("status") != "RUNNING"
        }

        def refuse(*_: object) -> None:
            raise TrainingError("the losses are not finite")

        monkeypatch.setattr(models, "train_model", refuse)
        failing = deployment.run(small, force=True)
        assert not failing.result.success
        own.run_until_done()
        reader.wait_until_named({own.acknowledged[-1]})
        last = [one for one in reader.wait_for(13)[9:] if one.topic == "model-training"]
    assert [one.payload["status"] for one in last] == ["RUNNING", "FAILED"]
    assert last[1].payload["error"] == "TrainingError: the losses are not finite"
    assert last[0].payload["run_id"] == last[1].payload["run_id"]


def check_first_run(
    received: list[Received], deployment: Deployment, run: Run, recipe: Recipe
) -> None:
    by_topic: dict[str, list[Received]] = defaultdict(list)
    for one in received:
        by_topic[one.topic].append(one)
        assert one.payload["v"] == 1
        assert one.payload["config_hash"] == recipe.config_hash
        assert one.payload["identifier"] == "global"
        assert one.headers["dagster-run-id"] == run.result.run_id
    for topic, file in (("training-data", "train"), ("inference-data", "test")):
        (claim,) = by_topic[topic]
        bucket, key = claim.payload["bucket"], claim.payload["object"]
        assert key.endswith(f"/{file}.parquet")
        assert len(deployment.platform.store.get(bucket, key)) == claim.payload["size"]
    begun, ended = by_topic["model-training"]
    assert (begun.payload["status"], ended.payload["status"]) == ("RUNNING", "SUCCESS")
    mlflow_run = run.metadata("gru_model")["mlflow_run_id"]
    assert begun.payload["run_id"] == ended.payload["run_id"] == mlflow_run
    (selected,) = by_topic["model-selected"]
    current = deployment.platform.pointer(recipe.config_hash).read()
    assert current is not None
    del selected.payload["v"]
    assert Promotion.model_validate_json(json.dumps(selected.payload)) == current[0]
    assert selected.key == f"global/{recipe.config_hash}"
