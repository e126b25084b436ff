"""Streams: layers whose outputs are added before anything reads them, as in a residual network.

A reader of the sum has one weight for each coordinate, whichever layer wrote there. The graph shows that weight on the
edge from every writer; who weighs evidence or rescales neurons must count it once.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from scipy import sparse

from innersight_graph.graph.layered import LayeredDiGraph

__all__ = ["distinct_sources", "repeated_readings", "streams"]


def distinct_sources(G: LayeredDiGraph, layer: str) -> tuple[str, ...]:
    """Return the layers that feed a layer, only the first of those that it reads through the same weights.

    Parameters
    ----------
    G : LayeredDiGraph
    layer : str

    Returns
    -------
    tuple of str
        In the order of ``G.incoming(layer)``.

    Notes
    -----
    Weights are the same where two connections are equal, number for number, and not constant. Comparing costs one
    look at each array, once a graph; arrays that `neuron_graph` made share their memory and cost nothing.

    Examples
    --------
    >>> import numpy as np
    >>> from innersight_graph.graph.layered import Layer
    >>> layers = [Layer("a", 0, 2, "input"), Layer("b", 1, 2, "linear"), Layer("c", 2, 2, "linear")]
    >>> read = np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> G = LayeredDiGraph.from_arrays(layers, {("a", "b"): -read, ("a", "c"): read, ("b", "c"): read})
    >>> distinct_sources(G, "c")
    ('a',)
    """
    repeated = repeated_readings(G)
    return tuple(source for source in G.incoming(layer) if (source, layer) not in repeated)


def streams(G: LayeredDiGraph) -> Mapping[str, str]:
    """Return for every layer the first layer that writes into the same stream; itself, where it writes into none.

    Parameters
    ----------
    G : LayeredDiGraph

    Returns
    -------
    mapping from layer name to layer name
        Layers with one value have equally many neurons, and neurons of equal index write into the same coordinate.
    """
    first = {layer.name: layer.name for layer in G.layers}
    order = {name: place for place, name in enumerate(first)}
    for (source, _), earlier in repeated_readings(G).items():
        a, b = sorted((first[source], first[earlier]), key=order.__getitem__)
        first = {name: a if root == b else root for name, root in first.items()}
    return first


def repeated_readings(G: LayeredDiGraph) -> Mapping[tuple[str, str], str]:
    """Return the connections equal to an earlier one into the same layer, with that one's source.

    Parameters
    ----------
    G : LayeredDiGraph

    Returns
    -------
    mapping from (source, target) to layer name
    """
    found: Mapping[tuple[str, str], str] = G.remember("repeated", lambda: MappingProxyType(_compared(G)))
    return found


def _compared(G: LayeredDiGraph) -> dict[tuple[str, str], str]:
    repeated: dict[tuple[str, str], str] = {}
    for layer in G.layers:
        distinct: list[str] = []
        for source in G.incoming(layer.name):
            weights = G.matrix(source, layer.name)
            same = next((name for name in distinct if _same(G.matrix(name, layer.name), weights)), None)
            if same is None:
                distinct.append(source)
            else:
                repeated[source, layer.name] = same
    return repeated


def _same(a: Any, b: Any) -> bool:
    """Tell whether two matrices are equal, and could not well be equal by chance: a constant one could."""
    if a.shape != b.shape or sparse.issparse(a) != sparse.issparse(b):
        return False
    if sparse.issparse(a):
        return all(_equal(getattr(a, part), getattr(b, part)) for part in ("indptr", "data", "indices")) and _varied(
            a.data
        )
    return _equal(a, b) and _varied(a)


def _equal(a: Any, b: Any) -> bool:
    if a.__array_interface__["data"] == b.__array_interface__["data"] and a.strides == b.strides:
        return True
    # Different matrices differ in their first row already.
    return a.shape == b.shape and np.array_equal(a[:1], b[:1]) and np.array_equal(a, b)


def _varied(values: Any) -> bool:
    return bool(values.size and np.abs(values).max() > np.abs(values).min())
