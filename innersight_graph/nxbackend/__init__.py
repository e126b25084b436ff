"""The NetworkX backend ``innersight``: NetworkX functions on arrays, and our detectors as NetworkX dispatchables.

``nx.pagerank(G, weight="activation", backend="innersight")`` reads a LayeredDiGraph's arrays without a copy;
``nx.community.leiden_communities(H, backend="innersight")`` works on releases where NetworkX has only the name;
``innersight_em_communities`` and its like are imported from here.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from innersight_graph.graph.layered import LayeredDiGraph
from innersight_graph.nxbackend import communities, measures
from innersight_graph.nxbackend.arrays import ArrayGraph
from innersight_graph.nxbackend.dispatchables import DETECTORS, DISPATCHABLES

__all__ = ["BackendInterface", *DISPATCHABLES]

globals().update(DISPATCHABLES)


class BackendInterface:
    """The object NetworkX's dispatcher talks to; one attribute per function this backend implements."""

    @staticmethod
    def convert_from_nx(graph: Any, **_: Any) -> Any:
        """Return a graph this backend computes on: a LayeredDiGraph as it is, any other with room for its matrices."""
        return graph if isinstance(graph, LayeredDiGraph) else ArrayGraph(graph)

    @staticmethod
    def convert_to_nx(obj: Any, **_: Any) -> Any:
        """Return a NetworkX graph for a graph of this backend, and anything else as it is."""
        return obj.graph if isinstance(obj, ArrayGraph) else obj

    @staticmethod
    def can_run(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool | str:
        """Return True, or why this call cannot run here."""
        if name == "is_negatively_weighted" and (args[1] if len(args) > 1 else kwargs.get("edge")) is not None:
            return "one edge is looked up faster in the graph itself"
        if name.endswith("reciprocity") and (not args[0].is_directed() or args[0].is_multigraph()):
            return "reciprocity is that of a directed graph without parallel edges"
        if name == "to_numpy_array":
            return _plain_numbers(*args, **kwargs)
        return True

    @staticmethod
    def should_run(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool | str:
        """Return True, or why converting a graph for this call would gain nothing."""
        graph = args[0] if args else kwargs.get("G")
        if isinstance(graph, (LayeredDiGraph, ArrayGraph)) or name.startswith(("leiden", "innersight")):
            return True
        if name.startswith("louvain"):
            small = graph is None or graph.number_of_edges() <= communities.SMALL_EDGES
            return "NetworkX's own is as fast on a graph of this size" if small else True
        return "making the matrix of a plain graph takes longer than the function itself"


def _plain_numbers(
    G: Any,
    nodelist: Any = None,
    dtype: Any = None,
    order: Any = None,
    multigraph_weight: Any = sum,
    weight: Any = "weight",
    nonedge: Any = 0.0,
) -> bool | str:
    """Return True if `to_numpy_array` is asked for one number per edge, else why not."""
    graph = G.graph if isinstance(G, ArrayGraph) else G
    if dtype is not None and np.dtype(dtype).fields is not None:
        return "an array of several attributes is made by NetworkX"
    if graph.is_multigraph() and multigraph_weight is not sum:
        return "only the sum of parallel edges is read from the matrix"
    return True


_FUNCTIONS = {name: getattr(module, name) for module in (communities, measures) for name in module.__all__}
for _name, _function in {**_FUNCTIONS, **DETECTORS}.items():
    setattr(BackendInterface, _name, staticmethod(_function))
