"""Clustering steps that several detectors share: how many, k-means, and the normalised spectral embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from innersight_graph.detection._layers import check_n_communities
from innersight_graph.errors import InputError
from innersight_graph.graph.layered import LayeredDiGraph

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.intp]
_DENSE_LIMIT = 1500
_MORE_SEARCHES = 4
DEFAULT_NUMBER = 4


def number_of(n_communities: int | Mapping[str, int] | None, layer: str, width: int) -> int:
    """Return how many communities a layer gets: the number given, a layer's own, or by default four where they fit."""
    wanted = n_communities.get(layer) if isinstance(n_communities, Mapping) else n_communities
    if wanted is None:
        return max(1, min(DEFAULT_NUMBER, width))
    return check_n_communities(wanted, max(width, 1), layer)[0]


def dense(W: Any) -> npt.NDArray[np.float64]:
    """Return a connection's weights as a new dense float64 array."""
    return np.array(W.toarray() if hasattr(W, "toarray") else W, dtype=np.float64)


def kmeans(
    points: Floats,
    n_clusters: int,
    seed: np.random.SeedSequence,
    *,
    n_init: int = 25,
    weight: Floats | None = None,
) -> Ints:
    """K-means labels; fewer clusters than asked for where there are fewer distinct points."""
    return kmeans_fit(points, n_clusters, seed, n_init=n_init, weight=weight)[0]


def kmeans_fit(
    points: Floats,
    n_clusters: int,
    seed: np.random.SeedSequence,
    *,
    n_init: int = 25,
    weight: Floats | None = None,
) -> tuple[Ints, float]:
    """K-means labels and the sum of squared distances to the centres."""
    import warnings

    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    n_clusters = min(n_clusters, points.shape[0])
    if n_clusters <= 1:
        return np.zeros(points.shape[0], dtype=np.intp), float(((points - points.mean(axis=0)) ** 2).sum())
    model = KMeans(n_clusters, n_init=n_init, random_state=int(seed.generate_state(1)[0]))
    with warnings.catch_warnings():
        # Fewer distinct points than clusters, copies of one neuron say, is an answer here and no mistake.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(points, sample_weight=weight)
    labels: Ints = np.unique(model.labels_, return_inverse=True)[1].astype(np.intp)
    return labels, float(model.inertia_)


def stability(best: Ints, others: Sequence[Ints]) -> float:
    """Mean adjusted Rand index between a partition and those of other searches; nodes left out (-1) do not count."""
    from sklearn.metrics import adjusted_rand_score

    values = []
    for other in others:
        both = (best >= 0) & (other >= 0)
        values.append(adjusted_rand_score(best[both], other[both]) if both.any() else 1.0)
    return float(np.mean(values))


def kmeans_search(
    points: Floats, n_clusters: int, seed: np.random.SeedSequence, *, n_init: int = 25
) -> tuple[Ints, float]:
    """Return the labels of `kmeans` and their stability: agreement with four shorter searches."""
    best = kmeans(points, n_clusters, seed, n_init=n_init)
    others = [kmeans(points, n_clusters, s, n_init=fewer_starts(n_init)) for s in seed.spawn(_MORE_SEARCHES)]
    return best, stability(best, others)


def fewer_starts(n_init: int) -> int:
    """Return how many starts one of the searches behind a stability gets: all of them cost as much as the one kept."""
    return max(1, n_init // (_MORE_SEARCHES + 1))


def spectral_embedding(affinity: Any, n_vectors: int, seed: np.random.SeedSequence) -> Floats:
    """Leading eigenvectors of D^-½ A D^-½ divided by √D: (n, n_vectors).

    Parameters
    ----------
    affinity : ndarray or sparse array (n, n)
        Symmetric, non-negative, no empty row.
    n_vectors
        Dimensions.
    seed
        Of the starting vector where the matrix is large enough for an iterative solver.
    """
    from scipy import sparse
    from scipy.linalg import eigh
    from scipy.sparse.linalg import eigsh

    n = affinity.shape[0]
    root = np.sqrt(np.asarray(affinity.sum(axis=1), dtype=float).ravel())
    scale = sparse.diags_array(1 / root)
    if n <= _DENSE_LIMIT or n_vectors >= n - 1:
        full = affinity.toarray() if sparse.issparse(affinity) else np.asarray(affinity, dtype=float)
        _, vectors = eigh(full / np.outer(root, root), subset_by_index=[n - n_vectors, n - 1])
    else:
        start = np.random.default_rng(seed).standard_normal(n)
        normalised = scale @ sparse.csr_array(affinity) @ scale
        values, vectors = eigsh(normalised.astype(float), k=n_vectors, which="LA", v0=start)
        vectors = vectors[:, np.argsort(values)]
    embedding: Floats = vectors[:, ::-1] / root[:, None]
    return embedding


def spectral_labels(affinity: Any, n_clusters: int, seed: np.random.SeedSequence, *, n_init: int = 25) -> Ints:
    """Normalised spectral clustering; nodes without any affinity are labelled -1."""
    connected, points = _connected_points(affinity, n_clusters, seed)
    return _labels_of(connected, points, affinity.shape[0], seed, n_init)


def spectral_search(
    affinity: Any, n_clusters: int, seed: np.random.SeedSequence, *, n_init: int = 25
) -> tuple[Ints, list[Ints]]:
    """Return the labels of `spectral_labels`, and those of four shorter searches that tell how sure they are."""
    connected, points = _connected_points(affinity, n_clusters, seed)
    n = affinity.shape[0]
    others = [_labels_of(connected, points, n, s, fewer_starts(n_init)) for s in seed.spawn(_MORE_SEARCHES)]
    return _labels_of(connected, points, n, seed, n_init), others


def _connected_points(affinity: Any, n_clusters: int, seed: np.random.SeedSequence) -> tuple[Ints, Floats]:
    """Nodes with any affinity, and their spectral embedding with as many dimensions as clusters."""
    connected = np.flatnonzero(np.asarray(affinity.sum(axis=1)).ravel() > 0)
    if connected.size == 0:
        return connected, np.zeros((0, 1))
    inner = affinity[connected][:, connected]
    return connected, spectral_embedding(inner, min(n_clusters, connected.size), seed)


def _labels_of(connected: Ints, points: Floats, n: int, seed: np.random.SeedSequence, n_init: int) -> Ints:
    labels = np.full(n, -1, dtype=np.intp)
    if connected.size:
        labels[connected] = kmeans(points, points.shape[1], seed, n_init=n_init)
    return labels


def measured(
    arrays: Mapping[str, npt.ArrayLike] | None, G: LayeredDiGraph, layer: str, what: str, square: bool = False
) -> Floats:
    """Return what was measured of a layer's neurons, one row each, or say how to measure it.

    Raises
    ------
    InputError
        If nothing was given for the layer, or the shape does not fit it.
    """
    maker = "similarities(model, data, G, kind=...)" if square else "activations(model, data, G)"
    if arrays is None or layer not in arrays:
        given = "nothing" if arrays is None else f"the layers {', '.join(map(repr, arrays))}"
        raise InputError(
            f"This method needs {what} measured on the model for layer {layer!r}; {given} came. "
            f"Make them with {what} = innersight_graph.{maker} and pass {what}={what}."
        )
    values = np.asarray(arrays[layer], dtype=float)
    width = G.layer(layer).width
    if values.ndim != 2 or values.shape[0] != width or (square and values.shape[1] != width):
        expected = f"({width}, {width})" if square else f"({width}, number of samples)"
        raise InputError(f"{what}[{layer!r}] has shape {values.shape}; {expected} was expected, one row per neuron.")
    if not np.isfinite(values).all():
        raise InputError(f"{what}[{layer!r}] holds NaN or infinite values. Measure it again on finite outputs.")
    return values
