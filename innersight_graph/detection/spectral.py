"""`spectral_communities`: normalised spectral clustering of the whole network, its normalised cut against shuffles."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from innersight_graph.detection._clustering import dense, spectral_labels, spectral_search, stability
from innersight_graph.detection._layers import (
    assemble,
    check_starts,
    live_layers,
    resolve_layers,
    resolve_seed,
    seed_sequence,
)
from innersight_graph.errors import InputError
from innersight_graph.graph.gauge import balance
from innersight_graph.graph.interchange import as_layered
from innersight_graph.graph.layered import LayeredDiGraph
from innersight_graph.partition import Partition

__all__ = ["Clusterability", "clusterability", "normalized_cut", "spectral_communities"]

Ints = npt.NDArray[np.intp]


class Clusterability(NamedTuple):
    """The normalised cut of a network and of its shuffled copies; low is clusterable.

    Attributes
    ----------
    ncut : float
        Normalised cut of the network.
    null_mean, null_sd : float
        Mean and standard deviation over its shuffled copies.
    z : float
        ncut minus null_mean, in units of null_sd: negative where the network is more clusterable than its copies.
    p_value : float
        One-sided, by rank.
    n_nulls : int
        Number of shuffled copies.
    """

    ncut: float
    null_mean: float
    null_sd: float
    z: float
    p_value: float
    n_nulls: int


def normalized_cut(adjacency: Any, labels: npt.ArrayLike) -> float:
    """Sum over clusters of the weight that leaves the cluster, divided by the cluster's volume.

    Parameters
    ----------
    adjacency : ndarray or sparse array (n, n)
        Symmetric, non-negative.
    labels : array of int (n,)
        Cluster of each node; -1 leaves the node out of every cluster.

    Returns
    -------
    float
        Between 0 and the number of clusters. With two clusters it is `networkx.normalized_cut_size`.

    References
    ----------
    Shi and Malik, Normalized cuts and image segmentation, 2000, doi:10.1109/34.868688.

    Examples
    --------
    >>> import networkx as nx
    >>> G = nx.karate_club_graph()
    >>> clubs = [int(G.nodes[v]["club"] == "Officer") for v in G]
    >>> round(normalized_cut(nx.to_numpy_array(G, weight=None), clubs), 10)
    0.2824691358
    """
    given = np.asarray(labels)
    total = 0.0
    degree = np.asarray(adjacency.sum(axis=1), dtype=float).ravel()
    for cluster in np.unique(given[given >= 0]):
        member = (given == cluster).astype(float)
        volume = float(degree @ member)
        if volume > 0:
            total += 1.0 - float(member @ (adjacency @ member)) / volume
    return total


def spectral_communities(
    G: Any,
    n_communities: int = 12,
    *,
    nulls: int = 0,
    null: str = "layer",
    gauge: str = "balanced",
    n_init: int = 25,
    layers: str | Iterable[str] | None = None,
    seed: int | None = None,
) -> Partition:
    """Cluster the whole network by its absolute weights and restrict the clusters to each layer.

    The clusters of Filan et al. span all layers, input and output included; a community is a cluster's part in one
    layer. Signs are not used.

    Parameters
    ----------
    G : LayeredDiGraph or NetworkX graph
        For convolutions with batch norm make it with ``neuron_graph(..., edges="l1", fold_batchnorm=True)``.
    n_communities : int
        Clusters of the whole network (12 in the published tables); at most its neurons.
    nulls : int
        Shuffled copies to compare the normalised cut with; 0 compares with none.
    null : {"layer", "nonzero"}
        Permute all weights of each pair of layers, or only the values of those that are not zero.
    gauge : {"balanced", "none"}
        Weights of `balance(G)`, or the trained ones as published.
    n_init : int
        K-means starts.
    layers : str, iterable of str, or None
        Layers to report; None is every hidden layer. All layers are clustered in any case.
    seed : int, optional
        Seed of k-means and of the shuffles.

    Returns
    -------
    Partition
        ``stats[layer]`` holds the network's ``ncut``, ``ave_in_out`` and, with `nulls`, ``null_mean``, ``null_sd``,
        ``z`` and ``p_value``, and the layer's ``stability`` (mean ARI with four shorter searches). Neurons without
        connections are unassigned.

    Raises
    ------
    InputError
        If an option is unknown.

    Notes
    -----
    Memory n² floats up to 1,500 neurons, sparse beyond. Each shuffle is a whole new clustering.

    References
    ----------
    Filan et al., Clusterability in neural networks, 2021, arXiv:2103.03386.

    Examples
    --------
    >>> import networkx as nx
    >>> [sorted(c) for c in spectral_communities(nx.barbell_graph(4, 0), 2, seed=0)]
    [[0, 1, 2, 3], [4, 5, 6, 7]]
    """
    graph = as_layered(G)
    entropy = resolve_seed(seed)
    wanted = resolve_layers(graph, layers)
    network = _Network(graph, gauge)
    labels, others = network.search(n_communities, seed_sequence(entropy, "clusters"), n_init)
    cut = normalized_cut(network.adjacency(), labels)
    share = cut / max(np.unique(labels[labels >= 0]).size, 1)
    stats: dict[str, Any] = {"ncut": cut, "ave_in_out": (1 - share) / (2 * share) if share > 0 else float("inf")}
    if nulls:
        stats |= network.compare(n_communities, cut, nulls, null, entropy, n_init)._asdict()
    by_layer = {name: labels[network.place[name]] for name in wanted}
    sure = {name: stability(own, [run[network.place[name]] for run in others]) for name, own in by_layer.items()}
    params = {"n_communities": n_communities, "nulls": nulls, "null": null, "gauge": gauge, "n_init": n_init}
    each = {name: {**stats, "stability": sure[name]} for name in by_layer}
    return assemble(graph, by_layer, method="spectral", params=params, seed=entropy, stats=each)


def clusterability(
    G: Any,
    n_communities: int = 12,
    *,
    nulls: int = 50,
    null: str = "layer",
    gauge: str = "none",
    n_init: int = 25,
    seed: int | None = None,
) -> Clusterability:
    """Test whether a network is more clusterable than its shuffled copies.

    Parameters
    ----------
    G, n_communities, nulls, null, gauge, n_init, seed
        As in `spectral_communities`, with the trained weights by default, as published.

    Returns
    -------
    Clusterability
        ``z`` uses the null's population standard deviation; ``p_value`` = (1 + shuffles at or below) / (nulls + 1),
        one-sided. The z of few shuffles is noisy: prefer the rank.

    Examples
    --------
    >>> import networkx as nx
    >>> clusterability(nx.barbell_graph(5, 0), 2, nulls=19, seed=0).p_value
    0.05
    """
    network = _Network(as_layered(G), gauge)
    entropy = resolve_seed(seed)
    labels = network.cluster(n_communities, seed_sequence(entropy, "clusters"), n_init)
    return network.compare(n_communities, normalized_cut(network.adjacency(), labels), nulls, null, entropy, n_init)


class _Network:
    """All live neurons of all layers and their absolute weights, as one undirected graph."""

    def __init__(self, graph: LayeredDiGraph, gauge: str) -> None:
        if gauge not in ("balanced", "none"):
            raise InputError(f"gauge={gauge!r} is unknown. Use 'balanced' (default) or 'none'.")
        weighted = balance(graph) if gauge == "balanced" else graph
        self.live = {name: live for name, live, _ in live_layers(graph, [layer.name for layer in graph.layers])}
        ends = np.cumsum([0, *(live.size for live in self.live.values())])
        self.place = {name: slice(a, b) for name, a, b in zip(self.live, ends[:-1], ends[1:], strict=True)}
        self.size = int(ends[-1])
        self.symmetric = graph.graph.get("directed") is False
        self.blocks = {
            (s, t): np.abs(dense(weighted.matrix(s, t))[np.ix_(self.live[s], self.live[t])])
            for (s, t), kind in weighted.kinds.items()
            if kind == "value"
        }

    def adjacency(self, rng: np.random.Generator | None = None, null: str = "layer") -> Any:
        """Return the symmetric adjacency of the network, or with `rng` of one shuffled copy."""
        from scipy import sparse

        full = np.zeros((self.size, self.size), dtype=np.float64)
        for (s, t), W in self.blocks.items():
            if s == t and self.symmetric:
                upper = np.triu_indices(W.shape[0], 1)
                half = np.zeros_like(W)
                half[upper] = W[upper] if rng is None else _SHUFFLES[null](W[upper], rng)
                full[self.place[s], self.place[t]] += half + half.T + np.diag(np.diag(W))
                continue
            drawn = W if rng is None else _SHUFFLES[null](W, rng)
            full[self.place[s], self.place[t]] += drawn
            full[self.place[t], self.place[s]] += drawn.T
        return full if self.size <= 1500 else sparse.csr_array(full)

    def cluster(self, n_communities: int, seed: np.random.SeedSequence, n_init: int, adjacency: Any = None) -> Ints:
        """Cluster the network, or a shuffled copy of it."""
        found = self.adjacency() if adjacency is None else adjacency
        check_starts(n_init)
        return spectral_labels(found, self._number(n_communities), seed, n_init=n_init)

    def search(self, n_communities: int, seed: np.random.SeedSequence, n_init: int) -> tuple[Ints, list[Ints]]:
        """Cluster the network, and again with fewer starts to see how sure the clusters are."""
        check_starts(n_init)
        return spectral_search(self.adjacency(), self._number(n_communities), seed, n_init=n_init)

    def _number(self, n_communities: Any) -> int:
        if type(n_communities) is bool or not isinstance(n_communities, (int, np.integer)) or n_communities < 1:
            raise InputError(
                f"n_communities={n_communities!r} came; one whole number for the whole network was expected."
            )
        return min(int(n_communities), self.size)

    def compare(self, k: int, cut: float, nulls: int, null: str, entropy: int, n_init: int) -> Clusterability:
        if null not in _SHUFFLES or nulls < 1:
            raise InputError(
                f"null={null!r} with nulls={nulls} came; 'layer' or 'nonzero' and at least one were expected."
            )
        cuts = np.empty(nulls)
        for i in range(nulls):
            keyed = seed_sequence(entropy, "null", i)
            copy = self.adjacency(np.random.default_rng(keyed), null)
            cuts[i] = normalized_cut(copy, self.cluster(k, keyed, n_init, copy))
        mean, sd = float(cuts.mean()), float(cuts.std())
        p = (1 + int((cuts <= cut).sum())) / (nulls + 1)
        return Clusterability(cut, mean, sd, (cut - mean) / sd if sd > 0 else 0.0, p, nulls)


def _all_entries(W: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    return rng.permutation(W.ravel()).reshape(W.shape)


def _non_zero(W: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    out = W.copy()
    out[W > 0] = rng.permutation(W[W > 0])
    return out


_SHUFFLES = MappingProxyType({"layer": _all_entries, "nonzero": _non_zero})
