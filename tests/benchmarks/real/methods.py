"""Partitions of one network's neurons: methods at equal numbers, ways of choosing the number, and edges of a CNN."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np

import innersight_graph as isg
from real.networks import Network

Made = tuple[isg.Partition, ...]
_CANDIDATES = range(1, 21)


class Bench:
    """One network's graphs and measurements, made once, and every method on them by name."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.layers = network.layers
        self.numbers = network.numbers

    @cached_property
    def graph(self) -> isg.LayeredDiGraph:
        return self.graph_with()

    def graph_with(self, **options: Any) -> isg.LayeredDiGraph:
        return isg.neuron_graph(self.network.model, self.network.train, **options)

    @cached_property
    def unsigned(self) -> isg.LayeredDiGraph:
        """The same graph without the signs of its weights."""
        G = self.graph
        sizes = {pair: abs(G.matrix(*pair)) for pair in G.connections}
        attributes = {name: dict(arrays) for name, arrays in G.node_attributes.items()}
        return isg.LayeredDiGraph.from_arrays(G.layers, sizes, kinds=dict(G.kinds), node_attributes=attributes)

    @cached_property
    def features(self) -> Mapping[str, Any]:
        return isg.activations(self.network.model, self.network.train[0][:500], self.graph)

    def similarities(self, kind: str) -> Mapping[str, Any]:
        inputs, targets = self.network.train
        return isg.similarities(self.network.model, (inputs[:200], targets[:200]), self.graph, kind=kind)

    def em(self, seed: int, G: isg.LayeredDiGraph | None = None, **options: Any) -> Made:
        """EM with each layer's number given (`em_communities` takes one number for all layers)."""
        graph = self.graph if G is None else G
        return tuple(
            isg.em_communities(graph, self.numbers[name], layers=name, seed=seed, **options) for name in self.layers
        )

    def chosen(self, seed: int, **options: Any) -> Made:
        """EM that chooses the number of communities."""
        return (isg.em_communities(self.graph, _CANDIDATES, layers=self.layers, seed=seed, **options),)

    def other(self, method: str, seed: int, G: isg.LayeredDiGraph | None = None, **options: Any) -> Made:
        graph = self.graph if G is None else G
        return (isg.detect(graph, method, layers=self.layers, seed=seed, **options),)

    def counted(self, method: str, seed: int, **options: Any) -> Made:
        return self.other(method, seed, n_communities=self.numbers, **options)


def run(bench: Bench, name: str, seed: int) -> Made:
    """Run one of `METHODS`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", isg.SelectionWarning)
        return METHODS[name](bench, seed)


def _score_criterion(bench: Bench, seed: int) -> Made:
    network = bench.network
    half = np.random.default_rng(seed).permutation(len(network.train[0]))[:150]
    Q = isg.PartitionScore(network.model, (network.train[0][half], network.train[1][half]), bench.graph)
    return bench.chosen(seed, criterion=Q)


METHODS: Mapping[str, Callable[[Bench, int], Made]] = {
    "EM": lambda b, s: b.em(s),
    "EM, the paper's random starts": lambda b, s: b.em(s, init="random", n_init=100),
    "EM without signs": lambda b, s: b.em(s, b.unsigned),
    "EM, density .1": lambda b, s: b.em(s, density=0.1),
    "EM, density .25": lambda b, s: b.em(s, density=0.25),
    "EM, density 1": lambda b, s: b.em(s, density=1.0),
    "EM, gauge none": lambda b, s: b.em(s, gauge="none"),
    "EM, multinomial": lambda b, s: b.em(s, likelihood="multinomial"),
    "block model": lambda b, s: b.counted("blockmodel", s),
    "co-activation (k-means)": lambda b, s: b.counted("coactivation", s, features=b.features),
    "Hod (correlation)": lambda b, s: b.counted("specialization", s, features=b.features),
    "Lange, covariance": lambda b, s: b.counted("similarity", s, similarities=b.similarities("covariance")),
    "Lange, downstream": lambda b, s: b.counted("similarity", s, similarities=b.similarities("downstream")),
    "BIMT, post hoc": lambda b, s: b.counted("geometric", s),
    "by degree": lambda b, s: b.counted("degree", s),
    "random": lambda b, s: b.counted("random", s),
    "Filan (12 clusters)": lambda b, s: b.other("spectral", s, n_communities=12),
    "Leiden, signed": lambda b, s: b.other("leiden", s),
    "Leiden, absolute": lambda b, s: b.other("leiden", s, sign="absolute"),
    "Louvain, positive": lambda b, s: b.other("louvain", s, sign="positive"),
    "EM, number by ICL": lambda b, s: b.chosen(s),
    "EM, number by held-out": lambda b, s: b.chosen(s, criterion="held-out"),
    "EM, number by the paper's Q": _score_criterion,
    "block model, number estimated": lambda b, s: b.other("blockmodel", s),
    "EM on Eq. 1, similarity": lambda b, s: b.em(s, b.graph_with(edges="eq1", reading="similarity")),
    "EM on Eq. 1, literal": lambda b, s: b.em(s, b.graph_with(edges="eq1", reading="literal")),
    "EM on summed kernels": lambda b, s: b.em(s, b.graph_with(edges="sum")),
}

_EDGES = ("EM on Eq. 1, similarity", "EM on Eq. 1, literal", "EM on summed kernels")
_CORE = ("EM", "EM, number by ICL", "Leiden, signed", "co-activation (k-means)", "random")
# Half a minute where there is much to find; its speed and truth are the planted benchmark's subject.
_SLOW = "block model, number estimated"
_NOTHING_LEARNT = ("digits, random features", "digits, untrained")
# Closing convolutions and attention layers takes ten times as long as closing an MLP: what is compared there is less.
_ELSEWHERE = (
    "EM", "EM, the paper's random starts", "EM without signs", "block model", "co-activation (k-means)",
    "Leiden, signed", "by degree", "random", "EM, number by ICL",
)  # fmt: skip


def methods_for(network: str) -> tuple[str, ...]:
    """What is run on a network: everything where methods are compared, a core where kinds of training are."""
    if network == "digits, plain":
        return tuple(name for name in METHODS if name not in (*_EDGES, _SLOW))
    if network.startswith("digits"):
        return (*_CORE, _SLOW) if network in _NOTHING_LEARNT else _CORE
    return (*_ELSEWHERE, *_EDGES) if network.startswith("faces") else _ELSEWHERE
