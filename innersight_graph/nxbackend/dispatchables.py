"""Our detectors as functions NetworkX dispatches: ``innersight_em_communities`` and so on, other backends may offer."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Hashable
from typing import Any

import networkx as nx

from innersight_graph._nxinfo import detector_names
from innersight_graph.nxbackend.arrays import ArrayGraph

__all__ = ["DETECTORS", "DISPATCHABLES"]

Node = Hashable


def _dispatchable(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return NetworkX's decorator for functions other packages may implement, or nothing where it is gone.

    Its name has an underscore: NetworkX promises it to nobody, so this is the one place that uses it.
    """
    try:
        decorator = nx._dispatchable
    except AttributeError:
        return lambda function: function
    keep = {"preserve_edge_attrs": True, "preserve_node_attrs": True, "preserve_graph_attrs": True}
    found: Callable[[Callable[..., Any]], Callable[..., Any]] = decorator(name=name, **keep)
    return found


def _detector(method: str) -> Callable[..., Any]:
    """Return a detector as a pure function from a graph to a list of sets, without a ``backend`` of its own."""
    detect = getattr(importlib.import_module(f"innersight_graph.detection.{method}"), f"{method}_communities")
    communities: Any = _pure(detect)
    signature = inspect.signature(detect)
    own = [parameter for name, parameter in signature.parameters.items() if name != "backend"]
    communities.__signature__ = signature.replace(parameters=own)
    # NetworkX compiles the decorated function with these, not with the defaults of the signature.
    communities.__defaults__ = detect.__defaults__
    communities.__kwdefaults__ = {k: v for k, v in (detect.__kwdefaults__ or {}).items() if k != "backend"}
    communities.__name__ = communities.__qualname__ = f"innersight_{method}_communities"
    # Where users import it from, which is also where pickle looks.
    communities.__module__ = "innersight_graph.nxbackend"
    communities.__doc__ = _documentation(method, detect)
    found: Callable[..., Any] = communities
    return found


def _documentation(method: str, detect: Callable[..., Any]) -> str:
    summary = (inspect.getdoc(detect) or "").split("\n\n")[0]
    return f"""{summary}

    `innersight_graph.{method}_communities` as a function NetworkX dispatches.

    Parameters
    ----------
    G : NetworkX graph
    **options
        Those of `innersight_graph.{method}_communities` but ``backend``, which names the NetworkX backend here.

    Returns
    -------
    list of set
        Disjoint sets of nodes, those of one layer each.
    """


def _pure(detect: Callable[..., Any]) -> Callable[..., list[set[Node]]]:
    @functools.wraps(detect)
    def communities(G: Any, *args: Any, **options: Any) -> list[set[Node]]:
        graph = G.graph if isinstance(G, ArrayGraph) else G
        return [set(community) for community in detect(graph, *args, **options)]

    return communities


# Dispatch name -> the plain function, and -> the same function as NetworkX dispatches it.
DETECTORS = {f"innersight_{method}_communities": _detector(method) for method in detector_names()}
DISPATCHABLES = {name: _dispatchable(name)(function) for name, function in DETECTORS.items()}
