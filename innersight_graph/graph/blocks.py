"""How the connections between two layers are held: one dense or one sparse block, read row by row.

Both blocks answer the same five questions about a row, so that the adjacency never asks which of the two it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import networkx as nx
import numpy as np
import numpy.typing as npt
from scipy import sparse

__all__ = ["Block", "DenseBlock", "ReadOnlyDict", "SparseBlock", "edge_data"]

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.integer[Any]]
Int32Array = npt.NDArray[np.int32]
Part = Callable[[FloatArray], FloatArray]


class ReadOnlyDict(dict[str, Any]):
    """Attributes of a node or an edge: read like a dict, refuse assignment, copy and pickle to a plain dict.

    Examples
    --------
    >>> data = ReadOnlyDict(weight=0.5)
    >>> data["weight"], type(data.copy())
    (0.5, <class 'dict'>)
    >>> data["weight"] = 1.0
    Traceback (most recent call last):
        ...
    networkx.exception.NetworkXError: ...
    """

    __slots__ = ()

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise nx.NetworkXError(
            "Attributes of a LayeredDiGraph are read from its arrays and cannot be assigned. Work on G.copy() or "
            "G.to_networkx(), which are plain mutable graphs, or build a new graph with LayeredDiGraph.from_arrays."
        )

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def copy(self) -> dict[str, Any]:
        """Return the attributes as a plain dict."""
        return dict(self)

    def __copy__(self) -> dict[str, Any]:
        return dict(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        from copy import deepcopy

        return deepcopy(dict(self), memo)

    def __reduce__(self) -> tuple[type[dict[str, Any]], tuple[dict[str, Any]]]:
        return dict, (dict(self),)


def edge_data(weight: float, kind: str) -> ReadOnlyDict:
    """Return the four attributes of an edge, all derived from its weight and the kind of its connection."""
    value = kind == "value"
    return ReadOnlyDict(
        weight=weight,
        activation=weight if value and weight > 0 else 0.0,
        inhibition=-weight if value and weight < 0 else 0.0,
        kind=kind,
    )


class DenseBlock:
    """Connections as a matrix: an exact zero is no edge.

    Parameters
    ----------
    weights : ndarray of float32, shape (n_source, n_target)
    kind : str
        ``"value"`` or ``"gate"``.
    """

    __slots__ = ("_nnz", "_transposed", "kind", "weights")

    def __init__(self, weights: FloatArray, kind: str, nnz: int | None = None) -> None:
        self.weights = weights
        self.kind = kind
        self._nnz = nnz
        self._transposed: DenseBlock | None = None

    @property
    def nnz(self) -> int:
        """Number of edges, counted once."""
        if self._nnz is None:
            self._nnz = int(np.count_nonzero(self.weights))
        return self._nnz

    @property
    def transposed(self) -> DenseBlock:
        """The same edges seen from their targets; a view."""
        if self._transposed is None:
            self._transposed = DenseBlock(self.weights.T, self.kind, self._nnz)
        return self._transposed

    def columns(self, row: int) -> list[int]:
        """Return the columns of a row's edges, in order."""
        found: list[int] = np.flatnonzero(self.weights[row]).tolist()
        return found

    def entries(self, row: int) -> list[tuple[int, ReadOnlyDict]]:
        """Return (column, attributes) of a row's edges, in order."""
        weights = self.weights[row]
        columns = np.flatnonzero(weights)
        kind = self.kind
        return [(j, edge_data(w, kind)) for j, w in zip(columns.tolist(), weights[columns].tolist(), strict=True)]

    def get(self, row: int, column: int) -> ReadOnlyDict | None:
        """Return the attributes of one edge, or None where there is none."""
        weight = float(self.weights[row, column])
        return edge_data(weight, self.kind) if weight != 0 else None

    def has(self, row: int, column: int) -> bool:
        """Tell whether there is an edge."""
        return bool(self.weights[row, column] != 0)

    def count(self, row: int) -> int:
        """Return the number of a row's edges."""
        return int(np.count_nonzero(self.weights[row]))

    def counts(self) -> IntArray:
        """Return the number of edges of every row, shape (n_source,)."""
        counts: IntArray = np.count_nonzero(self.weights, axis=1)
        return counts

    def sums(self, part: Part | None) -> npt.NDArray[Any]:
        """Return the sum of every row after applying part to the weights; None counts edges."""
        if part is None:
            return self.counts()
        return np.asarray(part(self.weights).sum(axis=1, dtype=np.float64))

    def triples(self) -> tuple[Int32Array, Int32Array, FloatArray]:
        """Return (rows, columns, weights) of all edges, row by row."""
        rows, columns = np.nonzero(self.weights)
        return rows.astype(np.int32), columns.astype(np.int32), self.weights[rows, columns]


class SparseBlock:
    """Connections in compressed rows: every stored entry is an edge, also one of weight zero.

    Parameters
    ----------
    matrix : scipy.sparse.csr_array of float32, shape (n_source, n_target)
        The order within a row is the order of iteration.
    kind : str
        ``"value"`` or ``"gate"``.
    attributes : sequence of ReadOnlyDict, optional
        The attributes of the entries where a graph from elsewhere brought its own, aligned with ``matrix.data``.
    transposed : SparseBlock, optional
        The same edges by target, where their order of iteration is not that of the sources.
    """

    __slots__ = ("_transposed", "attributes", "kind", "matrix")

    def __init__(
        self,
        matrix: sparse.csr_array,
        kind: str,
        attributes: Sequence[ReadOnlyDict] | None = None,
        transposed: SparseBlock | None = None,
    ) -> None:
        self.matrix = matrix
        self.kind = kind
        self.attributes = attributes
        self._transposed = transposed

    @property
    def nnz(self) -> int:
        """Number of edges."""
        return int(self.matrix.indptr[-1])

    @property
    def transposed(self) -> SparseBlock:
        """The same edges seen from their targets, sources in order; made once, when first asked for."""
        if self._transposed is None:
            order = np.argsort(self.matrix.indices, kind="stable")
            sources = np.repeat(np.arange(self.matrix.shape[0], dtype=np.int32), self.counts())[order]
            totals = np.bincount(self.matrix.indices, minlength=self.matrix.shape[1])
            indptr = np.concatenate(([0], np.cumsum(totals)))
            matrix = sparse.csr_array((self.matrix.data[order], sources, indptr), shape=self.matrix.shape[::-1])
            attributes = None if self.attributes is None else [self.attributes[i] for i in order.tolist()]
            self._transposed = SparseBlock(matrix, self.kind, attributes, transposed=self)
        return self._transposed

    def _span(self, row: int) -> slice:
        return slice(int(self.matrix.indptr[row]), int(self.matrix.indptr[row + 1]))

    def _data(self, position: int) -> ReadOnlyDict:
        if self.attributes is not None:
            return self.attributes[position]
        return edge_data(float(self.matrix.data[position]), self.kind)

    def _position(self, row: int, column: int) -> int | None:
        span = self._span(row)
        found = np.flatnonzero(self.matrix.indices[span] == column)
        return span.start + int(found[0]) if found.size else None

    def columns(self, row: int) -> list[int]:
        """Return the columns of a row's edges, in order."""
        found: list[int] = self.matrix.indices[self._span(row)].tolist()
        return found

    def entries(self, row: int) -> list[tuple[int, ReadOnlyDict]]:
        """Return (column, attributes) of a row's edges, in order."""
        span = self._span(row)
        columns = self.matrix.indices[span].tolist()
        return [(j, self._data(p)) for p, j in enumerate(columns, start=span.start)]

    def get(self, row: int, column: int) -> ReadOnlyDict | None:
        """Return the attributes of one edge, or None where there is none."""
        position = self._position(row, column)
        return None if position is None else self._data(position)

    def has(self, row: int, column: int) -> bool:
        """Tell whether there is an edge."""
        return self._position(row, column) is not None

    def count(self, row: int) -> int:
        """Return the number of a row's edges."""
        return int(self.matrix.indptr[row + 1] - self.matrix.indptr[row])

    def counts(self) -> IntArray:
        """Return the number of edges of every row, shape (n_source,)."""
        counts: IntArray = np.diff(self.matrix.indptr)
        return counts

    def sums(self, part: Part | None) -> npt.NDArray[Any]:
        """Return the sum of every row after applying part to the weights; None counts edges."""
        if part is None:
            return self.counts()
        rows, _, weights = self.triples()
        return np.bincount(rows, weights=part(weights), minlength=self.matrix.shape[0])

    def triples(self) -> tuple[Int32Array, Int32Array, FloatArray]:
        """Return (rows, columns, weights) of all edges, row by row."""
        rows = np.repeat(np.arange(self.matrix.shape[0], dtype=np.int32), self.counts())
        return rows, self.matrix.indices.astype(np.int32, copy=False), self.matrix.data


Block = DenseBlock | SparseBlock
