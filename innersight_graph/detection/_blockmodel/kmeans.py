"""Weighted k-means, all starts at once: on a few hundred points a call costs what one start does elsewhere."""

from __future__ import annotations

import numpy as np

from innersight_graph.detection._blockmodel.expectation import Floats
from innersight_graph.detection._blockmodel.variational import Ints
from innersight_graph.detection._clustering import kmeans_fit

_MANY = 3000
_ROUNDS = 100


def best_kmeans(
    points: Floats, n_clusters: int, seed: np.random.SeedSequence, *, n_init: int, weight: Floats | None = None
) -> tuple[Ints, float]:
    """Return the labels of the best of `n_init` starts and their weighted sum of squared distances.

    Parameters
    ----------
    points, weight
        Points (n, d) and their weights (n,), one each by default.
    n_clusters
        Fewer are returned where there are fewer distinct points.
    seed, n_init
        Greedy k-means++ starts.

    Notes
    -----
    Costs n · d · n_clusters · n_init operations a round. Beyond 3,000 points the starts run one after the other.
    """
    n_clusters = min(n_clusters, points.shape[0])
    if n_clusters <= 1 or points.shape[0] > _MANY or points.shape[1] == 0:
        return kmeans_fit(points, n_clusters, seed, n_init=n_init, weight=weight)
    X = np.asarray(points, dtype=float)
    X = X - X.mean(axis=0)
    w = np.ones(len(X)) if weight is None else np.asarray(weight, dtype=float)
    labels = _rounds(X, w, _starts(X, w, n_clusters, n_init, np.random.default_rng(seed)))
    costs = [_cost(X, w, one, n_clusters) for one in labels]
    best = int(np.argmin(costs))
    return np.unique(labels[best], return_inverse=True)[1].astype(np.intp), costs[best]


def _starts(X: Floats, w: Floats, n_clusters: int, n_init: int, rng: np.random.Generator) -> Floats:
    """Greedy k-means++ centres of every start, (n_init, n_clusters, d): of a few candidates the one that helps most."""
    trials = 2 + int(np.log(n_clusters))
    squares = (X**2).sum(axis=1)
    starts = np.arange(n_init)
    chosen = np.empty((n_init, n_clusters), dtype=np.intp)
    chosen[:, 0] = rng.choice(len(X), size=n_init, p=w / w.sum())
    near = _distances(X, squares, chosen[:, 0])
    for k in range(1, n_clusters):
        mass = np.cumsum(near * w, axis=1)
        draws = rng.random((n_init, trials)) * mass[:, -1:]
        candidates = np.minimum((mass[:, None, :] < draws[:, :, None]).sum(axis=2), len(X) - 1)
        after = np.minimum(near[:, None, :], _distances(X, squares, candidates.ravel()).reshape(n_init, trials, -1))
        pick = (after @ w).argmin(axis=1)
        chosen[:, k], near = candidates[starts, pick], after[starts, pick]
    centres: Floats = X[chosen]
    return centres


def _distances(X: Floats, squares: Floats, which: Ints) -> Floats:
    """Squared distances of all points from the points named, (n_named, n)."""
    result: Floats = np.maximum(squares[None, :] - 2 * (X[which] @ X.T) + squares[which][:, None], 0.0)
    return result


def _rounds(X: Floats, w: Floats, centres: Floats) -> Ints:
    """Assign and average until no start changes; labels (n_init, n). An emptied cluster keeps its centre."""
    n_init, n_clusters, d = centres.shape
    weighted = np.column_stack([X * w[:, None], w])
    numbers = np.arange(n_clusters)
    labels = np.full((n_init, len(X)), -1)
    for _ in range(_ROUNDS):
        distance = (centres**2).sum(axis=2)[:, None, :] - 2 * np.matmul(X, centres.transpose(0, 2, 1))
        before, labels = labels, distance.argmin(axis=2)
        if np.array_equal(before, labels):
            break
        sums = np.matmul((labels[:, None, :] == numbers[:, None]).astype(float), weighted)
        mass = sums[:, :, d:]
        centres = np.where(mass > 0, sums[:, :, :d] / np.maximum(mass, 1e-300), centres)
    return labels


def _cost(X: Floats, w: Floats, labels: Ints, n_clusters: int) -> float:
    mass = np.maximum(np.bincount(labels, weights=w, minlength=n_clusters), 1e-300)
    sums = np.stack([np.bincount(labels, weights=w * x, minlength=n_clusters) for x in X.T], axis=1)
    return float((w[:, None] * (X - (sums / mass[:, None])[labels]) ** 2).sum())
