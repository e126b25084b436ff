"""A binary table in the form the engines want: checked, packed to bits, equal columns merged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from innersight_graph.errors import InputError

__all__ = ["BinaryTable", "Block", "Likelihood", "Problem"]

Likelihood = Literal["bernoulli", "multinomial"]

# Below this many bytes the whole table is kept unpacked (float32); above it, blocks of columns are unpacked when
# needed.
_DENSE_BYTES = 1 << 31
_BLOCK_BYTES = 1 << 27


class Block(NamedTuple):
    """Some columns of a table, unpacked: `values` and `observed` of shape (n_rows, width)."""

    columns: slice
    values: NDArray[np.floating]
    observed: NDArray[np.floating] | None


@dataclass(frozen=True, eq=False)
class BinaryTable:
    """Rows of binary features, bit-packed, with exact multiplicities instead of repeated columns.

    Parameters
    ----------
    bits : ndarray of uint8, shape (n_rows, ceil(n_columns / 8))
        The features, packed along rows (`numpy.packbits`); a missing entry is 0.
    n_columns : int
        Number of distinct columns kept.
    multiplicity : ndarray of float64, shape (n_columns,)
        How many of the original columns each kept one stands for.
    groups : ndarray of int, shape (n_columns,)
        The block (side of the layer) a column belongs to; the multinomial normalises within it.
    observed_bits : ndarray of uint8 or None
        Packed like `bits`; 1 where the entry counts. None: every entry counts.
    """

    bits: NDArray[np.uint8]
    n_columns: int
    multiplicity: NDArray[np.float64]
    groups: NDArray[np.intp]
    observed_bits: NDArray[np.uint8] | None = None
    _dense: dict[str, tuple[NDArray[np.floating], NDArray[np.floating] | None]] = field(
        default_factory=dict, repr=False
    )

    @classmethod
    def from_array(
        cls,
        X: ArrayLike,
        mask: ArrayLike | None = None,
        *,
        likelihood: Likelihood = "bernoulli",
        groups: ArrayLike | None = None,
        merge: bool = True,
        name: str = "X",
    ) -> BinaryTable:
        """Check a 0/1 array and pack it.

        Parameters
        ----------
        X : array_like, shape (n_rows, n_features)
            Booleans, or numbers that are all 0 or 1.
        mask : array_like of bool, shape (n_rows, n_features), optional
            True where an entry counts; the others are left out of numerator and denominator.
        likelihood : {"bernoulli", "multinomial"}
            Decides which columns carry the same information.
        groups : array_like of int, shape (n_features,), optional
            Block of each column.
        merge : bool
            Merge columns that are equal (Bernoulli: or complementary) and drop those without information. Exact.
        name : str
            What to call the array in an error message.

        Raises
        ------
        InputError
            If the array is not two-dimensional, empty of rows, not binary or not finite; the message names the entry.
        """
        values = as_binary(X, name)
        seen = None if mask is None else as_binary(mask, "mask")
        if seen is not None and seen.shape != values.shape:
            raise InputError(
                f"mask has shape {seen.shape}, {name} has shape {values.shape}; give one mask entry for every entry "
                f"of {name}."
            )
        if seen is not None and seen.all():
            seen = None
        if seen is not None:
            values = values & seen
        n_features = values.shape[1]
        blocks = np.zeros(n_features, dtype=np.intp) if groups is None else np.asarray(groups, dtype=np.intp)
        if blocks.shape != (n_features,):
            raise InputError(
                f"groups has shape {blocks.shape}; one block number for each of the {n_features} columns was expected."
            )
        if merge:
            kept, multiplicity = _distinct_columns(values, seen, blocks, likelihood)
        else:
            kept, multiplicity = np.arange(n_features), np.ones(n_features)

        def packed(entries: NDArray[np.bool_]) -> NDArray[np.uint8]:
            return np.packbits(entries if len(kept) == n_features else entries[:, kept], axis=1)

        return cls(
            bits=packed(values),
            n_columns=len(kept),
            multiplicity=multiplicity,
            groups=blocks[kept],
            observed_bits=None if seen is None else packed(seen),
        )

    @property
    def n_rows(self) -> int:
        """Number of rows (neurons)."""
        return int(self.bits.shape[0])

    @property
    def merged(self) -> bool:
        """Whether any kept column stands for several."""
        return bool((self.multiplicity != 1.0).any())

    def unpack(self, columns: slice | None = None) -> tuple[NDArray[np.bool_], NDArray[np.bool_] | None]:
        """Values and observed entries of some columns (start on a multiple of 8), as booleans."""
        start, stop, _ = (columns or slice(None)).indices(self.n_columns)
        count = stop - start

        def open_bits(bits: NDArray[np.uint8]) -> NDArray[np.bool_]:
            return np.unpackbits(bits[:, start // 8 : -(-stop // 8)], axis=1, count=count).view(np.bool_)

        return open_bits(self.bits), None if self.observed_bits is None else open_bits(self.observed_bits)

    def kept(self, dtype: DTypeLike) -> bool:
        """Whether the unpacked table is kept between calls of `blocks`."""
        return self.n_rows * max(self.n_columns, 1) * np.dtype(dtype).itemsize <= _DENSE_BYTES

    def blocks(self, dtype: DTypeLike = np.float32, *, width: int | None = None) -> Iterator[Block]:
        """Unpack the table block by block; a table that fits is unpacked once and kept between calls.

        Parameters
        ----------
        dtype : dtype
        width : int, optional
            Most columns in a block, a multiple of 8. Default: the whole table where it is kept, else 128 MiB.

        Notes
        -----
        Memory: at most 2 GiB for a table kept whole.
        """
        kind = np.dtype(dtype)
        kept = self.kept(kind)
        if kept and kind.str not in self._dense:
            self._dense[kind.str] = self._unpacked(slice(0, self.n_columns), kind)
        if kept and (width is None or width >= self.n_columns):
            yield Block(slice(0, self.n_columns), *self._dense[kind.str])
            return
        step = width or max(8, _BLOCK_BYTES // (self.n_rows * kind.itemsize) // 8 * 8)
        for start in range(0, self.n_columns, step):
            columns = slice(start, min(start + step, self.n_columns))
            if kept:
                values, observed = self._dense[kind.str]
                yield Block(columns, values[:, columns], None if observed is None else observed[:, columns])
            else:
                yield Block(columns, *self._unpacked(columns, kind))

    def _unpacked(
        self, columns: slice, kind: np.dtype[Any]
    ) -> tuple[NDArray[np.floating], NDArray[np.floating] | None]:
        values, observed = self.unpack(columns)
        return values.astype(kind), None if observed is None else observed.astype(kind)

    def take(self, rows: NDArray[np.intp]) -> BinaryTable:
        """Return the same columns of some of the rows."""
        observed = None if self.observed_bits is None else self.observed_bits[rows]
        return BinaryTable(self.bits[rows], self.n_columns, self.multiplicity, self.groups, observed)

    def column_means(self) -> NDArray[np.float64]:
        """Mean of the observed entries of each kept column, shape (n_columns,); 0 where nothing was observed."""
        means = np.zeros(self.n_columns)
        for columns, values, observed in self.blocks():
            ones = values.sum(axis=0, dtype=np.float64)
            counts = self.n_rows if observed is None else np.maximum(observed.sum(axis=0, dtype=np.float64), 1.0)
            means[columns] = ones / counts
        return means

    def group_degrees(self) -> NDArray[np.float64]:
        """Return the number of ones of each row in each block, multiplicities counted, shape (n_rows, n_groups)."""
        n_groups = int(self.groups.max(initial=0)) + 1
        degrees = np.zeros((self.n_rows, n_groups))
        member = np.zeros((self.n_columns, n_groups))
        member[np.arange(self.n_columns), self.groups] = self.multiplicity
        for columns, values, _ in self.blocks():
            degrees += values @ member[columns]
        return degrees

    def __getstate__(self) -> dict[str, object]:
        """Leave the unpacked copies behind, so that a table travels to workers as bits."""
        return {**self.__dict__, "_dense": {}}


@dataclass(frozen=True, eq=False)
class Problem:
    """What is to be maximised: a table, a likelihood and the strength of the column-mean prior.

    Parameters
    ----------
    table : BinaryTable
    likelihood : {"bernoulli", "multinomial"}
    prior : float
        Pseudo-observations per community, at the column means. 0: none (the paper).
    """

    table: BinaryTable
    likelihood: Likelihood = "bernoulli"
    prior: float = 0.0


def as_binary(X: ArrayLike, name: str) -> NDArray[np.bool_]:
    """Booleans of shape (n_rows, n_features) from an array that is all 0 and 1, or an error that names the entry."""
    values = np.asarray(X)
    if values.ndim != 2 or values.shape[0] == 0:
        raise InputError(
            f"{name} has shape {values.shape}; a table with at least one row, (n_rows, n_features), was expected."
        )
    if values.dtype == np.bool_:
        return values
    if values.dtype.kind not in "biuf":
        raise InputError(f"{name} has dtype {values.dtype}; booleans or numbers that are 0 or 1 were expected.")
    ones = values == 1
    wrong = ~(ones | (values == 0))
    if wrong.any():
        row, column = (int(i) for i in np.argwhere(wrong)[0])
        raise InputError(
            f"{name}[{row}, {column}] is {values[row, column]}; every entry must be 0 or 1. "
            "Threshold real weights first (binarize), and replace NaN or leave it out with mask=."
        )
    return np.asarray(ones)


def _distinct_columns(
    values: NDArray[np.bool_], seen: NDArray[np.bool_] | None, groups: NDArray[np.intp], likelihood: Likelihood
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Columns to keep, in their order, and how many each stands for."""
    informative = values.any(axis=0)
    if likelihood == "bernoulli":
        informative &= (~values if seen is None else seen & ~values).any(axis=0)
    candidates = np.flatnonzero(informative)
    if len(candidates) == 0:
        return candidates, np.ones(0)
    columns = values.T[candidates]
    if seen is not None:
        columns = np.concatenate([columns, seen.T[candidates]], axis=1)
    elif likelihood == "bernoulli":
        # A column and its complement add the same to the likelihood: bring both to a common form.
        columns = columns ^ columns[:, :1]
    keys = np.packbits(columns, axis=1)
    keys = np.concatenate([groups[candidates].astype(np.int64).view(np.uint8).reshape(-1, 8), keys], axis=1)
    records = np.ascontiguousarray(keys).view(np.dtype((np.void, keys.shape[1]))).ravel()
    _, first, counts = np.unique(records, return_index=True, return_counts=True)
    order = np.argsort(first)
    return candidates[first[order]], counts[order].astype(np.float64)
