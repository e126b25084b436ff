"""`similarity_communities`: modularity maximisation on what two neurons share upstream or downstream."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from itertools import accumulate
from math import exp, log
from operator import mul
from typing import Any

import numpy as np
import numpy.typing as npt

from innersight_graph.detection._clustering import measured, stability
from innersight_graph.detection._layers import assemble, live_layers, resolve_seed, seed_sequence
from innersight_graph.graph.interchange import as_layered
from innersight_graph.partition import Partition

__all__ = ["similarity_communities"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
_CHOICE_ENTROPY = 0.15
_CHAINS = 2


def similarity_communities(
    G: Any,
    n_communities: int | Mapping[str, int] | None = None,
    *,
    similarities: Mapping[str, npt.ArrayLike] | None = None,
    normalize: bool = True,
    steps: int = 5000,
    layers: str | Iterable[str] | None = None,
    seed: int | None = None,
) -> Partition:
    """Maximise Newman–Girvan modularity of each layer's similarity matrix; the number of communities comes out of it.

    Partitions by upstream similarities (covariance, Jacobian to the input) and by downstream ones (Jacobian of the
    output, Hessian) hardly agree on the same network: make and report both.

    Parameters
    ----------
    G : LayeredDiGraph or NetworkX graph
        Only its neurons are used.
    n_communities : int or mapping from layer to int, optional
        At most this many communities; None leaves the number to the modularity.
    similarities : mapping from layer to array (n_neurons, n_neurons)
        From ``similarities(model, data, G, kind=...)``; absolute values are used, so signs are not.
    normalize : bool
        Divide by the square roots of both diagonal entries first.
    steps : int
        Monte Carlo moves after the spectral bisection, of each of two chains; the best partition seen is kept.
    layers : str, iterable of str, or None
        Layers to partition; None is every hidden layer.
    seed : int, optional
        Seed of the moves.

    Returns
    -------
    Partition
        ``stats[layer]`` holds ``modularity``, ``effective_communities`` (exp of the entropy of sizes) and
        ``stability`` (ARI between the two chains). Neurons without similarity to any other are unassigned.

    Raises
    ------
    InputError
        If a layer was not measured.

    References
    ----------
    Lange, Rolnick and Kording, Clustering units in neural networks: upstream vs downstream information, 2022,
    arXiv:2203.11815.

    Examples
    --------
    >>> import networkx as nx, numpy as np
    >>> S = {"graph": np.kron(np.eye(2), np.ones((2, 2)))}
    >>> [sorted(c) for c in similarity_communities(nx.path_graph(4), similarities=S, seed=0)]
    [[0, 1], [2, 3]]
    """
    graph = as_layered(G)
    entropy = resolve_seed(seed)
    labels: dict[str, Ints] = {}
    stats: dict[str, dict[str, Any]] = {}
    for name, live, _ in live_layers(graph, layers):
        S = affinity(measured(similarities, graph, name, "similarities", square=True)[np.ix_(live, live)], normalize)
        wanted = n_communities.get(name) if isinstance(n_communities, Mapping) else n_communities
        connected = np.flatnonzero(S.sum(axis=1) > 0)
        found = np.full(live.size, -1, dtype=np.intp)
        if connected.size:
            inner = S[np.ix_(connected, connected)]
            rng = np.random.default_rng(seed_sequence(entropy, name))
            start = _bisect(inner, wanted)
            runs = [_anneal(inner, start, steps, wanted, rng) for _ in range(_CHAINS)]
            runs.sort(key=lambda run: -modularity(inner, run))
            found[connected] = runs[0]
            stats[name] = {**_summary(inner, runs[0]), "stability": stability(runs[0], runs[1:])}
        labels[name] = found
    params = {"n_communities": n_communities, "normalize": normalize, "steps": steps}
    seen = {"similarities": similarities}
    return assemble(graph, labels, method="similarity", params=params, seed=entropy, stats=stats, data=seen)


def affinity(similarity: npt.ArrayLike, normalize: bool = True) -> Floats:
    """Return |S| with zero diagonal, symmetrised; with `normalize` over √(S_ii S_jj), 0 where that is 0."""
    S = np.asarray(similarity, dtype=float)
    S = (S + S.T) / 2
    if normalize:
        root = np.sqrt(np.maximum(np.diag(S), 0.0))
        S = np.divide(S, np.outer(root, root), out=np.zeros_like(S), where=np.outer(root, root) > 0)
    S = np.abs(S)
    np.fill_diagonal(S, 0.0)
    result: Floats = S
    return result


def modularity(S: Floats, labels: Ints) -> float:
    """Newman–Girvan modularity of labels on a symmetric non-negative matrix."""
    Z = np.eye(int(labels.max()) + 1)[labels]
    E = Z.T @ S @ Z / S.sum()
    return float(np.trace(E) - (E.sum(axis=1) ** 2).sum())


def _summary(S: Floats, labels: Ints) -> dict[str, Any]:
    sizes = np.bincount(labels) / labels.size
    sizes = sizes[sizes > 0]
    return {
        "modularity": modularity(S, labels),
        "effective_communities": float(np.exp(-(sizes * np.log(sizes)).sum())),
    }


def _bisect(S: Floats, most: int | None) -> Ints:
    """Split communities by the sign of the leading eigenvector of their modularity matrix while modularity rises."""
    degree = S.sum(axis=1)
    B = S - np.outer(degree, degree) / S.sum()
    labels = np.zeros(S.shape[0], dtype=np.intp)
    queue = [0]
    while queue and (most is None or labels.max() + 1 < most):
        community = queue.pop(0)
        members = np.flatnonzero(labels == community)
        if members.size < 2:
            continue
        inner = B[np.ix_(members, members)]
        inner = inner - np.diag(inner.sum(axis=1))
        # The largest eigenvalue, not the largest in size: a negative one would split against the communities.
        vector = np.linalg.eigh(inner)[1][:, -1]
        side = np.where(vector > 0, 1.0, -1.0)
        if float(side @ inner @ side) > 1e-10 * S.sum() and 0 < (side > 0).sum() < members.size:
            new = int(labels.max()) + 1
            labels[members[side > 0]] = new
            queue += [community, new]
    return labels


def _anneal(S: Floats, labels: Ints, steps: int, most: int | None, rng: np.random.Generator) -> Ints:
    """Move random units to communities drawn by their modularity, at a temperature of 0.15 nats of choice.

    The few communities of one move are numbers of Python: calls of NumPy would cost more than the arithmetic.
    """
    n = S.shape[0]
    labels = np.unique(labels, return_inverse=True)[1].astype(np.intp)
    capacity = n if most is None else min(most, n)
    strengths, total = S.sum(axis=1), float(S.sum())
    inside = S @ np.eye(capacity)[labels]
    volume = np.bincount(labels, weights=strengths, minlength=capacity).tolist()
    sizes = np.bincount(labels, minlength=capacity).tolist()
    degree, now = strengths.tolist(), labels.tolist()
    best, gained, record = labels, 0.0, 0.0
    units, draws = rng.integers(n, size=steps), rng.random(steps)
    for unit, draw in zip(units.tolist(), draws.tolist(), strict=True):
        own, weight, pull = now[unit], degree[unit], inside[unit].tolist()
        volume[own] -= weight
        sizes[own] -= 1
        options = [c for c in range(capacity) if sizes[c]]
        if len(options) < capacity:
            options.append(sizes.index(0))
        gains = [pull[c] - weight * volume[c] / total for c in options]
        choice = _draw(gains, draw)
        target = options[choice]
        gained += 2 * (gains[choice] - pull[own] + weight * volume[own] / total) / total
        volume[target] += weight
        sizes[target] += 1
        if target != own:
            inside[:, own] -= S[:, unit]
            inside[:, target] += S[:, unit]
            now[unit] = target
        if gained > record + 1e-12:
            record, best = gained, np.array(now, dtype=np.intp)
    return best


def _draw(gains: list[float], draw: float) -> int:
    """Index drawn from a softmax whose temperature gives the choice an entropy of 0.15 nats, by bisection."""
    top = max(gains)
    spread = top - min(gains)
    if spread <= 0:
        return int(draw * len(gains))
    z = [(gain - top) / spread for gain in gains]
    low, high = -6.0, 6.0
    for _ in range(8):
        middle = (low + high) / 2
        sharpness = exp(middle)
        p = [exp(sharpness * value) for value in z]
        norm = sum(p)
        entropy = log(norm) - sharpness * sum(map(mul, p, z)) / norm
        low, high = (middle, high) if entropy > _CHOICE_ENTROPY else (low, middle)
    return min(bisect_left(list(accumulate(p)), draw * norm), len(p) - 1)
