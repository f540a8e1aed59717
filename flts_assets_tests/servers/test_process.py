from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flts_assets.settings import PROJECT

TEST = """
from flts_assets_tests.servers.process import announce

def test_with_a_server(pytestconfig):
    announce(pytestconfig, "nobody at 127.0.0.1:1")
"""


@pytest.mark.parametrize("workers", ["0", "2"])
def test_what_was_started_is_told_on_the_terminal_also_by_workers(
    tmp_path: Path, workers: str
) -> None:
    (tmp_path / "test_it.py").write_text(TEST)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    kept = {name: text for name, text in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", workers, "-p", "no:cacheprovider", str(tmp_path)],
        env={**kept, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (done.stdout + done.stderr).count("[server] nobody at 127.0.0.1:1\n") == 1
