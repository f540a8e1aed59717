"""What is told of a run while it happens."""

from __future__ import annotations

import io
import threading
import uuid
from contextlib import suppress

import dagster as dg
from rich.console import Console

from flts_assets.assets.step_policy import TRAINERS
from flts_assets.automation.pool import set_trainers
from flts_assets.cli.run_view import watch
from flts_assets_tests.servers.kafka import until


@dg.op(pool=TRAINERS)
def gru_model() -> None: ...


@dg.job
def training() -> None:
    gru_model()


def test_stage_without_a_place_in_the_pool_says_that_it_waits() -> None:
    told = io.StringIO()
    with dg.instance_for_test() as instance:
        set_trainers(instance, 1)
        storage = instance.event_log_storage
        storage.claim_concurrency_slot(TRAINERS, "another run", "lstm_model")
        run_id = str(uuid.uuid4())
        console = Console(file=told, width=200)
        with watch(instance, run_id, ["gru_model"], console):

            def leave() -> None:
                with suppress(AssertionError):  # then the lines below show what was told instead
                    until(
                        lambda: "waiting for a place" in told.getvalue(), 120, "a line that waits"
                    )
                storage.free_concurrency_slots_for_run("another run")

            other = threading.Thread(target=leave)
            other.start()
            training.execute_in_process(instance=instance, run_id=run_id)
            other.join()
    lines = [line.split(maxsplit=2)[2] for line in told.getvalue().splitlines()]
    assert (
        "gru_model           waits until another run leaves a place in the pool trainers" in lines
    )
    assert "… gru_model: waiting for a place" in lines
    assert lines.index("… gru_model: waiting for a place") < lines.index(
        "gru_model           started"
    )
