"""A machine that has nothing but the code and the addresses of the servers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flts_assets.settings import PROJECT
from flts_assets_tests.cli.test_cli import READ_BY_FLTS

__all__ = ["Machine"]


@dataclass(frozen=True)
class Machine:
    home: Path
    variables: Mapping[str, str]

    def flts(self, *arguments: str, timeout_s: float = 900) -> subprocess.CompletedProcess[str]:
        """A command, as a process. Fails the test if it takes longer."""
        users = {name: value for name, value in os.environ.items() if not READ_BY_FLTS.match(name)}
        return subprocess.run(
            [sys.executable, "-c", "from flts_assets.cli import main; main()", *arguments],
            env={**users, "FLTS_HOME": str(self.home), **self.variables},
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def output_of(self, *arguments: str, timeout_s: float = 900) -> str:
        done = self.flts(*arguments, timeout_s=timeout_s)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
