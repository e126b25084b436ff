"""Make or refresh the leaderboard of the planted benchmark. Resumable: finished runs are kept in the CSV file.

python tests/benchmarks/leaderboard.py --seeds 20        # everything: hours on two cores
python tests/benchmarks/leaderboard.py --tasks hubs      # some tasks
python tests/benchmarks/leaderboard.py --write           # only the pages, from what is there
"""

from __future__ import annotations

import argparse
from pathlib import Path

from innersight_graph.comparison import benchmark, leaderboard, leaderboard_page, read_results

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "leaderboard.csv"
INTRODUCTION = """# Planted benchmark

Made by `python tests/benchmarks/leaderboard.py`; every line of `leaderboard.csv` is one run. Graphs have the seeds 1000
upwards, development used others. The number of graphs is the small figure in each cell: 20 for every method and task.
All rows were made on 2026-11-25 and 26.
Where weights are bare signs every method reads them as they are (`density=1.0, gauge="none"`); dense weights are read
with each method's defaults. "EM, as in the paper" is ten random starts without the leave-one-out moves of
`em_communities`.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--tasks", nargs="*")
    parser.add_argument("--contenders", nargs="*")
    parser.add_argument("--write", action="store_true")
    chosen = parser.parse_args()
    if not chosen.write:
        benchmark(RESULTS, tasks=chosen.tasks, contenders=chosen.contenders, seeds=chosen.seeds, progress=True)
    rows = read_results(RESULTS)
    (HERE / "LEADERBOARD.md").write_text(f"{INTRODUCTION}\n{leaderboard(rows)}", encoding="utf-8", newline="\n")
    (HERE / "leaderboard.html").write_text(leaderboard_page(rows), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
