"""The readable engine: Eq. 2-8 in float64, on NumPy or on any array library that speaks its language.

One layer's matrices side by side are a binary table X (n rows, M columns); the paper's equations are a Bernoulli
mixture on it. For responsibilities q (Eq. 4) of shape (restarts, components, rows):

* M-step, Eq. 5-8: pi = sum_i q_i / n and tau_j = sum_i q_i x_ij / sum_i q_i, with missing entries left out of both
sums;
* E-step, Eq. 4: log q_i = log pi + sum_j x_ij log tau_j + (1 - x_ij) log(1 - tau_j) - log-likelihood of row i.

The multinomial sibling (Newman and Leicht, doi:10.1073/pnas.0610537104) replaces tau by theta_j, which sums to one over
the columns of a block, and keeps only the ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from innersight_graph.engines.base import EPSILON, Fits, Group, Ledger
from innersight_graph.engines.table import BinaryTable, Problem

__all__ = ["ArrayEngine", "Coefficients"]

_TINY = 1e-300
# Bytes of the state of restarts that run together.
STATE_BYTES = 1 << 28
# Beyond this many entries products are taken in float32, so many columns at a time, and summed in float64: twice as
# fast and half the memory. Sums of ones are exact as long as responsibilities are 0 and 1, which with so many features
# they are; densities are right to about 1e-7 of a block's, far below what separates communities there.
_EXACT_ENTRIES, _SINGLE_WIDTH = 1 << 27, 1024


class Coefficients(NamedTuple):
    """A linear form of the log-density: sum_j ones_j x_ij + observed_j o_ij + constant, and the log-prior behind it."""

    ones: Any
    observed: Any | None
    constant: Any
    log_prior: Any


class ArrayEngine:
    """EM on arrays, all restarts of a group at once.

    Parameters
    ----------
    xp : module, optional
        The array library; NumPy by default.

    Notes
    -----
    Cost: 4 n M r multiply-adds per restart and iteration. Memory: about 256 MiB of state beside the table. Tables of
    more than 134 million entries are multiplied in float32, block by block, and summed in float64.
    """

    name = "numpy"

    def __init__(self, xp: Any = np) -> None:
        self.xp = xp

    def fit(self, problem: Problem, groups: Sequence[Group], *, max_iter: int, tol: float) -> list[Fits]:
        """Run every group; see `innersight_graph.engines.base.Engine`."""
        return self._fit(problem, groups, max_iter, tol)

    def _fit(
        self, problem: Problem, groups: Sequence[Group], max_iter: int, tol: float, memory: int = STATE_BYTES
    ) -> list[Fits]:
        return [self._fit_group(problem, group, max_iter, tol, memory) for group in groups]

    def _fit_group(self, problem: Problem, group: Group, max_iter: int, tol: float, memory: int) -> Fits:
        n = problem.table.n_rows
        ledger = Ledger(group, n)
        together = max(1, memory // (8 * group.n_components * (3 * n + 4 * problem.table.n_columns)))
        for start in range(0, len(group.restarts), together):
            restarts = group.restarts[start : start + together]
            state, objective, n_iter, converged = self.run(problem, group.draw(restarts), max_iter=max_iter, tol=tol)
            for i, restart in enumerate(restarts):
                if ledger.record(restart, objective[i], n_iter[i], converged[i], state[i].argmax(axis=0)):
                    ledger.keep(restart, state[i])
        return ledger.close()

    def run(
        self, problem: Problem, responsibilities: NDArray[np.floating], *, max_iter: int, tol: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]:
        """Iterate from given responsibilities, shape (restarts, components, rows); converged restarts leave the batch.

        Returns
        -------
        responsibilities, objective, n_iter, converged : ndarrays on the host
        """
        xp = self.xp
        q = xp.asarray(responsibilities, dtype=xp.float64)
        final = xp.empty_like(q)
        n_restarts = q.shape[0]
        objective, n_iter = np.full(n_restarts, -np.inf), np.zeros(n_restarts, dtype=np.int64)
        converged = np.zeros(n_restarts, dtype=np.bool_)
        running = np.arange(n_restarts)
        for iteration in range(1, max_iter + 1):
            new, value = self.step(problem, q)
            change = self._host(xp.abs(new - q).max(axis=(1, 2)))
            still = change <= tol
            ended = still | (iteration == max_iter)
            if ended.any():
                final[xp.asarray(running[ended])] = new[xp.asarray(np.flatnonzero(ended))]
                objective[running[ended]] = self._host(value)[ended]
                n_iter[running[ended]] = iteration
                converged[running[ended]] = still[ended]
                running = running[~ended]
                new = new[xp.asarray(np.flatnonzero(~ended))]
            if len(running) == 0:
                break
            q = new
        return self._host(final), objective, n_iter, converged

    def step(self, problem: Problem, q: Any, *, temperature: float = 1.0) -> tuple[Any, Any]:
        """One M-step and one E-step.

        Returns
        -------
        responsibilities : array, shape (restarts, components, rows)
            At inverse temperature 1 / `temperature` (1: plain EM).
        objective : array, shape (restarts,)
            Log-likelihood of the parameters the E-step used, in nats, plus their log-prior.
        """
        xp = self.xp
        log_joint, log_prior = self.log_joint(problem, q)
        log_joint = log_joint / temperature
        peak = log_joint.max(axis=1, keepdims=True)
        new = xp.exp(log_joint - peak)
        total = new.sum(axis=1, keepdims=True)
        new /= total
        log_likelihood = (xp.log(total) + peak).sum(axis=(1, 2))
        return new, log_likelihood + log_prior

    def log_joint(self, problem: Problem, q: Any) -> tuple[Any, Any]:
        """log(pi_k p(x_i | k)) under the parameters of an M-step from `q`, and their log-prior per restart."""
        xp = self.xp
        table = problem.table
        maximise = _MAXIMISERS[problem.likelihood]
        mass = q.sum(axis=2)
        with np.errstate(divide="ignore"):
            log_weight = xp.log(mass) - np.log(table.n_rows)
        total = xp.broadcast_to(log_weight[:, :, None], q.shape).copy()
        log_prior = xp.zeros(q.shape[0])
        means = prior_means(problem)
        degrees = _group_masses(xp, problem, q)
        kind, width = precision(table)
        shares = q.astype(kind, copy=False)
        for columns, host_values, host_observed in table.blocks(kind, width=width):
            values = xp.asarray(host_values)
            observed = None if host_observed is None else xp.asarray(host_observed)
            form = maximise(
                xp,
                ones=(shares @ values).astype(xp.float64, copy=False),
                mass=mass[:, :, None] if observed is None else (shares @ observed).astype(xp.float64, copy=False),
                means=xp.asarray(means[columns]),
                strength=problem.prior,
                multiplicity=xp.asarray(table.multiplicity[columns]),
                degrees=None if degrees is None else degrees[:, :, xp.asarray(table.groups[columns])],
                masked=observed is not None,
            )
            total += form.ones.astype(kind, copy=False) @ values.T
            total += form.constant[:, :, None]
            if form.observed is not None and observed is not None:
                total += form.observed.astype(kind, copy=False) @ observed.T
            log_prior += form.log_prior
        return total, log_prior

    def _host(self, array: Any) -> NDArray[Any]:
        return np.asarray(array)


def precision(table: BinaryTable) -> tuple[type[np.floating[Any]], int | None]:
    """Type of the products, and how many columns they are taken over at a time."""
    if table.n_rows * table.n_columns <= _EXACT_ENTRIES:
        return np.float64, None
    return np.float32, _SINGLE_WIDTH


def _bernoulli(
    xp: Any, *, ones: Any, mass: Any, means: Any, strength: float, multiplicity: Any, degrees: Any, masked: bool
) -> Coefficients:
    """Eq. 5-8: shares of ones, clipped only inside the logarithms so that 0 log 0 = 0."""
    weight = xp.maximum(mass + strength, _TINY)
    hits = ones + strength * means
    if masked:
        # A community with no observed entry in a column knows nothing about it.
        hits = xp.where(weight > _TINY, hits, 0.5 * weight)
    log_hit = xp.log(xp.maximum(hits, EPSILON * weight) / weight)
    log_miss = xp.log(xp.maximum(weight - hits, EPSILON * weight) / weight)
    log_prior: Any = 0.0
    if strength:
        log_prior = strength * ((log_hit * means + log_miss * (1.0 - means)) * multiplicity).sum(axis=(1, 2))
    log_odds = (log_hit - log_miss) * multiplicity
    log_miss = log_miss * multiplicity
    if masked:
        return Coefficients(log_odds, log_miss, xp.zeros(ones.shape[:2]), log_prior)
    return Coefficients(log_odds, None, log_miss.sum(axis=2), log_prior)


def _multinomial(
    xp: Any, *, ones: Any, mass: Any, means: Any, strength: float, multiplicity: Any, degrees: Any, masked: bool
) -> Coefficients:
    """Newman and Leicht's theta: shares of a community's links, block by block; an absent link says nothing."""
    weight = xp.maximum(degrees, _TINY)
    log_share = xp.log(xp.maximum(ones + strength * means, EPSILON * weight) / weight)
    log_prior = strength * (log_share * means * multiplicity).sum(axis=(1, 2))
    return Coefficients(log_share * multiplicity, None, xp.zeros(ones.shape[:2]), log_prior)


_MAXIMISERS: dict[str, Callable[..., Coefficients]] = {"bernoulli": _bernoulli, "multinomial": _multinomial}


def prior_means(problem: Problem) -> NDArray[np.float64]:
    """Where the prior's pseudo-observations lie: column means, for the multinomial normalised within each block."""
    if problem.prior == 0:
        return np.zeros(problem.table.n_columns)
    means = problem.table.column_means()
    if problem.likelihood == "multinomial":
        totals = np.bincount(problem.table.groups, weights=means * problem.table.multiplicity)
        means = means / np.maximum(totals, _TINY)[problem.table.groups]
    return means


def _group_masses(xp: Any, problem: Problem, q: Any) -> Any | None:
    """Links of each community in each block, shape (restarts, components, blocks); None for the Bernoulli."""
    if problem.likelihood != "multinomial":
        return None
    return q @ xp.asarray(problem.table.group_degrees()) + problem.prior
