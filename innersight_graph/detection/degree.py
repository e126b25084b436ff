"""`degree_communities`: neurons binned by the strength of their connections, a control for methods that see hubs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from innersight_graph.detection._clustering import number_of
from innersight_graph.detection._layers import assemble, live_layers
from innersight_graph.errors import InputError
from innersight_graph.graph.gauge import balance
from innersight_graph.graph.interchange import as_layered
from innersight_graph.graph.streams import distinct_sources
from innersight_graph.partition import Partition

__all__ = ["degree_communities"]


def degree_communities(
    G: Any,
    n_communities: int | Mapping[str, int] | None = None,
    *,
    gauge: str = "balanced",
    layers: str | Iterable[str] | None = None,
    seed: int | None = None,
) -> Partition:
    """Bin the neurons of each layer by the summed absolute weight of their connections.

    Parameters
    ----------
    G : LayeredDiGraph or NetworkX graph
        Weights of any sign.
    n_communities : int or mapping from layer to int, optional
        Bins of (nearly) equal size in each layer; four by default. Neurons of equal strength share a bin.
    gauge : {"balanced", "none"}
        Weights of `balance(G)`, or the trained ones.
    layers : str, iterable of str, or None
        Layers to partition; None is every hidden layer.
    seed
        Accepted by every method; nothing here is random.

    Returns
    -------
    Partition

    Raises
    ------
    InputError
        An unknown layer or gauge, or a number of communities that is not positive or exceeds a layer.

    Examples
    --------
    >>> import networkx as nx
    >>> [sorted(c) for c in degree_communities(nx.star_graph(3), 2)]
    [[1, 2, 3], [0]]
    """
    from scipy.stats import rankdata

    if gauge not in ("balanced", "none"):
        raise InputError(f"gauge={gauge!r} is unknown. Use 'balanced' (default) or 'none'.")
    graph = as_layered(G)
    weighted = balance(graph) if gauge == "balanced" else graph
    labels = {}
    for name, live, _ in live_layers(graph, layers):
        strength = np.zeros(graph.layer(name).width)
        for source in distinct_sources(weighted, name):
            strength += _strength(weighted.matrix(source, name), 0)
        for target in weighted.outgoing(name):
            strength += _strength(weighted.matrix(name, target), 1)
        # Equal strengths differ by rounding once weights were rescaled; six digits keep them together.
        scale = max(float(strength.max(initial=0.0)), 1e-300)
        rank = rankdata(np.round(strength[live] / scale, 6), method="min") - 1
        labels[name] = (rank * number_of(n_communities, name, live.size) // max(live.size, 1)).astype(np.intp)
    params = {"n_communities": n_communities, "gauge": gauge}
    return assemble(graph, labels, method="degree", params=params, seed=seed if isinstance(seed, int) else None)


def _strength(W: Any, axis: int) -> npt.NDArray[np.float64]:
    """Sum absolute weights along an axis, in double precision."""
    if not hasattr(W, "tocoo"):
        return np.asarray(np.abs(W).sum(axis=axis, dtype=np.float64))
    entries = W.tocoo()
    sizes = np.abs(entries.data).astype(np.float64)
    return np.bincount(entries.coords[1 - axis], weights=sizes, minlength=W.shape[1 - axis]).astype(np.float64)
