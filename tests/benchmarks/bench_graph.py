"""Memory and speed of LayeredDiGraph against a plain networkx.DiGraph of the same edges.

    python tests/benchmarks/bench_graph.py [--edges 1000000] [--out FILE.json]

Times are CPU seconds of this process, ours the best of three runs, NetworkX's one run, all in one process; memory is
the growth of the resident set (Linux) or of Python's own allocations elsewhere.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
from scipy import sparse

from innersight_graph.graph.layered import Layer, LayeredDiGraph
from innersight_graph.graph.matrices import adjacency
from innersight_graph.partition import Partition, community_graph


def resident_bytes() -> int:
    statm = Path("/proc/self/statm")
    if statm.exists():
        import resource

        return int(statm.read_text().split()[1]) * resource.getpagesize()
    if not tracemalloc.is_tracing():
        tracemalloc.start()
    return tracemalloc.get_traced_memory()[0]


def cpu_seconds(call: Callable[[], Any], repeats: int) -> float:
    best = float("inf")
    for _ in range(repeats):
        gc.collect()
        start = time.process_time()
        call()
        best = min(best, time.process_time() - start)
    return best


def dense_layer(width: int = 4096) -> dict[str, float]:
    """One dense connection: seconds to build it and bytes per edge beyond its array."""
    weights = np.random.default_rng(0).standard_normal((width, width), dtype=np.float32)
    layers = [Layer("in", 0, width, "linear"), Layer("out", 1, width, "linear")]
    seconds = cpu_seconds(lambda: LayeredDiGraph.from_arrays(layers, {("in", "out"): weights}), 3)
    gc.collect()
    before = resident_bytes()
    G = LayeredDiGraph.from_arrays(layers, {("in", "out"): weights})
    edges = G.number_of_edges()
    G.degree, list(G), G["in", 0][("out", 1)], G.pred["out", 7][("in", 3)]
    gc.collect()
    beyond = (resident_bytes() - before) / edges
    return {"edges": edges, "build_seconds": seconds, "bytes_per_edge_beyond_array": beyond}


def layered(edges: int, form: str) -> LayeredDiGraph:
    """Ten connections in a chain of eleven layers, dense or 3 % sparse."""
    share = 1.0 if form == "dense" else 0.03
    width = int((edges / 10 / share) ** 0.5)
    rng = np.random.default_rng(1)
    layers = [Layer(f"l{i}", i, width, "linear") for i in range(11)]
    connections = {}
    for i in range(10):
        if form == "dense":
            weights: Any = rng.standard_normal((width, width), dtype=np.float32)
        else:
            weights = sparse.random_array((width, width), density=share, rng=rng, data_sampler=rng.standard_normal)
        connections[f"l{i}", f"l{i + 1}"] = weights
    return LayeredDiGraph.from_arrays(layers, connections)


def plain_community_graph(D: nx.DiGraph, P: Partition) -> nx.DiGraph:
    """Sum the edges between communities one by one, as one does without arrays."""
    home = {node: i for i, community in enumerate(P) for node in community}
    C = nx.DiGraph()
    for u, v, data in D.edges(data=True):
        pair = home[u], home[v]
        if not C.has_edge(*pair):
            C.add_edge(*pair, activation=0.0, inhibition=0.0, count=0)
        sums = C.edges[pair]
        sums["activation"] += data["activation"]
        sums["inhibition"] += data["inhibition"]
        sums["count"] += 1
    return C


def comparisons(G: LayeredDiGraph, D: nx.DiGraph) -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    """What is measured: name → (on ours, on the plain graph)."""
    labels = {layer.name: np.arange(layer.width) % 8 for layer in G.layers}
    P = Partition.from_labels(G, labels, method="stripes")
    ours = {"backend": "innersight"}

    def fresh() -> LayeredDiGraph:
        # what was derived before must not be reused, so each run starts from the arrays
        G._memory.clear()
        return G

    return {
        "to_scipy_sparse_array": (
            lambda: nx.to_scipy_sparse_array(fresh(), **ours),
            lambda: nx.to_scipy_sparse_array(D),
        ),
        "pagerank(weight='activation')": (
            lambda: nx.pagerank(fresh(), weight="activation", **ours),
            lambda: nx.pagerank(D, weight="activation"),
        ),
        "degree(weight='activation')": (
            lambda: dict(G.degree(weight="activation")),
            lambda: dict(D.degree(weight="activation")),
        ),
        "degree()": (lambda: dict(G.degree()), lambda: dict(D.degree())),
        "number_of_edges": (G.number_of_edges, D.number_of_edges),
        "size(weight='inhibition')": (lambda: G.size(weight="inhibition"), lambda: D.size(weight="inhibition")),
        "community_graph": (lambda: community_graph(G, P), lambda: plain_community_graph(D, P)),
        "edges(data=True), one by one": (
            lambda: sum(1 for _ in G.edges(data=True)),
            lambda: sum(1 for _ in D.edges(data=True)),
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edges", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    result: dict[str, Any] = {"dense_4096": dense_layer()}
    sys.stdout.write(f"4096 x 4096 dense: {json.dumps(result['dense_4096'])}\n")
    for form in ("dense", "sparse"):
        G = layered(options.edges, form)
        gc.collect()
        before = resident_bytes()
        D = G.to_networkx(max_edges=None)
        plain_bytes = (resident_bytes() - before) / D.number_of_edges()
        assert abs(adjacency(G) - nx.to_scipy_sparse_array(D)).sum() == 0
        size = f"{D.number_of_edges():,} edges, {len(D):,} nodes"
        sys.stdout.write(f"\n{form}: {size}; plain graph {plain_bytes:.0f} bytes per edge\n")
        table = {}
        for name, (mine, theirs) in comparisons(G, D).items():
            fast, slow = cpu_seconds(mine, 3), cpu_seconds(theirs, 1)
            table[name] = {"ours": fast, "plain": slow, "ratio": slow / max(fast, 1e-9)}
            times = f"{fast * 1e3:10.3f} ms {slow * 1e3:10.1f} ms {table[name]['ratio']:10.1f} x"
            sys.stdout.write(f"  {name:34s} {times}\n")
        result[form] = {"edges": D.number_of_edges(), "plain_bytes_per_edge": plain_bytes, "table": table}
        del D, G
    if options.out:
        options.out.write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
