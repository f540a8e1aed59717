"""Training speed beside the predecessor's loop and beside libraries from PyPI, and growth with rows.

    python benchmarks/training.py [--reference-epochs 2] [--best recipes/best.yaml]
                                  [--peers-python .peers/bin/python] [--growth 1 4 16 64]

The peers cannot share our environment. This makes theirs:

    python -m venv .peers
    .peers/bin/pip install 'torch>=2.6,<2.14' neuralforecast==3.3.0 darts==0.48.1

Reference: the predecessor's three trainers at once, each with every core, beside `flts run` as a whole.
It takes many minutes, so --reference-epochs of its ten are measured and the others are counted at the
pace of those that began after Prophet had ended (more epochs are run until there is one). Its start and
the epochs beside Prophet are in the total as they were; preprocessing, evaluation and promotion are
not, though they are in ours. 0 leaves it out.

Peers: one process at a time, one thread each, epochs and steps as in recipes/full.yaml. Ours is
`train_model` whole, with validation, ONNX and pictures; theirs is `fit` alone.

Growth: the train rows repeated, each stage in a process of its own with one thread, one epoch. Memory is
resident memory at its peak, children included.

--rows N cuts both files to their first N rows: a smoke run, whose figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

from measuring import finish, flts, measured_files, own_home
from reference_loop import ALL_EPOCHS, PROPHET_ENDED

HERE = Path(__file__).resolve().parent
RECIPES = HERE.parent / "recipes"
NETS = ("GRU", "LSTM")
MODELS = (*NETS, "PROPHET")
STAGES = ("prepare", *MODELS)
PEERS = ("neuralforecast", "darts")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")

Table = list[tuple[str, ...]]


def start(
    script: str, *arguments: object, python: str = sys.executable, threads: int | None = 1
) -> subprocess.Popen[str]:
    """A benchmark script in a process of its own; None leaves the threads to torch's default."""
    environ = {name: value for name, value in os.environ.items() if name not in THREAD_VARIABLES}
    if threads is not None:
        environ |= dict.fromkeys(THREAD_VARIABLES, str(threads))
    command = [python, str(HERE / script), *map(str, arguments)]
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)


def outcome(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Its last line's JSON. Raises CalledProcessError if it failed."""
    output, _ = process.communicate()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args, output)
    told: dict[str, Any] = json.loads(output.splitlines()[-1])
    return told


def cut_files(folder: Path, rows: int | None) -> list[Path]:
    """PobleSec's two files in `folder`, cut to their first rows."""
    files = measured_files()
    if files is None:
        sys.exit("no measured files: set FLTS_TEST_DATA to the folder with PobleSec.csv")
    copies = []
    for file in map(Path, files):
        copies.append(folder / file.name)
        with file.open() as whole:
            copies[-1].write_text("".join(islice(whole, None if rows is None else rows + 1)))
    return copies


def reference_run(folder: Path, epochs: int) -> dict[str, Any]:
    """Seconds until the last of the predecessor's trainers would have ended all its epochs."""
    (folder / PROPHET_ENDED).unlink(missing_ok=True)
    began = time.time()
    running = {
        model: start("reference_loop.py", model, folder, epochs, threads=None) for model in MODELS
    }
    told = {model: outcome(process) for model, process in running.items()}
    totals = {"PROPHET": told["PROPHET"]["ended"] - began}
    for net in NETS:
        measured, undisturbed = told[net]["epochs"], told[net]["undisturbed"]
        totals[net] = told[net]["ended"] - began
        how = "measured whole"
        if left := ALL_EPOCHS - len(measured):
            pace = mean(s for s, alone in zip(measured, undisturbed, strict=True) if alone)
            totals[net] += pace * left
            how = f"SCALED: {left} epochs not run, counted at {pace:.1f} s each"
        epochs_s = ", ".join(f"{seconds:.1f}" for seconds in measured)
        print(
            f"  {net:<8} {totals[net]:.1f} s, {how}"
            f" (measured epochs {epochs_s} s; {told[net]['threads']} threads)"
        )
    print(f"  PROPHET  {totals['PROPHET']:.1f} s, measured whole")
    least = min(len(told[net]["epochs"]) for net in NETS)
    return {
        "seconds": max(totals.values()),
        "how": "measured" if least == ALL_EPOCHS else f"scaled from {least} epochs",
        "epochs": least,
        "test_score": min(told[net]["test_score"] for net in NETS),
    }


def pipeline_run(recipe: Path, files: list[Path]) -> tuple[float, float | None]:
    """Seconds of `flts run` on an empty data directory, and the promoted model's test score."""
    with own_home() as home:
        flts("data", "add", *map(str, files))
        seconds = flts("run", str(recipe))
        pointers = list(home.glob("model-promotion/*/*/current.json"))
        return seconds, json.loads(pointers[0].read_text())["score"] if pointers else None


def measure_reference(folder: Path, files: list[Path], epochs: int, best: Path) -> Table:
    reference = reference_run(folder, epochs)
    rows: Table = [
        (
            "predecessor's loop, three trainers at once",
            f"{reference['seconds']:.1f} s ({reference['how']}),"
            f" better net's test score {reference['test_score']:.5f}"
            f" after {reference['epochs']} epochs",
            "",
            "",
        )
    ]
    print("  " + ", ".join(rows[0][:2]))
    for recipe, goal in (
        (RECIPES / "full.yaml", "at least 6 times, at most 60 s"),
        (best, "at least 10 times, lower test score than both"),
    ):
        if not recipe.is_file():
            print(f"  {recipe} does not exist: left out")
            continue
        seconds, score = pipeline_run(recipe, files)
        told = "nothing promoted" if score is None else f"test score {score:.5f}"
        ratio = f"{reference['seconds'] / seconds:.1f} times"
        rows.append((f"`flts run {recipe.name}`", f"{seconds:.1f} s, {told}", ratio, goal))
        print("  " + ", ".join(rows[-1]))
    return rows


def measure_peers(folder: Path, fit_rows: int, peers_python: str) -> Table:
    rows: Table = []
    for net in NETS:
        ours = outcome(start("trainer_process.py", "train", folder, net, ALL_EPOCHS))
        figure = f"{ours['seconds']:.1f} s, of which fit {ours['fit_s']:.1f} s"
        rows.append((f"`train_model`, {net}", figure, "", ""))
        print("  " + ", ".join(rows[-1][:2]))
        for peer in PEERS:
            arguments = (peer, net, folder, fit_rows, ALL_EPOCHS)
            theirs = outcome(start("peers.py", *arguments, python=peers_python))
            figure = f"{theirs['seconds']:.1f} s ({theirs['steps']} steps)"
            ratio = f"{theirs['seconds'] / ours['seconds']:.1f} times ours"
            rows.append((f"{peer}, {net}", figure, ratio, "at least 3 times"))
            print("  " + ", ".join(rows[-1]))
    return rows


def measure_growth(data: Path, times: list[int]) -> Table:
    """The curve: a line a stage and size."""
    rows: Table = []
    firsts: dict[str, float] = {}
    for repeated in times:
        grown = data / f"x{repeated}"
        grown.mkdir()
        for stage in STAGES:
            asked = (
                ("prepare", grown, repeated, data)
                if stage == "prepare"
                else ("train", grown, stage, 1)
            )
            told = outcome(start("trainer_process.py", *asked))
            per_row = told["seconds"] / told["rows"] * 1e6
            first = firsts.setdefault(stage, per_row)
            rows.append(
                (
                    stage,
                    f"{told['rows']:,}",
                    f"{told['seconds']:.1f}",
                    f"{per_row:.0f}",
                    f"{per_row / first:.2f}",
                    f"{told['peak_mb']:,.0f}",
                )
            )
            print(
                "  {:<8} {:>9} rows {:>8} s {:>6} us a row ({} of the first) {:>6} MB".format(
                    *rows[-1]
                )
            )
    return sorted(rows, key=lambda row: STAGES.index(row[0]))


def markdown(head: tuple[str, ...], rows: Table) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--reference-epochs", type=int, default=2, choices=range(ALL_EPOCHS + 1))
    parser.add_argument("--best", type=Path, default=RECIPES / "best.yaml")
    parser.add_argument("--peers-python")
    parser.add_argument("--growth", type=int, nargs="*", default=[1, 4, 16, 64])
    parser.add_argument("--rows", type=int)
    return parser.parse_args()


def main() -> None:
    asked = arguments()
    speed: Table = []
    growth: Table = []
    with TemporaryDirectory(prefix="flts-training-") as temporary:
        folder = Path(temporary)
        files = cut_files(folder, asked.rows)
        prepared = outcome(start("trainer_process.py", "prepare", folder, 1, folder))
        print(f"{prepared['rows']:,} train rows")
        if asked.reference_epochs:
            print("reference loop, beside the whole pipeline")
            speed += measure_reference(folder, files, asked.reference_epochs, asked.best)
        if asked.peers_python:
            print(f"peers, {ALL_EPOCHS} epochs on one thread")
            speed += measure_peers(folder, prepared["fit_rows"], asked.peers_python)
        else:
            print("peers left out: name their interpreter with --peers-python (see the docstring)")
        if asked.growth:
            print("growth, one thread, one epoch")
            growth = measure_growth(folder, asked.growth)
    if asked.rows:
        print("\nA SMOKE RUN on cut files: the figures mean nothing")
    if speed:
        print("\n" + markdown(("what", "figure", "ratio", "goal"), speed))
    if growth:
        head = ("stage", "rows", "seconds", "us a row", "of the first", "peak MB")
        print("\n" + markdown(head, growth))
    finish("training", speed=speed, growth=growth, rows=prepared["rows"])


if __name__ == "__main__":
    main()
