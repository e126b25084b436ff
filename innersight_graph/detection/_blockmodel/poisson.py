"""The Poisson block: counts of signed (and graded) connections against a degree-corrected null."""

from __future__ import annotations

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
    """

    codes: NDArray[np.int8]
    n_channels: int
    expectation: Expectation
    dtype: Any = np.float64
    _channels: Floats | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        if self.codes.size * self.n_channels <= 4 * _CHUNK_ENTRIES:
            self._channels = (self.codes[None] == np.arange(1, self.n_channels + 1)[:, None, None]).astype(self.dtype)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows (neurons) and features."""
        return self.codes.shape[0], self.codes.shape[1]

    def _pieces(self) -> Any:
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
        Q, R = Q.astype(self.dtype, copy=False), R.astype(self.dtype, copy=False)
        observed = np.zeros((self.n_channels, Q.shape[1], R.shape[1]))
        for rows, channels in self._pieces():
            for s in range(self.n_channels):
                observed[s] += Q[rows].T @ (channels[s] @ R)
        return np.concatenate([observed, np.asarray(self.expectation.tables(Q, R), dtype=float)])

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
        rates = np.matmul(R.astype(self.dtype, copy=False), θ.transpose(0, 2, 1).astype(self.dtype))
        logs = np.log(rates)
        L = -self.expectation.rows(rates)
        for rows, channels in self._pieces():
            for s in range(self.n_channels):
                L[rows] += channels[s] @ logs[s]
        return L

    def column_messages(self, θ: Floats, Q: Floats) -> Floats:
        """Do the same for features, (n_features, groups)."""
        rates = np.matmul(Q.astype(self.dtype, copy=False), θ.astype(self.dtype))
        logs = np.log(rates)
        L = -self.expectation.columns(rates)
        for rows, channels in self._pieces():
            for s in range(self.n_channels):
                L += channels[s].T @ logs[s][rows]
        return L
