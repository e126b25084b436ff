"""`specialization_communities`: spectral clustering of squared correlations; tests of importance and coherence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from innersight_graph.detection._clustering import measured, number_of, spectral_search, stability
from innersight_graph.detection._layers import assemble, live_layers, resolve_layers, resolve_seed, seed_sequence
from innersight_graph.detection.spectral import spectral_communities
from innersight_graph.errors import InputError
from innersight_graph.graph.interchange import as_layered
from innersight_graph.graph.layered import LayeredDiGraph
from innersight_graph.partition import Partition

__all__ = ["SpecializationTest", "rank_p_value", "specialization_communities", "specialization_test"]

Floats = npt.NDArray[np.floating]
_SCOPES = ("layer", "graph")


def specialization_communities(
    G: Any,
    n_communities: int | Mapping[str, int] | None = None,
    *,
    features: Mapping[str, npt.ArrayLike] | None = None,
    scope: str = "layer",
    n_init: int = 25,
    layers: str | Iterable[str] | None = None,
    seed: int | None = None,
) -> Partition:
    """Cluster neurons by the squared Spearman correlation of their outputs, or by weights in windows of three layers.

    Parameters
    ----------
    G : LayeredDiGraph or NetworkX graph
        Its weights are used only without `features`.
    n_communities : int or mapping from layer to int, optional
        Communities of each layer, four by default; with ``scope="graph"`` clusters of the whole network.
    features : mapping from layer to array (n_neurons, n_samples), optional
        From ``activations(model, data, G)``. Published on outputs before the activation function; pass those for
        fidelity. Without it, absolute weights of each layer and its two neighbours are clustered and the layer's own
        labels kept.
    scope : {"layer", "graph"}
        ``"layer"`` clusters each layer (local specialization), ``"graph"`` all partitioned layers in one matrix.
    n_init : int
        K-means starts.
    layers : str, iterable of str, or None
        Layers to partition; None is every hidden layer.
    seed : int, optional
        Seed of k-means.

    Returns
    -------
    Partition
        Neurons of constant output are unassigned. ``stats[layer]["stability"]``: mean ARI with four shorter searches.

    Raises
    ------
    InputError
        If an option is unknown or a layer was not measured.

    References
    ----------
    Hod et al., Quantifying local specialization in deep neural networks, 2021, arXiv:2110.08058.

    Examples
    --------
    >>> import networkx as nx, numpy as np
    >>> rng = np.random.default_rng(0)
    >>> a, b = rng.standard_normal((2, 50))
    >>> features = {"graph": np.stack([a, -a, b, np.exp(b)])}
    >>> [sorted(c) for c in specialization_communities(nx.path_graph(4), 2, features=features, seed=0)]
    [[0, 1], [2, 3]]
    """
    if scope not in _SCOPES:
        raise InputError(f"scope={scope!r} came; 'layer' or 'graph' was expected.")
    graph = as_layered(G)
    entropy = resolve_seed(seed)
    live = {name: indices for name, indices, _ in live_layers(graph, layers)}
    params = {"n_communities": n_communities, "scope": scope, "features": features is not None, "n_init": n_init}
    labels: dict[str, npt.NDArray[np.intp]] = {}
    sure: dict[str, float] = {}
    if features is None:
        labels, sure = _by_windows(graph, n_communities, live, entropy, n_init)
    elif scope == "layer":
        for name, indices in live.items():
            affinity = squared_spearman(measured(features, graph, name, "features")[indices])
            k = number_of(n_communities, name, indices.size)
            labels[name], others = spectral_search(affinity, k, seed_sequence(entropy, name), n_init=n_init)
            sure[name] = stability(labels[name], others)
    else:
        if isinstance(n_communities, Mapping):
            raise InputError(
                "scope='graph' clusters the whole network: pass one number of communities, not one for each layer."
            )
        stacked = np.vstack([measured(features, graph, name, "features")[indices] for name, indices in live.items()])
        k = number_of(n_communities, "graph", stacked.shape[0])
        found, others = spectral_search(squared_spearman(stacked), k, seed_sequence(entropy, "graph"), n_init=n_init)
        cuts = np.cumsum([indices.size for indices in live.values()])[:-1]
        by_layer = [np.split(run, cuts) for run in (found, *others)]
        for name, (own, *rivals) in zip(live, zip(*by_layer, strict=True), strict=True):
            labels[name], sure[name] = own, stability(own, rivals)
    stats = {name: {"stability": value} for name, value in sure.items()}
    return assemble(
        graph, labels, method="specialization", params=params, seed=entropy, stats=stats, data={"features": features}
    )


def squared_spearman(outputs: Floats) -> Floats:
    """Squared rank correlations of the rows, zero diagonal, zero where a row is constant."""
    from scipy.stats import rankdata

    ranks = rankdata(outputs, axis=1)
    ranks = ranks - ranks.mean(axis=1, keepdims=True)
    size = np.linalg.norm(ranks, axis=1, keepdims=True)
    ranks = ranks / np.where(size > 0, size, 1.0)
    squared: Floats = (ranks @ ranks.T) ** 2
    np.fill_diagonal(squared, 0.0)
    return squared


def _by_windows(
    G: LayeredDiGraph,
    n_communities: int | Mapping[str, int] | None,
    live: Mapping[str, npt.NDArray[np.intp]],
    entropy: int,
    n_init: int,
) -> tuple[dict[str, npt.NDArray[np.intp]], dict[str, float]]:
    """Labels of each layer's own neurons in the clustering of its window, and their stability."""
    labels, sure = {}, {}
    for name in resolve_layers(G, list(live)):
        window = {name, *G.incoming(name), *G.outgoing(name)}
        inner = LayeredDiGraph.from_arrays(
            [layer for layer in G.layers if layer.name in window],
            {(s, t): G.matrix(s, t) for s, t in G.connections if name in (s, t) and G.kinds[s, t] == "value"},
            node_attributes={n: dict(values) for n, values in G.node_attributes.items() if n in window},
            nodes={n: G.nodes_of(n) for n in window},
            graph=dict(G.graph),
        )
        k = number_of(n_communities, name, live[name].size)
        found = spectral_communities(inner, k, gauge="none", n_init=n_init, layers=[name], seed=entropy)
        labels[name] = found.labels(name)[live[name]]
        sure[name] = found.stats[name]["stability"]
    return labels, sure


def rank_p_value(observed: float, null: npt.ArrayLike, *, larger: bool = True) -> float:
    """Return (1 + b) / (n + 1) with b null values at least as extreme as the observed one.

    Examples
    --------
    >>> rank_p_value(3.0, [0.0] * 19)
    0.05
    """
    values = np.asarray(null, dtype=float)
    beyond = values >= observed if larger else values <= observed
    return float((1 + beyond.sum()) / (values.size + 1))


class SpecializationTest(NamedTuple):
    """Importance and coherence of each community: rank p-values, effect sizes, and the p-values combined."""

    importance_p: Floats
    importance_effect: Floats
    coherence_p: Floats
    coherence_effect: Floats
    importance_combined: float
    coherence_combined: float


def specialization_test(drops: npt.ArrayLike, null_drops: npt.ArrayLike) -> SpecializationTest:
    """Test whether closing a community costs more, and more unevenly, than closing random groups of its size.

    Parameters
    ----------
    drops : array (n_communities, n_classes)
        Accuracy lost in each class on closing the community, clean minus closed.
    null_drops : array (n_communities, n_null, n_classes)
        The same for random groups of the same size in the same layer, 19 in the publication.

    Returns
    -------
    SpecializationTest
        Importance is the mean drop over classes; coherence the range over classes of the drop divided by its mean, 0
        where there is no drop to divide by. The effect is true / (true + mean of the random groups), 0.5 for none.

    Raises
    ------
    InputError
        If the shapes do not fit each other.

    References
    ----------
    Hod et al., Quantifying local specialization in deep neural networks, 2021, arXiv:2110.08058.

    Examples
    --------
    >>> import numpy as np
    >>> test = specialization_test([[0.0, 0.6]], np.full((1, 19, 2), 0.1))
    >>> test.importance_p, test.coherence_p
    (array([0.05]), array([0.05]))
    """
    true, null = np.asarray(drops, dtype=float), np.asarray(null_drops, dtype=float)
    if true.ndim != 2 or null.ndim != 3 or (null.shape[0], null.shape[2]) != true.shape or null.shape[1] < 1:
        raise InputError(
            f"drops has shape {true.shape} and null_drops {null.shape}; (n_communities, n_classes) and "
            "(n_communities, n_null, n_classes) "
            "were expected."
        )
    importance, importance_null = true.mean(axis=1), null.mean(axis=2)
    coherence, coherence_null = _relative_range(true), _relative_range(null)
    p_importance = np.array([rank_p_value(t, n) for t, n in zip(importance, importance_null, strict=True)])
    p_coherence = np.array([rank_p_value(t, n) for t, n in zip(coherence, coherence_null, strict=True)])
    return SpecializationTest(
        p_importance,
        _effect(importance, importance_null.mean(axis=1)),
        p_coherence,
        _effect(coherence, coherence_null.mean(axis=1)),
        _fisher(p_importance, null.shape[1]),
        _fisher(p_coherence, null.shape[1]),
    )


def _relative_range(drops: Floats) -> Floats:
    mean = drops.mean(axis=-1)
    ratio: Floats = np.divide(np.ptp(drops, axis=-1), mean, out=np.zeros_like(mean), where=mean > 1e-9)
    return ratio


def _effect(true: Floats, random: Floats) -> Floats:
    total = true + random
    usable = (true > 0) & (random > 0)
    return np.divide(true, total, out=np.where(true > 0, 1.0, 0.0), where=usable)


def _fisher(p: Floats, n_null: int) -> float:
    """Fisher's combination of rank p-values shifted to the middle of their steps."""
    from scipy.stats import combine_pvalues

    return float(combine_pvalues(p - 0.5 / (n_null + 1), method="fisher").pvalue)
