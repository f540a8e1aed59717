"""What the benchmarks share: a data directory of their own, and runs of the installed `flts`."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

FLTS = Path(sys.executable).with_name("flts")


@contextmanager
def own_home() -> Iterator[Path]:
    """A fresh FLTS_HOME."""
    with TemporaryDirectory(prefix="flts-benchmark-") as folder:
        os.environ["FLTS_HOME"] = folder
        yield Path(folder)


def flts(*arguments: str, environ: Mapping[str, str] | None = None) -> float:
    """Run `flts`; seconds of wall time. Raises CalledProcessError if it fails."""
    started = time.perf_counter()
    subprocess.run(
        [FLTS, *arguments], env=os.environ | (environ or {}), check=True, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - started


def measured_files() -> list[str] | None:
    """PobleSec's two files, where the folder of measured data stands (FLTS_TEST_DATA)."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("FLTS_TEST_DATA") or beside)
    files = [folder / "PobleSec.csv", folder / "PobleSec_test.csv"]
    return [str(file) for file in files] if all(file.is_file() for file in files) else None


def finish(name: str, **figures: object) -> None:
    """The last line: the figures as JSON."""
    machine = {"cores": len(os.sched_getaffinity(0)), "python": platform.python_version()}
    print(json.dumps({"benchmark": name, **figures, **machine}))
