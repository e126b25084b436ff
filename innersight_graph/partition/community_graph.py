"""The graph of communities: who drives whom, with how much activation and how much inhibition."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt
from scipy import sparse

from innersight_graph.graph.interchange import as_layered
from innersight_graph.graph.layered import LayeredDiGraph
from innersight_graph.graph.matrices import STORED
from innersight_graph.partition.record import Partition, as_partition

__all__ = ["community_graph"]

FloatArray = npt.NDArray[np.float64]
Groups = list[tuple[str, npt.NDArray[np.intp]]]
Members = dict[str, Groups]


def community_graph(G: Any, P: Any, *, rest: bool = False) -> nx.DiGraph:
    """Return the graph whose nodes are communities and whose edges sum the connections between them.

    Parameters
    ----------
    G : LayeredDiGraph or networkx graph
    P : Partition or iterable of sets of nodes
        A partition of G.
    rest : bool, default False
        Add one node per layer for its neurons in no community, named after the layer: the input and the output,
        usually. Then the sums over all edges are those of G.

    Returns
    -------
    networkx.DiGraph
        Plain and mutable. Nodes are the communities' names in P's order, with ``community`` (number in P, -1 for a
        rest), ``layer``, ``subset`` (depth) and ``size``. Edges stand where at least one value connection does, with
        ``activation`` and ``inhibition`` (sums, both positive), ``weight`` (activation minus inhibition), ``count``
        (connections), ``mean`` (weight over count) and ``share`` (of all activation and inhibition that leaves the
        source community within this graph).

    Raises
    ------
    InputError
        P is a partition of another graph.

    Notes
    -----
    Every weight is read a few times and nothing is done edge by edge in Python.

    Examples
    --------
    >>> import networkx as nx
    >>> C = community_graph(nx.DiGraph([(0, 1), (2, 1)]), [{0, 2}, {1}])
    >>> C.edges["graph/c0", "graph/c1"]["activation"], C.edges["graph/c0", "graph/c1"]["count"]
    (2.0, 2)
    """
    layered = as_layered(G)
    partition = as_partition(layered, P)
    graph = nx.DiGraph(method=partition.method)
    members = _add_nodes(graph, layered, partition, rest)
    for source, target, sums in _sums(layered, members):
        graph.add_edge(source, target, **sums)
    for node in graph:
        leaving = sum(data["activation"] + data["inhibition"] for _, _, data in graph.out_edges(node, data=True))
        for _, _, data in graph.out_edges(node, data=True):
            data["share"] = (data["activation"] + data["inhibition"]) / leaving if leaving else 0.0
    return graph


def _add_nodes(graph: nx.DiGraph, G: LayeredDiGraph, P: Partition, rest: bool) -> Members:
    """Add the communities as nodes; return (name, positions of its members) per layer."""
    members: Members = {layer.name: [] for layer in G.layers}
    numbers = {layer: [i for i, name in enumerate(P.names) if P.layer_of(i) == layer] for layer in members}
    for layer in G.layers:
        labels = P.labels(layer.name)
        groups = [(P.names[i], i, np.flatnonzero(labels == k)) for k, i in enumerate(numbers[layer.name])]
        if rest:
            groups.append((layer.name, -1, np.flatnonzero(labels < 0)))
        for name, i, positions in groups:
            if positions.size:
                graph.add_node(name, community=i, layer=layer.name, subset=layer.depth, size=int(positions.size))
                members[layer.name].append((name, positions))
    return members


def _sums(G: LayeredDiGraph, members: Members) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield (source community, target community, sums) for every pair with a value connection."""
    for (source, target), weights in G.connections.items():
        if G.kinds[source, target] != "value" or not members[source] or not members[target]:
            continue
        total = _sparse_totals if sparse.issparse(weights) else _dense_totals
        totals = total(weights, members[source], members[target])
        for i, j in zip(*np.nonzero(totals["count"]), strict=True):
            yield members[source][i][0], members[target][j][0], _edge({k: float(v[i, j]) for k, v in totals.items()})


def _dense_totals(weights: npt.NDArray[np.float32], sources: Groups, targets: Groups) -> dict[str, FloatArray]:
    """Return activation, inhibition and count between all pairs of groups by two products with 0/1 matrices."""
    left, right = _membership(sources, weights.shape[0]), _membership(targets, weights.shape[1]).T
    parts = {name: STORED[name](weights) for name in ("activation", "inhibition")}
    parts["count"] = (weights != 0).astype(np.float32)
    return {name: np.asarray(left @ part @ right) for name, part in parts.items()}


def _sparse_totals(weights: sparse.csr_array, sources: Groups, targets: Groups) -> dict[str, FloatArray]:
    """Return the same by one look-up per edge."""
    left, right = _labels(sources, weights.shape[0]), _labels(targets, weights.shape[1])
    i, j = np.repeat(left, np.diff(weights.indptr)), right[weights.indices]
    kept = (i >= 0) & (j >= 0)
    shape = (len(sources), len(targets))
    pair, w = (i * shape[1] + j)[kept], weights.data[kept]
    sums = {"activation": STORED["activation"](w), "inhibition": STORED["inhibition"](w), "count": None}
    size = shape[0] * shape[1]
    totals = {name: np.bincount(pair, weights=v, minlength=size) for name, v in sums.items()}
    return {name: total.reshape(shape).astype(np.float64) for name, total in totals.items()}


def _membership(groups: Groups, width: int) -> sparse.csr_array:
    """Return the 0/1 matrix (n_groups, width) of who belongs where."""
    rows = np.repeat(np.arange(len(groups)), [positions.size for _, positions in groups])
    columns = np.concatenate([positions for _, positions in groups])
    return sparse.csr_array((np.ones(columns.size), (rows, columns)), shape=(len(groups), width))


def _labels(groups: Groups, width: int) -> npt.NDArray[np.intp]:
    """Return each neuron's group, -1 for none."""
    labels = np.full(width, -1, dtype=np.intp)
    for k, (_, positions) in enumerate(groups):
        labels[positions] = k
    return labels


def _edge(sums: Mapping[str, float]) -> dict[str, Any]:
    weight, count = sums["activation"] - sums["inhibition"], round(sums["count"])
    return {
        "activation": sums["activation"], "inhibition": sums["inhibition"], "weight": weight, "count": count,
        "mean": weight / count,
    }  # fmt: skip
