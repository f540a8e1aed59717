"""What starting a step costs: fork server with preload beside spawn, in one run.

    python benchmarks/step_launch.py

The demo station's pipeline is computed once; then every step finds its outputs complete, and what
remains is launching. Time from Dagster's STEP_WORKER_STARTING to STEP_START, first step and the others,
and the whole run, alternating between the two methods.
"""

from __future__ import annotations

import os
from statistics import median

from measuring import finish, flts, own_home

from flts_assets.settings import Settings

ROUNDS = 3
METHODS = ("forkserver", "spawn")


def launch_times() -> list[float]:
    """Seconds from launch to start of each step of the newest run, in order of their starts."""
    import dagster as dg

    with dg.DagsterInstance.get() as instance:
        run = instance.get_runs(limit=1)[0]
        launched: dict[str, float] = {}
        started: dict[str, float] = {}
        for entry in instance.all_logs(run.run_id):
            if not entry.is_dagster_event:
                continue
            kind = entry.get_dagster_event().event_type_value
            if entry.step_key and kind in ("STEP_WORKER_STARTING", "STEP_START"):
                times = launched if kind == "STEP_WORKER_STARTING" else started
                times[entry.step_key] = entry.timestamp
    return [started[step] - launched[step] for step in sorted(started, key=started.__getitem__)]


def main() -> None:
    with own_home():
        os.environ.update(Settings.from_environment().exported())
        flts("data", "demo")
        flts("run", "recipes/demo.yaml")
        runs: dict[str, list[tuple[float, list[float]]]] = {method: [] for method in METHODS}
        for _ in range(ROUNDS):
            for method in METHODS:
                wall = flts("run", "recipes/demo.yaml", environ={"FLTS_STEP_START": method})
                runs[method].append((wall, launch_times()))
    figures = {}
    for method, measured in runs.items():
        first = median(steps[0] for _, steps in measured)
        others = [step for _, steps in measured for step in steps[1:]]
        figures |= {
            f"{method}_first_step_s": round(first, 2),
            f"{method}_step_s": round(median(others), 3),
            f"{method}_slowest_step_s": round(max(others), 3),
            f"{method}_run_s": round(median(wall for wall, _ in measured), 2),
        }
        print(
            f"{method:<11} first step {first:5.2f} s, others {median(others):.3f} s (median),"
            f" {max(others):.3f} s (slowest), whole run {figures[f'{method}_run_s']:.2f} s"
        )
    finish("step_launch", **figures)


if __name__ == "__main__":
    main()
