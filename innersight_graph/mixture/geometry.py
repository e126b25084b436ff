"""Distances and directions between the rows of a binary table: what deterministic starts are made of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from innersight_graph.engines.table import BinaryTable

__all__ = ["Geometry"]

# Up to this many rows all distances are exact and kept (64 MiB); beyond, rows are compared in a sketch of their space.
_EXACT_ROWS = 4096
# Up to this many rows directions are exact too: their cost grows with the cube.
_EXACT_DIRECTIONS = 1024
_POWER_ITERATIONS = 2


@dataclass(frozen=True, eq=False)
class Geometry:
    """Rows of a table as points, missing entries at their column's mean.

    Parameters
    ----------
    table : BinaryTable
    rank : int
        Leading directions a sketch keeps (used beyond 1024 rows only).
    seed : numpy.random.SeedSequence
        Keys the sketch.

    Notes
    -----
    Exact distances: n² M multiply-adds and 4 n² bytes. Sketched: (2 + 2 q) n M rank multiply-adds with q = 2 power
    iterations, and n x rank floats (Halko, Martinsson and Tropp 2011, doi:10.1137/090771806).
    """

    table: BinaryTable
    rank: int
    seed: np.random.SeedSequence

    @property
    def exact(self) -> bool:
        """Whether distances are exact."""
        return self.table.n_rows <= _EXACT_ROWS

    @cached_property
    def products(self) -> NDArray[np.float64]:
        """Inner products of the rows, shape (n_rows, n_rows); for exact geometries only.

        Of complete tables as they are, so that they are whole numbers, free of rounding, and equal distances stay equal
        on every machine; with missing entries, of rows centred at the column means.
        """
        total = np.zeros((self.table.n_rows, self.table.n_rows), dtype=np.float64)
        means = self.table.column_means().astype(np.float32)
        for columns, values, observed in self.table.blocks():
            filled = values if observed is None else (values - means[columns]) * observed
            total += filled @ (filled * self.table.multiplicity[columns].astype(np.float32)).T
        return (total + total.T) / 2

    @cached_property
    def directions(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Orthonormal directions over the rows, strongest first, and their singular values: (n_rows, d) and (d,).

        All of them up to 1024 rows, beyond that the `rank` leading ones.
        """
        if self.table.n_rows > _EXACT_DIRECTIONS:
            return self._sketch()
        centred = self.products - self.products.mean(axis=0)
        values, vectors = np.linalg.eigh(centred - centred.mean(axis=1, keepdims=True))
        return _signed(vectors[:, ::-1]), np.sqrt(np.maximum(values[::-1], 0.0))

    @cached_property
    def squared(self) -> NDArray[np.float32]:
        """Squared distances between all rows, shape (n_rows, n_rows); for exact geometries only."""
        norms = np.diag(self.products)
        distances = norms[:, None] + norms[None, :] - 2.0 * self.products
        return np.maximum(distances, 0.0).astype(np.float32)

    @cached_property
    def points(self) -> NDArray[np.float32]:
        """Coordinates of the rows in the sketch, shape (n_rows, rank)."""
        vectors, values = self.directions
        return (vectors * values).astype(np.float32)

    def squared_to(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Squared distances from given rows to all rows, shape (len(rows), n_rows)."""
        if self.exact:
            return np.asarray(self.squared[rows])
        return squared_between(self.points[rows], self.points)

    def _sketch(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        table = self.table
        generator = np.random.Generator(np.random.Philox(self.seed))
        probe = generator.standard_normal((table.n_columns, min(self.rank + 8, table.n_rows)), dtype=np.float32)
        means = table.column_means().astype(np.float32)
        roots = np.sqrt(table.multiplicity).astype(np.float32)
        image = self._times(probe, means, roots)
        for _ in range(_POWER_ITERATIONS):
            basis, _ = np.linalg.qr(image)
            image = self._times(self._transposed_times(basis, means, roots), means, roots)
        basis, _ = np.linalg.qr(image)
        folded = self._transposed_times(basis, means, roots).astype(np.float64)
        _, values, rotation = np.linalg.svd(folded, full_matrices=False)
        left = basis.astype(np.float64) @ rotation.T
        return _signed(left[:, : self.rank]), values[: self.rank]

    def _times(
        self, right: NDArray[np.float32], means: NDArray[np.float32], roots: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """(centred, weighted table) @ right."""
        total = np.zeros((self.table.n_rows, right.shape[1]), dtype=np.float32)
        for columns, values, observed in self.table.blocks():
            scaled = right[columns] * roots[columns, None]
            total += values @ scaled
            total -= (
                (means[columns] @ scaled)[None, :] if observed is None else observed @ (means[columns, None] * scaled)
            )
        return total

    def _transposed_times(
        self, left: NDArray[np.float32], means: NDArray[np.float32], roots: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """(centred, weighted table).T @ left."""
        result = np.empty((self.table.n_columns, left.shape[1]), dtype=np.float32)
        for columns, values, observed in self.table.blocks():
            block = values.T @ left
            seen = left.sum(axis=0, keepdims=True) if observed is None else observed.T @ left
            result[columns] = (block - means[columns, None] * seen) * roots[columns, None]
        return result


def squared_between(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Squared Euclidean distances between the rows of two arrays."""
    distances = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1)[None, :] - 2.0 * (a @ b.T)
    return np.asarray(np.maximum(distances, 0.0, out=distances))


def _signed(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each direction with the sign that makes its largest entry positive: LAPACK builds differ in it."""
    largest = np.abs(vectors).argmax(axis=0)
    return vectors * np.where(vectors[largest, np.arange(vectors.shape[1])] < 0, -1.0, 1.0)
