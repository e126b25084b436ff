"""Edge weights from trained weights: all weights between two neurons reduced to one signed number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse

from innersight_graph.errors import InputError
from innersight_graph.neuronize.layers import Connection, LayerPlan
from innersight_graph.neuronize.record import Feed

__all__ = ["REDUCTIONS", "WeightReducer", "dense_bytes"]

FloatArray = npt.NDArray[np.float32]
Matrix: TypeAlias = Any  # dense float32 or scipy.sparse.csr_array

# Signed reductions of the numbers between two neurons: total gives the sign (and "sum" the size), power the size.
REDUCTIONS = {"weight": None, "sum": None, "l1": 1, "l2": 2}
# Above this share of present pairs a dense matrix is smaller than compressed rows.
_DENSE_ABOVE = 0.5


class WeightReducer:
    """Turn the feeds of a plan's connections into weight matrices; equal matrices are made once and shared.

    Parameters
    ----------
    how : {"weight", "sum", "l1", "l2"}
        The absolute size of an edge; its sign is that of the sum. "weight" insists on a single number per edge.
    fold_batchnorm : bool
        Multiply each neuron's weights by the factor of the batch-norm right after it.
    """

    def __init__(self, how: str, *, fold_batchnorm: bool = False) -> None:
        self.how = how
        self._fold = fold_batchnorm
        self._tables: dict[tuple[int, str], FloatArray] = {}
        self._target: LayerPlan | None = None
        self._whole: dict[tuple[int, int], FloatArray] = {}

    def matrix(self, parts: Sequence[Connection], source: LayerPlan, target: LayerPlan) -> Matrix:
        """Return the weights (n_source, n_target), float32, of all connections between two layers."""
        gate = parts[0].gate
        single = _most_numbers(parts) <= 1
        if self.how == "weight" and not gate and not single:
            raise InputError(
                f"edges='weight' asks for one trained weight per edge, but a neuron of {source.name!r} and one of "
                f"{target.name!r} share "
                f"{_most_numbers(parts)} weights. Use 'sum', 'l1' or 'l2' to reduce them, or 'auto'."
            )
        if len(parts) == 1 and not gate and parts[0].feed.groups == 1 and is_identity(parts[0], source.width):
            return self._shared(parts[0], target)
        total = _sum_of(self._apply(part, source, target, "sum") for part in parts)
        if (single or REDUCTIONS[self.how] is None) and not gate:
            return _finish(total, total, None)
        power = 2 if gate else REDUCTIONS[self.how]
        size = _sum_of(self._apply(part, source, target, "l2" if power == 2 else "l1") for part in parts)
        return _finish(size, total, power, unsigned=gate)

    def _shared(self, part: Connection, target: LayerPlan) -> FloatArray:
        """Return the matrix of a source whose neurons are the channels in order, equal for all layers of a stream."""
        key = (id(part.feed), id(target))
        if key not in self._whole:
            total = self._table(part.feed, target, "sum")
            power = REDUCTIONS[self.how]
            if power is None or part.feed.weight.ndim == 2:
                self._whole[key] = total
            else:
                size = self._table(part.feed, target, "l2" if power == 2 else "l1")
                self._whole[key] = np.asarray(_finish(size, total, power))
        return self._whole[key]

    def _table(self, feed: Feed, target: LayerPlan, how: str) -> FloatArray:
        """Return the feed's weights with the kernel reduced, (channels of one group, n_target), float32."""
        if self._target is not target:
            # Connections come target by target, so that one layer's tables are all that must be kept.
            self._tables, self._target = {}, target
        if (id(feed), how) not in self._tables:
            self._tables[id(feed), how] = self._reduced(feed, target, how)
        return self._tables[id(feed), how]

    def _reduced(self, feed: Feed, target: LayerPlan, how: str) -> FloatArray:
        weight = feed.weight.detach().to(device="cpu", dtype=torch.float32)
        if target.rows is not None:
            weight = weight[torch.from_numpy(target.rows)]
        if self._fold and target.unit is not None and target.unit.norm_scale is not None:
            scale = target.unit.norm_scale.detach().to(device="cpu", dtype=torch.float32)
            scale = scale if target.rows is None else scale[torch.from_numpy(target.rows)]
            weight = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
        if weight.ndim > 2:
            weight = _KERNEL[how](weight.flatten(2))
        else:
            weight = _KERNEL[how](weight.unsqueeze(-1))
        return np.ascontiguousarray(weight.numpy().T)

    def _apply(self, part: Connection, source: LayerPlan, target: LayerPlan, how: str) -> Matrix:
        """Sum a kernel-reduced table over the channels of each source neuron."""
        table = self._table(part.feed, target, how)
        if part.feed.groups > 1:
            return _grouped(part, source.width, table, target)
        shape = (source.width, table.shape[0])
        ones = np.ones(len(part.neurons), dtype=np.float32)
        incidence = sparse.csr_array((ones, (part.neurons, part.channels)), shape=shape)
        product: FloatArray = incidence @ table
        return product


_KERNEL = {
    "sum": lambda w: w.sum(dim=-1),
    "l1": lambda w: w.abs().sum(dim=-1),
    "l2": lambda w: w.square().sum(dim=-1),
}


def _most_numbers(parts: Sequence[Connection]) -> int:
    """Return how many trained weights the best-connected pair of neurons shares."""
    kernel = parts[0].feed.weight.shape[2:].numel()
    return sum(int(np.bincount(part.neurons).max(initial=0)) for part in parts) * kernel


def is_identity(part: Connection, width: int) -> bool:
    """Tell whether source neuron i is channel i, for all channels."""
    n_channels = len(part.feed.sources)
    if width != n_channels or len(part.neurons) != n_channels:
        return False
    return bool(np.array_equal(part.neurons, part.channels))


def _grouped(part: Connection, n_source: int, table: FloatArray, target: LayerPlan) -> sparse.csr_array:
    """Return compressed rows: a channel reaches the targets of its own group only."""
    local = table.shape[0]
    assert target.unit is not None
    rows = np.arange(target.unit.width) if target.rows is None else target.rows
    group_of_target = rows // (target.unit.width // part.feed.groups)
    order = np.argsort(group_of_target, kind="stable")
    starts = np.searchsorted(group_of_target[order], np.arange(part.feed.groups + 1))
    groups, inside = part.channels // local, part.channels % local
    counts = (starts[1:] - starts[:-1])[groups]
    sources = np.repeat(part.neurons, counts)
    offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    targets = order[np.repeat(starts[groups], counts) + offsets]
    values = table[np.repeat(inside, counts), targets]
    return sparse.coo_array((values, (sources, targets)), shape=(n_source, len(rows))).tocsr()


def _sum_of(parts: Any) -> Matrix:
    result: Any = None
    for part in parts:
        result = part if result is None else result + part
    return result


def _finish(size: Matrix, total: Matrix, power: int | None, *, unsigned: bool = False) -> Matrix:
    """Give sizes the sign of the totals; both have the same pattern."""
    if sparse.issparse(size) and size.nnz == total.nnz:
        size, total = sparse.csr_array(size), sparse.csr_array(total)
        size.sum_duplicates()
        total.sum_duplicates()
        size.data = _signed(size.data, total.data, power, unsigned)
        dense_enough = size.nnz > _DENSE_ABOVE * size.shape[0] * size.shape[1]
        return size.toarray() if dense_enough else size
    size, total = (x.toarray() if sparse.issparse(x) else np.asarray(x) for x in (size, total))
    return _signed(size, total, power, unsigned)


def _signed(size: FloatArray, total: FloatArray, power: int | None, unsigned: bool) -> FloatArray:
    if power is None:
        return total
    root = np.sqrt(size) if power == 2 else size
    return root if unsigned else np.copysign(root, total) * (total != 0)


def dense_bytes(parts: Sequence[Connection], source: LayerPlan, target: LayerPlan) -> tuple[Any, int]:
    """Estimate the memory of one matrix, and a key that equal shared matrices have in common."""
    part = parts[0]
    if part.feed.groups > 1:
        m = target.width // part.feed.groups
        pairs = sum(len(p.neurons) for p in parts) * max(m, 1)
        return (id(source), id(target)), min(8 * pairs, 4 * source.width * target.width)
    if len(parts) == 1 and not part.gate and is_identity(part, source.width):
        return (id(part.feed), id(target)), 4 * source.width * target.width
    return (id(source), id(target), part.gate), 4 * source.width * target.width
