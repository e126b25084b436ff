"""NetworkX's matrices, degrees, reciprocity and PageRank, read from arrays at once."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt
from scipy import sparse

from innersight_graph.nxbackend.arrays import ArrayGraph, arrays_of, refuse_signs

__all__ = [
    "degree_centrality",
    "in_degree_centrality",
    "is_negatively_weighted",
    "number_of_selfloops",
    "out_degree_centrality",
    "overall_reciprocity",
    "pagerank",
    "reciprocity",
    "to_numpy_array",
    "to_scipy_sparse_array",
]

Node = Hashable


def to_scipy_sparse_array(
    G: Any,
    nodelist: Collection[Node] | None = None,
    dtype: Any = None,
    weight: str | None = "weight",
    format: str = "csr",
) -> Any:
    """Return the adjacency matrix as a SciPy sparse array."""
    graph = arrays_of(G)
    A = _selected(graph, nodelist, weight)
    if dtype is not None:
        A = A.astype(dtype)
    try:
        return A.asformat(format, copy=True)
    except ValueError as error:
        raise nx.NetworkXError(f"Unknown sparse matrix format: {format}") from error


def _selected(graph: ArrayGraph, nodelist: Collection[Node] | None, weight: str | None) -> sparse.csr_array:
    if len(graph) == 0:
        raise nx.NetworkXError("Graph has no nodes or edges")
    A = graph.matrix(weight)
    if nodelist is None:
        return A
    chosen = list(nodelist)
    if not chosen:
        raise nx.NetworkXError("nodelist has no nodes")
    if len(set(chosen)) < len(chosen):
        raise nx.NetworkXError("nodelist contains duplicates.")
    strangers = {node for node in chosen if node not in graph.number}
    if strangers:
        raise nx.NetworkXError(f"Nodes {strangers} in nodelist is not in G")
    rows = [graph.number[node] for node in chosen]
    return A[rows][:, rows]


def to_numpy_array(
    G: Any,
    nodelist: Collection[Node] | None = None,
    dtype: Any = None,
    order: Any = None,
    multigraph_weight: Any = sum,
    weight: str | None = "weight",
    nonedge: float = 0.0,
) -> npt.NDArray[Any]:
    """Return the adjacency matrix as a NumPy array, ``nonedge`` where there is no edge."""
    graph = arrays_of(G)
    if len(graph) == 0 and not nodelist:
        return np.zeros((0, 0), dtype=dtype, order=order)
    entries = sparse.coo_array(_selected(graph, nodelist, weight))
    table = np.full(entries.shape, nonedge, dtype=dtype, order=order)
    table[entries.row, entries.col] = entries.data
    return table


# ---------------------------------------------------------------------- degrees and reciprocity


def _degree_share(counts: npt.NDArray[np.intp], graph: ArrayGraph) -> dict[Node, float]:
    if len(graph) <= 1:
        return dict.fromkeys(graph.nodes, 1)
    scale = 1.0 / (len(graph) - 1.0)
    return {node: count * scale for node, count in zip(graph.nodes, counts.tolist(), strict=True)}


def _counts(graph: ArrayGraph) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the numbers of outgoing and of incoming edges of every node."""
    A = graph.matrix(None)
    ones = A.data.astype(np.int64)
    rows = np.repeat(np.arange(len(graph)), np.diff(A.indptr))
    out = np.bincount(rows, weights=ones, minlength=len(graph)).astype(np.intp)
    return out, np.bincount(A.indices, weights=ones, minlength=len(graph)).astype(np.intp)


def degree_centrality(G: Any) -> dict[Node, float]:
    """Return each node's degree over the number of other nodes; a loop counts twice."""
    graph = arrays_of(G)
    out, into = _counts(graph)
    loops = graph.matrix(None).diagonal().astype(np.intp)
    return _degree_share(out + into if graph.directed else out + loops, graph)


def in_degree_centrality(G: Any) -> dict[Node, float]:
    """Return each node's number of incoming edges over the number of other nodes."""
    graph = arrays_of(G)
    return _degree_share(_counts(graph)[1], graph)


def out_degree_centrality(G: Any) -> dict[Node, float]:
    """Return each node's number of outgoing edges over the number of other nodes."""
    graph = arrays_of(G)
    return _degree_share(_counts(graph)[0], graph)


def overall_reciprocity(G: Any) -> float:
    """Return the share of edges whose reverse is an edge."""
    graph = arrays_of(G)
    A = graph.matrix(None)
    if A.nnz == 0:
        raise nx.NetworkXError("Not defined for empty graphs")
    both = int((A != 0).multiply((A != 0).T).sum())
    # A loop is its own reverse, but not a pair of edges.
    return float((both - int((A.diagonal() != 0).sum())) / A.nnz)


def reciprocity(G: Any, nodes: Any = None) -> float | dict[Node, float | None]:
    """Return the overall reciprocity, or each given node's; None for a node without edges."""
    graph = arrays_of(G)
    if nodes is None:
        return overall_reciprocity(graph)
    A = (graph.matrix(None) != 0).astype(np.int64)
    mutual = np.asarray(A.multiply(A.T).sum(axis=1)).ravel().tolist()
    out, into = _counts(graph)
    total = (out + into).tolist()
    one = isinstance(nodes, Hashable) and nodes in graph.number
    share = {n: 2 * mutual[i] / total[i] if total[i] else None for n, i in _wanted(graph, [nodes] if one else nodes)}
    if one and share[nodes] is None:
        raise nx.NetworkXError("Not defined for isolated nodes.")
    return share[nodes] if one else share  # type: ignore[return-value]


def _wanted(graph: ArrayGraph, nodes: Iterable[Node]) -> Iterator[tuple[Node, int]]:
    return ((node, graph.number[node]) for node in nodes if node in graph.number)


def number_of_selfloops(G: Any) -> int:
    """Return the number of edges from a node to itself."""
    return int(arrays_of(G).matrix(None).diagonal().sum())


def is_negatively_weighted(G: Any, edge: Any = None, weight: str = "weight") -> bool:
    """Tell whether any edge, or one edge, has a negative weight."""
    A = arrays_of(G).matrix(weight)
    return bool(A.data.size and A.data.min() < 0)


# ---------------------------------------------------------------------- PageRank


def pagerank(
    G: Any,
    alpha: float = 0.85,
    personalization: Mapping[Node, float] | None = None,
    max_iter: int = 100,
    tol: float = 1e-6,
    nstart: Mapping[Node, float] | None = None,
    weight: str | None = "weight",
    dangling: Mapping[Node, float] | None = None,
) -> dict[Node, float]:
    """Return the PageRank of every node by power iteration, as `networkx.pagerank` defines it."""
    graph = arrays_of(G)
    n = len(graph)
    if n == 0:
        return {}
    A = graph.matrix(weight).astype(np.float64)
    refuse_signs(A, weight, "PageRank", "weight='activation', weight='inhibition' or weight=None")
    strength = np.asarray(A.sum(axis=1)).ravel()
    sinks = np.flatnonzero(strength == 0)
    step = sparse.csr_array(sparse.diags_array(1.0 / np.where(strength == 0, 1.0, strength)) @ A).T.tocsr()
    uniform = np.full(n, 1.0 / n)
    jump = uniform if personalization is None else _distribution(graph, personalization)
    x = uniform if nstart is None else _distribution(graph, nstart)
    sink_target = jump if dangling is None else _distribution(graph, dangling)
    for _ in range(max_iter):
        before = x
        x = alpha * (step @ x + x[sinks].sum() * sink_target) + (1.0 - alpha) * jump
        if np.abs(x - before).sum() < n * tol:
            return dict(zip(graph.nodes, x.tolist(), strict=True))
    raise nx.PowerIterationFailedConvergence(max_iter)


def _distribution(graph: ArrayGraph, values: Mapping[Node, float]) -> npt.NDArray[np.float64]:
    given = np.array([values.get(node, 0.0) for node in graph.nodes], dtype=np.float64)
    if given.sum() == 0:
        raise ZeroDivisionError("the given values of the nodes sum to zero")
    return np.asarray(given / given.sum())
