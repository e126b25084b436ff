"""The sensitive test: whether the strongest direction is beyond copies of the null, and in how many dimensions.

The bound asks whether communities pay for their labels; a leading eigenvalue only has to stand out from the null's. It
finds structure the bound must refuse, and cannot say as much about it: the answer is returned as weak evidence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from innersight_graph.detection._blockmodel.expectation import Floats
from innersight_graph.detection._blockmodel.profile import Profile
from innersight_graph.detection._blockmodel.start import Direction, leading_values

_LOOK = 20
_EARLY = 39
# Once structure is established, a further direction counts at this level; at 5 % a true fourth group is mostly
# missed, at 20 % still in five of sixteen graphs at λ = 1.75.
_FURTHER = 0.35


@dataclass(frozen=True)
class NullTest:
    """Rank p-value of the strongest direction, the number of directions beyond the null, and what was drawn."""

    p_value: float
    significant: bool
    n_significant: int
    direction: str
    replicates: int


def null_test(
    profile: Profile,
    spectrum: list[Direction],
    *,
    replicates: int,
    alpha: float,
    largest: int,
    rng: np.random.Generator,
) -> NullTest:
    """Compare the leading eigenvalue of every direction with copies drawn from the null.

    Parameters
    ----------
    profile, spectrum
        The layer, and the leading eigenvalues of its directions.
    replicates
        Most null copies; the smallest p-value is 1 / (replicates + 1).
    alpha
        Probability of a false alarm.
    largest
        Most dimensions to count (parallel analysis).
    rng
        Source of the null copies.

    Notes
    -----
    Every direction is standardised by mean and standard deviation over the observed graph *and* the copies, and the
    maximum over directions is ranked among all of them: observed and copies are treated alike, so that the rank is
    exact if they are exchangeable.

    Drawing ends early in two ways. With so many copies beyond the graph that the level is out of reach: stopping only
    without significance cannot raise the rate of false alarms. And at 39 copies of which none is beyond the graph: the
    level of the last look is lowered by what that adds, ∫(1 − u)³⁹ du from the level up.
    """
    tops = [list(leading_values(profile.pairs, rng).values())]
    names = [d.name for d in spectrum]
    early = replicates > _EARLY and alpha >= 1 / (_EARLY + 1)
    level = _last_level(alpha) if early else alpha
    hopeless = int(level * (replicates + 1) + 1e-9)
    significant = False
    for drawn in range(1, replicates + 1):
        tops.append(list(leading_values(profile.draw(rng), rng).values()))
        if drawn == replicates or drawn % _LOOK == 0 or (early and drawn == _EARLY):
            p, strongest = _rank(np.array(tops))
            beyond = round(p * (drawn + 1)) - 1
            if early and drawn == _EARLY and beyond == 0:
                significant = True
                break
            if beyond >= hopeless:
                break
            significant = drawn == replicates and p <= level
    name = names[strongest]
    threshold = float(np.quantile(np.array(tops)[1:, strongest], 1 - _FURTHER))
    values = next(d.values for d in spectrum if d.name == name)[:largest]
    further = values > threshold
    n_significant = int(further.size if further.all() else np.argmin(further))
    return NullTest(p, significant, max(n_significant, 1), name, len(tops) - 1)


def _last_level(alpha: float) -> float:
    """Solve level + (1 − level)^40 / 40 = alpha: what is left for the last look after the one at 39 copies."""
    level = alpha
    for _ in range(50):
        level = alpha - (1 - level) ** (_EARLY + 1) / (_EARLY + 1)
    return max(level, 0.0)


def _rank(values: Floats) -> tuple[float, int]:
    """P-value of row 0 among all rows by the largest standardised entry, and the column where row 0 is largest."""
    z = (values - values.mean(axis=0)) / np.maximum(values.std(axis=0), 1e-12)
    largest = z.max(axis=1)
    return float(np.mean(largest >= largest[0])), int(np.argmax(z[0]))
