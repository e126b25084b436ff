"""Interned sets of neurons: every set has one small integer, so that a tensor of sets is a tensor of integers."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

__all__ = ["EMPTY", "NeuronSets"]

EMPTY = 0
# Unions of more sets than this are merged as arrays.
_MANY = 64


class NeuronSets:
    """Sets of neurons with interned ids; id 0 is the empty set.

    A member is a code: twice the neuron's number, plus one where the neuron only gates (it decides by attention how
    much
    of another neuron passes, but does not pass itself). Sets never change; ids are never reused.

    Examples
    --------
    >>> sets = NeuronSets()
    >>> first = sets.new_neurons(3)
    >>> both = sets.union([first, first + 1])
    >>> sets.values(both), sets.union([both, first]) == both
    ((0, 1), True)
    >>> sets.values(sets.gate(both)), sets.gates(sets.gate(both))
    ((), (0, 1))
    """

    def __init__(self) -> None:
        # Single neurons are numbered in blocks and not stored; everything else is.
        self._starts: list[int] = []
        self._firsts: list[int] = []
        self._counts: list[int] = []
        self._members: dict[int, tuple[int, ...]] = {EMPTY: ()}
        self._ids: dict[tuple[int, ...], int] = {(): EMPTY}
        self._unions: dict[tuple[int, ...], int] = {}
        self._gated: dict[int, int] = {}
        self._next = 1
        self.n_neurons = 0

    def __len__(self) -> int:
        return self._next

    def new_neurons(self, count: int) -> int:
        """Make the next `count` neurons and return the id of the first one's set; numbers and ids are consecutive."""
        first_id = self._next
        self._starts.append(first_id)
        self._firsts.append(self.n_neurons)
        self._counts.append(count)
        self.n_neurons += count
        self._next += count
        return first_id

    def _codes(self, set_id: int) -> tuple[int, ...]:
        """Return the member codes of a set, ascending."""
        stored = self._members.get(set_id)
        if stored is not None:
            return stored
        block = bisect_right(self._starts, set_id) - 1
        return (2 * (self._firsts[block] + set_id - self._starts[block]),)

    def union(self, ids: Iterable[int]) -> int:
        """Return the id of the union of sets."""
        parts = tuple(sorted(set(ids) - {EMPTY}))
        if len(parts) < 2:
            return parts[0] if parts else EMPTY
        found = self._unions.get(parts)
        if found is None:
            if len(parts) > _MANY:
                merged = _distinct(self._codes_of_many(np.array(parts, dtype=np.int64))).tolist()
            else:
                members: set[int] = set()
                for part in parts:
                    members.update(self._codes(part))
                merged = sorted(members)
            found = self._unions[parts] = self._intern(tuple(merged))
        return found

    def merge(self, first: int, second: int) -> int:
        """Return the id of the union of two sets, as `union`, in less time."""
        if first == second or second == EMPTY:
            return first
        if first == EMPTY:
            return second
        pair = (first, second) if first < second else (second, first)
        found = self._unions.get(pair)
        if found is None:
            codes = tuple(sorted({*self._codes(first), *self._codes(second)}))
            found = self._unions[pair] = self._intern(codes)
        return found

    def _codes_of_many(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return all member codes of many sets, with repetitions: single neurons by arithmetic."""
        starts, firsts = np.array(self._starts), np.array(self._firsts)
        block = np.searchsorted(starts, ids, side="right") - 1
        single = (block >= 0) & (ids - starts[block] < np.array(self._counts)[block])
        codes = 2 * (firsts[block] + ids - starts[block])[single]
        rest = [code for i in ids[~single].tolist() for code in self._members[i]]
        return np.concatenate([codes, np.array(rest, dtype=np.int64)])

    def gate(self, set_id: int) -> int:
        """Return the id of the same neurons, all as gates."""
        found = self._gated.get(set_id)
        if found is None:
            codes = tuple(sorted({code | 1 for code in self._codes(set_id)}))
            found = self._gated[set_id] = self._intern(codes)
        return found

    def values(self, set_id: int) -> tuple[int, ...]:
        """Return the numbers of the neurons that pass themselves, ascending."""
        return tuple(code >> 1 for code in self._codes(set_id) if not code & 1)

    def gates(self, set_id: int) -> tuple[int, ...]:
        """Return the numbers of the neurons that only gate, ascending."""
        return tuple(code >> 1 for code in self._codes(set_id) if code & 1)

    def neurons(self, set_id: int) -> tuple[int, ...]:
        """Return the numbers of all neurons, ascending, each once."""
        return tuple(sorted({code >> 1 for code in self._codes(set_id)}))

    def neurons_of(self, ids: Iterable[int]) -> list[int]:
        """Return the numbers of all neurons of several sets, ascending, each once."""
        parts = _distinct(np.fromiter(ids, dtype=np.int64))
        parts = parts[parts != EMPTY]
        if not len(parts):
            return []
        numbers: list[int] = _distinct(self._codes_of_many(parts) >> 1).tolist()
        return numbers

    def _intern(self, codes: tuple[int, ...]) -> int:
        if len(codes) == 1 and not codes[0] & 1:
            block = bisect_right(self._firsts, codes[0] >> 1) - 1
            return self._starts[block] + (codes[0] >> 1) - self._firsts[block]
        found = self._ids.get(codes)
        if found is None:
            found = self._ids[codes] = self._next
            self._members[found] = codes
            self._next += 1
        return found


def _distinct(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Sort and drop repetitions; for numbers this near each other sorting is far faster than hashing."""
    ordered = np.sort(values)
    return ordered[np.concatenate(([True], ordered[1:] != ordered[:-1]))] if len(ordered) else ordered
