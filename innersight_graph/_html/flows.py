"""Connections for the page: the strongest between neurons, and sums between boxes, each sign apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from innersight_graph._html.boxes import Box
    from innersight_graph.graph.layered import LayeredDiGraph

__all__ = ["Edges", "Flows", "box_flows", "count_connections", "layer_offsets", "select_edges"]

# Entries looked at in one piece: 4 million float32 are 16 MiB.
PIECE = 4_000_000


@dataclass(frozen=True)
class Edges:
    """Selected connections between neurons, as columns; neurons are numbered through all layers in order.

    ``strength`` is |weight| over the largest |weight| of its layer pair, so that layers of different scale can be
    drawn with the same widths. ``n_total`` and ``share`` say what the selection stands for.
    """

    source: npt.NDArray[np.int64]
    target: npt.NDArray[np.int64]
    weight: npt.NDArray[np.float32]
    strength: npt.NDArray[np.float32]
    n_total: int
    share: float
    per_neuron: int

    def __len__(self) -> int:
        return len(self.source)


@dataclass(frozen=True)
class Flows:
    """Sums of weights between boxes: rows of (source box, target box, activation, inhibition), both sums >= 0."""

    source: npt.NDArray[np.int64]
    target: npt.NDArray[np.int64]
    activation: npt.NDArray[np.float64]
    inhibition: npt.NDArray[np.float64]

    def attraction(self, layer: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return the activation between boxes beyond what their sums explain, as a dense (n_boxes, n_boxes) array.

        Everything is connected to everything: plain sums would pull all boxes to the middle.
        """
        n = len(layer)
        activation = np.zeros((n, n))
        np.add.at(activation, (self.source, self.target), self.activation)
        same = (layer[:, None] == np.arange(layer.max(initial=0) + 1)).astype(float)
        to_layer, from_layer = activation @ same, same.T @ activation
        between = same.T @ activation @ same
        expected = to_layer[:, layer] * from_layer[layer] / np.maximum(between[layer][:, layer], 1e-30)
        beyond: npt.NDArray[np.float64] = np.maximum(activation - expected, 0.0)
        return beyond


def layer_offsets(G: LayeredDiGraph) -> dict[str, int]:
    """Return the number of the first neuron of each layer when all neurons are counted through."""
    starts = np.cumsum([0, *(layer.width for layer in G.layers)])
    return {layer.name: int(start) for layer, start in zip(G.layers, starts[:-1], strict=True)}


def select_edges(G: LayeredDiGraph, *, per_neuron: int = 3, max_edges: int = 5000) -> Edges:
    """Keep the strongest incoming connections of each neuron, by |weight|, separately for each pair of layers.

    Parameters
    ----------
    G : LayeredDiGraph
        The graph; connections of kind ``"gate"`` are left out.
    per_neuron : int, default 3
        Connections kept for each receiving neuron and pair of layers, and twice as many over all pairs (models with
        residual
        connections have many). Lowered until the selection fits `max_edges`;
        if one each is still too many, the strongest relative to their layer pair are kept.
    max_edges : int, default 5000
        Upper bound on the selection.

    Returns
    -------
    Edges
        In order of source and target; ties are broken by the lower source index.

    Notes
    -----
    Time is linear in the number of connections; extra memory is bounded by 16 MiB pieces.
    """
    if max_edges < 1 or per_neuron < 1:
        per_neuron = 0
    receivers = sum(G.layer(target).width for (_, target) in _value_pairs(G))
    while per_neuron > 1 and receivers * per_neuron > max_edges:
        per_neuron -= 1
    offsets = layer_offsets(G)
    parts: list[tuple[npt.NDArray[Any], ...]] = []
    n_total, mass, kept = 0, 0.0, 0.0
    for source, target in _value_pairs(G):
        matrix = G.connections[source, target]
        rows, columns, weights, count, total = _strongest(matrix, per_neuron)
        n_total, mass, kept = n_total + count, mass + total, kept + float(np.abs(weights).sum(dtype=np.float64))
        largest = float(np.abs(weights).max()) if weights.size else 1.0
        parts.append((rows + offsets[source], columns + offsets[target], weights, np.abs(weights) / largest))
    if not parts:
        parts = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, np.float32))]
    s, t, w, strength = (np.concatenate(column) for column in zip(*parts, strict=True))
    if per_neuron:
        rank = _rank_within(t, strength)
        near = rank < 2 * per_neuron
        if not near.all():
            s, t, w, strength = s[near], t[near], w[near], strength[near]
            kept = float(np.abs(w).sum(dtype=np.float64))
    if len(w) > max_edges:
        keep = np.sort(np.argsort(-strength, kind="stable")[:max_edges])
        s, t, w, strength = s[keep], t[keep], w[keep], strength[keep]
        kept = float(np.abs(w).sum(dtype=np.float64))
    if not G.graph.get("directed", True) and len(G.layers) == 1:
        # Both directions of an undirected edge are stored; one of them is drawn and counted.
        pairs = np.unique(np.stack([np.minimum(s, t), np.maximum(s, t)]), axis=1, return_index=True)[1]
        s, t, w, strength = s[pairs], t[pairs], w[pairs], strength[pairs]
        n_total, mass, kept = (n_total + 1) // 2, mass / 2, float(np.abs(w).sum(dtype=np.float64))
    order = np.lexsort((t, s))
    return Edges(
        s[order], t[order], w[order].astype(np.float32), strength[order].astype(np.float32),
        n_total, kept / mass if mass > 0 else 1.0, per_neuron,
    )  # fmt: skip


def _rank_within(group: npt.NDArray[np.int64], strength: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Return each entry's rank by strength among those of its group, the strongest first."""
    order = np.lexsort((-strength, group))
    ordered = group[order]
    rank = np.empty(len(group), dtype=np.int64)
    rank[order] = np.arange(len(group)) - np.searchsorted(ordered, ordered, side="left")
    return rank


def count_connections(G: LayeredDiGraph) -> int:
    """Return the number of connections that are not zero, gates left out."""
    stored = (G.connections[pair] for pair in _value_pairs(G))
    return sum(int(np.count_nonzero(matrix.data if sparse.issparse(matrix) else matrix)) for matrix in stored)


def _value_pairs(G: LayeredDiGraph) -> list[tuple[str, str]]:
    return [pair for pair in G.connections if G.kinds[pair] == "value"]


def _strongest(
    matrix: Any, k: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32], int, float]:
    if sparse.issparse(matrix):
        return _strongest_sparse(matrix, k)
    n_source, n_target = matrix.shape
    if k >= n_source:
        row, column = np.nonzero(matrix)
        weight = np.asarray(matrix[row, column], dtype=np.float32)
        return row, column, weight, len(row), float(np.abs(weight).sum(dtype=np.float64))
    rows, columns, weights = [], [], []
    count, total = 0, 0.0
    step = max(1, PIECE // max(n_source, 1))
    for start in range(0, n_target, step):
        piece = np.abs(matrix[:, start : start + step])
        count += int(np.count_nonzero(piece))
        total += float(piece.sum(dtype=np.float64))
        best = _top_rows(piece, min(k, n_source))
        column = np.broadcast_to(np.arange(piece.shape[1]), best.shape)
        chosen = piece[best, column] > 0
        rows.append(best[chosen])
        columns.append(column[chosen] + start)
        weights.append(np.asarray(matrix[rows[-1], columns[-1]], dtype=np.float32))
    if not rows:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32), 0, 0.0
    return np.concatenate(rows), np.concatenate(columns), np.concatenate(weights), count, total


def _top_rows(piece: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.int64]:
    """Rows of the k largest entries of each column; for small k a few passes beat a partition along the slow axis."""
    found = np.empty((k, piece.shape[1]), dtype=np.int64)
    scratch = piece.copy() if k > 1 else piece
    column = np.arange(piece.shape[1])
    for rank in range(k):
        found[rank] = scratch.argmax(axis=0)
        if rank + 1 < k:
            scratch[found[rank], column] = -1.0
    return found


def _strongest_sparse(
    matrix: Any, k: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32], int, float]:
    entries = matrix.tocoo()
    size = np.abs(entries.data)
    valid = size > 0
    rows, columns, data, size = entries.row[valid], entries.col[valid], entries.data[valid], size[valid]
    order = np.lexsort((rows, -size, columns))
    ends = columns[order]
    first = np.searchsorted(ends, ends, side="left")
    keep = order[np.arange(len(order)) - first < k]
    return (
        rows[keep].astype(np.int64), columns[keep].astype(np.int64), data[keep].astype(np.float32),
        len(data), float(size.sum(dtype=np.float64)),
    )  # fmt: skip


def box_flows(G: LayeredDiGraph, boxes: Sequence[Box]) -> Flows:
    """Sum activation and inhibition between every two connected boxes.

    Positive and negative weights are never added to each other: their sum would hide strong opposing currents.
    Connections inside one box (one-layer graphs) are left out.
    """
    of_layer: dict[str, list[int]] = {layer.name: [] for layer in G.layers}
    for number, box in enumerate(boxes):
        of_layer[G.layers[box.layer].name].append(number)
    rows: list[tuple[npt.NDArray[Any], ...]] = []
    for source, target in _value_pairs(G):
        left, right = of_layer[source], of_layer[target]
        above, below = _aggregate(
            G.connections[source, target], _indicator(boxes, left, G.layer(source).width),
            _indicator(boxes, right, G.layer(target).width),
        )  # fmt: skip
        i, j = np.nonzero((above > 0) | (below > 0))
        s, t = np.asarray(left)[i], np.asarray(right)[j]
        other = s != t
        rows.append((s[other], t[other], above[i, j][other], below[i, j][other]))
    if not rows:
        none = np.empty(0)
        return Flows(none.astype(np.int64), none.astype(np.int64), none, none)
    s, t, a, b = (np.concatenate(column) for column in zip(*rows, strict=True))
    return Flows(s.astype(np.int64), t.astype(np.int64), a, b)


def _indicator(boxes: Sequence[Box], numbers: list[int], width: int) -> sparse.csr_array:
    rows = np.concatenate([np.full(boxes[number].size, row) for row, number in enumerate(numbers)])
    columns = np.concatenate([boxes[number].members for number in numbers])
    return sparse.csr_array((np.ones(len(rows), np.float32), (rows, columns)), shape=(len(numbers), width))


def _aggregate(
    matrix: Any, left: sparse.csr_array, right: sparse.csr_array
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    if sparse.issparse(matrix):
        return _aggregate_sparse(matrix, left, right)
    shape = (left.shape[0], right.shape[0])
    above, below = np.zeros(shape), np.zeros(shape)
    step = max(1, PIECE // max(matrix.shape[0], 1))
    for start in range(0, matrix.shape[1], step):
        piece = np.asarray(matrix[:, start : start + step], dtype=np.float32)
        into = right[:, start : start + step].T
        above += (left @ np.maximum(piece, 0)) @ into
        below += (left @ np.maximum(-piece, 0)) @ into
    return above, below


def _aggregate_sparse(
    matrix: Any, left: sparse.csr_array, right: sparse.csr_array
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    # The graph's arrays are read-only, which SciPy's own sign functions do not accept: sum over the entries instead.
    entries = matrix.tocoo()
    cell = left.argmax(axis=0)[entries.row] * right.shape[0] + right.argmax(axis=0)[entries.col]
    shape = (left.shape[0], right.shape[0])
    above, below = (
        np.bincount(cell, weights=np.maximum(sign * entries.data, 0), minlength=shape[0] * shape[1]).reshape(shape)
        for sign in (1, -1)
    )
    return above, below
