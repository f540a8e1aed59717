"""The inference service under load, beside a plain handler and MLflow's own server, on loopback.

    python benchmarks/serving.py [--seconds 10] [--promotions 60] [--minutes 10]

Needs wrk and haproxy (apt install wrk haproxy). A champion is trained on 50 rows (a GRU 2x128: its size
counts, not its worth) and every server answers the same body of 30 rows x 11 columns, one step ahead,
with one worker:

    flts      `flts serve`
    plain     a FastAPI handler that scales with pandas and asks the same net in torch
    mlflow    `mlflow models serve` of the same run

Then: `flts serve` with 800 connections; --promotions seconds of load with a promotion every two seconds;
with --minutes, so long a load with a promotion every 20 seconds, memory and open files noted on the way;
the time from start to ready; the test file's 3,982 rows forecast in one call; three services behind
docker/haproxy.cfg, one of them killed in the middle.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from pathlib import Path

import pandas as pd
from measuring import FLTS, finish, flts, measured_files, own_home

from flts_assets.forecasting.forecaster import load_forecaster
from flts_assets.forecasting.preprocessing import FittedPreprocessing
from flts_assets.forecasting.raw_frame import read_raw
from flts_assets.forecasting.split import Split
from flts_assets.recipe import load_recipe
from flts_assets.settings import PROJECT
from flts_assets.stores.artifacts import Artifacts
from flts_assets.stores.directory import DirectoryStore
from flts_assets.stores.pointer import Pointer, Promotion

PORT = 8177
BEHIND = (8178, 8179, 8180)
OURS = [str(FLTS), "serve", "--port"]
RECIPE = PROJECT / "recipes" / "sample50.yaml"
LUA = """
local f = io.open("{body}"); wrk.body = f:read("*a"); f:close()
wrk.method = "POST"; wrk.headers["Content-Type"] = "application/json"
"""


@contextmanager
def server(
    command: list[str], ready: str, port: int = PORT, **environ: str
) -> Iterator[tuple[int, float]]:
    """A server until the context ends: its process id, and seconds from start to ready."""
    began = time.perf_counter()
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **environ}
    process = subprocess.Popen(
        command, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while not answers(ready, port):
            if process.poll() is not None or time.perf_counter() - began > 90:
                sys.exit(f"{command[0]} did not get ready: {' '.join(command)}")
            time.sleep(0.02)
        yield process.pid, time.perf_counter() - began
    finally:
        process.terminate()
        process.wait(30)


def answers(path: str, port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def load(path: str, body: Path, connections: int, seconds: int) -> dict[str, float]:
    """What wrk says: requests a second, milliseconds at 50 and 99 %, requests that failed."""
    script = body.with_suffix(".lua")
    script.write_text(LUA.format(body=body))
    url = f"http://127.0.0.1:{PORT}{path}"
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "10s"]
    output = subprocess.run(
        [*command, "-s", str(script), url], capture_output=True, text=True, check=True
    ).stdout
    failed = sum(
        int(n) for n in re.findall(r"(?:connect|read|write|timeout|responses:) (\d+)", output)
    )
    return {
        "requests/s": float(re.search(r"Requests/sec:\s+([\d.]+)", output)[1]),  # type: ignore[index]
        "p50 ms": milliseconds(output, "50%"),
        "p99 ms": milliseconds(output, "99%"),
        "failed": failed,
    }


def milliseconds(output: str, share: str) -> float:
    found = re.search(rf"{share}\s+([\d.]+)(us|ms|s)", output)
    assert found is not None, output
    return float(found[1]) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[found[2]]


def memory(pid: int) -> tuple[float, int]:
    """Resident megabytes and open files of a server, its children included."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    pids = [str(pid), *children]
    pages = sum(int(Path(f"/proc/{one}/statm").read_text().split()[1]) for one in pids)
    files = sum(len(list(Path(f"/proc/{one}/fd").iterdir())) for one in pids)
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6, files


def promote_again(home: Path, config_hash: str) -> None:
    """The same model under a new promotion: readers load it anew."""
    pointer = Pointer(DirectoryStore(home), config_hash, None)
    current = pointer.read()
    assert current is not None
    promotion, version = current
    again: Promotion = promotion.model_copy(
        update={"timestamp": datetime.now(timezone.utc), "previous": pointer.key_of(promotion)}
    )
    pointer.move(again, version)


def repeated(work: Callable[[], None], period_s: float, stop: threading.Event) -> threading.Thread:
    def run() -> None:
        while not stop.wait(period_s):
            work()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def long_load(
    pid: int, home: Path, config_hash: str, body: Path, seconds: int
) -> tuple[dict[str, float], list[tuple[float, int]]]:
    """What wrk says of so long a load with a promotion every 20 s; memory and open files every 10 s."""
    stop = threading.Event()
    noted: list[tuple[float, int]] = []
    threads = [
        repeated(lambda: promote_again(home, config_hash), 20.0, stop),
        repeated(lambda: noted.append(memory(pid)), 10.0, stop),
    ]
    figures = load("/predict", body, 200, seconds)
    stop.set()
    for thread in threads:
        thread.join()
    return figures, noted


def one_killed(body: Path, seconds: int) -> dict[str, float]:
    """What wrk sees of three services behind haproxy, one of them killed half way."""
    servers = {f"FLTS_SERVER_{n}": f"127.0.0.1:{port}" for n, port in enumerate(BEHIND, start=1)}
    proxy = [str(haproxy_of()), "-db", "-f", str(PROJECT / "docker" / "haproxy.cfg")]
    bound = {"FLTS_PROXY_BIND": f"127.0.0.1:{PORT}", **servers}
    with ExitStack() as stack:
        pids = [
            stack.enter_context(server([*OURS, str(port)], "/readyz", port))[0] for port in BEHIND
        ]
        stack.enter_context(server(proxy, "/readyz", **bound))
        killing = threading.Timer(seconds / 2, os.kill, (pids[0], signal.SIGKILL))
        killing.start()
        figures = load("/predict", body, 200, seconds)
        killing.join()
    return figures


def offline(home: Path, config_hash: str, test: Path) -> dict[int, list[float]]:
    """Threads -> seconds to scale the test rows and forecast every window, three times in a row."""
    current = Pointer(DirectoryStore(home), config_hash, None).read()
    assert current is not None
    artifacts = Artifacts(DirectoryStore(home))
    files = artifacts.read_all(artifacts.get(current[0].model, current[0].attempt))
    fitted = FittedPreprocessing.model_validate_json(files["preprocessing.json"])
    rows = read_raw(test.read_bytes(), test.name).ffill()
    seconds: dict[int, list[float]] = {}
    for threads in sorted({1, len(os.sched_getaffinity(0))}):
        forecaster = load_forecaster(files, threads)
        for _ in range(3):
            began = time.perf_counter()
            measured = rows[list(fitted.targets)].to_numpy()
            split = Split(rows.index, measured, fitted.transform(rows), forecaster.card.window)
            forecaster.forecast(split)
            seconds.setdefault(threads, []).append(time.perf_counter() - began)
    return seconds


def needed() -> list[str]:
    """The measured files; ends where they or a program are missing."""
    files = measured_files()
    if files is None or haproxy_of() is None or shutil.which("wrk") is None:
        sys.exit("needs wrk, haproxy and the measured files (FLTS_TEST_DATA)")
    return files


def haproxy_of() -> str | None:
    return shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--promotions", type=int, default=60)
    parser.add_argument("--minutes", type=float, default=0, help="of load, a promotion every 20 s")
    wanted = parser.parse_args()
    files = needed()
    recipe = load_recipe(RECIPE).updated({"models": ["GRU"]})
    figures: dict[str, dict[str, float]] = {}
    with own_home() as home:
        flts("data", "add", *files)
        flts("run", str(RECIPE), environ={"EXPECTED_MODEL_TYPES": "GRU"})
        current = Pointer(DirectoryStore(home), recipe.config_hash, None).read()
        assert current is not None
        rows = pd.read_csv(files[1]).head(30)
        body, split = home / "body.json", home / "split.json"
        body.write_text(json.dumps({"index_col": "time", "data": rows.to_dict("list")}))
        split.write_text(json.dumps({"dataframe_split": rows.to_dict("split")}))
        noted: list[tuple[float, int]] = []
        with server([*OURS, str(PORT)], "/readyz") as (pid, start_s):
            figures["flts, 200 connections"] = load("/predict", body, 200, wanted.seconds)
            figures["flts, 800 connections"] = load("/predict", body, 800, wanted.seconds)
            before = memory(pid)
            stop = threading.Event()
            repeated(lambda: promote_again(home, recipe.config_hash), 2.0, stop)
            figures["flts, 200, a promotion every 2 s"] = load(
                "/predict", body, 200, wanted.promotions
            )
            stop.set()
            after = memory(pid)
            if wanted.minutes:
                long = f"flts, 200, {wanted.minutes:g} min, a promotion every 20 s"
                figures[long], noted = long_load(
                    pid, home, recipe.config_hash, body, round(60 * wanted.minutes)
                )
        here = str(Path(__file__).parent)
        plain = [sys.executable, "-m", "uvicorn", "--app-dir", here, "plain_handler:app"]
        model = home / "models" / current[0].model.prefix / current[0].attempt
        with server(
            [*plain, "--port", str(PORT), "--log-level", "warning"], "/ready", MODEL=str(model)
        ):
            figures["plain, 200 connections"] = load("/predict", body, 200, wanted.seconds)
        mlflow = [str(FLTS.with_name("mlflow")), "models", "serve", "-m", current[0].model_uri]
        path = f"{FLTS.parent}:{os.environ['PATH']}"
        uri = f"sqlite:///{home / 'mlflow.db'}"
        with server(
            [*mlflow, "--env-manager", "local", "-p", str(PORT)],
            "/ping",
            PATH=path,
            MLFLOW_TRACKING_URI=uri,
        ):
            figures["mlflow, 200 connections"] = load("/invocations", split, 200, wanted.seconds)
        figures["haproxy + 3 flts, one killed, 200"] = one_killed(body, wanted.seconds)
        scored = offline(home, recipe.config_hash, Path(files[1]))
    print("| | requests/s | p50 ms | p99 ms | failed |\n|---|---|---|---|---|")
    for name, one in figures.items():
        print(f"| {name} | " + " | ".join(f"{value:,.0f}" for value in one.values()) + " |")
    print(f"\nready {start_s:.2f} s after its start")
    print(f"memory {before[0]:.0f} MB -> {after[0]:.0f} MB, open files {before[1]} -> {after[1]}")
    for place in sorted({0, len(noted) // 2, len(noted) - 1} & set(range(len(noted)))):
        megabytes, opened = noted[place]
        print(f"after {10 * (place + 1)} s of the long load {megabytes:.0f} MB, {opened} files")
    for threads, (first, *again) in scored.items():
        print(
            f"test rows forecast in one call, {threads} thread(s): {first:.3f} s, {min(again):.3f} s"
        )
    finish(
        "serving",
        figures=figures,
        ready_s=start_s,
        memory_mb=[before[0], after[0]],
        long_load=noted,
        offline_s=scored,
    )


if __name__ == "__main__":
    main()
