"""Graphs without communities, as hard to see through as we can make them, and nulls made from a user's own graph."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from innersight_graph.errors import InputError
from innersight_graph.graph.interchange import as_layered
from innersight_graph.graph.layered import LayeredDiGraph
from innersight_graph.partition import Partition
from innersight_graph.planted.graphs import layered_graph

Floats = NDArray[np.float64]
Draw = Callable[[int, int, np.random.Generator], Floats]


def null_layers(
    kind: str = "signs", *, widths: Sequence[int] = (240, 240, 240), seed: int | None = None
) -> tuple[LayeredDiGraph, Partition]:
    """Layered signed graph without communities.

    Parameters
    ----------
    kind : {"signs", "hubs", "balance", "gaussian", "heavy", "init"}
        ``"signs"`` independent signs, density 0.1 each; ``"hubs"`` log-normal propensities, σ = 1, clipped at 0.95;
        ``"balance"`` weaker hubs and a continuously varying share of positive connections; ``"gaussian"`` and
        ``"heavy"`` (Student t, 3 degrees of freedom) dense weights with log-normal scales of rows and columns;
        ``"init"`` the uniform initialisation of a linear layer.
    widths
        Neurons in each layer, input and output included.
    seed
        Seed of the draw.

    Returns
    -------
    G : LayeredDiGraph
    truth : Partition
        One community in each hidden layer: there is nothing to find.

    Raises
    ------
    InputError
        If `kind` is unknown.

    Examples
    --------
    >>> G, truth = null_layers("hubs", widths=(30, 20, 30), seed=0)
    >>> len(G.layers), [len(c) for c in truth]
    (3, [20])
    """
    if kind not in KINDS:
        raise InputError(f"There is no null named {kind!r}. Choose one of {', '.join(map(repr, KINDS))}.")
    rng = np.random.default_rng(seed)
    matrices = [KINDS[kind](n, m, rng) for n, m in itertools.pairwise(widths)]
    G = layered_graph(matrices, "null_layers", {"kind": kind}, seed)
    labels = {name: np.zeros(G.layer(name).width, dtype=np.intp) for name in G.hidden_layers}
    return G, Partition.from_labels(G, labels, method="null_layers", params={"kind": kind}, seed=seed)


def shuffled(G: Any, *, keep: str = "layer", seed: int | None = None) -> LayeredDiGraph:
    """Return the graph with its weights permuted, connection by connection.

    Parameters
    ----------
    G : NetworkX graph or LayeredDiGraph
        Left unchanged.
    keep : {"layer", "nonzero", "degrees"}
        ``"layer"`` permutes all entries of each pair of layers; ``"nonzero"`` only values among existing edges;
        ``"degrees"`` rewires edges of each sign by swaps that keep every neuron's number of positive and of negative
        connections, then permutes the values of that sign.
    seed
        Seed of the permutation.

    Returns
    -------
    LayeredDiGraph
        Dense connections. ``"degrees"`` tries 10 swaps for each edge.

    Raises
    ------
    InputError
        If `keep` is unknown.
    """
    if keep not in _SHUFFLES:
        raise InputError(f"keep={keep!r} is unknown. Choose one of {', '.join(map(repr, _SHUFFLES))}.")
    graph = as_layered(G)
    rng = np.random.default_rng(seed)
    connections = {}
    for pair in graph.connections:
        matrix = graph.matrix(*pair)
        W = np.asarray(matrix.toarray() if hasattr(matrix, "toarray") else matrix, dtype=float)
        connections[pair] = _SHUFFLES[keep](W, rng).astype(np.float32)
    return LayeredDiGraph.from_arrays(
        graph.layers,
        connections,
        kinds=dict(graph.kinds),
        nodes={layer.name: graph.nodes_of(layer.name) for layer in graph.layers},
        graph=dict(graph.graph),
    )


def _signs(n: int, m: int, rng: np.random.Generator) -> Floats:
    u = rng.random((n, m))
    return np.where(u < 0.1, 1.0, np.where(u < 0.2, -1.0, 0.0))


def _hubs(n: int, m: int, rng: np.random.Generator, *, sigma: float = 1.0) -> Floats:
    p = _hub_probability(n, m, sigma, rng)
    return np.where(rng.random((n, m)) < p, rng.choice([-1.0, 1.0], size=(n, m)), 0.0)


def _balance(n: int, m: int, rng: np.random.Generator) -> Floats:
    # Every neuron has its own share of positive connections to each side, drawn from a continuous distribution.
    p = _hub_probability(n, m, 0.5, rng)
    logit = rng.logistic(scale=0.3, size=n)[:, None] + rng.logistic(scale=0.3, size=m)[None, :]
    sign = np.where(rng.random((n, m)) < 1 / (1 + np.exp(-logit)), 1.0, -1.0)
    return np.where(rng.random((n, m)) < p, sign, 0.0)


def _hub_probability(n: int, m: int, sigma: float, rng: np.random.Generator) -> Floats:
    rows, columns = np.exp(sigma * rng.standard_normal(n)), np.exp(sigma * rng.standard_normal(m))
    clipped: Floats = np.minimum(0.95, 0.12 * np.outer(rows / rows.mean(), columns / columns.mean()))
    return clipped


def _scaled(X: Floats, rng: np.random.Generator) -> Floats:
    rows, columns = np.exp(0.5 * rng.standard_normal(X.shape[0])), np.exp(0.5 * rng.standard_normal(X.shape[1]))
    result: Floats = X * rows[:, None] * columns
    return result


def _gaussian(n: int, m: int, rng: np.random.Generator) -> Floats:
    return _scaled(rng.standard_normal((n, m)), rng)


def _heavy(n: int, m: int, rng: np.random.Generator) -> Floats:
    return _scaled(rng.standard_t(3, (n, m)), rng)


def _init(n: int, m: int, rng: np.random.Generator) -> Floats:
    result: Floats = rng.uniform(-1, 1, (n, m)) / np.sqrt(n)
    return result


KINDS = MappingProxyType(
    {"signs": _signs, "hubs": _hubs, "balance": _balance, "gaussian": _gaussian, "heavy": _heavy, "init": _init}
)


def _all_entries(W: Floats, rng: np.random.Generator) -> Floats:
    return rng.permutation(W.ravel()).reshape(W.shape)


def _existing(W: Floats, rng: np.random.Generator) -> Floats:
    out = np.zeros_like(W)
    out[W != 0] = rng.permutation(W[W != 0])
    return out


def _rewired(W: Floats, rng: np.random.Generator) -> Floats:
    """Swap the targets of two equal-signed edges when neither new place is taken by any edge."""
    signs = np.sign(W)
    for sign in (1.0, -1.0):
        rows, columns = np.nonzero(signs == sign)
        for i, j in rng.integers(rows.size, size=(10 * rows.size, 2)):
            a, b, x, y = rows[i], rows[j], columns[i], columns[j]
            if a != b and x != y and signs[a, y] == 0 and signs[b, x] == 0:
                signs[a, x] = signs[b, y] = 0.0
                signs[a, y] = signs[b, x] = sign
                columns[i], columns[j] = y, x
    out = np.zeros_like(W)
    for sign in (1.0, -1.0):
        out[signs == sign] = rng.permutation(W[np.sign(W) == sign])
    return out


_SHUFFLES = MappingProxyType({"layer": _all_entries, "nonzero": _existing, "degrees": _rewired})
