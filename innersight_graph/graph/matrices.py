"""The whole graph as one SciPy matrix, and what can be read from the arrays at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from innersight_graph.errors import InputError
from innersight_graph.graph.blocks import Block
from innersight_graph.graph.interchange import as_layered

__all__ = ["STORED", "adjacency", "degrees"]

Part = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]
STORED: dict[str | None, Part] = {
    "weight": lambda w: w,
    "activation": lambda w: np.maximum(w, np.float32(0)),
    "inhibition": lambda w: np.maximum(-w, np.float32(0)),
    None: np.ones_like,
}


def adjacency(G: Any, weight: str | None = "weight", *, dtype: npt.DTypeLike = np.float64) -> sparse.csr_array:
    """Return the adjacency matrix of the whole graph in the graph's node order.

    Parameters
    ----------
    G : LayeredDiGraph or networkx graph
    weight : {"weight", "activation", "inhibition", None}, default "weight"
        None: 1 for every edge. Gates have no activation and no inhibition.
    dtype : data type, default float64

    Returns
    -------
    scipy.sparse.csr_array, shape (n, n)
        One stored entry per edge, also where the value is 0; columns in ascending order within a row if they are so in
        G.

    Raises
    ------
    InputError
        Another weight.

    Notes
    -----
    12 to 16 bytes per edge; nothing is done edge by edge in Python.

    Examples
    --------
    >>> import networkx as nx
    >>> adjacency(nx.path_graph(3), None).toarray().tolist()
    [[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    """
    G = as_layered(G)
    if weight not in STORED:
        raise InputError(
            f"weight={weight!r} is not stored in the arrays; use 'weight', 'activation', 'inhibition' or None."
        )
    start = dict(zip((x.name for x in G.layers), np.cumsum([0, *(x.width for x in G.layers)]).tolist(), strict=False))
    rows, columns, data = [], [], []
    for (source, target), block in G._blocks.items():
        i, j, w = block.triples()
        gate = _is_silent_gate(block, weight)
        rows.append(i + np.int32(start[source]))
        columns.append(j + np.int32(start[target]))
        data.append(np.zeros(w.shape, dtype) if gate else STORED[weight](w).astype(dtype))
    n = len(G)
    if not data:
        return sparse.csr_array((n, n), dtype=dtype)
    return _compressed(np.concatenate(rows), np.concatenate(columns), np.concatenate(data), n)


def _compressed(
    rows: npt.NDArray[np.int32], columns: npt.NDArray[np.int32], data: npt.NDArray[Any], n: int
) -> sparse.csr_array:
    """Return compressed rows that keep the given order within a row and explicit zeros."""
    indptr = np.concatenate(([0], np.cumsum(np.bincount(rows, minlength=n))))
    if (np.diff(rows) < 0).any():
        order = np.argsort(rows, kind="stable")
        columns, data = columns[order], data[order]
    return sparse.csr_array((data, columns, indptr), shape=(n, n))


def degrees(G: Any, weight: str | None = None, direction: str = "out") -> npt.NDArray[Any]:
    """Return the weighted or unweighted degree of every node.

    Parameters
    ----------
    G : LayeredDiGraph or networkx graph
    weight : {"weight", "activation", "inhibition", None}, default None
        None: count edges.
    direction : {"out", "in"}, default "out"

    Returns
    -------
    ndarray, shape (n,)
        In the graph's node order; int64 for counts, else float64.

    Examples
    --------
    >>> import networkx as nx
    >>> degrees(nx.star_graph(3)).tolist()
    [3, 1, 1, 1]
    """
    G = as_layered(G)
    total = {layer.name: np.zeros(layer.width, dtype=np.int64 if weight is None else np.float64) for layer in G.layers}
    for (source, target), block in G._blocks.items():
        if not _is_silent_gate(block, weight):
            side = block if direction == "out" else block.transposed
            total[source if direction == "out" else target] += side.sums(None if weight is None else STORED[weight])
    return np.concatenate(list(total.values()))


def _is_silent_gate(block: Block, weight: str | None) -> bool:
    """Tell whether a block's edges carry 0 of this attribute whatever their weights."""
    return block.kind == "gate" and weight in ("activation", "inhibition")
