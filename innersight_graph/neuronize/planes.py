"""Neuron labels that lie beside the memory of tensors.

Every storage may own one plane: as many int32 as the storage has elements, each the id of the set of neurons that
produced the element (see `sets`). A tensor reads its labels through its own size, stride and offset, therefore views
and
writes through views need no rule at all.

The functions below work on planes as tensors. They first compress runs of equal slices along every axis: labels
hardly ever
change over space or tokens, so that sets are merged a few hundred times, not once per element.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch.multiprocessing.reductions import StorageWeakRef

from innersight_graph.neuronize.sets import EMPTY, NeuronSets

__all__ = ["Cell", "Memory", "Score", "constant_along", "group", "is_blank", "map_ids", "merge", "union"]


@dataclass
class _Plane:
    """The labels of one storage; shared by storages with equal labels until one of them is written."""

    ids: torch.Tensor
    itemsize: int
    shared: bool = False


@dataclass(frozen=True)
class Score:
    """What a matrix of attention scores was made of: the labels of its rows (queries) and columns (keys)."""

    rows: torch.Tensor
    columns: torch.Tensor
    soft: bool = False


@dataclass
class Cell:
    """What is known about one storage.

    Attributes
    ----------
    plane : labels, or None where no neuron has a part in it.
    params : names of the parameters that it was computed from, if from parameters alone.
    chosen : whether the data chose which part of the parameters it is (experts picked by a router).
    inputs : names of the model inputs its values depend on.
    score : set for attention scores.
    node : the step of a unit's own norm and activation that wrote it last (see `closing`).
    """

    reference: StorageWeakRef
    plane: _Plane | None = None
    params: frozenset[str] = frozenset()
    chosen: bool = False
    inputs: frozenset[str] = frozenset()
    score: Score | None = None
    node: int | None = None


class Memory:
    """All cells of one trace, by storage."""

    def __init__(self, sets: NeuronSets) -> None:
        self._sets = sets
        self._cells: dict[int, Cell] = {}
        self.bytes_written = 0
        self._sweep_at = 4096

    def __len__(self) -> int:
        return len(self._cells)

    def find(self, tensor: torch.Tensor) -> Cell | None:
        """Return the cell of a tensor's storage, or None."""
        return self._cells.get(tensor.untyped_storage()._cdata)

    def cell(self, tensor: torch.Tensor) -> Cell:
        """Return the cell of a tensor's storage, made if needed."""
        key = tensor.untyped_storage()._cdata
        found = self._cells.get(key)
        if found is None:
            if len(self._cells) >= self._sweep_at:
                self._sweep()
            # The weak reference keeps the storage's address from being reused while the cell lives.
            found = self._cells[key] = Cell(StorageWeakRef(tensor.untyped_storage()))
        return found

    def _sweep(self) -> None:
        self._cells = {key: cell for key, cell in self._cells.items() if not cell.reference.expired()}
        self._sweep_at = max(4096, 2 * len(self._cells))

    def labels(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """Return the labels of a tensor's elements (int32, its shape; not to be written), or None if it has none."""
        cell = self.find(tensor)
        if cell is None or cell.plane is None:
            return None
        return _strided(self._at_itemsize(cell.plane, tensor.element_size()), tensor)

    def write(self, tensor: torch.Tensor, labels: torch.Tensor | None) -> None:
        """Set the labels of a tensor's elements, leaving the rest of its storage as it is."""
        cell = self.cell(tensor)
        if cell.plane is None:
            if labels is None:
                return
            cell.plane = _Plane(_blank(tensor), tensor.element_size())
            self.bytes_written += 4 * cell.plane.ids.numel()
        elif cell.plane.shared or cell.plane.itemsize != tensor.element_size():
            cell.plane = _Plane(self._at_itemsize(cell.plane, tensor.element_size()).clone(), tensor.element_size())
        view = _strided(cell.plane.ids, tensor)
        if labels is None:
            view.zero_()
        else:
            view.copy_(labels.expand(tensor.shape))

    def share(self, tensor: torch.Tensor, source: torch.Tensor) -> None:
        """Give a tensor the labels of another one of the same shape, without a copy where their layouts agree."""
        origin, cell = self.find(source), self.cell(tensor)
        same = origin is not None and origin.plane is not None and tensor.stride() == source.stride()
        whole = tensor.untyped_storage().nbytes() == source.untyped_storage().nbytes()
        aligned = tensor.storage_offset() == source.storage_offset() and tensor.element_size() == source.element_size()
        if same and whole and aligned and cell is not origin:
            assert origin is not None
            assert origin.plane is not None
            origin.plane.shared = True
            cell.plane = origin.plane
        else:
            self.write(tensor, self.labels(source))

    def _at_itemsize(self, plane: _Plane, itemsize: int) -> torch.Tensor:
        """Re-read a plane for another element size: the two parts of a complex number, or one number over its parts."""
        if itemsize == plane.itemsize:
            return plane.ids
        if itemsize < plane.itemsize:
            return plane.ids.repeat_interleave(plane.itemsize // itemsize)
        # A product of complex numbers mixes both parts, so both producers reach both.
        ratio = itemsize // plane.itemsize
        parts = plane.ids[: plane.ids.numel() // ratio * ratio].reshape(-1, ratio)
        return group(self._sets, parts, [1])[:, 0].contiguous()


def _blank(tensor: torch.Tensor) -> torch.Tensor:
    return torch.zeros(tensor.untyped_storage().nbytes() // tensor.element_size(), dtype=torch.int32)


def _strided(plane: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    return plane.as_strided(tensor.size(), tensor.stride(), tensor.storage_offset())


# --- functions of labels ---------------------------------------------------------------------------------------------


def _is_constant(plane: torch.Tensor, axis: int) -> bool:
    """Tell whether all slices along an axis are equal; the first and the last alone tell most that are not."""
    size = plane.shape[axis]
    if size <= 1 or plane.stride(axis) == 0:
        return True
    if not torch.equal(plane.select(axis, 0), plane.select(axis, size - 1)):
        return False
    return torch.equal(plane.narrow(axis, 0, size - 1), plane.narrow(axis, 1, size - 1))


def _runs(planes: Sequence[torch.Tensor], axis: int) -> torch.Tensor:
    """Return where slices along an axis differ from the one before, in any plane: bool of shape (size - 1,)."""
    size = planes[0].shape[axis]
    differs = torch.zeros(size - 1, dtype=torch.bool)
    for plane in planes:
        changed = plane.narrow(axis, 0, size - 1) != plane.narrow(axis, 1, size - 1)
        others = [d for d in range(plane.ndim) if d != axis]
        differs |= changed.any(dim=others) if others else changed
    return differs


def _compress(planes: Sequence[torch.Tensor]) -> tuple[list[torch.Tensor], list[torch.Tensor | None]]:
    """Keep the first slice of every run along every axis; the maps restore an axis (None: it was constant)."""
    cores = list(planes)
    maps: list[torch.Tensor | None] = [None] * cores[0].ndim
    varying = []
    # Axes without a change first: what is left for the others is small.
    for axis in reversed(range(cores[0].ndim)):
        if all(_is_constant(core, axis) for core in cores):
            cores = [core.narrow(axis, 0, min(1, core.shape[axis])) for core in cores]
        else:
            varying.append(axis)
    for axis in varying:
        differs = _runs(cores, axis)
        run = torch.zeros(differs.shape[0] + 1, dtype=torch.int64)
        torch.cumsum(differs, 0, out=run[1:])
        if int(run[-1]) + 1 < run.shape[0]:
            starts = torch.cat((torch.zeros(1, dtype=torch.int64), differs.nonzero().flatten() + 1))
            cores = [core.index_select(axis, starts) for core in cores]
        maps[axis] = run
    return cores, maps


def _restore(core: torch.Tensor, maps: Sequence[torch.Tensor | None], shape: Sequence[int]) -> torch.Tensor:
    for axis, run in enumerate(maps):
        if run is not None and core.shape[axis] != run.shape[0]:
            core = core.index_select(axis, run)
    return core.expand(*shape)


def map_ids(plane: torch.Tensor, function: Callable[[int], int]) -> torch.Tensor:
    """Apply a function of set ids to every element."""
    (core,), maps = _compress([plane])
    found, where = torch.unique(core, return_inverse=True)
    mapped = torch.tensor([function(i) for i in found.tolist()], dtype=torch.int32)
    return _restore(mapped[where], maps, plane.shape)


def union(sets: NeuronSets, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Merge the sets of two planes element by element; shapes broadcast."""
    first, second = torch.broadcast_tensors(first, second)
    (a, b), maps = _compress([first, second])
    if torch.equal(a, b):
        return first
    keys = a.to(torch.int64) * (1 << 31) + b
    found, where = torch.unique(keys, return_inverse=True)
    merged = [sets.merge(key >> 31, key & 0x7FFFFFFF) for key in found.tolist()]
    return _restore(torch.tensor(merged, dtype=torch.int32)[where], maps, first.shape)


def merge(sets: NeuronSets, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Merge two planes, except where one is a statistic of the other.

    A mean or norm over neurons, applied to these same neurons (LayerNorm, RMSNorm, unit vectors written out), passes
    the
    neurons through; without this rule every channel would depend on every other one.
    """
    first, second = torch.broadcast_tensors(first, second)
    (a, b), maps = _compress([first, second])
    for whole, part, kept in ((a, b, first), (b, a, second)):
        dims = [d for d in range(a.ndim) if whole.shape[d] > 1 and constant_along(part, [d])]
        if dims and torch.equal(group(sets, whole, dims).expand(part.shape), part):
            return kept
    return _restore(union(sets, a, b), maps, first.shape)


def group(sets: NeuronSets, plane: torch.Tensor, dims: Sequence[int]) -> torch.Tensor:
    """Merge all sets along some axes, which keep size 1."""
    dims = sorted({d % plane.ndim for d in dims}) if plane.ndim else []
    if not plane.numel():
        return torch.zeros([1 if d in dims else s for d, s in enumerate(plane.shape)], dtype=torch.int32)
    (core,), maps = _compress([plane])
    if any(core.shape[d] > 1 for d in dims):
        kept = [d for d in range(core.ndim) if d not in dims]
        rows = core.permute(*kept, *dims).reshape(_product(core.shape[d] for d in kept), -1)
        memo: dict[bytes, int] = {}
        merged = []
        for row in rows.numpy():
            key = row.tobytes()
            if key not in memo:
                memo[key] = sets.union(set(row.tolist()))
            merged.append(memo[key])
        shape = [1 if d in dims else s for d, s in enumerate(core.shape)]
        core = torch.tensor(merged, dtype=torch.int32).reshape(shape)
    for d in dims:
        maps[d] = None
    return _restore(core, maps, [1 if d in dims else s for d, s in enumerate(plane.shape)])


def constant_along(plane: torch.Tensor, dims: Sequence[int]) -> bool:
    """Tell whether labels do not change along some axes."""
    return all(_is_constant(plane, d) for d in dims)


def _product(sizes: Iterable[int]) -> int:
    result = 1
    for size in sizes:
        result *= size
    return result


def is_blank(plane: torch.Tensor) -> bool:
    """Tell whether no element has a producer."""
    return not bool((plane != EMPTY).any())
