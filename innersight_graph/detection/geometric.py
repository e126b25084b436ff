"""`geometric_communities`: place the neurons so that strong connections are short, then cut each layer by position."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from innersight_graph.detection._clustering import dense, number_of, spectral_embedding
from innersight_graph.detection._layers import assemble, live_layers, resolve_layers, resolve_seed, seed_sequence
from innersight_graph.errors import InputError
from innersight_graph.graph.gauge import balance
from innersight_graph.graph.interchange import as_layered
from innersight_graph.partition import Partition

__all__ = ["connection_cost", "geometric_communities"]

Floats = npt.NDArray[np.float64]
Pair = tuple[str, str]
_ASSIGNMENT_LIMIT = 1500


def connection_cost(
    weights: Mapping[Pair, Floats], positions: Mapping[str, Floats], *, length: float = 2.0, gap: float = 0.5
) -> float:
    """Return the cost of brain-inspired modular training.

    The mean of |w| · (length · distance + gap) over each pair of layers, summed over pairs.

    Parameters
    ----------
    weights : mapping from (source, target) to array (n_source, n_target)
    positions : mapping from layer to array (n_neurons,)
        Coordinates in [0, 1].
    length, gap
        Weight of the distance within the plane of a layer, and the distance between layers.

    Returns
    -------
    float

    Examples
    --------
    >>> import numpy as np
    >>> W = {("a", "b"): np.array([[1.0, 0.0], [0.0, -1.0]])}
    >>> connection_cost(W, {"a": np.array([0.0, 1.0]), "b": np.array([0.0, 1.0])})
    0.25
    >>> connection_cost(W, {"a": np.array([1.0, 0.0]), "b": np.array([0.0, 1.0])})
    1.25
    """
    cost = 0.0
    for (s, t), W in weights.items():
        distance = np.abs(positions[s][:, None] - positions[t][None, :])
        cost += float(np.mean(np.abs(W) * (length * distance + gap))) if W.size else 0.0
    return cost


def geometric_communities(
    G: Any,
    n_communities: int | Mapping[str, int] | None = None,
    *,
    gauge: str = "balanced",
    sweeps: int = 20,
    layers: str | Iterable[str] | None = None,
    seed: int | None = None,
) -> Partition:
    """Place every layer's neurons on a line with short strong connections, and cut each line into groups.

    Brain-inspired modular training moves neurons while it trains, by swaps that leave the function as it is. On a
    network that is already trained only the moving is left: this is that post-hoc half, not the training method. Signs
    are not used.

    Parameters
    ----------
    G : LayeredDiGraph or NetworkX graph
        Weights of any sign.
    n_communities : int or mapping from layer to int, optional
        Groups of each layer; four by default.
    gauge : {"balanced", "none"}
        Weights of `balance(G)`, or the trained ones.
    sweeps : int
        Most passes over the layers.
    layers : str, iterable of str, or None
        Layers to partition; None is every hidden layer. All layers are placed in any case.
    seed : int, optional
        Of the iterative eigensolver beyond 1,500 neurons; nothing else is random.

    Returns
    -------
    Partition
        ``stats[layer]`` holds the network's connection cost as given (``cost_before``) and as placed (``cost``).

    Raises
    ------
    InputError
        If an option is unknown.

    Notes
    -----
    With its neighbours fixed, the best order of a layer is a linear assignment problem, which is solved exactly in
    place of single swaps (layers of up to 1,500 neurons; wider ones keep their spectral order). Layers take turns,
    starting from the network's second eigenvector, until the cost stays. Cuts minimise the variance of position within
    groups, weighted by the neurons' summed |w|.

    References
    ----------
    Liu, Gan and Tegmark, Seeing is believing: brain-inspired modular training, 2023, arXiv:2305.08746.

    Examples
    --------
    >>> import networkx as nx
    >>> [sorted(c) for c in geometric_communities(nx.barbell_graph(4, 0), 2, seed=0)]
    [[0, 1, 2, 3], [4, 5, 6, 7]]
    """
    if gauge not in ("balanced", "none") or sweeps < 0:
        raise InputError(
            f"gauge={gauge!r} with sweeps={sweeps} came; 'balanced' or 'none' and at least 0 were expected."
        )
    graph = as_layered(G)
    entropy = resolve_seed(seed)
    wanted = resolve_layers(graph, layers)
    weighted = balance(graph) if gauge == "balanced" else graph
    live = {name: indices for name, indices, _ in live_layers(graph, [layer.name for layer in graph.layers])}
    weights = {
        (s, t): np.abs(dense(weighted.matrix(s, t))[np.ix_(live[s], live[t])])
        for (s, t), kind in weighted.kinds.items()
        if kind == "value"
    }
    sizes = {name: indices.size for name, indices in live.items()}
    given = {name: _line(np.arange(n)) for name, n in sizes.items()}
    placed = _place(weights, _spectral_order(weights, sizes, seed_sequence(entropy, "order")), sweeps)
    cost = {"cost_before": connection_cost(weights, given), "cost": connection_cost(weights, placed)}
    labels = {}
    for name in wanted:
        k = number_of(n_communities, name, sizes[name])
        labels[name] = _cut(placed[name], _strength(weights, name, sizes[name]), k)
    params = {"n_communities": n_communities, "gauge": gauge, "sweeps": sweeps}
    stats = {name: dict(cost) for name in labels}
    return assemble(graph, labels, method="geometric", params=params, seed=entropy, stats=stats)


def _line(rank: npt.NDArray[np.intp]) -> Floats:
    """Positions of ranks 0..n-1, equally spaced in [0, 1]."""
    return (np.asarray(rank) + 0.5) / max(rank.size, 1)


def _spectral_order(
    weights: Mapping[Pair, Floats], sizes: Mapping[str, int], seed: np.random.SeedSequence
) -> dict[str, Floats]:
    """Order of each layer along the network's second eigenvector, which does not depend on the order given."""
    ends = np.cumsum([0, *sizes.values()])
    place = {name: slice(a, b) for name, a, b in zip(sizes, ends[:-1], ends[1:], strict=True)}
    A = np.zeros((int(ends[-1]), int(ends[-1])))
    for (s, t), W in weights.items():
        A[place[s], place[t]] += W
        A[place[t], place[s]] += W.T
    connected = np.flatnonzero(A.sum(axis=1) > 0)
    along = np.zeros(A.shape[0])
    if connected.size > 2:
        along[connected] = spectral_embedding(A[np.ix_(connected, connected)], 2, seed)[:, 1]
    return {name: _line(np.argsort(np.argsort(along[place[name]], kind="stable"))) for name in sizes}


def _place(weights: Mapping[Pair, Floats], positions: dict[str, Floats], sweeps: int) -> dict[str, Floats]:
    """Layers take turns at the best order given the others, until the cost stays."""
    from scipy.optimize import linear_sum_assignment

    best = connection_cost(weights, positions)
    for _ in range(sweeps):
        for name, current in positions.items():
            if not 1 < current.size <= _ASSIGNMENT_LIMIT:
                continue
            slots = np.sort(current)
            cost = np.zeros((current.size, current.size))
            for (s, t), W in weights.items():
                # A layer of silent neurons only has no place in the line.
                if s == t or not W.size:
                    continue
                facing, other = (W, t) if s == name else (W.T, s)
                if name in (s, t):
                    cost += facing @ np.abs(positions[other][:, None] - slots[None, :]) / W.size
            if cost.any():
                positions[name] = slots[linear_sum_assignment(cost)[1]]
        now = connection_cost(weights, positions)
        if now >= best - 1e-12 * abs(best):
            break
        best = now
    return positions


def _strength(weights: Mapping[Pair, Floats], name: str, n: int) -> Floats:
    total = np.zeros(n)
    for (s, t), W in weights.items():
        if s == name:
            total += W.sum(axis=1)
        if t == name:
            total += W.sum(axis=0)
    return total


def _cut(positions: Floats, weight: Floats, k: int) -> npt.NDArray[np.intp]:
    """Contiguous groups of least weighted variance, by dynamic programming over sorted positions."""
    n = positions.size
    order = np.argsort(positions, kind="stable")
    x, w = positions[order], weight[order] + 1e-12
    mass, first, second = (np.concatenate([[0.0], np.cumsum(v)]) for v in (w, w * x, w * x * x))
    i, j = np.arange(n + 1)[:, None], np.arange(n + 1)[None, :]
    total = np.where(j > i, mass[j] - mass[i], 1.0)
    spread = np.where(j > i, second[j] - second[i] - (first[j] - first[i]) ** 2 / total, np.inf)
    best, back = spread[0], np.zeros((k, n + 1), dtype=np.intp)
    for group in range(1, k):
        through = best[:, None] + spread
        back[group] = through.argmin(axis=0)
        best = through.min(axis=0)
    labels = np.zeros(n, dtype=np.intp)
    end = n
    for group in range(k - 1, -1, -1):
        begin = int(back[group, end])
        labels[order[begin:end]] = group
        end = begin
    return labels
