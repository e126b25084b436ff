"""Is there anything at all? The gain over one community, against weights shuffled within each neuron."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Verdict", "judge", "shuffled_within_rows"]

# Three shuffles settle clear cases; a gain less than twice theirs is compared with nineteen (p = 0.05).
_FEW, _MANY, _CLEAR = 3, 19, 2.0


@dataclass(frozen=True)
class Verdict:
    """What the shuffles say.

    Parameters
    ----------
    accepted : bool
    null_gain : float
        Largest gain among the shuffles, in nats.
    n_shuffles : int
    """

    accepted: bool
    null_gain: float
    n_shuffles: int


def judge(gain: float, null_gain: Callable[[int, bool], float]) -> Verdict:
    """Accept more than one community only if the gain over one beats that of every shuffle.

    Parameters
    ----------
    gain : float
        Criterion of the best number of communities minus that of one.
    null_gain : callable
        `null_gain(k, thorough)`: the same for the k-th shuffle, searched quickly or as thoroughly as the table itself.

    Examples
    --------
    >>> judge(10.0, lambda k, thorough: 1.0)
    Verdict(accepted=True, null_gain=1.0, n_shuffles=3)
    >>> judge(1.5, lambda k, thorough: 1.0 + (k == 9)).accepted
    False
    """
    worst = max(null_gain(k, False) for k in range(_FEW))
    if gain <= worst or gain > _CLEAR * max(worst, 0.0):
        return Verdict(gain > worst, worst, _FEW)
    for k in range(_MANY):
        worst = max(worst, null_gain(k, True))
        if gain <= worst:
            return Verdict(False, worst, k + 1)
    return Verdict(True, worst, _MANY)


def shuffled_within_rows(
    values: NDArray[np.bool_],
    observed: NDArray[np.bool_] | None,
    sides: Sequence[Sequence[slice]],
    generator: np.random.Generator,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_] | None]:
    """Permute each neuron's connections within each side, signs and missing entries moving with their connection.

    Keeps every neuron's degrees and destroys what its connections have in common with others'.

    Parameters
    ----------
    values, observed : ndarray of bool, shape (n_rows, n_features); `observed` may be None
    sides : sequence of sequences of slices
        For each side the columns of each sign, equally wide.
    generator : numpy.random.Generator
    """
    new_values = values.copy()
    new_observed = None if observed is None else observed.copy()
    for signs in sides:
        code = np.zeros((len(values), signs[0].stop - signs[0].start), dtype=np.uint8)
        for bit, columns in enumerate(signs):
            code |= values[:, columns].astype(np.uint8) << (2 * bit)
            if observed is not None:
                code |= observed[:, columns].astype(np.uint8) << (2 * bit + 1)
        generator.permuted(code, axis=1, out=code)
        for bit, columns in enumerate(signs):
            new_values[:, columns] = code >> (2 * bit) & 1
            if new_observed is not None:
                new_observed[:, columns] = code >> (2 * bit + 1) & 1
    return new_values, new_observed
