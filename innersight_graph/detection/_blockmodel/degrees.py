"""Which degrees of a row are taken as given: its number of connections, or that of each sign."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from innersight_graph.detection._blockmodel.expectation import Floats

_FEWEST_ROWS = 8
_NONE = 10.0  # lead, negated, of a side without a balance to vary


def row_degrees(sides: Sequence[tuple[Floats, Floats]]) -> tuple[str, ...]:
    """Return for each side ``"sign"`` where the rows' balance of signs varies continuously, else ``"total"``.

    A balance that comes in a few values defines communities (sign roles) and must stay in the data; one that varies
    continuously is a nuisance, which would be cut into communities if it stayed. The Bayesian information criterion
    decides between a binomial, a mixture of two binomials (both ``"total"``) and a beta-binomial (``"sign"``).

    Parameters
    ----------
    sides : sequence of (positive, negative), each (n_rows,)
        Connections of each sign, of every side of the layer.
    """
    return _together([_sign_lead(positive, negative) for positive, negative in sides], len(sides[0][0]))


def row_locations(sides: Sequence[tuple[Floats, float]]) -> tuple[str, ...]:
    """Do the same for dense scores: of each side the rows' mean scores and the standard error of each.

    A Gaussian spread beyond the error means ``"sign"``; one value or two distinct ones mean ``"total"``.
    """
    return _together([_location_lead(means, error) for means, error in sides], len(sides[0][0]))


def _together(leads: list[float], n_rows: int) -> tuple[str, ...]:
    """Decide by the lead of ``"sign"`` on each side; one that shows some variation follows the others.

    Some: half of what the criterion asks for it. Deciding for each side alone, the block model cut 10 of 120 small
    graphs without communities, whose balance varied on both sides and was clear on one.
    """
    some = -0.5 * np.log(n_rows)
    return tuple("sign" if lead >= 0 or (lead > some and sum(leads) > 0) else "total" for lead in leads)


def _sign_lead(positive: Floats, negative: Floats) -> float:
    """Return by how much the criterion prefers a continuous balance of signs to one or two values of it."""
    n = positive + negative
    k = positive[n > 0]
    n = n[n > 0]
    if n.size < _FEWEST_ROWS:
        return 0.0
    if not 0 < k.sum() < n.sum():
        return -_NONE
    size = np.log(n.size)
    binomial = -2 * _binomial(k, n, k.sum() / n.sum()).sum() + size
    return float(min(binomial, _two_binomials(k, n) + 3 * size) - _beta_binomial(k, n) - 2 * size)


def _location_lead(means: Floats, error: float) -> float:
    if means.size < _FEWEST_ROWS:
        return 0.0
    size = np.log(means.size)
    one = _normal(means, means.mean(), error)
    wide = _normal(means, means.mean(), max(float(means.std()), error))
    two = _two_normals(means, error)
    return float(min(-2 * one + size, -2 * two + 3 * size) + 2 * wide - 2 * size)


def _binomial(k: Floats, n: Floats, p: float | Floats) -> Floats:
    q = np.clip(p, 1e-9, 1 - 1e-9)
    logs: Floats = k * np.log(q) + (n - k) * np.log1p(-q)
    return logs


def _two_binomials(k: Floats, n: Floats) -> float:
    """Minus twice the maximised log likelihood of a two-binomial mixture."""
    rates = np.quantile(k / n, [0.2, 0.8])
    weights = np.array([0.5, 0.5])
    loglik = -np.inf
    for _ in range(200):
        joint = np.stack([_binomial(k, n, p) for p in rates]) + np.log(weights)[:, None]
        top = joint.max(axis=0)
        total = top + np.log(np.exp(joint - top).sum(axis=0))
        if total.sum() - loglik < 1e-6:
            break
        loglik = float(total.sum())
        q = np.exp(joint - total)
        weights = np.maximum(q.mean(axis=1), 1e-12)
        rates = (q @ k) / np.maximum(q @ n, 1e-12)
    return -2 * loglik


def _beta_binomial(k: Floats, n: Floats) -> float:
    """Minus twice the maximised log likelihood of a beta-binomial, without the binomial coefficient."""
    from scipy.optimize import minimize
    from scipy.special import betaln

    def negative(point: Floats) -> float:
        mean, concentration = 1 / (1 + np.exp(-point[0])), np.exp(np.clip(point[1], -3.0, 12.0))
        a, b = mean * concentration, (1 - mean) * concentration
        return float(-(betaln(k + a, n - k + b) - betaln(a, b)).sum())

    mean = float(np.clip(k.sum() / n.sum(), 1e-3, 1 - 1e-3))
    start = np.array([np.log(mean / (1 - mean)), np.log(20.0)])
    return 2 * float(minimize(negative, start, method="Nelder-Mead", options={"maxiter": 200}).fun)


def _normal(x: Floats, mean: float, deviation: float) -> float:
    return float((-0.5 * ((x - mean) / deviation) ** 2 - np.log(deviation)).sum())


def _two_normals(x: Floats, deviation: float) -> float:
    centres = np.quantile(x, [0.2, 0.8])
    weights = np.array([0.5, 0.5])
    loglik = -np.inf
    for _ in range(200):
        joint = -0.5 * ((x[None] - centres[:, None]) / deviation) ** 2 - np.log(deviation) + np.log(weights)[:, None]
        top = joint.max(axis=0)
        total = top + np.log(np.exp(joint - top).sum(axis=0))
        if total.sum() - loglik < 1e-6:
            break
        loglik = float(total.sum())
        q = np.exp(joint - total)
        weights = np.maximum(q.mean(axis=1), 1e-12)
        centres = (q @ x) / np.maximum(q.sum(axis=1), 1e-12)
    return loglik
