"""How many communities: exact ICL, held-out rows, and agreement between the best starts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from innersight_graph.engines.base import EPSILON
from innersight_graph.engines.table import Problem

__all__ = ["adjusted_rand", "exact_icl", "predictive_weights", "stability"]

#: Pseudo-observations of the column-mean prior used by held-out rows and by leave-one-out moves.
STRENGTH = 2.0
#: ICL averages over these. Infinity stands for "every community is like the whole layer", which costs one community nothing:
#: under any finite strength alone, single neurons (who learn no probabilities) would beat one community on pure noise.
STRENGTHS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, np.inf)


def live_counts(
    problem: Problem, labels: NDArray[np.integer], n_labels: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Ones (k, columns), observed entries (k, columns) and sizes (k,) of hard communities."""
    member = (labels[None, :] == np.arange(n_labels)[:, None]).astype(np.float32)
    table = problem.table
    sizes = member.sum(axis=1, dtype=np.float64)
    ones = np.empty((n_labels, table.n_columns))
    observed = np.empty_like(ones)
    for columns, values, seen in table.blocks():
        ones[:, columns] = member @ values
        observed[:, columns] = sizes[:, None] if seen is None else member @ seen
    return ones, observed, sizes


def exact_icl(problem: Problem, labels: NDArray[np.integer], *, strength: float | None = None) -> float:
    """Exact integrated complete-data likelihood of a grouping, in nats; larger is better.

    Parameters
    ----------
    problem : Problem
    labels : ndarray of int, shape (n_rows,)
    strength : float, optional
        Pseudo-observations of the prior, which lies at the column means (BIC and flat priors fail when columns outnumber
        rows). None averages the evidence over `STRENGTHS`, each as likely as the others. Community sizes have a uniform prior.

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
    from scipy.special import gammaln, logsumexp

    values, compact = np.unique(labels, return_inverse=True)
    k = len(values)
    ones, observed, sizes = live_counts(problem, compact, k)
    grouping = gammaln(k) - gammaln(len(labels) + k) + gammaln(sizes + 1.0).sum()
    evidence = _EVIDENCE[problem.likelihood]
    strengths = STRENGTHS if strength is None else (strength,)
    each = [evidence(problem, ones, observed, sizes, value) for value in strengths]
    return float(grouping + logsumexp(each) - np.log(len(each)))


def _bernoulli_evidence(
    problem: Problem,
    ones: NDArray[np.float64],
    observed: NDArray[np.float64],
    sizes: NDArray[np.float64],
    strength: float,
) -> float:
    from scipy.special import gammaln

    table = problem.table
    column_ones, column_seen = ones.sum(axis=0), np.maximum(observed.sum(axis=0), 1.0)
    mean = column_ones / column_seen
    # Without information (possible where columns were not merged) a column's evidence is 0 in every grouping.
    used = (mean > 0) & (mean < 1)
    mean, weight = mean[used], table.multiplicity[used]
    ones, observed = ones[:, used], observed[:, used]
    if np.isinf(strength):
        return float(((ones * np.log(mean) + (observed - ones) * np.log1p(-mean)) * weight).sum())
    a, b = strength * mean, strength * (1.0 - mean)
    constant = gammaln(strength) - gammaln(a) - gammaln(b)
    if table.observed_bits is None:
        volume = gammaln(strength + sizes)[:, None]
    else:
        volume = gammaln(strength + observed)
    hits = _log_gamma_sums(a, ones)
    misses = _log_gamma_sums(b, observed - ones)
    return float(((hits + misses - volume + constant) * weight).sum())


def _log_gamma_sums(base: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """gammaln(base + counts), through a table when counts and bases take few values."""
    from scipy.special import gammaln

    levels, place = np.unique(base, return_inverse=True)
    top = int(counts.max(initial=0)) + 1
    if len(levels) * top >= counts.size // 2:
        return np.asarray(gammaln(base + counts))
    lookup = gammaln(levels[:, None] + np.arange(top))
    return np.asarray(lookup[place[None, :], counts.astype(np.intp)])


def _multinomial_evidence(
    problem: Problem,
    ones: NDArray[np.float64],
    observed: NDArray[np.float64],
    sizes: NDArray[np.float64],
    strength: float,
) -> float:
    from scipy.special import gammaln

    table = problem.table
    prior = multinomial_prior(problem, ones)
    total = 0.0
    for group in np.unique(table.groups):
        members = (table.groups == group) & (prior > 0)
        weight = table.multiplicity[members]
        inside, pseudo = ones[:, members], prior[members]
        links = ((gammaln(pseudo + inside) - gammaln(pseudo)) * weight).sum()
        total += float(links + (gammaln(pseudo @ weight) - gammaln(pseudo @ weight + inside @ weight)).sum())
    return total


_EVIDENCE = {"bernoulli": _bernoulli_evidence, "multinomial": _multinomial_evidence}


def predictive_weights(
    problem: Problem, ones: NDArray[np.float64], observed: NDArray[np.float64], *, strength: float = STRENGTH
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """log p(1) and log p(0) of each community and column under the column-mean prior, multiplicities included.

    A multinomial says nothing by a 0: its second array is zero.
    """
    table = problem.table
    if problem.likelihood == "multinomial":
        log_share = np.empty_like(ones)
        prior = multinomial_prior(problem, ones)
        for group in np.unique(table.groups):
            members = table.groups == group
            weight = table.multiplicity[members]
            counts = np.maximum(ones[:, members] + prior[members], EPSILON)
            log_share[:, members] = np.log(counts / np.maximum(counts @ weight, EPSILON)[:, None]) * weight
        return log_share, np.zeros_like(ones)
    means = np.clip(ones.sum(axis=0) / np.maximum(observed.sum(axis=0), 1.0), 1e-6, 1.0 - 1e-6)
    volume = observed + strength
    log_hit = np.log((ones + strength * means) / volume) * table.multiplicity
    log_miss = np.log((observed - ones + strength * (1.0 - means)) / volume) * table.multiplicity
    return log_hit, log_miss


def multinomial_prior(problem: Problem, ones: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pseudo-links of each column, shape (n_columns,): one for each column of its block on average, at the columns' shares."""
    table = problem.table
    links = ones.sum(axis=0)
    width = np.bincount(table.groups, weights=table.multiplicity)
    volume = np.bincount(table.groups, weights=links * table.multiplicity, minlength=len(width))
    return np.asarray(links * (width / np.maximum(volume, 1.0))[table.groups])


def adjusted_rand(a: NDArray[np.integer], b: NDArray[np.integer]) -> float:
    """Adjusted Rand index of two labelings (Hubert and Arabie 1985, doi:10.1007/BF01908075).

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

    together, left, right = pairs(joint), pairs(np.bincount(a).astype(np.float64)), pairs(np.bincount(b).astype(np.float64))
    possible = len(a) * (len(a) - 1.0) / 2.0
    expected = left * right / possible if possible else 0.0
    highest = (left + right) / 2.0
    return 1.0 if highest == expected else (together - expected) / (highest - expected)


def stability(groupings: Sequence[NDArray[np.integer]]) -> float | None:
    """Mean adjusted Rand index between groupings; None with fewer than two."""
    values = [adjusted_rand(groupings[i], groupings[j]) for i in range(len(groupings)) for j in range(i)]
    return float(np.mean(values)) if values else None
