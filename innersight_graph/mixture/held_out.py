"""Log-likelihood of rows a mixture has not seen, for several numbers of communities."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from innersight_graph.engines.base import Engine
from innersight_graph.engines.table import Problem
from innersight_graph.mixture.criteria import evidence, predictive_weights
from innersight_graph.mixture.starts import Starter

__all__ = ["held_out"]

_FOLDS = 4
_FOLDS_USED = 2


def held_out(
    starter: Starter,
    candidates: Iterable[int],
    engine: Engine,
    *,
    max_iter: int,
    tol: float,
    folds_used: int = _FOLDS_USED,
) -> dict[int, float]:
    """Mean log-likelihood of a held-out row, in nats, by number of communities.

    Parameters
    ----------
    starter : Starter
        The problem, and the key of the folds.
    candidates : iterable of int
    engine : Engine
    max_iter, tol
        As in the search.
    folds_used : int
        How many of the four folds are held out in turn.

    Returns
    -------
    dict
        Candidates beyond the number of rows left to fit are missing from it.

    Notes
    -----
    One Ward start for each number; parameters are smoothed towards the column means. Below about 30 rows it has no
    power.
    """
    problem = starter.problem
    n = problem.table.n_rows
    order = np.random.Generator(np.random.Philox(starter.sequence("held-out", 0))).permutation(n)
    wanted = sorted(set(candidates))
    total = dict.fromkeys(wanted, 0.0)
    seen = 0
    for fold in range(min(folds_used, n)):
        out = np.sort(order[fold::_FOLDS])
        rest = np.setdiff1d(np.arange(n), out)
        wanted = [r for r in wanted if r <= len(rest)]
        part = Problem(problem.table.take(rest), problem.likelihood, problem.prior)
        inner = Starter(part, starter.seed, starter.layer, starter.max_components)
        groups = [inner.group("ward", r, (0,)) for r in wanted]
        unseen = Problem(problem.table.take(out), problem.likelihood, problem.prior)
        for fits in engine.fit(part, groups, max_iter=max_iter, tol=tol):
            total[fits.n_components] += _score(part, unseen, np.asarray(fits.leaders[0], dtype=np.float64))
        seen += len(out)
    return {r: total[r] / seen for r in wanted}


def _score(fitted: Problem, unseen: Problem, q: NDArray[np.float64]) -> float:
    """Log-likelihood of the rows of `unseen` under the mixture that `q` makes of the rows of `fitted`."""
    table = fitted.table
    mass = q.sum(axis=1)
    ones = np.empty((len(q), table.n_columns))
    observed = mass[:, None] if table.observed_bits is None else np.empty_like(ones)
    for columns, values, seen in table.blocks(np.float64):
        ones[:, columns] = q @ values
        if seen is not None:
            observed[:, columns] = q @ seen
    log_hit, log_miss = predictive_weights(fitted, ones, observed, evidence(fitted, q.argmax(axis=0)).likeliest)
    log_joint = np.repeat(np.log((mass + 1.0) / (mass + 1.0).sum())[:, None], unseen.table.n_rows, axis=1)
    for columns, values, seen in unseen.table.blocks(np.float64):
        log_joint += (log_hit[:, columns] - log_miss[:, columns]) @ values.T
        missed = log_miss[:, columns]
        log_joint += missed.sum(axis=1, keepdims=True) if seen is None else missed @ seen.T
    peak = log_joint.max(axis=0)
    return float((np.log(np.exp(log_joint - peak).sum(axis=0)) + peak).sum())
