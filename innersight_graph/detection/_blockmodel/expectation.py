"""Null expectations of a signed connection: what is expected of neuron k and feature f from their degrees alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

# Below this largest product expectation, saturation changes p by less than 5 % and the cheap product is used.
PRODUCT_IS_ENOUGH = 0.1


class Expectation(Protocol):
    """Expected counts E^s (n_channels, n_rows, n_features), never formed unless asked for."""

    def rows(self, B: Floats) -> Floats:
        """Sum over channels of E^s B^s: (n_channels, n_features, n_groups) to (n_rows, n_groups)."""
        ...

    def reach(self, Q: Floats) -> Floats:
        """Count what is expected of each feature with each group, E^s' Q: (n_channels, n_features, groups of Q)."""
        ...

    def dense(self) -> Floats:
        """E itself, (n_channels, n_rows, n_features)."""
        ...

    def total(self) -> Floats:
        """Sum of E over channels, (n_rows, n_features)."""
        ...


@dataclass(frozen=True)
class Product(Expectation):
    """E^s = rows^s ⊗ columns^s: the configuration model, one outer product for each channel."""

    row_factors: Floats  # (n_channels, n_rows)
    column_factors: Floats  # (n_channels, n_features)

    def rows(self, B: Floats) -> Floats:
        """See `Expectation.rows`; costs n_features · n_groups."""
        result: Floats = self.row_factors.T @ np.einsum("sf,sfc->sc", self.column_factors, B)
        return result

    def reach(self, Q: Floats) -> Floats:
        """See `Expectation.reach`; costs n_features · n_groups."""
        result: Floats = self.column_factors[:, :, None] * (self.row_factors @ Q)[:, None, :]
        return result

    def dense(self) -> Floats:
        """See `Expectation.dense`."""
        full: Floats = self.row_factors[:, :, None] * self.column_factors[:, None, :]
        return full

    def total(self) -> Floats:
        """See `Expectation.total`."""
        return self.row_factors.T @ self.column_factors


@dataclass(frozen=True)
class Shared(Expectation):
    """E^s = p · share^s: a saturating probability of any connection times the column's share of the sign."""

    probability: Floats  # (n_rows, n_features)
    share: Floats  # (n_channels, n_features)

    def rows(self, B: Floats) -> Floats:
        """See `Expectation.rows`; one matrix product for all channels."""
        result: Floats = self.probability @ (self.share[:, :, None] * B).sum(axis=0)
        return result

    def reach(self, Q: Floats) -> Floats:
        """See `Expectation.reach`; one matrix product for all channels."""
        result: Floats = self.share[:, :, None] * (self.probability.T @ Q)
        return result

    def dense(self) -> Floats:
        """See `Expectation.dense`."""
        full: Floats = self.probability[None] * self.share[:, None, :]
        return full

    def total(self) -> Floats:
        """See `Expectation.total`; the shares of a column sum to one."""
        return self.probability


@dataclass(frozen=True)
class Dense(Expectation):
    """E stored in full; needed when a row's share of a sign is its own and the total saturates."""

    full: Floats  # (n_channels, n_rows, n_features)

    def rows(self, B: Floats) -> Floats:
        """See `Expectation.rows`."""
        total: Floats = np.matmul(self.full, B).sum(axis=0)
        return total

    def reach(self, Q: Floats) -> Floats:
        """See `Expectation.reach`."""
        result: Floats = np.matmul(self.full.transpose(0, 2, 1), Q)
        return result

    def dense(self) -> Floats:
        """See `Expectation.dense`."""
        return self.full

    def total(self) -> Floats:
        """See `Expectation.total`."""
        return np.asarray(self.full.sum(axis=0))


def saturated(x: Floats, y: Floats) -> Floats:
    """Return 1 − exp(−x y), (n_rows, n_features)."""
    p = np.outer(x, -y)
    if p.dtype == np.float32:
        # Vectorised, which expm1 is not; absolute rounding of 10⁻⁷ is far below any probability that matters.
        np.exp(p, out=p)
        return 1 - p
    np.expm1(p, out=p)
    return np.negative(p, out=p)


def saturating_margins(
    row_degrees: Floats,
    column_degrees: Floats,
    *,
    rounds: int = 40,
    tol: float = 2e-3,
    start: tuple[Floats, Floats] | None = None,
) -> tuple[Floats, Floats]:
    """Solve Σ_f p = row degree and Σ_k p = column degree for p = 1 − exp(−x y).

    Unlike the product r c / M, p never exceeds one, so that two hubs are not expected to share several connections.
    Measured: with the product, hard clustering of structureless hub graphs gains up to 40 nats; with p it gains none.

    Parameters
    ----------
    row_degrees, column_degrees : ndarray (n_rows,), (n_features,)
        Connections of both signs together.
    rounds, tol
        Most rounds, and the largest error relative to max(degree, 1) at which to stop.
    start : pair of ndarray, optional
        x and y to start from, for refits of nearly equal degrees.

    Returns
    -------
    x, y : ndarray
        Cost n_rows · n_features exponentials a round.
    """
    total = max(float(row_degrees.sum()), 1.0)
    x, y = (row_degrees / np.sqrt(total), column_degrees / np.sqrt(total)) if start is None else start
    x, y = x.copy(), y.copy()
    for _ in range(rounds):
        reached = saturated(x, y).sum(axis=1)
        error = float(np.max(np.abs(reached - row_degrees) / np.maximum(row_degrees, 1.0), initial=0.0))
        x = np.minimum(x * (row_degrees / np.maximum(reached, 1e-12)) ** 1.2, 1e4)
        reached = saturated(x, y).sum(axis=0)
        error = max(
            error, float(np.max(np.abs(reached - column_degrees) / np.maximum(column_degrees, 1.0), initial=0.0))
        )
        y = np.minimum(y * (column_degrees / np.maximum(reached, 1e-12)) ** 1.2, 1e4)
        if error < tol:
            break
    return x, y


def signed_expectation(
    row_signs: Floats,
    column_signs: Floats,
    *,
    rows: str,
    rounds: int = 40,
    start: tuple[Floats, Floats] | None = None,
    dtype: type[np.floating] = np.float64,
) -> tuple[Expectation, tuple[Floats, Floats] | None]:
    """Return the null of a signed block from its degrees, and the margins it was solved with (None for a product).

    Parameters
    ----------
    row_signs, column_signs : ndarray (n_channels, n_rows), (n_channels, n_features)
        Degrees by channel.
    rows : {"total", "sign"}
        ``"total"``: a row keeps its number of connections, so that its balance of signs may define a community.
        ``"sign"``: it keeps its number of connections of each sign.
    rounds, start
        As in `saturating_margins`.
    dtype
        Of the stored arrays.
    """
    row_total, column_total = row_signs.sum(axis=0), column_signs.sum(axis=0)
    total = max(float(row_total.sum()), 1.0)
    share = column_signs / np.maximum(column_total, 1e-300)
    if float(row_total.max(initial=0.0)) * float(column_total.max(initial=0.0)) / total < PRODUCT_IS_ENOUGH:
        if rows == "sign":
            scale = np.sqrt(np.maximum(row_signs.sum(axis=1, keepdims=True), 1.0))
            return Product((row_signs / scale).astype(dtype), (column_signs / scale).astype(dtype)), None
        root = np.sqrt(total)
        row_factors = np.broadcast_to(row_total / root, row_signs.shape)
        return Product(row_factors.astype(dtype), (share * column_total / root).astype(dtype)), None
    if start is not None:
        start = start[0].astype(dtype), start[1].astype(dtype)
    x, y = saturating_margins(row_total.astype(dtype), column_total.astype(dtype), rounds=rounds, start=start)
    probability = saturated(x.astype(dtype), y.astype(dtype))
    if rows == "sign":
        odds = row_signs[:, :, None] * column_signs[:, None, :] / np.maximum(row_signs.sum(axis=1), 1.0)[:, None, None]
        odds /= np.maximum(odds.sum(axis=0), 1e-300)
        return Dense((probability * odds).astype(dtype)), (x, y)
    return Shared(probability, share.astype(dtype)), (x, y)
