from __future__ import annotations

import json
import logging
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from flts_assets.logs import EventLog, event_log


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> EventLog:
    caplog.set_level(logging.DEBUG, logger="a run log")
    return event_log(logging.getLogger("a run log"), stage="raw_data", config_hash="c")


def only_line(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    fields = json.loads(out)
    assert isinstance(fields, dict)
    return fields


def test_event_is_one_json_object_on_one_line_with_its_fields_after_the_bound_ones(
    log: EventLog, capsys: pytest.CaptureFixture[str]
) -> None:
    log.info("sampling_applied", train_rows_before=15_927, train_rows_after=50)
    fields = only_line(capsys)
    assert list(fields)[:3] == ["timestamp", "level", "event"]
    del fields["timestamp"]
    assert fields == {
        "level": "info",
        "event": "sampling_applied",
        "stage": "raw_data",
        "config_hash": "c",
        "train_rows_before": 15_927,
        "train_rows_after": 50,
    }


def test_run_log_gets_the_very_line_that_stdout_gets(
    log: EventLog, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    log.info("skip_idempotent")
    assert [f"{record.message}\n" for record in caplog.records] == [capsys.readouterr().out]


@pytest.mark.parametrize("level", ["info", "warning", "error"])
def test_level_stands_in_the_line_and_in_the_run_log(
    log: EventLog,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    level: str,
) -> None:
    getattr(log, level)("stage_failed")
    assert only_line(capsys)["level"] == level
    assert [record.levelname for record in caplog.records] == [level.upper()]


def test_timestamp_is_utc_and_now(log: EventLog, capsys: pytest.CaptureFixture[str]) -> None:
    log.info("train_start")
    moment = datetime.fromisoformat(only_line(capsys)["timestamp"].replace("Z", "+00:00"))
    assert timedelta() <= datetime.now(timezone.utc) - moment < timedelta(minutes=1)


@pytest.mark.parametrize("text", ["two\nlines", "Straße 東京 {}", '"quoted" 100 %s'])
def test_any_text_stays_on_one_line_and_comes_back_as_it_was(
    log: EventLog,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    text: str,
) -> None:
    log.error("stage_failed", message=text)
    assert only_line(capsys)["message"] == text
    assert json.loads(caplog.records[0].message)["message"] == text


def test_logs_of_two_stages_share_no_fields(capsys: pytest.CaptureFixture[str]) -> None:
    run_log = logging.getLogger("a run log")
    first, second = event_log(run_log, stage="a", only="first"), event_log(run_log, stage="b")
    first.info("x")
    assert only_line(capsys)["only"] == "first"
    second.info("x")
    fields = only_line(capsys)
    assert fields["stage"] == "b"
    assert "only" not in fields
