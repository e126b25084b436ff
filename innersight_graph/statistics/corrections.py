"""Corrections for several tests: Holm, Benjamini and Hochberg, and the maximum over random groups of equal size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from innersight_graph.errors import InputError

__all__ = ["MaxStatistic", "benjamini_hochberg", "holm", "matched_label_draws", "max_statistic"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]


class MaxStatistic(NamedTuple):
    """Result of `max_statistic`.

    Attributes
    ----------
    pvalue : ndarray (m,)
        Family-wise p-values: the share of draws whose largest standardised value reaches the observed one.
    pvalue_pointwise : ndarray (m,)
        The same against the draws of this item alone, without regard to the others.
    z : ndarray (m,)
        Observed values, standardised.
    mean, low, high : ndarray (m,)
        Mean and central 95 % of the draws of the item's group.
    pvalue_any : float
        Smallest family-wise p-value: is any item beyond its null?
    """

    pvalue: FloatArray
    pvalue_pointwise: FloatArray
    z: FloatArray
    mean: FloatArray
    low: FloatArray
    high: FloatArray
    pvalue_any: float


def holm(pvalues: ArrayLike) -> FloatArray:
    """Holm's step-down correction: family-wise error under any dependence.

    Parameters
    ----------
    pvalues : array_like, any shape
        One family of p-values; ``nan`` marks a test that was not made and stays ``nan``.

    Returns
    -------
    ndarray of float64
        Adjusted p-values of the same shape.

    References
    ----------
    Holm 1979, https://www.jstor.org/stable/4615733.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    return _adjust(pvalues, lambda p: np.maximum.accumulate(p * np.arange(len(p), 0, -1)))


def benjamini_hochberg(pvalues: ArrayLike) -> FloatArray:
    """Benjamini and Hochberg's correction: false discovery rate of independent or positively dependent tests.

    Parameters
    ----------
    pvalues : array_like, any shape
        One family of p-values; ``nan`` marks a test that was not made and stays ``nan``.

    Returns
    -------
    ndarray of float64
        Adjusted p-values (q-values) of the same shape.

    References
    ----------
    Benjamini & Hochberg 1995, doi:10.1111/j.2517-6161.1995.tb02031.x.

    Examples
    --------
    >>> benjamini_hochberg([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.04, 0.04]
    """

    def step_up(p: FloatArray) -> FloatArray:
        raw = p * len(p) / np.arange(1, len(p) + 1)
        return np.minimum.accumulate(raw[::-1])[::-1]

    return _adjust(pvalues, step_up)


def matched_label_draws(
    labels: ArrayLike,
    n_draws: int,
    *,
    seed: int | None = None,
    key: Sequence[int] = (),
    strata: ArrayLike | None = None,
) -> IntArray:
    """Random groupings of the same sizes: the given labels, permuted among the labelled neurons.

    Parameters
    ----------
    labels : array_like of int (n,)
        Community of each neuron, -1 where it takes no part (such neurons keep -1 in every draw).
    n_draws : int
        Number of draws.
    seed : int, optional
        With ``key`` names the stream, so that a draw does not depend on what else was drawn.
    key : sequence of int
        Further parts of the stream's name, e.g. the layer's depth.
    strata : array_like of int (n,), optional
        Permute only among neurons of equal stratum (e.g. bins of weight norm).

    Returns
    -------
    ndarray of int (n_draws, n)

    Examples
    --------
    >>> matched_label_draws([0, 0, 1, -1], 2, seed=0).shape
    (2, 4)
    """
    base = np.asarray(labels, dtype=np.intp)
    groups = np.zeros(len(base), dtype=np.intp) if strata is None else np.asarray(strata, dtype=np.intp)
    entropy = None if seed is None else [int(seed), *map(int, key)]
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy)))
    draws = np.repeat(base[None, :], n_draws, axis=0)
    for group in np.unique(groups):
        members = np.flatnonzero((base >= 0) & (groups == group))
        draws[:, members] = rng.permuted(draws[:, members], axis=1)
    return draws


def max_statistic(
    observed: ArrayLike, null: ArrayLike, *, groups: ArrayLike | None = None, resolution: float = 0.0
) -> MaxStatistic:
    """Family-wise p-values of several items from the maximum over items of each random draw (Westfall and Young).

    Parameters
    ----------
    observed : array_like (m,)
        One value per item, larger means more extreme.
    null : array_like (n_draws, m)
        The same values for the random draws.
    groups : array_like of int (m,), optional
        Items with equal numbers have the same null distribution (communities of one layer and size): their draws are
        pooled for mean, spread and band. Default: every item for itself.
    resolution : float, default 0
        Smallest spread used when standardising (e.g. one sample's worth of accuracy), so that an item whose draws never
        vary cannot reach infinity.

    Returns
    -------
    MaxStatistic

    Raises
    ------
    InputError
        Draws whose shape does not fit the observed values, or none.

    Notes
    -----
    Values are standardised by the mean and standard deviation of their group (observed values included, so that
    observed and drawn partitions are treated alike) before the maximum is taken; otherwise large communities would
    drown small ones. The selection of the most striking item is thereby inside the null; no further correction is to be
    applied. With ``B`` draws no p-value is below ``1 / (B + 1)``.

    References
    ----------
    Westfall & Young 1993, ISBN 978-0-471-55761-6; Phipson & Smyth 2010, doi:10.2202/1544-6115.1585.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> max_statistic([0.0, 9.0], rng.normal(size=(199, 2))).pvalue.tolist()
    [0.7, 0.005]
    """
    values = np.asarray(observed, dtype=np.float64)
    draws = np.asarray(null, dtype=np.float64)
    if values.ndim != 1 or draws.ndim != 2 or draws.shape[1] != len(values) or not len(draws):
        raise InputError(
            f"max_statistic got observed values of shape {values.shape} and draws of shape {draws.shape}; it needs "
            f"(m,) and (B, m) "
            "with at least one draw."
        )
    kind = np.arange(len(values)) if groups is None else np.asarray(groups)
    everything = np.vstack([values[None, :], draws])
    standard = np.zeros_like(everything)
    mean, low, high, pointwise = (np.zeros(len(values)) for _ in range(4))
    for group in np.unique(kind):
        items = np.flatnonzero(kind == group)
        pool = everything[:, items]
        spread = max(float(pool.std()), resolution) or 1.0
        standard[:, items] = (pool - pool.mean()) / spread
        own = np.sort(draws[:, items].ravel())
        mean[items] = own.mean()
        low[items], high[items] = np.quantile(own, (0.025, 0.975))
        reached = len(own) - np.searchsorted(own, values[items] - 1e-12, "left")
        pointwise[items] = (1 + reached) / (1 + len(own))
    top = np.sort(standard[1:].max(axis=1)) if len(values) else np.zeros(len(draws))
    reached = len(top) - np.searchsorted(top, standard[0] - 1e-12, "left")
    pvalue = (1 + reached) / (1 + len(top))
    return MaxStatistic(pvalue, pointwise, standard[0], mean, low, high, float(pvalue.min()) if len(pvalue) else 1.0)


def _adjust(pvalues: ArrayLike, step: Callable[[FloatArray], FloatArray]) -> FloatArray:
    """Apply a step procedure to the sorted, made tests of one family."""
    p = np.asarray(pvalues, dtype=np.float64)
    made = ~np.isnan(p)
    if (p[made] < 0).any() or (p[made] > 1).any():
        raise InputError("a p-value outside [0, 1] came in; pass raw p-values of one family, nan for tests not made.")
    flat = p[made]
    order = np.argsort(flat, kind="stable")
    adjusted = np.empty_like(flat)
    adjusted[order] = np.minimum(step(flat[order]), 1.0)
    result = np.full(p.shape, np.nan)
    result[made] = adjusted
    return result
