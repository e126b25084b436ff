"""Small hand-made graphs and partitions for the page's tests: no model, no training."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from innersight_graph.evaluation.result import Evaluation
from innersight_graph.graph.layered import Layer, LayeredDiGraph
from innersight_graph.partition import Partition
from innersight_graph.report import Report

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


def reported(
    G: LayeredDiGraph, P: Partition, *, classes: Sequence[str] = (), seed: int = 0, findings: Sequence[str] = ()
) -> Report:
    """A report with every key the page reads, made up: community i hurts class i mod C most; the last is NaN."""
    rng = np.random.default_rng(seed)
    m, names = len(P), tuple(classes) or tuple(f"digit {k}" for k in range(10))
    c = len(names)
    drops = rng.uniform(0, 0.05, (m, c))
    drops[np.arange(m), np.arange(m) % c] = np.linspace(0.9, 0.1, m)
    drops[-1] = np.nan
    mean_drops = 0.2 * np.roll(drops, 1, axis=1)  # closed at the mean every community hurts another class,
    mean_drops[0] = 0.2 * drops[0]  # but for the first, which may be named
    named = np.full(m, -1)
    named[0] = 0
    band = {part: np.full((m, c), value) for part, value in (("low", 0.0), ("mean", 0.03), ("high", 0.08))}
    ablation = Evaluation(
        "ablation", 0.1, drops.mean(axis=1),
        {
            "class_drop": drops, "drop/zero": drops.mean(axis=1), "class_drop/zero": drops,
            "drop/mean": mean_drops.mean(axis=1), "class_drop/mean": mean_drops,
        },
        {"per_community": np.stack([drops.mean(1) - 0.01, drops.mean(1) + 0.01], -1),
        "class_drop": np.stack([drops - 0.04, drops + 0.04], -1)},
        {
            "per_community": np.full(m, 0.01), "class_drop": np.where(drops > 0.2, 0.001, 0.7),
            "null": np.full(m, 0.02), "specificity": np.full(m, 0.005), "specificity/mean": np.full(m, 0.3),
        },
        details={
            "baseline": 0.97, "n": 359, "metric": "classification", "class_names": names, "class_accuracy": np.full(c,
            0.97),
            "value": 0.0, "split": "test", "n_draws": 199, "null_class_drop": band, "named_class": named,
            "null_drop": {"mean": np.full(m, 0.01), "low": np.zeros(m), "high": np.full(m, 0.02)},
            "null_worst": {"mean": np.full(m, 0.1), "high": np.full(m, 0.2)},
            "agreement": named >= 0, "supported": named >= 0, "sign_flip": np.zeros(m, dtype=bool),
            "joint": [{"communities": [0, 1], "layer": P.layer_of(0), "drop": 0.5, "class_drop": drops[0] + drops[1],
            "accuracy": 0.47}],
            "findings": ["Supported: something was found.", "Not supported: something was not.", *findings],
        },
    )  # fmt: skip
    structure = Evaluation("structure", 0.3, rng.random(m), p_values={"null": np.full(m, 0.01)})
    heat = Evaluation("occlusion", 1.0, rng.random(m), {"heat": rng.random((m, 8, 8))})
    levels = Evaluation(
        "activation", 1.0, rng.random(m), {"level": rng.random((m, 60))}, details={"targets": np.arange(60) % c}
    )
    every = {e.name: e for e in (ablation, structure, heat, levels)}
    return Report(G, P, every, {"versions": {"torch": "2.9"}, "seed": 0, "nulls": 199, "warnings": ("A warning.",)})
