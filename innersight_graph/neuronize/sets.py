"""Interned sets of neurons: every set has one small integer, so that a tensor of sets is a tensor of integers."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["EMPTY", "NeuronSets"]

EMPTY = 0


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
        self._members: list[tuple[int, ...]] = [()]
        self._ids: dict[tuple[int, ...], int] = {(): EMPTY}
        self._unions: dict[tuple[int, ...], int] = {}
        self._gated: dict[int, int] = {}
        self.n_neurons = 0

    def __len__(self) -> int:
        return len(self._members)

    def new_neurons(self, count: int) -> int:
        """Make the next `count` neurons and return the id of the first one's set; numbers and ids are consecutive."""
        first_id, first = len(self._members), self.n_neurons
        members = [(2 * n,) for n in range(first, first + count)]
        self._members.extend(members)
        self._ids.update(zip(members, range(first_id, first_id + count), strict=True))
        self.n_neurons += count
        return first_id

    def union(self, ids: Iterable[int]) -> int:
        """Return the id of the union of sets."""
        parts = tuple(sorted(set(ids) - {EMPTY}))
        if len(parts) < 2:
            return parts[0] if parts else EMPTY
        found = self._unions.get(parts)
        if found is None:
            members: set[int] = set()
            for part in parts:
                members.update(self._members[part])
            found = self._unions[parts] = self._intern(tuple(sorted(members)))
        return found

    def gate(self, set_id: int) -> int:
        """Return the id of the same neurons, all as gates."""
        found = self._gated.get(set_id)
        if found is None:
            codes = tuple(sorted({code | 1 for code in self._members[set_id]}))
            found = self._gated[set_id] = self._intern(codes)
        return found

    def values(self, set_id: int) -> tuple[int, ...]:
        """Return the numbers of the neurons that pass themselves, ascending."""
        return tuple(code >> 1 for code in self._members[set_id] if not code & 1)

    def gates(self, set_id: int) -> tuple[int, ...]:
        """Return the numbers of the neurons that only gate, ascending."""
        return tuple(code >> 1 for code in self._members[set_id] if code & 1)

    def neurons(self, set_id: int) -> tuple[int, ...]:
        """Return the numbers of all neurons, ascending, each once."""
        return tuple(sorted({code >> 1 for code in self._members[set_id]}))

    def neurons_of(self, ids: Iterable[int]) -> set[int]:
        """Return the numbers of all neurons of several sets."""
        return {code >> 1 for set_id in set(ids) for code in self._members[set_id]}

    def _intern(self, codes: tuple[int, ...]) -> int:
        found = self._ids.get(codes)
        if found is None:
            found = self._ids[codes] = len(self._members)
            self._members.append(codes)
        return found
