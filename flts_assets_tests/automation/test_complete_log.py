from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import dagster as dg
import psycopg2
import pytest

from flts_assets.automation.complete_log import complete_up_to
from flts_assets.automation.relay import owed, relay
from flts_assets.logs import event_log
from flts_assets.settings import PROJECT
from flts_assets.stores.events import KafkaBroker
from flts_assets_tests.automation.reported import promoted
from flts_assets_tests.servers.postgres import USER, Postgres


@pytest.fixture
def database(postgres: Postgres) -> str:
    return postgres.database()


@pytest.fixture
def instance(
    database: str, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dg.DagsterInstance]:
    """On PostgreSQL, as in production."""
    variables = {
        **postgres.environment(database),
        "FLTS_DAGSTER_STORAGE": str(tmp_path),
        "FLTS_COMPUTE_LOGS_BUCKET": "none",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with dg.DagsterInstance.from_config(str(PROJECT / "docker")) as instance:
        yield instance


def nobody() -> KafkaBroker:
    pytest.fail("a broker was asked for")


def test_event_that_is_seen_after_a_later_one_is_owed_all_the_same(
    instance: dg.DagsterInstance, database: str, postgres: Postgres
) -> None:
    instance.report_runless_asset_event(promoted(0))
    assert [one.storage_id for one in owed(instance, 0, 10)] == [1]
    slow = psycopg2.connect(host="127.0.0.1", port=postgres.port, user=USER, dbname=database)
    with closing(slow), slow.cursor() as cursor:
        cursor.execute(
            "SELECT string_agg(column_name, ',') FROM information_schema.columns"
            " WHERE table_name = 'event_logs' AND column_name <> 'id'"
        )
        (columns,) = cursor.fetchone()
        cursor.execute(f"INSERT INTO event_logs ({columns}) SELECT {columns} FROM event_logs")
        instance.report_runless_asset_event(promoted(1))
        done = relay(instance, nobody, 1, event_log(logging.getLogger("relay")))
        assert done.cursor == 1
        assert "a write to Dagster's event log has not ended for 1 s" in str(done)
        slow.commit()
    assert [one.storage_id for one in owed(instance, 0, 10)] == [1, 2, 3]


def test_log_whose_events_are_seen_in_the_order_of_their_ids_is_always_complete(
    tmp_path: Path,
) -> None:
    with (
        dg.DagsterInstance.ephemeral() as memory,
        dg.DagsterInstance.local_temp(str(tmp_path)) as disk,
    ):
        assert (complete_up_to(memory), complete_up_to(disk)) == (None, None)
