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
Members = dict[str, list[tuple[str, npt.NDArray[np.intp]]]]


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
    Two products with 0/1 membership matrices per pair of layers: as fast as reading the weights once.

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
        left, right = _membership(members[source], weights.shape[0]), _membership(members[target], weights.shape[1])
        totals = {name: _total(left, _part(weights, name), right) for name in ("activation", "inhibition", "count")}
        for i, j in zip(*np.nonzero(totals["count"]), strict=True):
            yield members[source][i][0], members[target][j][0], _edge({k: float(v[i, j]) for k, v in totals.items()})


def _membership(groups: list[tuple[str, npt.NDArray[np.intp]]], width: int) -> sparse.csr_array:
    """Return the 0/1 matrix (n_communities, width) of who belongs where."""
    rows = np.repeat(np.arange(len(groups)), [positions.size for _, positions in groups])
    columns = np.concatenate([positions for _, positions in groups])
    return sparse.csr_array((np.ones(columns.size), (rows, columns)), shape=(len(groups), width))


def _part(weights: Any, name: str) -> Any:
    """Return one non-negative part of a connection: activation, inhibition, or 1 per edge."""
    if sparse.issparse(weights):
        data = STORED[None if name == "count" else name](weights.data)
        return sparse.csr_array((data.astype(np.float64), weights.indices, weights.indptr), shape=weights.shape)
    return (weights != 0).astype(np.float32) if name == "count" else STORED[name](weights)


def _total(left: sparse.csr_array, part: Any, right: sparse.csr_array) -> FloatArray:
    total = left @ part @ right.T
    return np.asarray(total.toarray() if sparse.issparse(total) else total, dtype=np.float64)


def _edge(sums: Mapping[str, float]) -> dict[str, Any]:
    weight, count = sums["activation"] - sums["inhibition"], round(sums["count"])
    return {
        "activation": sums["activation"], "inhibition": sums["inhibition"], "weight": weight, "count": count,
        "mean": weight / count,
    }  # fmt: skip
