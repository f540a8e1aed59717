"""Opening Dagster's instance."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from flts_assets.cli.platform import open_instance, open_platform
from flts_assets.errors import InstanceError

POSTGRES = {
    "postgres_db": {
        "hostname": "127.0.0.1",
        "port": 1,  # nobody listens there
        "username": "dagster",
        "password": "secret-of-the-server",
        "db_name": "dagster",
        "scheme": "postgresql+psycopg2",
    }
}
AS_DAGSTERS_CHART_WRITES_IT = {
    f"{name}_storage": {
        "module": f"dagster_postgres.{module}",
        "class": f"Postgres{kind}Storage",
        "config": POSTGRES,
    }
    for name, module, kind in (
        ("run", "run_storage", "Run"),
        ("event_log", "event_log", "EventLog"),
        ("schedule", "schedule_storage", "Schedule"),
    )
}


def test_a_server_that_does_not_answer_is_told_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(AS_DAGSTERS_CHART_WRITES_IT))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("FLTS_HOME", str(tmp_path / "home"))
    with pytest.raises(InstanceError, match="FLTS_POSTGRES_HOST") as raised:
        open_instance(open_platform())
    assert "secret-of-the-server" not in str(raised.value)
    assert not (tmp_path / "home" / "dagster").exists(), "nothing is made for SQLite"
