"""How a layer's weights are read: as signs, as levels of size, or as normal scores; which of them suits the weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from innersight_graph.detection._blockmodel.expectation import Floats
from innersight_graph.detection._blockmodel.profile import (
    LARGE,
    Profile,
    equalised,
    graded_profile,
    scored_profile,
    sign_codes,
    signed_profile,
)

_DENSE = 0.9
_HEAVY = 4.0  # of the kurtosis; layers have thousands of weights, which give it within a tenth or two
_ABOUT = 1e-4  # of equal rows and columns; enough for a kurtosis


@dataclass(frozen=True)
class Reading:
    """How weights become blocks."""

    weights: str
    keep: float
    levels: int
    degree: str

    def of(self, matrices: list[Any]) -> tuple[str, Profile]:
        """Return the reading that was used and the profile."""
        reading = _automatic(matrices) if self.weights == "auto" else self.weights
        if reading == "signed":
            return reading, signed_profile([self._signs(W) for W in matrices], degree=self.degree)
        dense = [_dense(W) for W in matrices]
        if reading == "scores":
            return reading, scored_profile(dense, degree=self.degree)
        graded = graded_profile(dense, n_levels=self.levels)
        if min(map(_filled, dense)) > _DENSE:
            return reading, graded
        # Permuting a sparse matrix would break its degrees: starts and null come from the signs, the sizes enter the
        # fit.
        signs = signed_profile([sign_codes(W) for W in dense], degree=self.degree)
        return reading, Profile(graded.blocks, signs.pairs, signs.degrees, signs.draw, signs.rows)

    def _signs(self, W: Any) -> NDArray[np.int8]:
        if _one_size(W):
            return _sparse_codes(W) if hasattr(W, "tocsr") else sign_codes(W)
        full = _dense(W)
        size = equalised(full)
        share = min(self.keep, _effective_share(size)) if _filled(full) > _DENSE else self.keep
        return sign_codes(np.where(size >= np.quantile(size, 1 - share), full, 0.0))


def _automatic(matrices: list[Any]) -> str:
    """Choose the reading: signs where some connections are much larger than most, for scores would drown them."""
    if max(W.shape[0] * W.shape[1] for W in matrices) > LARGE or all(_one_size(W) for W in matrices):
        return "signed"
    dense = [_dense(W) for W in matrices]
    if np.mean([kurtosis(equalised(W, tol=_ABOUT)) for W in dense]) > _HEAVY:
        return "signed"
    return "scores" if min(map(_filled, dense)) > _DENSE else "levels"


def _filled(W: Floats) -> float:
    return np.count_nonzero(W) / W.size


def kurtosis(size: Floats) -> float:
    """Fourth moment over the squared second: 3 for normal weights, and what random rotations turn any weights into."""
    return float((size**4).mean()) / max(float((size**2).mean()) ** 2, 1e-300)


def _effective_share(size: Floats) -> float:
    """Participation ratio (Σ|w|)² / (n Σ w²): the share of connections if all that count were of one size."""
    return float(size.mean()) ** 2 / max(float((size**2).mean()), 1e-300)


def _one_size(W: Any) -> bool:
    size = np.abs(_values(W))
    return bool(size.size == 0 or np.ptp(size) <= 1e-6 * size.max())


def _values(W: Any) -> Floats:
    values: Floats = W.data[W.data != 0] if hasattr(W, "tocsr") else W[W != 0]
    return values


def _dense(W: Any) -> Floats:
    return np.asarray(W.toarray() if hasattr(W, "toarray") else W, dtype=float)


def _sparse_codes(W: Any) -> NDArray[np.int8]:
    coded = W.copy().astype(np.int8)
    coded.data = np.where(W.data > 0, 1, np.where(W.data < 0, 2, 0)).astype(np.int8)
    codes: NDArray[np.int8] = coded.toarray()
    return codes
