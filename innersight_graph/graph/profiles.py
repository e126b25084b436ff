"""What a neuron looks like to a community detector: which of its connections are strong, and of which sign."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt
from scipy import sparse

from innersight_graph.errors import InputError
from innersight_graph.graph.gauge import balance
from innersight_graph.graph.interchange import as_layered
from innersight_graph.graph.layered import LayeredDiGraph
from innersight_graph.graph.streams import distinct_sources

__all__ = ["SignedProfile", "binarize", "project_layer", "projection"]

BoolArray = npt.NDArray[np.bool_]
THRESHOLDS = ("xi1", "xi2", "xi3", "xi4")
# Rescaled weights that were equal differ by rounding; without this, rounding would decide which of them are kept.
TIE = {"balanced": 1e-6, "none": 0.0}


@dataclass(frozen=True, eq=False)
class SignedProfile:
    """The binary connection matrices of one layer (paper, Definition 2 and 3), one row per neuron of the layer.

    Attributes
    ----------
    layer : str
    nodes : tuple
        The node ids, in row order.
    activation_in, inhibition_in : ndarray of bool, shape (n, n_previous)
        The paper's A and I, transposed: valid connections from the previous layers. Layers whose sum is read through
        one set of weights (a residual stream) count once.
    activation_out, inhibition_out : ndarray of bool, shape (n, n_next)
        The paper's A' and I': valid connections to the next layers.
    missing_activation_in, missing_inhibition_in, missing_activation_out, missing_inhibition_out : ndarray of bool or
    None
        Connections that are neither valid nor invalid, between xi3 and xi1 (activation) or xi2 and xi4 (inhibition).
    """

    layer: str
    nodes: tuple[Hashable, ...]
    activation_in: BoolArray
    inhibition_in: BoolArray
    activation_out: BoolArray
    inhibition_out: BoolArray
    missing_activation_in: BoolArray | None = None
    missing_inhibition_in: BoolArray | None = None
    missing_activation_out: BoolArray | None = None
    missing_inhibition_out: BoolArray | None = None

    @property
    def missing_in(self) -> BoolArray | None:
        """Incoming connections missing for either sign, shape (n, n_previous), or None."""
        return _either(self.missing_activation_in, self.missing_inhibition_in)

    @property
    def missing_out(self) -> BoolArray | None:
        """Outgoing connections missing for either sign, shape (n, n_next), or None."""
        return _either(self.missing_activation_out, self.missing_inhibition_out)

    def matrix(self) -> BoolArray:
        """Return A, I, A' and I' side by side, bool, shape (n, 2 n_previous + 2 n_next)."""
        return np.hstack([self.activation_in, self.inhibition_in, self.activation_out, self.inhibition_out])

    def observed(self) -> BoolArray | None:
        """Return which entries of `matrix` count, bool of the same shape; None if all of them do."""
        parts = (
            self.missing_activation_in, self.missing_inhibition_in, self.missing_activation_out,
            self.missing_inhibition_out,
        )  # fmt: skip
        if any(part is None for part in parts):
            return None
        return ~np.hstack([part for part in parts if part is not None])

    def __repr__(self) -> str:
        return f"SignedProfile({self.layer!r}, {len(self.nodes)} neurons, {self.matrix().shape[1]} entries each)"


def _either(a: BoolArray | None, b: BoolArray | None) -> BoolArray | None:
    return None if a is None or b is None else a | b


def binarize(
    G: Any, layer: str, *, density: float = 0.5, gauge: str = "balanced", thresholds: Mapping[str, float] | None = None
) -> SignedProfile:
    """Return which connections of a layer's neurons are valid, by sign and side.

    Parameters
    ----------
    G : LayeredDiGraph or networkx graph
        An undirected graph has one side only: the row of its adjacency matrix.
    layer : str
        The layer whose neurons become rows.
    density : float in (0, 1], default 0.5
        Valid are this top fraction (rounded up) of each sign's own non-zero connections, by size, for each pair of
        layers; ties at the threshold are kept. 1.0: every non-zero connection.
    gauge : {"balanced", "none"}, default "balanced"
        Compare the weights of `balance(G)`, or the trained weights as they are.
    thresholds : mapping, optional
        The paper's ``xi1`` to ``xi4`` in units of the trained weights; overrides density and gauge. Activation is valid
        if weight > xi1 and invalid if < xi3; inhibition is valid if weight < xi2 and invalid if > xi4; what is neither
        is missing.
        Without ``xi3`` (``xi4``) nothing is missing for that sign.

    Returns
    -------
    SignedProfile

    Raises
    ------
    InputError
        Unknown layer or gauge, density outside (0, 1], thresholds incomplete or out of order.

    Notes
    -----
    The choice of density moves the communities more than the algorithm that finds them does: sweep it. Memory is one
    byte per entry of the profile, also for sparse connections.

    Examples
    --------
    >>> import networkx as nx
    >>> binarize(nx.path_graph(4), "graph", density=1.0).matrix().astype(int)[:, :4]
    array([[0, 1, 0, 0],
           [1, 0, 1, 0],
           [0, 1, 0, 1],
           [0, 0, 1, 0]])
    """
    G = as_layered(G)
    G.layer(layer)
    check_profile_options(density, gauge, thresholds)
    if thresholds is not None:
        return _by_thresholds(G, layer, thresholds)
    H = balance(G) if gauge == "balanced" else G
    sides = [_strongest(H, layer, side, density, TIE[gauge]) for side in ("in", "out")]
    return SignedProfile(layer, tuple(G.nodes_of(layer)), *sides[0], *sides[1])


def check_profile_options(density: float, gauge: str, thresholds: Mapping[str, float] | None) -> None:
    """Raise InputError unless `binarize` could use the options: before work that may come to no layer at all."""
    if gauge not in TIE:
        raise InputError(f"gauge={gauge!r} is unknown. Use 'balanced' (default) or 'none'.")
    if thresholds is not None:
        _limits(thresholds)
        return
    number = isinstance(density, (int, float, np.number)) and not isinstance(density, bool)
    if not number or not 0 < density <= 1:
        raise InputError(
            f"density={density!r} came; a fraction in (0, 1] was expected, 1.0 keeping every non-zero connection."
        )


def _pairs(G: LayeredDiGraph, layer: str, side: str) -> list[tuple[str, str]]:
    """Return the distinct value connections on one side; an undirected graph has its rows only, as outgoing."""
    if side == "in":
        return [] if G.graph.get("directed") is False else [(source, layer) for source in distinct_sources(G, layer)]
    return [(layer, target) for target in G.outgoing(layer)]


def _facing(G: LayeredDiGraph, pair: tuple[str, str], side: str) -> Any:
    """Return a connection's weights with the layer's own neurons as rows."""
    weights: Any = G.connections[pair]
    return weights.T if side == "in" else weights


def _side_by_side(parts: list[BoolArray], width: int) -> BoolArray:
    return np.hstack(parts) if parts else np.zeros((width, 0), dtype=bool)


def _strongest(G: LayeredDiGraph, layer: str, side: str, density: float, tie: float) -> tuple[BoolArray, BoolArray]:
    """Return (activation, inhibition) of one side: the top fraction per pair of layers and sign."""
    activation, inhibition = [], []
    for pair in _pairs(G, layer, side):
        weights = _facing(G, pair, side)
        values = weights.data if sparse.issparse(weights) else weights
        activation.append(_where(weights, _threshold(values, 1, density), 1, tie))
        inhibition.append(_where(weights, _threshold(values, -1, density), -1, tie))
    width = G.layer(layer).width
    return _side_by_side(activation, width), _side_by_side(inhibition, width)


def _threshold(values: npt.NDArray[np.float32], sign: int, density: float) -> float:
    """Return the size of the smallest connection of one sign that is kept; inf if there is none."""
    sizes = values[values > 0] if sign > 0 else -values[values < 0]
    if sizes.size == 0:
        return float("inf")
    # The tolerance keeps a product such as 0.07 * 100 = 7.000000000000001 from rounding up to 8.
    keep = max(1, ceil(density * sizes.size - 1e-9))
    return float(np.partition(sizes.ravel(), sizes.size - keep)[sizes.size - keep])


def _where(weights: Any, threshold: float, sign: int, tie: float) -> BoolArray:
    lowest = np.float32(threshold * (1.0 - tie))
    if not sparse.issparse(weights):
        return np.asarray(weights * sign >= lowest)
    table = np.zeros(weights.shape, dtype=bool)
    entries = weights.tocoo()
    kept = entries.data * sign >= lowest
    table[entries.row[kept], entries.col[kept]] = True
    return table


def _limits(thresholds: Mapping[str, float]) -> dict[str, float]:
    """Return ξ1 to ξ4 as numbers, in order; what is left out leaves no band of missing connections."""
    try:
        xi = {name: float(thresholds[name]) for name in THRESHOLDS if name in thresholds}
    except (TypeError, ValueError) as error:
        raise InputError(
            f"thresholds={thresholds!r} came; a mapping of 'xi1' and 'xi2', perhaps 'xi3' and 'xi4', to numbers was "
            "expected. Leave it out to choose connections by density."
        ) from error
    if set(thresholds) - set(THRESHOLDS) or not {"xi1", "xi2"} <= set(xi):
        raise InputError(
            f"thresholds has the keys {sorted(thresholds)}; 'xi1' and 'xi2' were expected, with 'xi3' and 'xi4' where "
            "connections between them are to count as missing."
        )
    xi.setdefault("xi3", xi["xi1"])
    xi.setdefault("xi4", xi["xi2"])
    if not (xi["xi3"] <= xi["xi1"] and xi["xi2"] <= xi["xi4"] and all(np.isfinite(list(xi.values())))):
        raise InputError(
            f"thresholds {dict(thresholds)} are out of order. Finite numbers with xi3 <= xi1 (activation) and xi2 <= "
            "xi4 (inhibition) were expected."
        )
    return xi


def _by_thresholds(G: LayeredDiGraph, layer: str, thresholds: Mapping[str, float]) -> SignedProfile:
    xi = _limits(thresholds)
    banded = xi["xi3"] < xi["xi1"] or xi["xi2"] < xi["xi4"]
    width = G.layer(layer).width
    valid, missing = [], []
    for side in ("in", "out"):
        tables = []
        for pair in _pairs(G, layer, side):
            weights = _facing(G, pair, side)
            tables.append(_bands(weights.toarray() if sparse.issparse(weights) else weights, xi))
        columns = [_side_by_side([table[k] for table in tables], width) for k in range(4)]
        valid += columns[:2]
        missing += columns[2:]
    return SignedProfile(layer, tuple(G.nodes_of(layer)), *valid, *(missing if banded else [None] * 4))


def _bands(w: npt.NDArray[np.float32], xi: Mapping[str, float]) -> tuple[BoolArray, BoolArray, BoolArray, BoolArray]:
    """Return valid activation, valid inhibition, and what is missing for each, of one matrix of weights."""
    activation, inhibition = w > xi["xi1"], w < xi["xi2"]
    missing_activation = ~activation & ~(w < xi["xi3"]) & (xi["xi3"] < xi["xi1"])
    missing_inhibition = ~inhibition & ~(w > xi["xi4"]) & (xi["xi2"] < xi["xi4"])
    return activation, inhibition, missing_activation, missing_inhibition


# ---------------------------------------------------------------------- one-mode projection


def projection(profile: SignedProfile, sign: str = "signed") -> npt.NDArray[np.float64]:
    """Return the one-mode projection of a profile: shared valid neighbours of every two neurons, zero diagonal.

    Parameters
    ----------
    profile : SignedProfile
        n neurons.
    sign : {"signed", "positive", "activation", "inhibition"}, default "signed"
        With A and I of both sides side by side: ``(A - I)(A - I)ᵀ`` (agreements minus disagreements), ``AAᵀ + IIᵀ``,
        ``AAᵀ`` or ``IIᵀ``.

    Returns
    -------
    ndarray of float64, shape (n, n)
        Whole numbers, symmetric.
    """
    A = np.hstack([profile.activation_in, profile.activation_out]).astype(np.float32)
    I = np.hstack([profile.inhibition_in, profile.inhibition_out]).astype(np.float32)  # noqa: E741
    if sign not in PROJECTIONS:
        raise InputError(f"sign={sign!r} is unknown. Use one of {', '.join(map(repr, PROJECTIONS))}.")
    # Whole numbers below 2**24 are exact in float32.
    U = PROJECTIONS[sign](A, I).astype(np.float64)
    np.fill_diagonal(U, 0.0)
    return np.asarray(U)


PROJECTIONS = {
    "signed": lambda A, I: (A - I) @ (A - I).T,  # noqa: E741
    "positive": lambda A, I: A @ A.T + I @ I.T,  # noqa: E741
    "activation": lambda A, I: A @ A.T,  # noqa: E741
    "inhibition": lambda A, I: I @ I.T,  # noqa: E741
}


def project_layer(
    G: Any,
    layer: str,
    *,
    sign: str = "signed",
    density: float = 0.5,
    gauge: str = "balanced",
    thresholds: Mapping[str, float] | None = None,
) -> nx.Graph:
    """Return the one-mode projection of a layer: its neurons, joined by how many valid neighbours they share.

    Parameters
    ----------
    G : LayeredDiGraph or networkx graph
    layer : str
    sign : {"signed", "positive", "activation", "inhibition"}, default "signed"
        ``"signed"`` counts agreements minus disagreements in sign, so weights can be negative; the others count
        agreements only.
    density, gauge, thresholds
        As in `binarize`.

    Returns
    -------
    networkx.Graph
        Plain and undirected, nodes in the layer's order with their attributes, edges with an integer ``weight``; no
        self-loops, and no edge where the count is zero.

    Notes
    -----
    With ``"activation"`` and ``"inhibition"`` this is the U of the paper's Eq. 12. Memory is 8 n² bytes.

    Examples
    --------
    >>> import networkx as nx
    >>> U = project_layer(nx.star_graph(3), "graph", sign="positive", density=1.0)
    >>> sorted(U.edges(data="weight"))
    [(1, 2, 1), (1, 3, 1), (2, 3, 1)]
    """
    G = as_layered(G)
    profile = binarize(G, layer, density=density, gauge=gauge, thresholds=thresholds)
    U = projection(profile, sign)
    graph = nx.Graph(layer=layer, sign=sign)
    graph.add_nodes_from((node, dict(G.nodes[node])) for node in profile.nodes)
    rows, columns = np.nonzero(np.triu(U, 1))
    weights = U[rows, columns].astype(int).tolist()
    graph.add_weighted_edges_from(
        (profile.nodes[i], profile.nodes[j], w)
        for i, j, w in zip(rows.tolist(), columns.tolist(), weights, strict=True)
    )
    return graph
