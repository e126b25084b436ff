"""`random_communities`: the control every other partition must beat."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from innersight_graph.detection._clustering import number_of, stability
from innersight_graph.detection._layers import assemble, live_layers, resolve_seed, seed_sequence
from innersight_graph.graph.interchange import as_layered
from innersight_graph.partition import Partition

__all__ = ["random_communities"]


def random_communities(
    G: Any,
    n_communities: int | Mapping[str, int] | None = None,
    *,
    like: Partition | None = None,
    layers: str | Iterable[str] | None = None,
    seed: int | None = None,
) -> Partition:
    """Assign neurons to communities at random, of equal size or of the sizes of another partition.

    Parameters
    ----------
    G : LayeredDiGraph or NetworkX graph
        Only its neurons are used.
    n_communities : int or mapping from layer to int, optional
        Communities of equal size in each layer; four by default.
    like : Partition, optional
        Permute this partition's labels within each layer instead; neurons it left out stay out.
    layers : str, iterable of str, or None
        Layers to partition; None is every hidden layer.
    seed : int, optional
        Seed of the permutations.

    Returns
    -------
    Partition
        ``stats[layer]["stability"]``: ARI with another draw.

    Examples
    --------
    >>> import networkx as nx
    >>> [len(c) for c in random_communities(nx.karate_club_graph(), 3, seed=0)]
    [12, 11, 11]
    """
    graph = as_layered(G)
    entropy = resolve_seed(seed)
    labels, stats = {}, {}
    for name, live, _ in live_layers(graph, layers):
        rng = np.random.default_rng(seed_sequence(entropy, name))
        if like is None:
            labels[name] = rng.permutation(np.arange(live.size) % number_of(n_communities, name, live.size))
        else:
            labels[name] = like.labels(name)[live]
            assigned = labels[name] >= 0
            labels[name][assigned] = rng.permutation(labels[name][assigned])
        # What two draws have in common is what chance gives.
        stats[name] = {"stability": stability(labels[name], [rng.permutation(labels[name])])}
    params = {"n_communities": n_communities, "like": None if like is None else like.method}
    return assemble(graph, labels, method="random", params=params, seed=entropy, stats=stats)
