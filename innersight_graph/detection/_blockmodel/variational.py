"""Soft co-clustering of one layer: the updates, the bound that scores them, and the merging of feature groups.

A layer is a list of blocks (previous layer, next layer) over the same rows. Rows have groups z, the features of each
block their own groups w. Everything a block must offer is in `Block`; its statistics add over groups, so that merging
two groups is adding their slices.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from innersight_graph.detection._blockmodel.expectation import Floats
from innersight_graph.detection._blockmodel.poisson import STRENGTHS

Ints = NDArray[np.intp]
_SOFT = 0.1


class Block(Protocol):
    """What a likelihood must offer; see `PoissonBlock` and `GaussianBlock`."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and features."""
        ...

    def statistics(self, Q: Floats, R: Floats) -> Floats:
        """Additive statistics of every (row group, feature group)."""
        ...

    def cell_evidence(self, stats: Floats) -> Floats:
        """Log evidence of each cell for each prior strength."""
        ...

    def parameters(self, stats: Floats, strength: float) -> Floats:
        """Posterior parameters of every cell."""
        ...

    def row_messages(self, θ: Floats, R: Floats) -> Floats:
        """Log likelihood of each row in each group."""
        ...

    def column_messages(self, θ: Floats, Q: Floats) -> Floats:
        """Log likelihood of each feature in each group."""
        ...


@dataclass(frozen=True)
class State:
    """A fit: soft labels of rows and of each block's features, tables, and the bound in nats."""

    rows: Floats
    features: tuple[Floats, ...]
    tables: tuple[Floats, ...]
    strengths: tuple[float, ...]
    bound: float
    n_iter: int = 0
    converged: bool = False

    @property
    def labels(self) -> Ints:
        """Hard labels of the rows, 0-based, empty groups left out of the numbering."""
        return np.unique(self.rows.argmax(axis=1), return_inverse=True)[1].astype(np.intp)

    @property
    def n_groups(self) -> int:
        """Groups that hold at least one row; one where the rows are nearer to undecided than to decided.

        Near the limit of detectability the messages can settle where every row belongs to every group alike. Its bound
        is high, for it claims nothing, and its labels are rounding.
        """
        decided = float(self.rows.max(axis=1).mean())
        if decided < (1 + 1 / self.rows.shape[1]) / 2:
            return 1
        return int(np.unique(self.rows.argmax(axis=1)).size)


def label_cost(counts: Floats) -> float:
    """Log probability of a labelling with these group sizes under a uniform Dirichlet prior."""
    from scipy.special import gammaln

    C = counts.size
    return float(gammaln(C) - gammaln(counts.sum() + C) + gammaln(counts + 1).sum())


def entropy(Q: Floats) -> float:
    """Sum the entropies of the rows of Q, nats."""
    q = np.maximum(Q, 1e-300)
    return float(-(Q * np.log(q)).sum())


def best_strength(block: Block, stats: Floats) -> tuple[float, float]:
    """Return the table's evidence under its best prior strength, ln 6 paid for the choice, and that strength."""
    evidence = block.cell_evidence(stats).sum(axis=(1, 2))
    best = int(np.argmax(evidence))
    return float(evidence[best] - np.log(STRENGTHS.size)), float(STRENGTHS[best])


def soften(labels: Ints, n_groups: int) -> Floats:
    """One-hot labels mixed with a little of everything, (n, n_groups)."""
    Q = np.full((labels.size, n_groups), _SOFT / n_groups)
    Q[np.arange(labels.size), labels] += 1 - _SOFT
    return Q


def harden(Q: Floats) -> Floats:
    """One-hot of the largest entry of each row."""
    result: Floats = np.eye(Q.shape[1])[Q.argmax(axis=1)]
    return result


def assess(blocks: list[Block], Q: Floats, R: list[Floats]) -> State:
    """Tables and integrated bound of given soft labels.

    The bound is the exact integrated likelihood's form at soft counts plus the entropies of the labels: hard labels
    cost (K + ΣF) ln C nats, and the entropies give back what uncertain labels need not pay. With one-hot labels it is
    the exact integrated complete likelihood (ICL).
    """
    tables = tuple(block.statistics(Q, r) for block, r in zip(blocks, R, strict=True))
    scored = [best_strength(block, table) for block, table in zip(blocks, tables, strict=True)]
    bound = sum(value for value, _ in scored) + label_cost(Q.sum(axis=0)) + entropy(Q)
    bound += sum(label_cost(r.sum(axis=0)) + entropy(r) for r in R)
    return State(Q, tuple(R), tables, tuple(strength for _, strength in scored), float(bound))


def _softmax(L: Floats) -> Floats:
    L = L - L.max(axis=1, keepdims=True)
    np.exp(L, out=L)
    L /= L.sum(axis=1, keepdims=True)
    return L


def _log_mean(Q: Floats) -> Floats:
    result: Floats = np.log(np.maximum(Q.mean(axis=0), 1e-12))
    return result


def improve(blocks: list[Block], state: State, *, max_iter: int = 60, tol: float = 1e-3) -> State:
    """Alternate features, rows and tables until no responsibility moves by `tol`; return the state with the best bound.

    Notes
    -----
    The averaged messages are no ascent of the bound, so the best state passed is what is kept. One iteration costs
    about 12 · n_rows · n_features · n_groups operations for each channel.
    """
    best = current = state
    for iteration in range(1, max_iter + 1):
        θ = [b.parameters(t, κ) for b, t, κ in zip(blocks, current.tables, current.strengths, strict=True)]
        R = [
            _softmax(_log_mean(r) + block.column_messages(t, current.rows))
            for block, t, r in zip(blocks, θ, current.features, strict=True)
        ]
        L = _log_mean(current.rows)[None, :] + sum(b.row_messages(t, r) for b, t, r in zip(blocks, θ, R, strict=True))
        Q = _softmax(np.asarray(L))
        moved = float(np.abs(Q - current.rows).max())
        current = replace(assess(blocks, Q, R), n_iter=iteration, converged=moved < tol)
        if current.bound > best.bound:
            best = current
        if moved < tol:
            break
    return replace(best, n_iter=current.n_iter, converged=current.converged)


def merge_features(blocks: list[Block], state: State) -> State:
    """Greedily merge pairs of feature groups, block by block, while the bound rises."""
    R = list(state.features)
    tables = list(state.tables)
    for b, block in enumerate(blocks):
        while R[b].shape[1] > 1:
            pair, gain = _best_merge(block, tables[b], R[b])
            if gain <= 0:
                break
            R[b] = _merged(R[b], *pair, axis=1)
            tables[b] = _merged(tables[b], *pair, axis=2)
    return assess(blocks, state.rows, R)


def _merged(array: Floats, i: int, j: int, axis: int) -> Floats:
    out = np.delete(array, j, axis=axis)
    target = [slice(None)] * array.ndim
    target[axis] = i if i < j else i - 1  # type: ignore[call-overload]
    out[tuple(target)] += array.take(j, axis=axis)
    return out


def _best_merge(block: Block, table: Floats, R: Floats) -> tuple[tuple[int, int], float]:
    """Return the pair of feature groups whose merging raises the bound most, and by how much."""
    first, second = np.triu_indices(R.shape[1], 1)
    cells = block.cell_evidence(table).sum(axis=1)
    joint = block.cell_evidence(table[:, :, first] + table[:, :, second]).sum(axis=1)
    after = (cells.sum(axis=1)[:, None] - cells[:, first] - cells[:, second] + joint).max(axis=0)
    evidence_gain = after - cells.sum(axis=1).max()
    sizes = R.sum(axis=0)
    before_cost = label_cost(sizes)
    cost = np.array([label_cost(_merged(sizes, int(i), int(j), axis=0)) for i, j in zip(first, second, strict=True)])
    plogp = np.where(R > 0, R * np.log(np.maximum(R, 1e-300)), 0.0).sum(axis=0)
    pair = R[:, first] + R[:, second]
    pair_plogp = (pair * np.log(np.maximum(pair, 1e-300))).sum(axis=0)
    gain = evidence_gain + cost - before_cost - (pair_plogp - plogp[first] - plogp[second])
    best = int(np.argmax(gain))
    return (int(first[best]), int(second[best])), float(gain[best])
