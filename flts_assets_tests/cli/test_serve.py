"""`flts serve` as a command: what it refuses before it starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FLTS = Path(sys.executable).with_name("flts")


def refused(home: Path, *arguments: str, **variables: str) -> str:
    done = subprocess.run(
        [FLTS, "serve", *arguments],
        env={**os.environ, "FLTS_HOME": str(home), **variables},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("IDENTIFIER", "../x"),
        ("FLTS_SERVING_MAX_BODY", "many"),
        ("FLTS_SERVING_CONFIG_HASH", "sample50"),
        ("FLTS_OBJECT_STORE", "paper"),
        ("FLTS_SERVING_TOKEN", ""),
    ],
)
def test_malformed_setting_is_told_before_any_worker_starts(
    tmp_path: Path, name: str, value: str
) -> None:
    told = refused(tmp_path, "--workers", "2", **{name: value})
    assert name in told


def test_recipe_that_nobody_registered_is_told(tmp_path: Path) -> None:
    assert "no such recipe" in refused(tmp_path, "nosuch")
