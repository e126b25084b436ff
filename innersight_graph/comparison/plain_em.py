"""The paper's EM and nothing more: random parameters, the best likelihood of several starts, no moves afterwards.

`em_communities(init="random")` improves its winner by leave-one-out moves, as every start of this package does; the
leaderboard also shows what the algorithm reaches without them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from innersight_graph.detection._clustering import number_of
from innersight_graph.detection._layers import assemble, live_layers, resolve_seed, seed_sequence
from innersight_graph.graph.interchange import as_layered
from innersight_graph.graph.profiles import binarize
from innersight_graph.partition import Partition

__all__ = ["plain_em"]

Floats = npt.NDArray[np.float64]


def plain_em(
    G: Any,
    n_communities: int | None = None,
    *,
    density: float = 0.5,
    gauge: str = "balanced",
    n_init: int = 10,
    max_iter: int = 200,
    tol: float = 1e-7,
    layers: str | Iterable[str] | None = None,
    seed: int | None = None,
) -> Partition:
    """Group each layer by a Bernoulli mixture fitted by EM from random parameters (paper, Eq. 2 to 8, Algorithm 1).

    Parameters
    ----------
    G : LayeredDiGraph or NetworkX graph
    n_communities : int, optional
        Communities of each layer; four by default.
    density, gauge
        As in `binarize`.
    n_init, max_iter, tol
        Starts (100 in the paper), most iterations, and the largest change of a responsibility at which to stop.
    layers : str, iterable of str, or None
        Layers to partition; None is every hidden layer.
    seed : int, optional
        Seed of the starts.

    Returns
    -------
    Partition
        ``stats[layer]["log_likelihood"]`` in nats.

    Examples
    --------
    >>> import networkx as nx
    >>> P = plain_em(nx.karate_club_graph(), 2, density=1.0, n_init=100, seed=0)
    >>> round(P.stats["graph"]["log_likelihood"], 3)
    -333.171
    """
    graph = as_layered(G)
    entropy = resolve_seed(seed)
    labels, stats = {}, {}
    for name, live, _ in live_layers(graph, layers):
        X = binarize(graph, name, density=density, gauge=gauge).matrix()[live].astype(float)
        r = number_of(n_communities, name, live.size)
        fits = [
            _fit(X, r, np.random.default_rng(seed_sequence(entropy, name, i)), max_iter, tol) for i in range(n_init)
        ]
        likelihood, Q = max(fits, key=lambda fit: fit[0])
        labels[name], stats[name] = Q.argmax(axis=1), {"log_likelihood": likelihood}
    params = {"n_communities": n_communities, "density": density, "gauge": gauge, "n_init": n_init}
    return assemble(graph, labels, method="plain_em", params=params, seed=entropy, stats=stats)


def _fit(X: Floats, r: int, rng: np.random.Generator, max_iter: int, tol: float) -> tuple[float, Floats]:
    """Return the log-likelihood and the responsibilities (n, r) of one start."""
    shares, tau = rng.dirichlet(np.ones(r)), rng.random((r, X.shape[1]))
    Q = np.zeros((X.shape[0], r))
    for _ in range(max_iter):
        low = np.clip(tau, 1e-9, 1 - 1e-9)
        joint = X @ np.log(low).T + (1 - X) @ np.log1p(-low).T + np.log(np.maximum(shares, 1e-300))
        top = joint.max(axis=1, keepdims=True)
        weight = np.exp(joint - top)
        likelihood = float((top[:, 0] + np.log(weight.sum(axis=1))).sum())
        before, Q = Q, weight / weight.sum(axis=1, keepdims=True)
        if float(np.abs(Q - before).max()) <= tol:
            break
        shares, tau = Q.mean(axis=0), (Q.T @ X) / np.maximum(Q.sum(axis=0)[:, None], 1e-300)
    return likelihood, Q
