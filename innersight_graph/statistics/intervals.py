"""Intervals of proportions, of paired differences and of any statistic, and what a sample size can show at all."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from innersight_graph.errors import InputError

__all__ = [
    "bootstrap_interval",
    "jackknife_interval",
    "minimum_detectable_effect",
    "normal_quantile",
    "paired_difference_interval",
    "wilson_interval",
]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]


def wilson_interval(successes: ArrayLike, n: ArrayLike, *, confidence: float = 0.95) -> FloatArray:
    """Wilson's score interval of a proportion.

    Parameters
    ----------
    successes, n : array_like of int, any shape
        Counts; where ``n`` is 0 the interval is [0, 1].
    confidence : float, default 0.95
        Coverage aimed at.

    Returns
    -------
    ndarray (..., 2)
        Lower and upper limit.

    References
    ----------
    Wilson 1927, doi:10.1080/01621459.1927.10502953.

    Examples
    --------
    >>> wilson_interval(348, 360).round(4).tolist()
    [0.9426, 0.9808]
    """
    z = normal_quantile(confidence)
    k, total = np.broadcast_arrays(np.asarray(successes, dtype=np.float64), np.asarray(n, dtype=np.float64))
    size = np.maximum(total, 1.0)
    p = k / size
    centre = (p + z**2 / (2 * size)) / (1 + z**2 / size)
    half = z / (1 + z**2 / size) * np.sqrt(p * (1 - p) / size + z**2 / (4 * size**2))
    limits = np.stack([np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)], axis=-1)
    limits[total == 0] = (0.0, 1.0)
    return limits


def paired_difference_interval(
    lost: ArrayLike, gained: ArrayLike, n: ArrayLike, *, confidence: float = 0.95
) -> FloatArray:
    """Interval of an accuracy drop measured on the same samples before and after.

    Parameters
    ----------
    lost, gained : array_like of int, any shape
        Samples right before and wrong after, and the reverse; the drop is ``(lost - gained) / n``.
    n : array_like of int
        Samples compared.
    confidence : float, default 0.95
        Coverage aimed at.

    Returns
    -------
    ndarray (..., 2)
        Lower and upper limit of the drop, within [-1, 1].

    Notes
    -----
    The adjusted Wald interval of Bonett and Price: one sample is added to each kind of discordant pair. Its coverage
    stays close to nominal for small samples and rare changes, where the plain Wald interval collapses to a point.

    References
    ----------
    Bonett & Price 2012, doi:10.3102/1076998611411915.

    Examples
    --------
    >>> paired_difference_interval(12, 2, 360).round(4).tolist()
    [0.0062, 0.0491]
    """
    z = normal_quantile(confidence)
    down, up, total = np.broadcast_arrays(*(np.asarray(v, dtype=np.float64) for v in (lost, gained, n)))
    p_down, p_up = (down + 1) / (total + 2), (up + 1) / (total + 2)
    half = z * np.sqrt((p_down + p_up - (p_down - p_up) ** 2) / (total + 2))
    centre = p_down - p_up
    return np.stack([np.clip(centre - half, -1, 1), np.clip(centre + half, -1, 1)], axis=-1)


def minimum_detectable_effect(n: int, *, alpha: float = 0.05, tests: int = 1) -> float:
    """Smallest drop that an exact McNemar test on ``n`` samples could call significant.

    Parameters
    ----------
    n : int
        Samples.
    alpha : float, default 0.05
        Significance level.
    tests : int, default 1
        Size of the family (the level of the first Holm step is ``alpha / tests``).

    Returns
    -------
    float
        A fraction of ``n``: the fewest one-sided flips that reach the level, over ``n``. Above 1 nothing can be
        significant.

    Raises
    ------
    InputError
        Numbers below 1, or an alpha outside (0, 1).

    Examples
    --------
    Six flips, 1.7 points, on 360 images:

    >>> round(minimum_detectable_effect(360), 4)
    0.0167
    """
    if n < 1 or tests < 1 or not 0 < alpha < 1:
        raise InputError(
            f"minimum_detectable_effect got n={n}, alpha={alpha}, tests={tests}; it needs at least one sample, at "
            f"least one "
            "test and a level between 0 and 1."
        )
    # n one-sided flips have p = 2 / 2^n; the tiny term keeps exact powers of two on their own side.
    flips = max(1, int(np.ceil(1 + np.log2(tests / alpha) - 1e-12)))
    return flips / n


def bootstrap_interval(
    statistic: Callable[..., float],
    *samples: ArrayLike,
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: int | None = None,
) -> FloatArray:
    """Bias-corrected accelerated bootstrap interval; several samples of equal length are resampled together (paired).

    Parameters
    ----------
    statistic : callable
        Takes the sample arrays, returns a number.
    *samples : array_like (n, ...)
        Resampled along their first axis with the same indices.
    confidence : float, default 0.95
        Coverage aimed at.
    n_resamples : int, default 2000
        Bootstrap draws.
    seed : int, optional
        Makes the draws repeatable.

    Returns
    -------
    ndarray (2,)
        Lower and upper limit. A statistic that never changes gives a degenerate interval.

    Raises
    ------
    InputError
        Samples of different lengths, or of fewer than two values.

    References
    ----------
    Efron 1987, doi:10.1080/01621459.1987.10478410.
    """
    from scipy import special

    arrays = [np.asarray(sample) for sample in samples]
    n = len(arrays[0]) if arrays else 0
    if n < 2 or any(len(array) != n for array in arrays):
        raise InputError(
            f"bootstrap_interval got samples of lengths {[len(a) for a in arrays]}; it needs one or more of equal "
            f"length, at least 2."
        )
    observed = float(statistic(*arrays))
    rng = np.random.Generator(np.random.Philox(seed))
    draws = np.sort([float(statistic(*(a[rows] for a in arrays))) for rows in rng.integers(0, n, (n_resamples, n))])
    keep = ~np.eye(n, dtype=bool)
    jackknife = np.array([float(statistic(*(a[rows] for a in arrays))) for rows in keep])
    centred = jackknife.mean() - jackknife
    spread = (centred**2).sum() ** 1.5
    acceleration = float((centred**3).sum() / (6 * spread)) if spread > 0 else 0.0
    below = ((draws < observed).sum() + 0.5 * (draws == observed).sum()) / n_resamples
    bias = float(special.ndtri(np.clip(below, 0.5 / n_resamples, 1 - 0.5 / n_resamples)))
    z = normal_quantile(confidence)
    shifted = bias + np.array([-z, z])
    levels = special.ndtr(bias + shifted / (1 - acceleration * shifted))
    return np.asarray(np.quantile(draws, levels), dtype=np.float64)


def jackknife_interval(value: ArrayLike, without: ArrayLike, *, confidence: float = 0.95) -> FloatArray:
    """Interval of a statistic from its values without one block of the sample at a time.

    Parameters
    ----------
    value : array_like (...)
        The statistic on the whole sample; any shape.
    without : array_like (n_blocks, ...)
        The same with each block left out in turn, the blocks being of about equal size.
    confidence : float, default 0.95
        Coverage aimed at.

    Returns
    -------
    ndarray (..., 2)
        Lower and upper limit by Student's t with ``n_blocks - 1`` degrees of freedom; ``nan`` with fewer than two
        blocks.

    Notes
    -----
    For smooth statistics of means, such as ratios and roots; it needs no second look at the data.

    References
    ----------
    Quenouille 1956, doi:10.1093/biomet/43.3-4.353; Tukey 1958, doi:10.1214/aoms/1177706647.

    Examples
    --------
    >>> x = np.arange(10.0)
    >>> jackknife_interval(x.mean(), [np.delete(x, i).mean() for i in range(10)]).round(2).tolist()
    [2.33, 6.67]
    """
    from scipy import stats

    centre, parts = np.asarray(value, dtype=np.float64), np.asarray(without, dtype=np.float64)
    blocks = len(parts)
    if blocks < 2:
        return np.full((*centre.shape, 2), np.nan)
    error = np.sqrt((blocks - 1) / blocks * ((parts - parts.mean(axis=0)) ** 2).sum(axis=0))
    half = stats.t.ppf(0.5 + confidence / 2, blocks - 1) * error
    return np.stack([centre - half, centre + half], axis=-1)


def normal_quantile(confidence: float) -> float:
    """Half-width of a central normal interval in standard deviations."""
    from scipy import special

    if not 0 < confidence < 1:
        raise InputError(f"confidence={confidence} is not a coverage; it must lie between 0 and 1, e.g. 0.95.")
    return float(special.ndtri(0.5 + confidence / 2))
