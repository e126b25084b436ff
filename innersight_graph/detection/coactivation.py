"""`coactivation_communities`: k-means on what the neurons do, the control for methods that only see weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from innersight_graph.detection._clustering import kmeans_search, measured, number_of
from innersight_graph.detection._layers import assemble, live_layers, resolve_seed, seed_sequence
from innersight_graph.graph.interchange import as_layered
from innersight_graph.partition import Partition

__all__ = ["coactivation_communities"]


def coactivation_communities(
    G: Any,
    n_communities: int | Mapping[str, int] | None = None,
    *,
    features: Mapping[str, npt.ArrayLike] | None = None,
    n_init: int = 25,
    layers: str | Iterable[str] | None = None,
    seed: int | None = None,
) -> Partition:
    """Group neurons whose outputs rise and fall together: k-means on standardised activations.

    Parameters
    ----------
    G : LayeredDiGraph or NetworkX graph
        Only its neurons are used.
    n_communities : int or mapping from layer to int, optional
        Communities of each layer; four by default.
    features : mapping from layer to array (n_neurons, n_samples)
        From ``activations(model, data, G)``.
    n_init : int
        K-means starts.
    layers : str, iterable of str, or None
        Layers to partition; None is every hidden layer.
    seed : int, optional
        Seed of k-means.

    Returns
    -------
    Partition
        ``stats[layer]["stability"]``: mean ARI with four shorter searches.

    Raises
    ------
    InputError
        If a layer was not measured.

    Examples
    --------
    >>> import networkx as nx, numpy as np
    >>> wave = np.sin(np.arange(20))
    >>> features = {"graph": np.stack([wave, 2 * wave, -wave, -3 * wave])}
    >>> [sorted(c) for c in coactivation_communities(nx.path_graph(4), 2, features=features, seed=0)]
    [[0, 1], [2, 3]]
    """
    graph = as_layered(G)
    entropy = resolve_seed(seed)
    labels, stats = {}, {}
    for name, live, _ in live_layers(graph, layers):
        outputs = measured(features, graph, name, "features")[live]
        outputs = outputs - outputs.mean(axis=1, keepdims=True)
        size = np.linalg.norm(outputs, axis=1, keepdims=True)
        outputs = outputs / np.where(size > 0, size, 1.0)
        k = number_of(n_communities, name, live.size)
        labels[name], sure = kmeans_search(outputs, k, seed_sequence(entropy, name), n_init=n_init)
        stats[name] = {"stability": sure}
    params = {"n_communities": n_communities, "n_init": n_init}
    return assemble(
        graph, labels, method="coactivation", params=params, seed=entropy, stats=stats, data={"features": features}
    )
