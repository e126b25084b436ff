"""The Gaussian block: signed normal scores of dense weights, two parameters for each block instead of one a level."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from innersight_graph.detection._blockmodel.expectation import Floats
from innersight_graph.detection._blockmodel.poisson import STRENGTHS


@dataclass
class GaussianBlock:
    """Scores g_kf ~ Normal(μ_{z_k w_f}, v_{z_k w_f}) with a normal-inverse-gamma prior.

    The prior is centred on mean 0 and on the block's mean square.

    A change of location (excitation against inhibition) and a change of scale (strong against weak) cost one parameter
    each. Graded Poisson channels spend eleven on the same information, which made them deaf.

    Messages and tables need the same two products with the labels of one side; the last ones are kept. Labels given to
    a block must therefore not be changed in place.
    """

    scores: Floats  # (n_rows, n_features)
    dtype: Any = np.float64
    _by_features: tuple[Floats, Floats] | None = field(init=False, repr=False, default=None)  # R and [g R | g² R]
    _by_rows: tuple[Floats, Floats] | None = field(init=False, repr=False, default=None)  # Q and [g' Q | g²' Q]

    def __post_init__(self) -> None:
        self.scores = np.ascontiguousarray(self.scores, dtype=self.dtype)
        self._squares = self.scores**2
        self._scale = max(float(self._squares.mean(dtype=float)), 1e-12)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows (neurons) and features."""
        return self.scores.shape[0], self.scores.shape[1]

    def statistics(self, Q: Floats, R: Floats) -> Floats:
        """Count, sum and sum of squares of every block, (3, groups of rows, groups of features)."""
        count = np.outer(Q.sum(axis=0), R.sum(axis=0))
        if self._by_features is not None and self._by_features[0] is R:
            return np.stack([count, *(Q.T @ part for part in self._seen_by_rows(R))])
        return np.stack([count, *(part.T @ R for part in self._seen_by_features(Q))])

    def _seen_by_rows(self, R: Floats) -> Floats:
        """Scores and squares of each row summed over the groups of features, (2, n_rows, groups)."""
        if self._by_features is None or self._by_features[0] is not R:
            soft = R.astype(self.dtype, copy=False)
            self._by_features = R, np.stack([self.scores @ soft, self._squares @ soft])
        return self._by_features[1]

    def _seen_by_features(self, Q: Floats) -> Floats:
        if self._by_rows is None or self._by_rows[0] is not Q:
            soft = Q.astype(self.dtype, copy=False)
            self._by_rows = Q, np.stack([self.scores.T @ soft, self._squares.T @ soft])
        return self._by_rows[1]

    def _posterior(self, stats: Floats, κ: Any) -> tuple[Floats, Floats, Floats, Floats]:
        n, total, squares = stats
        mean = total / np.maximum(n, 1e-12)
        spread = np.maximum(squares - n * mean**2, 0.0)
        shape = 1.0 + (κ + n) / 2
        rate = (κ / 2) * self._scale + 0.5 * spread + 0.5 * κ * n * mean**2 / (κ + n)
        location = total / (κ + n)
        return κ + n, location, shape, rate

    def cell_evidence(self, stats: Floats) -> Floats:
        """Log evidence of each cell for each strength: (n_strengths, groups of rows, groups of features), nats."""
        from scipy.special import gammaln

        κ = STRENGTHS[:, None, None]
        precision, _, shape, rate = self._posterior(stats, κ)
        prior_shape, prior_rate = 1.0 + κ / 2, (κ / 2) * self._scale
        evidence: Floats = (
            -0.5 * stats[0] * np.log(2 * np.pi)
            + 0.5 * np.log(κ / precision)
            + prior_shape * np.log(prior_rate)
            - shape * np.log(rate)
            + gammaln(shape)
            - gammaln(prior_shape)
        )
        return evidence

    def parameters(self, stats: Floats, strength: float) -> Floats:
        """Return expected precision, mean, and log variance plus the mean's own uncertainty, (3, groups, groups)."""
        from scipy.special import digamma

        counts, location, shape, rate = self._posterior(stats, strength)
        return np.stack([shape / rate, location, np.log(rate) - digamma(shape) + 1.0 / counts])

    def row_messages(self, θ: Floats, R: Floats) -> Floats:
        """Return the expected log density of each row in each group, (n_rows, groups)."""
        precision, location, offset = (part.T for part in θ)
        scores, squares = self._seen_by_rows(R)
        L: Floats = scores @ (precision * location) - 0.5 * (squares @ precision)
        L -= 0.5 * (R.sum(axis=0) @ (precision * location**2 + offset))
        return L

    def column_messages(self, θ: Floats, Q: Floats) -> Floats:
        """Do the same for features, (n_features, groups)."""
        precision, location, offset = θ
        scores, squares = self._seen_by_features(Q)
        L: Floats = scores @ (precision * location) - 0.5 * (squares @ precision)
        L -= 0.5 * (Q.sum(axis=0) @ (precision * location**2 + offset))
        return L
