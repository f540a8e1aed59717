"""A step's process does not outlive the one that forked it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil

FORKING = """
import os, time
from flts_assets.assets.launcher import end_with_parent
child = os.fork()
if child == 0:
    end_with_parent()
    print(os.getpid(), flush=True)
    time.sleep(600)
time.sleep(600)
"""


def test_child_of_another_librarys_fork_ends_with_its_parent() -> None:
    parent = subprocess.Popen([sys.executable, "-c", FORKING], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    try:
        assert child.is_running()
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        gone, _ = psutil.wait_procs([child], timeout=30)
        assert gone == [child]
    finally:
        parent.kill()
        parent.stdout.close()
