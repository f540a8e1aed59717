"""The benchmark of the same name, small: three pipelines at once on SQLite."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flts_assets.settings import PROJECT


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_no_database_is_locked_with_daemon_webserver_and_three_steps_at_once(home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/sqlite_pressure.py", "--pipelines", "3"],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT), *sys.path])},
        capture_output=True,
        text=True,
        timeout=2900,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    figures = json.loads(done.stdout.splitlines()[-1])
    assert (figures["succeeded"], figures["locked"]) == (3, 0)
    assert figures["events"] > 200
