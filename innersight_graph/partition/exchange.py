"""A partition in the forms other libraries use."""

from __future__ import annotations

from typing import Any

from innersight_graph.errors import MissingExtraError
from innersight_graph.graph.interchange import as_layered
from innersight_graph.partition.record import Partition

__all__ = ["to_cdlib"]


def to_cdlib(P: Partition, G: Any = None) -> Any:
    """Return a partition as a `cdlib.NodeClustering`, with its provenance, ready for cdlib's measures and plots.

    Parameters
    ----------
    P : Partition
    G : LayeredDiGraph or networkx graph, optional
        Its graph; a plain copy goes along, as cdlib's fitness functions need one (up to a million edges).

    Returns
    -------
    cdlib.NodeClustering

    Raises
    ------
    MissingExtraError
        cdlib is not installed.
    InputError
        P is a partition of another graph.
    """
    try:
        from cdlib import NodeClustering
    except ImportError:
        raise MissingExtraError("cdlib", "bench", "to_cdlib") from None
    graph = None
    if G is not None:
        P.check(G)
        graph = as_layered(G).to_networkx()
    return NodeClustering(
        [list(_ordered(P, i)) for i in range(len(P))],
        graph=graph,
        method_name=P.method,
        method_parameters=dict(P.params),
        overlap=False,
    )


def _ordered(P: Partition, community: int) -> list[Any]:
    """Return a community's nodes in the graph's order, so that sets never decide it."""
    return [node for node in P.nodes[P.layer_of(community)] if node in P[community]]
