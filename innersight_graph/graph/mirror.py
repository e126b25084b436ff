"""Any directed graph as a frozen, array-backed one with every attribute and every order of iteration kept."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import networkx as nx
import numpy as np
from scipy import sparse

from innersight_graph.errors import GraphSchemaError
from innersight_graph.graph.adjacency import NodeIndex
from innersight_graph.graph.blocks import ReadOnlyDict, SparseBlock
from innersight_graph.graph.layered import LayeredDiGraph
from innersight_graph.graph.neuron import Layer

__all__ = ["mirror"]


def mirror(D: nx.DiGraph, *, weight: str = "weight") -> LayeredDiGraph:
    """Return a read-only `LayeredDiGraph` that no reader can tell from D.

    Nodes, neighbours and predecessors come in D's order, nodes and edges carry D's own attributes and no others. It is
    one layer; `LayeredDiGraph.from_networkx` is the one to use for neurons.

    Parameters
    ----------
    D : networkx.DiGraph
        Not changed; attribute values are shared, attribute dicts are not.
    weight : str, default "weight"
        The edge attribute that fills the matrix, 1 where it is missing or not a number.

    Returns
    -------
    LayeredDiGraph

    Raises
    ------
    GraphSchemaError
        D is undirected or a multigraph.

    Examples
    --------
    >>> D = nx.DiGraph([("b", "a", {"capacity": 3})])
    >>> M = mirror(D)
    >>> list(M), dict(M.edges["b", "a"]), nx.is_frozen(M)
    (['b', 'a'], {'capacity': 3}, True)
    """
    if not D.is_directed() or D.is_multigraph():
        raise GraphSchemaError(
            f"A DiGraph was expected and {type(D).__name__} came. Convert it with networkx.DiGraph(D)."
        )
    nodes: list[Hashable] = list(D)
    number = {node: i for i, node in enumerate(nodes)}
    edges = {(u, v): ReadOnlyDict(data) for u, row in D._adj.items() for v, data in row.items()}
    out = [(number[u], number[v], edges[u, v]) for u, row in D._adj.items() for v in row]
    into = [(number[v], number[u], edges[u, v]) for v, row in D._pred.items() for u in row]
    block = _block(out, len(nodes), weight, _block(into, len(nodes), weight))
    index = NodeIndex([Layer("graph", 0, len(nodes), "graph")], {"graph": nodes})
    node_data = [ReadOnlyDict(D.nodes[node]) for node in nodes]
    return LayeredDiGraph._build(index, {("graph", "graph"): block}, {}, D.graph, node_data)


def _block(
    entries: list[tuple[int, int, ReadOnlyDict]], size: int, weight: str, transposed: SparseBlock | None = None
) -> SparseBlock:
    """Return a block of entries that already come row by row."""
    rows = np.fromiter((i for i, _, _ in entries), dtype=np.int64, count=len(entries))
    columns = np.fromiter((j for _, j, _ in entries), dtype=np.int32, count=len(entries))
    weights = np.fromiter((_number(data.get(weight)) for _, _, data in entries), dtype=np.float32, count=len(entries))
    indptr = np.concatenate(([0], np.cumsum(np.bincount(rows, minlength=size))))
    matrix = sparse.csr_array((weights, columns, indptr), shape=(size, size))
    return SparseBlock(matrix, "value", [data for _, _, data in entries], transposed)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float, np.number)) and not isinstance(value, bool) else 1.0
