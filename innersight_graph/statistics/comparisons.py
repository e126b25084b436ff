"""Do two groups differ: runs (`rank_sum`), paired answers (`mcnemar`), two classes (`auc`), seeds (`seed_variance`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from innersight_graph.errors import InputError
from innersight_graph.statistics.intervals import normal_quantile

__all__ = ["AUC", "McNemar", "RankSum", "auc", "finite_vector", "mcnemar", "rank_sum", "seed_variance"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]


class RankSum(NamedTuple):
    """Result of `rank_sum`.

    Attributes
    ----------
    statistic, pvalue : float
        What the chosen reading reports: Mann-Whitney's U of the first sample with its exact p-value, or with
        ``match="paper"`` the z of the normal approximation with neither correction and its p-value.
    u : float
        Pairs (x in a, y in b) with x > y, a tie counting one half.
    z, pvalue_asymptotic : float
        Normal approximation without tie and continuity correction.
    z_corrected, pvalue_corrected : float
        Normal approximation with both.
    pvalue_exact : float
        Exact two-sided p-value; ``nan`` when values are tied across the samples (its distribution then is not the
        tabled one).
    effect_size : float
        Probability that a value of ``a`` exceeds one of ``b`` (0.5 = no difference).
    """

    statistic: float
    pvalue: float
    u: float
    z: float
    pvalue_asymptotic: float
    z_corrected: float
    pvalue_corrected: float
    pvalue_exact: float
    effect_size: float


class McNemar(NamedTuple):
    """Result of `mcnemar`: the two kinds of discordant samples and the exact two-sided p-value."""

    lost: IntArray
    gained: IntArray
    pvalue: FloatArray


class AUC(NamedTuple):
    """Area under the ROC curve with DeLong's standard error and a 95 % interval on the logit scale."""

    value: float
    low: float
    high: float
    standard_error: float


def rank_sum(a: ArrayLike, b: ArrayLike, *, match: Literal["paper"] | None = None) -> RankSum:
    """Wilcoxon rank-sum (Mann-Whitney) test of two independent samples.

    Parameters
    ----------
    a, b : array_like (n,), (m,)
        Measured values, e.g. test accuracies of runs; at least one each, finite.
    match : {"paper"}, optional
        Report as in Table 4 of the paper, i.e. ``statistic = (U - n m / 2) / sqrt(n m (n + m + 1) / 12)`` with no
        correction and its normal p-value. For ten runs against ten that is ``(U - 50) / sqrt(175)``.

    Returns
    -------
    RankSum
        ``statistic`` and ``pvalue`` as chosen, and all other readings beside them. With tied values the default p-value
        is the corrected normal one, since the exact table does not apply.

    Raises
    ------
    InputError
        An empty or non-finite sample, or an unknown ``match``.

    Notes
    -----
    The paper names MATLAB's signed-rank test; its figures follow the formula above (rank-sum, no correction). One
    printed p-value (0.001490 for Liu et al. on MNIST) disagrees with its own statistic, whose p-value is 0.001499.

    References
    ----------
    Mann & Whitney 1947, doi:10.1214/aoms/1177730491; Table 4 of the paper.

    Examples
    --------
    >>> low, high = range(10), range(20, 30)
    >>> result = rank_sum(low, high, match="paper")
    >>> round(result.statistic, 6), round(result.pvalue, 6)
    (-3.779645, 0.000157)
    """
    from scipy import stats

    x, y = (finite_vector(values, name) for values, name in ((a, "a"), (b, "b")))
    if match not in (None, "paper"):
        raise InputError(
            f"match={match!r} is not a reading of the rank-sum test; use None (exact) or 'paper' (Table 4)."
        )
    n, m = len(x), len(y)
    ranks = stats.rankdata(np.concatenate([x, y]))
    u = float(ranks[:n].sum() - n * (n + 1) / 2)
    z = (u - n * m / 2) / np.sqrt(n * m * (n + m + 1) / 12)
    p_asymptotic = float(2 * stats.norm.sf(abs(z)))

    counts = np.unique(np.concatenate([x, y]), return_counts=True)[1].astype(np.float64)
    total = n + m
    tied_variance = n * m / 12 * (total + 1 - (counts**3 - counts).sum() / (total * (total - 1)))
    distance = max(abs(u - n * m / 2) - 0.5, 0.0)
    z_corrected = float(np.sign(u - n * m / 2) * distance / np.sqrt(tied_variance)) if tied_variance > 0 else 0.0
    p_corrected = float(min(1.0, 2 * stats.norm.sf(abs(z_corrected))))

    tied = bool((counts > 1).any())
    p_exact = float("nan") if tied else float(stats.mannwhitneyu(x, y, method="exact").pvalue)
    readings = (u, float(z), p_asymptotic, z_corrected, p_corrected, p_exact, u / (n * m))
    if match == "paper":
        return RankSum(float(z), p_asymptotic, *readings)
    return RankSum(u, p_corrected if tied else p_exact, *readings)


def mcnemar(lost: ArrayLike, gained: ArrayLike) -> McNemar:
    """Exact McNemar test of paired right/wrong outcomes, for any number of comparisons at once.

    Parameters
    ----------
    lost, gained : array_like of int, any shape
        Samples right before and wrong after, and the reverse.

    Returns
    -------
    McNemar
        The counts and two-sided binomial p-values of the same shape (1 where nothing changed).

    Raises
    ------
    InputError
        A negative number.

    References
    ----------
    McNemar 1947, doi:10.1007/BF02295996.

    Examples
    --------
    >>> mcnemar(6, 0).pvalue.round(5).item()
    0.03125
    """
    from scipy import special

    down, up = np.broadcast_arrays(np.asarray(lost), np.asarray(gained))
    if (down < 0).any() or (up < 0).any():
        raise InputError("mcnemar got a negative count; pass numbers of samples lost and gained, both 0 or more.")
    down, up = down.astype(np.int64), up.astype(np.int64)
    n = down + up
    # For a fair coin both tails are equal, so the two-sided exact p-value is twice the smaller one.
    pvalue = np.minimum(1.0, 2 * special.bdtr(np.minimum(down, up), n, 0.5))
    return McNemar(down, up, np.where(n == 0, 1.0, pvalue))


def auc(positive: ArrayLike, negative: ArrayLike, *, confidence: float = 0.95) -> AUC:
    """Probability that a positive scores above a negative, with DeLong's interval.

    Parameters
    ----------
    positive, negative : array_like (n,), (m,)
        Scores of the two groups.
    confidence : float, default 0.95
        Coverage of the interval.

    Returns
    -------
    AUC
        0.5 means no separation. The interval is taken on the logit scale, so it stays within [0, 1].

    References
    ----------
    DeLong, DeLong & Clarke-Pearson 1988, doi:10.2307/2531595.

    Examples
    --------
    >>> auc([3, 4, 5], [1, 2, 3]).value.round(3)
    np.float64(0.944)
    """
    x, y = finite_vector(positive, "positive"), finite_vector(negative, "negative")
    order = np.sort(y)
    above = (np.searchsorted(order, x, "left") + np.searchsorted(order, x, "right")) / (2 * len(y))
    order = np.sort(x)
    below = 1 - (np.searchsorted(order, y, "left") + np.searchsorted(order, y, "right")) / (2 * len(x))
    value = np.float64(above.mean())
    variance = sum(v.var(ddof=1) / len(v) for v in (above, below) if len(v) > 1)
    error = float(np.sqrt(variance))
    # A perfect separation has no logit: move it half a pair inwards, and use that pair as the least uncertainty.
    half_pair = 0.5 / (len(x) * len(y))
    inner = float(np.clip(value, half_pair, 1 - half_pair))
    logit, slope = np.log(inner / (1 - inner)), inner * (1 - inner)
    half = normal_quantile(confidence) * max(error, half_pair) / slope
    low, high = (1 / (1 + np.exp(-(logit + side))) for side in (-half, half))
    return AUC(value, float(low), float(high), error)


def seed_variance(
    values: Mapping[tuple[Any, ...], float], axes: Sequence[str] = ("network", "detector", "split")
) -> dict[str, float]:
    """Share of the variance of a score that each seed axis explains on its own.

    Parameters
    ----------
    values : mapping of (seed on each axis) -> score
        One entry per run; every combination of seeds present once is best, gaps are allowed.
    axes : sequence of str
        Names of the axes, in the order of the keys: the seed of the network's training, of the detector, of the data
        split.

    Returns
    -------
    dict
        Axis -> between-seed share of the total sum of squares, ``"residual"`` -> the rest (interactions and noise;
        exact for balanced designs), ``"variance"`` -> the total variance itself.

    Raises
    ------
    InputError
        Keys and axes of different length, or fewer than two runs.

    Examples
    --------
    >>> seed_variance({(0, 0): 1.0, (0, 1): 1.0, (1, 0): 3.0, (1, 1): 3.0}, ("network", "detector"))
    {'network': 1.0, 'detector': 0.0, 'residual': 0.0, 'variance': 1.0}
    """
    if len(values) < 2 or any(len(key) != len(axes) for key in values):
        raise InputError(
            f"seed_variance got {len(values)} runs for the axes {tuple(axes)}; it needs at least two, each keyed by "
            f"one seed per axis."
        )
    scores = np.array(list(values.values()), dtype=np.float64)
    total = float(((scores - scores.mean()) ** 2).sum())
    shares: dict[str, float] = {}
    for position, axis in enumerate(axes):
        seeds = [key[position] for key in values]
        between = 0.0
        for seed in dict.fromkeys(seeds):
            own = scores[[other == seed for other in seeds]]
            between += len(own) * float(own.mean() - scores.mean()) ** 2
        shares[axis] = between / total if total > 0 else 0.0
    shares["residual"] = max(0.0, 1.0 - sum(shares.values())) if total > 0 else 0.0
    shares["variance"] = total / len(scores)
    return shares


def finite_vector(values: ArrayLike, name: str) -> FloatArray:
    """Turn one sample into a float64 vector or say what is wrong with it."""
    vector = np.asarray(list(values) if isinstance(values, range) else values, dtype=np.float64).ravel()
    if not len(vector) or not np.isfinite(vector).all():
        raise InputError(
            f"sample {name!r} has {len(vector)} values, or some that are not finite; pass at least one finite number."
        )
    return vector
