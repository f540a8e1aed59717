"""What a recipe is worth on the test file, and how far chance moves it.

    python benchmarks/quality.py RECIPE [--station STATION ...] [--seeds 3]

The recipe is trained with each of the seeds 0 to N - 1; printed are the measure it ranks by, for each
seed and their mean, of every model and baseline and of what the gate promotes, and the share of test
values inside the prediction intervals. Test files are for looking at once: choose recipes on train rows
(a backtest), not on what is printed here.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import mean

from evaluating import data_folder, stations_in, trained_and_scored
from measuring import finish

from flts_assets.errors import PromotionError
from flts_assets.forecasting.gate import choose
from flts_assets.forecasting.leaderboard import Leaderboard
from flts_assets.forecasting.progress import Progress
from flts_assets.recipe import Recipe, load_recipe


def of_seed(recipe: Recipe) -> Leaderboard:
    def report(progress: Progress) -> None:
        line = f"{recipe.station} seed {recipe.seed}: {progress.done:.0%} of a model"
        print(f"{line:<60}", end="\r", file=sys.stderr)

    return trained_and_scored(recipe, report)[0]


def promoted(board: Leaderboard, recipe: Recipe) -> tuple[str, str]:
    try:
        winner, reason = choose(board, recipe.promotion)
    except PromotionError as refused:
        return "", str(refused)
    return winner.name, reason


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--station", nargs="+", metavar="STATION")
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    wanted = parser.parse_args()
    recipe = load_recipe(wanted.recipe)
    stations = wanted.station or [recipe.station]
    missing = sorted(set(stations) - set(stations_in(data_folder())))
    if missing:
        parser.error(f"no pair of files in {data_folder()} for {', '.join(missing)}")
    figures: dict[str, dict[str, list[float]]] = {}
    for station in stations:
        of_station = recipe.for_station(station)
        boards = [of_seed(of_station.updated({"seed": seed})) for seed in range(wanted.seeds)]
        measure = of_station.evaluation.rank_by
        print(f"\n{station}, {boards[0].forecasts} windows, {measure}")
        rows: dict[str, list[float]] = {
            entry.name: [board.entry(entry.name).scores.by(measure) for board in boards]
            for entry in boards[0].entries
        }
        winners = [promoted(board, of_station) for board in boards]
        rows["promoted"] = [
            board.entry(name).scores.by(measure) if name else float("nan")
            for board, (name, _) in zip(boards, winners, strict=True)
        ]
        for name, values in rows.items():
            line = f"  {name:<16}{mean(values):.5f}   " + " ".join(f"{v:.5f}" for v in values)
            shares = [board.entry(name).coverage for board in boards if name != "promoted"]
            for level in shares[0] if shares else {}:
                covered = ", ".join(f"{share[level]:.1%}" for share in shares)
                line += f"   {float(level):.0%} band covers {covered}"
            print(line)
        for seed, (name, reason) in enumerate(winners):
            print(f"  seed {seed}: {name or 'nobody'} promoted: {reason}")
        figures[station] = {name: [round(v, 5) for v in values] for name, values in rows.items()}
    finish("quality", recipe=recipe.name, figures=figures)


if __name__ == "__main__":
    main()
