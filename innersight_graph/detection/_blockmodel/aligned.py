"""Whether the communities are the neurons' own, or any rotation of them would show as many.

Dense weights of low rank carry strong structure in whatever basis they are written. A network whose layer was turned by
a random rotation computes the same function, and no neuron of that layer belongs to anything any more; still a block
model cuts its continuum of rows into groups. So the layer is compared with random rotations of itself, once by how
tightly its rows cluster and, if that does not tell, by what the communities gain.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from innersight_graph.detection._blockmodel.expectation import Floats
from innersight_graph.detection._blockmodel.kmeans import best_kmeans
from innersight_graph.detection._blockmodel.profile import Profile, score_residuals, scored_profile
from innersight_graph.detection._blockmodel.search import Search
from innersight_graph.detection._blockmodel.start import Direction, one_direction

_MARGIN = 1.1
# Over both tests: about four standard deviations, for far tails are heavier than the normal ones assumed. Communities
# of neurons stand out much further (``stats[layer]["rotation_p_values"]``).
LEVEL = 0.0001


@dataclass(frozen=True)
class Alignment:
    """P-values of the rows' tightness and, where it was needed, of the gain."""

    tightness_p: float
    gain_p: float | None
    rotations: int

    @property
    def holds(self) -> bool:
        """Whether either test rejects rotation at half the level each."""
        return self.tightness_p <= LEVEL / 2 or (self.gain_p is not None and self.gain_p <= LEVEL / 2)


def alignment_test(
    search: Search, size: int, *, rotations: int, rng: np.random.Generator, seed: np.random.SeedSequence
) -> Alignment | None:
    """Compare a layer's fit of `size` communities with fits of random rotations; None where rotating has no meaning.

    Notes
    -----
    A copy costs one eigendecomposition and a k-means; the second test, made only where the first is not decisive, one
    fit.
    """
    turn = search.profile.turn
    if turn is None or rotations < 1 or size < 2:
        return None
    strongest = max(search.directions, key=lambda d: float(d.values[: size - 1].sum()))
    copies: list[list[Floats]] = []

    def copy(i: int) -> list[Floats]:
        while len(copies) <= i:
            copies.append(turn(rng))
        return copies[i]

    def tightness(i: int) -> float:
        return _tightness(one_direction([score_residuals(W) for W in copy(i)], strongest.name, size), size, seed)

    def loss(i: int) -> float:
        # A rotated copy has been scaled once more than the layer itself; the margin keeps that from deciding.
        return -_MARGIN * _gain(scored_profile(copy(i)), search, size, seed)

    p = _p_value(_tightness(strongest, size, seed), tightness, rotations)
    if p <= LEVEL / 2:
        return Alignment(p, None, rotations)
    own = search.fits(size)[0].bound - search.one.bound
    return Alignment(p, _p_value(-own, loss, rotations), rotations)


def _p_value(observed: float, copy: Callable[[int], float], rotations: int) -> float:
    """Probability that one more copy would be as small, copies being normal; the rank as soon as one is as small.

    The rank of one among forty cannot say one in a thousand. Tightness and gain are sums over many neurons, and their
    copies' skewness and excess kurtosis lie near zero; a further copy then follows Student's distribution around the
    others' mean.
    """
    from scipy import stats

    values: list[float] = []
    while len(values) < rotations:
        values.append(copy(len(values)))
        if values[-1] <= observed:
            return 2 / (1 + len(values))
    spread = float(np.std(values, ddof=1)) * np.sqrt(1 + 1 / rotations) if rotations > 1 else 0.0
    if spread == 0:
        return 1 / (1 + rotations)
    return float(stats.t.cdf((observed - np.mean(values)) / spread, rotations - 1))


def _tightness(direction: Direction, size: int, seed: np.random.SeedSequence) -> float:
    """Share of the variance of the spectral embedding that k-means leaves within its clusters."""
    points = direction.vectors[:, : size - 1] * np.sqrt(np.maximum(direction.values[: size - 1], 0.0))
    total = float(((points - points.mean(axis=0)) ** 2).sum())
    return best_kmeans(points, size, seed, n_init=4)[1] / total if total > 0 else 1.0


def _gain(profile: Profile, search: Search, size: int, seed: np.random.SeedSequence) -> float:
    copy = Search(profile, size, n_init=search.n_init, seed=seed)
    return copy.fits(size)[0].bound - copy.one.bound
