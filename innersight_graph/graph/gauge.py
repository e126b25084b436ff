"""The gauge: scaling a ReLU neuron's inputs by a and its outputs by 1/a changes nothing the network computes.

Weights can be compared across neurons only after this freedom is used up. `balance` uses it to make each hidden
neuron's incoming and outgoing norms equal; `orient` settles the signs of neurons whose sign is free (tanh, linear).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from innersight_graph.graph.interchange import as_layered
from innersight_graph.graph.layered import LayeredDiGraph
from innersight_graph.graph.orientation import orientation
from innersight_graph.graph.streams import distinct_sources, repeated_readings, streams

__all__ = ["balance", "orient"]

FloatArray = npt.NDArray[np.float64]
Scales = dict[str, FloatArray]
Squares = Mapping[tuple[str, str], Any]
Mask = npt.NDArray[np.bool_]
Masks = Mapping[str, Mask]

TOLERANCE = 1e-10
MAX_SWEEPS = 2000


def balance(G: Any) -> LayeredDiGraph:
    """Rescale every hidden neuron so that the norms of its incoming and outgoing value weights are equal.

    Parameters
    ----------
    G : LayeredDiGraph or networkx graph
        Not changed. Layers that nothing feeds, that feed nothing, or that feed themselves only keep their scale. A
        neuron without a path from an input or to an output has no two norms; the one it has is made its layer's typical
        norm. The layers of a residual stream share one factor for each coordinate, since no other rescaling leaves
        their sum as it is, and keep their scale if one of them does; each trained weight counts once. Neurons of a
        layer marked `odd` are turned as `orient` does.

    Returns
    -------
    LayeredDiGraph
        The same layers, attributes and edges with balanced weights. Two networks that differ only by such a rescaling
        and by turned neurons get equal weights: to the last bit if the factors are powers of two (and no weight under-
        or overflows), else to the rounding of the given weights. A weight beyond float32 becomes its largest or
        smallest number. Balancing twice changes nothing beyond that rounding.

    Notes
    -----
    With w'_ij = w_ij d_j / d_i, the fixed point minimises the sum of squared weights, which is convex in log d, so it
    is the same from every start. All neurons of a layer move at once, layers forth and back; between sweeps one factor
    per layer is brought to its own fixed point, so that deep networks converge as fast as shallow ones. Each sweep
    reads every weight four times; memory is 8 bytes per weight (float64 squares) while it runs. The result is kept with
    G.

    References
    ----------
    E. E. Osborne, "On pre-conditioning of matrices", J. ACM 7 (1960), doi:10.1145/321043.321048.

    Examples
    --------
    >>> import numpy as np
    >>> from innersight_graph.graph.layered import Layer
    >>> layers = [Layer("in", 0, 1, "input"), Layer("h", 1, 1, "linear"), Layer("out", 2, 1, "linear")]
    >>> G = LayeredDiGraph.from_arrays(layers, {("in", "h"): [[8.0]], ("h", "out"): [[-0.5]]})
    >>> [float(w[0, 0]) for w in balance(G).connections.values()]
    [2.0, -2.0]
    """
    layered = as_layered(G)
    return layered.remember("balanced", lambda: _rescaled(orient(layered), _fixed_point(layered)))


def orient(G: Any) -> LayeredDiGraph:
    """Turn neurons whose sign is a convention so that neurons alike up to sign have the same sign.

    Parameters
    ----------
    G : LayeredDiGraph or networkx graph
        Not changed. Only neurons of layers marked `odd` are turned: those that everything reads through an odd function
        (tanh, or nothing at all), as `neuron_graph` finds out.

    Returns
    -------
    LayeredDiGraph
        The same layers, attributes and edges; the weights into and out of some neurons change their sign. Two networks
        that differ only by turned neurons get equal weights, to the last bit. G itself if no layer is odd.

    Notes
    -----
    For such a neuron activation and inhibition are as arbitrary as the scale of a ReLU neuron is: H. J. Sussmann,
    "Uniqueness of the weights for minimal feedforward nets with a given input-output map", Neural Networks 5 (1992),
    doi:10.1016/S0893-6080(05)80037-1. The result is kept with G.

    Examples
    --------
    >>> import numpy as np
    >>> from innersight_graph.graph.layered import Layer
    >>> layers = [Layer("in", 0, 1, "input"), Layer("h", 1, 2, "linear", odd=True), Layer("out", 2, 1, "linear")]
    >>> G = LayeredDiGraph.from_arrays(layers, {("in", "h"): [[2.0, -3.0]], ("h", "out"): [[1.0], [-1.0]]})
    >>> [w.ravel().tolist() for w in orient(G).connections.values()]
    [[2.0, 3.0], [1.0, 1.0]]
    """
    layered = as_layered(G)
    if not any(layer.odd for layer in layered.layers):
        return layered
    return layered.remember("oriented", lambda: _rescaled(layered, orientation(layered)))


def _rescaled(G: LayeredDiGraph, scale: Scales) -> LayeredDiGraph:
    if not scale:
        return G
    first = repeated_readings(G)
    distinct = [pair for pair in G.connections if pair not in first]
    scaled = {pair: _scaled(G.connections[pair], *_factors(pair, scale, G)) for pair in distinct}
    # What was one array stays one array.
    connections = {(s, t): scaled[first.get((s, t), s), t] for s, t in G.connections}
    nodes = G._index.own_ids
    return LayeredDiGraph.from_arrays(
        G.layers, connections, kinds=G.kinds, node_attributes=G.node_attributes, nodes=nodes, graph=G.graph
    )


def _factors(pair: tuple[str, str], scale: Scales, G: LayeredDiGraph) -> tuple[Any, Any]:
    """Return (1/d of the sources, d of the targets); a gate is no term of a sum and keeps its weights."""
    if G.kinds[pair] == "gate":
        return None, None
    source, target = pair
    return None if source not in scale else 1.0 / scale[source], scale.get(target)


def _scaled(weights: Any, left: FloatArray | None, right: FloatArray | None) -> Any:
    if left is None and right is None:
        return weights
    left = np.ones(weights.shape[0]) if left is None else left
    right = np.ones(weights.shape[1]) if right is None else right
    if sparse.issparse(weights):
        rows = np.repeat(np.arange(weights.shape[0]), np.diff(weights.indptr))
        data = _single(weights.data * left[rows] * right[weights.indices])
        return sparse.csr_array((data, weights.indices, weights.indptr), shape=weights.shape)
    return _single(weights * left[:, None] * right)


def _single(values: FloatArray) -> npt.NDArray[np.float32]:
    """Return float32; what has no room there becomes its largest or smallest number, for no edge may come or go."""
    limits = np.finfo(np.float32)
    if max(-values.min(initial=0), values.max(initial=0)) > limits.max:
        values = np.clip(values, limits.min, limits.max)
    single = values.astype(np.float32)
    if np.count_nonzero(single) != np.count_nonzero(values):
        vanished = (single == 0) & (values != 0)
        single[vanished] = np.copysign(limits.smallest_subnormal, values[vanished])
    return single


# ---------------------------------------------------------------------- the fixed point


def _fixed_point(G: LayeredDiGraph) -> Scales:
    """Return d for every layer that can be rescaled, float64, positive; layers of one stream share theirs."""
    stream = streams(G)
    squares = _squares(G, stream)
    free = _free(G, stream, squares)
    if not free:
        return {}
    live = _two_sided(squares, {name: G.layer(name).width for name in free})
    core = {pair: _restricted(square, live.get(pair[0]), live.get(pair[1])) for pair, square in squares.items()}
    scale = _canonical_start(G, core, free)
    for _ in range(MAX_SWEEPS):
        _balance_layers(core, scale)
        change = max(_update(core, scale, name) for name in [*free, *reversed(free)])
        if change <= TOLERANCE:
            break
    _place_one_sided(squares, core, scale, live)
    return {name: scale[root] for name, root in stream.items() if root in scale}


def _squares(G: LayeredDiGraph, stream: Mapping[str, str]) -> dict[tuple[str, str], Any]:
    """Return the squared weights between streams, each trained weight counted once."""
    squares: dict[tuple[str, str], Any] = {}
    for layer in G.layers:
        for source in distinct_sources(G, layer.name):
            pair = (stream[source], stream[layer.name])
            if pair[0] != pair[1]:
                square = _squared(G.matrix(source, layer.name))
                squares[pair] = squares[pair] + square if pair in squares else square
    return squares


def _free(G: LayeredDiGraph, stream: Mapping[str, str], squares: Squares) -> list[str]:
    """Return the streams that are fed and read by others and hold no input, whose scale is the data's."""
    driven = {target for source, target in G.connections if source != target}
    pinned = {stream[layer.name] for layer in G.layers if layer.kind == "input" or layer.name not in driven}
    fed, read = {target for _, target in squares}, {source for source, _ in squares}
    return [name for name, root in stream.items() if name == root and name in fed & read - pinned]


def _two_sided(squares: Squares, widths: Mapping[str, int]) -> dict[str, Mask]:
    """Return which neurons lie on a path from an input to an output; only their two norms can be made equal.

    Neurons of a stream that feed each other in a circle, and are fed by nothing else, have two norms; but growing all
    of them together shrinks what leaves the circle for ever.
    """
    from_input, to_output = (_reached(squares, widths, side) for side in (0, 1))
    return {name: from_input[name] & to_output[name] for name in widths}


def _reached(squares: Squares, widths: Mapping[str, int], side: int) -> dict[str, Mask]:
    """Return which neurons a path leads to from a layer of fixed scale (side 0), or from which one does (side 1)."""
    reached = {name: np.zeros(width, dtype=bool) for name, width in widths.items()}
    while True:
        before = sum(int(mask.sum()) for mask in reached.values())
        for name in list(widths) if side == 0 else reversed(list(widths)):
            near = {p: _restricted(q, *_others(p, name, reached)) for p, q in squares.items() if p[1 - side] == name}
            reached[name] = reached[name] | (_norms(near, {}, name)[side] > 0)
        if sum(int(mask.sum()) for mask in reached.values()) == before:
            return reached


def _place_one_sided(squares: Squares, core: Squares, scale: Scales, live: Masks) -> None:
    """Give a neuron without a living input or output its layer's typical norm on the side it has.

    It takes no part in the others' balance, so that its arbitrary scale cannot leak into their weights; its own norm
    counts only neighbours whose scale is settled, so that nothing arbitrary leaks into it.
    """
    typical = {name: _typical_norm(_norms(core, scale, name)[0], live[name]) for name in scale}
    settled = dict(live)
    while True:
        before = sum(int(mask.sum()) for mask in settled.values())
        for side, names in ((0, list(scale)), (1, list(reversed(scale)))):
            for name in names:
                near = {p: _restricted(q, *_others(p, name, settled)) for p, q in squares.items() if name in p}
                norm = _norms(near, scale, name)[side]
                chosen = ~settled[name] & (norm > 0)
                scale[name][chosen] *= (norm[chosen] / typical[name]) ** (0.5 if side else -0.5)
                settled[name] = settled[name] | chosen
        if sum(int(mask.sum()) for mask in settled.values()) == before:
            return


def _others(pair: tuple[str, str], name: str, masks: Masks) -> tuple[Mask | None, Mask | None]:
    """Return the masks of a pair's two layers, none for the named one."""
    source, target = (None if layer == name else masks.get(layer) for layer in pair)
    return source, target


def _typical_norm(arriving: FloatArray, live: Mask) -> float:
    return float(arriving[live].mean()) if live.any() else 1.0


def _squared(weights: Any) -> Any:
    if sparse.issparse(weights):
        return sparse.csr_array(
            (weights.data.astype(np.float64) ** 2, weights.indices, weights.indptr), shape=weights.shape
        )
    return weights.astype(np.float64) ** 2


def _restricted(square: Any, source: Mask | None, target: Mask | None) -> Any:
    """Return the squares with the rows and columns of neurons outside the masks set to zero."""
    if (source is None or source.all()) and (target is None or target.all()):
        return square
    left = np.ones(square.shape[0]) if source is None else source.astype(np.float64)
    right = np.ones(square.shape[1]) if target is None else target.astype(np.float64)
    if sparse.issparse(square):
        return sparse.diags_array(left) @ square @ sparse.diags_array(right)
    return square * left[:, None] * right


def _canonical_start(G: LayeredDiGraph, squares: Squares, free: list[str]) -> Scales:
    """Return powers of two that undo any rescaling by powers of two: all such networks start from the same bits."""
    scale: Scales = {}
    depth = {layer.name: layer.depth for layer in G.layers}
    for name in free:
        # Only layers already treated: their scales are canonical, so this norm carries the neuron's own factor alone.
        total = np.zeros(G.layer(name).width)
        for (source, target), square in squares.items():
            if target == name and depth[source] < depth[name]:
                total += _incoming(square, scale.get(source))
        exponent = np.frexp(np.sqrt(total))[1]
        scale[name] = np.where(total > 0, np.ldexp(1.0, -exponent), 1.0)
    return scale


def _incoming(square: Any, scale: FloatArray | None) -> FloatArray:
    """Return Σ_i w_ij² / d_i² for every target j."""
    weight = np.ones(square.shape[0]) if scale is None else scale**-2.0
    return np.asarray(weight @ square)


def _outgoing(square: Any, scale: FloatArray | None) -> FloatArray:
    """Return Σ_j w_ij² d_j² for every source i."""
    weight = np.ones(square.shape[1]) if scale is None else scale**2.0
    return np.asarray(square @ weight)


def _norms(squares: Squares, scale: Scales, name: str) -> tuple[FloatArray, FloatArray]:
    """Return the squared incoming and outgoing norms of a layer's neurons at the given scales."""
    own = scale.get(name, np.ones(1))
    arriving = sum((_incoming(square, scale.get(s)) for (s, t), square in squares.items() if t == name), np.zeros(1))
    leaving = sum((_outgoing(square, scale.get(t)) for (s, t), square in squares.items() if s == name), np.zeros(1))
    return arriving * own**2, leaving / own**2


def _update(squares: Squares, scale: Scales, name: str) -> float:
    """Balance one layer given the others; return the largest relative change of its scales."""
    arriving, leaving = _norms(squares, scale, name)
    both = (arriving > 0) & (leaving > 0)
    factor = np.where(both, (leaving / np.where(both, arriving, 1.0)) ** 0.25, 1.0)
    scale[name] = scale[name] * factor
    return float(np.max(np.abs(factor - 1.0)))


# ---------------------------------------------------------------------- one factor per layer


def _balance_layers(squares: Squares, scale: Scales) -> None:
    """Bring one factor per layer to its fixed point: cheap, and what a plain sweep does slowest in a deep network."""
    total = {(s, t): _total(square, scale.get(s), scale.get(t)) for (s, t), square in squares.items()}
    factor = dict.fromkeys(scale, 1.0)
    for _ in range(MAX_SWEEPS):
        change = max(abs(ratio - 1.0) for ratio in _layer_sweep(total, factor))
        if change <= TOLERANCE:
            break
    for name, value in factor.items():
        scale[name] = scale[name] * value


def _layer_sweep(total: Mapping[tuple[str, str], float], factor: dict[str, float]) -> Iterator[float]:
    """Balance each layer's factor in turn and yield the ratio of new to old."""
    for name in [*factor, *reversed(list(factor))]:
        arriving = sum(v / factor.get(s, 1.0) ** 2 for (s, t), v in total.items() if t == name)
        leaving = sum(v * factor.get(t, 1.0) ** 2 for (s, t), v in total.items() if s == name)
        if arriving > 0 and leaving > 0:
            new = (leaving / arriving) ** 0.25
            yield new / factor[name]
            factor[name] = new
        else:
            yield 1.0


def _total(square: Any, source: FloatArray | None, target: FloatArray | None) -> float:
    outgoing = _outgoing(square, target)
    return float(outgoing.sum() if source is None else (outgoing / source**2).sum())
