"""The terminal belongs to what `flts` has to say; libraries and steps write to a file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

__all__ = ["own_terminal"]


@contextmanager
def own_terminal(log_file: Path) -> Iterator[Console]:
    """A console on the terminal, while this process's stdout and stderr, and those of every process
    started meanwhile, go to the end of `log_file`. Steps' output is kept by Dagster as well.
    """
    log_file.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    with log_file.open("ab") as log, os.fdopen(os.dup(1), "w") as terminal:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        width = None if terminal.isatty() else 120
        try:
            yield Console(file=terminal, highlight=False, width=width)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for descriptor, original in enumerate(saved, start=1):
                os.dup2(original, descriptor)
                os.close(original)
