"""Changes of a network that change nothing it computes: an order of the neurons, ReLU rescaling, turned signs."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from innersight_graph.graph.interchange import as_layered
from innersight_graph.graph.layered import LayeredDiGraph
from innersight_graph.partition import Partition

__all__ = ["equivalent_graph", "translate"]


def equivalent_graph(
    G: Any, *, permute: bool = True, rescale: float = 8.0, seed: int | None = None
) -> tuple[LayeredDiGraph, dict[str, npt.NDArray[np.intp]]]:
    """Return the graph of a network that computes the same function: hidden neurons permuted, rescaled and turned.

    Multiplying what goes into a ReLU neuron by a > 0 and dividing what leaves it by a changes nothing the network
    computes, and every thresholded weight; so does turning the sign of both for a tanh or linear neuron. A method whose
    answer moves describes the numbers, not the network.

    Parameters
    ----------
    G : LayeredDiGraph or NetworkX graph
        Left unchanged. Its weights are taken as those between ReLU neurons, in layers marked `odd` linear ones.
    permute : bool
        Shuffle the neurons of every hidden layer.
    rescale : float
        Factors are powers of two, log-uniform between 1/rescale and rescale, so that they are exact; 1 rescales
        nothing. Half of the neurons of layers marked `odd` change their sign with it.
    seed : int, optional
        Seed of all.

    Returns
    -------
    H : LayeredDiGraph
        Nodes named by their new place.
    order : dict from layer to array of int
        ``order[layer][i]`` is the old index of new neuron i; see `translate`.

    Examples
    --------
    >>> from innersight_graph.planted import planted_layers
    >>> G, truth = planted_layers(2, widths=(8, 6, 8), snr=0.5, density=0.2, seed=0)
    >>> H, order = equivalent_graph(G, seed=0)
    >>> translate(truth, H, order).labels("hidden1").shape
    (6,)
    """
    graph = as_layered(G)
    rng = np.random.default_rng(seed)
    top = int(np.floor(np.log2(rescale)))
    order: dict[str, npt.NDArray[np.intp]] = {}
    factor: dict[str, npt.NDArray[np.float32]] = {}
    for layer in graph.layers:
        hidden = layer.name in graph.hidden_layers
        order[layer.name] = rng.permutation(layer.width) if hidden and permute else np.arange(layer.width)
        exponents = rng.integers(-top, top + 1, layer.width) if hidden else np.zeros(layer.width)
        factor[layer.name] = (2.0**exponents).astype(np.float32)
        if layer.odd and hidden and rescale != 1:
            factor[layer.name] *= rng.choice(np.array([-1, 1], dtype=np.float32), layer.width)
    connections = {}
    for s, t in graph.connections:
        W = graph.matrix(s, t)
        full = np.array(W.toarray() if hasattr(W, "toarray") else W, dtype=np.float32)
        scaled = full / factor[s][:, None] * factor[t]
        connections[s, t] = scaled[np.ix_(order[s], order[t])]
    attributes = {
        name: {key: np.asarray(values)[order[name]] for key, values in arrays.items()}
        for name, arrays in graph.node_attributes.items()
    }
    H = LayeredDiGraph.from_arrays(
        graph.layers, connections, kinds=dict(graph.kinds), node_attributes=attributes, graph=dict(graph.graph)
    )
    return H, order


def translate(P: Partition, H: Any, order: dict[str, npt.NDArray[np.intp]]) -> Partition:
    """Return a partition of the original graph as one of the graph that `equivalent_graph` made of it.

    Parameters
    ----------
    P : Partition
        Of the original graph.
    H, order
        As returned by `equivalent_graph`.

    Returns
    -------
    Partition
    """
    labels = {name: P.labels(name)[order[name]] for name in P.layers}
    return Partition.from_labels(H, labels, method=P.method, params=dict(P.params), seed=P.seed)
