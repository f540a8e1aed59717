"""What docker/objects.py says where it cannot do its work; stack/test_backup.py shows that it does it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from flts_assets.settings import PROJECT
from flts_assets_tests.docker.containers import DOCKER
from flts_assets_tests.servers.process import free_port

AWAY = {
    "FLTS_OBJECT_STORE": "s3",
    "FLTS_S3_TIMEOUT_S": "1",
    "AWS_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
}


def test_s3_that_is_away_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    done = subprocess.run(
        [sys.executable, str(DOCKER / "objects.py"), "save", str(tmp_path), "dataset"],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(PROJECT),
            "AWS_ENDPOINT_URL": address,
            **AWAY,
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1
    assert address in done.stderr
    assert len(done.stderr.splitlines()) == 1
