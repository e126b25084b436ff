"""How many communities: exact ICL, held-out rows, and agreement between the best starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from innersight_graph.engines.base import EPSILON
from innersight_graph.engines.table import Problem

__all__ = ["Evidence", "adjusted_rand", "evidence", "exact_icl", "predictive_weights", "stability"]

#: Strengths of the column-mean prior, in pseudo-observations, that ICL averages over. Infinity stands for "every
#: community is like the whole layer", which costs one community nothing: under any finite strength alone, single
#: neurons (who learn no probabilities) would beat one community on pure noise; one strength finds weak ones badly.
STRENGTHS = (2.0, 8.0, 32.0, 128.0, np.inf)
# Up to this many rows log-gammas are looked up: with whole counts a table has few entries.
_LOOKUP_ROWS = 512


def live_counts(
    problem: Problem, labels: NDArray[np.integer], n_labels: int, dtype: type[np.floating[Any]] = np.float64
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Ones (k, columns), observed entries (k, columns; k, 1 if all are) and sizes (k,) of hard communities; exact."""
    member = (labels[None, :] == np.arange(n_labels)[:, None]).astype(np.float32)
    table = problem.table
    sizes = member.sum(axis=1, dtype=dtype)
    ones = np.empty((n_labels, table.n_columns), dtype=dtype)
    observed = sizes[:, None] if table.observed_bits is None else np.empty_like(ones)
    for columns, values, seen in table.blocks():
        ones[:, columns] = member @ values
        if seen is not None:
            observed[:, columns] = member @ seen
    return ones, observed, sizes


def exact_icl(problem: Problem, labels: NDArray[np.integer], *, strength: float | None = None) -> float:
    """Exact integrated complete-data likelihood of a grouping, in nats; larger is better.

    Parameters
    ----------
    problem : Problem
    labels : ndarray of int, shape (n_rows,)
    strength : float, optional
        Pseudo-observations of the prior, which lies at the column means (BIC and flat priors fail when columns
        outnumber rows). None averages the evidence over `STRENGTHS`, each as likely as the others. Community sizes
        have a uniform prior.

    Notes
    -----
    ln p(X, z) with all parameters integrated out (Biernacki, Celeux and Govaert 2010, doi:10.1016/j.jspi.2010.03.042).
    Cost: three log-gammas for each strength, community and distinct column.

    Examples
    --------
    >>> import numpy as np
    >>> from innersight_graph.engines import BinaryTable, Problem
    >>> X = np.repeat(np.eye(2, dtype=bool), 4, axis=0).repeat(5, axis=1)
    >>> problem = Problem(BinaryTable.from_array(X))
    >>> exact_icl(problem, np.array([0] * 4 + [1] * 4)) > exact_icl(problem, np.zeros(8, dtype=int))
    True
    """
    return evidence(problem, labels, STRENGTHS if strength is None else (strength,)).icl


@dataclass(frozen=True)
class Evidence:
    """What a grouping is worth under each of some strengths of the prior.

    Parameters
    ----------
    strengths : tuple of float
    values : ndarray of float64, shape (n_strengths,)
        Exact integrated complete-data likelihood, in nats.
    """

    strengths: tuple[float, ...]
    values: NDArray[np.float64]

    @property
    def icl(self) -> float:
        """The strengths averaged, each as likely as the others."""
        return float(np.logaddexp.reduce(self.values) - np.log(len(self.values)))

    @property
    def likeliest(self) -> float:
        """The finite strength under which the grouping is most probable."""
        finite = [i for i, strength in enumerate(self.strengths) if np.isfinite(strength)]
        return self.strengths[max(finite, key=lambda i: self.values[i])]


def evidence(problem: Problem, labels: NDArray[np.integer], strengths: Sequence[float] = STRENGTHS) -> Evidence:
    """Evaluate a grouping under several strengths of the prior."""
    present = np.bincount(labels) > 0
    compact, k = (np.cumsum(present) - 1)[labels], int(present.sum())
    grouping = gammaln(k) - gammaln(len(labels) + k) + gammaln(np.bincount(compact) + 1.0).sum()
    return Evidence(tuple(strengths), grouping + _evidence(problem, compact, k, strengths))


def _evidence(problem: Problem, labels: NDArray[np.integer], k: int, strengths: Sequence[float]) -> NDArray[np.float64]:
    """Log-probability of the table given labels 0 to k - 1, under each strength."""
    ones, observed, sizes = live_counts(problem, labels, k)
    table = problem.table
    if problem.likelihood == "bernoulli" and table.observed_bits is None and table.n_rows <= _LOOKUP_ROWS:
        return _looked_up_evidence(problem, ones, sizes, strengths)
    value = _EVIDENCE[problem.likelihood]
    return np.array([value(problem, ones, observed, strength) for strength in strengths])


def _looked_up_evidence(
    problem: Problem, ones: NDArray[np.float64], sizes: NDArray[np.float64], strengths: Sequence[float]
) -> NDArray[np.float64]:
    """`_bernoulli_evidence` for complete tables: count how often each (column total, community count) occurs."""
    n = problem.table.n_rows
    hits, weight = ones.astype(np.intp), problem.table.multiplicity
    totals = hits.sum(axis=0)
    used = (totals > 0) & (totals < n)
    if not used.all():
        hits, totals, weight = hits[:, used], totals[used], weight[used]
    misses = sizes[:, None].astype(np.intp) - hits
    width = n + 1
    repeats = np.broadcast_to(weight, hits.shape).ravel() if problem.table.merged else None
    seen = np.bincount((totals * width + hits).ravel(), repeats, width * width)
    seen = seen + np.bincount(((n - totals) * width + misses).ravel(), repeats, width * width)
    result = np.empty(len(strengths))
    for i, strength in enumerate(strengths):
        if np.isinf(strength):
            share = totals / n
            result[i] = ((totals * np.log(share) + (n - totals) * np.log1p(-share)) * weight).sum()
            continue
        logs = _log_gammas(n, strength)
        prior = ((gammaln(strength) - logs[totals, 0] - logs[n - totals, 0]) * weight).sum()
        result[i] = seen @ logs.ravel() + len(sizes) * prior - weight.sum() * gammaln(strength + sizes).sum()
    return result


@lru_cache(maxsize=16)
def _log_gammas(n: int, strength: float) -> NDArray[np.float64]:
    """gammaln(strength c / n + s) for c and s from 0 to n; 0 where c is 0, which no informative column has."""
    logs: NDArray[np.float64] = gammaln(strength * np.arange(n + 1)[:, None] / n + np.arange(n + 1)[None, :])
    logs[0] = 0.0
    return logs


def _bernoulli_evidence(
    problem: Problem,
    ones: NDArray[np.float64],
    observed: NDArray[np.float64],
    strength: float,
) -> float:
    table = problem.table
    mean = ones.sum(axis=0) / np.maximum(observed.sum(axis=0), 1.0)
    # Without information (possible where columns were not merged) a column's evidence is 0 in every grouping.
    used = (mean > 0) & (mean < 1)
    mean, weight = mean[used], table.multiplicity[used]
    hits = ones[:, used]
    seen = observed if observed.shape[1] == 1 else observed[:, used]
    misses = seen - hits
    if np.isinf(strength):
        return float(((hits * np.log(mean) + misses * np.log1p(-mean)) * weight).sum())
    a, b = strength * mean, strength * (1.0 - mean)
    each = gammaln(a + hits) + gammaln(b + misses) - gammaln(strength + seen)
    each += gammaln(strength) - gammaln(a) - gammaln(b)
    return float((each * weight).sum())


def _multinomial_evidence(
    problem: Problem,
    ones: NDArray[np.float64],
    observed: NDArray[np.float64],
    strength: float,
) -> float:
    table = problem.table
    everywhere = np.isinf(strength)
    prior = multinomial_prior(problem, ones, 1.0 if everywhere else strength)
    total = 0.0
    for group in np.unique(table.groups):
        members = (table.groups == group) & (prior > 0)
        if not members.any():
            # No links at all on this side, in any community.
            continue
        weight = table.multiplicity[members]
        inside, pseudo = ones[:, members], prior[members]
        if everywhere:
            total += float((inside * np.log(pseudo / (pseudo @ weight)) * weight).sum())
            continue
        links = ((gammaln(pseudo + inside) - gammaln(pseudo)) * weight).sum()
        total += float(links + (gammaln(pseudo @ weight) - gammaln(pseudo @ weight + inside @ weight)).sum())
    return total


_EVIDENCE = {"bernoulli": _bernoulli_evidence, "multinomial": _multinomial_evidence}


def predictive_weights(
    problem: Problem, ones: NDArray[Any], observed: NDArray[Any], strength: float
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Log p(1) and log p(0) of each community and column under the column-mean prior, multiplicities included.

    In the precision of the counts. A multinomial says nothing by a 0: its second array is zero.
    """
    table = problem.table
    if problem.likelihood == "multinomial":
        log_share = np.empty_like(ones)
        prior = multinomial_prior(problem, ones, strength)
        for group in np.unique(table.groups):
            members = table.groups == group
            weight = table.multiplicity[members]
            counts = np.maximum(ones[:, members] + prior[members], EPSILON)
            log_share[:, members] = np.log(counts / np.maximum(counts @ weight, EPSILON)[:, None]) * weight
        return log_share, np.zeros_like(ones)
    means = clipped_means(ones, observed)
    weight = table.multiplicity.astype(ones.dtype)
    volume = observed + ones.dtype.type(strength)
    log_hit = np.log((ones + strength * means) / volume) * weight
    log_miss = np.log((observed - ones + strength * (1.0 - means)) / volume) * weight
    return log_hit, log_miss


def clipped_means(ones: NDArray[Any], observed: NDArray[Any]) -> NDArray[Any]:
    """Column means of a table from the counts of its communities, kept off 0 and 1."""
    return np.asarray(np.clip(ones.sum(axis=0) / np.maximum(observed.sum(axis=0), 1.0), 1e-6, 1.0 - 1e-6))


def multinomial_prior(problem: Problem, ones: NDArray[Any], strength: float) -> NDArray[np.float64]:
    """Return pseudo-links of each column, shape (n_columns,), in proportion to its links.

    The same strength means about as much as for the Bernoulli: at 32, one pseudo-link per column of a block on average.
    """
    table = problem.table
    links = ones.sum(axis=0)
    width = np.bincount(table.groups, weights=table.multiplicity)
    volume = np.bincount(table.groups, weights=links * table.multiplicity, minlength=len(width))
    return np.asarray(links * (strength / 32.0 * width / np.maximum(volume, 1.0))[table.groups])


def adjusted_rand(a: NDArray[np.integer], b: NDArray[np.integer]) -> float:
    """Return adjusted Rand index of two labelings (Hubert and Arabie 1985, doi:10.1007/BF01908075).

    Examples
    --------
    >>> import numpy as np
    >>> adjusted_rand(np.array([0, 0, 1, 1]), np.array([5, 5, 2, 2]))
    1.0
    """
    _, a = np.unique(a, return_inverse=True)
    _, b = np.unique(b, return_inverse=True)
    width = int(b.max(initial=0)) + 1
    joint = np.bincount(a * width + b).astype(np.float64)

    def pairs(counts: NDArray[np.float64]) -> float:
        return float((counts * (counts - 1.0)).sum() / 2.0)

    together, left, right = (
        pairs(joint),
        pairs(np.bincount(a).astype(np.float64)),
        pairs(np.bincount(b).astype(np.float64)),
    )
    possible = len(a) * (len(a) - 1.0) / 2.0
    expected = left * right / possible if possible else 0.0
    highest = (left + right) / 2.0
    return 1.0 if highest == expected else (together - expected) / (highest - expected)


def stability(groupings: Sequence[NDArray[np.integer]]) -> float | None:
    """Mean adjusted Rand index between groupings; None with fewer than two."""
    values = [adjusted_rand(groupings[i], groupings[j]) for i in range(len(groupings)) for j in range(i)]
    return float(np.mean(values)) if values else None
