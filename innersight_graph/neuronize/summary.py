"""A short account of a graph of neurons: layers, units, edges, memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from innersight_graph.graph.layered import LayeredDiGraph

__all__ = ["GraphSummary", "LayerSummary", "summarize"]


@dataclass(frozen=True)
class LayerSummary:
    """One layer: its neurons, where they stand, and the edges that reach them."""

    name: str
    kind: str
    depth: int
    width: int
    shape: tuple[int, ...] | None
    silent: int
    activations: int
    inhibitions: int
    gates: int


@dataclass(frozen=True)
class GraphSummary:
    """Totals of a graph; ``n_bytes`` counts an array once that several connections share.

    Attributes
    ----------
    layers : tuple of LayerSummary
        In order of depth.
    n_neurons, n_edges, n_connections : int
        Neurons, edges, and pairs of layers that are connected.
    n_bytes : int
        Memory of the arrays.
    """

    layers: tuple[LayerSummary, ...]
    n_neurons: int
    n_edges: int
    n_connections: int
    n_bytes: int


def summarize(G: LayeredDiGraph) -> GraphSummary:
    """Count what a graph of neurons holds.

    Parameters
    ----------
    G : LayeredDiGraph

    Returns
    -------
    GraphSummary

    Examples
    --------
    >>> import torch
    >>> from innersight_graph.neuronize import neuron_graph
    >>> summary = summarize(neuron_graph(torch.nn.Linear(4, 3), example=torch.zeros(1, 4)))
    >>> summary.n_neurons, summary.n_edges, summary.n_bytes
    (7, 12, 48)
    """
    rows = []
    for layer in G.layers:
        incoming = {pair: G.connections[pair] for pair in G.connections if pair[1] == layer.name}
        values = [_data(m) for pair, m in incoming.items() if G.kinds[pair] == "value"]
        gates = [_data(m) for pair, m in incoming.items() if G.kinds[pair] == "gate"]
        silent = G.node_attributes.get(layer.name, {}).get("silent")
        rows.append(
            LayerSummary(
                layer.name,
                layer.kind,
                layer.depth,
                layer.width,
                layer.shape,
                0 if silent is None else int(np.count_nonzero(silent)),
                sum(int((v > 0).sum()) for v in values),
                sum(int((v < 0).sum()) for v in values),
                sum(int(np.count_nonzero(v)) for v in gates),
            )
        )
    n_edges = sum(row.activations + row.inhibitions + row.gates for row in rows)
    return GraphSummary(tuple(rows), sum(x.width for x in G.layers), n_edges, len(G.connections), _distinct_bytes(G))


def _data(matrix: Any) -> Any:
    return matrix.data if sparse.issparse(matrix) else matrix


def _distinct_bytes(G: LayeredDiGraph) -> int:
    sizes = {}
    matrix: Any
    for matrix in G.connections.values():
        parts: tuple[Any, ...] = (matrix.data, matrix.indices, matrix.indptr) if sparse.issparse(matrix) else (matrix,)
        for part in parts:
            sizes[part.__array_interface__["data"][0]] = part.nbytes
    return sum(sizes.values())
