"""What an evaluator has measured, graph by graph: kept as long as the graph is."""

from __future__ import annotations

from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from innersight_graph.graph.layered import LayeredDiGraph

__all__ = ["Measured"]

V = TypeVar("V")


class Measured(WeakKeyDictionary[LayeredDiGraph, V]):
    """Graph to measurements; unlike its base it can be pickled, so that worker processes need not measure again.

    A copy knows the graphs that were pickled with it and are still referred to there.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (list(self.items()),)
