"""From and to the formats other tools speak."""

from __future__ import annotations

from typing import Any

from innersight_graph.graph.layered import LayeredDiGraph

__all__ = ["as_layered"]


def as_layered(G: Any) -> LayeredDiGraph:
    """Return G as a LayeredDiGraph: itself, or a layered DiGraph read, or any NetworkX graph as one layer.

    Parameters
    ----------
    G : LayeredDiGraph or networkx graph
        A directed graph whose nodes carry ``layer`` or ``subset`` is read as layered; any other graph is one layer
        named ``"graph"`` with the connection ``("graph", "graph")``, and ``G.graph["directed"]`` tells which kind it
        came from.

    Returns
    -------
    LayeredDiGraph
        The same object if G is one already.

    Raises
    ------
    GraphSchemaError
        G is not a graph, or a layered graph lacks layers or weights.

    Examples
    --------
    >>> import networkx as nx
    >>> K = as_layered(nx.karate_club_graph())
    >>> K.hidden_layers, K.graph["directed"], as_layered(K) is K
    (('graph',), False, True)
    """
    return G if isinstance(G, LayeredDiGraph) else LayeredDiGraph.from_networkx(G)
