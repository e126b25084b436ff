"""Which methods find communities that mean something in trained networks? One resumable command, file and table:

    python tests/benchmarks/real_networks.py

writes `real_networks.csv` (a line for each network, seed, method and layer) and `REAL_NETWORKS.md` beside it. A run
that was stopped goes on where it stood. Nothing is selected on the samples used for scoring.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from real.methods import METHODS, Bench, methods_for, run
from real.networks import NETWORKS, Network, make
from real.scoring import Closings, score
from real.table import Rows, append, finished, read, report

import innersight_graph as isg

HERE = Path(__file__).parent
SEEDS = {"digits": 5, "faces": 3, "tasks": 3}
NULLS = 39
# Where some methods are run with two seeds, and EM once more on an equal network in other numbers.
AT_MEAN = "EM, number by ICL"
TWICE = "digits, plain"
AGAIN = (
    "EM", "EM, the paper's random starts", "EM without signs", "EM, gauge none", "EM, number by ICL", "block model",
    "co-activation (k-means)", "Leiden, signed", "Filan (12 clusters)", "random",
)  # fmt: skip
GAUGES = {"EM": "balanced", "EM, gauge none": "none"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--csv", type=Path, default=HERE / "real_networks.csv")
    parser.add_argument("--table", type=Path, default=HERE / "REAL_NETWORKS.md")
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--methods", nargs="*", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--seeds", type=int, help="networks of each kind; default 5 digits, 3 faces, 3 transformers")
    parser.add_argument("--only-table", action="store_true", help="make the table of what there is")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    done = finished(read(chosen.csv))
    for name in [] if chosen.only_table else chosen.networks:
        for seed in range(chosen.seeds or SEEDS[name.split(",")[0]]):
            left = [m for m in methods_for(name) if m in chosen.methods and (name, seed, m) not in done]
            if left:
                study(make(name, seed), left, chosen.csv)
    chosen.table.write_text(report(read(chosen.csv)), encoding="utf-8")


def study(network: Network, methods: list[str], path: Path) -> None:
    """Run the methods on one network and append their scores, a method at a time."""
    bench = Bench(network)
    with Closings(network, bench.graph) as closings:
        for method in methods:
            begin = time.process_time()
            made = run(bench, method, network.seed)
            seconds = time.process_time() - begin
            rows: Rows = []
            for P in made:
                for layer, found in score(closings, P, nulls=NULLS, seed=network.seed, mean=method == AT_MEAN).items():
                    about = {"network": network.name, "seed": network.seed, "accuracy": network.accuracy}
                    rows.append({**about, "method": method, "layer": layer, **found, **gain(P, layer)})
            for row in rows:
                row["seconds"] = seconds
            if network.name == TWICE and method in AGAIN:
                add_repeats(rows, bench, method, made)
            append(path, rows)


def gain(P: isg.Partition, layer: str) -> dict[str, float]:
    """Nats per neuron by which the chosen number of communities beats one, and the best shuffle does."""
    curve = {int(r): value for r, value in (P.stats[layer].get("criterion") or {}).items()}
    if 1 not in curve:
        return {}
    n = sum(len(c) for c in P.restrict(layer))
    found = {"gain": (max(curve.values()) - curve[1]) / n}
    null = P.stats[layer].get("null_gain")
    return found if null is None else {**found, "gain_null": null / n}


def add_repeats(rows: Rows, bench: Bench, method: str, made: tuple[isg.Partition, ...]) -> None:
    """Agreement with another seed's run, and with the same run on an equal network whose neurons were rescaled."""
    seed = bench.network.seed
    again = agreements(made, run(bench, method, seed + 1000))
    moved = {}
    if method in GAUGES:
        H, order = isg.equivalent_graph(bench.graph, permute=False, rescale=2.0, seed=seed)
        translated = tuple(translate(P, H, order) for P in made)
        moved = agreements(translated, bench.em(seed, H, gauge=GAUGES[method]))
    for row in rows:
        row["again"], row["moved"] = again.get(row["layer"]), moved.get(row["layer"])


def translate(P: isg.Partition, H: Any, order: Any) -> isg.Partition:
    from innersight_graph.planted.symmetry import translate as in_the_other_graph

    return in_the_other_graph(P, H, order)


def agreements(one: tuple[isg.Partition, ...], other: tuple[isg.Partition, ...]) -> dict[str, float]:
    return {layer: isg.agreement(P, R, layer=layer).ari for P, R in zip(one, other, strict=True) for layer in P.layers}


if __name__ == "__main__":
    main()
