"""Wall time of `flts run` from raw CSVs to the promoted model, on PobleSec.

    python benchmarks/pipeline.py [--full]

The 50-row recipe on an empty data directory, the same again (nothing to compute), and with --full all
15,927 rows.
"""

from __future__ import annotations

import sys

from measuring import finish, flts, measured_files, own_home


def main() -> None:
    files = measured_files()
    if files is None:
        sys.exit("no measured files: set FLTS_TEST_DATA to the folder with PobleSec.csv")
    with own_home():
        flts("data", "add", *files)
        figures = {
            "sample50_s": round(flts("run", "recipes/sample50.yaml"), 2),
            "sample50_again_s": round(flts("run", "recipes/sample50.yaml"), 2),
        }
        if "--full" in sys.argv:
            figures["full_s"] = round(flts("run", "recipes/full.yaml"), 2)
    for name, seconds in figures.items():
        print(f"{name:<20} {seconds:6.2f} s")
    finish("pipeline", **figures)


if __name__ == "__main__":
    main()
