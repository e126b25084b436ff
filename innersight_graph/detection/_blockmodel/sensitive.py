"""The sensitive test: whether the strongest direction is beyond copies of the null, and in how many dimensions.

The bound asks whether communities pay for their labels; a leading eigenvalue only has to stand out from the null's. It
finds structure the bound must refuse, and cannot say as much about it: the answer is returned as weak evidence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from innersight_graph.detection._blockmodel.expectation import Floats
from innersight_graph.detection._blockmodel.profile import Profile
from innersight_graph.detection._blockmodel.start import leading_values

_LOOK = 39
_FUTILE = 0.3
# Once structure is established, a further direction counts at this level; at 5 % a true fourth group is mostly missed.
_FURTHER = 0.2


@dataclass(frozen=True)
class NullTest:
    """Rank p-value of the strongest direction, the number of directions beyond the null, and what was drawn."""

    p_value: float
    n_significant: int
    direction: str
    replicates: int


def null_test(profile: Profile, *, replicates: int, largest: int, rng: np.random.Generator) -> NullTest:
    """Compare the leading eigenvalue of every direction with copies drawn from the null.

    Parameters
    ----------
    profile
        The layer.
    replicates
        Null copies; the smallest p-value is 1 / (replicates + 1).
    largest
        Most dimensions to count (parallel analysis).
    rng
        Source of the null copies.

    Notes
    -----
    Every direction is standardised by mean and standard deviation over the observed graph *and* the copies, and the
    maximum over directions is ranked among all of them: observed and copies are treated alike, so that the rank is
    exact if they are exchangeable. When the first 39 copies leave no prospect (p > 0.3) no more are drawn; stopping
    only without significance cannot raise the rate of false alarms.
    """
    observed = leading_values(profile.pairs, largest)
    names = list(observed)
    tops = [[float(observed[name][0]) for name in names]]
    for _ in range(replicates):
        copy = leading_values(profile.draw(rng), 1)
        tops.append([float(copy[name][0]) for name in names])
        if len(tops) == _LOOK + 1 and _rank(np.array(tops))[0] > _FUTILE:
            break
    values = np.array(tops)
    p, strongest = _rank(values)
    name = names[strongest]
    threshold = float(np.quantile(values[1:, strongest], 1 - _FURTHER))
    beyond = observed[name] > threshold
    n_significant = int(beyond.size if beyond.all() else np.argmin(beyond))
    return NullTest(p, max(n_significant, 1), name, len(tops) - 1)


def _rank(values: Floats) -> tuple[float, int]:
    """P-value of row 0 among all rows by the largest standardised entry, and the column where row 0 is largest."""
    z = (values - values.mean(axis=0)) / np.maximum(values.std(axis=0), 1e-12)
    largest = z.max(axis=1)
    return float(np.mean(largest >= largest[0])), int(np.argmax(z[0]))
