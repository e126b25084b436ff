"""Degree views that read a whole graph's degrees from its arrays instead of asking every edge."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

from networkx.classes.reportviews import DiDegreeView, InDegreeView, OutDegreeView

__all__ = ["ArrayDegreeView", "ArrayInDegreeView", "ArrayOutDegreeView"]

Pairs = Iterator[tuple[Hashable, float]]


def _from_arrays(view: Any, directions: tuple[str, ...]) -> Pairs | None:
    """Return (node, degree) pairs in node order, or None where the view asks for something the arrays do not hold."""
    from innersight_graph.graph.matrices import STORED, degrees

    graph = view._graph
    if view._nodes is not view._succ or not graph.has_derived_attributes or view._weight not in STORED:
        return None
    total = sum(degrees(graph, view._weight, direction) for direction in directions)
    return zip(graph, total.tolist(), strict=True)  # type: ignore[union-attr]


class ArrayDegreeView(DiDegreeView):  # type: ignore[misc]
    """Degrees of all nodes, incoming and outgoing edges together."""

    def __iter__(self) -> Pairs:
        return _from_arrays(self, ("out", "in")) or super().__iter__()


class ArrayInDegreeView(InDegreeView):  # type: ignore[misc]
    """In-degrees of all nodes."""

    def __iter__(self) -> Pairs:
        return _from_arrays(self, ("in",)) or super().__iter__()


class ArrayOutDegreeView(OutDegreeView):  # type: ignore[misc]
    """Out-degrees of all nodes."""

    def __iter__(self) -> Pairs:
        return _from_arrays(self, ("out",)) or super().__iter__()
