"""What happens to a winner, whichever engine found it: float64 to the fixed point, then leave-one-out moves."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from innersight_graph.engines.base import EPSILON, Fits, first_appearance
from innersight_graph.engines.numpy import ArrayEngine
from innersight_graph.engines.table import Problem
from innersight_graph.mixture.criteria import (
    Evidence,
    clipped_means,
    evidence,
    live_counts,
    multinomial_prior,
    predictive_weights,
)

__all__ = ["Solution", "leave_one_out", "settle", "winner"]

# The search stops at 1e-7; a winner goes on until engines of any precision agree on it.
_TIGHT = 1e-11
# Where an iteration takes seconds, a fixed point to the last digit is not worth minutes.
_LEAST_SETTLING, _MOST_SETTLING, _SETTLING_WORK = 10, 2000, 5e10
_MOST_SWEEPS = 5
_TIE = 1e-9


@dataclass(frozen=True)
class Solution:
    """A fitted mixture of one problem.

    Parameters
    ----------
    n_components : int
        Components asked for.
    responsibilities : ndarray of float64, shape (n_components, n_rows)
        Dead components (no row prefers them) included.
    objective : float
        Log-likelihood in nats plus log-prior.
    restart : int
        Which restart won.
    n_iter : int
        EM iterations of the search that found it.
    converged : bool
    """

    n_components: int
    responsibilities: NDArray[np.float64]
    objective: float
    restart: int
    n_iter: int
    converged: bool

    @property
    def labels(self) -> NDArray[np.int64]:
        """Communities of the rows, numbered by first appearance: 0 to k - 1, only those that have a row."""
        return first_appearance(self.responsibilities.argmax(axis=0))


def settle(problem: Problem, responsibilities: NDArray[np.floating]) -> tuple[NDArray[np.float64], float]:
    """Run one start in float64 to its fixed point; returns responsibilities and objective."""
    work = 4.0 * problem.table.n_rows * problem.table.n_columns * len(responsibilities)
    most = int(np.clip(_SETTLING_WORK / max(work, 1.0), _LEAST_SETTLING, _MOST_SETTLING))
    state, objective, _, _ = ArrayEngine().run(
        problem, np.asarray(responsibilities, dtype=np.float64)[None], max_iter=most, tol=_TIGHT
    )
    return state[0], float(objective[0])


def as_found(fits: Fits) -> Solution:
    """Return the best restart as the engine left it."""
    restart = min(fits.leaders)
    place = fits.restarts.index(restart)
    return Solution(
        fits.n_components,
        np.asarray(fits.leaders[restart], dtype=np.float64),
        float(fits.objective[place]),
        restart,
        int(fits.n_iter[place]),
        bool(fits.converged[place]),
    )


def winner(problem: Problem, fits: Fits) -> Solution:
    """Return the best restart of a group in float64; equal ones (to 1e-9) go to the lowest restart."""
    candidates = []
    for restart in sorted(fits.leaders):
        place = fits.restarts.index(restart)
        state, objective = settle(problem, fits.leaders[restart])
        candidates.append(
            Solution(fits.n_components, state, objective, restart, int(fits.n_iter[place]), bool(fits.converged[place]))
        )
    best = max(candidate.objective for candidate in candidates)
    return next(c for c in candidates if c.objective >= best - _TIE * max(1.0, abs(best)))


def leave_one_out(problem: Problem, solution: Solution, known: Evidence | None = None) -> Solution | None:
    """Move every row to where the others want it, not counting its own vote, and run EM from there.

    Parameters
    ----------
    problem : Problem
    solution : Solution
    known : Evidence, optional
        Of its grouping, if it was evaluated already.

    Returns
    -------
    Solution or None
        The new fixed point, whether better or not; None if no row wants to move.

    Notes
    -----
    A row's vote for its own community is worth about M / n nats and freezes poor groupings. Predictions use the
    column-mean prior, at the strength most probable for the grouping. Cost: twice an EM iteration per sweep.
    """
    k = solution.n_components
    labels = solution.responsibilities.argmax(axis=0)
    start = labels
    strength = (known or evidence(problem, labels)).likeliest
    for _ in range(_MOST_SWEEPS):
        moved = _sweep(problem, labels, k, strength)
        if (moved == labels).all():
            break
        labels = moved
    if (labels == start).all():
        return None
    state, objective = settle(problem, (labels[None, :] == np.arange(k)[:, None]).astype(np.float64))
    return replace(solution, responsibilities=state, objective=objective)


def _sweep(problem: Problem, labels: NDArray[np.int64], k: int, strength: float) -> NDArray[np.int64]:
    table = problem.table
    rows = np.arange(table.n_rows)
    # Moves are only proposed here: what follows decides in float64 whether they are kept.
    ones, observed, sizes = live_counts(problem, labels, k, np.float32)
    log_hit, log_miss = predictive_weights(problem, ones, observed, strength)
    own_hit, own_miss = _without_one(problem, ones, observed, strength)
    hit, miss = np.concatenate([log_hit, own_hit]), np.concatenate([log_miss, own_miss])
    both = np.zeros((2 * k, table.n_rows))
    for columns, values, seen in table.blocks():
        both += (hit[:, columns] - miss[:, columns]) @ values.T
        both += miss[:, columns].sum(axis=1, keepdims=True) if seen is None else miss[:, columns] @ seen.T
    score, own = both[:k], both[k:]
    score += np.log(sizes + 1.0)[:, None]
    own += np.log(np.maximum(sizes, 1.0))[:, None]
    score[labels, rows] = own[labels, rows] - _own_volume(problem, ones, labels, strength)
    return np.asarray(score.argmax(axis=0), dtype=np.int64)


def _without_one(
    problem: Problem, ones: NDArray[np.float32], observed: NDArray[np.float32], strength: float
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Like `predictive_weights`, for a member with a 1 (0) that is itself left out of its community's counts."""
    table = problem.table
    if problem.likelihood == "multinomial":
        hits = np.maximum(ones - 1.0, 0.0) + multinomial_prior(problem, ones, strength)
        return np.log(np.maximum(hits, EPSILON)) * table.multiplicity, np.zeros_like(ones)
    means, weight = clipped_means(ones, observed), table.multiplicity.astype(np.float32)
    volume = np.maximum(observed - 1.0, 0.0) + np.float32(strength)
    hits = np.maximum(ones - 1.0, 0.0) + strength * means
    misses = np.maximum(observed - ones - 1.0, 0.0) + strength * (1.0 - means)
    return np.log(hits / volume) * weight, np.log(misses / volume) * weight


def _own_volume(
    problem: Problem, ones: NDArray[np.float32], labels: NDArray[np.int64], strength: float
) -> NDArray[np.float64]:
    """Log-normaliser of a row's own community once the row's links are taken out; 0 for the Bernoulli."""
    if problem.likelihood != "multinomial":
        return np.zeros(len(labels))
    table = problem.table
    degrees = table.group_degrees()
    volumes = np.stack(
        [ones[:, table.groups == g] @ table.multiplicity[table.groups == g] for g in range(degrees.shape[1])]
    )
    prior = multinomial_prior(problem, ones, strength) * table.multiplicity
    pseudo = np.bincount(table.groups, weights=prior, minlength=degrees.shape[1])
    left = np.maximum(volumes.T[labels] - degrees, 0.0) + pseudo
    return np.asarray((degrees * np.log(np.maximum(left, EPSILON))).sum(axis=1))


def improved(problem: Problem, solution: Solution, *, by_icl: bool) -> tuple[Solution, float]:
    """Return the solution after leave-one-out moves if ICL (or the objective) rises, else as it was; and its ICL."""
    known = evidence(problem, solution.labels)
    other = leave_one_out(problem, solution, known)
    if other is None or (not by_icl and other.objective <= solution.objective):
        return solution, known.icl
    icl = evidence(problem, other.labels).icl
    return (other, icl) if not by_icl or icl > known.icl else (solution, known.icl)
