"""The Poisson block: counts of signed (and graded) connections against a degree-corrected null."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from innersight_graph.detection._blockmodel.expectation import Expectation, Floats

STRENGTHS = np.array([1.0, 3.0, 10.0, 30.0, 100.0, 300.0])
_CHUNK_ENTRIES = 4_000_000


@dataclass
class PoissonBlock:
    """One side (previous or next layer) of a layer's connections.

    Channel s of entry (k, f) is 1 where ``codes[k, f] == s + 1``. A block of up to 16 million entries keeps its
    channels as floats; a larger one reads its codes in blocks of rows, at one byte for each connection.

    Notes
    -----
    A^s_kf ~ Poisson(E^s_kf θ^s_{z_k w_f}) with θ ~ Gamma(κ, κ): θ = 1 is chance, every θ a ratio to it. κ is chosen by
    the evidence of the table (empirical Bayes), because it is the price of a block parameter, ½ ln(E/κ).

    An iteration asks for products with the same labels twice, once for messages and once for the tables; the last ones
    are kept. Labels given to a block must therefore not be changed in place.
    """

    codes: NDArray[np.int8]
    n_channels: int
    expectation: Expectation
    dtype: Any = np.float64
    _channels: Floats | None = field(init=False, repr=False, default=None)
    _counted: tuple[Floats, Floats] | None = field(init=False, repr=False, default=None)  # R and A^s R
    _reached: tuple[Floats, Floats] | None = field(init=False, repr=False, default=None)  # Q and E^s' Q

    def __post_init__(self) -> None:
        if self.codes.size * self.n_channels <= 4 * _CHUNK_ENTRIES:
            self._channels = (self.codes[None] == np.arange(1, self.n_channels + 1)[:, None, None]).astype(self.dtype)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows (neurons) and features."""
        return self.codes.shape[0], self.codes.shape[1]

    def _pieces(self) -> Iterator[tuple[slice, Any]]:
        """Yield (rows, channels of those rows) so that at most a few million floats exist at once."""
        if self._channels is not None:
            yield slice(None), self._channels
            return
        step = max(1, _CHUNK_ENTRIES // self.codes.shape[1])
        for first in range(0, self.codes.shape[0], step):
            rows = slice(first, first + step)
            yield rows, [(self.codes[rows] == s + 1).astype(self.dtype) for s in range(self.n_channels)]

    def statistics(self, Q: Floats, R: Floats) -> Floats:
        """Return observed over expected counts of every block, (2 · n_channels, groups of rows, groups of features)."""
        if self._counted is None or self._counted[0] is not R:
            self._counted = R, self._count(R.astype(self.dtype, copy=False)[None])
        observed = np.matmul(Q.T.astype(self.dtype), self._counted[1])
        expected = np.matmul(self._reach(Q).transpose(0, 2, 1), R.astype(self.dtype, copy=False))
        return np.concatenate([observed, expected]).astype(float)

    def _count(self, B: Floats) -> Floats:
        """A^s B^s for each channel: (n_channels or 1, n_features, n) to (n_channels, n_rows, n)."""
        counts = np.empty((self.n_channels, self.codes.shape[0], B.shape[2]), dtype=self.dtype)
        for rows, channels in self._pieces():
            for s in range(self.n_channels):
                np.matmul(channels[s], B[s % B.shape[0]], out=counts[s, rows])
        return counts

    def _reach(self, Q: Floats) -> Floats:
        if self._reached is None or self._reached[0] is not Q:
            self._reached = Q, self.expectation.reach(Q.astype(self.dtype, copy=False))
        return self._reached[1]

    def cell_evidence(self, stats: Floats) -> Floats:
        """Log evidence of each cell for each strength: (n_strengths, groups of rows, groups of features), nats."""
        from scipy.special import gammaln

        m, e = stats[: self.n_channels], stats[self.n_channels :]
        κ = STRENGTHS[:, None, None, None]
        cells = gammaln(m + κ) - gammaln(κ) + κ * np.log(κ) - (m + κ) * np.log(e + κ)
        total: Floats = cells.sum(axis=1)
        return total

    def parameters(self, stats: Floats, strength: float) -> Floats:
        """Posterior mean of θ, (n_channels, groups of rows, groups of features)."""
        θ: Floats = (stats[: self.n_channels] + strength) / (stats[self.n_channels :] + strength)
        return θ

    def row_messages(self, θ: Floats, R: Floats) -> Floats:
        """Ln of the averaged likelihood of each row in each group, (n_rows, groups).

        ln Σ_h R θ in place of mean field's Σ_h R ln θ: belief propagation without the cavity, at the same cost, and
        better where the labels are uncertain.
        """
        soft = R.astype(self.dtype, copy=False)
        rates = np.matmul(soft, θ.transpose(0, 2, 1).astype(self.dtype))
        groups = rates.shape[2]
        # The tables will need A R of the same labels: one pass over the connections serves both.
        counts = self._count(np.concatenate([np.log(rates), np.broadcast_to(soft, (len(rates), *soft.shape))], axis=2))
        self._counted = R, counts[:, :, groups:]
        L: Floats = counts[:, :, :groups].sum(axis=0) - self.expectation.rows(rates)
        return L

    def column_messages(self, θ: Floats, Q: Floats) -> Floats:
        """Do the same for features, (n_features, groups)."""
        table = θ.astype(self.dtype)
        logs = np.log(np.matmul(Q.astype(self.dtype, copy=False), table))
        L: Floats = -np.matmul(self._reach(Q), table).sum(axis=0)
        for rows, channels in self._pieces():
            for s in range(self.n_channels):
                L += channels[s].T @ logs[s][rows]
        return L
