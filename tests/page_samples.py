"""Small hand-made graphs and partitions for the page's tests: no model, no training."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from innersight_graph.graph.layered import Layer, LayeredDiGraph
from innersight_graph.partition import Partition

DIGITS = {"input": 64, "fc1": 128, "fc2": 64, "fc3": 32, "out": 10}


def layered(sizes: dict[str, int], *, seed: int = 0, blocks: int = 8) -> tuple[LayeredDiGraph, dict[str, np.ndarray]]:
    """A chain of layers whose weights have planted blocks; returns the graph and the planted labels of every layer."""
    rng = np.random.default_rng(seed)
    names = list(sizes)
    layers = [Layer(name, depth, sizes[name], "input" if depth == 0 else "linear") for depth, name in enumerate(names)]
    labels = {name: np.arange(sizes[name]) % min(blocks, sizes[name]) for name in names}
    connections = {}
    for s, t in pairwise(names):
        signs = rng.normal(0, 0.6, (labels[s].max() + 1, labels[t].max() + 1)).astype(np.float32)
        noise = rng.random((sizes[s], sizes[t]), dtype=np.float32) - 0.5
        connections[s, t] = signs[labels[s]][:, labels[t]] + 0.3 * noise
    return LayeredDiGraph.from_arrays(layers, connections), labels


def partitioned(sizes: dict[str, int], *, seed: int = 0, blocks: int = 8) -> tuple[LayeredDiGraph, Partition]:
    """The graph of `layered` and its planted partition of the layers between the first and the last."""
    G, labels = layered(sizes, seed=seed, blocks=blocks)
    inner = list(sizes)[1:-1]
    return G, Partition.from_labels(G, {name: labels[name] for name in inner}, method="planted")
