"""A graph as the backend computes on it: nodes in order and one sparse matrix per edge attribute."""

from __future__ import annotations

import functools
from collections.abc import Hashable
from typing import Any

import networkx as nx
import numpy as np
from scipy import sparse

from innersight_graph.errors import InputError
from innersight_graph.graph.layered import LayeredDiGraph
from innersight_graph.graph.matrices import adjacency

__all__ = ["ArrayGraph", "arrays_of", "refuse_signs"]

Node = Hashable
STORED = ("weight", "activation", "inhibition")


class ArrayGraph:
    """A graph as this backend computes on it: its nodes in order, and one sparse matrix per edge attribute asked for.

    Parameters
    ----------
    graph : networkx.Graph
        A LayeredDiGraph's matrices are read from its arrays; any other graph's are made by NetworkX, once.
    """

    __networkx_backend__ = "innersight"

    def __init__(self, graph: nx.Graph) -> None:
        self.graph = graph
        self.nodes: list[Node] = list(graph)
        self.directed = bool(graph.is_directed())
        self._matrices: dict[str | None, sparse.csr_array] = {}

    def is_directed(self) -> bool:
        """Tell whether edges have a direction; NetworkX's own decorators ask."""
        return self.directed

    def is_multigraph(self) -> bool:
        """Tell whether parallel edges can exist; NetworkX's own decorators ask."""
        return bool(self.graph.is_multigraph())

    def __len__(self) -> int:
        return len(self.nodes)

    @functools.cached_property
    def number(self) -> dict[Node, int]:
        """Node → its row."""
        return {node: i for i, node in enumerate(self.nodes)}

    def matrix(self, weight: str | None) -> sparse.csr_array:
        """Return the adjacency matrix, float64, or int64 where weights are whole; an undirected one is symmetric."""
        if weight not in self._matrices:
            self._matrices[weight] = self._read(weight)
        return self._matrices[weight]

    def _read(self, weight: str | None) -> sparse.csr_array:
        if isinstance(self.graph, LayeredDiGraph) and self.graph.has_derived_attributes:
            known = weight in STORED
            return adjacency(self.graph, weight if known else None, dtype=np.float64 if known else np.int64)
        if len(self.nodes) == 0:
            return sparse.csr_array((0, 0), dtype=np.float64)
        try:
            return sparse.csr_array(nx.to_scipy_sparse_array(self.graph, weight=weight, backend="networkx"))
        except (TypeError, ValueError) as error:
            raise NotImplementedError(f"the edge attribute {weight!r} is not a number on every edge") from error


def arrays_of(G: Any) -> ArrayGraph:
    """Return a graph as arrays: kept with a LayeredDiGraph, made once for a converted graph."""
    if isinstance(G, LayeredDiGraph):
        return G.remember("nxbackend", lambda: ArrayGraph(G))
    return G if isinstance(G, ArrayGraph) else ArrayGraph(G)


def refuse_signs(A: sparse.csr_array, weight: str | None, function: str, choices: str) -> None:
    """Raise where an objective that is defined for non-negative weights was given others."""
    if A.data.size and A.data.min() < 0:
        raise InputError(
            f"{function} was given negative weights ({weight!r}), for which its objective is not defined. Choose "
            f"{choices}."
        )
