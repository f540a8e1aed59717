"""One `/metrics` for all worker processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from flts_assets.serving.workers import merged
from flts_assets.stores.directory import DirectoryStore
from flts_assets_tests.serving.deployed import application, promote
from flts_assets_tests.serving.processes import Running, service, until, workers_of

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(text: str) -> Samples:
    """Fails where a metric has two heads, or a sample stands twice."""
    found: Samples = {}
    names = []
    for family in text_string_to_metric_families(text):
        names.append(family.name)
        for one in family.samples:
            key = one.name, frozenset(one.labels.items())
            assert key not in found
            found[key] = one.value
    assert len(names) == len(set(names))
    return found


def told(one: Running) -> Samples:
    with urllib.request.urlopen(f"http://127.0.0.1:{one.port}/metrics") as answer:
        return samples(answer.read().decode())


def by_worker(found: Samples, name: str) -> dict[int, float]:
    """Summed over all other labels."""
    sums: dict[int, float] = {}
    for (sample, labels), value in found.items():
        if sample == name:
            worker = int(dict(labels)["worker"])
            sums[worker] = sums.get(worker, 0) + value
    return sums


def test_each_answer_of_each_worker_is_counted_whoever_is_asked(tmp_path: Path) -> None:
    promote(DirectoryStore(tmp_path), "TREES")
    with TemporaryDirectory(prefix="flts-", dir="/tmp") as meeting:  # sockets have short paths
        with service(tmp_path, "--workers", "3", TMPDIR=meeting) as one:
            _counts_all(one)
        assert list(Path(meeting).glob("flts-serve-*")) == []


def _counts_all(one: Running) -> None:
    until(lambda: len(by_worker(told(one), "flts_champions")) == 3)
    before = told(one)
    workers = set(workers_of(one.process.pid))
    assert set(by_worker(before, "process_resident_memory_bytes")) == workers
    for _ in range(30):
        with urllib.request.urlopen(f"http://127.0.0.1:{one.port}/healthz") as answer:
            answer.read()
    health = ("route", "/healthz")
    counted = [
        value
        for (name, labels), value in told(one).items()
        if name == "flts_responses_total" and health in labels
    ]
    assert sum(counted) == 30
    killed = workers.pop()
    os.kill(killed, signal.SIGKILL)
    until(lambda: len(workers_of(one.process.pid)) == 3)
    until(lambda: len(by_worker(told(one), "flts_champions")) == 3)
    assert killed not in by_worker(told(one), "flts_champions")


def test_folder_that_holds_no_socket_costs_the_others_figures_and_nothing_else(
    own_store: DirectoryStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with TestClient(application(own_store, workers=tmp_path / "absent")) as client:
        found = by_worker(samples(client.get("/metrics").text), "flts_champions")
        assert found == {os.getpid(): 1}
        assert '"metrics_not_shared"' in capsys.readouterr().out


def test_what_no_longer_answers_is_left_out_and_removed_in_the_end(
    own_store: DirectoryStore, tmp_path: Path
) -> None:
    folder = Path(os.path.relpath(tmp_path / "meeting"))  # sockets have short paths
    folder.mkdir()
    killed = "import os, socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1]); os._exit(0)"
    subprocess.run([sys.executable, "-c", killed, folder / "1"], check=True)
    with TestClient(application(own_store, workers=folder)) as client:
        found = by_worker(samples(client.get("/metrics").text), "flts_champions")
        assert found == {os.getpid(): 1}
    assert not folder.exists()


def test_samples_of_a_metric_stand_together() -> None:
    first = b'# HELP a x\n# TYPE a counter\na{worker="1"} 1.0\n# HELP b y\n# TYPE b gauge\n'
    second = b'# HELP a x\n# TYPE a counter\na{worker="2"} 1.0\n# HELP b y\n# TYPE b gauge\n'
    assert merged([first, b"", second]) == (
        b'# HELP a x\n# TYPE a counter\na{worker="1"} 1.0\na{worker="2"} 1.0\n'
        b"# HELP b y\n# TYPE b gauge\n"
    )
