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


@dataclass(frozen=True)
class Alignment:
    """Rank p-values of the rows' tightness and, where it was needed, of the gain."""

    tightness_p: float
    gain_p: float | None
    rotations: int

    def holds(self, alpha: float) -> bool:
        """Whether either test rejects rotation at half the level each."""
        return self.tightness_p <= alpha / 2 or (self.gain_p is not None and self.gain_p <= alpha / 2)


def alignment_test(
    search: Search, size: int, *, rotations: int, alpha: float, rng: np.random.Generator, seed: np.random.SeedSequence
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

    p = _p_value(_tightness(strongest, size, seed), tightness, rotations, alpha / 2)
    if p <= alpha / 2:
        return Alignment(p, None, rotations)
    own = search.fits(size)[0].bound - search.one.bound
    return Alignment(p, _p_value(-own, loss, rotations, alpha / 2), rotations)


def _p_value(observed: float, copy: Callable[[int], float], rotations: int, level: float) -> float:
    """Rank of a small observed value among copies, drawn only until it can no longer reach the level."""
    spare = int(level * (rotations + 1) + 1e-9) - 1
    below = 0
    for drawn in range(1, rotations + 1):
        below += copy(drawn - 1) <= observed
        if below > spare:
            return (1 + below) / (1 + drawn)
    return (1 + below) / (1 + rotations)


def _tightness(direction: Direction, size: int, seed: np.random.SeedSequence) -> float:
    """Share of the variance of the spectral embedding that k-means leaves within its clusters."""
    points = direction.vectors[:, : size - 1] * np.sqrt(np.maximum(direction.values[: size - 1], 0.0))
    total = float(((points - points.mean(axis=0)) ** 2).sum())
    return best_kmeans(points, size, seed, n_init=4)[1] / total if total > 0 else 1.0


def _gain(profile: Profile, search: Search, size: int, seed: np.random.SeedSequence) -> float:
    copy = Search(profile, size, n_init=search.n_init, seed=seed)
    return copy.fits(size)[0].bound - copy.one.bound
