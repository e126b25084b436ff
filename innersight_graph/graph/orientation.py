"""Which way round: the sign of a neuron that everything reads through an odd function is a convention.

Turning the weights into a tanh or linear neuron and those out of it changes nothing the network computes, yet exchanges
activation and inhibition on all its edges. `orientation` settles it: neurons alike up to sign get the same sign.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from innersight_graph.graph.layered import LayeredDiGraph
from innersight_graph.graph.streams import distinct_sources, streams

__all__ = ["orientation"]

Floats = npt.NDArray[np.floating]
Signs = dict[str, npt.NDArray[np.float64]]

_CLEAR = 1e-6  # of a neuron's norm: a sum nearer to zero than that has the sign of its rounding
_TURNS = 1000  # no layer has needed a hundred
_CHUNK = 1024


def orientation(G: LayeredDiGraph) -> Signs:
    """Return +1 or −1 for every neuron of the layers marked `odd`, such that multiplying by them undoes any flips.

    Notes
    -----
    First every neuron is turned so that its incoming weights sum to a positive number, layers in order of depth: that
    undoes whatever flips the network came with. Then neurons are turned while that lengthens the sum over the layer of
    their profiles (incoming and outgoing weights; columns and neurons of unit size), so that neurons alike up to sign
    agree. One whose product with the sum of the others is within a standard deviation of chance stays as it is: turning
    all of them gives noise a common direction, in which the block model's bound saw communities in 13 of 75 layers at
    initialisation (and the comparison with rotations gave 11 of them up). Costs the products of all pairs of profiles
    once, then two products with a vector a step.
    """
    alone = list(streams(G).values())
    names = [x.name for x in G.layers if x.odd and alone.count(x.name) == 1 and _read(G, x.name) and G.incoming(x.name)]
    depth = {layer.name: layer.depth for layer in G.layers}
    signs: Signs = {}
    for name in names:
        settled = [s for s in distinct_sources(G, name) if depth[s] < depth[name]]
        incoming = [_turned(G.matrix(s, name), signs.get(s)).T for s in settled]
        signs[name] = _first_signs(incoming, G.layer(name).width)
    for name in reversed(names):
        # A neuron that hears nothing goes by what it feeds; one without either may stand as it likes.
        outgoing = [_turned(G.matrix(name, t).T, signs.get(t)).T for t in G.outgoing(name) if depth[t] > depth[name]]
        signs[name] = np.where(signs[name] == 0, _first_signs(outgoing, G.layer(name).width), signs[name])
    signs = {name: np.where(value == 0, 1.0, value) for name, value in signs.items()}
    return {name: _aligned(_profiles(G, name), value) for name, value in signs.items()}


def _read(G: LayeredDiGraph, name: str) -> bool:
    """Whether the layer's readers all add its neurons up, none gates by them."""
    kinds = [G.kinds[name, target] for target in G.outgoing(name)]
    return bool(kinds) and all(kind == "value" for kind in kinds)


def _turned(W: Any, rows: Floats | None) -> Any:
    if rows is None:
        return W
    return sparse.diags_array(rows) @ W if sparse.issparse(W) else W * rows[:, None]


def _first_signs(sides: list[Any], width: int) -> npt.NDArray[np.float64]:
    """Return the sign of each row's sum; where that is about zero, of its sum of cubes, then of its first entry."""
    total, cubes, first = np.zeros(width), np.zeros(width), np.zeros(width)
    size = np.full(width, 1e-300)
    for side in sides:
        X = side.toarray().astype(np.float64) if sparse.issparse(side) else side.astype(np.float64)
        total, size, cubes = total + X.sum(axis=1), size + np.abs(X).sum(axis=1), cubes + (X**3).sum(axis=1)
        leading = X[np.arange(width), (X != 0).argmax(axis=1)]
        first = np.where(first == 0, leading, first)
    clear = [(total, size), (cubes, size**3), (first, np.full(width, 1e-300))]
    signs = np.zeros(width)
    for value, scale in clear:
        signs = np.where((signs == 0) & (np.abs(value) > _CLEAR * scale), np.sign(value), signs)
    return signs


def _profiles(G: LayeredDiGraph, name: str) -> Any:
    """Stack what feeds a layer and what it feeds, neurons as rows: columns of unit size, then rows.

    Turning a neighbour turns a column, of which products of rows know nothing: layers can be aligned one by one.
    """
    from sklearn.preprocessing import normalize

    into = [G.matrix(s, name).T for s in distinct_sources(G, name)]
    out = [G.matrix(name, t) for t in G.outgoing(name)]
    sides = [normalize(side, axis=0) for side in (*into, *out)]
    sparsely = any(map(sparse.issparse, sides))
    return normalize(sparse.csr_array(sparse.hstack(sides)) if sparsely else np.hstack(sides))


def _aligned(X: Any, signs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Turn rows that point against the sum of the others, all together or else the worse half, while it grows."""
    own, chance = _likeness(X)

    def agreement(s: Floats) -> tuple[Floats, float]:
        """Return each turned row's product with the sum of the others, and the squared length of the whole sum."""
        total = X.T @ s.astype(np.float32)
        return s * (X @ total) - own, float(np.vdot(total, total))

    now, length = agreement(signs)
    for _ in range(_TURNS):
        worst = np.argsort(now, kind="stable")[: np.count_nonzero(now < -chance)]
        while worst.size:
            turned = signs.copy()
            turned[worst] *= -1
            after, longer = agreement(turned)
            if longer > length:
                break
            worst = worst[: worst.size // 2]
        if not worst.size:
            break
        signs, now, length = turned, after, longer
    return signs


def _likeness(X: Any) -> tuple[Floats, Floats]:
    """Return the squared size of each row, and the root of its summed squared products with all others.

    The second is the standard deviation of its product with their sum if their signs were drawn at random.
    """
    own, total = np.zeros(X.shape[0]), np.zeros(X.shape[0])
    for first in range(0, X.shape[0], _CHUNK):
        rows = slice(first, first + _CHUNK)
        K = X[rows] @ X.T
        K = K.toarray() if sparse.issparse(K) else np.asarray(K)
        own[rows] = K[np.arange(len(K)), first + np.arange(len(K))]
        total[rows] = (K**2).sum(axis=1)
    return own, np.sqrt(np.maximum(total - own**2, 0.0)) + _CLEAR
